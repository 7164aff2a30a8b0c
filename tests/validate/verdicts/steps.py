"""Training steps for the verdict matrix: one taken by NumPy alone in float64, and what goes wrong in a step.

A step is a dict of arrays by the names of docs/step_files.md. ``taken`` computes a step of network.py from the masters,
velocities, images and labels of another; each row of STEPS gives the file of a program under test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
Step = dict[str, Array]
bfloat16, forward, backward = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
SCALE, RATE, MOMENTUM, DECAY = 65536.0, 0.1, 0.9, 5e-4
PARAMETERS = ("1/0", "1/1", "3/0", "3/1")
Round = Callable[[Array, Any], Array]


def nearest(x: Array, type: Any) -> Array:
    """float32 numbers of a narrower type: x rounded to float32, and that to the type, as a step stores it."""
    return x.astype(np.float32).astype(type).astype(np.float32)


def toward_zero(x: Array, type: Any) -> Array:
    near, x = nearest(x, type), x.astype(np.float32)
    lower = np.nextafter(near.astype(type), type(0)).astype(np.float32)
    return np.where(np.abs(near) > np.abs(x), lower, near)


class Defects(NamedTuple):
    """What the step does otherwise. ``output``: how the convolution's output is rounded. ``types``: of parameters and
    outputs, of gradients of outputs, and of gradients of parameters."""

    types: tuple[Any, Any, Any] = (forward, backward, bfloat16)
    scale: float = SCALE
    output: Round = nearest
    parameters: Round = nearest
    relu: Callable[[Array], Array] = lambda x: np.where(x > 0, x, 0)
    mask: Callable[[Array], Array] = lambda x: x > 0
    sums: Callable[[Array], Array] = lambda x: x
    loss_count: Callable[[int], float] = float
    softmax_stored: bool = True
    gradient: float = 1.0
    bias_images: slice = slice(None)


def taken(start: Mapping[str, Array], defects: Defects = Defects(), stale: bool = False) -> Step:
    """A step from the masters, velocities, images and labels of another, every op in float64. stale: the step uses the
    parameters as they were one step before."""
    kept = ("images", "labels", "master", "velocity")
    step = {name: array for name, array in start.items() if name.split("/")[0] in kept}
    for place in PARAMETERS:
        before = start[f"master/{place}"] + stale * RATE * start[f"velocity/{place}"]
        step[f"P/{place}"] = defects.parameters(before.astype(np.float32), defects.types[0])
    _forward(step, defects)
    _backward(step, defects)
    for place in PARAMETERS:
        step[f"next_master/{place}"] = updated(step, place, scale=defects.scale)
    return step


def _forward(step: Step, defects: Defects) -> None:
    low, _, _ = defects.types
    step["Y/0/0"] = nearest(step["images"], low)
    summed = np.einsum("nijkl,okl->noij", _windows(step["Y/0/0"]), _wide(step, "P/1/0")[:, 0])
    step["Y/1/0"] = defects.output(summed + _wide(step, "P/1/1").reshape(1, -1, 1, 1), low)
    step["Y/2/0"] = defects.relu(step["Y/1/0"]).astype(np.float32)
    flat = _wide(step, "Y/2/0").reshape(len(step["labels"]), -1)
    step["Y/3/0"] = nearest(flat @ _wide(step, "P/3/0").T + _wide(step, "P/3/1"), low)
    logits = _wide(step, "Y/3/0")
    logits = logits - logits.max(1, keepdims=True)
    step["Y/4/0"] = nearest(logits - np.log(np.exp(logits).sum(1, keepdims=True)), low)
    chosen = _wide(step, "Y/4/0")[np.arange(len(logits)), step["labels"]]
    step["Y/5/0"] = nearest(-chosen.mean(keepdims=True), low)


def _backward(step: Step, defects: Defects) -> None:
    _, narrow, high = defects.types
    count = len(step["labels"])
    loss = np.zeros((count, 10))
    loss[np.arange(count), step["labels"]] = -defects.scale / defects.loss_count(count)
    step["GX/5/0"] = loss.astype(np.float32)
    step["G/4/0"] = nearest(step["GX/5/0"], narrow)
    outputs = _wide(step, "Y/4/0")
    if not defects.softmax_stored:
        logits = _wide(step, "Y/3/0")
        outputs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    gradient = _wide(step, "G/4/0")
    step["GX/4/0"] = (gradient - np.exp(outputs) * gradient.sum(1, keepdims=True)).astype(np.float32)
    step["G/3/0"] = nearest(step["GX/4/0"], narrow)
    gradient = _wide(step, "G/3/0")
    product = defects.sums(gradient @ _wide(step, "P/3/0"))
    step["GX/3/0"] = product.reshape(step["Y/2/0"].shape).astype(np.float32)
    step["GP/3/0"] = nearest(defects.gradient * (gradient.T @ _wide(step, "Y/2/0").reshape(count, -1)), high)
    step["GP/3/1"] = nearest(gradient[defects.bias_images].sum(0), high)
    step["G/2/0"] = nearest(step["GX/3/0"], narrow)
    step["GX/2/0"] = np.where(defects.mask(step["Y/1/0"]), step["G/2/0"], 0).astype(np.float32)
    step["G/1/0"] = nearest(step["GX/2/0"], narrow)
    gradient = _wide(step, "G/1/0")
    weights = np.einsum("nijkl,noij->okl", _windows(step["Y/0/0"]), gradient)
    step["GP/1/0"] = nearest(weights[:, None], high)
    step["GP/1/1"] = nearest(gradient.sum((0, 2, 3)), high)


def _wide(step: Step, name: str) -> Array:
    return step[name].astype(np.float64)


def _windows(images: Array) -> Array:
    """(N, 6, 6, 3, 3) of images of one channel."""
    return np.lib.stride_tricks.sliding_window_view(images[:, 0].astype(np.float64), (3, 3), (1, 2))


# -- the update -------------------------------------------------------------------------------------------------


def updated(
    step: Mapping[str, Array], place: str, *, rate: float = RATE, momentum: float = MOMENTUM, decay: float = DECAY,
    scale: float = SCALE, master: str = "master", formula: str = "",
) -> Array:  # fmt: skip
    """The next master in float64, rounded once to float32."""
    begin, velocity, gradient = (step[f"{name}/{place}"].astype(np.float64) for name in (master, "velocity", "GP"))
    whole = gradient / scale + decay * begin
    change = momentum * velocity + whole
    if formula == "nesterov":
        change = momentum * change + whole
    if formula == "decay apart":  # the same number, of other roundings
        change = momentum * velocity + gradient / scale
        begin = begin - rate * decay * begin
    return np.asarray((begin - rate * change).astype(np.float32))


def with_masters(step: Step, change: Callable[[str], Array]) -> Step:
    """The step with other masters after it."""
    return {**step, **{f"next_master/{place}": change(place) for place in PARAMETERS}}


def with_changed(step: Step, name: str, place: tuple[int, ...], value: Callable[[Any], Any]) -> Step:
    array = step[name].copy()
    array[place] = value(array[place])
    return {**step, name: array}


def only(step: Step, *kinds: str) -> Step:
    return {name: array for name, array in step.items() if name.split("/")[0] in kinds}


def next_code(x: Any) -> Any:
    """The bfloat16 number after x."""
    return np.nextafter(x.astype(bfloat16), bfloat16(np.inf)).astype(np.float32)


def previous_code(x: Any) -> Any:
    """The bfloat16 number before x in magnitude."""
    return np.nextafter(x.astype(bfloat16), bfloat16(0)).astype(np.float32)


def next_forward(x: Any) -> Any:
    """The float8_e4m3fn number after x."""
    return np.nextafter(x.astype(forward), forward(448)).astype(np.float32)


def coarse(x: Array) -> Array:
    """As if the sums were kept in bfloat16."""
    return x.astype(np.float32).astype(bfloat16).astype(np.float64)


#: name -> the program's file, from mpsim's record of the same step
STEPS: dict[str, Callable[[Step], Step]] = {
    "same": dict,
    "numpy": taken,
    "stored_alone": lambda s: only(taken(s), "P", "Y", "GX", "G", "GP"),
    "float64": lambda s: {name: array.astype(np.float64) for name, array in s.items() if array.dtype != np.int64},
    "negative_zeros": lambda s: taken(s, Defects(relu=lambda x: np.where(x > 0, x, np.copysign(0.0, x)))),
    "update_in_float64": lambda s: with_masters(s, lambda place: updated(s, place)),
    "decay_apart": lambda s: with_masters(s, lambda place: updated(s, place, formula="decay apart")),
    # -- updates that are wrong
    "masters_rounded": lambda s: with_masters(s, lambda place: nearest(s[f"next_master/{place}"], bfloat16)),
    "not_updated": lambda s: with_masters(s, lambda place: s[f"master/{place}"]),
    "without_decay": lambda s: with_masters(s, lambda place: updated(s, place, decay=0)),
    "without_momentum": lambda s: with_masters(s, lambda place: updated(s, place, momentum=0)),
    "not_unscaled": lambda s: with_masters(s, lambda place: updated(s, place, scale=1)),
    "half_rate": lambda s: with_masters(s, lambda place: updated(s, place, rate=RATE / 2)),
    "nesterov": lambda s: with_masters(s, lambda place: updated(s, place, formula="nesterov")),
    "from_rounded": lambda s: with_masters(s, lambda place: updated(s, place, master="P")),
    "one_master": lambda s: with_changed(s, "next_master/3/0", (4, 50), lambda x: x * np.float32(1.01)),
    # -- a number that is wrong
    "one_gradient": lambda s: with_changed(s, "GP/3/0", (2, 17), next_code),
    **{f"one_bias_{i}": lambda s, i=i: with_changed(s, "GP/1/1", (i,), previous_code) for i in range(3)},
    "one_output": lambda s: with_changed(s, "Y/3/0", (1, 4), next_forward),
    "nan_gradient": lambda s: with_changed(s, "GP/3/0", (2, 17), lambda x: np.float32(np.nan)),
    "nan_output": lambda s: with_changed(s, "Y/1/0", (0, 1, 2, 3), lambda x: np.float32(np.nan)),
    # -- ops that are wrong
    "output_truncated": lambda s: taken(s, Defects(output=toward_zero)),
    "parameters_stale": lambda s: taken(s, stale=True),
    "parameters_unrounded": lambda s: taken(s, Defects(parameters=lambda x, type: x)),
    "mask_of_neighbour": lambda s: taken(s, Defects(mask=lambda x: np.roll(x, 1, -1) > 0)),
    "sums_in_bfloat16": lambda s: taken(s, Defects(sums=coarse)),
    "loss_twice": lambda s: taken(s, Defects(loss_count=lambda count: count / 2)),
    "unrounded_softmax": lambda s: taken(s, Defects(softmax_stored=False)),
    "half_gradient": lambda s: taken(s, Defects(gradient=0.5)),
    "bias_of_one_image": lambda s: taken(s, Defects(bias_images=slice(0, 1))),
    # -- settings that are wrong
    "scale_of_1": lambda s: {**s, "loss_scale": np.float32(1)},
    "labels_rolled": lambda s: {**s, "labels": np.roll(s["labels"], 1)},
    # -- files with other things in them
    "weights_transposed": lambda s: {**s, "P/3/0": s["P/3/0"].T},
    "gradient_whole": lambda s: {**s, "GP/3/0": s["GP/3/0"].astype(np.int64)},
    "labels_in_float32": lambda s: {**s, "labels": s["labels"].astype(np.float32)},
    "no_scale": lambda s: {**s, "loss_scale": np.zeros(0, np.float32)},
    # -- files with too little in them
    "one_tensor_less": lambda s: {name: array for name, array in s.items() if name != "GX/3/0" and name != "G/2/0"},
    "inputs_alone": lambda s: only(s, "images", "labels"),
    "outputs_alone": lambda s: only(s, "Y"),
    "other_names": lambda s: {f"layer.{name}": array for name, array in s.items()},
    "other_batch": lambda s: {**s, "Y/3/0": s["Y/3/0"][:2]},
}  # fmt: skip

PLAIN = Defects((np.float32, np.float32, np.float32), 1.0)
#: The same where nothing is rounded.
PLAIN_STEPS: dict[str, Callable[[Step], Step]] = {
    "plain_same": dict,
    "plain_numpy": lambda s: taken(s, PLAIN),
    "plain_sums_in_bfloat16": lambda s: taken(s, PLAIN._replace(sums=coarse)),
    "plain_output_in_bfloat16": lambda s: taken(s, PLAIN._replace(output=lambda x, type: nearest(x, bfloat16))),
    "plain_half_gradient": lambda s: taken(s, PLAIN._replace(gradient=0.5)),
}
