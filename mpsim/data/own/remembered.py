"""Keeps what was read last, and digests, by what determines them."""

from __future__ import annotations

from collections.abc import Callable

from mpsim.data.dataset import LabelledImages
from mpsim.data.digests import digest_of_splits

Parts = tuple[LabelledImages, LabelledImages]
Key = tuple[object, ...]

#: The data that were read last. Both parts are requested one after the other, often twice.
_last: dict[Key, Parts] = {}
_digests: dict[Key, str] = {}


def parts(key: Key, read: Callable[[], Parts]) -> Parts:
    """Returns the result of ``read()``, or of an earlier call for the same key if no other was read since.

    >>> parts(("some", 1), lambda: ("train", "test"))[1], parts(("some", 1), lambda: None)[1]
    ('test', 'test')
    """
    if key not in _last:
        _last.clear()
        _last[key] = read()
    return _last[key]


def digest(key: Key, read: Callable[[], Parts]) -> str:
    """Returns the digest of the data of a key."""
    if key not in _digests:
        _digests[key] = digest_of_splits(*parts(key, read))
    return _digests[key]


def digests() -> dict[Key, str]:
    """Returns all digests that this process knows, for ``learn`` in another one."""
    return dict(_digests)


def learn(known: dict[Key, str]) -> None:
    """Adds digests that another process computed."""
    _digests.update(known)


def forget() -> None:
    """Forgets everything, as in a new process."""
    _last.clear()
    _digests.clear()
