"""Checks that a careful reader would make before trusting an explanation."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax.contract.findings import Finding
from scorecam_jax.methods.base import Explanation
from scorecam_jax.metrics.sanity import correlation
from scorecam_jax.steps.outputs import is_softmax_of_probabilities

FLAT = 0.15
"""Weights that vary less than this, relative to their mean size, hardly respond to the masks.

Measured with EfficientNet-Lite0 on 17 photographs and the right class: the 40 channels that vary
most give 0.2 to 1.6, and 0.08 on one photograph; with shuffled weights, 0.05 to 0.12 for the best
class. All channels of the 14 x 14 layer, 64 scored, give 1.0 to 5.4; with shuffled weights, 0.06
to 0.29.
"""

UNRESPONSIVE = 1e-5
"""Scores that vary less than this, relative to their mean size, differ only by rounding."""

PLAIN = 0.999
"""A heatmap that correlates more with the plain sum of the activations shows that sum."""

UNLIKELY = 0.01
"""A target below this probability is reported as unlikely."""

COLLAPSED = 3
"""A map in which fewer tokens than this reach a quarter of its maximum shows a single token.

After linear resizing, one token's peak is above a quarter in an area of less than two cells.
"""

MANY = 16
"""With fewer tokens than this, two or three tokens may well be the whole object."""

INCOMPLETE = 0.05
"""If attributions miss their required sum by more than this share, there were too few steps."""

LIVE = 0.1
"""If a smaller share of the channels is live, the heatmap rests on few masks."""

DISAGREE = 0.1
"""Maps of two layers whose correlation is less than this show different things.

On 17 photographs, the maps of EfficientNet-Lite0's two layers have correlations of 0.13 to 0.79,
and of 0.02 on one photograph.
"""


def diagnose(explanation: Explanation) -> tuple[Finding, ...]:
    """Warn of reasons not to trust an explanation.

    A heatmap without findings may still be wrong. The thresholds are this module's constants. They
    are set so that photographs of the target itself cause hardly any findings.

    Args:
        explanation: the result of a method, outside `jit`.

    Returns:
        The findings, by input and target.

    Raises:
        ValueError: the explanation's values are not known, because this is called under `jit`.

    >>> import jax.numpy as jnp
    >>> from scorecam_jax import score_cam, scores
    >>> def model(x):  # a network that ignores its input
    ...     return jnp.full((len(x), 1), 3.0), jax.nn.relu(x)
    >>> explanation = score_cam(model, jnp.ones((1, 4, 1)).at[0, 2].set(2), 0, score=scores.values)
    >>> [finding.kind for finding in diagnose(explanation)]
    ['empty']
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(explanation)):
        raise ValueError(
            "diagnose needs the explanation's values: call it on the compiled function's result"
        )
    explanation = jax.tree.map(np.asarray, explanation)
    targets = explanation.targets
    if targets.ndim == 1:
        explanation = _with_targets_axis(explanation)
    return tuple(
        finding
        for row, column in itertools.product(*map(range, explanation.targets.shape))
        for finding in _findings(explanation, row, column)
    )


def _with_targets_axis(explanation: Explanation) -> Explanation:
    names = (
        "heatmap", "weights", "scores", "targets", "peak", "confidence", "empty", "layers",
        "shortfall",
    )  # fmt: skip
    return explanation._replace(
        **{name: jax.tree.map(lambda v: v[:, None], getattr(explanation, name)) for name in names}
    )


def _findings(explanation: Explanation, row: int, column: int) -> list[Finding]:
    target = int(explanation.targets[row, column])
    found: list[tuple[str, float, str]] = []
    if broken := _not_finite(explanation, row, column):
        # Nothing else can be measured.
        return [Finding(*each, row, target) for each in broken]
    for check in (
        _empty,
        _flat,
        _plain,
        _unlikely,
        _dead,
        _baseline,
        _twice,
        _unseen,
        _layers,
        _incomplete,
        _collapsed,
    ):
        found += check(explanation, row, column)
    return [Finding(*each, row, target) for each in found]


_Found = list[tuple[str, float, str]]
_is_softmax_of_probabilities = jax.jit(is_softmax_of_probabilities)


