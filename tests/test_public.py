"""What the package exports, and what importing it takes."""

import subprocess
import sys

import pytest

import scorecam_jax

WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ImportError(f"{{name}} is refused")
sys.meta_path.insert(0, Refuse())
{code}
"""


def run_without(refused, code):
    script = WITHOUT.format(refused=refused, code=code)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize("name", scorecam_jax.__all__)
def test_every_exported_name_is_there_and_listed(name):
    assert getattr(scorecam_jax, name) is not None
    assert name in dir(scorecam_jax)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'score_cma'"):
        scorecam_jax.score_cma  # noqa: B018


def test_importing_the_package_imports_no_framework():
    code = "import scorecam_jax; sys.exit('jax' in sys.modules)"
    assert run_without((), code).returncode == 0


def test_equinox_users_need_neither_flax_nor_optax():
    code = """
import equinox as eqx, jax, jax.numpy as jnp
from scorecam_jax import from_equinox, score_cam, scores, variants
net = eqx.nn.Sequential([
    eqx.nn.Conv2d(1, 2, 3, key=jax.random.key(0)), eqx.nn.Lambda(lambda x: x.mean((1, 2)))
])
print(score_cam(from_equinox(net, "layers/0"), jnp.ones((1, 1, 5, 5)), 0).heatmap.shape)
"""
    found = run_without(("flax", "optax", "haiku", "keras"), code)
    assert found.stdout == "(1, 5, 5)\n", found.stderr
