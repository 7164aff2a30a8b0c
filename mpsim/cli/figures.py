"""``mpsim figure``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpsim.cli.options import help_of, takes
from mpsim.cli.output import JsonFlag, parse_numbers, print_json, print_table
from mpsim.cli.paths import check_data, check_output, check_results
from mpsim.cli.progress import Outcome, Running, note, run_jobs
from mpsim.errors import UsageError
from mpsim.experiments.keeping import keeping_contents, keys_of
from mpsim.experiments.results import FILE_NAME, Results
from mpsim.experiments.settings import DEFAULTS, DEFINITION, RunSettings
from mpsim.files.records import Fields
from mpsim.files.whole import write_whole
from mpsim.kernels import load
from mpsim.plugins import check_extra

if TYPE_CHECKING:
    from mpsim.experiments.studies import Panel


@dataclass(frozen=True)
class Changes:
    """The options that replace values of the scale and the figure."""

    data: Annotated[str | None, typer.Option(help="Datasets with commas; default: the scale's own.")] = None
    data_path: Annotated[str | None, typer.Option(help=help_of("data_path"))] = None
    models: Annotated[str | None, typer.Option(help="Networks with commas; default: the scale's own.")] = None
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data; default: the scale's.")] = None
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds (0, 1, ...) for each plan; default: the scale's.")
    ] = None
    levels: Annotated[str | None, typer.Option(help="Pairs of levels with commas; default: the scale's own.")] = None
    widths: Annotated[str | None, typer.Option(help="Widths with commas; default: the scale's own.")] = None
    ratios: Annotated[str | None, typer.Option(help="Shares to demote to, e.g. 0.5,1; default: the scale's.")] = None
    semantics: Annotated[str, typer.Option(help=help_of("semantics"))] = DEFAULTS.semantics

    def arguments(self) -> Fields:
        """Returns the arguments of ``studies.panels``."""
        parsed = {
            "data": _words(self.data), "models": _words(self.models), "levels": _words(self.levels),
            "widths": parse_numbers(self.widths, "--widths"), "ratios": parse_numbers(self.ratios, "--ratios"),
        }  # fmt: skip
        return vars(self) | parsed


@takes("changes", Changes)
@takes("running", Running)
def figure(
    changes: Changes,
    running: Running,
    numbers: Annotated[
        list[int] | None, typer.Argument(help="Figures of the paper: 4, 5, 10, 11, 12, 16, 17.", show_default=False)
    ] = None,
    scale: Annotated[
        str, typer.Option(help="small (under two hours on two cores) or paper (its full recipe).")
    ] = "small",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs and estimate the time.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Also write the runs to this CSV file.")] = None,
    json: JsonFlag = False,
) -> None:
    """Run the missing trainings of the paper's figures and draw them. Without a number, draw what the folder has."""
    if not numbers:
        if dry_run or csv is not None:
            raise typer.BadParameter("give a figure, e.g. 'mpsim figure 4 --dry-run'", param_hint="NUMBERS")
        check_extra("matplotlib", "'mpsim figure'")
        _draw_all(running.results, json)
        return
    if not dry_run:
        check_extra("matplotlib", "'mpsim figure'")
    from mpsim.experiments.studies import panels
    from mpsim.experiments.sweep import trained_apart

    options = changes.arguments()
    chosen = {number: panels(number, scale, **options) for number in numbers}
    jobs = list(dict.fromkeys(job for each in chosen.values() for panel in each for job in panel.jobs))
    check_output(csv, "--csv")
    check_results(running.results)
    check_data(jobs, running.timeout)
    load(running.backend)
    trained = trained_apart(jobs, running.timeout)
    if dry_run:
        _list_missing(list(dict.fromkeys(trained.values())), running, json)
        return
    outcome = run_jobs(jobs, trained, running)
    names = {number: _name(number, scale, options, [job.key for job in jobs]) for number in chosen}
    _show({names[number]: (number, chosen[number]) for number in chosen}, jobs, outcome, running.results, csv, json)


def _name(number: int, scale: str, options: Mapping[str, object], keys: list[str]) -> str:
    """Returns the name of the figure's files. It differs from the usual name if the runs are not the small scale's."""
    from mpsim.experiments.labels import file_name

    given = {name: value for name, value in options.items() if value not in (None, DEFAULTS.semantics)}
    if scale == "small" and not given:
        return f"figure_{number}"
    texts = [scale]
    for name, value in given.items():
        if name != "data_path":
            texts.append(f"{name}-{','.join(map(str, value)) if isinstance(value, list) else value}")
    return file_name([f"figure_{number}", *texts], {"keys": keys})


