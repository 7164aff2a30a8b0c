"""``python -m bench.hardware.alike FOLDER`` lists accumulators that recorded dot products do not distinguish from the
fitted ones.

It changes each field of an accumulator separately, and computes every product of a subject with each value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpsim.errors import UsageError
from mpsim.products.accumulators import Accumulator
from mpsim.products.sums import DIRECTED
from mpsim.products.tensor_cores import accumulator_of
from mpsim.validate.dot.orders.candidates import effective
from mpsim.validate.dot.orders.separability import inseparable
from mpsim.validate.dot.vectors import read_dot_vectors

#: Field -> the values to try.
VALUES: dict[str, Sequence[Any]] = {
    "fraction_bits": range(1, 46),
    "least_alignment": (None, *range(-180, 33)),
    "terms": range(1, 65),
    "chunk": (*range(1, 513), None),
    "rounding": DIRECTED,
    "format": ("float32", "fp_8_22_0", "fp_8_13_0", "fp_8_10_0", "float16", "bfloat16"),
}


@dataclass(frozen=True)
class Alike:
    """A field of a subject's accumulator. values: those that give every result of its file, including the fitted one.

    proved: those of them that no input of that length distinguishes from the fitted one."""

    subject: str
    field: str
    fitted: Any
    values: tuple[Any, ...]
    proved: tuple[Any, ...]

    @property
    def missed(self) -> tuple[Any, ...]:
        """Values that the file does not distinguish from the fitted one, although an input might."""
        return tuple(value for value in self.values if value not in self.proved)


def alike(entry: Mapping[str, Any], folder: Path) -> list[Alike]:
    """Returns, by field, the values that a subject's files do not distinguish from the fitted accumulator."""
    fitted = accumulator_of(entry["fitted"])
    vectors = [read_dot_vectors(folder / name) for name in entry["files"] if name.endswith(".npz")]
    vectors.sort(key=lambda each: len(each.a))
    length = max(each.length for each in vectors)

    # The products that rejected an accumulator usually reject the next one too, so they are computed first.
    deciding: dict[int, list[int]] = {}

    def rejected_at_once(other: Accumulator) -> bool:
        few = (vectors[file].only(rows) for file, rows in deciding.items())
        return any(each.first_not_given_by(other) is not None for each in few)

    def gives_all(other: Accumulator) -> bool:
        if effective(other, length) == effective(fitted, length):
            return True
        if rejected_at_once(other):
            return False
        for file, each in enumerate(vectors):
            row = each.first_not_given_by(other)
            if row is not None:
                deciding.setdefault(file, []).append(row)
                return False
        return True

    found = []
    for field, values in VALUES.items():
        others = {value: other for value in values if (other := _changed(fitted, field, value))}
        equal = [value for value, other in others.items() if inseparable(fitted, other, entry["inputs"], length)]
        same = tuple(value for value, other in others.items() if value in equal or gives_all(other))
        wrong = [value for value in equal if rejected_at_once(others[value])]
        assert not wrong, f"{field}: no input should separate {wrong} from the fitted value, but {entry['name']} does"
        found.append(Alike(entry["name"], field, getattr(fitted, field), same, tuple(equal)))
    return found


def _changed(fitted: Accumulator, field: str, value: Any) -> Accumulator | None:
    try:
        return replace(fitted, **{field: value})
    except UsageError:  # more bits than float64 has
        return None


def table(folder: Path) -> Iterator[str]:
    """Yields Markdown, with one line for all subjects that have the same cells."""
    manifest = json.loads((folder / "manifest.json").read_text())
    rows: dict[str, list[str]] = {}
    for entry in manifest["subjects"]:
        if entry.get("kind") == "dot" and entry["pack_mismatches"] == 0:
            cells = [cell(each) for each in alike(entry, folder)]
            rows.setdefault(" | ".join(cells), []).append(entry["name"])
    yield f"| subject | {' | '.join(field.replace('_', ' ') for field in VALUES)} |"
    yield "|---" * (1 + len(VALUES)) + "|"
    for cells_, names in rows.items():
        yield f"| {', '.join(f'`{name}`' for name in names)} | {cells_} |"


def cell(found: Alike) -> str:
    """Returns the fitted value, the values not distinguished from it, and in parentheses those that no input can."""
    proved = [value for value in found.proved if value != found.fitted]
    text = _word(found.fitted)
    missed = found.missed
    text += f"; **{ranges(missed, VALUES[found.field])}**" if missed else ""
    return text + (f" ({ranges(proved, VALUES[found.field])})" if proved else "")


def ranges(values: Sequence[Any], among: Sequence[Any]) -> str:
    """Lists values in the order of ``among``, with neighbours as "first to last"."""
    order = list(among)
    runs: list[list[Any]] = []
    for value in sorted(values, key=order.index):
        if runs and order.index(value) == order.index(runs[-1][-1]) + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    numbers = [run for run in runs if len(run) > 2]
    words = [f"{_word(run[0])} to {_word(run[-1])}" if run in numbers else ", ".join(map(_word, run)) for run in runs]
    return ", ".join(words)


def _word(value: Any) -> str:
    return "none" if value is None else str(value).replace("-", "−")


if __name__ == "__main__":
    print("\n".join(table(Path(sys.argv[1]))))
