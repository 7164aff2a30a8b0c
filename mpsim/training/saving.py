"""A trainer as checkpoint bytes, and back: every setting, the plan as promoted, all arrays bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpsim import networks
from mpsim.assignment import Plan
from mpsim.checks import shown
from mpsim.errors import UsageError
from mpsim.files import checkpoint
from mpsim.files.checkpoint import CheckpointError
from mpsim.training.loss_scale import LossScaleState
from mpsim.training.recipe import Recipe

if TYPE_CHECKING:
    from mpsim.training.trainer import Trainer

_MODEL, _VELOCITY = "model/", "velocity/"


def dump(trainer: Trainer) -> bytes:
    """The checkpoint of a trainer."""
    model, kernels = trainer.model, trainer.kernels
    header = {
        "model": {
            **dict(zip(("name", "width", "classes"), _identity(model), strict=True)),
            "input_shape": list(getattr(model, "input_shape", ())),
        },
        "plan": None if trainer.plan is None else trainer.plan.to_dict(),
        "settings": {
            **trainer.recipe.to_dict(),
            "loss_scale": trainer.loss_scale.settings.to_dict(),
            "backend": trainer.backend,
        },
        "state": {
            "epoch": trainer.epoch,
            "steps": trainer.steps,
            "loss_scale": trainer.loss_scale.scale,
            "good_steps": trainer.loss_scale.good_steps,
        },
    }
    arrays = {_MODEL + name: array for name, array in model.state().items()}
    arrays |= {_VELOCITY + name: np.asarray(kernels.to_numpy(v)) for name, v in trainer._velocity.items()}
    return checkpoint.pack(header, arrays)


def restore(
    kind: type[Trainer], content: bytes, source: str, *, model: Any, backend: str | None, threads: int | None
) -> Trainer:
    """The trainer of these bytes; ``source`` names them in errors. CheckpointError if they are not a trainer's."""
    header, arrays = checkpoint.unpack(content, source)
    try:
        described, settings, state = header["model"], header["settings"], header["state"]
        model = build_network(described, source) if model is None else model
        _check_same(model, described, source)
        trainer = kind(
            model,
            None if header["plan"] is None else Plan.from_json(header["plan"]),
            Recipe.from_dict(settings),
            backend=settings["backend"] if backend is None else backend,
            threads=threads,
        )
        trainer.epoch, trainer.steps = state["epoch"], state["steps"]
        trainer.loss_scale = LossScaleState(trainer.loss_scale.settings, state["loss_scale"], state["good_steps"])
        model.load_state({n.removeprefix(_MODEL): a for n, a in arrays.items() if n.startswith(_MODEL)})
        for name, parameter in trainer._parameters.items():
            velocity = arrays[_VELOCITY + name]
            if velocity.shape != parameter.shape or velocity.dtype != np.float32:
                raise UsageError(
                    f"velocity of {name} is {velocity.dtype} {velocity.shape}, not float32 {parameter.shape}"
                )
            trainer._velocity[name] = trainer.kernels.from_numpy(velocity)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} is a checkpoint that does not fit: {error}") from error
    return trainer


def build_network(
    described: dict[str, Any], source: str, remedy: str = "pass model=, an instance of that network"
) -> Any:
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


def _check_same(model: Any, described: dict[str, Any], source: str) -> None:
    found = _identity(model)
    saved = (described["name"], described["width"], described["classes"])
    if found != saved:
        raise CheckpointError(
            f"{source} is of network {saved[0]!r} (width {saved[1]}, {saved[2]} classes), the model given is "
            f"{found[0]!r} (width {found[1]}, {found[2]} classes)"
        )


def _identity(model: Any) -> tuple[str, float, int | None]:
    """Name, width and classes of a network."""
    return getattr(model, "name", type(model).__name__), getattr(model, "width", 1.0), getattr(model, "classes", None)
