"""``mpsim formats``, ``mpsim round``, ``mpsim backends``."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Annotated

import numpy as np
import typer

from mpsim.cli.output import JsonFlag, print_json, print_table
from mpsim.errors import UsageError
from mpsim.files.records import Fields, Record
from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels import BACKENDS, DEFAULT_BACKEND, OF_PACKAGE, BackendUnavailable, known, load, spec, spec_codes
from mpsim.policies import Mode, Overflow, Policy
from mpsim.rounding import available_threads, encode, round_to


def formats(
    names: Annotated[
        list[str] | None, typer.Argument(help="Formats to show (also fp_E_M_B); default: all named.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """List the floating-point formats and what follows from their definitions."""
    rows = [_format_row(as_format(name)) for name in names or FORMATS]
    if json:
        print_json(rows)
        return
    columns = (
        "name",
        "bits",
        "exponent_bits",
        "mantissa_bits",
        "bias",
        "specials",
        "largest",
        "smallest_normal",
        "smallest",
    )
    headers = [column.replace("_", " ").replace(" bits", "") for column in columns]
    print_table(headers, [[_shown(row[column]) for column in columns] for row in rows])


def _format_row(format: Format) -> Record:
    """The fields of a format; numbers that float64 does not hold as text, such as "3 * 2**32764"."""
    if format.fits_float64:
        numbers: Record = {
            "largest": format.largest,
            "smallest_normal": format.smallest_normal,
            "smallest": format.smallest,
            "overflow_threshold": format.overflow_threshold[0],
        }
    else:
        significand, exponent = format.split(format.largest_code)
        numbers = {
            "largest": _power(significand, exponent),
            "smallest_normal": _power(1, format.min_exponent),
            "smallest": _power(1, format.min_exponent - format.mantissa_bits * format.subnormals),
            "overflow_threshold": _power(2 * significand + 1, exponent - 1),
        }
    return {
        "name": format.name,
        "bits": format.bits,
        "exponent_bits": format.exponent_bits,
        "mantissa_bits": format.mantissa_bits,
        "bias": format.bias,
        "specials": format.specials,
        "subnormals": format.subnormals,
        "signed": format.signed,
        **numbers,
    }


def _power(significand: int, exponent: int) -> str:
    return f"{significand} * 2**{exponent}"


def _shown(value: object) -> object:
    return f"{value:.9g}" if isinstance(value, float) else value


Source = Annotated[
    str,
    typer.Option(help="What holds the values before rounding: text (nothing is lost), float64 or float32."),
]


def round_values(
    values: Annotated[list[str], typer.Argument(help="Numbers, as 0.3, -1e-5, 1/3, 0x1.8p-3, inf, nan.")],
    format: Annotated[str, typer.Option(help="Format to round to; 'mpsim formats' lists them.")],
    mode: Annotated[Mode, typer.Option(help="Rounding mode.")] = Mode.NEAREST_EVEN,
    overflow: Annotated[
        Overflow, typer.Option(help="What a result beyond the largest number becomes.")
    ] = Overflow.INFINITY,
    random_bits: Annotated[
        str | None, typer.Option(help="For stochastic modes: a uint32 for all values, or one each, with commas.")
    ] = None,
    random_bit_count: Annotated[
        int | None, typer.Option(help="For mode stochastic: how many of the bits, 1 to 32.")
    ] = None,
    source: Source = "text",
    backend: Annotated[
        str, typer.Option(help="Which backend rounds; text that float64 does not hold is rounded by the definition.")
    ] = DEFAULT_BACKEND,
    json: JsonFlag = False,
) -> None:
    """Round numbers, once: value, code, the format's numbers on both sides, error."""
    target = as_format(format)
    options = {"mode": mode, "overflow": overflow, "random_bit_count": random_bit_count, "backend": backend}
    bits = _random_bits(random_bits, len(values))
    rows = []
    for number, text in enumerate(values):
        words = {"random_bits": None if bits is None else bits[number : number + 1]}
        number_or_exact = _number(text, source, target)
        if isinstance(number_or_exact, Fraction):
            rows.append(_rounded_text(text, number_or_exact, target, options | words))
        else:
            rows.append(_rounded_row(number_or_exact, target, options | words, backend))
    if json:
        print_json(rows if len(rows) > 1 else rows[0])
        return
    columns = ("input", "value", "code", "binary", "below", "above", "error")
    rows = [row | {"input": row.get("text", row["input"])} for row in rows]
    cells = [[repr(cell) if isinstance(cell := row[c], float) else cell for c in columns] for row in rows]
    name = target.name if format == target.name else f"{format} ({target.name})"
    print_table(columns, cells, title=f"{name}, {mode.value}, overflow {overflow.value}")


