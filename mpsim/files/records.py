"""Defines the types of JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | float | None

#: A JSON object that mpsim builds field by field.
Record: TypeAlias = dict[str, Json]

#: A decoded JSON object, or a result with such fields. The type checker does not know the types of its values.
Fields: TypeAlias = dict[str, Any]
