"""Recognise a network's framework by its classes' modules, without importing any framework."""

from typing import Any

_ADAPTERS = {
    "flax.linen": ("a Flax Linen module", "from_linen(module, variables)"),
    "flax.nnx": ("a Flax NNX model", "from_nnx(model)"),
    "equinox": ("an Equinox model", "from_equinox(model)"),
    "haiku": ("a Haiku transformation", "from_haiku(transformed, params)"),
    "keras": ("a Keras model", "from_keras(model)"),
    "torch.nn": ("a PyTorch module", ""),
}


def check_network(network: Any, adapter: str) -> None:
    """TypeError if an adapter's network is a class, or a network of another framework."""
    if isinstance(network, type):
        raise TypeError(
            f"{adapter} found the class {network.__name__}, wanted an instance of it: "
            f"{network.__name__}(...)"
        )
    modules = [kind.__module__ for kind in type(network).__mro__]
    for name, (what, wanted) in _ADAPTERS.items():
        if any(f"{module}.".startswith(f"{name}.") for module in modules):
            if wanted.partition("(")[0] == adapter:
                return
            found = f"{what}, a {type(network).__name__}"
            raise TypeError(
                f"{adapter} found {found}: use {wanted}"
                if wanted
                else f"{adapter} found {found}: write the network in JAX, and load its weights "
                "with scorecam_jax.models"
            )


def check_instance(model: Any) -> None:
    """TypeError if a method's model is not callable, or is a class."""
    if isinstance(model, type):
        raise TypeError(
            f"the model is the class {model.__name__}, wanted an instance, passed to an adapter: "
            f"for example from_nnx({model.__name__}(...))"
        )
    if not callable(model):
        raise TypeError(
            f"the model is a {type(model).__name__}, wanted a model from an adapter such as "
            "from_linen, or a function inputs -> (outputs, activations)"
        )