def _not_finite(e: Any, row: int, column: int) -> _Found:
    targets = (e.heatmap, e.weights, e.scores, e.confidence)
    values = [v[row, column] for v in jax.tree.leaves(targets)]
    values += [v[row] for v in jax.tree.leaves((e.activations, e.outputs))]
    count = sum(int((~np.isfinite(v)).sum()) for v in values if np.issubdtype(v.dtype, np.floating))
    if not count:
        return []
    text = f"{count} values are NaN or infinite: in float16, activations above 65504 overflow"
    return [("not finite", float(count), text)]


def _empty(e: Any, row: int, column: int) -> _Found:
    if e.heatmap[row, column].any():
        return []
    text = "the heatmap is empty: nothing in the input is evidence for the target"
    if e.layers and all(layer.heatmap[row, column].any() for layer in e.layers):
        text = "the heatmap is empty: no place is evidence for the target in every layer"
    return [("empty", 0.0, text)]


def _flat(e: Any, row: int, column: int) -> _Found:
    live = _live(e, row)
    if live is None or e.scores is None or e.scores.shape != e.weights.shape:
        return []
    weights, scores = e.weights[row, column][live], e.scores[row, column][live]
    # Channels that were not chosen have no score.
    scored = (weights != 0) | (scores != 0)
    if scored.sum() < 2 and not (scored.sum() == 0 and live.sum() > 1):
        return []
    if scored.any():
        weights, scores = weights[scored], scores[scored]
    varies = _deviation(weights)
    if _deviation(scores) < UNRESPONSIVE:
        varies = 0.0
    if varies >= FLAT:
        return []
    text = (
        f"the weights deviate by {100 * varies:.2g} % of their mean: the score hardly responds to "
        "the masks"
    )
    return [("flat weights", varies, text)]


def _plain(e: Any, row: int, column: int) -> _Found:
    maps = _maps(e, row)
    if maps is None:
        return []
    maps = maps.astype(np.float64)
    pair = maps @ e.weights[row, column], maps.sum(-1)
    likeness = float(correlation(*(jnp.asarray(np.maximum(total, 0)) for total in pair)))
    if not likeness > PLAIN:
        return []
    text = (
        f"the heatmap has correlation {likeness:.4f} with the plain sum of the activations: it "
        "shows what the layer sees, not the evidence for the target"
    )
    return [("plain sum", likeness, text)]


def _unlikely(e: Any, row: int, column: int) -> _Found:
    probability = _probability(e, row, column)
    if probability is None or probability >= UNLIKELY:
        return []
    text = (
        f"the target's probability is {100 * probability:.2g} %: the heatmap is scaled to full "
        "brightness although the class is unlikely"
    )
    return [("unlikely", probability, text)]


def _dead(e: Any, row: int, column: int) -> _Found:
    live = _live(e, row)
    if live is None or live.mean() >= LIVE:
        return []
    share = float(live.mean())
    text = f"{100 * share:.2g} % of the layer's channels are live: the heatmap rests on few masks"
    return [("dead channels", share, text)]


def _baseline(e: Any, row: int, column: int) -> _Found:
    if e.empty is None or e.confidence is None:
        return []
    whole, empty = float(e.confidence[row, column]), float(e.empty[row, column])
    if not empty > whole:
        return []
    text = (
        f"the score of the baseline alone, {empty:.3g}, is above that of the input, {whole:.3g}: "
        "the blank baseline looks more like the target than the input does"
    )
    return [("baseline scores higher", empty - whole, text)]


def _twice(e: Any, row: int, column: int) -> _Found:
    if e.confidence is None:
        return []
    if not _is_softmax_of_probabilities(e.outputs, e.confidence, e.targets)[row]:
        return []
    text = (
        f"the score, {e.confidence[row, column]:.3g}, is a softmax of outputs that are "
        "probabilities already: pass score=scores.values"
    )
    return [("softmax of probabilities", float(e.confidence[row, column]), text)]


def _unseen(e: Any, row: int, column: int) -> _Found:
    if e.seen is None or e.seen[row].all():
        return []
    share = float(e.seen[row].mean())
    text = (
        f"the network crops the image and reads {100 * share:.2g} % of it: the heatmap is 0 "
        "elsewhere because the network sees nothing there, not because the place is unimportant"
    )
    return [("places", share, text)]


