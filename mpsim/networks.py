"""A network by name (of reference_models) or from a user's own file, as ``my_net.py:build``; for every command."""

from __future__ import annotations

import hashlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import reference_models
from mpsim import checks, plugins
from mpsim.errors import UsageError
from mpsim.initialization import initialize
from mpsim.nn import Conv2d, Linear, Module
from mpsim.trace import trace

Shape = tuple[int, ...]


class NetworkFile(NamedTuple):
    """A Python file and the function in it that makes the network."""

    path: Path
    function: str

    @property
    def label(self) -> str:
        """The file's name, without its folder, and the function: the same wherever the file lies."""
        return f"{self.path.name}:{self.function}"

    def read(self) -> bytes:
        """The file's content; ValueError if it cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UsageError(f"the network's file {self.path} cannot be read ({error.strerror})") from None


def file_of(model: str) -> NetworkFile | None:
    """The file that ``model`` names, as ``folder/my_net.py:build``; None for the name of a reference network.

    >>> file_of("nets/my_net.py:build").label
    'my_net.py:build'
    """
    checks.instance("model", model, str, "a name of reference_models, or FILE.py:FUNCTION")
    path, colon, function = model.rpartition(":")
    if not colon and model.endswith(".py"):
        raise UsageError(f"say which function of {model} makes the network, as {model}:build")
    return NetworkFile(Path(path), function) if path.endswith(".py") else None


#: Networks from outside (mpsim.extend.network): name -> the function that builds one.
FURTHER: dict[str, Callable[..., Any]] = {}


def known() -> list[str]:
    """The names of networks: of reference_models, of mpsim.extend and of installed packages."""
    return list(dict.fromkeys([*reference_models.MODELS, *FURTHER, *plugins.of_group("mpsim.models")]))


def content_hash(model: str) -> str | None:
    """SHA-256 (hex) of the file that makes the network; None for the name of a reference network.

    Raises ValueError for a file that cannot be read, and a function that is in none, as one typed at a prompt: a run
    with it could not be told from one with another of that name."""
    file = file_of(model)
    if file is None and (function := _further(model)) is not None:
        place = _source_of(function)
        if not place:
            raise UsageError(f"the function that builds {model!r} is in no file, by which a stored run could be known")
        file = NetworkFile(Path(place), function.__name__)
    return None if file is None else hashlib.sha256(file.read()).hexdigest()


def _further(model: str) -> Callable[..., Any] | None:
    if model in reference_models.MODELS:
        return None
    if model in FURTHER:
        return FURTHER[model]
    brought = plugins.load("mpsim.models", model)
    return None if brought is None else checked_function(model, brought)


def checked_function(name: str, build: Any) -> Callable[..., Any]:
    """``build``; UsageError for what is not a function or class written in Python, as a ``functools.partial``.

    >>> checked_function("net", dict)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: network 'net' needs a function or class of Python code, got <class 'dict'>
    """
    written = inspect.isfunction(build) or (inspect.isclass(build) and build.__module__ != "builtins")
    if not written:
        raise UsageError(f"network {name!r} needs a function or class of Python code, got {build!r}")
    return build


def _source_of(function: Callable[..., Any]) -> str:
    """The file in which a function is written, not that of a decorator on it; "" for one that is in none."""
    try:
        return inspect.getsourcefile(inspect.unwrap(function)) or ""
    except (TypeError, OSError):  # a class of no file
        return ""


def build(
    model: str,
    *,
    width: float = 1.0,
    classes: int | None = None,
    seed: int | None = 0,
    input_shape: Shape | None = None,
) -> Module:
    """The network called ``model``: a name in reference_models (or of ``known()``), or ``FILE.py:FUNCTION``.

    A function of a file is called with those of width, classes, seed and input_shape (C, H, W) that it takes; classes
    and input_shape are passed where they are known. It returns an ``mpsim.nn.Module`` that maps a tensor (N, C, H, W)
    to logits (N, classes). What the network lacks of ``input_shape``, ``classes`` and ``width`` is set: as passed, or
    as the function's default says, or as a trace finds it. If the function takes no seed and all its convolutions and
    linear layers hold zeros, they are drawn from the seed by ``mpsim.initialization.initialize``. Other files
    beside it are not searched for modules.

    Raises ValueError for an unknown name, a file or function that is missing or fails (with its line), a result that is
    no network, or one that does not take the images.

    >>> build("small_cnn", input_shape=(3, 32, 32)).input_shape
    (3, 32, 32)
    """
    checks.width("width", width)
    if classes is not None:
        checks.classes("classes", classes)
    if seed is not None:
        checks.seed("seed", seed)
    if input_shape is not None:
        checks.sizes("input_shape", input_shape, "(channels, height, width)")
    file = file_of(model)
    function = _further(model) if file is None else _function(file)
    if function is None:
        return _reference(model, width, classes, seed, input_shape)
    made_in = _Origin(model, _source_of(function)) if file is None else _Origin(file.label, file.path)
    known = inspect.signature(function).parameters
    given = {"width": width, "classes": classes, "seed": seed, "input_shape": input_shape}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        passed = {name: value for name, value in given.items() if value is not None}
    else:
        passed = {name: value for name, value in given.items() if value is not None and name in known}
    try:
        network = function(**passed)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{made_in.label} failed {_place(error, made_in.path)}") from error
    if not isinstance(network, Module):
        raise UsageError(f"{made_in.label} should return a network (mpsim.nn.Module), got {type(network).__name__}")
    _complete(network, made_in, passed, known)
    if "seed" not in passed and seed is not None:
        _initialize(network, seed)
    return network


class _Origin(NamedTuple):
    """What a network is called in messages, and the file whose lines they name."""

    label: str
    path: str | Path


def _reference(model: str, width: float, classes: int | None, seed: int | None, input_shape: Shape | None) -> Module:
    if model not in reference_models.MODELS:
        raise checks.unknown("model", model, known())
    takes = inspect.signature(reference_models.MODELS[model]).parameters
    options: dict[str, Any] = {}
    if input_shape is not None and "input_shape" in takes:
        options["input_shape"] = input_shape
    elif input_shape is not None and "image_size" in takes:
        options["image_size"] = input_shape[-1]
    return reference_models.build(model, width, 10 if classes is None else classes, seed, **options)


def _function(file: NetworkFile) -> Callable[..., Any]:
    source = file.read()
    module = ModuleType(file.path.stem)
    module.__file__ = str(file.path)
    try:
        exec(compile(source, str(file.path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise UsageError(f"{file.path} cannot be imported: it failed {_place(error, file.path)}") from error
    function = getattr(module, file.function, None)
    if not callable(function):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        found = ", ".join(own) or "none"
        raise UsageError(f"{file.path} has no function {file.function!r}. It has: {found}")
    return function


def _place(error: BaseException, path: str | Path) -> str:
    """Where in the file it went wrong, and how."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        lines, error = [error.lineno], SyntaxError(error.msg)
    line = f"at line {lines[-1]} " if lines else ""
    return f"{line}({type(error).__name__}: {error})"


