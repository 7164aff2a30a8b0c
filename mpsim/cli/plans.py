"""``mpsim plan``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpsim import networks
from mpsim.assignment import Plan, assign, plan_report
from mpsim.assignment.liveness import best_recomputation, peak_memory
from mpsim.cli.options import help_of, takes
from mpsim.cli.output import JsonFlag, parse_numbers, print_json
from mpsim.cli.paths import check_output, data_errors, read_plan
from mpsim.data import load, located, vocabulary_of
from mpsim.errors import UsageError
from mpsim.experiments.settings import DEFAULTS
from mpsim.losses import loss_named
from mpsim.nn import Module
from mpsim.plugins import check_extra
from mpsim.trace import Trace, trace
from mpsim.training.semantics import as_semantics

if TYPE_CHECKING:
    from mpsim.assignment.comparison import Comparison

Scheme = Annotated[
    str,
    typer.Option(
        help="float32, uniform_high, uniform_low, operator_based, operator_based_extended, largest_first, "
        "smallest_first, random (with --seed; for mpsim trace-step --plan-seed), largest_k (with --k); for mpsim plan "
        "also largest_first_in_steps, smallest_first_in_steps, random_in_steps (with --ratios)."
    ),
]


@dataclass(frozen=True)
class PlannedNetwork:
    """The options of a network and of the scheme that plans a training step."""

    model: Annotated[str, typer.Argument(help="Network, e.g. small_cnn, resnet18 or my_net.py:build.")]
    width: Annotated[float, typer.Option(help=help_of("width"))] = DEFAULTS.width
    classes: Annotated[int | None, typer.Option(help="Number of classes; default: the data's, or 10.")] = None
    batch: Annotated[int, typer.Option(help="Examples of a training step (images, or rows of text).")] = DEFAULTS.batch
    scheme: Scheme = "largest_first"
    ratio: Annotated[float | None, typer.Option(help=help_of("ratio"))] = None
    k: Annotated[int | None, typer.Option("--k", help=help_of("k"))] = None
    levels: Annotated[str, typer.Option(help=help_of("levels"))] = DEFAULTS.levels
    semantics: Annotated[str, typer.Option(help=help_of("semantics"))] = DEFAULTS.semantics
    loss: Annotated[str, typer.Option(help=help_of("loss"))] = DEFAULTS.loss

    def planned(self, network: Module, **options: Any) -> tuple[Trace, Plan]:
        """Returns a trace of the network and its plan. ``options`` are further arguments of ``assign``."""
        traced = trace(network, self.batch, as_semantics(self.semantics).name, loss=loss_named(self.loss))
        return traced, assign(traced, self.scheme, ratio=self.ratio, k=self.k, levels=self.levels, **options)


@takes("settings", PlannedNetwork)
def plan(
    settings: PlannedNetwork,
    seed: Annotated[int | None, typer.Option(help=help_of("plan_seed"))] = None,
    ratios: Annotated[
        str | None, typer.Option(help="For *_in_steps: rising shares from the lowest level up, e.g. 0.3,0.7.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data that the network is built for: a dataset, or your own as for mpsim train.")
    ] = None,
    data_path: Annotated[str | None, typer.Option(help=help_of("data_path"))] = None,
    context: Annotated[int | None, typer.Option(help=help_of("context"))] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Another plan's JSON file: show where this plan differs from it.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the plan into this file: .png, .svg or .pdf.")] = None,
    json: JsonFlag = False,
) -> None:
    """Show the formats that a scheme gives to the tensors of a network."""
    from mpsim.experiments.drawing.plan_picture import SUFFIXES, draw_plan

    check_output(plot, "--plot", SUFFIXES)
    if plot is not None:
        check_extra("matplotlib", "--plot")
    other = None if compare is None else read_plan(compare, "--compare")
    network = _network(settings, data, data_path, context)
    traced, made = settings.planned(network, seed=seed, ratios=parse_numbers(ratios, "--ratios"))
    compared = None if other is None else _compared(other, made, f"--compare {compare}")
    if plot is not None:
        draw_plan(made, plot)
    if json:
        comparison = {} if compared is None else {"comparison": compared.to_dict()}
        print_json(plan_report(traced, made) | comparison)
        return
    typer.echo(f"{made!r}\n\n{made.table()}\n\n{_memory(made)}")
    if compared is not None:
        typer.echo(f"\nfrom {compare} to this plan: {compared.table()}")
    if plot is not None:
        typer.echo(f"\nfigure: {plot}")


def _network(settings: PlannedNetwork, data: str | None, path: str | None, context: int | None) -> Module:
    """Builds the network, for the classes and the size of the images of ``data`` if they are given."""
    if data is None:
        for option, value in (("--data-path", path), ("--context", context)):
            if value is not None:
                raise UsageError(f"{option} needs --data, the name of the dataset")
        chosen = 10 if settings.classes is None else settings.classes
        return networks.build(settings.model, width=settings.width, classes=chosen, seed=None)
    name, place = located(data, path)
    with data_errors(place):
        images = load(name, "train", place, context=context)
    return networks.build(
        settings.model,
        width=settings.width,
        classes=images.classes if settings.classes is None else settings.classes,
        seed=None,
        input_shape=tuple(images.image_shape),
        vocabulary=vocabulary_of(images),
    )


def _compared(other: Plan, made: Plan, where: str) -> Comparison:
    from mpsim.assignment.comparison import compare

    try:
        return compare(other, made)
    except ValueError as error:
        raise UsageError(f"{where}: {error}; compare with a plan of the same network and batch") from error


def _memory(made: Plan) -> str:
    """Returns two lines on the peak live memory."""
    peak, best = peak_memory(made), best_recomputation(made)
    lines = f"all tensors: {made.bytes:,} bytes; peak live memory: {peak.bytes:,} ({peak.phase} of {peak.op_name})"
    if best.segments == 1:
        return f"{lines}\nrecomputing activations would save nothing"
    return (
        f"{lines}\nrecomputing activations between {best.segments} segments: peak {best.bytes:,}, "
        f"{best.recomputed_share:.0%} of the activations computed twice"
    )
