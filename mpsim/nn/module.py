"""Defines Module, a layer or network as a tree of named parameters and buffers, and lists of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels


class Module:
    """A layer or network, which finds its Parameters, buffers and Modules among its attributes.

    They are listed in order of definition. A network defines ``__call__`` and, for tracing, ``name``, ``width``,
    ``classes`` and ``input_shape`` (C, H, W). One that reads tokens, integers (N, T), has ``input_shape`` (T,) and
    ``vocabulary``, the number of different tokens. Use a ``ModuleList`` for several layers in one attribute, because
    layers in a Python list would not be found.

    >>> from mpsim import ops
    >>> from mpsim.nn import Conv2d, Linear, ReLU
    >>> class Network(Module):
    ...     def __init__(self):
    ...         self.body = Sequential(Conv2d(1, 4, 3), ReLU())
    ...         self.head = Linear(4, 2)
    ...     def __call__(self, x):
    ...         return self.head(ops.flatten(ops.avg_pool2d(self.body(x))))
    >>> list(Network().parameters())
    ['body.0.weight', 'body.0.bias', 'head.weight', 'head.bias']
    """

    # Networks have these attributes, layers do not. mpsim.networks.build sets those that a network lacks.
    name: str
    width: float
    classes: int
    input_shape: tuple[int, ...]
    vocabulary: int | None = None  # of a network that reads tokens

    path: str = ""
    buffer_names: tuple[str, ...] = ()
    _kernels: Kernels | None = None  # those of the backend that holds the arrays; None for NumPy
    _attached = False

    def __call__(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def __setattr__(self, attribute: str, value: object) -> None:
        if isinstance(value, Module):
            if value._attached and vars(self).get(attribute) is not value:
                raise UsageError(f"layer {value.path!r} already has a place in a network; build another one")
            value._attached = True
        elif (layers := _kind_of_layers(value)) is not None:
            raise UsageError(
                f"{attribute} of {type(self).__name__} is a {type(value).__name__} of {layers}s, which would not be "
                f"trained, saved or moved; use nn.ModuleList for layers, and an attribute for each parameter"
            )
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
        """Returns this module and all modules inside it, in order of definition."""
        yield self
        for value in vars(self).values():
            if isinstance(value, Module):
                yield from value.modules()

    def parameters(self) -> dict[str, Parameter]:
        """Returns the parameters by name, in order of definition."""
        return {names[0]: parameter for parameter, names in self._names().items()}

    def _names(self) -> dict[Parameter, list[str]]:
        """Returns the names of each parameter in order of definition. A parameter of several layers is named after the
        first one, as in PyTorch."""
        names: dict[Parameter, list[str]] = {}
        for module in self.modules():
            for attribute, part in vars(module).items():
                if isinstance(part, Parameter):
                    names.setdefault(part, []).append(_join(module.path, attribute))
        for parameter, found in names.items():
            parameter.name = found[0]
        return names

    def buffers(self) -> dict[str, Array]:
        """Returns the buffers, i.e. stored arrays that are not trained, by name, in order of definition."""
        return {name: getattr(module, buffer) for name, (module, buffer) in self._buffer_places().items()}

    def state(self) -> dict[str, np.ndarray]:
        """Returns NumPy copies of all masters and buffers by name, in the order of a PyTorch state dict.

        A parameter of several layers (tied weights) occurs under each of its names."""
        arrays: dict[str, Array] = {}
        for module in self.modules():
            parameters = {name: part for name, part in vars(module).items() if isinstance(part, Parameter)}
            arrays |= {_join(module.path, name): part.master for name, part in parameters.items()}
            arrays |= {_join(module.path, buffer): getattr(module, buffer) for buffer in module.buffer_names}
        return {name: np.array(self._to_numpy(array)) for name, array in arrays.items()}

    def statistics(self) -> dict[str, np.ndarray]:
        """Returns NumPy copies of all buffers by name. ``load_state(..., strict=False)`` restores them."""
        return {name: np.array(self._to_numpy(array)) for name, array in self.buffers().items()}

    def load_state(self, state: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Sets masters and buffers to the arrays of ``state``.

        Args:
            state: Arrays by name, in any form that NumPy reads.
            strict: Whether the names must be exactly those of ``state()``.

        Raises:
            ValueError: A shape differs, a value is not exact in the array's dtype, or with ``strict`` a name is missing
                or unexpected. Nothing is loaded in this case.
        """
        checks.instance("state", state, Mapping, "a mapping of names to arrays, as state() returns")
        present = self.state()
        missing = [name for name in present if name not in state]
        unexpected = [name for name in state if name not in present]
        if strict and (missing or unexpected):
            wrong = [
                f"{what} {_few(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names
            ]
            raise UsageError(f"load_state: {'; '.join(wrong)}. strict=False loads the names that fit")
        loaded = {name: _fitting(name, state[name], old) for name, old in present.items() if name in state}
        for first, *others in self._names().values():
            for name in others:
                if name in loaded and loaded[name].tobytes() != loaded.setdefault(first, loaded[name]).tobytes():
                    raise UsageError(f"load_state: {first} and {name} are one parameter, but their values differ")
        self._replace(lambda name, old: _placed(loaded[name], self._kernels) if name in loaded else old)

    def move(self, kernels: Kernels) -> None:
        """Moves masters and buffers to the backend of ``kernels``, a result of ``mpsim.kernels.bind``."""
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
        return array if isinstance(array, np.ndarray) or self._kernels is None else self._kernels.to_numpy(array)


