"""Registers users' ops, kernels, backends, networks, datasets, schemes and presets (docs/extending.md).

Each function checks a declaration, registers it under its name, and returns it. A name that is already in use raises
UsageError. A registration applies to one process. A package provides backends, networks and datasets to every process
by entry points (``mpsim.plugins``).

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
from typing import Protocol, TypeVar, get_type_hints

from mpsim import checks, kernels, networks
from mpsim.assignment import SCHEMES, Scheme
from mpsim.data import DATASETS, Source
from mpsim.engine.primitive import Primitive
from mpsim.errors import UsageError
from mpsim.ops import PRIMITIVES
from mpsim.validate.cast.presets import PRESETS, Preset

Entry = TypeVar("Entry")


def op(primitive: Primitive) -> Primitive:
    """Registers an op.

    On the op's samples, its derivative is compared with difference quotients, and its arrays are compared with its
    declaration (``mpsim.testing.promises``).

    Raises:
        UsageError: The op's kind is already in use, or it has no sample, fails on a sample or is wrong on one.

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
        raise UsageError(f"op {primitive.kind!r} has no samples; add one, on which its derivative is checked")
    for sample in primitive.samples:
        try:
            check_promises(primitive, sample)
            check_primitive(primitive, sample)
        except AssertionError as error:
            raise UsageError(f"op {primitive.kind!r}: {error}") from error
        except Exception as error:
            raise UsageError(f"op {primitive.kind!r} fails on {sample}: {error} ({type(error).__name__})") from error
    return _put(PRIMITIVES, primitive.kind, primitive)


def kernel(name: str, *, host: Callable[..., object] | None = None, cuda: Callable[..., object] | None = None) -> None:
    """Registers a kernel, i.e. a function of a backend's arrays that ops call as ``kernels.name``.

    An op that need not be fast does not need a kernel: ``kernels.to_numpy`` and ``kernels.from_numpy`` convert arrays
    to NumPy and back.

    Args:
        name: A Python name.
        host: The function for backends with NumPy arrays.
        cuda: The function for device arrays.

    Raises:
        UsageError: The name is already in use or is not a Python name, or there is no function.

    >>> kernel("add", host=abs)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a kernel 'add' already
    """
    _free("a kernel", name, {*kernels.CONTRACT, *get_type_hints(kernels.Kernels), *kernels.FURTHER})
    if not name.isidentifier() or iskeyword(name):
        raise UsageError(f"the name of a kernel must be a Python name, because ops call kernels.NAME; got {name!r}")
    functions = {kind: function for kind, function in (("host", host), ("cuda", cuda)) if function is not None}
    if not functions or not all(map(callable, functions.values())):
        raise UsageError(f"kernel {name!r} needs a function: host=, cuda=, or both")
    _put(kernels.FURTHER, name, functions)


def backend(name: str, module: ModuleType | str, summary: str = "") -> ModuleType:
    """Registers a backend.

    Args:
        name: A name without a colon.
        module: A module with every function of ``mpsim.kernels.Kernels``, or its name.
        summary: One line for ``mpsim backends``.

    Returns:
        The module.

    Raises:
        UsageError: The name is already in use or contains a colon.
        UsageTypeError: ``module`` is not a module.
        BackendUnavailable: A function is missing or has different arguments.
        ImportError: The module cannot be imported.

    >>> import math
    >>> backend("mine", math)
    Traceback (most recent call last):
    ...
    mpsim.kernels.errors.BackendUnavailable: math is not a backend: there is no function from_numpy; ...
    """
    _free("a backend", name, kernels.BACKENDS)
    if ":" in name:
        raise UsageError(f"the name of a backend must not contain a colon, which precedes a device; got {name!r}")
    found = importlib.import_module(module) if isinstance(module, str) else module
    kernels.check_signatures(checks.instance("module", found, ModuleType, "a module or the name of one"))
    _put(kernels.BACKENDS, name, (found, summary))
    return found


def network(name: str, build: Callable[..., object]) -> Callable[..., object]:
    """Registers a network.

    Args:
        name: A name without a colon or the suffix .py.
        build: A function or class like that of FILE.py:FUNCTION (``mpsim.networks.build``). It must be defined in a
            file, whose content identifies stored runs. ``functools.partial`` does not have a file.

    Returns:
        ``build``.

    Raises:
        UsageError: The name is already in use, or ``build`` is not a function or class of Python code.

    >>> network("small_cnn", dict)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a network 'small_cnn' already
    """
    _free("a network", name, networks.known())
    if Path(name).suffix == ".py" or ":" in name:
        raise UsageError(f"the name of a network must not contain a colon or end in .py; got {name!r}")
    return _put(networks.FURTHER, name, networks.checked_function(name, build))


def dataset(source: Source) -> Source:
    """Registers a dataset with the splits "train" and "test".

    Raises:
        UsageError: The name is already in use.

    >>> from mpsim.data import DATASETS
    >>> dataset(DATASETS["digits"])
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a dataset 'digits' already
    """
    return _named("dataset", source, Source, DATASETS)


def scheme(row: Scheme) -> Scheme:
    """Registers a precision assignment.

    Raises:
        UsageError: The name is already in use.

    >>> from mpsim.assignment import SCHEMES
    >>> scheme(SCHEMES["random"])
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a scheme 'random' already
    """
    return _named("scheme", row, Scheme, SCHEMES)


def preset(row: Preset) -> Preset:
    """Registers a known system's cast, for ``mpsim validate cast``.

    Raises:
        UsageError: The name is already in use.

    >>> from mpsim.validate import PRESETS
    >>> preset(PRESETS["numpy"])
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: there is a preset 'numpy' already
    """
    return _named("preset", row, Preset, PRESETS)


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_HasName)


def _named(what: str, entry: Named, kind: type[Named], entries: MutableMapping[str, Named]) -> Named:
    """Registers an entry under its own name and returns it."""
    checks.instance(what, entry, kind, f"an {kind.__module__}.{kind.__name__}")
    _free(f"a {what}", entry.name, entries)
    return _put(entries, entry.name, entry)


def _free(what: str, name: object, known: Container[object]) -> None:
    checks.instance("name", name, str, "a name")
    if not name or name in known:
        raise UsageError(f"there is {what} {name!r} already" if name else "a name must have at least one letter")


def _put(entries: MutableMapping[str, Entry], name: str, entry: Entry) -> Entry:
    entries[name] = entry
    return entry
