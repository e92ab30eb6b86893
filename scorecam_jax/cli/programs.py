"""The programs that explain photographs: compiled once, one for the classes and one a method."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax.cli.errors import UserError, translated
from scorecam_jax.cli.loading import input_shape
from scorecam_jax.contract.model import channel_axis_of


class Programs(NamedTuple):
    """Compiled programs.

    Attributes:
        predict: (model, inputs) -> the probabilities of all classes, (classes,), the classes to
            explain, (1, T), and how many of the layer's channels are live: not constant.
        methods: by name: (model, inputs, classes) -> Explanation, for `size` inputs.
        size: how many photographs the methods explain in one call.
    """

    predict: Callable[..., Any]
    methods: dict[str, jax.stages.Compiled]
    size: int = 1

    def explain(
        self, model: Any, inputs: Sequence[np.ndarray], classes: Sequence[np.ndarray]
    ) -> list[dict[str, Any]]:
        """Explain up to `size` photographs in one call of each method.

        Fewer are filled up with the last.

        Args:
            model: the network.
            inputs: of each photograph, a batch of one.
            classes: of each, what `predict` tells.

        Returns:
            Of each photograph its `Explanation` by each method, with NumPy's arrays.
        """
        rows = [min(place, len(inputs) - 1) for place in range(self.size)]
        batch = np.concatenate([inputs[row] for row in rows])
        wanted = np.concatenate([classes[row] for row in rows])
        found: list[dict[str, Any]] = [{} for _ in inputs]
        for name, run in self.methods.items():
            explanation = jax.tree.map(np.asarray, run(model, batch, wanted))
            for row, one in enumerate(found):
                one[name] = jax.tree.map(lambda values, row=row: values[row : row + 1], explanation)
        return found


def compile_programs(
    classifier: Any,
    methods: Mapping[str, Callable[..., Any]],
    targets: Sequence[int],
    top: int,
    size: int = 1,
) -> Programs:
    """Compile the methods for photographs of a classifier's input size.

    One program for all methods would be no faster, and compiles far longer than they do apart.

    Args:
        classifier: the network.
        methods: by name, called as `score_cam` is.
        targets: classes to explain.
        top: how many of the likeliest classes to explain besides.
        size: how many photographs the methods explain in one call.

    Raises:
        UserError: the network has fewer classes, or a method's options do not fit it.
    """
    if top > len(classifier.labels):
        raise UserError(f"--top {top}: the model knows only {len(classifier.labels)} classes")

    channel_axis = channel_axis_of(classifier.model)

    def predict(model: Any, inputs: Any) -> Any:
        outputs, activations = model(inputs)
        maps = jnp.moveaxis(activations, channel_axis, -1)[0]
        space = tuple(range(maps.ndim - 1))
        live = (maps.max(space) > maps.min(space)).sum()
        likeliest = jax.lax.top_k(outputs, top)[1].astype("int32")
        named = jnp.array([targets], "int32").reshape(1, len(targets))
        return jax.nn.softmax(outputs)[0], jnp.concatenate([named, likeliest], axis=1), live

    one = jax.ShapeDtypeStruct(input_shape(classifier), "float32")
    inputs = jax.ShapeDtypeStruct((size, *one.shape[1:]), one.dtype)
    classes = jax.ShapeDtypeStruct((size, len(targets) + top), "int32")
    try:
        return Programs(
            jax.jit(predict).lower(classifier.model, one).compile(),
            {
                name: jax.jit(method).lower(classifier.model, inputs, classes).compile()
                for name, method in methods.items()
            },
            size,
        )
    except (TypeError, ValueError) as error:
        raise translated(error) from error
