"""What a model is: its inputs and what it returns. All packages that take or make models use it."""

from scorecam_jax.contract.model import AnyModel as AnyModel
from scorecam_jax.contract.model import Model as Model
from scorecam_jax.contract.outputs import then as then
from scorecam_jax.contract.per_input import per_input as per_input
