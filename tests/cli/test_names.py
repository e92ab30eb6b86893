from scorecam_jax import evaluate, visualize
from scorecam_jax.cli import names
from scorecam_jax.methods import METHODS, variants


def test_names_for_the_help_are_those_of_the_library():
    assert names.METHODS == tuple(METHODS)
    assert {*names.METHODS, *names.PRESETS} == set(evaluate.METHODS)
    assert names.DEFAULT_METHODS == evaluate.DEFAULT_METHODS
    assert names.METRICS == tuple(evaluate.METRICS)
    assert names.VARIANTS == tuple(variants.BY_NAME)
    assert names.COLORMAPS == tuple(visualize.COLORMAPS)
