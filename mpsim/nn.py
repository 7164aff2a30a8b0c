"""Layers: named parameters and a few calls of ops. No precision, no training.

A layer is called with tensors; its name is its place in the network ("layer1.0.conv1"), which names its op and
its parameters ("layer1.0.conv1.weight") as a PyTorch state dict names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mpsim import ops
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.ops.windows import Pair, pair


class Module:
    """A layer or a network: its attributes that are Parameters, buffers and Modules, in order of definition.

    A network defines ``__call__`` and, for tracing, ``name``, ``width``, ``classes`` and ``input_shape``
    (C, H, W).

    >>> class Network(Module):
    ...     def __init__(self):
    ...         self.body = Sequential(Conv2d(1, 4, 3), ReLU())
    ...         self.head = Linear(4, 2)
    ...     def __call__(self, x):
    ...         return self.head(ops.flatten(ops.avg_pool2d(self.body(x))))
    >>> list(Network().parameters())
    ['body.0.weight', 'body.0.bias', 'head.weight', 'head.bias']
    """

    path: str = ""
    buffer_names: tuple[str, ...] = ()
    _kernels: Any = None  # of the backend that holds the arrays; None: NumPy, as built
    _attached = False

    def __call__(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def __setattr__(self, attribute: str, value: Any) -> None:
        if isinstance(value, Module):
            if value._attached and vars(self).get(attribute) is not value:
                raise UsageError(f"layer {value.path!r} already has a place in a network; build another one")
            value._attached = True
        super().__setattr__(attribute, value)
        if isinstance(value, Module | Parameter):
            self._name(attribute, value)

    def _name(self, attribute: str, value: Module | Parameter) -> None:
        name = f"{self.path}.{attribute}" if self.path else attribute
        if isinstance(value, Parameter):
            value.name = name
            return
        value.path = name
        for inner, part in vars(value).items():
            if isinstance(part, Module | Parameter):
                value._name(inner, part)

    def modules(self) -> Iterator[Module]:
        """This module and all inside it, in order of definition."""
        yield self
        for value in vars(self).values():
            if isinstance(value, Module):
                yield from value.modules()

    def parameters(self) -> dict[str, Parameter]:
        """Name -> Parameter, in order of definition."""
        return {p.name: p for module in self.modules() for p in vars(module).values() if isinstance(p, Parameter)}

    def buffers(self) -> dict[str, Array]:
        """Name -> array of what is kept but not trained (running statistics), in order of definition."""
        return {name: getattr(module, buffer) for name, (module, buffer) in self._buffer_places().items()}

    def state(self) -> dict[str, np.ndarray]:
        """Name -> NumPy copy of every parameter's master and every buffer, in the order of a PyTorch state dict."""
        arrays: dict[str, Array] = {}
        for module in self.modules():
            arrays |= {p.name: p.master for p in vars(module).values() if isinstance(p, Parameter)}
            arrays |= {_join(module.path, buffer): getattr(module, buffer) for buffer in module.buffer_names}
        return {name: np.array(self._to_numpy(array)) for name, array in arrays.items()}

    def load_state(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Takes the arrays of ``state`` (anything NumPy reads) as masters and buffers.

        Nothing is loaded, and ValueError raised, if a shape differs, a value is not exact in the array's dtype, or
        with ``strict`` a name is missing or unexpected.
        """
        present = self.state()
        missing = [name for name in present if name not in state]
        unexpected = [name for name in state if name not in present]
        if strict and (missing or unexpected):
            wrong = [
                f"{what} {_few(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names
            ]
            raise UsageError(f"load_state: {'; '.join(wrong)}. strict=False loads the names that fit")
        loaded = {name: _fitting(name, state[name], old) for name, old in present.items() if name in state}
        self._replace(lambda name, old: _placed(loaded[name], self._kernels) if name in loaded else old)

    def move(self, kernels: Any) -> None:
        """Moves masters and buffers to the backend of ``kernels`` (what ``mpsim.kernels.bind`` returns)."""
        host = self._to_numpy
        self._replace(lambda name, old: _placed(host(old), kernels))
        self._kernels = kernels

    def _replace(self, new: Callable[[str, Array], Array]) -> None:
        for name, parameter in self.parameters().items():
            parameter.replace(new(name, parameter.master))
        for name, (module, buffer) in self._buffer_places().items():
            setattr(module, buffer, new(name, getattr(module, buffer)))

    def _buffer_places(self) -> dict[str, tuple[Module, str]]:
        return {_join(module.path, name): (module, name) for module in self.modules() for name in module.buffer_names}

    def _to_numpy(self, array: Array) -> np.ndarray:
        return array if isinstance(array, np.ndarray) else self._kernels.to_numpy(array)


def _placed(array: np.ndarray, kernels: Any) -> Array:
    """The array on the backend; counts of batches stay on the host."""
    return array if kernels is None or array.dtype.kind != "f" else kernels.from_numpy(array)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _fitting(name: str, value: Any, old: np.ndarray) -> np.ndarray:
    """A copy of ``value`` in the dtype of ``old``, whose shape it must have."""
    given = np.asarray(value)
    if given.shape != old.shape:
        raise UsageError(f"load_state: {name} must have shape {old.shape}, got {given.shape}")
    if given.dtype == old.dtype:
        return np.array(given, order="C")
    if given.dtype.kind not in "fiuV":  # V: bfloat16 and the like of ml_dtypes
        raise UsageError(f"load_state: {name} must hold numbers, got {given.dtype}")
    array = np.array(given.astype(old.dtype), order="C")
    if not np.array_equal(array.astype(np.float64), given.astype(np.float64), equal_nan=True):
        raise UsageError(f"load_state: {name} has values of {given.dtype} that {old.dtype} does not hold exactly")
    return array


class Sequential(Module):
    """Layers one after the other, named "0", "1", ..."""

    def __init__(self, *layers: Module) -> None:
        for position, layer in enumerate(layers):
            setattr(self, str(position), layer)

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return (layer for layer in vars(self).values() if isinstance(layer, Module))


class Conv2d(Module):
    """ops.conv2d with weight (out_channels, in_channels/groups, R, S) and bias (out_channels,), zeros as built."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise UsageError(
                f"{in_channels} input and {out_channels} output channels do not split into {groups} groups"
            )
        self.stride, self.padding, self.groups = stride, padding, groups
        self.weight = _zeros(out_channels, in_channels // groups, *pair(kernel_size))
        self.bias = _zeros(out_channels) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        geometry = {"stride": self.stride, "padding": self.padding}
        return ops.conv2d(x, self.weight, self.bias, **geometry, groups=self.groups, name=self.path)


class Linear(Module):
    """ops.linear with weight (out_features, in_features) and bias (out_features,), zeros as built."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.weight = _zeros(out_features, in_features)
        self.bias = _zeros(out_features) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias, name=self.path)


class BatchNorm2d(Module):
    """ops.batch_norm with weight (scale, ones as built), bias (shift, zeros) and running statistics."""

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(self, channels: int, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        self.epsilon, self.momentum = epsilon, momentum
        self.weight = Parameter(np.ones(channels, np.float32))
        self.bias = _zeros(channels)
        self.running_mean: Array = np.zeros(channels, np.float32)
        self.running_var: Array = np.ones(channels, np.float32)
        self.num_batches_tracked: Array = np.zeros((), np.int64)

    def __call__(self, x: Tensor) -> Tensor:
        statistics = (self.running_mean, self.running_var)
        constants = {"epsilon": self.epsilon, "momentum": self.momentum}
        y = ops.batch_norm(x, self.weight, self.bias, *statistics, **constants, name=self.path)
        if x.tape.training and not x.tape.shape_only:
            self.num_batches_tracked = np.asarray(self.num_batches_tracked + 1)
        return y


class ReLU(Module):
    """ops.relu."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.relu(x, name=self.path)


class MaxPool2d(Module):
    """ops.max_pool2d; stride=None: the kernel's size."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def __call__(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding, name=self.path)


class AvgPool2d(Module):
    """ops.avg_pool2d; kernel_size=None: the whole image; stride=None: the kernel's size."""

    def __init__(self, kernel_size: Pair | None = None, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def __call__(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding, name=self.path)


class Add(Module):
    """ops.add of two tensors."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return ops.add(a, b, name=self.path)


class Cat(Module):
    """ops.cat of any number of tensors."""

    def __call__(self, *tensors: Tensor) -> Tensor:
        return ops.cat(tensors, name=self.path)


class SplitHalf(Module):
    """ops.split_half: two ops, named "<path>.first" and "<path>.second"."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return ops.split_half(x, name=self.path)


class ChannelShuffle(Module):
    """ops.channel_shuffle, a view."""

    def __init__(self, groups: int = 2) -> None:
        self.groups = groups

    def __call__(self, x: Tensor) -> Tensor:
        return ops.channel_shuffle(x, self.groups)


class Flatten(Module):
    """ops.flatten, a view."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.flatten(x)


class Identity(Module):
    """Its input; no op."""

    def __call__(self, x: Tensor) -> Tensor:
        return x


def _zeros(*shape: int) -> Parameter:
    if min(shape) < 1:
        raise UsageError(f"a parameter's sizes must be at least 1, got {shape}")
    return Parameter(np.zeros(shape, np.float32))
