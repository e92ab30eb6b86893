"""A file of results that an interrupted run leaves whole and a later one carries on."""

import json
from pathlib import Path
from typing import Any


class Journal:
    """Records in a file, one JSON document a line, below a line of the settings they hold for.

    Each record is in the file as soon as it is added; a line that was cut short is dropped when
    the file is opened again.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Open a journal, or begin one.

        Raises:
            ValueError: it was kept for other settings, or is no journal.
            OSError: it cannot be read or written.
        """
        self._path = path
        self.records: list[dict[str, Any]] = []
        settings = json.loads(json.dumps(settings))
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole:
            try:
                head, *self.records = map(json.loads, whole.splitlines())
                known = head["settings"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} is not a file of earlier results, or was changed: {error}; move it "
                    "away, or name another folder"
                ) from error
            _compare(known, settings, path)
        if len(whole) < len(content):
            path.write_bytes(whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not whole:
            self._write({"settings": settings})

    def add(self, record: dict[str, Any]) -> None:
        """Put a record at the end of the file."""
        self.records.append(record)
        self._write(record)

    def _write(self, document: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(document, allow_nan=False) + "\n")


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
