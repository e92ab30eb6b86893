"""A file of results that survives interruption and that a later run continues."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scorecam_jax._internal.files import naming, replacing
from scorecam_jax.reading.notes import Note


class Journal:
    """Records in a file, one JSON document per line, after a line with their settings.

    Each record is in the file as soon as it is added. When the file is opened again, a last line
    that was cut short is dropped, and damaged lines are moved to a file of their own.

    Attributes:
        records: the records, in the order of the file.
        damaged: the lines that were moved, with reasons.
    """

    def __init__(
        self,
        path: Path,
        settings: dict[str, Any],
        *,
        valid: Callable[[Any], bool] = lambda record: isinstance(record, dict),
    ) -> None:
        """Open a journal, or begin one.

        Args:
            path: the file.
            settings: what the records depend on.
            valid: whether a document is a record.

        Raises:
            ValueError: it belongs to other settings, or is no journal.
            OSError: it cannot be read or written.
        """
        self._path = path
        self.records: list[dict[str, Any]] = []
        self.damaged: list[Note] = []
        settings = json.loads(json.dumps(settings))
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(_line({"settings": settings}))
            return
        head, *lines = whole.split(b"\n")[:-1]
        _compare(_settings(head, path), settings, path)
        kept, moved = [head], []
        aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
        for number, line in enumerate(lines, 2):
            record = _parse(line)
            if valid(record):
                self.records.append(record)
                kept.append(line)
            else:
                why = f"damaged; the line is now in {aside.name}"
                self.damaged.append(Note(f"{path}, line {number}", why))
                moved.append(line)
        if moved:
            with naming(aside), aside.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in moved))
        if moved or len(whole) < len(content):
            with replacing(path) as file:
                file.write(b"".join(line + b"\n" for line in kept))

    def add(self, record: dict[str, Any]) -> None:
        """Append a record to the file.

        Raises:
            OSError: it cannot be written, for instance because the disk is full.
        """
        line = _line(record)
        with naming(self._path), self._path.open("ab") as file:
            file.write(line)
        self.records.append(record)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False).encode() + b"\n"


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _settings(head: bytes, path: Path) -> dict[str, Any]:
    document = _parse(head)
    settings = document.get("settings") if isinstance(document, dict) else None
    if not isinstance(settings, dict):
        raise ValueError(
            f"{path} is not a file of earlier results, or its first line was changed; move it "
            "away, or name another folder"
        )
    return settings


def _compare(known: dict[str, Any], settings: dict[str, Any], path: Path) -> None:
    differences = [
        f"{name} was {known.get(name)!r} and is {settings.get(name)!r}"
        for name in sorted({*known, *settings})
        if known.get(name) != settings.get(name)
    ]
    if differences:
        raise ValueError(
            f"{path} holds results for other settings: {'; '.join(differences)}. Name another "
            "folder for these, or delete that file"
        )