def _layers(e: Any, row: int, column: int) -> _Found:
    """Findings about each of several layers, and about fusing them."""
    found: _Found = []
    count = len(e.layers or ())
    for number in range(count):
        alone = _alone(e, number)
        called = f"layer {number + 1} of {count}"
        for check in (_flat, _plain, _dead):
            for kind, figure, text in check(alone, row, column):
                if check is not _dead and number < count - 1:
                    kind = "detail without class"
                    text = f"{text}; its detail does not depend on the target"
                found.append((kind, figure, f"{called}: {text}"))
        if number == count - 1:
            continue
        pair = (layer.heatmap[row, column] for layer in (e.layers[number], e.layers[-1]))
        likeness = float(correlation(*map(jnp.asarray, pair)))
        if alone.heatmap[row, column].any() and likeness < DISAGREE:
            text = (
                f"the heatmap of {called} has correlation {likeness:.2f} with that of the last "
                "layer: the layers show different things; a product keeps what they share, and a "
                "mean mixes them"
            )
            found.append(("layers disagree", likeness, text))
    return found


def _alone(e: Any, number: int) -> Any:
    """The explanation of one of several layers."""
    own = {name: getattr(e, name) for name in ("weights", "scores", "activations")}
    own = {name: None if values is None else values[number] for name, values in own.items()}
    return e._replace(heatmap=e.layers[number].heatmap, layers=None, **own)


def _incomplete(e: Any, row: int, column: int) -> _Found:
    if e.shortfall is None or e.empty is None:
        return []
    short = float(e.shortfall[row, column])
    gained = float(e.confidence[row, column] - e.empty[row, column])
    if abs(short) <= INCOMPLETE * abs(gained):
        return []
    text = (
        f"the attributions sum to {gained + short:.3g}, wanted {gained:.3g}, the score of the "
        "input minus that of the baseline: use more steps"
    )
    return [("incomplete", abs(short), text)]


def _collapsed(e: Any, row: int, column: int) -> _Found:
    if not isinstance(e.activations, tuple) or e.weights is not None or e.layers is not None:
        return []
    # Attention has as many cells as tokens, far fewer than the heatmap has pixels.
    heatmap = e.heatmap[row, column].astype(np.float64)
    cells = min(np.shape(e.activations[-1])[-1], heatmap.size)
    reached = float((heatmap > heatmap.max() / 4).mean() * cells)
    if cells < MANY or not 0 < reached < COLLAPSED:
        return []
    text = (
        f"the map shows a single token; only {reached:.2g} of {cells} reach a quarter of its "
        "value: tokens of high norm attract attention that has nothing to do with their place. Use "
        "a method with gradients, such as generic_attention or legrad"
    )
    return [("collapsed", reached, text)]


def _maps(e: Any, row: int) -> Any:
    """One input's activations with channels last, or None if whole maps are not weighted."""
    maps, weights = e.activations, e.weights
    if not hasattr(maps, "shape") or not hasattr(weights, "shape"):
        return None
    return np.moveaxis(maps, e.channel_axis, -1)[row]


def _live(e: Any, row: int) -> Any:
    """Which of one input's maps are not constant, or None if that is unknown."""
    maps = _maps(e, row)
    if maps is None:
        return None
    space = tuple(range(maps.ndim - 1))
    return maps.max(space) > maps.min(space)


def _probability(e: Any, row: int, column: int) -> float | None:
    """The target's probability, or None if the score does not seem to be one."""
    if e.confidence is None or not hasattr(e.outputs, "shape") or e.outputs.ndim != 2:
        return None
    outputs = e.outputs[row].astype(np.float64)
    target, score = int(e.targets[row, column]), float(e.confidence[row, column])
    if not 0 <= target < len(outputs):
        return None
    powers = np.exp(outputs - outputs.max())
    softmax = float(powers[target] / powers.sum())
    sigmoid = float(1 / (1 + np.exp(-outputs[target])))
    values = outputs[target] if (outputs >= 0).all() and (outputs <= 1).all() else np.inf
    known = any(np.isclose(score, p, rtol=1e-3, atol=1e-7) for p in (softmax, sigmoid, values))
    return score if known else None


def _deviation(values: np.ndarray) -> float:
    """The standard deviation, divided by the mean absolute value."""
    size = np.abs(values).mean()
    return float(values.std() / size) if size else 0.0
