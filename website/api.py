"""Writes the pages of the Python interface: one for each public name of ``mpsim``, one for each public module."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import mpsim
from website.tables import prose, table

#: Public modules besides those among ``mpsim.__all__``, and for modules that are internal otherwise their public names.
FURTHER: dict[str, tuple[str, ...]] = {
    "mpsim.arithmetic": (), "mpsim.blocks.quantizers.words": ("sentence_of",),
    "mpsim.engine.primitive": ("Primitive", "Sample"),
    "mpsim.integers": (), "mpsim.kernels.elementary": ("exp64",), "mpsim.networks": ("build",), "mpsim.ops": (),
    "mpsim.losses": ("BCE", "CrossEntropy", "Custom", "MSE", "loss_of"),
    "mpsim.products.passes": ("accumulators_of", "entries_of"), "mpsim.products.presets": ("PRESETS",),
    "mpsim.products.text": ("product_of",), "mpsim.products.words": ("sentence_of",), "mpsim.testing": (),
    "mpsim.testing.laws": (), "mpsim.recording.torch": ("record",),
    "mpsim.training.optimizer": ("Adam", "AdamW", "Lion"), "mpsim.training.optimizer.groups": ("Group",),
    "mpsim.training.schedule": ("ByStep", "OneCycle", "Warmup"), "mpsim.training.sensitivity": ("steps",),
    "mpsim.weights": (),
}  # fmt: skip
#: Documents whose code is run, and has the examples that docstrings of a module do not have.
EXAMPLES = {"mpsim.testing": "testing.md"}


def modules() -> dict[str, ModuleType]:
    """The public modules by name."""
    found = [getattr(mpsim, name) for name in mpsim.__all__]
    named = {each.__name__: each for each in found if inspect.ismodule(each)}
    return named | {name: importlib.import_module(name) for name in FURTHER}


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module, without modules: FURTHER's, those of ``__all__``, or its functions and classes."""
    names = FURTHER.get(module.__name__) or getattr(module, "__all__", None)
    if names is None:
        names = [
            name for name, value in vars(module).items()
            if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value))
            and value.__module__ == module.__name__
        ]  # fmt: skip
    return [name for name in names if not inspect.ismodule(getattr(module, name))]


def pages() -> dict[str, str]:
    """The Markdown of every page by its path, in the order of the navigation."""
    names = names_of(mpsim)
    own = {id(getattr(mpsim, name)): name for name in names}
    found = {"api/index.md": _overview(names)}
    found |= {f"api/mpsim.{name}.md": f"---\ntitle: {name}\n---\n\n{_entry_with_type(name)}" for name in names}
    for path, module in modules().items():
        parts = [f"# {path}\n\n{_module(path)}"]
        if path in EXAMPLES:
            parts.append(f"[This document](../{EXAMPLES[path]}) has more examples.\n\n")
        elsewhere = [name for name in names_of(module) if id(getattr(module, name)) in own]
        if elsewhere:
            links = ", ".join(f"[`{name}`](mpsim.{own[id(getattr(module, name))]}.md)" for name in elsewhere)
            parts.append(f"It also has these names, which are names of `mpsim`: {links}.\n\n")
        parts += [_entry(f"{path}.{name}") for name in names_of(module) if name not in elsewhere]
        found[f"api/{path}.md"] = "".join(parts)
    return found


def _entry_with_type(name: str) -> str:
    """The entry of a name of ``mpsim``, with that of its type for a table, whose examples are there."""
    kind = type(getattr(mpsim, name))
    public = f"{kind.__module__.rpartition('.')[0]}.{kind.__qualname__}"
    entry = _entry(f"mpsim.{name}", 1)
    return entry + _entry(public) if kind.__module__.startswith("mpsim.") else entry


def _entry(path: str, level: int = 2) -> str:
    """What mkdocstrings replaces by a name's signature and docstring.

    It would take the name of a function that is also a module, such as ``ops.linear``, for the module.
    """
    if (Path(mpsim.__file__).parents[1] / (path.replace(".", "/") + ".py")).is_file():
        path = f"{path}.{path.rpartition('.')[2]}"
    return f"::: {path}\n    options:\n      show_root_heading: true\n      heading_level: {level}\n\n"


def _module(path: str) -> str:
    options = "show_root_heading: false\n      members: false"
    return f"::: {path}\n    options:\n      {options}\n\n"


def summary(value: Any) -> str:
    """The first sentence of a docstring; for a table that of its comment is not known, so that of its type."""
    documented = value if inspect.ismodule(value) or hasattr(value, "__qualname__") else type(value)
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def _overview(names: list[str]) -> str:
    rows = [(f"[`{name}`](mpsim.{name}.md)", prose(summary(getattr(mpsim, name)))) for name in names]
    parts = [(f"[`{path}`]({path}.md)", prose(summary(module))) for path, module in modules().items()]
    return (
        "# Python interface\n\nEvery example on these pages is run by the tests.\n\n## mpsim\n\n"
        + table(("name", "what it is"), rows)
        + "## Modules\n\n"
        + table(("module", "what it does"), parts)
    )
