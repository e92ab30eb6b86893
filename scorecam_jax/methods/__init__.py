"""Methods: one per file, each called like `score_cam` and returning an `Explanation`.

`METHODS` lists the methods of the command line, `compare` and `evaluate`. A method is imported when
it is looked up.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from scorecam_jax.methods.base import Explanation


class Entry(NamedTuple):
    """A method's location, cost and use.

    Attributes:
        home: the module in this package and the function in it, `"module:function"`.
        cost: the cost per image, in passes of the network.
        passes: the cost as numbers of forward passes: fixed, per scored channel, and per target. A
            backward pass counts as two.
        group: the group of the method, one of `GROUPS`.
        use: a phrase on when to use it.
        cites: the keys of its sources in `citations.CITATIONS`.
    """

    home: str
    cost: str
    passes: tuple[int, int, int] = (1, 0, 0)
    group: str = "activations"
    use: str = ""
    cites: tuple[str, ...] = ()

    def load(self) -> "Callable[..., Explanation]":
        """Import the method."""
        module, function = self.home.split(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), function)


GROUPS = {
    "masks": "masks the input or edits a layer, and measures the score",
    "gradients": "weights a layer by the gradient of the score",
    "activations": "shows what a layer responds to, whatever the class",
    "attention": "reads the attention of a transformer",
    "input": "follows gradients down to the pixels, without a layer",
    "controls": "looks at nothing: any method must beat these",
}
"""The groups of methods, and what the methods of each have in common."""


class Methods(Mapping[str, Callable[..., Any]]):
    """Methods by name."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> "Callable[..., Explanation]":
        return self.entries[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def of_any_network(self) -> tuple[str, ...]:
        """The names of the methods that need no attention."""
        return tuple(name for name in self if self.entries[name].group != "attention")

    def cost(self, name: str) -> str:
        """The cost of a method per image, in passes of the network."""
        return self.entries[name].cost


METHODS = Methods(
    {
        "score-cam": Entry(
            "score_cam:score_cam", "2, and 1 per live channel", (2, 1, 0),
            "masks", "the default: faithful, without gradients", ("wang2020score",),
        ),
        "ablation-cam": Entry(
            "ablation_cam:ablation_cam", "1, and the head per channel", (1, 0, 0),
            "masks", "as score-cam, where editing a late layer is cheap", ("desai2020ablation",),
        ),
        "recipro-cam": Entry(
            "recipro_cam:recipro_cam", "1, and the head per place", (1, 0, 0),
            "masks", "fast, without gradients", ("byun2022recipro",),
        ),
        "is-cam": Entry(
            "is_cam:is_cam", "10 times score-cam", (20, 10, 0),
            "masks", "score-cam averaged as its masks fade in", ("naidu2020iscam",),
        ),
        "ss-cam": Entry(
            "ss_cam:ss_cam", "35 times score-cam", (70, 35, 0),
            "masks", "score-cam averaged over noise", ("wang2020sscam",),
        ),
        "group-cam": Entry(
            "group_cam:group_cam", "1 forward and backward, and 33 per target", (3, 0, 33),
            "masks", "score-cam on groups of channels: fewer passes", ("zhang2021group",),
        ),
        "gscore-cam": Entry(
            "gscore_cam:gscore_cam", "1 forward and backward, and 301 per target", (3, 0, 301),
            "masks", "score-cam for CLIP: fewer passes", ("chen2022gscore",),
        ),
        "poly-cam": Entry(
            "poly_cam:poly_cam", "3, and 2 per channel of each layer", (3, 2, 0),
            "masks", "several layers at once, for fine detail", ("englebert2022poly",),
        ),
        "opti-cam": Entry(
            "opti_cam:opti_cam", "100 forward and backward", (300, 0, 0),
            "masks", "the mask that raises the score most", ("zhang2023opti",),
        ),
        "rise": Entry(
            "rise:rise", "1 + 4000", (4001, 0, 0),
            "masks", "a black box: needs no layer", ("petsiuk2018rise",),
        ),
        "occlusion": Entry(
            "occlusion:occlusion", "1 + 196", (197, 0, 0),
            "masks", "a black box, easy to explain to others", ("zeiler2014visualizing",),
        ),
        "grad-cam": Entry(
            "grad_cam:grad_cam", "1 forward and backward", (3, 0, 0),
            "gradients", "fast, and known to everyone", ("selvaraju2017grad",),
        ),
        "grad-cam++": Entry(
            "grad_cam_plus_plus:grad_cam_plus_plus", "1 forward and backward", (3, 0, 0),
            "gradients", "several objects of a class", ("chattopadhay2018grad",),
        ),
        "xgrad-cam": Entry(
            "xgrad_cam:xgrad_cam", "1 forward and backward", (3, 0, 0),
            "gradients", "grad-cam that conserves the score", ("fu2020axiom",),
        ),
        "hires-cam": Entry(
            "hires_cam:hires_cam", "1 forward and backward", (3, 0, 0),
            "gradients", "shows where a layer is used; exact before a linear head",
            ("draelos2020hires",),
        ),
        "grad-cam-elementwise": Entry(
            "grad_cam_elementwise:grad_cam_elementwise", "1 forward and backward", (3, 0, 0),
            "gradients", "hires-cam of positive evidence alone", (),
        ),
        "finer-cam": Entry(
            "finer_cam:finer_cam", "1 forward and backward", (3, 0, 0),
            "gradients", "what distinguishes a class from similar ones", ("zhang2025finer",),
        ),
        "layer-cam": Entry(
            "layer_cam:layer_cam", "1 forward and backward", (3, 0, 0),
            "gradients", "early layers, for fine detail", ("jiang2021layer",),
        ),
        "shapley-cam": Entry(
            "shapley_cam:shapley_cam",
            "1, and a gradient and its derivative per target", (1, 0, 8),
            "gradients", "grad-cam corrected for curvature", ("cai2025shapley",),
        ),
        "smooth-grad-cam++": Entry(
            "smooth_grad_cam_plus_plus:smooth_grad_cam_plus_plus",
            "26 forward and backward", (78, 0, 0),
            "gradients", "grad-cam++, with less noise", ("omeiza2019smooth",),
        ),
        "eigen-grad-cam": Entry(
            "eigen_grad_cam:eigen_grad_cam", "1 forward and backward", (3, 0, 0),
            "gradients", "clean maps of one object that depend on the class", (),
        ),
        "seg-eigen-cam": Entry(
            "seg_eigen_cam:seg_eigen_cam", "1 forward and backward", (3, 0, 0),
            "gradients", "segmentation networks", ("chung2025seg",),
        ),
        "eigen-cam": Entry(
            "eigen_cam:eigen_cam", "1", (1, 0, 0),
            "activations", "what stands out to the layer", ("muhammad2020eigen",),
        ),
        "kpca-cam": Entry(
            "kpca_cam:kpca_cam", "1", (1, 0, 0),
            "activations", "as eigen-cam, but nonlinear", ("karmani2024kpca",),
        ),
        "lafam": Entry(
            "lafam:lafam", "1", (1, 0, 0),
            "activations", "networks without classes", ("karjauv2024lafam",),
        ),
        "fem": Entry(
            "fem:fem", "1", (1, 0, 0),
            "activations", "rare, strong activations", ("fuad2020features",),
        ),
        "dff": Entry(
            "dff:dff", "1, and the head per concept", (1, 0, 0),
            "activations", "the parts into which a layer divides an image", ("collins2018deep",),
        ),
        "attention-rollout": Entry(
            "attention.rollout:attention_rollout", "1", (1, 0, 0),
            "attention", "how tokens mix through all blocks", ("abnar2020quantifying",),
        ),
        "generic-attention": Entry(
            "attention.generic:generic_attention", "1 forward and backward", (3, 0, 0),
            "attention", "a class in a transformer: the first to try", ("chefer2021generic",),
        ),
        "legrad": Entry(
            "attention.legrad:legrad", "1, and 2 forward and backward", (7, 0, 0),
            "attention", "large transformers, such as CLIP's", ("bousselham2024legrad",),
        ),
        "grad-eclip": Entry(
            "attention.grad_eclip:grad_eclip", "2 forward and 1 backward", (4, 0, 0),
            "attention", "CLIP, by its own similarities", ("zhao2025grad",),
        ),
        "raw-attention": Entry(
            "attention.raw:raw_attention", "1", (1, 0, 0),
            "attention", "what the last block looks at", (),
        ),
        "vit-recipro-cam": Entry(
            "attention.recipro:vit_recipro_cam", "1, and the last block per patch", (1, 0, 0),
            "attention", "fast, without gradients", ("byun2023vit",),
        ),
        "gradient": Entry(
            "input.gradient:gradient", "1 forward and backward", (3, 0, 0),
            "input", "which pixels the score is sensitive to", ("simonyan2014deep",),
        ),
        "gradient-times-input": Entry(
            "input.gradient_times_input:gradient_times_input", "1 forward and backward", (3, 0, 0),
            "input", "a quick attribution of the score to pixels", ("shrikumar2016not",),
        ),
        "integrated-gradients": Entry(
            "input.integrated_gradients:integrated_gradients",
            "2, and 50 forward and backward", (152, 0, 0),
            "input", "attributions that sum to the score", ("sundararajan2017axiomatic",),
        ),
        "smooth-grad": Entry(
            "input.smooth_grad:smooth_grad", "1, and 25 forward and backward", (76, 0, 0),
            "input", "gradient, with less noise", ("smilkov2017smoothgrad",),
        ),
        "full-grad": Entry(
            "input.full_grad:full_grad", "2 forward and 1 backward", (4, 0, 0),
            "input", "all layers of a convolutional network at once", ("srinivas2019full",),
        ),
        "uniform": Entry(
            "controls:uniform", "1", (1, 0, 0),
            "controls", "the metrics of a map that points everywhere", (),
        ),
        "center": Entry(
            "controls:center", "1", (1, 0, 0),
            "controls", "the metrics of a map of the image's centre", ("choe2020evaluating",),
        ),
    }
)  # fmt: skip
"""The methods by name. "uniform" and "center" look at nothing: any method must beat them."""

VARIANTS = (
    "official", "increase", "paper", "yiskw713", "tabayashi", "pytorch-grad-cam", "torchcam",
    "tf-keras-vis", "plus-plus",
)  # fmt: skip
"""The names of the variants of `score_cam`, which are capitalised in `variants.py`."""
