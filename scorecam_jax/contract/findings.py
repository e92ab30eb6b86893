"""The record of a warning about a heatmap, or about where it is drawn."""

from typing import NamedTuple


class Finding(NamedTuple):
    """A warning about a heatmap.

    Attributes:
        kind: "not finite", "empty", "flat weights", "plain sum", "unlikely", "dead channels",
            "baseline scores higher", "softmax of probabilities", "incomplete", "collapsed",
            "places", "detail without class" or "layers disagree".
        figure: the measured value.
        text: the warning, with the figure in it.
        input: the row of the input; 0 if the warning concerns the model.
        target: the class; -1 if the warning concerns all classes.
    """

    kind: str
    figure: float
    text: str
    input: int = 0
    target: int = -1
