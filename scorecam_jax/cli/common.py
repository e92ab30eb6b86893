"""What the commands share: errors, networks, photographs, classes and files to write."""

import argparse
import contextlib
import difflib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from scorecam_jax import models
from scorecam_jax.cli.progress import Progress


class UserError(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal."""


# What the library advises people who write Python, and what that is called at the terminal.
_TRANSLATIONS = (
    (r"list_layers\(model, inputs\) shows", "`scorecam layers` shows"),
    (r"load\('\w+', weights='(\S+)'\)", r"--weights \1"),
    (r"\bchannels=(\d+)", r"--channels \1"),
    (r", or None for all of them", ""),
    (r"; for tokens pass grid=\(height, width\) to the adapter", ""),
)


def translated(error: Exception) -> UserError:
    """An error of the library's in the words of the command line."""
    text = str(error)
    for python, terminal in _TRANSLATIONS:
        text = re.sub(python, terminal, text)
    return UserError(text)


def load(options: argparse.Namespace, *, or_random: bool = False) -> models.Classifier:
    """The classifier that `--model`, `--weights` and `--layer` ask for.

    With `or_random`, one that comes without weights is initialised at random.
    """
    name, dtype = options.model, getattr(options, "dtype", None)
    try:
        if or_random and not (options.weights or models.packaged_weights(name)):
            return models.random(name, options.layer, dtype)
        return models.load(name, weights=options.weights, layer=options.layer, dtype=dtype)
    except (ImportError, LookupError, OSError, ValueError) as error:
        raise translated(error) from error


def input_shape(classifier: models.Classifier) -> tuple[int, ...]:
    """The shape of a batch of one."""
    return 1, *classifier.input_size, 3


def open_photo(path: Path, *, header_only: bool = False) -> Any:
    """The photograph upright, in RGB; with `header_only`, merely whether it looks like one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if header_only:
                    return None
                return models.as_rgb(image)
    except FileNotFoundError:
        raise UserError("no such file") from None
    except IsADirectoryError:
        raise UserError(f"a folder, not a photograph; name the files in it, {path}/*.jpg") from None
    except UnidentifiedImageError:
        raise UserError(
            "not an image in a format that can be read; convert it to JPEG or PNG"
        ) from None
    except Image.DecompressionBombError as error:
        raise UserError(f"too large: {error}") from None
    except (EOFError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"cannot be read: {error}") from error


def find_class(name: str, labels: Sequence[str]) -> int:
    """The index of the class meant by an index, a name, or a part of a name.

    A label may hold several names, separated by commas. The whole of a name is preferred to whole
    words in it, and those to any part; capitals do not matter.
    """
    wanted = name.strip().casefold()
    if re.fullmatch("-?[0-9]+", wanted):
        if not 0 <= int(wanted) < len(labels):
            raise UserError(
                f"class {wanted} does not exist; the model knows 0 to {len(labels) - 1}"
            )
        return int(wanted)
    names = [[part.strip() for part in label.casefold().split(",")] for label in labels]
    whole_words = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    for matches in (
        lambda index: wanted in [labels[index].casefold(), *names[index]],
        lambda index: whole_words.search(labels[index].casefold()),
        lambda index: wanted in labels[index].casefold(),
    ):
        found = [index for index in range(len(labels)) if wanted and matches(index)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{name!r} may mean several classes; say more of the name, or give the index:\n"
                + _listing(found, labels)
            )
    every = [(part, index) for index, parts in enumerate(names) for part in parts]
    near = difflib.get_close_matches(wanted, [part for part, _ in every], n=8, cutoff=0.7)
    found = list(dict.fromkeys(dict(every)[part] for part in near))
    raise UserError(
        f"no class is called {name!r}"
        + (
            f"; the nearest:\n{_listing(found, labels)}"
            if found
            else f"; try another part of its name, or an index from 0 to {len(labels) - 1}"
        )
    )


def _listing(indices: list[int], labels: Sequence[str], most: int = 12) -> str:
    lines = [f"  {index:>4}  {labels[index]}" for index in indices[:most]]
    if len(indices) > most:
        lines.append(f"        and {len(indices) - most} more")
    return "\n".join(lines)


def output_paths(photos: Sequence[Path], out: str, ending: str) -> list[Path]:
    """Where to write what is made of each photograph.

    `out` is a folder if it is one already, ends in a slash or has no suffix; otherwise it is a
    file, and there must be one photograph only. In a folder the files are called as the
    photographs are, with `ending` in place of their suffix.
    """
    path = Path(out)
    if not (path.is_dir() or out.endswith(("/", os.sep)) or not path.suffix):
        if len(photos) > 1:
            raise UserError(
                f"{out!r} is one file for {len(photos)} photographs; name a folder, such as "
                f"{path.with_suffix('')}/"
            )
        _check_suffix(path, Path(ending).suffix)
        return [path]
    paths = [path / f"{photo.stem}{ending}" for photo in photos]
    for index, (photo, one) in enumerate(zip(photos, paths, strict=True)):
        if one in paths[:index]:
            raise UserError(
                f"{photos[paths.index(one)]} and {photo} would both be written to {one}; "
                "explain them one at a time, with -o"
            )
    return paths


def _check_suffix(path: Path, usual: str) -> None:
    if usual == ".png":
        formats = Image.registered_extensions()
        known = {suffix for suffix, name in formats.items() if name in Image.SAVE}
        if path.suffix.lower() not in known:
            raise UserError(
                f"pictures cannot be written as {path.suffix}; name {path.with_suffix('.png')}, "
                f"or .jpg, .webp or .tif, or a folder, {path}/"
            )
    elif path.suffix != usual:
        raise UserError(f"heatmaps are written as {usual}; name {path.with_suffix(usual)}")


def check_output(path: Path, photo: Path, *, force: bool) -> None:
    """Refuse to overwrite a file unless told to, and the photograph itself in any case."""
    if path.exists():
        if path.samefile(photo):
            raise UserError(f"{path} is the photograph itself; name another file to write with -o")
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file to write")
        if not force:
            raise UserError(f"{path} exists already; overwrite it with --force, or name another")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError(f"cannot write {path}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: there is no permission to write in {folder}")


def save(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file, in a folder that is made if it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {error}") from error


@contextlib.contextmanager
def reported(record: dict[str, Any], progress: Progress | None = None) -> Iterator[None]:
    """Within it, a `UserError` is told on standard error, noted in `record`, and over."""
    try:
        yield
    except UserError as problem:
        record["error"] = str(problem)
        if progress:
            progress.hide()
        complain(f"{record['photo']}: {problem}")


def complain(problem: object) -> None:
    """Tell a problem on standard error."""
    print(f"scorecam: {problem}", file=sys.stderr)


def short(label: str) -> str:
    """The first of the names in a label."""
    return label.split(",")[0]


def percent(probability: float) -> str:
    """A probability with one decimal, such as 94.3%."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"