def _rounded_row(x: np.ndarray, format: Format, options: Fields, backend: str) -> Record:
    """One number (an array of one element), rounded, as JSON fields."""

    value = float(round_to(x, format, **options)[0])
    try:
        code: int | None = int(encode(x, format, **options)[0])
    except ValueError:  # the value stands outside the format: NaN, or the infinity of overflow 'mark'
        code = None
    given = float(x[0])
    row: Record = {"input": given, "format": format.name, "value": value, **_code_fields(code, format)}
    wide = x.astype(np.float64)
    for side, mode in (("below", Mode.DOWN), ("above", Mode.UP)):
        beside = np.nextafter(wide, -np.inf if side == "below" else np.inf)
        neighbour = float(round_to(beside, format, mode, Overflow.SATURATE, backend=backend)[0])
        beyond = neighbour < wide[0] if side == "below" else neighbour > wide[0]
        row[side] = neighbour if beyond else None
    row["error"] = value - given if np.isfinite(value) and np.isfinite(given) else None
    return row | {"mode": options["mode"].value, "overflow": options["overflow"].value}


def _rounded_text(text: str, exact: Fraction, format: Format, options: Fields) -> Record:
    """A number that float64 does not hold, rounded by the definition, as JSON fields; "input": the nearest float64."""

    policy = Policy(options["mode"], options["overflow"], options["random_bit_count"])
    if policy.mode.is_legacy:
        raise typer.BadParameter(
            f"mode {policy.mode.value} adds to the pattern of a float32 number, and float32 does not hold {text}; "
            f"--source float32 rounds it to float32 first",
            param_hint="--mode",
        )
    if policy.mode.needs_random_bits and (options["random_bits"] is None or options["random_bit_count"] is None):
        raise typer.BadParameter(
            f"mode {policy.mode.value} takes --random-bits and --random-bit-count", param_hint="--mode"
        )
    words = options["random_bits"]
    value = spec.round_fraction(exact, exact < 0, format, policy, None if words is None else int(words[0]))
    try:
        code: int | None = spec_codes.encode(value, format)
    except ValueError:  # the value stands outside the format
        code = None
    row: Record = {"input": _nearest(exact), "text": text, "format": format.name, "value": value}
    row |= _code_fields(code, format)
    for side, mode in (("below", Mode.DOWN), ("above", Mode.UP)):
        neighbour = spec.round_fraction(exact, exact < 0, format, Policy(mode, Overflow.SATURATE))
        beyond = math.isfinite(neighbour) and (neighbour < exact if side == "below" else neighbour > exact)
        row[side] = neighbour if beyond else None
    row["error"] = _nearest(Fraction(value) - exact) if math.isfinite(value) else None
    return row | {"mode": policy.mode.value, "overflow": policy.overflow.value}


def _nearest(x: Fraction) -> float:
    """x in float64, infinity beyond its range."""
    try:
        return float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf


def _code_fields(code: int | None, format: Format) -> dict[str, str | None]:
    """A code in hexadecimal and binary digits."""
    if code is None:
        return {"code": None, "binary": None}
    return {"code": f"0x{code:0{-(-format.bits // 4)}x}", "binary": _binary(code, format)}


