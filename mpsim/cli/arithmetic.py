"""``mpsim formats``, ``mpsim round``, ``mpsim backends``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mpsim.cli.output import JsonFlag, print_json, print_table
from mpsim.formats import FORMATS, Format, as_format
from mpsim.policies import Mode, Overflow


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


def _format_row(format: Format) -> dict[str, Any]:
    return {
        "name": format.name,
        "bits": format.bits,
        "exponent_bits": format.exponent_bits,
        "mantissa_bits": format.mantissa_bits,
        "bias": format.bias,
        "specials": format.specials,
        "subnormals": format.subnormals,
        "signed": format.signed,
        "largest": format.largest,
        "smallest_normal": format.smallest_normal,
        "smallest": format.smallest,
        "overflow_threshold": format.overflow_threshold[0],
    }


def _shown(value: Any) -> Any:
    return f"{value:.9g}" if isinstance(value, float) else value


Source = Annotated[str, typer.Option(help="Type that holds the values before rounding: float64 or float32.")]


def round_values(
    values: Annotated[list[str], typer.Argument(help="Numbers, as 0.3, -1e-5, 0x1.8p-3, inf, nan.")],
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
    source: Source = "float64",
    backend: Annotated[str, typer.Option(help="Which backend rounds.")] = "compiled",
    json: JsonFlag = False,
) -> None:
    """Round numbers, once: value, code, the format's numbers on both sides, error."""
    target = as_format(format)
    options = {"mode": mode, "overflow": overflow, "random_bit_count": random_bit_count, "backend": backend}
    bits = _random_bits(random_bits, len(values))
    rows = []
    for number, text in enumerate(values):
        words = {"random_bits": None if bits is None else bits[number : number + 1]}
        rows.append(_rounded_row(_number(text, source), target, options | words, backend))
    if json:
        print_json(rows if len(rows) > 1 else rows[0])
        return
    columns = ("input", "value", "code", "binary", "below", "above", "error")
    cells = [[repr(cell) if isinstance(cell := row[c], float) else cell for c in columns] for row in rows]
    print_table(columns, cells, title=f"{target.name}, {mode.value}, overflow {overflow.value}")


def _rounded_row(x: Any, format: Format, options: dict[str, Any], backend: str) -> dict[str, Any]:
    """One number (an array of one element), rounded, as JSON fields."""
    import numpy as np

    from mpsim.rounding import encode, round_to

    value = float(round_to(x, format, **options)[0])
    try:
        code: int | None = int(encode(x, format, **options)[0])
    except ValueError:  # the value stands outside the format: NaN, or the infinity of overflow 'mark'
        code = None
    row: dict[str, Any] = {"input": float(x[0]), "format": format.name, "value": value}
    row["code"] = None if code is None else f"0x{code:0{-(-format.bits // 4)}x}"
    row["binary"] = None if code is None else _binary(code, format)
    wide = x.astype(np.float64)
    for side, mode in (("below", Mode.DOWN), ("above", Mode.UP)):
        beside = np.nextafter(wide, -np.inf if side == "below" else np.inf)
        neighbour = float(round_to(beside, format, mode, Overflow.SATURATE, backend=backend)[0])
        beyond = neighbour < wide[0] if side == "below" else neighbour > wide[0]
        row[side] = neighbour if beyond else None
    exact = np.isfinite(value) and np.isfinite(row["input"])
    row["error"] = value - row["input"] if exact else None
    return row | {"mode": options["mode"].value, "overflow": options["overflow"].value}


def _binary(code: int, format: Format) -> str:
    """Sign, exponent and mantissa of a code, apart."""
    digits = f"{code:0{format.bits}b}"
    sign = int(format.signed)
    parts = (digits[:sign], digits[sign : sign + format.exponent_bits], digits[sign + format.exponent_bits :])
    return " ".join(part for part in parts if part)


def _number(text: str, source: str) -> Any:
    import numpy as np

    if source not in ("float32", "float64"):
        raise typer.BadParameter(f"'{source}' is neither float64 nor float32", param_hint="--source")
    try:
        value = float.fromhex(text) if "0x" in text.lower() else float(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"'{text}' is no number; expected one as 0.3, -1e-5, 0x1.8p-3, inf, nan", param_hint="VALUES"
        ) from None
    with np.errstate(over="ignore"):
        return np.array([value], np.float64).astype(source)


def _random_bits(text: str | None, count: int) -> Any:
    import numpy as np

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
    from mpsim.rounding import available_threads

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
    from mpsim.kernels import BACKENDS

    return list(BACKENDS)


def _backend_row(name: str, threads: int) -> dict[str, Any]:
    from mpsim.kernels import BACKENDS, BackendUnavailable, load

    row: dict[str, Any] = {"name": name, "description": BACKENDS[name][1], "available": True, "cause": None}
    row |= {"variant": None, "variants": None, "threads": threads}
    try:
        load(name)
    except BackendUnavailable as error:
        return row | {"available": False, "cause": str(error), "threads": None}
    if name == "compiled":
        import mpsim._kernels as extension

        row |= {"variant": extension.variant(), "variants": list(extension.variants())}
    if name == "cuda":
        from mpsim.kernels.cuda.arrays import device

        row |= {"variant": device().name, "threads": None}
    return row


#: (function, name, settings for typer): options may be numbers below zero in 'round'.
COMMANDS: tuple[tuple[Any, str, dict[str, Any]], ...] = (
    (formats, "formats", {}),
    (round_values, "round", {"context_settings": {"ignore_unknown_options": True}}),
    (backends, "backends", {}),
)
