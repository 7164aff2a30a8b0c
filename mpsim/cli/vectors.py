"""``mpsim vectors``: packs of test vectors with a manifest, whose bytes are the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mpsim.arithmetic import ARITHMETIC
from mpsim.cli.options import takes
from mpsim.cli.output import JsonFlag, complain, print_json
from mpsim.cli.paths import check_new_folder
from mpsim.files.records import Record
from mpsim.integers import IntegerOverflow
from mpsim.policies import Mode, Overflow
from mpsim.products.tensor_cores import accumulator_of
from mpsim.vectors.blocks import block_tables
from mpsim.vectors.casts import cast_tables
from mpsim.vectors.forms import FORMS, OP_FORMS, Table
from mpsim.vectors.operations import op_tables
from mpsim.vectors.pack import Manifest, write_pack
from mpsim.vectors.pack import verify as problems
from mpsim.vectors.step import write_step
from mpsim.vectors.tables import dot_table

app = typer.Typer(
    help="Write test vectors, i.e. inputs and results of mpsim's definition, as npz, JSON lines, hex text, C header.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _writable(folder: Path) -> Path:
    check_new_folder(folder, "--out")
    return folder


Out = Annotated[
    Path, typer.Option(file_okay=False, callback=_writable, help="Folder to write to; it is created if missing.")
]


@dataclass(frozen=True)
class Target:
    """The options of all commands that write sets of vectors."""

    out: Out
    form: Annotated[
        list[str] | None,
        typer.Option(help="npz, jsonl, txt, mem, h; for operations also testfloat; may be repeated. Default: all."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of what is drawn at random.")] = 0
    json: JsonFlag = False

    def write(self, tables: Iterable[Table], arguments: Record, forms: Sequence[str] = FORMS) -> None:
        """Writes the pack of tables. ``arguments``: those of the command besides these options, for the manifest."""
        arguments = arguments | {"form": self.form, "seed": self.seed}
        _print_summary(write_pack(self.out, tables, arguments, self.form or forms), self.out, self.json)


@takes("target", Target)
def cast(
    target: Target,
    format: Annotated[
        list[str] | None,
        typer.Option(help="Target: a format or an integer type; may be repeated. Default: all narrower named formats."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="float16, bfloat16, float32, float64, an integer type, or a format, for its codes.")
    ] = "float32",
    mode: Annotated[list[Mode] | None, typer.Option(help="Rounding mode; may be repeated. Default: all.")] = None,
    overflow: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Overflow policy: {', '.join(Overflow)}; for integers {', '.join(IntegerOverflow)}; may be repeated. "
            f"Default: all."
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Inputs of each target; 0: all of a source of at most 16 bits.")] = 1000,
    random_bit_count: Annotated[int, typer.Option(help="For mode stochastic: the number of random bits.")] = 16,
) -> None:
    """Write vectors of casts, one set for each format, mode and overflow policy ('mpsim validate cast' reads them)."""
    arguments: Record = {
        "kind": "cast",
        "format": format,
        "source": source,
        "mode": None if mode is None else [str(each) for each in mode],
        "overflow": None if overflow is None else list(overflow),
        "size": size,
        "random_bit_count": random_bit_count,
    }
    tables = cast_tables(format, source, mode, overflow, size=size, seed=target.seed, random_bit_count=random_bit_count)
    target.write(tables, arguments)


@takes("target", Target)
def op(
    target: Target,
    operation: Annotated[list[str], typer.Option(help=f"May be repeated: {', '.join(ARITHMETIC)}.")],
    formats: Annotated[str, typer.Option(help="Format of all operands, or one for each, with commas.")],
    result: Annotated[str | None, typer.Option(help="Format of the result; default: the first operand's.")] = None,
    mode: Annotated[list[Mode] | None, typer.Option(help="May be repeated. Default: nearest_even.")] = None,
    overflow: Annotated[list[Overflow] | None, typer.Option(help="May be repeated. Default: infinity.")] = None,
    size: Annotated[int, typer.Option(help="Most combinations of operands; 0: all, of at most 65,536.")] = 1000,
    random_bit_count: Annotated[int, typer.Option(help="For stochastic modes: the number of random bits.")] = 16,
    tininess: Annotated[str, typer.Option(help="For flags of IEEE formats: after or before rounding.")] = "after",
) -> None:
    """Write vectors of operations: operands, results, and IEEE 754's flags ('mpsim validate op' reads txt and tv)."""
    several = formats.split(",")
    modes = [each.value for each in mode or [Mode.NEAREST_EVEN]]
    overflows = [each.value for each in overflow or [Overflow.INFINITY]]
    arguments: Record = {
        "kind": "op", "operation": list(operation), "formats": formats, "result": result, "mode": list(modes),
        "overflow": list(overflows), "size": size, "random_bit_count": random_bit_count, "tininess": tininess,
    }  # fmt: skip
    tables = op_tables(
        operation, several[0] if len(several) == 1 else several, result, modes, overflows, size=size,
        seed=target.seed, random_bit_count=random_bit_count, tininess=tininess,
    )  # fmt: skip
    target.write(tables, arguments, OP_FORMS)


