"""The schedule against its definition, pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.engine.schedule import schedule

SIZES = [(1, 1), (2, 1), (3, 2), (4, 8), (50, 1)]


def random_masks(seed, batch=3, masks=7, share=0.6):
    return jnp.asarray(np.random.default_rng(seed).random((batch, masks)) < share)


def flat(plan):
    return np.asarray(plan.pairs).reshape(-1)


@pytest.mark.parametrize(("size", "devices"), SIZES)
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_each_pair_gets_the_score_of_a_pair_that_shows_the_same(size, devices, share):
    live = random_masks(0, share=share)
    plan = schedule(live, size, devices)
    scored = flat(plan)[np.asarray(plan.source)]
    for image, row in enumerate(np.asarray(live)):
        for mask, alive in enumerate(row):
            stands_for = mask if alive else int(np.argmin(row))
            assert scored[image, mask] == image * live.shape[1] + stands_for


@pytest.mark.parametrize(("size", "devices"), SIZES)
def test_what_needs_a_pass_is_in_chunks_that_are_due_and_no_other_chunk_is(size, devices):
    live = random_masks(1, share=0.5)
    plan = schedule(live, size, devices)
    needed = live.sum() + (~live).any(1).sum()
    due = np.asarray(plan.due)[:, 0]
    assert due.sum() == -(-needed // (size * devices))
    assert not due[due.sum() :].any()
    in_due_chunks = set(np.asarray(plan.pairs)[due].reshape(-1).tolist())
    assert set(np.flatnonzero(np.asarray(live)).tolist()) <= in_due_chunks


def test_devices_get_equal_shares_of_what_needs_a_pass():
    live = jnp.zeros((1, 64), bool).at[0, ::2].set(True)
    plan = schedule(live, size=2, devices=8)
    needed = np.array(live).reshape(-1)
    needed[1] = True  # the first empty mask
    shares = needed[np.asarray(plan.pairs)].sum((0, 1))
    assert shares.sum() == 33
    assert shares.max() - shares.min() <= 1


def test_every_pair_is_scheduled_and_chunks_are_full():
    plan = schedule(random_masks(2), size=4, devices=2)
    assert plan.pairs.shape == (3, 4, 2)  # 21 pairs, eight at a time
    assert set(flat(plan).tolist()) == set(range(21))


def test_it_runs_under_jit():
    live = random_masks(3)
    plain, jitted = schedule(live, 2), jax.jit(schedule, static_argnums=(1, 2))(live, 2, 1)
    np.testing.assert_array_equal(plain.pairs, jitted.pairs)
    np.testing.assert_array_equal(plain.source, jitted.source)
