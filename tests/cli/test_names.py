from scorecam_jax import study, visualize
from scorecam_jax.cli import options as names
from scorecam_jax.methods import METHODS, variants
from scorecam_jax.steps import fuse


def test_names_for_the_help_are_those_of_the_library():
    assert tuple(METHODS) == names.METHODS
    assert {*names.METHODS, *names.PRESETS} == set(study.OFFERED)
    assert names.DEFAULT_METHODS == study.DEFAULT_METHODS
    assert tuple(study.METRICS) == names.METRICS
    assert {*names.METRICS} - {*names.NOT_DEFAULT} == {*study.DEFAULT_METRICS}
    assert tuple(variants.BY_NAME) == names.VARIANTS
    assert tuple(visualize.COLORMAPS) == names.COLORMAPS
    assert tuple(fuse.FUSIONS) == names.FUSIONS
