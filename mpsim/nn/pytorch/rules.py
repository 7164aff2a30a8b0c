"""Lists the functions of PyTorch (ATen) that the importer supports, each with the ops that compute it.

A rule receives a Call and the arguments by the names of ATen's schema.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mpsim.nn.pytorch.masks import RANDOM
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
RULES: dict[str, Rule] = {**LAYERS, **ELEMENTWISE, **SHAPES, **RANDOM, **_PYTHON}
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
        "expand.default",
    )
}  # fmt: skip
#: All functions whose result may share the memory of their first argument in PyTorch.
VIEWS = COPIES | {
    f"aten.{name}"
    for name in (
        "view.default", "reshape.default", "flatten.using_ints", "unflatten.int", "unsqueeze.default",
        "squeeze.default", "squeeze.dim", "squeeze.dims", "permute.default", "transpose.int", "t.default",
        "contiguous.default", "alias.default", "to.dtype", "pixel_shuffle.default",
    )
} | {"python.getitem"}  # fmt: skip
#: Functions that are never an op.
NAMELESS = (VIEWS - COPIES) | RANDOM.keys() | {"aten.sym_size.int"}
