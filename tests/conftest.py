"""Hypothesis profiles and the backends that every test of kernels runs over."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from mpsim.kernels import BACKENDS, BackendUnavailable, load

common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("dev", max_examples=50, **common)
settings.register_profile("ci", max_examples=100, derandomize=True, database=None, print_blob=True, **common)
settings.register_profile("intense", max_examples=5000, **common)
settings.load_profile("dev")  # another: pytest --hypothesis-profile=intense


def available(name: str) -> str:
    """The name of a backend; the test is skipped, with the cause in sight, where it cannot run."""
    try:
        load(name)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    return name


#: Those whose arrays are NumPy's; kernels/test_cuda.py and mpsim.kernels.cuda_check run the kernels of "cuda".
ON_HOST = [name for name in BACKENDS if name != "cuda"]


@pytest.fixture(scope="session", params=ON_HOST)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return available(request.param)


@pytest.fixture(scope="session", params=[name for name in ON_HOST if name != "reference"])
def fast_backend(request: pytest.FixtureRequest) -> str:
    """Each backend but the reference, which the others are compared with."""
    return available(request.param)
