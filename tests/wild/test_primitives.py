"""The list of known primitives, tried on programs that need no package."""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from tests.wild.primitives import without_rule


def test_a_primitive_without_a_rule_is_named():
    rotate = Primitive("rotate")
    rotate.def_abstract_eval(lambda x: x)

    def network(x):
        return jax.nn.softmax(jnp.mean(rotate.bind(x), (1, 2)))

    program = jax.make_jaxpr(network)(jnp.zeros((2, 4, 4, 3)))
    assert without_rule(program.jaxpr) == {"rotate"}


def test_common_layers_have_rules():
    def network(x):
        x = jax.nn.gelu(jax.image.resize(x, (2, 8, 8, 3), "linear"))
        x = jax.nn.standardize(jnp.sort(jnp.cumsum(x, 1), 2))
        return jax.nn.log_softmax(jnp.einsum("nhwc,nhwd->ncd", x, x)[:, 0])

    assert not without_rule(jax.make_jaxpr(network)(jnp.zeros((2, 4, 4, 3))).jaxpr)
