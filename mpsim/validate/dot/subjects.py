"""Other people's dot and matrix products behind one interface: numbers of an input format in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.contraction import matmul
from mpsim.formats import FORMATS, as_format
from mpsim.kernels import DEFAULT_BACKEND, hosted
from mpsim.kernels.contract import Array
from mpsim.products.accumulators import Summation, in_stages
from mpsim.products.stages import AddC, Product, Scale
from mpsim.products.sums import check_sums_format
from mpsim.products.tensor_cores import family_of
from mpsim.rounding import encode, round_to
from mpsim.validate.answers import SubjectError
from mpsim.validate.dot.inputs.packing import Region, diagonal, packed
from mpsim.validate.subjects import worker
from mpsim.validate.subjects.calling import Callee, InProcess
from mpsim.validate.subjects.casts import values_of
from mpsim.validate.subjects.native.roles import Kind
from mpsim.validate.subjects.opening import Calling, is_library, open_native, open_python
from mpsim.validate.subjects.programs import DotProgram
from mpsim.validate.subjects.worker import Typed

Multiply = Callable[[Array, Array], object]

#: Rows and columns of the matrices that subjects are asked for: of probes, one for each element of the diagonal.
SIDE = 16
#: The largest.
MOST_SIDE = 1 << 10
#: Pairs of vectors of one request, and the rows and columns of matrices of which every element is such a pair.
VECTORS, VECTOR_SIDE = 1 << 10, 8


#: Elements by which vectors are moved in memory.
SHIFTS = (1, 2, 4, 8)

#: An argument that is not passed, and no arguments.
ABSENT = Typed("", np.zeros(0, np.uint8))
NOTHING: Mapping[str, Typed] = {}


def used_by(product: Product) -> dict[str, bool]:
    """The arguments that a product can use -> whether it needs them.

    >>> used_by(Product(epilogue=(Scale("left"), AddC())))
    {'c': False, 'beta': False, 'left_scale': True}
    """
    stages = product.epilogue
    found = {"c": False} if product.takes_c else {}
    found |= {"beta": False} if any(isinstance(each, AddC) for each in stages) else {}
    found |= {"alpha": False} if any(isinstance(each, Scale) and each.of == "alpha" for each in stages) else {}
    found |= {"bias": False} if product.takes_bias else {}
    scaled = {*product.scales_of_totals, *product.scales_of_blocks}
    return found | {f"{side}_scale": True for side in ("left", "right") if side in scaled}


def neutral(names: Iterable[str], shape: tuple[int, int], zero: float) -> dict[str, Typed]:
    """Arguments that change no sum: zeros for C and a bias, 1 for factors."""
    shapes = {"c": shape, "bias": shape[1:], "left_scale": (shape[0], 1), "right_scale": (1, shape[1])}
    numbers = {"c": zero, "bias": zero}
    arrays = {name: np.full(shapes.get(name, ()), numbers.get(name, 1.0), np.float32) for name in names}
    return {name: Typed("float32", array.view(np.uint32)) for name, array in arrays.items()}


@dataclass
class DotSubject:
    """A matrix product under test: callee(a (M, K), b (K, N)) -> (M, N), in the type of inputs.

    output: the type of its answers, known once it has answered. form: "matmul", or "dot" for one that takes vectors.
    region: where dot products are asked; the diagonal of square matrices of ``side`` rows otherwise. beside: names that
    the callee takes beside its operands, in its order (worker.BESIDE); optional: those that it need not be given.
    neutral: what C and a bias are where they are to change no sum.
    """

    name: str
    callee: Callee
    inputs: str = "float32"
    side: int = SIDE
    form: str = "matmul"
    output: str = ""
    notes: list[str] = field(default_factory=list)
    region: Region | None = None
    beside: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    neutral: float = -0.0

    @property
    def required(self) -> tuple[str, ...]:
        """What it must be given beside its operands."""
        return tuple(name for name in self.beside if name not in self.optional)

    def at(self, region: Region) -> DotSubject:
        """The same, asked for dot products in this region of a matrix alone."""
        return replace(self, region=region)

    def matmul(self, a: Array, b: Array, given: Mapping[str, Typed] | None = None) -> Array:
        """float32 (M, K) times (K, N), numbers of the inputs' format -> float64 (M, N), exactly what was answered.
        given: what it is passed beside them; None for numbers that change no sum."""
        if self.form != "dot":
            return self._product(as_inputs(a, self.inputs), as_inputs(b, self.inputs), given)
        rows, columns = len(a), b.shape[1]
        return self.dots(np.repeat(a, columns, 0), np.tile(b.T, (rows, 1))).reshape(rows, columns)

    def check_steady(self, what: str, found: Array, again: Array) -> None:
        """SubjectError where a second call gave other results."""
        if not same(found, again).all():
            raise SubjectError(
                f"{self.name} answers the same matrices ({what}) differently in equal calls: it is random, as where "
                f"sums are added in the order in which they are ready, keeps something from call to call, or reads "
                f"memory that it was not given"
            )

    def dots(self, a: Array, b: Array) -> Array:
        """Dot products of the rows of a with the rows of b, both (P, K) -> float64 (P,): elements of products of
        matrices, or each alone where the subject takes vectors."""
        if self.form != "dot":
            return self._in_matrices(a, b)
        found = np.empty(len(a))
        for start in range(0, len(a), VECTORS):
            left, right = (as_inputs(x[start : start + VECTORS], self.inputs) for x in (a, b))
            found[start : start + VECTORS] = self._answer(left, right, left.words.shape[:1])
        return found

    def depends_on_addresses(self, a: Array, b: Array) -> list[int]:
        """The shifts in elements, of SHIFTS, by which vectors begin beyond a multiple of 64 bytes and have other dot
        products. The rows of a and of b are the vectors; matrices are not asked."""
        if self.form != "dot" or isinstance(self.callee, DotProgram):
            return []
        pairs, found = (as_inputs(a, self.inputs), as_inputs(b, self.inputs)), self.dots(a, b)
        answers = {
            shift: self.callee.call([*pairs, Typed("int64", np.array([shift]))], 16 * len(a) + 64)[0]
            for shift in SHIFTS
        }
        return [shift for shift, each in answers.items() if not same(values_of(each, self.name), found).all()]

    def _in_matrices(self, a: Array, b: Array) -> Array:
        region, found = self.region or diagonal(self.side), np.empty(len(a))
        left, right, zero = (as_inputs(x, self.inputs) for x in (a, b, np.zeros((), np.float32)))
        for each in packed(region, left.words, right.words, zero.words):
            operands = Typed(left.type, each.left), Typed(left.type, np.ascontiguousarray(each.right.T))
            found[each.start : each.stop] = self._product(*operands)[each.rows, each.columns]
        return found

    def _product(self, a: Typed, b: Typed, given: Mapping[str, Typed] | None = None) -> Array:
        shape = a.words.shape[0], b.words.shape[1]
        return self._answer(a, b, shape, neutral(self.required, shape, self.neutral) if given is None else given)

    def _answer(self, a: Typed, b: Typed, shape: tuple[int, ...], given: Mapping[str, Typed] = NOTHING) -> Array:
        operands, others = (a, b), [given.get(name, ABSENT) for name in self.beside]
        try:
            answers = self.callee.call([*operands, *others], 16 * math.prod(shape) + 64)
        except SubjectError as error:
            shapes = zip(("a", "b", *self.beside), [*operands, *others], strict=True)
            what = ", ".join(f"{name} {each.type} {each.words.shape}" for name, each in shapes if each.type)
            raise SubjectError(f"{error}; it was given {what}") from error
        if len(answers) != 1:
            raise SubjectError(f"{self.name} answered {len(answers)} arrays; expected one matrix")
        answer = answers[0]
        if answer.words.shape != shape:
            raise SubjectError(
                f"{self.name} answered shape {answer.words.shape} to {a.words.shape} times {b.words.shape}"
            )
        if answer.type == f"uint{FORMATS[self.inputs].code_bits}" and answer.type in ("uint8", "uint16"):
            answer = Typed(self.inputs, answer.words)  # codes of the operands' format
        if answer.type.startswith(("int", "uint")):
            raise SubjectError(f"{self.name} answered {answer.type}; expected floats of at most 64 bits")
        if self.output not in ("", answer.type):
            sizes = f"{a.words.shape} times {b.words.shape}"
            raise SubjectError(f"{self.name} answered {self.output} at first, and {answer.type} to {sizes}")
        self.output = answer.type
        return values_of(answer, self.name)


@dataclass(frozen=True)
class Model:
    """mpsim's product with an accumulator, its results rounded once to the type that a subject answers in.

    ``output`` of "float64" or "float32": the accumulator's own results.
    """

    accumulator: Summation
    output: str = "float32"

    def matmul(self, a: Array, b: Array, backend: str = DEFAULT_BACKEND, **given: Any) -> Array:
        """float32 (M, K) times (K, N) -> float64 (M, N). given: C, scales and so on, as ``mpsim.matmul`` takes them."""
        return self._answers(matmul(a, b, self.accumulator, backend=backend, threads=1, **given), backend)

    def dots(self, a: Array, b: Array, backend: str = DEFAULT_BACKEND) -> Array:
        """Dot products of the rows of a with the rows of b, both (P, K): one grouped convolution of a point."""
        count, length = a.shape
        x, w = a.reshape(1, count * length, 1, 1), b.reshape(count, length, 1, 1)
        kernels = hosted(backend)
        found = kernels.conv2d(x, w, None, (1, 1), (0, 0), count, threads=1, accumulator=self.accumulator)
        return self._answers(found.reshape(count), backend)

    def _answers(self, found: Array, backend: str) -> Array:
        if self.output not in ("float32", "float64"):
            found = round_to(found, self.output, "nearest_even", "infinity", backend=backend, threads=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(found.astype(np.float64))


def same(found: Array, expected: Array) -> Array:
    """Where two float64 arrays hold one number, zeros by their signs; a NaN is as good as another."""
    with np.errstate(invalid="ignore"):
        equal = (found == expected) & (np.signbit(found) == np.signbit(expected))
    return np.asarray(equal | (np.isnan(found) & np.isnan(expected)))


def as_inputs(x: Array, inputs: str) -> Typed:
    """float32 numbers of the inputs' format as an array of its type (tf32: float32 with 10 fraction bits)."""
    x = np.ascontiguousarray(x)
    if inputs in ("float32", "tf32"):
        return Typed("float32", x.view(np.uint32))
    if inputs == "float16":
        with np.errstate(invalid="ignore"):
            return Typed(inputs, x.astype(np.float16).view(np.uint16))
    format = as_format(inputs)
    numbers = x if format.has_nan else np.nan_to_num(x, nan=0.0, posinf=format.largest, neginf=-format.largest)
    return Typed(inputs, np.asarray(encode(numbers, format, overflow="saturate_propagate", threads=1)).reshape(x.shape))


