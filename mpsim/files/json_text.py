"""Reads JSON that others wrote. Everything that is wrong with it is one kind of error."""

from __future__ import annotations

import json
import re
from typing import Any

from mpsim import checks
from mpsim.errors import UsageError

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def decoded(content: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        UsageError: It is not JSON in UTF-8, is nested too deeply for Python, has a name twice in one object, or has a
            number of more than 4,300 digits or a text that Unicode does not have.

    >>> decoded('{"batch": 1}')
    {'batch': 1}
    >>> decoded("[" * 100_000)
    Traceback (most recent call last):
        ...
    mpsim.errors.UsageError: it is nested too deeply
    """
    if not isinstance(content, str | bytes):  # a value of another JSON text, or of a database
        raise UsageError(f"it is not a JSON text, but {checks.shown(content)}")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise UsageError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"it is not JSON: line {error.lineno} column {error.colno}: {error.msg}") from None
    except ValueError as error:
        raise UsageError(f"it is not JSON ({error})") from None
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ValueError(f"it has {checks.shown(twice)} twice")
    return found
