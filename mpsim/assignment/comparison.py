"""Compares two plans for one network by role and by op."""

from __future__ import annotations

from dataclasses import dataclass

from mpsim.assignment.plan import Plan
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.formats import Format


@dataclass(frozen=True)
class Comparison:
    """The result of ``compare``. ``changed`` maps each tensor whose format differs to its two formats."""

    first: Plan
    second: Plan
    changed: dict[TensorId, tuple[Format, Format]]

    @property
    def changed_elements(self) -> int:
        return sum(self.first.elements[tensor] for tensor in self.changed)

    def to_dict(self) -> Record:
        """Returns the comparison as JSON types."""
        return {
            "low_share": [self.first.low_share, self.second.low_share],
            "bytes": [self.first.bytes, self.second.bytes],
            "changed_elements": self.changed_elements,
            "changed": [
                {"op": id.op, "role": id.role, "index": id.index, "formats": [first.name, second.name]}
                for id, (first, second) in self.changed.items()
            ],
        }

    def table(self) -> str:
        """Returns readable text: one line with the totals, then one line for each op and change."""
        first, second = self.first, self.second
        lines = [
            f"share low {first.low_share:.2%} -> {second.low_share:.2%}, bytes {first.bytes:,} -> {second.bytes:,}; "
            f"{len(self.changed)} of {len(first.elements)} tensors differ, {self.changed_elements:,} elements"
        ]
        rows: dict[tuple[int, str, str], list[str]] = {}
        for id, (ours, theirs) in self.changed.items():
            rows.setdefault((id.op, ours.name, theirs.name), []).append(id.role)
        for (op, before, after), roles in rows.items():
            shown = ", ".join(role for role in ROLES if role in roles)
            lines.append(f"{first.network.ops[op].name:28} {before} -> {after}: {shown}")
        return "\n".join(lines)


def compare(first: Plan, second: Plan) -> Comparison:
    """Lists how ``second`` differs from ``first``.

    Raises:
        ValueError: The plans are for different networks. The message names the difference.

    >>> import reference_models
    >>> from mpsim.assignment import uniform
    >>> from mpsim.trace import trace
    >>> small = trace(reference_models.build("small_cnn"))
    >>> compare(uniform(small, "high"), uniform(small, "low")).table().splitlines()[1]
    'input                        fp_6_9_0 -> fp_4_3_4: activation'
    """
    if first.network != second.network:
        for what in ("model", "width", "classes", "batch", "semantics", "ops", "groups"):
            ours, theirs = getattr(first.network, what), getattr(second.network, what)
            if ours != theirs:
                shown = f"is {ours!r} and {theirs!r}" if isinstance(ours, str | int | float) else "differs"
                raise UsageError(f"the plans are for different networks: {what} {shown}")
    differ = {
        tensor: (format, second.formats[tensor])
        for tensor, format in first.formats.items()
        if tensor in second.formats and format != second.formats[tensor]
    }
    if first.elements != second.elements:
        raise UsageError("the plans are for different networks: their tensors differ")
    return Comparison(first, second, differ)
