"""The types of what JSON holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | float | None

#: A JSON object that is made here, field by field.
Record: TypeAlias = dict[str, Json]
