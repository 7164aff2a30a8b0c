"""Names of another program's tensors: by a table, or found by shape and value where only one tensor can be meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpsim.checks import shown
from mpsim.errors import UsageError
from mpsim.files import json_text
from mpsim.files.tensors import TensorFile
from mpsim.kernels.contract import Array
from mpsim.recording.order import place
from mpsim.validate.step.comparison import STORED

#: How far a tensor may be from the one of ours that it is taken for, relative to that one's norm; the same for tensors
#: of fewer than FEW elements; and how much farther every other must be.
NEAR, NEAR_FEW, FEW, APART = 0.5, 2.0**-8, 8, 4.0
#: Elements, at most, that distances are computed from.
SAMPLE = 4096
#: Tensors that are listed in notes, at most.
LISTED = 4
#: After a name of a step: the other program stores the transposed matrix.
TRANSPOSED = ".T"


@dataclass(frozen=True)
class Named:
    """A step file under the names of docs/step_files.md. ``names``: the file's own name -> that, with TRANSPOSED where
    a matrix was transposed; ``notes``: what was matched, and what was not."""

    file: TensorFile
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> object:
    """Returns the JSON of a table of names. Raises UsageError if it is not JSON, or cannot be read."""
    try:
        return json_text.decoded(path.read_bytes())
    except (OSError, UsageError) as error:
        raise UsageError(f"{path} cannot be read as a table of names, a JSON object ({error})", "names") from error


def named_by(theirs: TensorFile, table: object) -> Named:
    """Renames the tensors of a file by a table, a JSON object: the file's name -> the name of docs/step_files.md.

    A matrix is transposed where ``.T`` follows that name. Raises UsageError for a table of something else, and for
    names that the file lacks, that a step does not have, or that two tensors would get.

    >>> named_by(TensorFile({"out": np.zeros(2)}), {"out": "Y/3/0"}).file.tensors
    {'Y/3/0': array([0., 0.])}
    """
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise UsageError(f"a table of names is a JSON object of texts, got {shown(table)}", "names")
    for name, ours in table.items():
        if name not in theirs.tensors:
            raise UsageError(f"{theirs.source} has no tensor {name!r}, which the table of names has", "names")
        if place(ours.removesuffix(TRANSPOSED)) is None:
            raise UsageError(
                f"{ours!r} is not the name of a tensor of a step, e.g. Y/3/0 (docs/step_files.md)", "names"
            )
        if ours.endswith(TRANSPOSED) and theirs.tensors[name].ndim != 2:
            shape = theirs.tensors[name].shape
            raise UsageError(f"{ours!r}: only matrices can be transposed, but {name!r} has shape {shape}", "names")
    found = [table[name].removesuffix(TRANSPOSED) if name in table else name for name in theirs.tensors]
    if twice := next((name for i, name in enumerate(found) if name in found[:i]), None):
        raise UsageError(f"two tensors of {theirs.source} would be {twice!r}", "names")
    return _renamed(theirs, table, (f"{len(table)} tensors named by the table",))


def matched(theirs: TensorFile, ours: TensorFile) -> Named:
    """Names the tensors of a file that have none of a step's names, by shape and value.

    A tensor gets a name of ours if it is equal in every bit, or if each of the two is the nearest of the other and
    every other is ``APART`` times as far. Where several of ours are equal in every bit, as many equal ones of theirs
    get their names. A matrix (N, K) that gets no name so is compared with ours of shape (K, N), N != K: of square
    matrices another layout could not be told from a defect. Every other tensor has a note, and no name.
    """
    strangers = [
        name for name, array in theirs.tensors.items()
        if place(name) is None and name != "loss_scale" and array.dtype.kind == "f"
    ]  # fmt: skip
    has_sums = any(name.startswith("G/") for name in ours.tensors)
    kinds = {*STORED, "next_master"} - ({"GX"} if has_sums else set())
    wanted = [name for name in ours.tensors if name.split("/")[0] in kinds and name not in theirs.tensors]
    if not strangers or not wanted:
        return Named(theirs)
    names: dict[str, str] = {}
    notes: list[str] = []
    by_shape = _by_shape(wanted, ours)
    for shape, group in _by_shape(strangers, theirs).items():
        candidates = by_shape.get(shape, [])
        found, said = _match(_samples(group, theirs), _samples(candidates, ours))
        names |= found
        notes += said
    turned = _transposed(theirs, ours, [name for name in strangers if name not in names], by_shape, names)
    notes = [note for note in notes if note.split(" was not matched")[0] not in turned]
    names |= turned
    alike = sum(_content(theirs, name, found) == ours.tensors[_plain(found)].tobytes() for name, found in names.items())
    first = ", ".join(f"{name} is {found}" for name, found in list(names.items())[:LISTED])
    text = (
        f"{len(names)} of {len(strangers)} tensors with other names were matched by shape and value, {alike} of them "
    )
    told = [f"{text}equal in every bit{f': {first}' if names else ''}{', ...' if len(names) > LISTED else ''}"]
    more = [f"and {len(notes) - LISTED} more tensors were not matched"] if len(notes) > LISTED else []
    return _renamed(theirs, names, (*told, *notes[:LISTED], *more))


def _plain(name: str) -> str:
    return name.removesuffix(TRANSPOSED)


def _content(file: TensorFile, name: str, found: str) -> bytes:
    """The bytes of a tensor that has the name ``found``."""
    array = file.tensors[name]
    return (array.T if found.endswith(TRANSPOSED) else array).tobytes()


def _transposed(
    theirs: TensorFile, ours: TensorFile, left: list[str], by_shape: Mapping[tuple[int, ...], list[str]],
    names: Mapping[str, str],
) -> dict[str, str]:  # fmt: skip
    """Names for matrices ``left`` of theirs whose transposed ones are ours, among those that no other tensor has."""
    found: dict[str, str] = {}
    matrices = [name for name in left if theirs.tensors[name].ndim == 2]
    file = replace(theirs, tensors={name: theirs.tensors[name].T for name in matrices})
    for shape, group in _by_shape(matrices, file).items():
        candidates = [name for name in by_shape.get(shape, []) if name not in names.values()]
        if len(shape) == 2 and shape[0] != shape[1] and candidates:
            matching, _ = _match(_samples(group, file), _samples(candidates, ours))
            found |= {name: same + TRANSPOSED for name, same in matching.items()}
    return found


class _Sample(NamedTuple):
    """A tensor's name, shape, bytes, and some of its elements."""

    name: str
    shape: tuple[int, ...]
    content: bytes
    few: Array
    size: int


