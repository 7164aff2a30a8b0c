"""Computes vectors of block quantisers: blocks, and the codes and scales of mpsim's definition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mpsim import checks
from mpsim.blocks.quantizers.stages import Quantizer
from mpsim.blocks.quantizers.text import text_of
from mpsim.blocks.running import Given
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.formats import as_format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.validate.blocks.chances import deciding_words
from mpsim.validate.blocks.corpus import PER_TENSOR, quantizer_of, trial_of
from mpsim.validate.blocks.expected import Trial
from mpsim.validate.blocks.lines import CODES, INPUT, POINTS, SCALES, WORDS
from mpsim.vectors.forms import Table
from mpsim.vectors.tables import MOST_SIZE


def block_tables(
    formats: Sequence[str],
    *,
    tensor_scale: float | None = None,
    statistic: float | None = None,
    size: int = 200,
    seed: int = 0,
) -> Iterable[Table]:
    """Yields a table for every quantiser, or for every tensor where the second scale follows from the input.

    The columns are the float32 patterns of a block (or of a row of blocks), the codes of its elements, the code of its
    scale, that of its zero point if it has one, and a word of random bits for each element of a quantiser that rounds
    at random. ``mpsim validate blocks`` reads these tables.

    Args:
        formats: Block formats (by rule floor), presets, or descriptions.
        tensor_scale: The second scale, or the largest magnitude that a multiplier follows from. The default is that
            of a table's blocks.
        statistic: The largest magnitude, for quantisers that are given it.
        size: The largest number of blocks.
        seed: The seed of random elements and random words.

    Raises:
        UsageError: A name is unknown, or an argument is out of range or missing.

    >>> [table.size for table in block_tables(["mxfp4"], size=50)]
    [50]
    """
    checks.whole("size", size, least=1, most=MOST_SIZE)
    checks.seed("seed", seed)
    for name, value in (("tensor_scale", tensor_scale), ("statistic", statistic)):
        if value is not None:
            checks.real(name, value, above=0, most=checks.FLOAT32_LARGEST)
    quantizers = [quantizer_of(format) for format in formats]
    if tensor_scale is not None and all(each.second is None for each in quantizers):
        raise UsageError(f"none of the quantisers has a second scale, got {tensor_scale}", "tensor_scale")
    if statistic is not None and all(each.statistic.source == "input" for each in quantizers):
        raise UsageError(f"none of the quantisers is given its statistic, got {statistic}", "statistic")
    for number, (format, quantizer) in enumerate(zip(formats, quantizers, strict=True)):
        called = format if "(" not in format else f"description_{number}"
        given = _given(quantizer, tensor_scale, statistic)
        own = quantizer.second is not None and given.tensor_scale is None
        trial = trial_of(quantizer, given, own, seed, DEFAULT_BACKEND)
        if not own:
            yield _table(called, quantizer, _some(trial, size), seed)
            continue
        for index, rows in enumerate(trial.calls[: max(size // PER_TENSOR, 1)]):
            tensor = replace(trial, blocks=trial.blocks[rows], calls=(slice(0, rows.stop - rows.start),))
            yield _table(f"{called}_tensor{index}", quantizer, tensor, seed)


def _given(quantizer: Quantizer, tensor_scale: float | None, statistic: float | None) -> Given:
    """What the quantiser is given, of what the caller passes."""
    if quantizer.statistic.source == "given" and statistic is None:
        raise UsageError("statistic is given: pass statistic, the largest magnitude", "statistic")
    if quantizer.second is not None and quantizer.second.source == "given" and tensor_scale is None:
        raise UsageError("the second scale is given: pass tensor_scale", "tensor_scale")
    return Given(
        statistic if quantizer.statistic.source == "given" else None,
        None if quantizer.second is None else tensor_scale,
    )


def _some(trial: Trial, size: int) -> Trial:
    """Returns a trial of at most ``size`` of its blocks."""
    count = len(trial.blocks)
    return trial.some(np.arange(count) if count <= size else np.arange(size) * count // size)


def _table(name: str, quantizer: Quantizer, trial: Trial, seed: int) -> Table:
    is_random = quantizer.element.policy.mode.needs_random_bits
    if is_random:
        trial = replace(trial, words=deciding_words(trial, quantizer, seed))
    found = trial.expected(quantizer, values=False)
    bits = quantizer.element.bits
    lines = len(trial.blocks) // trial.across
    columns = {
        INPUT: (trial.blocks.view(np.uint32), 32),
        CODES: (_codes(found.codes, bits), bits),
        SCALES: (_codes(found.scales, 32), as_format(quantizer.scale.format).bits),
    }
    if found.points is not None:
        columns[POINTS] = (_codes(found.points, bits), bits)
    if trial.words is not None:
        columns[WORDS] = (trial.words, 32)
    columns = {
        name: (np.ascontiguousarray(array).reshape(lines, -1), width) for name, (array, width) in columns.items()
    }
    about: Record = {
        "format": name, "quantizer": text_of(quantizer), "scale_format": as_format(quantizer.scale.format).name,
        "tensor_scale": _plain(trial.given.tensor_scale), "statistic": _plain(trial.given.statistic),
        "columns": {name: array.shape[1] for name, (array, _) in columns.items()},
    }  # fmt: skip
    return Table(f"blocks_{name}", about, columns)


def _codes(numbers: Array, bits: int) -> Array:
    """Returns integers in two's complement."""
    return (numbers.astype(np.int64) & (1 << bits) - 1).astype(np.uint32)


def _plain(number: object) -> float | None:
    return float(number) if isinstance(number, float) else None
