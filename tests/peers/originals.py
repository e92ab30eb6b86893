"""Networks of other packages with random weights, and comparisons with their logits."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


def with_random_weights(network):
    """Set a network to evaluation mode, with random parameters and statistics."""
    generator = torch.Generator().manual_seed(0)

    def uniform(values, low, high):
        values.uniform_(low, high, generator=generator)

    with torch.no_grad():
        for name, values in network.named_parameters():
            if values.ndim > 1 and values.shape[1:].numel() > 1:
                fan = values.shape[1:].numel()
                values.normal_(0, fan**-0.5, generator=generator)
            else:
                uniform(values, *((-0.2, 0.2) if name.endswith("bias") else (0.5, 1.0)))
        for name, values in network.named_buffers():
            if name.endswith("running_mean"):
                uniform(values, -0.2, 0.2)
            elif name.endswith("running_var"):
                uniform(values, 0.5, 2.0)
    return network.eval()


def images(side, count=2):
    return np.random.default_rng(0).normal(size=(count, side, side, 3)).astype(np.float32)


def logits_of(network, inputs):
    """The logits of the original network for channels-last inputs."""
    first = torch.from_numpy(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        found = network(first)
    return getattr(found, "logits", found).numpy()


def assert_logits_equal(logits, expected):
    assert np.ptp(expected) > 0.02
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
