"""Which description a product with C, factors, a bias or scales is equal to, or how it differs from a declared one.

The sums are found with numbers in these places that change none. Then every place is given random and edge values, and
a description is equal only if it gives every result in every bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpsim.errors import UsageError
from mpsim.kernels.contract import Array
from mpsim.products.accumulators import Summation, in_stages
from mpsim.products.stages import AddC, Bias, Product
from mpsim.products.tensor_cores import described
from mpsim.validate.answers import SubjectError
from mpsim.validate.dot.accuracy import error_of
from mpsim.validate.dot.arguments.candidates import epilogues, epilogues_beside
from mpsim.validate.dot.arguments.values import Request, as_typed, requests, without_effect
from mpsim.validate.dot.orders.candidates import beside
from mpsim.validate.dot.results import Difference, DotReport, Tried
from mpsim.validate.dot.subjects import DotSubject, Model, same, used_by

#: How to declare what uses an argument.
EXAMPLES = {
    "c": "product(epilogue=(addc(),)) or product(order=…, start=c)",
    "beta": "product(epilogue=(addc(),))",
    "alpha": "product(epilogue=(scale(alpha), addc()))",
    "bias": "product(epilogue=(bias(),))",
    "left_scale": "product(epilogue=(scale(left),)) or groups(blocks(128), scaled(…, scale(left), 128), rising())",
    "right_scale": "product(epilogue=(scale(both),)) or groups(blocks(128), scaled(…, scale(both), 128), rising())",
}
#: What explains a product that has BLAS's convention.
NOT_READ = "C is not read where beta is 0, as in BLAS; with no C there, this description gives every result"
Answered = list[tuple[Request, Array]]


@dataclass(frozen=True)
class ArgumentsReport(DotReport):
    """A report on a product that was given arguments beside its operands; searched: whether its sums were."""

    arguments: tuple[str, ...] = ()
    searched: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return super().to_dict() | {"arguments": list(self.arguments)}


def passed_to(subject: DotSubject, declared: Summation) -> tuple[str, ...]:
    """The names of what is passed. SubjectError where the subject takes what the description cannot use, or does not
    take what it needs."""
    used = used_by(in_stages(declared))
    for name in subject.required:
        if name not in used:
            raise SubjectError(
                f"{subject.name} takes {name}, which the declared accumulator {described(declared)} does not use: "
                f"declare how, as {EXAMPLES[name]}"
            )
    for name, needed in used.items():
        if needed and name not in subject.beside:
            raise SubjectError(
                f"the declared accumulator multiplies by {name}, which {subject.name} does not take (beside its "
                f"operands it takes {', '.join(subject.beside) or 'nothing'}): give it a parameter of that name"
            )
    by_default = in_stages(declared).epilogue == Product().epilogue  # which adds a bias where there is one
    names = tuple(
        name
        for name in subject.beside
        if name in used and not (by_default and name == "bias" and name in subject.optional)
    )
    return tuple(name for name in names if name != "beta" or "c" in names)


def validate_arguments(
    subject: DotSubject,
    declared: Summation | None,
    search: Callable[[DotSubject], DotReport],
    length: int,
    seed: int,
    backend: str,
) -> DotReport:
    """The report. search: finds the sums of a subject whose other arguments change nothing."""
    if declared is not None:
        return _certified(subject, declared, length, seed, backend)
    names, reports = subject.required, list[DotReport]()
    for zero in (-0.0, 0.0):  # nothing added at the end; the +0 that sums begin with
        subject.neutral, subject.notes = zero, []
        found = _searched(subject, search)
        if not found.matches:
            note = f"what is done with {', '.join(names)} was not looked at: the order of the sums is not known"
            reports.append(replace(found, notes=(*found.notes, note)))
            continue
        report = _with_epilogue(subject, found, names, length, seed, backend)
        if report.matches:
            return report
        reports.append(report)
    return max(reports, key=lambda each: isinstance(each, ArgumentsReport))


def _searched(subject: DotSubject, search: Callable[[DotSubject], DotReport]) -> DotReport:
    """What is found of the sums. SubjectError, which says what to declare, where scales of that shape are not taken."""
    try:
        return search(subject)
    except SubjectError as error:
        scales = [name for name in subject.required if name.endswith("_scale")]
        if not scales:
            raise
        raise SubjectError(
            f"{error}; where no accumulator is declared, left_scale has shape (M, 1) and right_scale (1, N): declare "
            f"one that says whose blocks scales are of, as {EXAMPLES[scales[-1]].partition(' or ')[2]}"
        ) from error


def _ask(
    subject: DotSubject, declared: Summation, names: tuple[str, ...], length: int, seed: int, backend: str
) -> Answered:
    """Every request with its answer; SubjectError where an equal one is answered differently."""
    asked = list(requests(names, in_stages(declared), subject.inputs, length, subject.side, seed, backend))
    found = [(each, subject.matmul(each.a, each.b, as_typed(each.given, declared))) for each in asked]
    for each, answer in found[:6]:
        if not same(answer, subject.matmul(each.a, each.b, as_typed(each.given, declared))).all():
            raise SubjectError(f"{subject.name} answers equal calls differently")
    return found


def _tried(summation: Summation, answered: Answered, output: str, backend: str) -> Tried:
    model, agreeing, results, zero_signs, differing = Model(summation, output), 0, 0, 0, dict[str, int]()
    examples: list[Difference] = []
    for (name, a, b, given), found in answered:
        expected = model.matmul(a, b, backend, **given)
        equal = same(found, expected)
        results, agreeing = results + equal.size, agreeing + int(equal.sum())
        if equal.all():
            continue
        differing[name] = int((~equal).sum())
        zero_signs += int(((found == 0) & (expected == 0))[~equal].sum())
        i, j = np.argwhere(~equal)[0]
        read = ", ".join(f"{each} = {_element(value, each, i, j)}" for each, value in given.items())
        numbers = float(expected[i, j]), float(found[i, j])
        examples.append(Difference(f"{name}, {read}", tuple(a[i].tolist()), tuple(b[:, j].tolist()), *numbers))
    shown = min(examples, key=_strangeness, default=None)
    lengths = tuple(dict.fromkeys(request.a.shape[1] for request, _ in answered)) if shown is None else ()
    cause = NOT_READ if shown is not None and _does_not_read_c(model, answered, backend) else ""
    return Tried(summation, output, agreeing, results, 0, zero_signs, shown, differing, lengths, cause)


def _strangeness(each: Difference) -> tuple[bool, bool, int]:
    """Smaller for examples that are easier to read."""
    return not np.isfinite(each.expected + each.found), not each.is_ordinary, len(each.terms)


def _does_not_read_c(model: Model, answered: Answered, backend: str) -> bool:
    """Whether every result is that of the model, given no C where beta is 0."""
    zero = {"c", "beta"}
    if not all(zero <= {*request.given} for request, _ in answered):
        return False
    return all(
        same(
            found, model.matmul(a, b, backend, **{x: y for x, y in given.items() if given["beta"] or x not in zero})
        ).all()
        for (_, a, b, given), found in answered
    )


def _element(value: object, name: str, i: int, j: int) -> str:
    """What one element of the product reads."""
    array = np.asarray(value)
    if array.ndim == 0:
        return repr(float(array))
    if array.ndim == 1:
        return repr(float(array[j]))
    if name == "c":
        return repr(float(array[i, j]))
    read = array[min(i, len(array) - 1)] if name == "left_scale" else array[:, min(j, array.shape[1] - 1)]
    return repr(read.tolist() if read.size > 1 else float(read[0]))


def _certified(subject: DotSubject, declared: Summation, length: int, seed: int, backend: str) -> DotReport:
    names = passed_to(subject, declared)
    answered = _ask(subject, declared, names, length, seed, backend)
    tried = _tried(declared, answered, subject.output, backend)
    a, b = answered[0][0].a, answered[0][0].b
    values = without_effect(names, in_stages(declared), a, b)
    error = error_of([(a, b, subject.matmul(a, b, as_typed(values, declared)))], subject.output)
    alike, apart = _neighbours([declared], answered, subject, backend) if tried.equal else ([], ())
    left = [name for name in subject.beside if name not in names]
    subject.notes += [f"not given, and not looked at: {', '.join(left)}"] if left else []
    return ArgumentsReport(
        subject.name, subject.inputs, subject.output, length, subject.side, (), (tried, *alike) if tried.equal else (),
        tried, tried, error, apart, state=tuple(subject.callee.state), notes=tuple(subject.notes),
        arguments=names,
    )  # fmt: skip


def _with_epilogue(
    subject: DotSubject, found: DotReport, names: tuple[str, ...], length: int, seed: int, backend: str
) -> DotReport:
    """The report with the sums that were found and every epilogue that gives all results."""
    sums = [each.accumulator for each in found.matches]
    answered = _ask(subject, sums[0], names, length, seed, backend)
    candidates = list(dict.fromkeys(each for one in sums[:2] for each in epilogues(one, names, subject.output)))
    first = answered[: max(1, len(answered) // 8)]
    tried = [(each, _tried(each, first, subject.output, backend)) for each in candidates]
    likely = [each for each, few in tried if few.equal]
    equal = [one for each in likely if (one := _tried(each, answered, subject.output, backend)).equal]
    alike, apart = _neighbours([each.accumulator for each in equal], answered, subject, backend) if equal else ([], ())
    apart = tuple(
        dict.fromkeys((*apart, *(each for each in candidates if each not in [one.accumulator for one in equal])))
    )
    best = max((few for _, few in tried), key=lambda each: each.agreeing, default=None)
    nearest = None if equal or best is None else _tried(best.accumulator, answered, subject.output, backend)
    values = {field: getattr(found, field) for field in DotReport.__dataclass_fields__}
    values |= {"matches": (*equal, *alike), "nearest": nearest, "apart": apart if equal else (), "separating": 0}
    values["notes"] = (*found.notes, _looked_at(subject, names, len(candidates)))
    return ArgumentsReport(**values, arguments=names, searched=True)


def _neighbours(
    equal: Sequence[Summation], answered: Answered, subject: DotSubject, backend: str
) -> tuple[list[Tried], tuple[Summation, ...]]:
    """(what is beside the first description and gives every result, too; what some result distinguishes from it)."""
    near = [*epilogues_beside(in_stages(equal[0])), *beside(equal[0], subject.inputs)]
    alike, apart, given = list[Tried](), list[Summation](), answered[0][0].given
    known = {_acting(each, given) for each in equal}
    for each in dict.fromkeys(near):
        if not _takes(each, given) or _acting(each, given) in known:
            continue
        known.add(_acting(each, given))
        with suppress(UsageError):  # a tree of another number of terms
            tried = _tried(each, answered[: max(1, len(answered) // 8)], subject.output, backend)
            tried = _tried(each, answered, subject.output, backend) if tried.equal else tried
            alike += [tried] if tried.equal else []
            apart += [] if tried.equal else [each]
    return alike, tuple(apart)


def _acting(summation: Summation, given: Iterable[str]) -> Product:
    """The product without the stages of its epilogue for which nothing was given."""
    product, without = in_stages(summation), {Bias: "bias", AddC: "c"}
    kept = tuple(stage for stage in product.epilogue if without.get(type(stage)) in (None, *given))
    return replace(product, epilogue=kept)


def _takes(summation: Summation, given: Iterable[str]) -> bool:
    """Whether it uses what was given, and needs nothing else."""
    used = used_by(in_stages(summation))
    return {*given} <= {*used} and {name for name, is_needed in used.items() if is_needed} <= {*given}


def _looked_at(subject: DotSubject, names: Sequence[str], count: int) -> str:
    left = [name for name in subject.beside if name not in names]
    rest = f"; not given, and not looked at: {', '.join(left)}" if left else ""
    count_of = "one description was" if count == 1 else f"{count} descriptions were"
    what = f"{count_of} compared of what is done with {', '.join(names)}"
    return f"{what}, but no scales of blocks of k and no C of another format{rest}"
