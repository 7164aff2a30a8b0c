"""Ops, kernels, backends, networks, datasets, schemes and presets from outside mpsim's tree (docs/extending.md).

Each function takes a declaration, checks it, and puts it beside mpsim's own under its name; a name that is taken is
refused. It returns what it was given. What holds for one process: a package makes backends, networks and datasets known
to every process by entry points (``mpsim.plugins``).

>>> from mpsim import nn
>>> def one_layer(classes=10, input_shape=(1, 8, 8)):
...     made = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
...     made.input_shape = input_shape
...     return made
>>> network("one_layer", one_layer) is one_layer and "one_layer" in networks.known()
True
>>> _ = networks.FURTHER.pop("one_layer")
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Container, MutableMapping
from keyword import iskeyword
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar, get_type_hints

from mpsim import checks, kernels, networks
from mpsim.assignment import SCHEMES, Scheme
from mpsim.data import DATASETS, Source
from mpsim.engine.primitive import Primitive
from mpsim.errors import UsageError
from mpsim.ops import PRIMITIVES
from mpsim.validate.cast.presets import PRESETS, Preset

Entry = TypeVar("Entry")


def op(primitive: Primitive) -> Primitive:
    """A kind of op. On its samples its derivative is checked against difference quotients, and its arrays against what
    it says of them (``mpsim.testing.promises``).

    Raises UsageError for a kind that is taken, one without a sample, and one that fails or is wrong on a sample.

    >>> from mpsim.ops import RELU
    >>> op(RELU)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is an op 'ReLU' already
    """
    from mpsim.testing.gradients import check_primitive
    from mpsim.testing.promises import check_promises

    checks.instance("primitive", primitive, Primitive, "an mpsim.engine.primitive.Primitive")
    _free("an op", primitive.kind, PRIMITIVES)
    if not primitive.samples:
        raise UsageError(f"op {primitive.kind!r} has no samples, on which its derivative would be checked")
    for sample in primitive.samples:
        try:
            check_promises(primitive, sample)
            check_primitive(primitive, sample)
        except AssertionError as error:
            raise UsageError(f"op {primitive.kind!r}: {error}") from error
        except Exception as error:
            raise UsageError(f"op {primitive.kind!r} fails on {sample}: {error} ({type(error).__name__})") from error
    return _put(PRIMITIVES, primitive.kind, primitive)


def kernel(name: str, *, host: Callable[..., Any] | None = None, cuda: Callable[..., Any] | None = None) -> None:
    """A function of backend arrays, which ops reach as ``kernels.name``: ``host`` for the backends on NumPy arrays,
    ``cuda`` for device arrays. It is called with what the op gives it. An op that has no need of speed may go without:
    ``kernels.to_numpy`` and ``kernels.from_numpy`` bring arrays to NumPy and back.

    Raises UsageError for a name that the kernels have already or that cannot stand after a dot, or no function.

    >>> kernel("relu", host=abs)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a kernel 'relu' already
    """
    _free("a kernel", name, {*kernels.CONTRACT, *get_type_hints(kernels.Kernels), *kernels.FURTHER})
    if not name.isidentifier() or iskeyword(name):
        raise UsageError(f"ops reach a kernel as kernels.NAME, so its name is a Python name; got {name!r}")
    functions = {kind: function for kind, function in (("host", host), ("cuda", cuda)) if function is not None}
    if not functions or not all(map(callable, functions.values())):
        raise UsageError(f"kernel {name!r} needs a function: host=, cuda=, or both")
    _put(kernels.FURTHER, name, functions)


def backend(name: str, module: ModuleType | str, summary: str = "") -> ModuleType:
    """A backend: a module, or the name of one, with every function of ``mpsim.kernels.Kernels``.

    Raises UsageError for a name that is taken or contains a colon, BackendUnavailable for a module that lacks a
    function or has one of other arguments, UsageTypeError for no module, ImportError for one that cannot be imported.

    >>> import math
    >>> backend("mine", math)
    Traceback (most recent call last):
    ...
    mpsim.kernels.errors.BackendUnavailable: math is no backend: there is no function from_numpy; ...
    """
    _free("a backend", name, kernels.BACKENDS)
    if ":" in name:
        raise UsageError(f"the name of a backend has no colon, which stands before a device's number; got {name!r}")
    found = importlib.import_module(module) if isinstance(module, str) else module
    kernels.check_signatures(checks.instance("module", found, ModuleType, "a module or the name of one"))
    _put(kernels.BACKENDS, name, (found, summary))
    return found


def network(name: str, build: Callable[..., Any]) -> Callable[..., Any]:
    """A network: a function (or class) as that of a FILE.py:FUNCTION (``mpsim.networks.build``), which takes those it
    wants of width, classes, seed and input_shape. Stored runs are found again by the content of the file that defines
    it: one made by ``functools.partial`` has none of its own.

    Raises UsageError for a name that is taken, and what is no function.

    >>> network("small_cnn", dict)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a network 'small_cnn' already
    """
    _free("a network", name, networks.known())
    if Path(name).suffix == ".py" or ":" in name:
        raise UsageError(f"a network has a plain name, without a colon or the ending of a file; got {name!r}")
    return _put(networks.FURTHER, name, networks.checked_function(name, build))


def dataset(source: Source) -> Source:
    """A dataset of two splits, "train" and "test". Raises UsageError for a name that is taken.

    >>> from mpsim.data import DATASETS
    >>> dataset(DATASETS["digits"])
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a dataset 'digits' already
    """
    return _row("dataset", source, Source, DATASETS)


def scheme(row: Scheme) -> Scheme:
    """A precision assignment. Raises UsageError for a name that is taken.

    >>> from mpsim.assignment import SCHEMES
    >>> scheme(SCHEMES["random"])
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a scheme 'random' already
    """
    return _row("scheme", row, Scheme, SCHEMES)


def preset(row: Preset) -> Preset:
    """A known system's cast, for ``mpsim validate cast``. Raises UsageError for a name that is taken.

    >>> from mpsim.validate import PRESETS
    >>> preset(PRESETS["numpy"])
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a preset 'numpy' already
    """
    return _row("preset", row, Preset, PRESETS)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


def _row(what: str, row: Row, kind: type[Row], rows: MutableMapping[str, Row]) -> Row:
    """The row, after it was put among the others of its kind under its own name."""
    checks.instance(what, row, kind, f"an {kind.__module__}.{kind.__name__}")
    _free(f"a {what}", row.name, rows)
    return _put(rows, row.name, row)


def _free(what: str, name: object, known: Container[object]) -> None:
    checks.instance("name", name, str, "a name")
    if not name or name in known:
        raise UsageError(f"there is {what} {name!r} already" if name else "a name has at least one letter")


def _put(entries: MutableMapping[str, Any], name: str, entry: Entry) -> Entry:
    entries[name] = entry
    return entry
