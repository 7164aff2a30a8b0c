"""Training in FP8 as tensor cores compute it: E4M3 activations and weights, E5M2 gradients, instructions' sums."""

from __future__ import annotations

import numpy as np
import pytest
from training_samples import BATCH, is_on_grid

from mpsim.formats import FORMATS
from mpsim.kernels.spec_dot import dot
from mpsim.products.tensor_cores import accumulator_of
from mpsim.validate import record_step

pytest.importorskip("ml_dtypes", reason="the test extra is not installed")

#: Forward E4M3 by E4M3, by weight E4M3 activations by E5M2 gradients, both with the sums of Hopper's wgmma; by input in
#: mpsim's own order.
BY_WEIGHT = "hopper_wgmma_float8_e4m3fn_float8_e5m2"
RECIPE = f"forward=hopper_wgmma_float8_e4m3fn;weight_gradient={BY_WEIGHT}"
#: Of the masters after two steps, computed by the reference backend.
DIGEST = "6adb6b235e230aac11f0946b85f758cee5faf599b69ffd44dde4bfd9e28d1c4a"
#: The same with mpsim's own order everywhere.
USUAL = "946f8ace2cd5a05a44ff27b7012d24bed736f453a017509f1f74960f92008fab"


def trainer_of(make, backend, accumulator=RECIPE):
    return make("uniform_low", levels="fp8_ocp", accumulator=accumulator, backend=backend, loss_scale=1024.0)


@pytest.mark.parametrize("backend", ["reference", "numba", "compiled"])
@pytest.mark.parametrize(("accumulator", "digest"), [(RECIPE, DIGEST), ("chunk=256", USUAL)])
def test_one_digest(make, batches, backend, accumulator, digest):
    trainer = trainer_of(make, backend, accumulator)
    reports = [trainer.step(*batch) for batch in batches[:2]]
    assert not any(report.skipped for report in reports)
    assert trainer.digest() == digest


def test_single_elements_are_the_definition(make, batches):
    """Sums in fractions: an output of the second convolution, and one weight's gradient there and in the last layer."""
    tensors = record_step(trainer_of(make, "compiled"), *batches[0]).tensors
    x, w, gradient = np.pad(tensors["Y/4/0"], ((0, 0), (0, 0), (1, 1), (1, 1))), tensors["P/5/0"], tensors["G/5/0"]
    for activation in (x, w, tensors["Y/11/0"]):
        assert is_on_grid(activation, FORMATS["float8_e4m3fn"])
    for other in (gradient, tensors["G/12/0"]):
        assert is_on_grid(other, FORMATS["float8_e5m2"]) and np.abs(other).max() > 0
    forward, by_weight = accumulator_of("hopper_wgmma_float8_e4m3fn"), accumulator_of(BY_WEIGHT)

    def defined(activations, others, product):
        return dot(activations.ravel().tolist(), others.ravel().tolist(), product)

    assert tensors["unrounded/Y/5/0"][3, 5, 1, 2] == defined(x[3, :, 1:4, 2:5], w[5], forward)
    height, width = gradient.shape[2:]
    met = x[:, 2, 0:height, 2 : 2 + width]  # by the weight at row 0, column 2 of channel 2
    assert tensors["unrounded/GP/5/0"][5, 2, 0, 2] == defined(met, gradient[:, 5], by_weight) != 0
    last = tensors["Y/11/0"].reshape(BATCH, -1)[:, 7]
    assert tensors["unrounded/GP/12/0"][1, 7] == defined(last, tensors["G/12/0"][:, 1], by_weight) != 0
