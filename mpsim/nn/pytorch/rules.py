"""Lists the functions of PyTorch (ATen) that the importer supports, each with the ops that compute it.

A rule receives a Call and the arguments by the names of ATen's schema.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mpsim.nn.pytorch.masks import RANDOM
from mpsim.nn.pytorch.rules_composed import COMPOSED
from mpsim.nn.pytorch.rules_elementwise import ELEMENTWISE
from mpsim.nn.pytorch.rules_layers import LAYERS
from mpsim.nn.pytorch.rules_shapes import SHAPES
from mpsim.nn.pytorch.values import Call

Rule = Callable[[Call, SimpleNamespace], Any]


def _python(function: Callable[..., Any]) -> Rule:
    return lambda call, a: function(*a.positional)


#: Arithmetic with sizes and the choice of one of several results.
_PYTHON: dict[str, Rule] = {
    f"python.{function.__name__}": _python(function)
    for function in (operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod)
}

#: "aten.<function>.<overload>", without the _ of functions that overwrite an argument -> the rule.
RULES: dict[str, Rule] = {**LAYERS, **ELEMENTWISE, **COMPOSED, **SHAPES, **RANDOM, **_PYTHON}
#: Functions that check something and compute nothing.
CHECKS = {
    "aten._assert_tensor_metadata.default",
    "aten._assert_scalar.default",
    "aten.sym_constrain_range_for_size.default",
}
#: Functions whose result may share the memory of their first argument in PyTorch, and which mpsim copies, by an op.
COPIES = {
    f"aten.{name}"
    for name in (
        "slice.Tensor", "select.int", "chunk.default", "split.Tensor", "split_with_sizes.default", "unbind.int",
        "expand.default", "expand_as.default", "broadcast_to.default", "narrow.default",
    )
}  # fmt: skip
#: All functions whose result may share the memory of their first argument in PyTorch.
VIEWS = COPIES | {
    f"aten.{name}"
    for name in (
        "view.default", "reshape.default", "flatten.using_ints", "unflatten.int", "unsqueeze.default",
        "squeeze.default", "squeeze.dim", "squeeze.dims", "permute.default", "transpose.int", "t.default",
        "contiguous.default", "alias.default", "to.dtype", "to.dtype_layout", "pixel_shuffle.default",
        "pixel_unshuffle.default",
        "detach.default", "movedim.int", "movedim.intlist", "swapaxes.default", "view_as.default",
        "reshape_as.default",
    )
} | {"python.getitem"}  # fmt: skip
#: Functions that take parameters as weights. Elsewhere a parameter becomes a tensor, by an op of its name.
WEIGHTED = {
    f"aten.{name}"
    for name in (
        "conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding", "conv_transpose2d.input",
        "linear.default", "batch_norm.default", "layer_norm.default", "group_norm.default", "instance_norm.default",
        "rms_norm.default", "embedding.default", "prelu.default",
    )
}  # fmt: skip
#: Functions of two operands of which the second may be a parameter, or with the value True also the first.
OPERANDS = {
    "aten.add.Tensor": True, "aten.mul.Tensor": True, "aten.sub.Tensor": True, "aten.div.Tensor": False,
    "aten.addmm.default": True, "aten.baddbmm.default": True,
}  # fmt: skip
#: Functions that are never an op.
NAMELESS = (VIEWS - COPIES) | RANDOM.keys() | {"aten.sym_size.int"}
