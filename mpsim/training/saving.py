"""A trainer's state as checkpoint bytes, and back: every setting, the plan as promoted, all arrays bit for bit."""

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
from mpsim.nn import Module
from mpsim.training.loss_scale import LossScaleState
from mpsim.training.recipe import Recipe

_MODEL, _VELOCITY = "model/", "velocity/"


@dataclass(frozen=True)
class State:
    """All that a trainer goes on from; ``velocity``: NumPy arrays by parameter."""

    model: Module
    arrays: Mapping[str, np.ndarray]
    velocity: Mapping[str, np.ndarray]
    plan: Plan | None
    recipe: Recipe
    backend: str
    epoch: int
    steps: int
    loss_scale: LossScaleState

    def velocity_of(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The momentum of a parameter; KeyError or UsageError if it is not that of one with this shape."""
        found = self.velocity[name]
        if found.shape != shape or found.dtype != np.float32:
            raise UsageError(f"velocity of {name} is {found.dtype} {found.shape}, not float32 {shape}")
        return found


def dump(state: State) -> bytes:
    """The checkpoint of a trainer's state."""
    header = {
        "model": {
            **dict(zip(("name", "width", "classes"), _identity(state.model), strict=True)),
            "input_shape": list(getattr(state.model, "input_shape", ())),
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
            "loss_scale": state.loss_scale.scale,
            "good_steps": state.loss_scale.good_steps,
        },
    }
    arrays = {_MODEL + name: array for name, array in state.arrays.items()}
    arrays |= {_VELOCITY + name: array for name, array in state.velocity.items()}
    return checkpoint.pack(header, arrays)


def read(content: bytes, source: str, model: Module | None = None) -> State:
    """The state in these bytes, whose network is ``model`` or else built; ``source`` names them in errors.
    CheckpointError if they are not a trainer's."""
    header, arrays = checkpoint.unpack(content, source)
    with fitting(source):
        described, settings, state = header["model"], header["settings"], header["state"]
        model = build_network(described, source) if model is None else model
        _check_same(model, described, source)
        plan = None if header["plan"] is None else Plan.from_json(header["plan"])
        recipe = Recipe.from_dict(settings)
        return State(
            model,
            arrays={n.removeprefix(_MODEL): a for n, a in arrays.items() if n.startswith(_MODEL)},
            velocity={n.removeprefix(_VELOCITY): a for n, a in arrays.items() if n.startswith(_VELOCITY)},
            plan=plan,
            recipe=recipe,
            backend=settings["backend"],
            epoch=state["epoch"],
            steps=state["steps"],
            loss_scale=LossScaleState(recipe.scaling(plan), state["loss_scale"], state["good_steps"]),
        )


@contextmanager
def fitting(source: str) -> Iterator[None]:
    """CheckpointError where what ``source`` holds does not fit."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} is a checkpoint that does not fit: {error}") from error


def build_network(
    described: dict[str, Any], source: str, remedy: str = "pass model=, an instance of that network"
) -> Module:
    """The network of reference_models that the header names, weights to be replaced. ``remedy``: what an error says to
    do."""
    try:
        name, width, classes = (described[key] for key in ("name", "width", "classes"))
        return networks.build(name, width=width, classes=classes, input_shape=tuple(described["input_shape"]) or None)
    except (ValueError, TypeError, KeyError) as error:
        why = f"it does not say its {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{source} is of network {shown(described.get('name'))}, which cannot be built here ({why}); {remedy}"
        ) from error


def _check_same(model: Module, described: dict[str, Any], source: str) -> None:
    found = _identity(model)
    saved = (described["name"], described["width"], described["classes"])
    if found != saved:
        raise CheckpointError(
            f"{source} is of network {saved[0]!r} (width {saved[1]}, {saved[2]} classes), the model given is "
            f"{found[0]!r} (width {found[1]}, {found[2]} classes)"
        )


def _identity(model: Module) -> tuple[str, float, int | None]:
    """Name, width and classes of a network."""
    return getattr(model, "name", type(model).__name__), getattr(model, "width", 1.0), getattr(model, "classes", None)
