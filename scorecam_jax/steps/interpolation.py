"""Interpolating the scores of masks from the scores of a few of them.

A masked score is a smooth function of its mask, and a layer's masks are vectors of few numbers
that resemble one another. A Gaussian process over masks makes use of it: it tells which masks to
score, what the scores of the others are, and how far off they may be. The functions here treat
one input; masks are (K, cells), flattened at the layer's resolution.

Source: Gaussian processes as in Rasmussen and Williams, "Gaussian Processes for Machine Learning"
(MIT Press 2006): Eqs. 2.25 and 2.26 (prediction), 4.17 (the Matérn 5/2 kernel) and 5.8 (evidence).
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Bool, Float, Int

from scorecam_jax.steps.combine import into_range

# Settled on 17 photographs, with EfficientNet-Lite0. Their evidence is flat: other lengths and
# noises from half to twice these do as well.
_CHOICE_LENGTH, _CHOICE_NOISE = 1.14, 0.01
_LENGTHS = (0.57, 1.14, 2.28)
_NOISES = (1e-3, 1e-2, 1e-1)
_WAVES = 1024
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(9)
_SHARES = _SHARES / _SHARES.sum()


@dataclasses.dataclass(frozen=True)
class Interpolated:
    """Score some of the masks, interpolate the scores of the others, and sum all maps.

    The masks to score are chosen from the activations alone, so one choice serves all targets.
    If that is every live mask, the heatmap is the exact one.

    Args:
        count: how many masks are scored.
        tolerance: instead of `count`: score masks in rounds until no pixel of the heatmap has a
            deviation above this. Such a heatmap has no reverse-mode derivative.

    Raises:
        ValueError: not one of the two is given, or it is out of range.

    >>> Interpolated(64), Interpolated(tolerance=0.05)
    (Interpolated(count=64, tolerance=None), Interpolated(count=None, tolerance=0.05))
    """

    count: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        """Check that one of the two is given, and in range."""
        if (self.count is None) == (self.tolerance is None):
            raise ValueError(
                f"count={self.count} and tolerance={self.tolerance}: wanted one of the two, as in "
                "Interpolated(64) or Interpolated(tolerance=0.05)"
            )
        if self.count is not None and self.count < 1:
            raise ValueError(f"count={self.count}, wanted at least 1 mask to score")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(
                f"tolerance={self.tolerance}, wanted a deviation of a heatmap in [0, 1]: between "
                "0 and 1, such as 0.05"
            )


class Interpolation(NamedTuple):
    """The scores of all masks.

    Attributes:
        scores: (T, K), the scored ones as they are, and what the others are expected to be.
        draws: (draws, T, K), what all of them may be together.
        slopes: (T, K), how much each score varies with what is interpolated, in units of the
            process's scale.
    """

    scores: Float[Array, "targets masks"]
    draws: Float[Array, "draws targets masks"]
    slopes: Float[Array, "targets masks"]


def squared_distances(
    a: Float[Array, "m cells"], b: Float[Array, "n cells"]
) -> Float[Array, "m n"]:
    """Return the mean over cells of the squared difference of each pair of masks."""
    with jax.default_matmul_precision("highest"):
        products = a @ b.T
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * products
    return jnp.maximum(squares, 0) / max(a.shape[1], 1)


def matern(squared: Float[Array, "*shape"], length: Any) -> Float[Array, "*shape"]:
    """Return the Matérn 5/2 covariance of points at these squared distances.

    With r = √5 · distance / length, (1 + r + r²/3) exp(−r).

    >>> bool(jnp.isclose(matern(jnp.array(1.0), 1.0), 0.523994))
    True
    """
    positive = squared > 0  # the square root has no derivative at 0, where the kernel's is 0
    r = jnp.where(positive, jnp.sqrt(5 * jnp.where(positive, squared, 1)) / length, 0)
    return (1 + r + r**2 / 3) * jnp.exp(-r)


def choose(
    masks: Float[Array, "masks cells"],
    shares: Float[Array, "masks cells_of_sum"],
    free: Bool[Array, " masks"],
    count: int,
    chosen: Int[Array, " n"] | None = None,
    scored: Bool[Array, " n"] | None = None,
    *,
    kinds: Int[Array, " masks"] | None = None,
) -> Int[Array, " count"]:
    """Choose the masks whose scores tell most about the weighted sum of all maps.

    Greedy: each time the mask whose score, once known, lowers the sum's posterior variance most,
    summed over its cells. That takes no scores.

    Args:
        masks: what is to be told apart.
        shares: what each mask adds to the sum for a weight of 1; 0 if its weight is known.
        free: which masks may be chosen. The others follow once these are used up.
        count: how many to choose, at most as many as there are.
        chosen: masks whose scores are known already.
        scored: False where `chosen` is to be passed over.
        kinds: what kind each mask is of, such as its layer. For the choice, the score of one tells
            nothing about those of other kinds. None: all are of one.

    Returns:
        The indices, in the order of their choice.
    """
    masks, shares = jax.lax.stop_gradient((masks, shares))
    with jax.default_matmul_precision("highest"):
        covariance = matern(squared_distances(masks, masks), _CHOICE_LENGTH)
        if kinds is not None:
            covariance = jnp.where(kinds[:, None] == kinds[None], covariance, 0)
        covariance += _CHOICE_NOISE * jnp.eye(len(masks), dtype=masks.dtype)
        known = jnp.zeros((len(masks), 0), masks.dtype)
        if chosen is not None and scored is not None:
            both = scored[:, None] & scored[None]
            among = jnp.where(both, covariance[chosen][:, chosen], jnp.eye(len(chosen)))
            cross = jnp.where(scored[:, None], covariance[chosen], 0)
            known = solve_triangular(jnp.linalg.cholesky(among), cross, lower=True).T
        state = _Choice(
            told=covariance @ shares - known @ (known.T @ shares),
            variance=jnp.diagonal(covariance) - (known**2).sum(1),
            factor=jnp.zeros((len(masks), count), masks.dtype),
            taken=jnp.zeros(len(masks), bool),
            picks=jnp.zeros(count, int),
        )

        def pick(step: Any, state: _Choice) -> _Choice:
            variance = jnp.maximum(state.variance, _CHOICE_NOISE / 2)
            gain = jnp.where(free, (state.told**2).sum(1) / variance, -1)
            best = jnp.argmax(jnp.where(state.taken, -2, gain))
            column = covariance[:, best] - known @ known[best] - state.factor @ state.factor[best]
            column /= jnp.sqrt(variance[best])
            return _Choice(
                told=state.told - column[:, None] * (column @ shares)[None],
                variance=state.variance - column**2,
                factor=state.factor.at[:, step].set(column),
                taken=state.taken.at[best].set(True),
                picks=state.picks.at[step].set(best),
            )

        return jax.lax.fori_loop(0, count, pick, state).picks


class _Choice(NamedTuple):
    told: Array  # each score's covariance with the cells of the sum
    variance: Array
    factor: Array  # a pivoted Cholesky factor, a column for each pick
    taken: Array
    picks: Array


@jax.default_matmul_precision("highest")
def interpolate(
    masks: Float[Array, "masks cells"],
    chosen: Int[Array, " n"],
    scores: Float[Array, "targets n"],
    scored: Bool[Array, " n"],
    draws: int,
    bounds: Float[Array, "targets m"] | None = None,
) -> Interpolation:
    """Tell the scores of all masks from those of the chosen ones.

    Scores that are all in [0, 1] are interpolated as log-odds, others as they are. The length and
    the noise of the process are each target's own: the mean, by evidence, of a few.

    Args:
        masks: all of them.
        chosen: which ones have scores.
        scores: theirs.
        scored: False where `scores` is to be passed over.
        draws: how many draws from the posterior to make. They are the same every time.
        bounds: further scores, such as those of the whole input and of an empty mask. A single
            score has no spread of its own: its differences from these tell the scale.
    """
    bounds = scores[:, :0] if bounds is None else bounds
    known = masks[chosen]
    to_known = squared_distances(masks, known)
    among = squared_distances(known, known)
    odds_wanted = ((scores >= 0) & (scores <= 1) | ~scored[None]).all(1)
    odds, odds_of_bounds = _log_odds(scores, scored, bounds)
    values = jnp.where(odds_wanted[:, None], odds, scores)
    values = jnp.where(scored[None], values, 0)
    around = jnp.where(odds_wanted[:, None], odds_of_bounds, bounds)
    # Squares of large scores would overflow, and those of small ones vanish beside the least scale.
    joined, unit = into_range(jnp.concatenate([values, around], 1), [1], limit=0)
    values, around = joined[:, : values.shape[1]], joined[:, values.shape[1] :]
    differences = jnp.where(scored, around[..., None] - values[:, None], 0)
    # Twice the largest difference, because a few scores do not show the range of all.
    spread = 4 * jax.lax.stop_gradient((differences**2).max((1, 2), initial=0))
    logs = jnp.log(jnp.array(list(itertools.product(_LENGTHS, _NOISES)), masks.dtype))

    def weigh(log: Array) -> Array:
        length, noise = jnp.exp(log)
        return _condition(length, noise, among, values, scored, spread).evidence

    evidence = jax.lax.map(weigh, logs)
    lengths, noises = jnp.exp(jax.nn.softmax(evidence, 0).T @ logs).T
    noise = _Noise.draw(masks, draws)

    def predict(
        values: Array,
        spread: Array,
        unit: Array,
        odds_wanted: Array,
        length: Array,
        noise_level: Array,
    ) -> tuple[Array, Array, Array]:
        fit = _condition(length, noise_level, among, values[None], scored, spread[None])
        (mean,), (scale,) = fit.mean, fit.scale
        cross = jnp.where(scored[None], matern(to_known, length), 0)
        expected = mean + cross @ fit.solve(jnp.where(scored, values - mean, 0))
        explained = (solve_triangular(fit.factor, cross.T, lower=True) ** 2).sum(0)
        variance = scale * jnp.maximum(1 + noise_level - explained, noise_level)
        deviation = jnp.sqrt(variance)[:, None]
        expected = unit * expected
        nodes = expected[:, None] + unit * deviation * _NODES[None].astype(masks.dtype)
        mean_score = jnp.where(
            odds_wanted, jax.nn.sigmoid(nodes) @ _SHARES.astype(masks.dtype), expected
        )
        # Matheron's rule: what a draw from the prior has left once its known values are given.
        prior = noise.prior(masks, length, noise_level)
        given = cross @ fit.solve(jnp.where(scored[:, None], prior[chosen], 0))
        drawn = expected[:, None] + unit * jnp.sqrt(scale) * (prior - given)
        steepness = jnp.where(odds_wanted, mean_score * (1 - mean_score), 1)
        drawn = jnp.where(odds_wanted, jax.nn.sigmoid(drawn), drawn)
        return mean_score, drawn, unit * jnp.sqrt(scale) * steepness

    expected, drawn, slopes = jax.vmap(predict)(
        values, spread, unit[:, 0], odds_wanted, lengths, noises
    )
    place = jnp.where(scored, chosen, len(masks))
    return Interpolation(
        expected.at[:, place].set(scores, mode="drop"),
        jnp.moveaxis(drawn, -1, 0).at[:, :, place].set(scores, mode="drop"),
        slopes,
    )


class _Conditioned(NamedTuple):
    factor: Array
    mean: Array
    scale: Array
    evidence: Array

    def solve(self, right: Array) -> Array:
        return cho_solve((self.factor, True), right)


def _condition(
    length: Array,
    noise: Array,
    among: Float[Array, "n n"],
    values: Float[Array, "t n"],
    scored: Bool[Array, " n"],
    spread: Float[Array, " t"],
) -> _Conditioned:
    """A process of constant mean and unknown scale, given values (T, n) of which some count.

    Args:
        length: of the process.
        noise: of the process.
        among: the squared distances of the masks.
        values: the scores, or their log-odds.
        scored: which of them count.
        spread: the scale where a single one counts.
    """
    both = scored[:, None] & scored[None]
    gram = jnp.where(both, matern(among, length), 0) + jnp.diag(jnp.where(scored, noise, 1))
    factor = jnp.linalg.cholesky(gram)
    sides = jnp.concatenate([values, jnp.ones_like(values[:1])]) * scored[None]
    whitened = solve_triangular(factor, sides.T, lower=True).T
    white, one = whitened[:-1], whitened[-1]
    count = scored.sum()
    mean = white @ one / jnp.maximum(one @ one, jnp.finfo(one.dtype).tiny)
    squares = ((white - mean[:, None] * one[None]) ** 2).sum(1)
    # Equal scores leave no scale to estimate; this is far below what any heatmap shows.
    scale = jnp.where(count > 1, squares / jnp.maximum(count - 1, 1), spread) + 1e-12
    evidence = -0.5 * count * jnp.log(scale) - jnp.log(jnp.diagonal(factor)).sum()
    return _Conditioned(factor, mean, scale, evidence)


class _Noise(NamedTuple):
    """Random numbers that become draws from any Matérn 5/2 prior.

    Its spectral density is Student's t with 5 degrees of freedom, so cosines of such frequencies
    have its covariance (random Fourier features, Rahimi and Recht 2007).
    """

    frequencies: Array
    phases: Array
    amplitudes: Array
    white: Array

    @classmethod
    def draw(cls, masks: Array, draws: int) -> "_Noise":
        count, cells = masks.shape
        generator = np.random.default_rng(0)
        chi2 = generator.chisquare(5, (_WAVES, 1))
        phases = generator.uniform(0, 2 * np.pi, _WAVES)
        amplitudes = generator.standard_normal((_WAVES, draws))
        # The large ones are made where they are needed, not stored in the program.
        directions, white = jax.random.split(jax.random.key(0))
        return cls(
            jax.random.normal(directions, (_WAVES, cells), masks.dtype)
            * np.sqrt(5 / chi2 / max(cells, 1)).astype(masks.dtype),
            jnp.asarray(phases, masks.dtype),
            jnp.asarray(amplitudes, masks.dtype),
            jax.random.normal(white, (count, draws), masks.dtype),
        )

    def prior(self, masks: Array, length: Any, noise: Any) -> Array:
        waves = jnp.cos(masks @ self.frequencies.T / length + self.phases[None])
        return np.sqrt(2 / _WAVES) * waves @ self.amplitudes + jnp.sqrt(noise) * self.white


def _log_odds(scores: Array, scored: Array, others: Array) -> tuple[Array, Array]:
    shown = jnp.where(scored[None], jnp.clip(scores, 0, 1), 0)
    # A heatmap shows relations of scores: of a class at 1e-9 as of one at 0.9.
    least = 1e-6 * shown.max(1, keepdims=True) + jnp.finfo(shown.dtype).tiny

    def log_odds(shown: Array) -> Array:
        return jnp.log((shown + least) / (1 - shown + least))

    return log_odds(shown), log_odds(jnp.clip(others, 0, 1))
