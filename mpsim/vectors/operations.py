"""Computes vectors of operations on codes: operands, results of mpsim's definition, and the flags of IEEE formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mpsim import checks
from mpsim.arithmetic import ARITHMETIC, exceptions, operate
from mpsim.arithmetic.flags import TININESS, is_ieee
from mpsim.arithmetic.operations import formats_of_operands
from mpsim.errors import UsageError
from mpsim.formats import Format, as_format
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.operations.corpus import ALL, edges
from mpsim.vectors.forms import Table
from mpsim.vectors.tables import MOST_SIZE, words64

#: The columns of operands.
NAMES = ("a", "b", "c", "d", "e", "f")


def op_tables(
    operations: Sequence[str],
    formats: str | Format | Sequence[str | Format],
    result: str | Format | None = None,
    modes: Sequence[str] = ("nearest_even",),
    overflows: Sequence[str] = ("infinity",),
    *,
    size: int = 1000,
    seed: int = 0,
    random_bit_count: int = 16,
    tininess: str = "after",
) -> Iterable[Table]:
    """Yields a table for every operation, mode and overflow policy.

    The columns are the codes of the operands (a, b, …), a word of random bits for stochastic modes, the code of the
    result, and the flags of IEEE 754's exceptions where the formats have these. Combinations whose result has no code
    are omitted.

    Args:
        operations: Names of ``mpsim.arithmetic.ARITHMETIC``.
        formats: The format of all operands, or one for each; result: None for the first operand's.
        modes, overflows: Rounding modes and overflow policies.
        size: The largest number of combinations. With 0 it is all, at most 65,536.
        seed: The seed of random operands and random bits.
        random_bit_count: How many low bits of a word stochastic modes use.
        tininess: When IEEE formats find a result to be tiny, "after" or "before" rounding.

    Raises:
        UsageError: An argument is out of range, a name is unknown, or there are more combinations than 65,536.
    """
    checks.whole("size", size, most=MOST_SIZE)
    checks.seed("seed", seed)
    checks.named("tininess", tininess, TININESS)
    for name in operations:
        checks.named("operation", name, list(ARITHMETIC))
        of_operands = formats_of_operands(name, ARITHMETIC[name][0], formats)
        target = of_operands[0] if result is None else as_format(result)
        codes = operand_codes(of_operands, size, seed)
        for mode in map(Mode, (checks.named("rounding mode", each, list(Mode)) for each in modes)):
            for overflow in (Overflow(checks.named("overflow policy", each, list(Overflow))) for each in overflows):
                policy = Policy(mode, overflow, random_bit_count if mode.takes_bit_count else None)
                yield _table(name, codes, of_operands, target, policy, seed, tininess)


def _table(
    name: str,
    codes: Sequence[Array],
    formats: Sequence[Format],
    result: Format,
    policy: Policy,
    seed: int,
    tininess: str,
) -> Table:
    words = random_bits(Stream(seed, "rounding"), codes[0].size) if policy.mode.needs_random_bits else None
    kept = np.ones(codes[0].size, bool)
    if not result.has_nan:
        kept = ~np.isnan(operate(name, *codes, formats=formats, result="float32").view(np.float32))
    operands = [array[kept] for array in codes]
    expected = operate(
        name, *operands, formats=formats, result=result, mode=policy.mode, overflow=policy.overflow,
        random_bits=None if words is None else words[kept], random_bit_count=policy.random_bit_count,
    )  # fmt: skip
    columns = {NAMES[i]: (array, each.bits) for i, (array, each) in enumerate(zip(operands, formats, strict=True))}
    if words is not None:
        columns["word"] = (words[kept], 32)
    columns["expected"] = (expected, result.bits)
    has_flags = words is None and all(map(is_ieee, (*formats, result)))
    if has_flags:
        flags = exceptions(
            name, *operands, formats=formats, result=result, mode=policy.mode, overflow=policy.overflow,
            tininess=tininess,
        )  # fmt: skip
        columns["flags"] = (flags, 8)
    about = {
        "operation": name, "formats": [each.name for each in formats], "result": result.name,
        "mode": policy.mode.value, "overflow": policy.overflow.value, "random_bit_count": policy.random_bit_count,
        "tininess": tininess if has_flags else None, "left_out": int((~kept).sum()),
    }  # fmt: skip
    of = "_".join(dict.fromkeys(each.name for each in formats))
    return Table(f"{name}_{of}_to_{result.name}_{policy.mode.value}_{policy.overflow.value}", about, columns)


def operand_codes(formats: Sequence[Format], size: int, seed: int) -> list[Array]:
    """The codes of each operand: all combinations if there are at most ``size``, else edges and random codes.

    >>> from mpsim.formats import FORMATS
    >>> [codes.size for codes in operand_codes([FORMATS["p3109_k8p3"]] * 2, 0, 0)]
    [65536, 65536]
    """
    total = 1 << sum(format.bits for format in formats)
    if size <= 0 and total > ALL:
        raise UsageError(f"size=0 asks for all {total:,} combinations; it is for at most {ALL:,}", "size")
    if size <= 0 or total <= size:
        axes = np.meshgrid(*(np.arange(1 << format.bits, dtype=np.uint64) for format in formats), indexing="ij")
        return _typed([axis.reshape(-1) for axis in axes], formats)
    some = [edges(format) for format in formats]
    crossed = _crossed(some, size // 2, seed)
    random = [
        words64(size - crossed[0].size, seed, 8 + i) >> np.uint64(64 - each.bits) for i, each in enumerate(formats)
    ]
    return _typed([np.concatenate(pair) for pair in zip(crossed, random, strict=True)], formats)


def _crossed(some: Sequence[Array], most: int, seed: int) -> list[Array]:
    """Combinations of edges: all, or ``most`` of them."""
    total = int(np.prod([float(each.size) for each in some]))
    places = np.arange(total) if total <= most else (words64(most, seed, 7) % np.uint64(total)).astype(np.int64)
    return [each[index] for each, index in zip(some, np.unravel_index(places, [e.size for e in some]), strict=True)]


def _typed(arrays: Sequence[Array], formats: Sequence[Format]) -> list[Array]:
    return [array.astype(f"uint{format.code_bits}") for array, format in zip(arrays, formats, strict=True)]