def _complete(
    network: Module, made_in: _Origin, passed: Mapping[str, object], known: Mapping[str, inspect.Parameter]
) -> None:
    """Sets what the network does not say of itself, and tries it on shapes alone."""
    for name in ("input_shape", "width"):
        if not hasattr(network, name):
            default = known[name].default if name in known else inspect.Parameter.empty
            value = passed.get(name, default)
            if value is not inspect.Parameter.empty:
                setattr(network, name, value)
    if getattr(network, "input_shape", None) is None:
        raise UsageError(
            f"{made_in.label}: its network does not say what images it takes; set network.input_shape = (C, H, W), "
            f"or let the function take input_shape"
        )
    if not hasattr(network, "width"):
        network.width = 1.0
    try:
        found = trace(network, batch=2)
    except (Exception, SystemExit) as error:
        shape = tuple(network.input_shape)
        raise UsageError(
            f"{made_in.label}: its network failed on images of {shape}, {_place(error, made_in.path)}"
        ) from error
    said = getattr(network, "classes", found.classes)
    if said != found.classes:
        raise UsageError(f"{made_in.label}: its network says it has {said} classes and gives {found.classes} logits")
    network.classes = found.classes


def _initialize(network: Module, seed: int) -> None:
    layers = [layer for layer in network.modules() if isinstance(layer, Conv2d | Linear)]
    if not any(layer.weight.master.any() for layer in layers):
        initialize(network, seed)
