"""Module: a layer or a network as a tree of named parameters and buffers, and lists of them."""

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
    """A layer or a network: its attributes that are Parameters, buffers and Modules, in order of definition.

    A network defines ``__call__`` and, for tracing, ``name``, ``width``, ``classes`` and ``input_shape``
    (C, H, W). Several layers in one attribute are a ``ModuleList``: those in a Python list would not be found.

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

    # What a network says of itself; layers do not have these, and mpsim.networks.build sets those that it lacks.
    name: str
    width: float
    classes: int
    input_shape: tuple[int, int, int]

    path: str = ""
    buffer_names: tuple[str, ...] = ()
    _kernels: Kernels | None = None  # of the backend that holds the arrays; None: NumPy, as built
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

    def statistics(self) -> dict[str, np.ndarray]:
        """Name -> NumPy copy of every buffer; ``load_state(..., strict=False)`` takes them back."""
        return {name: np.array(self._to_numpy(array)) for name, array in self.buffers().items()}

    def load_state(self, state: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Takes the arrays of ``state`` (anything NumPy reads) as masters and buffers.

        Nothing is loaded, and ValueError raised, if a shape differs, a value is not exact in the array's dtype, or
        with ``strict`` a name is missing or unexpected.
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
        self._replace(lambda name, old: _placed(loaded[name], self._kernels) if name in loaded else old)

    def move(self, kernels: Kernels) -> None:
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
        return array if isinstance(array, np.ndarray) or self._kernels is None else self._kernels.to_numpy(array)


def _kind_of_layers(value: object) -> str | None:
    """ "layer" or "parameter" if there is one in a Python container, else None."""
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
    """The array on the backend; counts of batches stay on the host."""
    return array if kernels is None or array.dtype.kind != "f" else kernels.from_numpy(array)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _fitting(name: str, value: ArrayLike, old: np.ndarray) -> np.ndarray:
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
        """Adds layers at the end; returns the list."""
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
    """Layers one after the other, named "0", "1", ..."""

    def __init__(self, *layers: Module) -> None:
        super().__init__(layers)

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x