def open_dot(
    subject: str | Callable[..., object] | Summation,
    calling: Calling = Calling(),
    *,
    inputs: str = "float32",
    form: str = "matmul",
    side: int = SIDE,
    backend: str = DEFAULT_BACKEND,
) -> DotSubject:
    """The subject: a function of this process, an Accumulator (mpsim's own), or a name.

    ``package.module:function`` or ``file.py:function`` takes (M, K) and (K, N) arrays, or two vectors with
    ``form="dot"``; ``library.so:name`` is a C function (``PRODUCTS`` in mpsim/validate/subjects/native/roles.py).
    Raises SubjectError if there is no such thing, UsageError for a form, inputs or a side that cannot be.
    """
    checks.named("form", form, ("matmul", "dot"))
    checks.whole("side", side, least=1, most=MOST_SIDE)
    checks.named("inputs", inputs, FORMATS)
    check_sums_format("inputs", inputs)
    if isinstance(subject, Summation):
        product = in_stages(subject)
        by_default = {"bias"} if product.epilogue == Product().epilogue else set()
        used = {name: needed for name, needed in used_by(product).items() if name not in by_default}
        own = DotSubject(f"mpsim {family_of(subject)}", _own(subject, backend, tuple(used)), inputs, side)
        return _taking(own, [name + "=" * (not needed) for name, needed in used.items()])
    if not isinstance(subject, str):
        name = getattr(subject, "__name__", repr(subject))
        function = worker.of_function(subject, calling.arguments, form)
        callee: Callee = InProcess(name, lambda: (function, {}))
        return _taking(DotSubject(name, callee, inputs, _side(form, side), form), worker.takes(subject))
    if subject.startswith("command:"):
        program = DotProgram(subject.removeprefix("command:"), {"tf32": "float32"}.get(inputs, inputs), calling.timeout)
        return DotSubject(program.name, program, inputs, _side("dot", side), "dot")
    if is_library(subject):
        callee, shim = open_native(subject, calling, 2, Kind.PRODUCT)
        bits = 32 if inputs in ("float32", "tf32") else FORMATS[inputs].code_bits
        wanted = {"tf32": "float32"}.get(inputs, inputs)
        for reads in shim.inputs:
            if reads.bits != bits or reads.name != wanted and (reads.is_float or bits == 32):
                raise SubjectError(f"{subject} reads {reads.name}; the inputs are {inputs}")
        return _taking(DotSubject(subject, callee, inputs, side), shim.beside)
    callee, _ = open_python(subject, calling, form)
    return _taking(
        DotSubject(subject, callee, inputs, _side(form, side), form), getattr(callee, "about", {}).get("takes", [])
    )


