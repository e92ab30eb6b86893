import pathlib
import pickle
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

from scorecam_jax.adapters import from_linen
from tests.adapters import pickled

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_models_run_in_a_process_that_did_not_make_them():
    cases = [pickled.adapt(name) for name in ("linen", "nnx", "equinox", "keras")]
    cases.append((pickled.linen(), pickled.IMAGES))
    with jax.numpy_rank_promotion("allow"):
        expected = [model(inputs) for model, inputs in cases]
    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters.pickled"],
        input=pickle.dumps(cases),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        check=True,
    )
    results = pickle.loads(done.stdout)
    assert len(results) == len(cases)
    for found, wanted in zip(results, expected, strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted
        )


def test_a_pickled_model_shares_its_traces():
    for model, inputs in (pickled.adapt("linen"), pickled.adapt("nnx"), pickled.adapt("equinox")):
        traces = []

        @jax.jit
        def run(model, inputs, traces=traces):
            traces.append(inputs)
            return model(inputs)[0]

        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(run(model, inputs), run(again, inputs))
        assert len(traces) == 1


def test_what_does_not_pickle_is_named():
    class Local(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(4, (3, 3), name="conv")(x).mean((1, 2))

    variables = Local().init(jax.random.key(0), pickled.IMAGES)
    with pytest.raises((pickle.PicklingError, AttributeError), match="Local"):
        pickle.dumps(from_linen(Local(), variables, "conv"))
    with pytest.raises((pickle.PicklingError, AttributeError), match=r"apply_fn"):
        pickle.dumps(pickled.haiku_of_a_function())
