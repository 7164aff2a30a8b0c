"""Binds a backend's functions to threads and an order of summation, which may differ by layer and pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from math import prod
from types import SimpleNamespace
from typing import NoReturn, cast

import numpy as np

from mpsim.errors import UsageError
from mpsim.kernels.contract import CONTRACT, Array, Kernels, Pair
from mpsim.products.accumulators import Summation
from mpsim.products.passes import Accumulators, Choice, Passes

#: Returns a backend's function by name, with its threads bound.
Function = Callable[[str], Callable[..., object]]


class Binding:
    """Creates Kernels of one backend: common ``attributes`` and functions, and products with the chosen sums."""

    def __init__(self, function: Function, attributes: Mapping[str, object]) -> None:
        self._shared = dict(attributes) | {
            row.name: function(row.name) for row in CONTRACT.values() if not row.contraction
        }
        self._products = {row.name: function(row.name) for row in CONTRACT.values() if row.contraction}

    def kernels(self, choice: Choice) -> Kernels:
        """Returns the result of ``mpsim.kernels.bind``."""
        if not isinstance(choice, Accumulators):
            return self._summed(choice)
        found = self._without_products(choice, "which layer and pass a product belongs to: call kernels.of_layer(name)")
        found.of_layer = cache(lambda name: self._of_layer(choice, name))
        return cast(Kernels, found)

    def _of_layer(self, choice: Accumulators, name: str) -> tuple[Kernels, Kernels]:
        found, order = self._of_passes(choice.of_layer(name)), choice.sums_of_layer(name)
        if order is not None:
            summed = self._summed(order)
            for each in found:
                each.sums = in_one_order(vars(summed) | _as_products(summed))
        return found

    def _of_passes(self, passes: Passes) -> tuple[Kernels, Kernels]:
        """Returns the kernels of a layer's forward function and of its derivative."""
        forward = self._summed(passes.forward)
        by_input, by_weight = self._summed(passes.input_gradient), self._summed(passes.weight_gradient)
        if passes.input_gradient == passes.weight_gradient:
            return forward, forward if passes.forward == passes.input_gradient else by_input
        found = self._without_products(
            Accumulators(*passes),
            "which gradient a product belongs to: call kernels.by_input or kernels.by_weight",
        )
        found.by_input, found.by_weight, found.sums = by_input, by_weight, by_input
        return forward, cast(Kernels, found)

    def _summed(self, summation: Summation) -> Kernels:
        """Returns kernels whose products are all summed in one way."""
        found, other = self._with(summation), summation.swapped
        if other != summation:
            found.swapped = self._with(other)
            found.swapped.swapped = found
        return found

    def _with(self, summation: Summation) -> Kernels:
        products = {name: partial(each, accumulator=summation) for name, each in self._products.items()}
        return in_one_order({**self._shared, **products, "accumulator": summation})

    def _without_products(self, choice: Accumulators, missing: str) -> SimpleNamespace:
        """Returns kernels that cannot multiply."""

        def refuse(*arguments: object, **options: object) -> NoReturn:
            raise UsageError(f"accumulators differ by layer or pass, so an op must specify {missing}")

        return SimpleNamespace(**self._shared, **dict.fromkeys(self._products, refuse), accumulator=choice)


def _as_products(kernels: Kernels) -> dict[str, Callable[..., Array]]:
    """Returns the kernels that sum elements by REDUCTION, with sums of products of the elements and ones instead."""

    def ones(*shape: int) -> Array:
        return kernels.from_numpy(np.ones(shape, np.float32))

    def channel_sum(x: Array) -> Array:
        count, channels, inner = x.shape[0], x.shape[1], prod(x.shape[2:])
        if not count * inner:
            return kernels.zeros((channels,))
        sizes = (count, 1, inner, 1), (count, channels, inner, 1), (channels, 1, 1, 1)
        by_ones = kernels.swapped.conv2d_weight_gradient  # whose first argument, the ones, is the right operand
        return by_ones(ones(*sizes[0]), x.reshape(*sizes[1]), sizes[2], (1, 1), (0, 0), 1).reshape(channels)

    def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        images, channels, *size = x.shape
        windows = ones(1, 1, *kernel)
        y = kernels.conv2d(x.reshape(images * channels, 1, *size), windows, None, stride, padding, 1)
        y = y.reshape(images, channels, *y.shape[2:])
        count = kernels.from_numpy(np.full(tuple(y.shape), prod(kernel), np.float32))
        return kernels.divide(y, count, out=y)

    def nll_loss(log_probabilities: Array, labels: Array) -> Array:
        found, classes = kernels.to_numpy(log_probabilities), kernels.to_numpy(labels)
        chosen = kernels.from_numpy(-found[np.arange(len(classes)), classes][None])
        total = kernels.matmul(chosen, ones(len(classes), 1)).reshape(1)
        return kernels.divide(total, kernels.from_numpy(np.full(1, len(classes), np.float32)), out=total)

    return {"channel_sum": channel_sum, "avg_pool2d": avg_pool2d, "nll_loss": nll_loss}


def in_one_order(attributes: Mapping[str, object]) -> Kernels:
    """Returns kernels with these attributes in every layer and pass."""
    found = SimpleNamespace(**attributes)
    found.by_input = found.by_weight = found.swapped = found.sums = found
    found.of_layer = lambda name: (found, found)
    return cast(Kernels, found)
