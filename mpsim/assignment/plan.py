"""Defines plans. A plan gives every tensor of a training step a format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mpsim.assignment import plan_fields as fields
from mpsim.assignment.levels import Levels
from mpsim.assignment.network import Network
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.files.whole import write_whole
from mpsim.formats import Format, as_format
from mpsim.process import in_default_environment
from mpsim.trace import Trace


class PlanMismatch(UsageError):
    """A plan is for a different network, batch or semantics. The message says what differs.

    >>> import reference_models
    >>> from mpsim import Trainer, assignment, trace
    >>> small, wide = (reference_models.build("small_cnn", width=width) for width in (0.25, 0.5))
    >>> try:
    ...     Trainer(wide, assignment.uniform(trace(small, batch=2), "low"))
    ... except PlanMismatch as error:
    ...     print(str(error).partition(":")[0])
    the plan is for a different network, batch or semantics
    """


@dataclass(frozen=True, repr=False)
class Plan:
    """Assigns a format to every tensor of one training step (paper §3.1).

    Args:
        network: The network, batch and semantics that the plan is for.
        scheme: The name of the assignment.
        levels: The formats that the assignment chose from.
        formats, elements: The format and the number of elements of each tensor, in the order of the trace.
        ratio, seed, k, ratios: The options of the assignment, None where it has no such option.
        chosen_groups: The ids of the demoted groups in the order they were chosen. None if the assignment does not
            choose groups.
        promoted: The tensors that were raised, in order.
        groups_per_step: For ``demote_in_steps``, how many groups were chosen for each level, from the lowest level.

    Raises:
        ValueError: ``formats`` and ``elements`` have different tensors.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> from mpsim.assignment import demote
    >>> plan = demote(trace(reference_models.build("small_cnn"), batch=16), 0.5)
    >>> plan.reached >= 0.5
    True
    """

    network: Network
    scheme: str
    levels: Levels
    formats: Mapping[TensorId, Format]
    elements: Mapping[TensorId, int]
    ratio: float | None = None
    seed: int | None = None
    k: int | None = None
    chosen_groups: tuple[int, ...] | None = None
    promoted: tuple[TensorId, ...] = ()
    ratios: tuple[float, ...] | None = None
    groups_per_step: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.formats.keys() != self.elements.keys():
            raise UsageError("a plan needs the same tensors in formats and in elements")

    @classmethod
    @in_default_environment
    def of(cls, trace: Trace, formats: Mapping[TensorId, Format], scheme: str, levels: Levels, **options: Any) -> Plan:
        """Returns the plan with these formats for the tensors of ``trace``. ``options`` are the plan's other fields."""
        elements = {tensor.id: int(tensor.elements) for tensor in trace.tensors}
        ordered = {tensor: formats[tensor] for tensor in elements}
        return cls(Network.of(trace), scheme, levels, ordered, elements, **options)

    # -- cost -----------------------------------------------------------------------------------------------
    @cached_property
    def total_elements(self) -> int:
        return sum(self.elements.values())

    @cached_property
    def bits(self) -> int:
        """Counts the bits of all tensors in this plan's formats (B of the paper's ratio)."""
        return sum(count * self.formats[tensor].bits for tensor, count in self.elements.items())

    @cached_property
    def bits_all_high(self) -> int:
        """Counts the bits of all tensors in their high formats (A of the paper's ratio)."""
        return sum(count * self.levels.high[tensor.role].bits for tensor, count in self.elements.items())

    @property
    def rounds(self) -> bool:
        """Returns whether any tensor has a format other than float32."""
        return any(format.name != "float32" for format in self.formats.values())

    @property
    def bytes(self) -> int:
        return -(-self.bits // 8)

    @cached_property
    @in_default_environment
    def low_share(self) -> float:
        """Returns the share of elements in low tensors (``Levels.holds_low``), from 0 to 1.

        If all high formats have H bits and all low tensors L bits, it equals (A - B) / A * H / (H - L) with
        A = ``bits_all_high`` and B = ``bits``. For 16 and 8 bits that is (A - B) / A * 2, the low-precision ratio of
        the paper (§3.1).
        """
        low = sum(count for tensor, count in self.elements.items() if self.is_low(tensor))
        return low / self.total_elements

    @property
    @in_default_environment
    def reached(self) -> float | None:
        """Returns the chosen groups' share of all elements. It includes parameter gradients, which may stay high."""
        if self.chosen_groups is None:
            return None
        return sum(self.network.groups[group] for group in self.chosen_groups) / self.total_elements

    def is_low(self, tensor: TensorId) -> bool:
        return self.levels.holds_low(tensor.role, self.formats[tensor])

    # -- other plans ----------------------------------------------------------------------------------------
    def raised(self, tensors: Iterable[TensorId]) -> Plan:
        """Returns this plan with the given tensors one level up (``Levels.raised``) and appended to ``promoted``."""
        named = tuple(TensorId(*tensor) for tensor in tensors)
        for tensor in named:
            if tensor not in self.formats:
                raise UsageError(f"{self!r} has no tensor {tensor}")
        above = {tensor: self.levels.raised(tensor.role, self.formats[tensor]) for tensor in named}
        return replace(self, formats={**self.formats, **above}, promoted=self.promoted + named)

    def with_formats(self, formats: Mapping[TensorId, str | Format]) -> Plan:
        """Returns this plan with the given formats for the given tensors. They need not belong to a level."""
        for tensor in formats:
            if tensor not in self.formats:
                raise UsageError(f"{self!r} has no tensor {tensor}")
        given = {TensorId(*tensor): as_format(format) for tensor, format in formats.items()}
        return replace(self, formats={**self.formats, **given})

    def at_batch_of(self, trace: Trace) -> Plan:
        """Returns this plan for the batch of ``trace``, a trace of the same network.

        The formats stay the same. Elements and groups, and therefore bytes and shares, are those of the new batch.

        Raises:
            PlanMismatch: The trace is of a different network. The message says what differs.

        >>> import reference_models
        >>> from mpsim.trace import trace
        >>> from mpsim.assignment import uniform
        >>> model = reference_models.build("small_cnn")
        >>> small, large = (uniform(trace(model, batch), "low") for batch in (32, 128))
        >>> large.at_batch_of(trace(model, 32)).bytes == small.bytes
        True
        """
        self._check_ops(found := Network.of(trace))
        elements = {tensor.id: int(tensor.elements) for tensor in trace.tensors}
        for tensor in {**self.elements, **elements}:
            self._compare(f"whether there is {tensor}", tensor in self.elements, tensor in elements)
        formats = {tensor: self.formats[tensor] for tensor in elements}
        return replace(self, network=found, formats=formats, elements=elements)

    @in_default_environment
    def check(self, trace: Trace) -> None:
        """Checks that the plan is for this trace.

        Raises:
            PlanMismatch: The network, batch or semantics differ. The message says what differs.
        """
        self._check_ops(found := Network.of(trace))
        self._compare("batch", self.network.batch, found.batch)
        elements = {tensor.id: int(tensor.elements) for tensor in trace.tensors}
        for tensor in {**self.elements, **elements}:
            self._compare(f"elements of {tensor}", self.elements.get(tensor), elements.get(tensor))

    def _check_ops(self, found: Network) -> None:
        for what in ("model", "width", "classes", "semantics"):
            self._compare(what, getattr(self.network, what), getattr(found, what))
        for ours, theirs in zip(self.network.ops, found.ops, strict=False):
            self._compare(f"op {ours.index}", ours, theirs)
        self._compare("number of ops", len(self.network.ops), len(found.ops))

    def _compare(self, what: str, planned: object, found: object) -> None:
        if planned != found:
            raise PlanMismatch(
                f"the plan is for a different network, batch or semantics: {what} is {planned!r} in the plan and "
                f"{found!r} here; compute a plan for this one (mpsim plan, or mpsim.assignment on its trace)"
            )

    # -- text -----------------------------------------------------------------------------------------------
    @in_default_environment
    def to_dict(self) -> Record:
        """Returns the plan as docs/plan.schema.json describes it, with ``tensors`` in the order of the trace."""
        network = self.network
        in_steps = {} if self.ratios is None else {"ratios": list(self.ratios)}
        if self.groups_per_step is not None:
            in_steps["groups_per_step"] = list(self.groups_per_step)
        return {
            "mpsim_plan": fields.VERSION,
            "model": network.model,
            "width": network.width,
            "classes": network.classes,
            "batch": network.batch,
            "scheme": self.scheme,
            "ratio": self.ratio,
            "seed": self.seed,
            "k": self.k,
            "semantics": network.semantics,
            "levels": fields.levels_to_dict(self.levels),
            "formats": fields.formats_to_dict(self.formats.values(), self.levels),
            "ops": [asdict(op) | {"producers": list(op.producers)} for op in network.ops],
            "groups": list(network.groups),
            "chosen_groups": None if self.chosen_groups is None else list(self.chosen_groups),
            **in_steps,
            "reached": self.reached,
            "low_share": self.low_share,
            "total_elements": self.total_elements,
            "bits": self.bits,
            "bits_all_high": self.bits_all_high,
            "promoted": [tensor._asdict() for tensor in self.promoted],
            "tensors": [
                tensor._asdict() | {"elements": count, "format": self.formats[tensor].name}
                for tensor, count in self.elements.items()
            ],
        }

    @in_default_environment
    def to_json(self, path: str | Path | None = None) -> str:
        """Returns the plan as JSON text, and writes it to ``path`` if there is one."""
        text = fields.one_row_a_line(self.to_dict())
        if path is not None:
            write_whole(path, text.encode())
        return text

    @classmethod
    @in_default_environment
    def from_json(cls, text: str | Mapping[str, object]) -> Plan:
        """Reads a plan from its JSON text or from the decoded object.

        Derived figures (low_share, reached, bits) are not read but recomputed, so that a plan may be edited by hand.

        Raises:
            ValueError: A field is missing or wrong. The message names the field.
        """
        record = text if isinstance(text, Mapping) else fields.decoded(text)
        fields.check_version(record)
        formats, network = fields.formats(record), fields.network(record)
        by_tensor, elements = fields.tensors(record, formats, network)
        return cls(
            network,
            scheme=fields.take(record, "scheme", str),
            levels=fields.levels(record, formats),
            formats=by_tensor,
            elements=elements,
            ratio=fields.ratio(record),
            seed=fields.take(record, "seed", int, None, None),
            k=fields.take(record, "k", int, None, None),
            chosen_groups=fields.chosen_groups(record, network),
            promoted=fields.promoted(record, network),
            ratios=fields.ratios(record),
            groups_per_step=fields.groups_per_step(record),
        )

    def __repr__(self) -> str:
        network = self.network
        options = [f"{name}={value}" for name in ("ratio", "seed", "k") if (value := getattr(self, name)) is not None]
        if self.ratios is not None:
            options.append(f"ratios={','.join(format(ratio, 'g') for ratio in self.ratios)}")
        chosen = ""
        if self.chosen_groups is not None:
            chosen = f", {len(self.chosen_groups)} of {len(network.groups)} groups"
        promoted = f", {len(self.promoted)} promoted" if self.promoted else ""
        return (
            f"Plan({network.model} width {network.width:g}, {network.classes} classes, batch {network.batch}: "
            f"{' '.join([self.scheme, *options])}, levels {self.levels}, {self.low_share:.1%} low{chosen}{promoted}, "
            f"{self.bytes:,} bytes)"
        )

    @in_default_environment
    def table(self) -> str:
        """Returns readable text with elements and bytes by role and format."""
        sums: dict[tuple[str, str], list[int]] = {}
        for tensor, count in self.elements.items():
            format = self.formats[tensor]
            row = sums.setdefault((tensor.role, format.name), [0, 0])
            row[0] += count
            row[1] += count * format.bits
        lines = [f"{'role':20} {'format':16} {'elements':>14} {'bytes':>14} {'share':>7}"]
        for (role, name), (count, bits) in sorted(sums.items(), key=lambda item: ROLES.index(item[0][0])):
            share = count / self.total_elements
            lines.append(f"{role:20} {name:16} {count:14,} {-(-bits // 8):14,} {share:7.2%}")
        return "\n".join(lines)
