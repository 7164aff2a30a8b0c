"""Converts a trainer's state to checkpoint bytes and back: settings, the plan with promotions, and the arrays' bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpsim import networks
from mpsim.assignment import Plan
from mpsim.checks import shown
from mpsim.errors import UsageError
from mpsim.files import checkpoint
from mpsim.files.checkpoint import CheckpointError
from mpsim.losses import Loss
from mpsim.nn import Module
from mpsim.training.loss_scale import LossScaleState
from mpsim.training.recipe import Recipe

_MODEL = "model/"


@dataclass(frozen=True)
class State:
    """Everything that a trainer resumes from. ``states`` has the optimizer's NumPy arrays by state and parameter."""

    model: Module
    arrays: Mapping[str, np.ndarray]
    states: Mapping[str, Mapping[str, np.ndarray]]
    plan: Plan | None
    recipe: Recipe
    backend: str
    epoch: int
    steps: int
    updates: int
    loss_scale: LossScaleState

    def state_of(self, state: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a state of a parameter. Raises KeyError or UsageError if it is missing or has another shape."""
        found = self.states[state][name]
        if found.shape != shape or found.dtype != np.float32:
            raise UsageError(f"{state} of {name} is {found.dtype} {found.shape}, not float32 {shape}")
        return found


def dump(state: State) -> bytes:
    """Returns the checkpoint of a trainer's state."""
    header = {
        "model": {
            **dict(zip(("name", "width", "classes"), _identity(state.model), strict=True)),
            "input_shape": list(getattr(state.model, "input_shape", ())),
            **vocabulary_of(state.model),
        },
        "plan": None if state.plan is None else state.plan.to_dict(),
        "settings": {
            **state.recipe.to_dict(),
            "loss_scale": state.loss_scale.settings.to_dict(),
            "backend": state.backend,
        },
        "state": {
            "epoch": state.epoch,
            "steps": state.steps,
            "updates": state.updates,
            "loss_scale": state.loss_scale.scale,
            "good_steps": state.loss_scale.good_steps,
        },
    }
    arrays = {_MODEL + name: array for name, array in state.arrays.items()}
    for kind, found in state.states.items():
        arrays |= {f"{kind}/{name}": array for name, array in found.items()}
    return checkpoint.pack(header, arrays)


def read(content: bytes, source: str, model: Module | None = None, loss: Loss | None = None) -> State:
    """Returns the state in a checkpoint's bytes, for ``model`` or a network that is built. ``loss`` replaces the
    stored one. ``source`` names the bytes in errors. Raises CheckpointError if they are not a trainer's."""
    header, arrays = checkpoint.unpack(content, source)
    with fitting(source):
        described, settings, state = (_object(header, name) for name in ("model", "settings", "state"))
        model = build_network(described, source) if model is None else model
        _check_same(model, described, source)
        plan = None if header["plan"] is None else Plan.from_json(header["plan"])
        recipe = Recipe.from_dict(settings if loss is None else {**settings, "loss": loss})
        return State(
            model,
            arrays=_below(_MODEL, arrays),
            states={kind: _below(f"{kind}/", arrays) for kind in {name.partition("/")[0] for name in arrays}},
            plan=plan,
            recipe=recipe,
            backend=settings["backend"],
            epoch=state["epoch"],
            steps=state["steps"],
            updates=state.get("updates", state["steps"]),  # older checkpoints are of SGD, which does not use it
            loss_scale=LossScaleState(recipe.scaling(plan), state["loss_scale"], state["good_steps"]),
        )


def _object(header: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(header[name], dict):
        raise UsageError(f"its {name} should be a JSON object, got {shown(header[name])}")
    found: Mapping[str, object] = header[name]
    return found


def vocabulary_of(model: Module) -> dict[str, int]:
    """Returns the vocabulary of a model that reads tokens, as a field of a header."""
    return {} if model.vocabulary is None else {"vocabulary": model.vocabulary}


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@contextmanager
def fitting(source: str) -> Iterator[None]:
    """Raises CheckpointError if the content of ``source`` does not fit."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} is a checkpoint that does not fit: {error}") from error


def build_network(
    described: Mapping[str, Any], source: str, remedy: str = "pass model=, an instance of that network"
) -> Module:
    """Builds the network that the header names, without its weights. ``remedy``: the advice of an error message.

    A name of a file, ``FILE.py:FUNCTION``, is refused: reading a file must not run code that the file chooses.
    """
    try:
        name, width, classes = (described[key] for key in ("name", "width", "classes"))
        if networks.file_of(name) is not None:
            raise UsageError("it names a file, whose code is not run")
        shape, vocabulary = tuple(described["input_shape"]) or None, described.get("vocabulary")
        return networks.build(name, width=width, classes=classes, input_shape=shape, vocabulary=vocabulary)
    except (ValueError, TypeError, KeyError) as error:
        why = f"its {error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{source} belongs to network {shown(described.get('name'))}, which cannot be built here ({why}); {remedy}"
        ) from error


def _check_same(model: Module, described: Mapping[str, object], source: str) -> None:
    found = _identity(model)
    saved = (described["name"], described["width"], described["classes"])
    if found != saved:
        raise CheckpointError(
            f"{source} belongs to network {saved[0]!r} (width {saved[1]}, {saved[2]} classes), but the model is "
            f"{found[0]!r} (width {found[1]}, {found[2]} classes)"
        )


def _identity(model: Module) -> tuple[str, float, int | None]:
    """Returns name, width and classes of a network."""
    return getattr(model, "name", type(model).__name__), getattr(model, "width", 1.0), getattr(model, "classes", None)
