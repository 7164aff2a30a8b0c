"""Step files as they are read: the index, where there is one, is what docs/step_files.md says it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mpsim.checks import shown
from mpsim.errors import UsageError
from mpsim.files.tensors import TensorFile, TensorFileError, read_tensors
from mpsim.formats import FORMATS
from mpsim.losses.text import OWN
from mpsim.training.batches import MicroBatch
from mpsim.training.optimizer.names import LATER, STATES, settings_of_kind

#: Fields that hold more than a word or a number, and of what type they are.
_FIELDS = {
    "tensors": dict, "ops": list, "model": dict, "optimizer": dict, "accumulator": dict, "module_differs": list,
    "micro_batch": dict,
}  # fmt: skip
#: What Kahan's rule keeps of masters, before and after a step.
KEPT = ("compensation", "next_compensation")
#: The sum of gradients over micro-batches, before and after one of them.
SUMS = ("sum", "next_sum")
#: The first parts of the names of tensors of numbers.
_NUMBERS = ("images", "P", "Y", "GX", "GP", "G", "master", "next_master", *KEPT, *STATES, *SUMS, "unrounded")


def _whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


#: Fields of an op that are read here, and what each is; of its producers -1 stands for an array that no op made.
_OPS: dict[str, Callable[[Any], bool]] = {
    "kind": lambda value: isinstance(value, str),
    "name": lambda value: isinstance(value, str),
    "index": _whole,
    "producers": lambda value: isinstance(value, list) and all(_whole(each, least=-1) for each in value),
}


def read_step(path: str | Path) -> TensorFile:
    """The arrays and index of a step file. Raises TensorFileError as ``read_tensors`` does, and where the index is not
    one that could have been written; OSError if the file cannot be read."""
    file = read_tensors(path)
    for wrong in (_wrong_field(file.index), *map(_wrong_number, _numbers(file.index).items())):
        if wrong:
            raise TensorFileError(f"{path}: its index is not one of a step: {wrong}")
    for name, array in file.tensors.items():
        kinds, what = "f", "numbers of a float type"
        if name == "labels":
            kinds, what = _of_labels(file.index, array)
        if name == "images" and array.ndim == 2:
            kinds, what = "fiu", "tokens (N, T), integers, or numbers of a float type"
        if (name == "labels" or name.partition("/")[0] in _NUMBERS) and array.dtype.kind not in kinds:
            raise TensorFileError(f"{path}: {name} is of type {array.dtype}; it holds {what} (docs/step_files.md)")
    return file


def _of_labels(index: Mapping[str, Any], labels: Any) -> tuple[str, str]:
    """The kinds of types that labels may have, and what they are: one value of a float type each is for a loss of one's
    own, as the others take a value for each class."""
    own = str(index.get("loss", "")).startswith(OWN)
    return "fiu" if own or labels.ndim > 1 else "iu", "integers, or values for each class"


def _wrong_field(index: Any) -> str:
    if not isinstance(index, dict):
        return "it is no JSON object"
    for name, kind in _FIELDS.items():
        if name in index and not isinstance(index[name], kind):
            return f"{name!r} is {shown(index[name])}"
    for op in index.get("ops", []):
        if not isinstance(op, dict) or not all(_OPS[name](op.get(name)) for name in _OPS):
            return f"an op is {shown(op)}"
    if not _whole(index.get("optimizer", {}).get("count", 1), least=1):
        return f"'count' is {shown(index['optimizer']['count'])}; expected the number of the update, from 1 on"
    try:
        micro_batch_of(index)
    except UsageError as error:
        return str(error)
    for name in ("groups", "storage"):
        if not isinstance(text := index.get("optimizer", {}).get(name, ""), str):
            return f"{name!r} is {shown(text)}; expected a text"
    for name, described in index.get("tensors", {}).items():
        if not isinstance(described, dict):
            return f"{name!r} is described as {shown(described)}"
        try:
            FORMATS[described.get("format", "float32")]
        except (UsageError, TypeError) as error:
            return f"of {name!r}: {error}"
    return ""


def micro_batch_of(index: Mapping[str, Any]) -> MicroBatch | None:
    """The place of a micro-batch in its step, None for a step that is not divided. UsageError for another entry."""
    if (given := index.get("micro_batch")) is None:
        return None
    whole = all(_whole(given.get(name), least) for name, least in (("number", 0), ("of", 1), ("examples", 1)))
    weight = given.get("weight")
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < math.inf
    if not whole or not is_number or given["number"] >= given["of"]:
        raise UsageError(
            f"'micro_batch' is {shown(given)}; expected number (below of), examples and weight of the whole batch"
        )
    return MicroBatch(*(given[name] for name in MicroBatch._fields))


def _numbers(index: Mapping[str, Any]) -> dict[str, Any]:
    optimizer = index.get("optimizer", {}) if isinstance(index, dict) else {}
    found = {"loss_scale": index["loss_scale"]} if "loss_scale" in index else {}
    if isinstance(optimizer, dict) and (settings := settings_of_kind(optimizer.get("kind"))):
        needed = [*(name for name in settings if name not in LATER), *(name for name in LATER if name in optimizer)]
        needed += ["clip"] if "clip" in optimizer else []
        found |= {name: optimizer.get(name) for name in ("rate", *needed) if name != "nesterov"}
    return found


def _wrong_number(entry: tuple[str, Any]) -> str:
    name, number = entry
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return f"{name!r} is {shown(number)}; expected a number"
    return f"{name!r} is {shown(number)}; expected above 0" if name == "loss_scale" and number <= 0 else ""
