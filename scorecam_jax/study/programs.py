"""A network's programs: one for predictions and one per method, each compiled once."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from scorecam_jax._internal.signatures import accepts, requires
from scorecam_jax._internal.trees import Static, join_arrays, split_arrays
from scorecam_jax.contract.model import channel_axis_of
from scorecam_jax.methods.base import Explanation
from scorecam_jax.methods.several import layers_of
from scorecam_jax.steps.outputs import class_scores

Method = Callable[..., Any]


class Prediction(NamedTuple):
    """A network's predictions for a batch.

    Attributes:
        scores: (B, classes), probabilities unless another score was requested.
        ranking: (B, classes), the classes from the likeliest on.
        live: (B, channels), which channels of the layer, or of all layers, are not constant.
    """

    scores: Float[np.ndarray, "batch classes"]
    ranking: Int[np.ndarray, "batch classes"]
    live: Bool[np.ndarray, "batch channels"]


class Programs:
    """Programs of one network, compiled once for each shape of batch.

    One program for all methods would be no faster, and compiles far longer than they do apart.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        score: Callable[..., Any] | None = None,
        batch_size: int | None = None,
        channel_axis: int | None = None,
    ) -> None:
        """Declare the methods; nothing is compiled yet.

        Args:
            methods: by name, called as `score_cam` is.
            score: outputs -> (N, classes), passed to the methods that take one. None: each
                method's own, and `jax.nn.softmax` for predictions.
            batch_size: masked inputs per pass, passed to the methods that take it.
            channel_axis: passed likewise.
        """
        self.methods = dict(methods)
        self._score = score or jax.nn.softmax
        self._channel_axis = channel_axis
        options = {"score": score, "batch_size": batch_size, "channel_axis": channel_axis}
        self._wanted = {name: value for name, value in options.items() if value is not None}
        self._jitted = {
            name: jax.jit(functools.partial(self._explain, method), static_argnames="static")
            for name, method in self.methods.items()
        }
        self._jitted[""] = jax.jit(self._predict, static_argnames="static")
        self._compiled: dict[Any, dict[Any, Any]] = {}
        self._split: tuple[Any, list[Any], Any, dict[Any, Any]] | None = None

    def predict(self, model: Callable[..., Any], inputs: Any) -> Prediction:
        """What the network says of a batch."""
        return Prediction(*map(np.asarray, self._run("", model, inputs)))

    def explain(
        self, method: str, model: Callable[..., Any], inputs: Any, targets: Any
    ) -> tuple[Array, Explanation | None, float]:
        """Explain a batch.

        Args:
            method: its name.
            model: the network.
            inputs: (B, *spatial, C).
            targets: (B,) or (B, T).

        Returns:
            The heatmaps, the `Explanation` if the method returns one, and the seconds that the
            call took, without compilation.
        """
        run = self.compiled(method, model, inputs, targets)
        arrays, *_ = self._taken(model)
        began = time.perf_counter()
        heatmaps, found = jax.block_until_ready(run(arrays, inputs, targets))
        return heatmaps, found, time.perf_counter() - began

    def explain_each(
        self,
        method: str,
        model: Callable[..., Any],
        inputs: Sequence[Any],
        targets: Sequence[Any],
        size: int,
    ) -> list[tuple[Float[np.ndarray, "targets *spatial"], Explanation | None, float]]:
        """Explain up to `size` inputs in one call; fewer are filled up with the last.

        Args:
            method: its name.
            model: the network.
            inputs: a batch of one each.
            targets: (T,) each.
            size: how many the program takes.

        Returns:
            For each input the heatmaps (T, *spatial), the `Explanation` of a batch of one with
            NumPy's arrays, and its share of the seconds.
        """
        rows = [min(place, len(inputs) - 1) for place in range(size)]
        batch = np.concatenate([inputs[row] for row in rows])
        wanted = np.stack([np.asarray(targets[row], np.int32) for row in rows])
        one_each = wanted.shape[1] == 1
        heatmaps, found, seconds = self.explain(
            method, model, batch, wanted[:, 0] if one_each else wanted
        )
        maps = np.asarray(heatmaps)
        if one_each:
            maps = maps[:, None]
        found = jax.tree.map(np.asarray, found)
        return [
            (
                maps[row],
                jax.tree.map(lambda values, row=row: values[row : row + 1], found),
                seconds / len(inputs),
            )
            for row in range(len(inputs))
        ]

    def prepare(
        self, model: Callable[..., Any], shape: Sequence[int], targets: int, size: int
    ) -> None:
        """Compile all programs before there is an input, so that mistakes are found early.

        Args:
            model: the network.
            shape: of an input, (*spatial, C).
            targets: how many classes are explained.
            size: how many inputs share a call.

        Raises:
            TypeError, ValueError: a method's options do not fit the network.
        """
        classes = (size,) if targets == 1 else (size, targets)
        self.compiled("", model, jax.ShapeDtypeStruct((1, *shape), "float32"))
        for method in self.methods:
            self.compiled(
                method,
                model,
                jax.ShapeDtypeStruct((size, *shape), "float32"),
                jax.ShapeDtypeStruct(classes, "int32"),
            )

    def weights_maps(self, method: str) -> bool:
        """Whether a method that was compiled makes its maps by weighting the layer's."""
        found = self._found(method)
        return found is not None and found.weights is not None

    def fuses(self, method: str) -> bool:
        """Whether a method that was compiled fuses the maps of several layers."""
        found = self._found(method)
        return found is not None and found.layers is not None

    def _found(self, method: str) -> Explanation | None:
        """What a method that was compiled returns, in its structure alone."""
        programs = (pair for known in self._compiled.values() for pair in known.items())
        tree = next(run.out_tree for (name, _), run in programs if name == method)
        return jax.tree.unflatten(tree, [True] * tree.num_leaves)[1]

    def compiled(self, name: str, model: Callable[..., Any], *arguments: Any) -> Any:
        """A program for arguments of these shapes; the name "" is that of `predict`."""
        arrays, static, known = self._taken(model)
        kind = name, _shapes(arguments)
        if kind not in known:
            known[kind] = self._jitted[name].lower(arrays, *arguments, static=static).compile()
        return known[kind]

    def trace(self, name: str, model: Callable[..., Any], *arguments: Any) -> None:
        """Trace a method with arguments of these shapes, and compile nothing.

        Raises:
            TypeError, ValueError: its options do not fit the network.
        """
        arrays, static, _ = self._taken(model)
        self._jitted[name].trace(arrays, *arguments, static=static)

    def _taken(self, model: Any) -> tuple[list[Any], Any, dict[Any, Any]]:
        """A model's arrays, its settings and its programs; settings are slow to hash."""
        if self._split is None or self._split[0] is not model:
            arrays, static = split_arrays(model)
            known = self._compiled.setdefault((static, _shapes(arrays)), {})
            self._split = model, arrays, static, known
        return self._split[1:]

    def _run(self, name: str, model: Callable[..., Any], *arguments: Any) -> Any:
        return self.compiled(name, model, *arguments)(self._taken(model)[0], *arguments)

    def _predict(self, arrays: Any, inputs: Array, *, static: Static) -> Any:
        model = join_arrays(arrays, static)
        outputs, activations = model(inputs)
        scores = class_scores(self._score, outputs, len(inputs))
        # Logits tell likely classes apart where probabilities have underflowed.
        plain = getattr(outputs, "shape", None) == scores.shape
        ranked = outputs if plain and self._score is jax.nn.softmax else scores
        ranking = jax.lax.top_k(ranked, ranked.shape[1])[1]
        axis = channel_axis_of(model, self._channel_axis)
        live = []
        for layer in layers_of(activations):
            maps = jnp.moveaxis(layer, axis, -1)
            space = tuple(range(1, maps.ndim - 1))
            live.append(maps.max(space) > maps.min(space))
        return scores, ranking, jnp.concatenate(live, 1)

    def _explain(
        self, method: Method, arrays: Any, inputs: Array, targets: Array, *, static: Static
    ) -> tuple[Array, Explanation | None]:
        keywords: dict[str, Any] = {
            name: value for name, value in self._wanted.items() if accepts(method, name)
        }
        if requires(method, "key"):
            with jax.ensure_compile_time_eval():
                keywords["key"] = jax.random.key(0)
        found = method(join_arrays(arrays, static), inputs, targets, **keywords)
        return found.heatmap, found if isinstance(found, Explanation) else None


def _shapes(tree: Any) -> tuple[Any, ...]:
    return tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree))
