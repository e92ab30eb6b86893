"""`scorecam evaluate`: methods in rows, metrics in columns, means over a folder of photographs."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scorecam_jax.cli import options
from scorecam_jax.cli.choice import add_how, check_options
from scorecam_jax.cli.errors import UserError, complain, complain_of, say
from scorecam_jax.cli.progress import Progress

NAME, ARGUMENTS = "evaluate", "PHOTO|DIR..."

SUMMARY = "measure methods on many photographs"

DESCRIPTION = """\
Measure methods on all photographs in a folder and print the table: methods in
rows, metrics in columns, the mean over photographs and its 95 % interval.

Every figure is kept as soon as it is known. The same command continues where
it was interrupted, and measures only what is missing when photographs, methods
or metrics were added or a photograph was changed. What cannot be read or used
is named, counted and left out.

An option such as --channels reaches the methods that take it.
"""

_MOST_NOTES = 20


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = options.add_targets(command)
    methods = (*options.METHODS, *options.PRESETS)
    what.add_argument(
        "--methods",
        type=options.some_of(methods),
        default=list(options.DEFAULT_METHODS),
        metavar="NAME,...",
        help=f"{', '.join(methods)}, or all that the network can take (default: "
        f"{', '.join(options.DEFAULT_METHODS)})",
    )
    what.add_argument(
        "--metrics",
        type=options.some_of(options.METRICS),
        metavar="NAME,...",
        help=f"{', '.join(options.METRICS)}, or all (default: all but "
        f"{', '.join(options.NOT_DEFAULT)})",
    )
    how = command.add_argument_group("how")
    add_how(how)
    where = command.add_argument_group("where it goes")
    where.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a folder for tables and figures (default: DIR-scorecam in the current folder)",
    )
    options.add_json(where)


def run(asked: argparse.Namespace) -> int:
    """Print the table; 1 if anything was left out."""
    for path in asked.photos:
        if not path.exists():
            raise UserError(f"{path} is not a folder, and no file either")
    output = Path(asked.output or f"{_called(asked.photos)}-scorecam")
    _check_output(output)
    check_options(asked, asked.methods, also=["batch_size"])
    study = _measure(asked, output)
    found = study.evaluation()
    _list(study.remarks, output)
    _report(found, output, as_json=asked.json)
    return int(bool(found.left_out))


def _measure(asked: argparse.Namespace, output: Path) -> Any:
    from scorecam_jax.cli import common
    from scorecam_jax.study.outputs import save
    from scorecam_jax.study.study import default_metrics, results_in, without_unfit

    with Progress(1, enabled=not asked.quiet) as progress:
        progress.start("loading the model")
        classifier = common.load(asked, layer=asked.layer, layers=asked.layers)
        progress.start("looking for photographs")
        found = common.listed(asked, classifier)
        metrics = asked.metrics or default_metrics(bool(found.annotations))
        plan = common.plan_of(asked, asked.methods, classifier, found, metrics=metrics, maps=False)
        if set(asked.methods) == {*options.METHODS, *options.PRESETS}:
            progress.start("asking which methods the network can take")
            plan, unfit = without_unfit(plan)
            found.remarks += unfit
        settings = common.settings_of(asked, classifier, found)
        with common.translating():
            try:
                with results_in(output, settings) as journal:
                    study = common.conducted(asked, plan, found, journal, progress)
                    study.evaluation().write(output)
            except KeyboardInterrupt as stop:
                stop.add_note(
                    f"what is measured is kept in {output}/, and the same command continues from "
                    "there"
                )
                raise
            text = study.report(settings=settings, command=asked.command)
            content = text.encode("utf-8", "backslashreplace")
            save(output / "report.html", lambda file: file.write(content))
            return study


def _called(photos: Sequence[Path]) -> str:
    """What results are called after: the first folder or file."""
    first = photos[0].resolve()
    return first.name if first.is_dir() else first.stem


def _check_output(output: Path) -> None:
    """Refuse to write among files that are no earlier results."""
    try:
        if output.exists() and not output.is_dir():
            raise UserError(f"{output} is a file; name a folder for the results with -o")
        visible = output.is_dir() and any(
            not path.name.startswith(".") for path in output.iterdir()
        )
        if visible and not (output / "rows.jsonl").exists():
            raise UserError(f"{output} holds other files than results; name another folder with -o")
    except OSError as error:
        raise UserError(f"cannot write to {output}: {error.strerror}") from error


def _report(found: Any, output: Path, *, as_json: bool) -> None:
    if as_json:
        say((output / "results.json").read_text("utf-8"), end="")
    else:
        width = max(60, shutil.get_terminal_size((100, 24)).columns)
        say(found.as_text(width))
        differences = found.differences_as_text(width)
        if differences:
            say(f"\n{differences}")
        say("\nmean [95 % bootstrap interval]; ↑: more is better, ↓: less is better")
        for line in _findings(found):
            say(line)
        tables = "table.txt, table.csv, rows.csv, rows.jsonl and results.json"
        say(f"wrote {output}/report.html, {tables}")
    _list(found.remeasured, output)
    if found.remeasured:
        complain("measured again what was damaged in the figures of an earlier run")
    _list(found.left_out, output)
    if found.left_out:
        complain(f"{len(found.left_out)} left out")


def _findings(found: Any) -> list[str]:
    """How often `diagnose` says something, in lines."""
    images = len({row["image"] for row in found.rows})
    lines = [
        f"  {method}: " + ", ".join(f"{kind} {count}" for kind, count in counts.items())
        for method, counts in found.findings.items()
        if counts
    ]
    if not lines:
        return []
    return [f"\nhow many of the {images} heatmaps to read with care; report.html says why", *lines]


def _list(notes: Sequence[tuple[str, str]], output: Path) -> None:
    complain_of(notes[:_MOST_NOTES])
    if len(notes) > _MOST_NOTES:
        more = len(notes) - _MOST_NOTES
        complain(f"and {more} more, all of them in {output}/results.json")