def _samples(names: Iterable[str], file: TensorFile) -> list[_Sample]:
    found = []
    for name in names:
        array = np.ascontiguousarray(file.tensors[name])
        flat = array.reshape(-1)[:: -(-array.size // SAMPLE) or 1].astype(np.float64)
        found.append(_Sample(name, array.shape, array.tobytes(), np.nan_to_num(flat), array.size))
    return found


def _by_shape(names: Iterable[str], file: TensorFile) -> dict[tuple[int, ...], list[str]]:
    """Names by shape, without axes of one element."""
    found: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name in names:
        found[tuple(size for size in file.tensors[name].shape if size != 1)].append(name)
    return found


def _match(theirs: list[_Sample], ours: list[_Sample]) -> tuple[dict[str, str], list[str]]:
    """Names for tensors of one shape, and notes on those that get none."""
    if not ours:
        return {}, [f"{each.name} was not matched: no tensor has shape {each.shape}" for each in theirs]
    names: dict[str, str] = {}
    notes: list[str] = []
    of_content: dict[bytes, list[str]] = defaultdict(list)
    for sample in ours:
        of_content[sample.content].append(sample.name)
    equal: dict[bytes, list[str]] = defaultdict(list)
    for sample in theirs:
        equal[sample.content].append(sample.name)
    for content, given in equal.items():
        wanted = of_content.get(content, [])
        if len(given) >= len(wanted):
            names |= dict(zip(given, wanted, strict=False))
    apart = _distances(theirs, ours)
    for i, sample in enumerate(theirs):
        if sample.name in names:
            continue
        order = np.argsort(apart[i], kind="stable")
        best = int(order[0])
        nearest = [ours[int(j)].name for j in order if apart[i, j] <= APART * apart[i, best]]
        near = apart[i, best] < (NEAR if sample.size >= FEW else NEAR_FEW)
        rivals = np.delete(apart[:, best], i)
        alone = len(nearest) == 1 and bool((rivals > APART * apart[i, best]).all())
        if near and alone and apart[i, best] > 0:
            names[sample.name] = ours[best].name
        elif near:
            notes.append(f"{sample.name} was not matched: it may be {' or '.join(nearest[:3])}, or another tensor is")
        else:
            notes.append(f"{sample.name} was not matched: no tensor of its shape {sample.shape} is near it")
    return names, notes


def _distances(theirs: list[_Sample], ours: list[_Sample]) -> Array:
    """The norm of each difference over the norm of ours."""
    found = np.empty((len(theirs), len(ours)))
    with np.errstate(all="ignore"):
        for j, sample in enumerate(ours):
            norm = float(np.linalg.norm(sample.few))
            for i, other in enumerate(theirs):
                distance = float(np.linalg.norm(other.few - sample.few))
                found[i, j] = distance / norm if norm else (0.0 if distance == 0 else np.inf)
    return np.nan_to_num(found, nan=np.inf, posinf=np.inf)


def _renamed(file: TensorFile, names: Mapping[str, str], notes: tuple[str, ...]) -> Named:
    tensors = {}
    for name, array in file.tensors.items():
        turned = names.get(name, "").endswith(TRANSPOSED)
        tensors[_plain(names[name]) if name in names else name] = np.ascontiguousarray(array.T) if turned else array
    types = {_plain(names[name]) if name in names else name: kind for name, kind in file.types.items()}
    return Named(replace(file, tensors=tensors, types=types), dict(names), notes)
