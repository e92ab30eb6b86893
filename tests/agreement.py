r"""Print the README's table of agreement from the tests' measurements.

    pytest -m "" tests/test_variants.py tests/peers/test_variants.py \
        -o junit_family=xunit1 --junitxml=report.xml
    python -m tests.agreement report.xml

With --methods, print the table of other methods from a report of tests/peers/test_gradient.py and
test_attention.py; with --wild, that of other people's networks from a report of tests/wild.
"""

import sys
from xml.etree import ElementTree

HEADINGS = ("variant", "equals", "network", "layer", "size", "largest difference")
METHODS = ("method", "equals", "network", "largest difference")
WILD = ("network", "version", "default layer", "lines", "size", "largest difference")


def note(record_property, variant, package, network, layer, size, difference):
    """Record a measured difference, for the table."""
    row = (variant, package, network, layer, size, f"{float(difference):.9g}")
    record_property("agreement", " | ".join(row))


def note_method(record_property, method, package, network, difference):
    """Record a method's difference; its row is `method | equals | network | largest difference`."""
    name = getattr(method, "__name__", method)
    record_property("agreement", f"`{name}` | {package} | {network} | {float(difference):.9g}")


def rows(report):
    """Keep the largest difference of each row; rows in the order of the report.

    >>> report = "<a>{}{}</a>".format(
    ...     *(f"<property name='agreement' value='v | p | {d}'/>" for d in (1e-7, 2.51e-6))
    ... )
    >>> rows(ElementTree.fromstring(report))
    ['v | p | 2.6e-06']
    """
    largest = {}
    for found in report.iterfind(".//property[@name='agreement']"):
        row, _, difference = found.get("value").rpartition(" | ")
        largest[row] = max(largest.get(row, 0.0), float(difference))
    return [f"{row} | {round_up(difference)}" for row, difference in largest.items()]


def round_up(number):
    """Round a number up to two digits.

    >>> round_up(2.51e-06), round_up(2.5e-06), round_up(0.0)
    ('2.6e-06', '2.5e-06', '0.0e+00')
    """
    shown = f"{number:.1e}"
    if float(shown) < number:
        digits, exponent = shown.split("e")
        shown = f"{float(digits + 'e0') + 0.1:.1f}e{exponent}"
    return shown


if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    headings = {"--wild": WILD, "--methods": METHODS}.get("".join(options), HEADINGS)
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for path in (argument for argument in sys.argv[1:] if argument not in options):
        for row in rows(ElementTree.parse(path).getroot()):
            print(f"| {row} |")
