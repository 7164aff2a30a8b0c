"""Runs a target of Hypothesis for some seconds."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

#: After this many examples Hypothesis begins anew. From the eleventh on, five of six examples would be earlier ones in
#: which one part is copied to another place. A fixed seed would keep Hypothesis from storing failing examples.
ROUND = 10


class Over(KeyboardInterrupt):
    """The time is over. Hypothesis passes it on at once, as it does Ctrl-C."""


def search_examples(
    target: Callable[[st.DataObject], None],
    seconds: float,
    folder: Path,
    report: Callable[[str], None],
    shrink: bool,
    most: int | None = None,
) -> int:
    """Draws examples until the time is over or one fails; failing ones stay in the folder, and are tried first.

    Without ``shrink`` the first failure is reported as it is found. Returns the number of examples, at most ``most``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline, counted, failed = time.monotonic() + seconds, 0, False
    phases = [Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])]

    def one(data: st.DataObject) -> None:
        nonlocal counted, failed
        if not failed and (time.monotonic() > deadline or counted == most):
            raise Over
        counted += 1
        try:
            target(data)
        except Exception as error:  # Hypothesis ends drawings by BaseException or its own errors
            failed = failed or not type(error).__module__.startswith("hypothesis")
            raise

    while time.monotonic() < deadline:
        options = settings(
            max_examples=ROUND, deadline=None, database=DirectoryBasedExampleDatabase(folder), phases=phases,
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=True,
        )  # fmt: skip
        try:
            options(given(st.data())(one))()
        except Over:
            break
        except BaseException as error:
            notes = "\n".join(getattr(error, "__notes__", []))
            report(f"{''.join(traceback.format_exception(error))[-2500:]}\n{notes[-4000:]}")
            return counted
    return counted
