"""A product described in one sentence."""

from __future__ import annotations

from mpsim.formats import as_format
from mpsim.process import in_default_environment
from mpsim.products.stages import (
    FLOAT32,
    AddC,
    Aligned,
    AlignedLate,
    AlignedScaled,
    Bias,
    Blocks,
    ByColumn,
    Carried,
    Descending,
    Exact,
    Folding,
    Groups,
    Halving,
    Kahan,
    Operand,
    Order,
    Pairwise,
    Partition,
    Product,
    Reordered,
    Rising,
    Scale,
    Scaled,
    Splits,
    Stage,
    Sums,
    Tail,
    Tree,
    Trees,
    UpTo,
    Whole,
)


@in_default_environment
def sentence_of(product: Product) -> str:
    """What the product computes, in one sentence.

    >>> from mpsim.products.text import product_of
    >>> sentence_of(product_of("product(order=pairwise(), output=bfloat16)"))
    'Exact products are added in pairs of neighbours (float32); the result is rounded to bfloat16.'
    """
    kind = "Exact products" if product.products is None else f"Products rounded to {_rounding(product.products)}"
    words = [f"{kind} are added {order_words(product.order)}"]
    words += _operand_words("left", product.left) + _operand_words("right", product.right)
    if product.parts is not None:
        pairs = ", ".join(f"{left} and {right}" for left, right in product.parts.pairs)
        words.append(f"the terms are products of the parts {pairs}, {_turn_words(product.parts.within)}")
    if product.start == "c":
        words.append("C, where one is given, takes the place of the first +0 that a sum begins with")
    if product.epilogue != (Bias(),):
        words += map(_stage_words, product.epilogue)
    if product.output != FLOAT32:
        words.append(f"the result is rounded to {_rounding(product.output)}")
    return "; ".join(words) + "."


def _operand_words(side: str, operand: Operand) -> list[str]:
    words = []
    if operand.rounds:
        ties = "even" if operand.conversion == "nearest_even" else "away from zero"
        words.append(f"the {side} operand is rounded to {operand.format}, ties {'to ' * (ties == 'even')}{ties}")
    elif operand.conversion == "truncate" and as_format(operand.format).mantissa_bits < 23:
        words.append(f"the significand of the {side} operand is truncated to that of {operand.format}")
    where = f" in products of more than {operand.above} terms" if operand.above else ""
    if operand.parts > 1:
        words.append(f"the {side} operand has {operand.parts} parts, each of what the ones before leave")
    if operand.flush:
        words.append(f"subnormal {operand.format} numbers of the {side} operand are read as zeros")
    return [each + where for each in words]


def _turn_words(within: Partition) -> str:
    if within == Whole():
        return "all k of one pair before the next"
    return f"in {_partition_words(within)}, there all k of one pair before the next"


def _stage_words(stage: Stage) -> str:
    match stage:
        case Bias(sums):
            return f"the bias is added ({_rounding(sums)})"
        case AddC(sums, products, format, skips):
            c = "C" if format == "float32" else f"C, rounded to {format},"
            how = "exactly" if products is None else f"rounded to {_rounding(products)}"
            where = ", but not where beta is 0" if skips else ""
            return f"beta times {c} is multiplied {how} and added ({_rounding(sums)}){where}"
        case _:
            return f"the total is multiplied by {_factor_words(stage)}"


def _factor_words(scale: Scale) -> str:
    factor = {
        "both": "the product of both scales, rounded to float32,",
        "left": "the scale of the left operand",
        "right": "the scale of the right operand",
        "alpha": "alpha",
    }[scale.of]
    return f"{factor} {'exactly' if scale.sums is None else f'({_rounding(scale.sums)})'}"


def _rounding(sums: Sums) -> str:
    words = [sums.format] if sums.via is None else [f"{sums.via}, then {sums.format}"]
    if sums.is_stochastic:
        words.append(f"stochastic with {sums.random_bits} bits")
    elif sums.rounding == "nearest_away":
        words.append("ties away from zero")
    elif sums.rounding != "nearest_even":
        words.append(sums.rounding.replace("_", " "))
    if sums.saturate:
        words.append("saturating")
    if sums.flush:
        words.append("subnormal results become zeros")
    return ", ".join(words)


def _folding_words(order: Folding) -> str:
    of = f" of {order.lanes} lanes" if order.lanes > 1 else ""
    padded = " with zeros up to a power of two" if order.padded else ""
    return f"by folding in halves{of}{padded} ({_rounding(order.sums)})"


