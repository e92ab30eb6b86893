"""One thing to know about a heatmap, or about where it is drawn."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing to know about a heatmap.

    Attributes:
        kind: "not finite", "empty", "flat weights", "plain sum", "unlikely", "dead channels",
            "baseline scores higher", "softmax of probabilities", "incomplete", "collapsed" or
            "places".
        figure: what was measured.
        text: the finding in words, with its figure.
        input: which of the inputs, by its row; 0 if it concerns the model.
        target: which class; -1 if it concerns all.
    """

    kind: str
    figure: float
    text: str
    input: int = 0
    target: int = -1
