"""Runs in the subject's process, which imports nothing else of mpsim: one call for all operations of a Python subject.

The first array is JSON text: the function's place and name, or the parameters with which a function makes it.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Functions by the text that asks for them.
_FOUND: dict[bytes, Callable[..., object] | None] = {}
_MODULES: dict[str, object] = {}
#: The answer where the subject does not have an operation: no array of results is as long.
ABSENT = 0xAB5E27


class Unusable(Exception):
    """The subject has no operation at all. The message says why."""


def call(request: np.ndarray[Any, Any], *arrays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The subject's answer to arrays of codes: integers, truth values as 0 and 1; or one ABSENT."""
    text = request.tobytes()
    if text not in _FOUND:
        _FOUND[text] = _function(json.loads(text))
    function = _FOUND[text]
    if function is None:
        return np.array([ABSENT, ABSENT], np.uint64)
    answer = np.asarray(function(*arrays))
    return answer.astype(np.uint8) if answer.dtype == bool else answer


def _function(asked: dict[str, Any]) -> Callable[..., object] | None:
    """The function that is asked for; None where the subject does not have it."""
    if (place := asked["place"]) not in _MODULES:
        try:
            _MODULES[place] = _worker().module(place)
        except _worker().WorkerError as error:
            raise (Unusable if asked["one_place"] else RuntimeError)(str(error)) from error
    module = _MODULES[place]
    if "parameters" not in asked:
        found: Callable[..., object] | None = getattr(module, asked["name"], None)
        return found
    make: Any = getattr(module, asked["name"], None)
    if not _takes(make, asked["parameters"]):
        names = ", ".join(asked["parameters"])
        raise Unusable(f"expected a function of {names} (docs/validating.md, 'You implement IEEE P3109')")
    try:
        made: Callable[..., object] | None = make(**asked["parameters"])
    except (NotImplementedError, KeyError):
        return None
    return made


def _takes(make: Any, parameters: dict[str, object]) -> bool:
    """Whether it is a function that can be called with these parameters."""
    try:
        inspect.signature(make).bind(**parameters)
    except ValueError:  # its signature is unknown
        return True
    except TypeError:
        return False
    return True


_WORKER: list[object] = []


def _worker() -> Any:
    """How subjects' modules are loaded: the file that runs subjects, which is not importable by name there."""
    if not _WORKER:
        place = Path(__file__).parents[1] / "subjects" / "worker.py"
        spec = importlib.util.spec_from_file_location("_mpsim_worker", place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _WORKER.append(module)
    return _WORKER[0]
