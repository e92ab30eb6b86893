"""The JAX primitives that networks may use: those with a rule, and those that a person has checked.

A primitive without a rule counts as elementwise if its shapes allow it. If it is not, a heatmap
could silently use the wrong layer, so a person has to check each new primitive once.
"""

from typing import Any

from scorecam_jax.program import jaxprs, places
from scorecam_jax.program.marks import equations

# Elementwise.
ELEMENTWISE = frozenset({
    "abs", "acos", "add", "add_any", "and", "asin", "atan2", "cbrt", "ceil", "clamp",
    "convert_element_type", "copy", "copy_p", "cos", "cosh", "device_put", "div", "eq", "erf",
    "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite",
    "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not",
    "optimization_barrier", "or", "pow", "real", "reduce_precision", "rem", "round", "rsqrt",
    "select_n", "sharding_constraint", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient",
    "sub", "tan", "tanh", "xor",
})  # fmt: skip
# No operand has places: numbers, keys and the platform.
ORIGINS = frozenset({
    "iota", "platform_index", "random_bits", "random_fold_in", "random_seed", "random_split",
    "random_unwrap", "random_wrap", "threefry2x32", "shift_left", "shift_right_logical",
})  # fmt: skip
# Marks of layers.
MARKS = frozenset({"layer", "name"})
_ENTERED = frozenset((*jaxprs.CALLS, *jaxprs.CHECKPOINTS, *jaxprs._DERIVATIVES, *places._LOOPS))
_PREFIXES = ("reduce_", "arg", *places._WHOLE)


def without_rule(jaxpr: Any) -> set[str]:
    """The names of a program's primitives that neither have a rule nor were checked."""
    known = ELEMENTWISE | ORIGINS | MARKS | _ENTERED | frozenset(places._RULES)
    met = {eqn.primitive.name for eqn, _ in equations(jaxpr)}
    return {name for name in met - known if not name.startswith(_PREFIXES)}
