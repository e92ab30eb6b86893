"""What a model is called with and what it returns, for all rooms that take one or make one."""

from scorecam_jax.contract.model import AnyModel as AnyModel
from scorecam_jax.contract.model import Model as Model
from scorecam_jax.contract.outputs import then as then
from scorecam_jax.contract.per_input import per_input as per_input