def _list_missing(jobs: list[RunSettings], running: Running, json: bool) -> None:
    """Prints which runs are missing, their recipes and the estimated time. It creates no folder and no file."""
    from mpsim.experiments.studies import estimate_seconds

    keys, missing = keys_of(jobs), jobs
    processes = running.at_once
    if (running.results / FILE_NAME).exists():
        with Results.in_folder(running.results, create=False) as opened:
            missing = [job for job in jobs if opened.result(keys[job]) is None]
    seconds = estimate_seconds(missing, backend=running.backend, threads=running.threads or 1) / processes
    if json:
        runs = [{"key": keys[job], **job.to_dict()} for job in missing]
        print_json({"runs": len(jobs), "missing": runs, "estimated_seconds": seconds, "processes": processes})
        return
    cells = [[job.model_name, f"{job.width:g}", job.data, job.label, f"{job.seed}", _promotes(job)] for job in missing]
    print_table(["model", "width", "data", "plan", "seed", "promotion"], cells)
    for line in _recipes(jobs):
        typer.echo(line)
    typer.echo(
        f"{len(missing)} of {len(jobs)} runs are missing: about {seconds / 3600:.1f} hours "
        f"with {processes} processes, estimated from the time of one step of each network"
    )


def _recipes(jobs: list[RunSettings]) -> list[str]:
    """Returns a line on how the runs are trained for each network, width and dataset."""
    from mpsim.experiments.labels import labels, recipe

    contents = keeping_contents()
    gathered: dict[str, list[Fields]] = {}
    for job in jobs:
        place = f"{job.model_name}, width {job.width}, {job.data}"
        gathered.setdefault(place, []).append(labels(job, contents(job)))
    return [f"{place}: {recipe(rows)}" for place, rows in gathered.items()]


def _show(
    chosen: Mapping[str, tuple[int, list[Panel]]],
    jobs: list[RunSettings],
    outcome: Outcome,
    results: Path,
    csv: Path | None,
    json: bool,
) -> None:
    """Draws each figure into the folder, writes its tables next to it and prints them.

    ``chosen`` has (number, panels) of each figure by the name of its files.
    """
    from mpsim.experiments.drawing.paper_figures import draw
    from mpsim.experiments.studies import FIGURES
    from mpsim.experiments.study_tables import summary, write_csv

    by_job = dict(zip(jobs, outcome.rows, strict=True))
    files, texts = [], []
    for name, (number, panels) in chosen.items():
        titled = [(panel.title, [by_job[job] for job in panel.jobs]) for panel in panels]
        row = FIGURES[number]
        title = f"Figure {number}: {row.title} (bars: lowest to highest seed)"
        texts.append(f"Figure {number}: {row.title}\n\n{summary(titled)}")
        table = results / f"{name}.md"
        write_whole(table, texts[-1].encode())
        files += [*draw(row.compares, titled, results / name, title), table]
    if csv is not None:
        files.append(write_csv(outcome.rows, csv))
    if json:
        counts = {"trained": outcome.trained, "stored": outcome.stored}
        print_json({"files": [str(file) for file in files], **counts, "runs": outcome.rows})
        return
    typer.echo("\n".join(texts))
    typer.echo(f"written: {', '.join(map(str, files))}")


def _promotes(job: RunSettings) -> str:
    threshold = job.promotion_threshold()
    return "no" if threshold is None else f"{threshold:g}"


def _words(text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")


def _draw_all(results: Path, json: bool) -> None:
    """Draws the memory-accuracy curve of the finished runs in a results folder, one figure for each kind of run."""
    from mpsim.experiments.labels import kind, labels_of

    gathered: dict[tuple, list[Fields]] = {}
    old = 0
    with Results.in_folder(results, create=False) as opened:
        for stored in opened.runs():
            if stored.result is not None:
                row = stored.result | labels_of(stored.key, stored.settings)
                old += row["definition"] != DEFINITION
                if row["definition"] == DEFINITION:
                    gathered.setdefault(kind(row), []).append(row)
    if old:
        note(f"{old} runs in {results} are omitted: they are of an older mpsim, with different definitions")
    if not gathered:
        raise UsageError(f"there is no finished run in {results}; run 'mpsim sweep' first")
    files = [
        file for rows in gathered.values() for file in draw_memory_accuracy(rows, results, "memory_accuracy", not json)
    ]
    if json:
        print_json([str(file) for file in files])


def draw_memory_accuracy(rows: list[Fields], folder: Path, prefix: str, echo: bool = True) -> list[Path]:
    """Draws the curve of runs with one recipe into the folder and returns the files.

    Their name consists of ``prefix`` and the recipe. It is printed if ``echo`` is True.
    """
    from mpsim.experiments.drawing.figures import memory_accuracy
    from mpsim.experiments.labels import picture_name, words

    path = folder / picture_name(prefix, rows[0])
    files = memory_accuracy(rows, path, title=", ".join(words(rows[0])))
    if echo:
        typer.echo(f"figure: {' and '.join(map(str, files))}")
    return files
