"""A subject's pack of vectors, with what it answered as expected results; its entry in the manifest; its check.

Files are those of docs/vectors.md: ``mpsim validate cast FILE.npz`` and ``mpsim validate dot FILE.npz`` read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.hardware.library import Array, padded
from mpsim.formats import FORMATS
from mpsim.policies import Policy
from mpsim.products.accumulators import Accumulator
from mpsim.products.tensor_cores import accumulator_of, described
from mpsim.rounding import decode, encode
from mpsim.validate import Subject, SubjectError, open_subject
from mpsim.validate.cast.asking import of_vectors
from mpsim.validate.cast.compare import count_differences
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.validation import CastReport
from mpsim.validate.dot.inputs.edges import edge_rows
from mpsim.validate.dot.orders.separation import adversarial_rows
from mpsim.validate.dot.results import DotReport
from mpsim.validate.dot.subjects import DotSubject, Multiply
from mpsim.validate.dot.vectors import read_dot_vectors
from mpsim.validate.sources import as_source
from mpsim.vectors.forms import Table, table_files
from mpsim.vectors.pack import write_files
from mpsim.vectors.tables import cast_inputs, dot_table

#: Vectors of a cast, dot products, and their lengths by the bits of an operand: files of some 40 KB.
CASTS, DOTS = 4000, 160
LENGTHS = {8: 130, 16: 48, 32: 24}
#: Random rows where sums turn, beside those made by rule: files of some 60 KB.
EDGES = 256


def write_cast(folder: Path, name: str, subject: Subject, report: CastReport) -> None:
    """NAME.npz: inputs that matter, and the codes that the subject gives."""
    patterns = cast_inputs(report.format, report.source, CASTS)
    results = subject.run(patterns, report.source, report.format)
    if results.space != "codes":
        raise SubjectError(f"{name} answers numbers, not codes")
    codes = results.outcome.keys.astype(f"uint{report.format.code_bits}")
    columns = {"input": (patterns, report.source.format.bits), "expected": (codes, report.format.bits)}
    about = {"format": report.format.name, "source": report.source.name}
    write_files(folder, table_files(Table(name, about, columns), ("npz",)))


def write_dot(folder: Path, name: str, subject: DotSubject) -> None:
    """NAME.npz: operands as ``mpsim vectors dot`` makes them, and the sums that the subject gives."""
    format = FORMATS[subject.inputs]
    table = dot_table(Accumulator(), format, LENGTHS[format.code_bits], size=DOTS, name=name)
    a, b = (decode(table.columns[column][0], format) for column in "ab")
    found = subject.dots(a, b).astype(np.float32).view(np.uint32)
    columns = {**table.columns, "expected": (found, 32)}
    write_files(folder, table_files(table._replace(columns=columns), ("npz",)))


def write_edges(folder: Path, name: str, subject: DotSubject, length: int) -> None:
    """NAME_edges.npz: operands that tell an accumulator from those beside it, and the sums that the subject gives.

    Rows made by rule and random ones where sums turn, in float32 and in float16, of ``length`` terms."""
    format = FORMATS[subject.inputs]
    rows = [edge_rows(format, length)]
    rows += [adversarial_rows(format, length, EDGES, seed, quantum) for seed, quantum in enumerate((-149, -24))]
    a, b = (np.concatenate(each) for each in zip(*rows, strict=True))
    with np.errstate(invalid="ignore"):
        found = subject.dots(a, b).astype(np.float32).view(np.uint32)
    codes = [encode(x, format, backend="reference", threads=1) for x in (a, b)]
    columns = {"a": (codes[0], format.bits), "b": (codes[1], format.bits), "expected": (found, 32)}
    table = Table(f"{name}_edges", {"inputs": format.name}, columns)
    write_files(folder, table_files(table, ("npz",), deflate=True))


def reordered(function: Multiply, places: tuple[int, ...]) -> Multiply:
    """The product with its k so placed that the first of ``places`` have the lowest k, in every len(places) of them."""

    def product(a: Array, b: Array) -> Any:
        left, right = padded(a, 1, len(places)), padded(b.T, 1, len(places))
        at = np.add.outer(np.arange(0, left.shape[1], len(places)), places).reshape(-1)
        x, y = np.zeros_like(left), np.zeros_like(right)
        x[:, at], y[:, at] = left, right
        return function(x, np.ascontiguousarray(y.T))

    return product


# -- entries of the manifest ------------------------------------------------------------------------------------


def cast_entry(report: CastReport) -> dict[str, Any]:
    """What was found of a cast; ``report.declared`` is the comparison with the fitted rule."""
    assert report.fingerprint is not None and report.declared is not None
    rule, sweep = report.fingerprint.rule, report.sweep
    swept = sweep is not None and sweep.complete
    mismatches = max(report.declared.mismatches, sweep.mismatches if sweep is not None else 0)
    return {
        "kind": "cast", "format": report.format.name, "source": report.source.name, "fitted": rule.describe(),
        "rule": rule.to_dict() | {"subnormals": rule.format.subnormals},
        "equal": mismatches == 0, "mismatches": mismatches, "exhaustive": report.exhaustive,
        "inputs": 2**32 if swept else max(report.inputs, sweep.inputs if sweep is not None else 0),
        "presets": report.fingerprint.equal_presets,
        "observed": {key: getattr(report.fingerprint, key) for key in ("overflow", "infinity", "nan", "zeros")},
    }  # fmt: skip


def dot_entry(report: DotReport) -> dict[str, Any]:
    """What was found of dot products: the simplest accumulator that is equal, or else the nearest."""
    matches = [match for match in report.matches if not match.drawn]  # trees do not give products of other lengths
    tried = matches[0] if matches else report.nearest
    if report.declared is not None and report.declared.equal:
        tried = report.declared
    assert tried is not None
    return {
        "kind": "dot", "inputs": report.inputs, "length": report.length, "side": report.side,
        "fitted": described(tried.accumulator), "names": tried.names, "equal": tried.equal,
        "results": tried.results, "mismatches": tried.results - tried.agreeing,
        "probes_differ": tried.probes_differ, "zero_signs": tried.zero_signs,
        "also_equal": [described(each.accumulator) for each in matches[1:]],
        "observed": {m.name: m.meaning for m in report.measurements},
    }  # fmt: skip


def rule_of(entry: Mapping[str, Any]) -> Rule:
    """The fitted rule of a cast's entry."""
    row = entry["rule"]
    codes = row["nan_codes"]
    return Rule(
        replace(FORMATS[row["format"]], subnormals=row["subnormals"]),
        Policy(row["mode"], row["overflow"]),
        row["via"],
        row["via_truncates"],
        (int(codes[0], 16), int(codes[1], 16)) if isinstance(codes, list) else codes,
        tuple(row["quirks"]),
    )


def pack_mismatches(entry: Mapping[str, Any], folder: Path) -> int:
    """How many vectors of the subject's file are not what mpsim gives by the fitted rule or accumulator."""
    path = folder / f"{entry['name']}.npz"
    if entry["kind"] == "dot":
        return _products_that_differ(entry, path)
    rule, source = rule_of(entry), as_source(entry["source"])
    return count_differences(rule, of_vectors(open_subject(str(path)), source, rule.format))


def edge_mismatches(entry: Mapping[str, Any], folder: Path) -> int:
    """How many products of NAME_edges.npz are not what mpsim gives by the fitted accumulator."""
    return _products_that_differ(entry, folder / f"{entry['name']}_edges.npz")


def _products_that_differ(entry: Mapping[str, Any], path: Path) -> int:
    return read_dot_vectors(path).differing(accumulator_of(entry["fitted"]))