def order_words(order: Order) -> str:
    """How terms are added, as it goes on after "are added"."""
    match order:
        case Rising(sums, start, together):
            first = "+0" if start == "zero" else "the first"
            many = f", {together} at a time added exactly and rounded once," if together > 1 else ""
            return f"in rising order{many} from {first} ({_rounding(sums)})"
        case Kahan(sums):
            return f"in rising order from +0 by compensated (Kahan) summation ({_rounding(sums)})"
        case Scaled(inner, scale, block):
            return f"{order_words(inner)}, the sum multiplied by {_factor_words(scale)} of its block of {block} k"
        case Pairwise(sums):
            return f"in pairs of neighbours ({_rounding(sums)})"
        case Folding():
            return _folding_words(order)
        case Exact():
            return "exactly and rounded once to float32"
        case Aligned():
            return _aligned_words(order)
        case AlignedLate():
            return _late_words(order)
        case AlignedScaled():
            return _scaled_words(order)
        case Tail(multiple, main, rest):
            return (
                f"{order_words(main)} as far as a multiple of {multiple} goes, and the result and the remaining terms "
                f"{order_words(rest)}"
            )
        case Carried(size, inner, sums, start):
            first = "from +0" if start == "zero" else "from the first"
            return (
                f"in runs of {size} consecutive terms {first}, the total so far and the terms of a run "
                f"{order_words(inner)}, rounded to {_rounding(sums)} after each whole run"
            )
        case Halving(most, multiple, inner, sums):
            return (
                f"by halving at multiples of {multiple} ({_rounding(sums)}), and {most} terms or fewer "
                f"{order_words(inner)}"
            )
        case UpTo(most, few, many):
            short = f"{most} terms or fewer are added" if most > 1 else "one term is added"
            return f"{order_words(many)}, but {short} {order_words(few)}"
        case ByColumn(most, first, rest):
            return f"{order_words(first)} in the first {most} columns, and {order_words(rest)} in the others"
        case Trees(trees):
            return f"by explicit trees of {', '.join(str(tree.length) for tree in trees)} terms"
        case Tree():
            return f"by an explicit tree of {order.length} terms ({_rounding(order.sums)})"
        case Groups(Whole(), inner, Rising(sums, "first")):
            return f"{order_words(inner)}, the total rounded to {_rounding(sums)}"
        case Groups(Whole(), inner, outer):
            return f"{order_words(inner)}, and the total {order_words(outer)}"
        case Groups(partition, inner, outer):
            return f"in {_partition_words(partition)}, each {order_words(inner)}, and the results {order_words(outer)}"
        case Reordered(Descending() as partition, inner):
            return f"in {_partition_words(partition)}, {order_words(inner)}"
        case Reordered(partition, inner):
            return f"in the order of {_partition_words(partition)}, one after the other, {order_words(inner)}"
        case _:
            return "in an order that is not specified"


def _aligned_words(order: Aligned) -> str:
    first = "to the first " if order.start == "first" else ""
    least = "" if order.least_exponent is None else f" and at least 2^{order.least_exponent}"
    return (
        f"{first}by chained instructions of {order.terms} terms, aligned to the largest exponent{least}, truncated to "
        f"{order.fraction_bits} fraction bits, added exactly and rounded ({_rounding(order.sums)})"
    )


def _scaled_words(order: AlignedScaled) -> str:
    first = "to the first " if order.start == "first" else ""
    what = "each product" if order.group is None else f"the exact sum of every {order.group} products"
    of = "" if order.group is None else " of the scales"
    least = "" if order.least_exponent is None else f" and at least 2^{order.least_exponent}"
    return (
        f"{first}by chained instructions of {order.terms} terms, {what} times the {order.scales} scales of its block "
        f"of {order.block} k, aligned to the largest exponent{of}{least}, truncated to {order.fraction_bits} fraction "
        f"bits, added exactly and rounded ({_rounding(order.sums)})"
    )


def _late_words(order: AlignedLate) -> str:
    first = "to the first " if order.start == "first" else ""
    parts = "" if isinstance(order.parts, Whole) else f" in {_partition_words(order.parts)}"
    reach = "" if order.reach is None else f", c left out where it is more than 2^{order.reach} smaller"
    return (
        f"{first}by chained instructions of {order.terms} terms, aligned to the largest exponent{parts}, truncated to "
        f"{order.fraction_bits} fraction bits, added, aligned with c{reach}, rounded down to {order.sum_bits} bits and "
        f"rounded ({_rounding(order.sums)})"
    )


def _partition_words(partition: Partition) -> str:
    match partition:
        case Blocks(size):
            return f"blocks of {size} consecutive terms"
        case Whole():
            return "one group"
        case Splits(number, multiple):
            return f"{number} splits of consecutive terms" + (f" (multiples of {multiple})" if multiple > 1 else "")
        case Descending():
            return "descending k" if partition == Descending() else f"runs of {partition.size} terms from last to first"
        case _:
            turn = f" that take {partition.take} terms in turn" if partition.take > 1 else ""
            rest = ", the first of which takes the terms after the last whole turn too," * (partition.rest == "first")
            return f"{partition.number} lanes{turn}{rest}"
