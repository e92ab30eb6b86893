from scorecam_jax import evaluate, visualize
from scorecam_jax.cli import names
from scorecam_jax.methods import METHODS, variants


def test_names_for_the_help_are_those_of_the_library():
    assert tuple(METHODS) == names.METHODS
    assert {*names.METHODS, *names.PRESETS} == set(evaluate.METHODS)
    assert names.DEFAULT_METHODS == evaluate.DEFAULT_METHODS
    assert tuple(evaluate.METRICS) == names.METRICS
    assert {*names.METRICS} - {*names.NOT_DEFAULT} == {*evaluate.DEFAULT_METRICS}
    assert tuple(variants.BY_NAME) == names.VARIANTS
    assert tuple(visualize.COLORMAPS) == names.COLORMAPS