def _taking(subject: DotSubject, names: Sequence[str]) -> DotSubject:
    """The subject with the names of what it takes beside its operands; "=" follows those that it need not be given."""
    subject.beside = tuple(name.rstrip("=") for name in names) if subject.form == "matmul" else ()
    subject.optional = frozenset(name.rstrip("=") for name in names if name.endswith("="))
    return subject


def _side(form: str, side: int) -> int:
    """Rows and columns of the matrices that are asked: fewer where every element is a call."""
    return min(side, VECTOR_SIDE) if form == "dot" else side


def _own(accumulator: Summation, backend: str, names: Sequence[str]) -> Callee:
    """mpsim's matrix product with an accumulator, as something to call. names: of what it is given beside operands."""

    def call(arrays: Any) -> list[Typed]:
        a, b, *others = (values_of(each, "mpsim").astype(np.float32) if each.type else ABSENT.words for each in arrays)
        given: dict[str, Any] = {
            name: x if x.ndim else float(x) for name, x in zip(names, others, strict=True) if x.size
        }
        return [worker.typed(matmul(a, b, accumulator, backend=backend, threads=1, **given))]

    return InProcess(f"mpsim {family_of(accumulator)}", lambda: (call, {}))


def of_accumulator(accumulator: Summation, backend: str) -> Multiply:
    """mpsim's matrix product with an accumulator."""
    return lambda a, b: matmul(a, b, accumulator, backend=backend, threads=1)


__all__ = ["SIDE", "DotSubject", "Model", "Multiply", "as_inputs", "of_accumulator", "open_dot", "same"]
