"""Builds networks by name (from reference_models) or from a user's file (e.g. ``my_net.py:build``)."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

import reference_models
from mpsim import checks, plugins
from mpsim.errors import UsageError
from mpsim.initialization import initialize
from mpsim.nn import Conv2d, ImportedNetwork, Linear, Module, from_torch
from mpsim.nn.inputs import described, shape_of_input
from mpsim.nn.pytorch import is_torch, seeded
from mpsim.process import in_default_environment
from mpsim.trace import trace
from mpsim.user_code import FileFunction, failure, file_function

Shape = tuple[int, ...]


def file_of(model: str) -> FileFunction | None:
    """Returns the file that ``model`` names (e.g. ``folder/my_net.py:build``), or None for the name of a network.

    >>> file_of("nets/my_net.py:build").label
    'my_net.py:build'
    """
    checks.instance("model", model, str, "a name of reference_models, or FILE.py:FUNCTION")
    return file_function(model, "build", "builds the network")


#: The functions of networks that users register (mpsim.extend.network), by name.
FURTHER: dict[str, Callable[..., object]] = {}


def known() -> list[str]:
    """Returns the names of all networks: from reference_models, mpsim.extend and installed packages."""
    return list(dict.fromkeys([*reference_models.MODELS, *FURTHER, *plugins.of_group("mpsim.models")]))


def content_hash(model: str) -> str | None:
    """Returns the SHA-256 (hex) of the file that builds the network, or None for a reference network.

    Raises:
        ValueError: The file cannot be read, or the function is not in a file, e.g. because it was typed at a prompt. A
            run with it could not be distinguished from one with another function of that name.
    """
    file = file_of(model)
    if file is None and (function := _further(model)) is not None:
        place = _source_of(function)
        if not place or place.startswith("<"):  # a name such as "<string>" is of code that was typed or executed
            raise UsageError(f"the function that builds {model!r} must be in a file, so that stored runs identify it")
        file = FileFunction(Path(place), function.__name__)
    return None if file is None else hashlib.sha256(file.read()).hexdigest()


def _further(model: str) -> Callable[..., object] | None:
    if model in reference_models.MODELS:
        return None
    if model in FURTHER:
        return FURTHER[model]
    brought = plugins.load("mpsim.models", model)
    return None if brought is None else checked_function(model, brought)


def checked_function(name: str, build: object) -> Callable[..., object]:
    """Returns ``build`` if it is a function or class written in Python.

    Raises:
        UsageError: It is something else, such as a ``functools.partial``.

    >>> checked_function("net", dict)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: network 'net' needs a function or class of Python code, got <class 'dict'>
    """
    if inspect.isfunction(build) or (inspect.isclass(build) and build.__module__ != "builtins"):
        return build
    raise UsageError(f"network {name!r} needs a function or class of Python code, got {build!r}")


def _source_of(function: Callable[..., object]) -> str:
    """Returns the file that defines a function, not the file of its decorator, or "" if there is none."""
    try:
        return inspect.getsourcefile(inspect.unwrap(function)) or ""
    except (TypeError, OSError):  # a class that is not in a file
        return ""


@in_default_environment
def build(
    model: str,
    *,
    width: float = 1.0,
    classes: int | None = None,
    seed: int | None = 0,
    input_shape: Shape | None = None,
    vocabulary: int | None = None,
) -> Module:
    """Builds a network by name or from a user's function.

    mpsim passes whichever of ``width``, ``classes``, ``seed``, ``input_shape`` and ``vocabulary`` appear in the
    function's signature and are not None. The function returns an ``mpsim.nn.Module`` that maps a tensor (N, C, H, W)
    to logits (N, classes), or, if it has a ``vocabulary``, tokens (N, T) to logits (N, classes) or (N, T, classes). If
    the network lacks ``input_shape``, ``classes`` or ``width``, mpsim sets it to the passed value, the function's
    default, or what a trace finds. If the function has no parameter ``seed`` and all weights of convolutions and linear
    layers are zero, ``mpsim.initialization.initialize`` draws them. The folder of a user's file is not added to the
    search path of modules. A ``torch.nn.Module`` is imported (mpsim.nn.from_torch), with weights drawn by PyTorch's
    generator at ``seed``, for inputs of the module's ``input_shape``, else the passed one or the default.

    Args:
        model: A name in ``known()``, or ``FILE.py:FUNCTION``.
        width: The factor of the numbers of channels.
        classes: The number of classes. The default is 10 for a reference network, and the function's own otherwise.
        seed: The seed of the initial weights. None leaves them as built.
        input_shape: (C, H, W) of the images, (D,) of rows of numbers, or (T,) of tokens.
        vocabulary: The number of different tokens, for data that consist of tokens.

    Raises:
        ValueError: The name is unknown, the file or function is missing or fails (the message has the line), or its
            result is not a network for these images.

    >>> build("small_cnn", input_shape=(3, 32, 32)).input_shape
    (3, 32, 32)
    """
    _check_numbers(width, classes, seed, input_shape, vocabulary)
    file = file_of(model)
    function = _further(model) if file is None else file.load()
    if function is None:
        return _reference(model, width, classes, seed, input_shape)
    origin = _Origin(model, _source_of(function)) if file is None else _Origin(file.label, file.path)
    known = inspect.signature(function).parameters
    given = {
        "width": width, "classes": classes, "seed": seed, "input_shape": input_shape, "vocabulary": vocabulary,
    }  # fmt: skip
    every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    passed = {name: value for name, value in given.items() if value is not None and (every or name in known)}
    try:
        network = _called(function, passed, seed)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{origin.label} failed {failure(error, origin.path)}") from error
    network = _imported(network, origin, input_shape, vocabulary, known) if is_torch(network) else network
    if not isinstance(network, Module):
        raise UsageError(
            f"{origin.label} should return a network (mpsim.nn.Module or torch.nn.Module), got {type(network).__name__}"
        )
    _complete(network, origin, passed, known)
    if "seed" not in passed and seed is not None and not isinstance(network, ImportedNetwork):
        _initialize(network, seed)
    return network


def _check_numbers(
    width: float, classes: int | None, seed: int | None, shape: Shape | None, vocabulary: int | None
) -> None:
    checks.width("width", width)
    for name, count in (("classes", classes), ("vocabulary", vocabulary)):
        if count is not None:
            checks.classes(name, count)
    if seed is not None:
        checks.seed("seed", seed)
    if shape is not None:
        shape_of_input(shape, vocabulary)


def _called(function: Callable[..., object], passed: Mapping[str, object], seed: int | None) -> object:
    """Returns the function's result. If that may be a module of PyTorch, its weights are drawn with the seed."""
    if seed is not None and "torch" in sys.modules:
        with seeded(seed):
            return function(**passed)
    network = function(**passed)
    # The function itself imported PyTorch, which has drawn from a generator without the seed.
    return _called(function, passed, seed) if seed is not None and is_torch(network) else network


