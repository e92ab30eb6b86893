"""Measure how closely variants equal their originals: docs/agreement.csv, from one command.

    python -m tests.peers.table

It runs the comparisons with the originals' recorded results (tests/data/published) and with the
installed packages, and prints the table of docs/variants.md. A test compares that page with the
file. Networks with random weights, and their inputs, have seed 0.
"""

import csv
import importlib.metadata
import itertools
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from scorecam_jax import variants
from tests.agreement import HEADINGS, rows

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "agreement.csv"
TESTS = ("tests/methods/test_variants.py", "tests/peers/test_variants.py")
VERSIONS = ("jax", "jaxlib", "numpy", "torch")
ORDER = tuple(variants.BY_NAME)
COLUMNS = (*HEADINGS, "seed", "python", *VERSIONS)


def main():
    """Measure, write the file, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-m", "", "-k", "equals", "-o", "junit_family=xunit1"]
        command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *TESTS]
        status = subprocess.run(command, cwd=ROOT).returncode
        found = rows(ElementTree.parse(report).getroot())
    versions = ["0", platform.python_version(), *map(version, VERSIONS)]
    with FILE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*row.split(" | "), *versions] for row in found)
    print(markdown(read()))
    return status


def version(package):
    """A package's version; "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def read():
    """The rows of the file."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def markdown(found):
    """Write a line for each variant, original and network, with each layer's largest difference.

    >>> row = dict.fromkeys(COLUMNS, "x") | {"variant": "tf-keras-vis, Deviation(4)"}
    >>> print(markdown([row | {"largest difference": each} for each in ("1e-07", "2e-07")]))
    | variant | equals | network | layer | largest difference |
    | --- | --- | --- | --- | --- |
    | `TF_KERAS_VIS`, `Deviation(4)` | x | x | x | 2e-07 |
    """
    lines = ["| variant | equals | network | layer | largest difference |", "|" + " --- |" * 5]
    names = ("variant", "equals", "network")
    found = sorted(found, key=_place)
    for key, group in itertools.groupby(found, lambda row: [row[name] for name in names]):
        largest = {}
        for row in group:
            known = largest.get(row["layer"], "0")
            largest[row["layer"]] = max(known, row["largest difference"], key=float)
        variant, *options = key[0].split(", ")
        name = ", ".join(f"`{part}`" for part in (variant.upper().replace("-", "_"), *options))
        differences = " / ".join(largest.values())
        lines.append(f"| {name} | {key[1]} | {key[2]} | {' / '.join(largest)} | {differences} |")
    return "\n".join(lines)


def _place(row):
    variant = row["variant"]
    return ORDER.index(variant.partition(",")[0]), variant, row["equals"], row["network"]


if __name__ == "__main__":
    sys.exit(main())
