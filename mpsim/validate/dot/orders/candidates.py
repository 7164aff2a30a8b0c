"""The accumulators that a subject's measurements allow, and those beside one that was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from functools import lru_cache
from typing import Any, TypeGuard

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, as_format
from mpsim.kernels.contractions.rules import steps_of
from mpsim.products import stages
from mpsim.products.accumulators import LEAST_ALIGNMENT, Accumulator, Summation, in_short, in_stages
from mpsim.products.stages import Product, Sums
from mpsim.products.tensor_cores import LEAST, TENSOR_CORES
from mpsim.validate.dot.inputs.probes import Order
from mpsim.validate.dot.orders.trees import nodes_of_product
from mpsim.validate.dot.orders.variations import bits_of, last_sums
from mpsim.validate.dot.shapes import every_number_of_terms

#: Alignments wider than the probes could see: the most further bits.
BEYOND = 12
#: Numbers of terms at which descriptions are compared beside those that subjects are asked for.
MORE_TERMS = (200, 331)
#: Tried in any case.
KNOWN = (Accumulator(), Accumulator(chunk=None), Accumulator(kind="exact"))
#: Least alignments of some tensor core, and none.
LEASTS = (None, *sorted({least for pair in LEAST.values() for least in pair}))


def candidates(value: Mapping[str, Any], order: Order, inputs: str) -> list[Summation]:
    """Accumulators that the measured values allow, the simplest first, then every tensor core of these inputs."""
    found = [Accumulator(kind="exact")] if order.exact else []
    bits = value.get("sum_bits", 23)
    least = list(dict.fromkeys([value.get("least_alignment", LEAST_ALIGNMENT), LEAST_ALIGNMENT]))
    for terms, chunk in order.chains:
        if terms == 1:
            found += [Accumulator(chunk=chunk, fma=fma) for fma in (True, False)] if bits == 23 else []
            found += [Accumulator(format=name, chunk=chunk) for name in _narrow_formats(bits)]
            if value.get("rounding") != "nearest_even":
                found += [each for n in range(bits, bits + 3) for each in _aligned(1, chunk, n, bits, inputs, least)]
        else:
            aligned = value["alignment_bits"]
            more = BEYOND if aligned == order.span else 0  # then the probes saw no end of the bits
            for n in range(aligned, aligned + more + 1):
                found += _aligned(terms, chunk, n, bits, inputs, least)
    found += [Accumulator(kind="pairwise", chunk=block, fma=fma) for block in order.pairs for fma in (True, False)]
    found += [row.accumulator for row in TENSOR_CORES.values() if row.inputs == inputs]
    found += KNOWN
    return list(dict.fromkeys(found))


def _narrow_formats(bits: int) -> list[str]:
    """Formats of sums with ``bits`` fraction bits."""
    named = [name for name, f in FORMATS.items() if f.mantissa_bits == bits and f.fits_float32 and name != "float32"]
    usable = [name for name in named if as_format(name).signed and as_format(name).has_zero]
    return list(dict.fromkeys([*usable, *(f"fp_{e}_{bits}_0" for e in range(8, 2, -1) if bits < 23)]))


def _aligned(
    terms: int, chunk: int | None, aligned: int, bits: int, inputs: str, leasts: Sequence[int]
) -> list[Accumulator]:
    """Sums of ``terms`` products at once: those whose outputs keep at least the measured bits."""
    formats = (
        ["float32"] if bits in (23, aligned) or bits > 23 else []
    )  # no more bits than an alignment keeps can be measured
    formats += [f"fp_8_{bits}_0"] if bits < 23 else []
    formats += [name for name in _narrow_formats(bits) if bits < 23 and name in FORMATS]
    operands = [inputs, "tf32"] if inputs == "float32" else [inputs]
    return [
        Accumulator(format, chunk, True, "aligned", terms, aligned, rounding, operand, least)
        for least in leasts
        for operand in operands
        for rounding in ("toward_zero", "nearest_even")
        for format in formats
        if aligned >= 1 and aligned + 2 + (terms + 1).bit_length() <= 53
    ]


def _partitions_beside(partition: stages.Partition) -> Iterator[stages.Partition]:
    if isinstance(partition, stages.Blocks):
        yield stages.Blocks(min(2 * partition.size, stages.MOST_CHUNK))
        yield stages.Blocks(max(1, partition.size // 2))
    elif isinstance(partition, stages.Splits | stages.Lanes):
        yield replace(partition, number=min(2 * partition.number, stages.MOST_CHUNK))
        yield replace(partition, number=max(1, partition.number // 2))


def effective(accumulator: Summation, length: int) -> tuple[object, ...]:
    """What decides the results for ``length`` terms at most: equal for two accumulators that are one and the same
    there, as with a chunk that is as long, more terms than a chunk has, or two names of one format."""
    if isinstance(accumulator, Product):
        return _steps_of(accumulator, length)
    chunk = accumulator.chunk if accumulator.chunk and accumulator.chunk < length else None
    format = astuple(as_format(accumulator.format))[1:]
    if accumulator.kind == "exact":
        return ("exact",)
    if accumulator.kind == "aligned":
        terms = min(accumulator.terms, chunk or length)
        last = (accumulator.inputs, accumulator.least_alignment)
        return ("aligned", format, chunk, terms, accumulator.fraction_bits, accumulator.rounding, *last)
    if accumulator.format != "float32":
        return (accumulator.kind, format, chunk)
    if accumulator.kind == "sequential" and chunk == 1:  # each product is rounded, then added
        return (accumulator.kind, format, None, False)
    return (accumulator.kind, format, chunk, accumulator.fma)


def _steps_of(product: Product, length: int) -> tuple[object, ...]:
    """The steps for the numbers of terms that subjects are asked for, and some more: equal for two descriptions of one
    computation, and not for two that only such subjects do not distinguish."""
    read = product.left, product.right, product.output, product.epilogue, product.start
    try:
        return (*read, *(sums_of(product, terms) for terms in (*every_number_of_terms(length), *MORE_TERMS)))
    except UsageError:  # a tree of other numbers of terms
        return (product,)


@lru_cache(maxsize=1 << 12)
def sums_of(summation: Summation, length: int) -> tuple[object, ...]:
    """What is computed of ``length`` terms: equal for two descriptions of one computation."""
    product = in_stages(summation)
    program, reads = steps_of(product, length), (product.left.of_length(length), product.right.of_length(length))
    instructions = program.aligned, program.late, program.scaled
    return (*reads, product.parts, program.code.tobytes(), program.places.tobytes(), program.sums, *instructions)


def distinct(accumulators: Iterable[Summation], length: int) -> list[Summation]:
    """The first of each effective form. Products whose steps differ for few terms are not compared for more."""
    given = list({id(each): each for each in accumulators}.values())
    groups: list[list[Summation]] = [[each for each in given if isinstance(each, Product)]]
    for terms in sorted((*every_number_of_terms(length), *MORE_TERMS)):
        groups = [part for group in groups for part in (_by_steps(group, terms) if len(group) > 1 else [group])]
    parts = [part for group in groups for part in _by(group, lambda each: effective(each, length))]
    parts += _by([each for each in given if not isinstance(each, Product)], lambda each: effective(each, length))
    firsts = {id(part[0]) for part in parts}
    return [each for each in given if id(each) in firsts]


def _by_steps(products: Sequence[Summation], terms: int) -> list[list[Summation]]:
    def steps(each: Summation) -> object:
        try:
            return sums_of(each, terms)
        except UsageError:  # a tree of other numbers of terms
            return each

    return _by(products, steps)


def _by(accumulators: Sequence[Summation], key: Callable[[Summation], object]) -> list[list[Summation]]:
    """Those with the same key together, if there are several."""
    if len(accumulators) < 2:
        return [list(accumulators)] if accumulators else []
    found: dict[object, list[Summation]] = {}
    for each in accumulators:
        found.setdefault(key(each), []).append(each)
    return list(found.values())


def beside(found: Summation, inputs: str) -> list[Summation]:
    """Accumulators that differ from one in a single thing: what a match of operands in a format has to be distinguished
    from."""
    near: list[Summation] = [] if isinstance(found, Product) else [*_beside(found)]
    products = _beside_product(found) if isinstance(found, Product) else _twice_rounded(found, inputs)
    near += [in_short(each) for each in products]
    return [each for each in dict.fromkeys(near) if each != found]


def _twice_rounded(found: Accumulator, inputs: str) -> Iterator[Product]:
    """The same in rising order in a narrow format, with sums that are formed in float32."""
    product, bits = found.product, 2 * (as_format(inputs).mantissa_bits + 1)
    sums = Sums(found.format).by_way_of("float32", bits) if found.kind == "sequential" else None
    if sums is not None and isinstance(product.order, stages.Rising):
        yield replace(product, order=replace(product.order, sums=sums))


def _beside_product(found: Product) -> Iterator[Product]:
    with suppress(UsageError):  # an aligned order adds exact products
        yield replace(found, products=Sums() if found.products is None else None)
    if bits_of(found.output) < bits_of(last_sums(found.order)):
        yield replace(found, output=replace(found.output, rounding="nearest_away"))
    for order in _orders_beside(found.order, found.products is None):
        with suppress(UsageError):  # an aligned order and products that are rounded
            yield replace(found, order=order)


def _orders_beside(order: stages.Order, exact: bool) -> Iterator[stages.Order]:
    """Orders that differ in one stage. exact: whether they add exact products."""
    if isinstance(order, stages.Rising | stages.Pairwise | stages.Folding):
        yield from (replace(order, sums=sums) for sums in _sums_beside(order.sums))
        yield stages.Rising(order.sums)
        yield stages.Rising(order.sums, "first")
        yield stages.Pairwise(order.sums)
        yield stages.Folding(order.sums)
    elif isinstance(order, stages.Aligned):
        yield replace(order, fraction_bits=order.fraction_bits + 1)
        yield replace(order, least_exponent=None if order.least_exponent is not None else LEAST_ALIGNMENT)
    elif isinstance(order, stages.UpTo):
        parts = order.few, order.many
        yield from (part for part in parts if not any(isinstance(each, stages.Trees) for each in stages.within(part)))
        yield from (replace(order, many=many) for many in _orders_beside(order.many, exact))
        yield from (replace(order, few=few) for few in _orders_beside(order.few, exact))
        if exact and not _rounds_alone(order.few):
            with suppress(UsageError):  # an order that adds products only
                yield replace(order, few=stages.Groups(stages.Blocks(1), stages.Rising(start="first"), order.few))
    elif isinstance(order, stages.Trees):
        yield from map(stages.Trees, _trees_beside(order.trees, exact))
    elif isinstance(order, stages.Reordered):
        yield order.order
        yield from (replace(order, order=inner) for inner in _orders_beside(order.order, exact))
    elif _rounds_alone(order):
        yield order.outer
        yield from (replace(order, outer=outer) for outer in _orders_beside(order.outer, False))
    elif isinstance(order, stages.Groups):
        yield order.inner
        yield from (replace(order, partition=partition) for partition in _partitions_beside(order.partition))
        yield from (replace(order, inner=inner) for inner in _orders_beside(order.inner, exact))
        yield from (replace(order, outer=outer) for outer in _orders_beside(order.outer, False))


def _rounds_alone(order: stages.Order) -> TypeGuard[stages.Groups]:
    """Whether each product is rounded before it is added, in a group of its own."""
    return isinstance(order, stages.Groups) and order.partition == stages.Blocks(1)


def _sums_beside(sums: Sums) -> Iterator[Sums]:
    yield from (Sums(), Sums("bfloat16"), Sums("float16"), replace(sums, rounding="toward_zero"))
    yield replace(sums, via=None)
    if as_format(sums.format).mantissa_bits < as_format("float32").mantissa_bits:
        yield replace(sums, rounding="nearest_away")


def _trees_beside(trees: Sequence[stages.Tree], exact: bool) -> Iterator[tuple[stages.Tree, ...]]:
    """One tree of them with other roundings, with +0 added to the total or not, with products that are rounded before
    they are added or not, or with two terms exchanged."""
    for place, tree in enumerate(trees):
        starts = any(leaf == stages.ZERO for leaf, _ in tree.postfix())  # then another +0 changes nothing
        roots: list[stages.Node] = [] if starts else [((), tree.root)]
        roots += [_leaves(tree.root, lambda k: (k,)), _leaves(tree.root, lambda k: k)] if exact else []
        roots.append(tree.root[1] if isinstance(tree.root, tuple) and tree.root[0] == () else tree.root)
        last = tree.length - 1
        exchanged = _leaves(tree.root, lambda k, last=last: {0: last, last: 0}.get(k, k), keeps=True)  # type: ignore
        trees_of = (Product(order=replace(tree, root=root)) for root in (exchanged, tree.root))
        one, other = (nodes_of_product(each, tree.length) for each in trees_of)
        roots += [exchanged] if one != other else []
        changed = [replace(tree, root=root) for root in roots if root != tree.root]
        changed += [replace(tree, sums=sums) for sums in _sums_beside(tree.sums) if sums != tree.sums]
        yield from ((*trees[:place], each, *trees[place + 1 :]) for each in changed)


def _leaves(node: stages.Node, change: Callable[[int], stages.Node], keeps: bool = False) -> stages.Node:
    """The tree with other leaves. keeps: whether a leaf that is rounded alone stays so."""
    if isinstance(node, int):
        return change(node)
    if isinstance(node, str) or node == ():
        return node
    if len(node) == 1 and isinstance(node[0], int) and not keeps:
        return change(node[0])
    return tuple(_leaves(each, change, keeps) for each in node)


def _beside(found: Accumulator) -> Iterator[Accumulator]:
    if found.kind in ("sequential", "pairwise"):
        if found.format == "float32":
            yield replace(found, fma=not found.fma)
        chunks = {1, found.chunk - 1, found.chunk + 1, 2 * found.chunk} if found.chunk else {256}
        yield from (replace(found, chunk=chunk) for chunk in chunks if chunk)
        yield replace(found, chunk=None)
    if found.kind == "sequential":
        names = (
            ["float32", "bfloat16", "float16"]
            if found.format == "float32"
            else _narrow_formats(as_format(found.format).mantissa_bits)
        )
        yield from (replace(found, format=name) for name in names)
        yield Accumulator(kind="exact")
    if found.kind == "aligned":
        yield from _beside_aligned(found)


def _beside_aligned(found: Accumulator) -> Iterator[Accumulator]:
    yield from (replace(found, least_alignment=least) for least in LEASTS)
    if found.least_alignment is not None:
        yield from (replace(found, least_alignment=found.least_alignment + step) for step in (-1, 1))
    for bits in (-2, -1, 1, 2):
        changed = found.fraction_bits + bits
        if changed >= 1 and changed + 2 + (found.terms + 1).bit_length() <= 53:
            yield replace(found, fraction_bits=changed)
    yield replace(found, rounding="nearest_even" if found.rounding == "toward_zero" else "toward_zero")
    yield from (replace(found, format=name) for name in ("float32", f"fp_8_{min(found.fraction_bits, 22)}_0"))
    yield from (replace(found, terms=terms) for terms in (found.terms // 2, 2 * found.terms) if 1 <= terms <= 64)
    if found.chunk is None:
        yield replace(found, chunk=128)
