"""Reads and writes the processor's floating-point control register where the C extension is absent, with Numba."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic

from mpsim.process.numba_cache import cached

__all__ = ["DEFAULT", "enter_float_environment", "leave_float_environment"]

X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")
#: The default state of the register. x86: all exceptions masked, to nearest even, subnormals on both sides.
DEFAULT = 0x1F80 if X86 else 0
Values = Sequence[ir.Value]
#: What an intrinsic returns: its signature, and the function that writes its code.
Generated = tuple[Signature, Callable[..., ir.Value]]
VOID, WORD, HALF = ir.VoidType(), ir.IntType(64), ir.IntType(32)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Calls a function of the processor that LLVM knows by name."""
    kind = ir.FunctionType(result, [each.type for each in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def _read(context: object) -> Generated:
    def generate(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        if ARM:
            return _call(builder, "llvm.aarch64.get.fpcr", WORD)
        if not X86:
            return WORD(0)
        place = cgutils.alloca_once(builder, HALF)
        _call(builder, "llvm.x86.sse.stmxcsr", VOID, builder.bitcast(place, ir.IntType(8).as_pointer()))
        return builder.zext(builder.load(place), WORD)

    return types.uint64(), generate


@intrinsic
def _write(context: object, state: types.Type) -> Generated:
    def generate(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        if ARM:
            _call(builder, "llvm.aarch64.set.fpcr", VOID, arguments[0])
        elif X86:
            place = cgutils.alloca_once_value(builder, builder.trunc(arguments[0], HALF))
            _call(builder, "llvm.x86.sse.ldmxcsr", VOID, builder.bitcast(place, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.uint64), generate


#: Typed as Numba's functions see them.
read = cast("Callable[[], int]", _read)
write = cast("Callable[[int | np.uint64], None]", _write)


def _enter() -> int:
    """Sets the default environment of the calling thread and returns the one before."""
    before = read()
    write(numba.uint64(DEFAULT))
    return before


def _leave(before: int) -> None:
    """Sets an environment that ``enter_float_environment`` returned."""
    write(before)


enter_float_environment = cached(_enter)
enter_float_environment.compile("uint64()")
leave_float_environment = cached(_leave)
leave_float_environment.compile("void(uint64)")
