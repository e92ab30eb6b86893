"""`scorecam evaluate`: methods in rows, metrics in columns, means over a folder of photographs."""

import argparse
import hashlib
import shutil
from pathlib import Path

import jax

from scorecam_jax.cli.common import UserError, complain, load, translated
from scorecam_jax.cli.progress import Progress
from scorecam_jax.evaluate.measure import DEFAULT_METHODS, Evaluation, evaluate_folder

_MOST_NOTES = 20


def run(options: argparse.Namespace) -> int:
    """Print the table; 1 if anything was left out."""
    folder = options.folder
    usual = folder / "annotations.json"
    boxes = options.boxes or (usual if usual.is_file() else None)
    if options.target == "annotated" and boxes is None:
        raise UserError("--target annotated: name the file of annotations with --boxes")
    output = Path(options.output or f"{folder.resolve().name}-scorecam")
    _check_output(output)
    with Progress(1, enabled=not options.quiet) as progress:
        progress.start("loading the model")
        classifier = load(options)
        progress.start("looking for photographs")
        try:
            found = evaluate_folder(
                classifier,
                folder,
                boxes=boxes,
                methods=options.methods or DEFAULT_METHODS,
                metrics=options.metrics or None,
                target=options.target,
                output=output,
                settings={
                    "model": options.model,
                    "layer": classifier.layer,
                    "weights": _digest(options.weights),
                },
                batch_size=options.batch_size,
                progress=progress.follow,
            )
        except (OSError, TypeError, ValueError) as error:
            raise translated(error) from error
        except jax.errors.JaxRuntimeError as error:
            raise UserError(f"{error}\na smaller --batch-size needs less memory") from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; what is measured is kept in {output}/, and the same command "
                "carries on from there"
            ) from None
    _report(found, output, as_json=options.json)
    return int(bool(found.left_out))


def _check_output(output: Path) -> None:
    """Refuse to write among files that are no earlier results."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; name a folder for the results with -o")
    if output.is_dir() and any(output.iterdir()) and not (output / "rows.jsonl").exists():
        raise UserError(f"{output} holds other files than results; name another folder with -o")


def _digest(weights: Path | None) -> str | None:
    if weights is None:
        return None
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _report(found: Evaluation, output: Path, *, as_json: bool) -> None:
    if as_json:
        print((output / "results.json").read_text("utf-8"), end="")
    else:
        print(found.as_text(max(60, shutil.get_terminal_size((100, 24)).columns)))
        print("\nmean [95 % bootstrap interval]; more is better where ↑ is, less where ↓ is")
        print(f"wrote {output}/table.txt, table.csv, rows.csv, rows.jsonl and results.json")
    for note in found.left_out[:_MOST_NOTES]:
        complain(f"{note.what}: {note.why}")
    if len(found.left_out) > _MOST_NOTES:
        more = len(found.left_out) - _MOST_NOTES
        complain(f"and {more} more, all of them in {output}/results.json")
    if found.left_out:
        complain(f"{len(found.left_out)} left out")