@takes("target", Target)
def blocks(
    target: Target,
    format: Annotated[
        list[str],
        typer.Option(help="Block format, preset or description, as for 'mpsim validate blocks'; may be repeated."),
    ],
    tensor_scale: Annotated[
        float | None,
        typer.Option(help="The second scale, or the largest magnitude of a multiplier. Default: that of the blocks."),
    ] = None,
    statistic: Annotated[
        float | None, typer.Option(help="The largest magnitude, for quantisers that are given it.")
    ] = None,
    size: Annotated[int, typer.Option(help="Most blocks of each quantiser.")] = 200,
) -> None:
    """Write vectors of block quantisers: blocks, element codes, scales ('mpsim validate blocks' reads them)."""
    arguments: Record = {
        "kind": "blocks", "format": list(format), "tensor_scale": tensor_scale, "statistic": statistic, "size": size,
    }  # fmt: skip
    tables = block_tables(format, tensor_scale=tensor_scale, statistic=statistic, size=size, seed=target.seed)
    target.write(tables, arguments)


@takes("target", Target)
def dot(
    target: Target,
    accumulator: Annotated[
        str, typer.Option(help="As 'exact', 'chunk=64,format=fp_6_9_0', or a tensor core, as hopper_float16.")
    ] = "chunk=256",
    inputs: Annotated[str, typer.Option(help="Format of the operands.")] = "float32",
    length: Annotated[int, typer.Option(help="Terms of each dot product.")] = 64,
    size: Annotated[int, typer.Option(help="Dot products.")] = 100,
) -> None:
    """Write vectors of dot products for one accumulator: codes of a and b, and the float32 results."""
    arguments: Record = {
        "kind": "dot", "accumulator": accumulator, "inputs": inputs, "length": length, "size": size,
    }  # fmt: skip
    table = dot_table(accumulator_of(accumulator), inputs, length, size=size, seed=target.seed)
    target.write([table], arguments)


def step(
    out: Out,
    model: Annotated[str, typer.Argument(help="Network, e.g. small_cnn.")] = "small_cnn",
    width: Annotated[float, typer.Option(help="Width multiplier of the network.")] = 1.0,
    batch: Annotated[int, typer.Option(help="Number of examples in the step.")] = 2,
    scheme: Annotated[str, typer.Option(help="As for 'mpsim plan'.")] = "uniform_low",
    levels: Annotated[str, typer.Option(help="As for 'mpsim plan'.")] = "paper",
    seed: Annotated[int, typer.Option(help="Seed of the weights and the examples.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Write vectors of one training step: every stored tensor, as npz and one hex file each, with the index."""
    arguments = {
        "kind": "step", "model": model, "width": width, "batch": batch, "scheme": scheme, "levels": levels,
        "seed": seed,
    }  # fmt: skip
    _print_summary(write_step(out, arguments), out, json)


def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that 'mpsim vectors' wrote.")], json: JsonFlag = False
) -> None:
    """Report which files of a pack were changed, are missing, or are not listed in its manifest.

    Exit code 0: none; 1: some; 2: the folder is not a pack.
    """
    try:
        found = problems(folder)
    except (OSError, ValueError) as error:
        complain(str(error))
        raise typer.Exit(2) from error
    if json:
        print_json({"equal": not found, "problems": [problem._asdict() for problem in found]})
    elif not found:
        typer.echo(f"{folder}: every file matches the manifest")
    else:
        typer.echo(f"{folder}: {len(found)} files do not match the manifest")
        for problem in found:
            typer.echo(f"  {problem.what}: {problem.file}")
    if found:
        raise typer.Exit(1)


def _print_summary(manifest: Manifest, out: Path, json: bool) -> None:
    if json:
        print_json(manifest)
        return
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    vectors = sum(each["vectors"] for each in manifest["sets"])
    counts = {"set": len(manifest["sets"]), "vector": vectors, "file": len(manifest["files"])}
    told = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items())
    typer.echo(f"{out}: {told}, {size / 1e6:.1f} MB")


for function in (cast, op, blocks, dot, step, verify):
    app.command(function.__name__)(function)