class _Origin(NamedTuple):
    """The name of a network in messages, and the file whose line numbers they quote."""

    label: str
    path: str | Path


def _reference(model: str, width: float, classes: int | None, seed: int | None, input_shape: Shape | None) -> Module:
    if model not in reference_models.MODELS:
        raise checks.unknown("model", model, known())
    takes = inspect.signature(reference_models.MODELS[model]).parameters
    classes = 10 if classes is None else classes
    if input_shape is not None and "input_shape" in takes:
        return reference_models.build(model, width, classes, seed, input_shape=input_shape)
    if input_shape is not None and "image_size" in takes:
        return reference_models.build(model, width, classes, seed, image_size=input_shape[-1])
    return reference_models.build(model, width, classes, seed)


def _imported(
    module: object, origin: _Origin, shape: object, vocabulary: object, known: Mapping[str, inspect.Parameter]
) -> Module:
    """Returns the network of a module of PyTorch."""
    defaults = {name: None if each.default is inspect.Parameter.empty else each.default for name, each in known.items()}
    shape = getattr(module, "input_shape", defaults.get("input_shape") if shape is None else shape)
    vocabulary = getattr(module, "vocabulary", defaults.get("vocabulary") if vocabulary is None else vocabulary)
    if not isinstance(shape, tuple | list):
        raise UsageError(
            f"{origin.label}: the size of its images is not known; set module.input_shape = (C, H, W), (D,) for "
            f"rows of numbers or (T,) for tokens, or give the function a parameter input_shape with a default"
        )
    tokens = len(shape) == 1 and vocabulary is not None
    sizes = shape_of_input(shape, 1 if tokens else None)
    try:
        return from_torch(module, np.zeros((2, *sizes), np.int64 if tokens else np.float32))
    except UsageError as error:
        advice = (
            "; if it reads tokens, set module.vocabulary or give the function a parameter vocabulary with a default"
        )
        raise UsageError(f"{origin.label}: {error}{advice if len(shape) == 1 and not tokens else ''}") from error


def _complete(
    network: Module, origin: _Origin, passed: Mapping[str, object], known: Mapping[str, inspect.Parameter]
) -> None:
    """Sets the attributes that the network lacks, and traces it."""
    for name in ("input_shape", "width"):
        if not hasattr(network, name):
            default = known[name].default if name in known else inspect.Parameter.empty
            value = passed.get(name, default)
            if value is not inspect.Parameter.empty:
                setattr(network, name, value)
    if getattr(network, "input_shape", None) is None:
        raise UsageError(
            f"{origin.label}: its network has no input_shape; set network.input_shape = (C, H, W), (D,) "
            f"for rows of numbers or (T,) for tokens, or give the function a parameter input_shape"
        )
    if not hasattr(network, "width"):
        network.width = 1.0
    try:
        found = trace(network, batch=2)
    except (Exception, SystemExit) as error:
        shape = tuple(network.input_shape)
        raise UsageError(
            f"{origin.label}: its network failed on {described(network, shape)}, {failure(error, origin.path)}"
        ) from error
    declared = getattr(network, "classes", found.classes)
    if declared != found.classes:
        raise UsageError(f"{origin.label}: its network declares {declared} classes but returns {found.classes} logits")
    network.classes = found.classes


def _initialize(network: Module, seed: int) -> None:
    layers = [layer for layer in network.modules() if isinstance(layer, Conv2d | Linear)]
    if not any(layer.weight.master.any() for layer in layers):
        initialize(network, seed)
