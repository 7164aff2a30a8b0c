"""``mpsim figure``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpsim import checks
from mpsim.cli.output import JsonFlag, check_writable, parse_numbers, print_json, print_table
from mpsim.cli.plans import SemanticsName
from mpsim.cli.progress import Backend, Folder, Processes, Threads, run_jobs
from mpsim.errors import UsageError

if TYPE_CHECKING:
    from mpsim.experiments.settings import RunSettings
    from mpsim.experiments.studies import Panel


def figure(
    numbers: Annotated[
        list[int] | None, typer.Argument(help="Figures of the paper: 4, 5, 10, 11, 12, 16, 17.", show_default=False)
    ] = None,
    scale: Annotated[
        str, typer.Option(help="small (two cores, under two hours) or paper (its full recipe).")
    ] = "small",
    data: Annotated[str | None, typer.Option(help="Datasets with commas; default: the scale's own.")] = None,
    data_path: Annotated[str | None, typer.Option(help="The dataset's archive or folder, where it needs one.")] = None,
    models: Annotated[str | None, typer.Option(help="Networks with commas; default: the scale's own.")] = None,
    widths: Annotated[str | None, typer.Option(help="Widths with commas; default: the scale's own.")] = None,
    levels: Annotated[str | None, typer.Option(help="Level pairs with commas; default: the scale's own.")] = None,
    ratios: Annotated[str | None, typer.Option(help="Shares to demote to, as 0.1,0.5,1; default: the scale's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data; default: the scale's.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Runs per plan, with seeds 0, 1, ...; default: the scale's.")
    ] = None,
    semantics: SemanticsName = "standard",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs and estimate the time.")] = False,
    processes: Processes = None,
    threads: Threads = None,
    backend: Backend = "compiled",
    results: Folder = Path("results"),
    csv: Annotated[Path | None, typer.Option(help="Also write the runs to this CSV file.")] = None,
    json: JsonFlag = False,
) -> None:
    """Run what is missing behind figures of the paper and draw them; without a number, draw what the folder has."""
    if not numbers:
        if dry_run or csv is not None:
            raise typer.BadParameter("which figure of the paper? As 'mpsim figure 4 --dry-run'", param_hint="NUMBERS")
        _draw_all(results, json)
        return
    from mpsim.experiments.studies import panels
    from mpsim.experiments.sweep import trained_as
    from mpsim.kernels import load

    processes = checks.processes(processes)
    checks.threads(threads)
    options: dict[str, Any] = {
        "data": _words(data), "data_path": data_path, "models": _words(models),
        "epochs": epochs, "seeds": seeds, "levels": _words(levels),
        "widths": parse_numbers(widths, "--widths"), "ratios": parse_numbers(ratios, "--ratios"),
        "semantics": semantics,
    }  # fmt: skip
    chosen = {number: panels(number, scale, **options) for number in numbers}
    jobs = list(dict.fromkeys(job for each in chosen.values() for panel in each for job in panel.jobs))
    if csv is not None:
        check_writable(csv)
    load(backend)
    trained = trained_as(jobs)
    if dry_run:
        _tell(list(dict.fromkeys(trained.values())), results, processes, threads, backend, json)
        return
    rows = run_jobs(jobs, trained, results, processes, threads, backend)
    _show(chosen, dict(zip([job.key for job in jobs], rows, strict=True)), results, csv, json)


def _tell(
    jobs: list[RunSettings], results: Path, processes: int, threads: int | None, backend: str, json: bool
) -> None:
    """Which of the runs are missing, and about how long they take; makes no folder and no file."""
    from mpsim.experiments.results import FILE_NAME, Results
    from mpsim.experiments.studies import estimate_seconds

    missing, count = jobs, len(jobs)
    if (results / FILE_NAME).exists():
        with Results.in_folder(results, create=False) as opened:
            missing = [job for job in jobs if opened.result(job.key) is None]
    seconds = estimate_seconds(missing, backend=backend, threads=threads or 1) / processes
    if json:
        runs = [{"key": job.key, **job.to_dict()} for job in missing]
        print_json({"runs": count, "missing": runs, "estimated_seconds": seconds, "processes": processes})
        return
    cells = [[job.model_name, f"{job.width:g}", job.data, job.label, f"{job.seed}", _promotes(job)] for job in missing]
    print_table(["model", "width", "data", "plan", "seed", "promotion"], cells)
    typer.echo(
        f"{len(missing)} of {count} runs are missing: about {seconds / 3600:.1f} hours "
        f"with {processes} processes, by the time of one step of each network here"
    )


def _show(
    chosen: dict[int, list[Panel]], by_key: dict[str, dict[str, Any]], results: Path, csv: Path | None, json: bool
) -> None:
    """Draws each figure into the folder and prints its tables, from the results by the keys of the runs."""
    from mpsim.experiments.paper_figures import draw
    from mpsim.experiments.studies import FIGURES
    from mpsim.experiments.study_tables import summary, write_csv

    files, texts = [], []
    for number, panels in chosen.items():
        titled = [(panel.title, [by_key[job.key] for job in panel.jobs]) for panel in panels]
        row = FIGURES[number]
        title = f"Figure {number}: {row.title} (bars: lowest to highest seed)"
        files += draw(row.compares, titled, results / f"figure_{number}", title)
        texts.append(f"Figure {number}: {row.title}\n\n{summary(titled)}")
    table = results / "figures.md"
    table.write_text("\n".join(texts), encoding="utf-8")
    files.append(table)
    if csv is not None:
        files.append(write_csv(by_key.values(), csv))
    if json:
        print_json({"files": [str(file) for file in files], "runs": list(by_key.values())})
        return
    typer.echo("\n".join(texts))
    typer.echo(f"written: {', '.join(map(str, files))}")


def _promotes(job: RunSettings) -> str:
    threshold = job.promotion_threshold()
    return "no" if threshold is None else f"{threshold:g}"


def _words(text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")


def _draw_all(results: Path, json: bool) -> None:
    """The memory-accuracy curve of the finished runs in a results folder, one figure per kind of run."""
    from mpsim.experiments.results import Results

    gathered: dict[tuple, list[dict[str, Any]]] = {}
    with Results.in_folder(results, create=False) as opened:
        for stored in opened.runs():
            if stored.result is not None:
                settings = stored.settings
                kind = tuple(settings[name] for name in ("model", "width", "data", "epochs", "semantics"))
                gathered.setdefault(kind, []).append(stored.result)
    if not gathered:
        raise UsageError(f"no finished run in {results}; 'mpsim sweep' makes some")
    files = []
    for (model, width, data, epochs, semantics), rows in gathered.items():
        title = f"{model}, width {width:g}, on {data}: {epochs} epochs, {semantics}"
        name = f"memory_accuracy_{model}_{width:g}_{data}_{epochs}_{semantics}"
        files += draw_memory_accuracy(rows, results, title, name, not json)
    if json:
        print_json([str(file) for file in files])


def draw_memory_accuracy(
    rows: list[dict[str, Any]], folder: Path, title: str, name: str = "memory_accuracy", tell: bool = True
) -> list[Path]:
    """Draws the curve of a sweep into the folder; returns the files, and names them unless ``tell`` is False."""
    from mpsim.experiments.figures import memory_accuracy

    files = memory_accuracy(rows, folder / name, title=title)
    if tell:
        typer.echo(f"figure: {' and '.join(map(str, files))}")
    return files


COMMANDS: tuple[tuple[Any, str, dict[str, Any]], ...] = ((figure, "figure", {}),)