def _kind_of_layers(value: object) -> str | None:
    """Returns "layer" or "parameter" if a Python container has one, otherwise None."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    for item in value:
        if isinstance(item, Module | Parameter):
            return "layer" if isinstance(item, Module) else "parameter"
        if (found := _kind_of_layers(item)) is not None:
            return found
    return None


def _placed(array: np.ndarray, kernels: Kernels | None) -> Array:
    """Returns the array on the backend. Counts of batches stay on the host."""
    return array if kernels is None or array.dtype.kind != "f" else kernels.from_numpy(array)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _fitting(name: str, value: ArrayLike, old: np.ndarray) -> np.ndarray:
    """Returns a copy of ``value`` in the dtype of ``old``. Both must have the same shape."""
    given = np.asarray(value)
    if given.shape != old.shape:
        raise UsageError(f"load_state: {name} must have shape {old.shape}, got {given.shape}")
    if given.dtype == old.dtype:
        return np.array(given, order="C")
    if given.dtype.kind not in "fiuV":  # V: bfloat16 and similar types of ml_dtypes
        raise UsageError(f"load_state: {name} must hold numbers, got {given.dtype}")
    array = np.array(given.astype(old.dtype), order="C")
    if not np.array_equal(array.astype(np.float64), given.astype(np.float64), equal_nan=True):
        raise UsageError(f"load_state: {name} has values of {given.dtype} that {old.dtype} does not hold exactly")
    return array


class ModuleList(Module):
    """Layers in a list, named "0", "1", ... as in a PyTorch state dict. A network calls them, the list has no call.

    >>> blocks = ModuleList(Module() for _ in range(3))
    >>> len(blocks), blocks[-1].path
    (3, '2')
    """

    def __init__(self, layers: Iterable[Module] = ()) -> None:
        self.extend(layers)

    def append(self, layer: Module) -> ModuleList:
        """Adds a layer at the end; returns the list."""
        position = len(self)
        checks.instance(f"layer {position}", layer, Module, "an nn.Module; pass layers, not classes or lists of them")
        setattr(self, str(position), layer)
        return self

    def extend(self, layers: Iterable[Module]) -> ModuleList:
        """Appends several layers and returns the list."""
        for layer in layers:
            self.append(layer)
        return self

    def __iter__(self) -> Iterator[Module]:
        return (layer for layer in vars(self).values() if isinstance(layer, Module))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, position: int) -> Module:
        return list(self)[position]


class Sequential(ModuleList):
    """Applies layers one after the other. They are named "0", "1", ...

    >>> import numpy as np
    >>> from mpsim import nn
    >>> nn.apply(nn.Sequential(nn.ReLU(), nn.Flatten()), np.full((1, 2, 1, 2), -1.0))
    array([[0., 0., 0., 0.]], dtype=float32)
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__(layers)

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x
