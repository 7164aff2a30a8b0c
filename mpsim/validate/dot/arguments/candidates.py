"""Epilogues that a product with such arguments may have, beside the sum that was found without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations, product

from mpsim.errors import UsageError
from mpsim.products.accumulators import Summation, in_short, in_stages
from mpsim.products.stages import FLOAT32, AddC, Bias, Product, Scale, Stage, Sums
from mpsim.validate.dot.results import WIDE


def epilogues(summation: Summation, names: Sequence[str], output: str) -> Iterator[Summation]:
    """The sum with C at its start or its end; factors before, each rounded or fused; in every order of the stages."""
    found = in_stages(summation)
    results = [found.output] if output in WIDE else [found.output, Sums(output)]
    for choice in product(*_choices(names)):
        stages = [stage for part in choice for stage in part]
        if not any(isinstance(stage, Bias) for stage in stages) and not names:
            continue
        orders = set(permutations(stages)) if len(stages) <= 4 else {tuple(stages)}
        for order in sorted(orders, key=str):
            for rounding in results:
                yield from _made(found, tuple(order), rounding, "zero")
    if "c" in names and "beta" not in names:
        for choice in product(*_choices([name for name in names if name != "c"])):
            yield from _made(found, tuple(stage for part in choice for stage in part), found.output, "c")


def _choices(names: Sequence[str]) -> list[list[tuple[Stage, ...]]]:
    """For each argument, or pair of arguments, the stages that may use it."""
    found: list[list[tuple[Stage, ...]]] = []
    roundings = (FLOAT32, None)
    if {"left_scale", "right_scale"} <= {*names}:
        both = [(Scale("both", each),) for each in roundings]
        apart = [(Scale("left"), Scale("right", each)) for each in roundings]
        found.append([*both, *apart])
    else:
        sides = [name.removesuffix("_scale") for name in names if name.endswith("_scale")]
        found += [[(Scale(side, each),) for each in roundings] for side in sides]
    if "alpha" in names:
        found.append([(Scale("alpha", each),) for each in roundings])
    if "c" in names:
        products = (None, FLOAT32) if "beta" in names else (None,)
        skips = (False, True) if "beta" in names else (False,)
        found.append([(AddC(products=each, skips_zero=skip),) for skip in skips for each in products])
    if "bias" in names:
        found.append([(Bias(),)])
    return found


def epilogues_beside(product: Product) -> Iterator[Summation]:
    """The product with one stage of its epilogue rounded otherwise, with two exchanged, or with C at the other end."""
    stages = product.epilogue
    for place, stage in enumerate(stages):
        for other in _stages_beside(stage):
            yield from _made(product, (*stages[:place], other, *stages[place + 1 :]), product.output, product.start)
        if place:
            exchanged = (*stages[: place - 1], stage, stages[place - 1], *stages[place + 1 :])
            yield from _made(product, exchanged, product.output, product.start)
    if product.start == "c":
        yield from _made(product, (*stages, AddC()), product.output, "zero")
    elif any(isinstance(each, AddC) for each in stages):
        yield from _made(product, tuple(each for each in stages if not isinstance(each, AddC)), product.output, "c")


def _stages_beside(stage: Stage) -> Iterator[Stage]:
    if isinstance(stage, Scale):
        yield replace(stage, sums=FLOAT32 if stage.sums is None else None)
    elif isinstance(stage, AddC):
        yield replace(stage, products=FLOAT32 if stage.products is None else None)
        yield replace(stage, skips_zero=not stage.skips_zero)
    yield from (replace(stage, sums=Sums(name)) for name in ("bfloat16", "float16") if stage.sums is not None)


def _made(found: Product, stages: tuple[Stage, ...], output: Sums, start: str) -> Iterator[Summation]:
    try:
        yield in_short(replace(found, epilogue=stages, output=output, start=start))
    except UsageError:  # stages that do not go together
        return
