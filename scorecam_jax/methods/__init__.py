"""Methods: one idea a file, each called as `score_cam` is and returning an `Explanation`.

`METHODS` names what the command line, `compare` and `evaluate` offer. A method is imported when it
is looked up.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """Where a method is, and what it costs.

    Attributes:
        home: the module in this package and the function in it, `"module:function"`.
        cost: per image, in passes of the network.
        passes: the same as numbers, in forward passes, of which a backward pass makes two: in any
            case, per channel that is scored, and per target.
    """

    home: str
    cost: str
    passes: tuple[int, int, int] = (1, 0, 0)

    def load(self) -> Callable[..., Any]:
        """Import the method."""
        module, function = self.home.split(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), function)


class Methods(Mapping[str, Callable[..., Any]]):
    """Methods by name."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self.entries[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def cost(self, name: str) -> str:
        """What a method costs per image, in passes of the network."""
        return self.entries[name].cost


METHODS = Methods(
    {
        "score-cam": Entry("score_cam:score_cam", "2, and 1 per live channel", (2, 1, 0)),
        "grad-cam": Entry("grad_cam:grad_cam", "1 forward and backward", (3, 0, 0)),
        "grad-cam++": Entry("grad_cam_plus_plus:grad_cam_plus_plus", "1 forward and backward", (3, 0, 0)),
        "xgrad-cam": Entry("xgrad_cam:xgrad_cam", "1 forward and backward", (3, 0, 0)),
        "hires-cam": Entry("hires_cam:hires_cam", "1 forward and backward", (3, 0, 0)),
        "layer-cam": Entry("layer_cam:layer_cam", "1 forward and backward", (3, 0, 0)),
        "eigen-cam": Entry("eigen_cam:eigen_cam", "1"),
        "ablation-cam": Entry("ablation_cam:ablation_cam", "1, and the head per channel"),
        "recipro-cam": Entry("recipro_cam:recipro_cam", "1, and the head per place"),
        "is-cam": Entry("is_cam:is_cam", "10 times score-cam", (20, 10, 0)),
        "ss-cam": Entry("ss_cam:ss_cam", "35 times score-cam", (70, 35, 0)),
        "group-cam": Entry("group_cam:group_cam", "1 forward and backward, and 33 per target", (3, 0, 33)),
        "opti-cam": Entry("opti_cam:opti_cam", "100 forward and backward", (300, 0, 0)),
        "rise": Entry("rise:rise", "1 + 4000", (4001, 0, 0)),
        "occlusion": Entry("occlusion:occlusion", "1 + 196", (197, 0, 0)),
        "uniform": Entry("controls:uniform", "1"),
        "center": Entry("controls:center", "1"),
    }
)
"""The methods by name. "uniform" and "center" look at nothing: any method must beat them."""

VARIANTS = (
    "official", "increase", "paper", "yiskw713", "tabayashi", "pytorch-grad-cam", "torchcam",
    "tf-keras-vis",
)  # fmt: skip
"""The names of the variants of `score_cam`, which stand in `variants.py` in capitals."""
