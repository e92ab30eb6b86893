"""`scorecam report`: photographs and their heatmaps in one HTML file."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from scorecam_jax.cli import options
from scorecam_jax.cli.choice import add_how, check_options
from scorecam_jax.cli.errors import UserError, complain_of, say
from scorecam_jax.cli.progress import Progress

NAME, ARGUMENTS = "report", "PHOTO|DIR..."

SUMMARY = "write one HTML file to look through photographs in"

DESCRIPTION = """\
Explain photographs and write one HTML file in which they can be looked through:
classes and methods to switch between, opacity, the value under the pointer, the
box that a threshold implies, search, sorting and findings. The file needs no
network and no other file, and is a sheet of pictures where scripts do not run.

A photograph is done once: after an interruption the same command continues.
With boxes, the file also tells how well each heatmap lies on them.
"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = options.add_targets(command)
    methods = (*options.METHODS, *options.PRESETS)
    what.add_argument(
        "--methods",
        type=options.some_of(methods, every=(*options.ANY_NETWORKS, *options.PRESETS)),
        default=["score-cam"],
        metavar="NAME,...",
        help=f"{', '.join(methods)}, or all (default: score-cam)",
    )
    how = command.add_argument_group("how")
    add_how(how, apart=True)
    how.add_argument(
        "--colormap",
        choices=options.COLORMAPS,
        default="ember",
        help="ember, viridis and cividis are perceptually uniform and hold for the colour-blind, "
        "jet is that of many papers (default: ember)",
    )
    how.add_argument(
        "--title",
        default="What the network looked at",
        help="the report's heading (default: What the network looked at)",
    )
    where = command.add_argument_group("where it goes")
    where.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE.html",
        help="the file to write (default: report.html)",
    )
    where.add_argument(
        "--force",
        action="store_true",
        help="overwrite an existing file, though never a photograph of this call",
    )
    options.add_json(where)


def run(asked: argparse.Namespace) -> int:
    """Write the file; 1 if anything was left out."""
    check_options(asked, asked.methods)
    from scorecam_jax.cli import common
    from scorecam_jax.study.journal import Journal
    from scorecam_jax.study.outputs import Guard, save
    from scorecam_jax.study.record import is_row

    output = asked.output
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"a report is an HTML file; name {output.with_suffix('.html')} with -o")
    found = common.listed(asked)
    with common.translating():
        Guard(common.inputs_of(asked, found), force=asked.force).check(output)
    partial = output.with_name(f"{output.name}.partial")
    with Progress(len(found.sources), enabled=not asked.quiet) as progress:
        progress.start("loading the model")
        classifier = common.load(asked, layer=asked.layer, layers=common.fused(asked))
        found = common.listed(asked, classifier)
        plan = common.plan_of(asked, asked.methods, classifier, found, maps=False)
        settings = {**common.settings_of(asked, classifier, found), "methods": asked.methods}
        with common.translating():
            journal = Journal(partial, settings, valid=is_row)
            try:
                study = common.conducted(asked, plan, found, journal, progress)
            except KeyboardInterrupt as stop:
                whole = Counter(row["image"] for row in journal.records).values()
                kept = sum(count >= len(plan.run) for count in whole)
                stop.add_note(
                    f"{kept} of {len(found.sources)} photographs are kept in {partial}, and the "
                    "same command continues from there"
                )
                raise
            except ValueError:
                if not journal.records:
                    partial.unlink(missing_ok=True)
                raise
            text = study.report(
                title=asked.title,
                settings=settings,
                command=asked.command,
                colormap=asked.colormap,
            )
            content = text.encode("utf-8", "backslashreplace")
            save(output, lambda file: file.write(content))
    partial.unlink(missing_ok=True)
    _tell(asked, study, len(content))
    return int(bool(study.left_out))


def _tell(asked: argparse.Namespace, study: Any, size: int) -> None:
    """Print what was written and what was left out."""
    from scorecam_jax.study.material import counted

    shown = study.records
    if not asked.json:
        many = counted(len(shown), study.plan.classifier.takes)
        say(f"wrote {asked.output}: {many}, {size / 1e6:.1f} MB")
    complain_of([*study.remarks, *study.left_out])
    if not asked.json:
        return
    labels = study.plan.classifier.labels
    document = {
        "output": str(asked.output),
        "photos": [
            {
                "photo": one.name,
                "targets": [
                    {"name": labels[target.index], "probability": target.probability}
                    for target in one.targets
                ],
                "boxes": [list(map(float, box)) for box in one.boxes],
                "metrics": {name: result.metrics for name, result in one.results.items()},
                "findings": {
                    name: [[(kind, text) for kind, _, text in each] for each in result.findings]
                    for name, result in one.results.items()
                },
            }
            for one in shown
        ],
        "left_out": [note._asdict() for note in study.left_out],
        "remarks": [note._asdict() for note in study.remarks],
    }
    say(json.dumps(document, indent=2))
