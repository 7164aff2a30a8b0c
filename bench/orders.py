"""Finds the orders of summation of NumPy's and PyTorch's products from their results, and measures the time.

For each order found it compares 200 new results with the description's predictions.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import harness
from mpsim.products.tensor_cores import short
from mpsim.rounding import round_to
from mpsim.validate import Calling, SubjectError
from mpsim.validate.dot.results import DotReport
from mpsim.validate.dot.subjects import Model, open_dot, same
from mpsim.validate.dot.validation import validate_dot

#: Seconds that one search may take.
GOAL = 1.0
TYPES = ("float32", "float16", "bfloat16")
LENGTHS = (16, 33, 64, 128, 200)
#: New results that a description has to predict.
FRESH = 200


class Subject(NamedTuple):
    """A product: of matrices, or of two vectors with ``form`` "dot"."""

    function: Callable[..., Any]
    form: str = "matmul"
    arguments: str = "numpy"


def numpy_subjects() -> dict[str, Subject]:
    def by_columns(a: Any, b: Any) -> Any:
        return np.stack([a @ np.ascontiguousarray(column) for column in b.T], 1)

    return {
        "numpy @": Subject(lambda a, b: a @ b),
        "numpy @, a vector": Subject(by_columns),
        "numpy.dot": Subject(np.dot, "dot"),
        "numpy.einsum ik,kj": Subject(lambda a, b: np.einsum("ik,kj->ij", a, b)),
        "numpy.einsum i,i": Subject(lambda x, y: np.einsum("i,i->", x, y), "dot"),
        "numpy.sum": Subject(lambda x, y: np.sum(x * y), "dot"),
    }


def torch_subjects(threads: int) -> dict[str, Subject]:
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    torch.set_num_threads(threads)

    def by_columns(a: Any, b: Any) -> Any:
        return torch.stack([torch.mv(a, column.contiguous()) for column in b.T], 1)

    found = {
        "torch.mm": Subject(torch.mm),
        "torch.mv": Subject(by_columns),
        "torch.dot": Subject(torch.dot, "dot"),
        "torch.einsum ik,kj": Subject(lambda a, b: torch.einsum("ik,kj->ij", a, b)),
        "torch.bmm": Subject(lambda a, b: torch.bmm(a[None], b[None])[0]),
        "torch linear": Subject(lambda a, b: torch.nn.functional.linear(a, b.T.contiguous())),
        "torch.sum": Subject(lambda x, y: (x * y).sum(), "dot"),
    }
    return {name: subject._replace(arguments="torch") for name, subject in found.items()}


def predicted(report: DotReport, subject: Subject, inputs: str, length: int) -> int:
    """Counts the new results, of FRESH, that some description of the report predicts."""
    summations = [each.accumulator for each in report.matches[:1]]
    summations += [each for _, each in report.places.parts[1:] if each] if report.places is not None else []
    random = np.random.default_rng([length, 1])
    opened = open_dot(subject.function, Calling(arguments=subject.arguments), inputs=inputs, form=subject.form)
    count = agreeing = 0
    while count < FRESH:
        shape = (opened.side, length), (length, opened.side)
        a, b = (round_to(random.standard_normal(each).astype(np.float32), inputs) for each in shape)
        found = opened.matmul(a, b)
        given = [same(found, Model(each, opened.output).matmul(a, b)) for each in summations]
        rows = np.any(given, axis=0).ravel()[: FRESH - count] if given else np.zeros(found.size, bool)[: FRESH - count]
        count, agreeing = count + rows.size, agreeing + int(rows.sum())
    return agreeing


def measured(subject: Subject, inputs: str, length: int, repetitions: int) -> dict[str, Any]:
    """One row: the verdict, the description, results predicted, and the least seconds of the search."""
    calling = Calling(arguments=subject.arguments)
    wall, processor = [], []
    for _ in range(repetitions):
        start = time.perf_counter(), time.process_time()
        report = validate_dot(subject.function, inputs=inputs, length=length, form=subject.form, calling=calling)
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    first = report.matches[0] if report.matches else None
    elsewhere = () if report.shapes is None else report.shapes.others
    return {
        "equal": report.equal,
        "found": None if first is None else first.text,
        "drawn": first is not None and first.drawn,
        "parts": 1 if report.places is None else max(1, len(report.places.parts)),
        "other_shapes": [None if each.summation is None else short(each.summation) for each in elsewhere],
        "predicted": predicted(report, subject, inputs, length),
        "seconds": min(wall),
        "processor_seconds": min(processor),
    }


def rows(threads: int, repetitions: int) -> Iterator[dict[str, Any]]:
    for name, subject in {**numpy_subjects(), **torch_subjects(threads)}.items():
        for inputs in TYPES:
            for length in LENGTHS:
                row: dict[str, Any] = {"product": name, "inputs": inputs, "length": length}
                try:
                    yield row | measured(subject, inputs, length, repetitions)
                except SubjectError as error:
                    yield row | {"refused": str(error)}


def run(threads: int, repetitions: int) -> None:
    """Searches every product and writes bench/results/orders.json."""
    found = list(rows(threads, repetitions))
    table = Table("product", "operands", "K", "order", f"of {FRESH}", "s (processor)", title="orders of summation")
    for row in found:
        if "refused" in row:
            continue
        order = (row["found"] or "not found")[:60]
        seconds = f"{row['seconds']:.2f} ({row['processor_seconds']:.2f})"
        table.add_row(row["product"], row["inputs"], str(row["length"]), order, str(row["predicted"]), seconds)
    Console().print(table)
    print(harness.save("orders", {**harness.surroundings(threads, repetitions), "goal": GOAL, "rows": found}))
