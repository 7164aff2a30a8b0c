"""Threads of the C extension soon sleep where they wait, unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("mpsim._kernels", reason="the extension is not built")
PROGRAM = "import os, mpsim; print({name: os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')})"


def loaded(**settings: str) -> tuple[str, str]:
    """What GCC's OpenMP says of its settings when it is loaded, and the environment after it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | settings
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("the extension was not built with GCC's OpenMP")
    return done.stderr, done.stdout


def test_they_soon_sleep_by_default_and_the_environment_is_as_before() -> None:
    said, environment = loaded()
    assert "GOMP_SPINCOUNT = '2000'" in said
    assert environment == "{'OMP_WAIT_POLICY': None, 'GOMP_SPINCOUNT': None}\n"


def test_the_users_settings_hold() -> None:
    said, _ = loaded(OMP_WAIT_POLICY="passive")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said and "GOMP_SPINCOUNT = '0'" in said
    said, environment = loaded(GOMP_SPINCOUNT="77")
    assert "GOMP_SPINCOUNT = '77'" in said and environment == "{'OMP_WAIT_POLICY': None, 'GOMP_SPINCOUNT': '77'}\n"
