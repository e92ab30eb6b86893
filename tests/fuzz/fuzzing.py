"""Draw the same cases every time, and compare explanations."""

import zlib

import hypothesis
import jax.numpy as jnp
import numpy as np


def fuzz(count, label):
    """Run a test on `count` cases; a failure is printed with everything to reproduce it."""

    def decorate(test):
        settings = hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        return hypothesis.seed(zlib.crc32(label.encode()))(settings(test))

    return decorate


def check_same(dtype, expected, found, nearby, rounding=0.0):
    """Assert equality up to the effect of rounding the arguments or a heatmap's sum."""
    for field, values in found.items():
        # Below its smallest normal number a type has no precision left.
        size = max(np.abs(expected[field]).max(), 1e4 * float(jnp.finfo(dtype).tiny))
        slack = max(np.abs(near[field] - expected[field]).max() for near in nearby)
        difference = np.abs(values - expected[field]).max()
        base = {"slope": 1e-3, "heatmap": 1e-4 + rounding}.get(field, 1e-4)
        assert difference <= base * size + 30 * slack, f"{field} differs by {difference:.3g}"