def _binary(code: int, format: Format) -> str:
    """Sign, exponent and mantissa of a code, apart."""
    digits = f"{code:0{format.bits}b}"
    sign = int(format.signed)
    parts = (digits[:sign], digits[sign : sign + format.exponent_bits], digits[sign + format.exponent_bits :])
    return " ".join(part for part in parts if part)


def _number(text: str, source: str, format: Format) -> np.ndarray | Fraction:
    """The number of a text: an array of it in the source's type, or exactly, where that type does not hold it."""

    if source not in ("text", "float32", "float64"):
        raise typer.BadParameter(f"'{source}' is none of text, float64, float32", param_hint="--source")
    try:
        exact = _exact(text)
        value = float(text) if exact is None else _nearest(exact)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(
            f"'{text}' is not a number; expected e.g. 0.3, -1e-5, 1/3, 0x1.8p-3, inf, nan", param_hint="VALUES"
        ) from None
    if exact == 0 and text.strip().startswith("-"):
        value = -0.0
    if source == "text" and exact is not None and value != exact:
        return exact
    with np.errstate(over="ignore"):
        return np.array([value], np.float64).astype("float64" if source == "text" else source)


def _exact(text: str) -> Fraction | None:
    """The number of a text, None for infinity and NaN; beyond 2**20000 that stands for all. Raises ValueError."""
    text = text.strip().lower()
    if text.lstrip("+-") in ("inf", "infinity", "nan"):
        return None
    match = re.fullmatch(r"([+-]?)0x([0-9a-f]*)\.?([0-9a-f]*)(?:p([+-]?[0-9]+))?", text)
    if match:
        sign, whole, rest, power = match.groups()
        exponent = max(-20000, min(20000, int(power or 0)))
        return int(f"{sign}{whole}{rest}", 16) * Fraction(2) ** (exponent - 4 * len(rest))
    if "/" in text:
        return Fraction(text)
    mantissa, e, power = text.partition("e")
    return Fraction(mantissa) * Fraction(10) ** (max(-6000, min(6000, int(power))) if e else 0)


def _random_bits(text: str | None, count: int) -> np.ndarray | None:

    if text is None:
        return None
    try:
        words = [int(word, 0) for word in text.split(",")]
    except ValueError:
        words = [-1]
    if len(words) not in (1, count) or not all(0 <= word < 2**32 for word in words):
        raise typer.BadParameter(
            f"'{text}' should be one number in 0..2^32-1, or {count} with commas between", param_hint="--random-bits"
        )
    return np.array(words * (count // len(words)), np.uint32)


def backends(json: JsonFlag = False) -> None:
    """Say which backends run here, on which vector code and how many threads, and why others do not."""

    threads = available_threads()
    rows = [_backend_row(name, threads) for name in _backend_names()]
    if json:
        print_json(rows)
        return
    columns = ("name", "available", "variant", "threads", "description")
    print_table(
        columns,
        [[r["name"], "yes" if r["available"] else "no", r["variant"], r["threads"], r["description"]] for r in rows],
    )
    for row in rows:
        if not row["available"]:
            typer.echo(row["cause"])


def _backend_names() -> list[str]:

    return known()


def _backend_row(name: str, threads: int) -> Record:

    description = BACKENDS[name][1] if name in BACKENDS else OF_PACKAGE
    row: Record = {"name": name, "description": description, "available": True, "cause": None}
    row |= {"variant": None, "variants": None, "threads": threads}
    try:
        load(name)
    except (BackendUnavailable, UsageError) as error:  # the latter: a package's that cannot be imported
        return row | {"available": False, "cause": str(error), "threads": None}
    if name == "compiled":
        import mpsim._kernels as extension

        row |= {"variant": extension.variant(), "variants": list(extension.variants())}
    if name == "cuda":
        from mpsim.kernels.cuda.device.devices import device

        row |= {"variant": device().name, "threads": None}
    return row
