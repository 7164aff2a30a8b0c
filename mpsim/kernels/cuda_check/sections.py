"""Compares every kernel, and training steps, with a CPU backend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from mpsim.kernels import load
from mpsim.kernels.contract import Array
from mpsim.kernels.cuda_check import cases
from mpsim.kernels.cuda_check.cases import Case
from mpsim.kernels.cuda_check.table import THREADS, Extent, Row


def check_kernels(extent: Extent, end: float) -> Iterator[Row]:
    """Compares every kernel of the contract with the peer."""
    for name, found in cases.cases(extent.quick).items():
        row = Row("kernels", name)
        for case in found:
            row.measure(0, partial(compare, name, case, extent, row), "")
        yield row


def check_digests(extent: Extent, end: float) -> Iterator[Row]:
    """Compares three steps of every reference network, plan and semantics with the committed digests."""
    from reference_models import golden

    for model in () if extent.quick else golden.WIDTHS:
        row = Row("three steps", model)
        wanted = json.loads((Path(golden.FOLDER) / f"{model}.json").read_text())["runs"]
        for case, run in zip(golden.cases(model), wanted, strict=True):
            what = f"{case.plan} {case.semantics}"
            row.measure(1, partial(_differs, golden.compute, case, extent.backend, run), what)
        yield row


def _differs(compute: Callable[..., object], case: object, backend: str, wanted: object) -> int:
    return int(compute(case, backend) != wanted)


def compare(name: str, case: Case, extent: Extent, row: Row) -> int:
    """Counts the numbers that differ between ``extent.backend`` and ``extent.peer``, and adds to ``row.compared``.

    All NaNs are equal. Arrays that a kernel changes in place are results, too.
    """
    cuda, (arguments, options) = load(extent.backend), case
    device = [_moved(x, cuda.from_numpy) for x in arguments]
    result = _arrays((getattr(cuda, name)(*device, **options), device), cuda)
    own = [_moved(x, np.copy) for x in arguments]
    wanted = _arrays((getattr(load(extent.peer), name)(*own, threads=THREADS, **options), own), cuda)
    row.compared += sum(x.size for x in wanted)
    if [x.shape for x in result] != [x.shape for x in wanted]:
        return sum(x.size for x in wanted)
    return sum(different(x, y) for x, y in zip(result, wanted, strict=True))


def different(x: Array, y: Array) -> int:
    """Counts the elements of arrays of equal shapes that differ in any bit, unless both are NaN."""
    if x.dtype != y.dtype:
        return x.size
    unlike = np.ascontiguousarray(x).reshape(-1).view(f"u{x.itemsize}") != np.ascontiguousarray(y).reshape(-1).view(
        f"u{y.itemsize}"
    )
    if x.dtype.kind == "f":
        unlike &= ~(np.isnan(x.reshape(-1)) & np.isnan(y.reshape(-1)))
    return int(np.count_nonzero(unlike))


def _moved(x: object, move: Callable[[Array], object]) -> object:
    if isinstance(x, np.ndarray):
        return move(x)
    return [_moved(part, move) for part in x] if isinstance(x, list) else x


def _arrays(x: object, cuda: ModuleType) -> list[Array]:
    """Returns all arrays and numbers in a nested result, on the host."""
    if isinstance(x, np.ndarray) or cuda.is_on_device(x):
        return [cuda.to_numpy(x)]
    if isinstance(x, tuple | list):
        return [array for part in x for array in _arrays(part, cuda)]
    return [np.array(x)] if isinstance(x, float | bool) else []
