"""Questions without classes, put by files: a photograph to be like, or a folder for each class."""

from pathlib import Path
from typing import Any, NamedTuple

from scorecam_jax import samples
from scorecam_jax.models import Classifier, Head, few_shot, likeness, with_head
from scorecam_jax.reading import Note, ReadingError, find, read_picture


class Question(NamedTuple):
    """A network that was put to a question.

    Attributes:
        classifier: its classes are the answers.
        head: what was learnt, if classes were.
        left_out: photographs that could not be read, and why.
    """

    classifier: Classifier
    head: Head | None
    left_out: list[Note]


def like(
    classifier: Classifier, picture: Path, others: Path | None, explained: list[Path]
) -> Question:
    """Ask what makes photographs like one picture rather than like others.

    Args:
        classifier: a network whose outputs are an embedding.
        picture: the file to be like. Its class is the first.
        others: a folder of photographs to compare with; None: that of the samples.
        explained: the files that are explained. They are left out of the others, like which they
            are above all.

    Raises:
        ValueError: the picture cannot be read, or there is nothing to compare with.
    """
    if picture.is_dir():
        raise ValueError(f"{picture} is a folder: name one photograph to be like")
    folder = samples.FOLDER if others is None else others
    known = {one.resolve() for one in (picture, *explained)}
    found = find([folder])
    sources = [one for one in found.sources if one.path.resolve() not in known]
    read, left_out = _read(sources)
    reference, *_ = find([picture]).sources
    try:
        image = read_picture(reference).image
    except ReadingError as error:
        raise ValueError(f"{picture}: {error}") from error
    if not read:
        raise ValueError(f"{folder} holds no other photograph to compare with")
    named = {f"like {reference.stem}": image}
    compared = {f"like {source.stem}": image for source, image in read}
    return Question(
        likeness(classifier, named, others=compared), None, [*found.left_out, *left_out]
    )


def of_examples(classifier: Classifier, place: Path) -> Question:
    """Put a head on a network: for the classes of a folder's folders, or one that was saved.

    Args:
        classifier: a network whose outputs are an embedding.
        place: a folder that holds a folder of photographs for each class, or what `Head.save` has
            written.

    Raises:
        ValueError: there are not two classes of two photographs that can be read, or the file is
            no head of this network.
        OSError: nothing is there, or it cannot be read.
    """
    if not place.is_dir():
        head = Head.load(place)
        return Question(with_head(classifier, head), head, [])
    folders = sorted(one for one in place.iterdir() if one.is_dir() and one.name[0] != ".")
    examples: dict[str, list[Any]] = {}
    left_out: list[Note] = []
    for folder in folders:
        found = find([folder])
        read, damaged = _read(found.sources)
        examples[folder.name] = [image for _, image in read]
        left_out += [*found.left_out, *damaged]
    if not folders:
        raise ValueError(f"{place} holds no folders: wanted one of photographs for each class")
    head = few_shot(classifier, examples)
    return Question(with_head(classifier, head), head, left_out)


def _read(sources: list[Any]) -> tuple[list[tuple[Any, Any]], list[Note]]:
    """The pictures that can be read, and why others cannot."""
    read, left_out = [], []
    for source in sources:
        try:
            read.append((source, read_picture(source).image))
        except ReadingError as error:
            left_out.append(Note(source.name, str(error)))
    return read, left_out
