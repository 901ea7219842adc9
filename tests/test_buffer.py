"""The buffer keeps what it should, and every example can be verified by brute force from its episode."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_udrl.buffer import EpisodeBuffer
from sb3_udrl.episodes import Episode
from sb3_udrl.relabeling import HindsightRelabeling, NStepRelabeling, Relabeling
from sb3_udrl.retention import BestRecentRetention, BestRetention, BestSpreadRetention, RecentRetention
from sb3_udrl.segments import DeadlineSegments, TrailingSegments
from sb3_udrl.weighting import ExponentialWeighting, LengthWeighting, UniformWeighting


def make_buffer(buffer_size, retention=None, trailing=1.0, weighting=None, segments=None, relabeling=None):
    return EpisodeBuffer(
        buffer_size,
        retention or BestRetention(),
        segments or TrailingSegments(trailing),
        weighting or UniformWeighting(),
        relabeling or HindsightRelabeling(),
        device="cpu",
    )


class FixedRelabeling(Relabeling):
    """Always the same number of steps."""

    def __init__(self, n):
        self.n = n

    def n_steps(self, horizons, rng):
        return np.full(len(horizons), self.n)


def make_episode(number, length, rng):
    """Observation and action of a step say which episode and step it is."""
    steps = np.arange(length)
    return Episode(
        observations=np.stack([np.full(length, number), steps], axis=1).astype(np.float32),
        actions=1000 * number + steps,
        rewards=rng.normal(size=length).astype(np.float32),
    )


def returns_of(episodes):
    return [episode.episode_return for episode in episodes]


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    buffer_size=st.integers(1, 10),
    retention=st.sampled_from([BestRetention(), RecentRetention(), BestRecentRetention(0.5), BestSpreadRetention(0.5)]),
    trailing=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_example_is_true_of_its_episode(lengths, buffer_size, retention, trailing, seed):
    rng = np.random.default_rng(seed)
    buffer = make_buffer(buffer_size, retention, trailing)
    episodes = [make_episode(number, length, rng) for number, length in enumerate(lengths)]
    for i, episode in enumerate(episodes):
        buffer.add(episode)
        assert len(buffer) == min(i + 1, buffer_size)
    batch = buffer.sample(64, rng)
    for (number, t1), action, (desired_return, desired_horizon) in zip(
        batch.observations.int().tolist(), batch.actions.tolist(), batch.commands.tolist(), strict=True
    ):
        episode = episodes[number]
        t2 = t1 + int(desired_horizon)
        assert action == 1000 * number + t1
        assert 0 <= t1 < t2 <= len(episode)
        if trailing == 1:
            assert t2 == len(episode)
        total = 0.0
        for t in range(t1, t2):
            total += episode.rewards[t]
        assert desired_return == pytest.approx(total, abs=1e-4)


def test_a_worked_example_of_trailing_segments(rng):
    buffer = make_buffer(1)
    buffer.add(Episode(np.arange(3.0), np.array([7, 8, 9]), np.array([1.0, 2.0, 4.0])))
    batch = buffer.sample(100, rng)
    examples = {
        (o, a, *c)
        for o, a, c in zip(batch.observations.tolist(), batch.actions.tolist(), batch.commands.tolist(), strict=True)
    }
    assert examples == {(0.0, 7, 7.0, 3.0), (1.0, 8, 6.0, 2.0), (2.0, 9, 4.0, 1.0)}


def test_a_worked_example_of_uniform_segments(rng):
    buffer = make_buffer(1, trailing=0.0)
    buffer.add(Episode(np.arange(2.0), np.array([7, 8]), np.array([1.0, 2.0])))
    batch = buffer.sample(1000, rng)
    examples, counts = np.unique(
        np.column_stack([batch.observations, batch.actions, batch.commands]), axis=0, return_counts=True
    )
    assert examples.tolist() == [[0.0, 7, 1.0, 1.0], [0.0, 7, 3.0, 2.0], [1.0, 8, 2.0, 1.0]]
    # t1 is uniform over two steps, then t2 over what is behind it
    np.testing.assert_allclose(counts / 1000, [0.25, 0.25, 0.5], atol=0.05)


@pytest.mark.parametrize("trailing", [0.25, 0.75])
def test_the_share_of_trailing_segments_is_the_probability_asked_for(trailing, rng):
    lengths = np.full(20_000, 100)
    t1, t2, horizons = TrailingSegments(trailing).sample(lengths, lengths > 0, rng)
    np.testing.assert_array_equal(horizons, t2 - t1)
    # A few of the other segments end with the episode by chance
    by_chance = (1 - trailing) * np.mean(1 / (100 - t1))
    assert np.mean(t2 == 100) == pytest.approx(trailing + by_chance, abs=0.02)


def test_episodes_are_drawn_alike_whatever_their_lengths(rng):
    buffer = make_buffer(2)
    buffer.add(make_episode(0, 1, rng))
    buffer.add(make_episode(1, 99, rng))
    numbers = buffer.sample(4000, rng).observations[:, 0]
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.03)


def test_by_length_every_step_is_drawn_alike(rng):
    buffer = make_buffer(2, weighting=LengthWeighting())
    buffer.add(make_episode(0, 10, rng))
    buffer.add(make_episode(1, 90, rng))
    numbers = buffer.sample(4000, rng).observations[:, 0]
    assert numbers.mean().item() == pytest.approx(0.9, abs=0.03)


def test_a_deadline_may_lie_beyond_an_end_but_not_beyond_a_cut(rng):
    lengths, terminated = np.array([3, 3, 140]).repeat(2000), np.array([True, False, False]).repeat(2000)
    t1, t2, horizons = DeadlineSegments(50).sample(lengths, terminated, rng)
    np.testing.assert_array_equal(t2, np.minimum(t1 + horizons, lengths))
    assert (t1 < t2).all()
    assert horizons[terminated].max() == 50
    assert (t1 + horizons <= lengths)[~terminated].all()
    # Half of them look as far as they can, and of the others 1 in 50
    assert np.mean(horizons[terminated] == 50) == pytest.approx(0.51, abs=0.04)


@pytest.mark.parametrize(("limit", "longest"), [(1, 1), (2, 1), (40, 20), (99, 49), (140, 50)])
def test_where_a_time_limit_cuts_episodes_off_half_of_their_steps_are_examples_for_the_longest_horizon(
    limit, longest, rng
):
    lengths, terminated = np.array([1, limit]).repeat(2000), np.array([True, False]).repeat(2000)
    t1, _, horizons = DeadlineSegments(50).sample(lengths, terminated, rng)
    assert horizons.max() == longest
    assert t1[~terminated & (horizons == longest)].max() == limit - longest
    _, _, horizons = DeadlineSegments(50).sample(lengths[:2000], terminated[:2000], rng)
    assert horizons.max() == 50  # nothing is cut off


def test_without_a_longest_horizon_deadlines_go_to_twice_the_longest_episode(rng):
    lengths = np.array([3, 40]).repeat(1000)
    _, _, horizons = DeadlineSegments(None).sample(lengths, lengths > 0, rng)
    assert horizons.max() == 80


def test_an_episode_that_beat_its_deadline_earned_all_its_reward(rng):
    buffer = make_buffer(1, segments=DeadlineSegments(1000))
    buffer.add(Episode(np.arange(2.0), np.array([7, 8]), np.array([1.0, 2.0])))
    commands = buffer.sample(200, rng).commands
    assert (commands[commands[:, 1] >= 2, 0] >= 2).all()
    assert commands[:, 1].max() == 1000


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    terminated=st.booleans(),
    max_horizon=st.integers(1, 20),
    n=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_came_within_n_steps_is_true_of_its_episode(lengths, terminated, max_horizon, n, seed):
    rng = np.random.default_rng(seed)
    buffer = make_buffer(6, segments=DeadlineSegments(max_horizon), relabeling=FixedRelabeling(n))
    episodes = [make_episode(number, length, rng) for number, length in enumerate(lengths)]
    for episode in episodes:
        buffer.add(replace(episode, terminated=terminated, truncated=not terminated))
    batch = buffer.sample(64, rng)
    for (number, t1), (_, horizon), (number_then, then), rewards, horizon_then, ended in zip(
        batch.observations.int().tolist(),
        batch.commands.tolist(),
        batch.n_step.observations.int().tolist(),
        batch.n_step.rewards.tolist(),
        batch.n_step.horizons.tolist(),
        batch.n_step.ended.tolist(),
        strict=True,
    ):
        assert number_then == number
        assert horizon_then == horizon - (then - t1)
        total = sum(float(reward) for reward in episodes[number].rewards[t1:then])
        assert rewards == pytest.approx(total, abs=1e-4)
        t2 = min(t1 + int(horizon), lengths[number])
        assert ended == (t1 + n >= t2)
        # Behind an episode's last step there is no observation, and nothing is left to expect
        assert then == (min(t2, lengths[number] - 1) if ended else t1 + n)
        assert ended or horizon_then >= 1


def test_taking_some_examples_takes_all_that_is_known_of_them(rng):
    buffer = make_buffer(5, relabeling=NStepRelabeling())
    for number in range(5):
        episode = make_episode(number, 7, rng)
        buffer.add(replace(episode, observations={"a": episode.observations, "b": -episode.observations}))
    batch, order = buffer.sample(32, rng), rng.permutation(32)
    taken = batch.take(order)
    for i, j in enumerate(order):
        assert (taken.actions[i], *taken.commands[i]) == (batch.actions[j], *batch.commands[j])
        for key in ("a", "b"):
            assert (taken.observations[key][i] == batch.observations[key][j]).all()
            assert (taken.n_step.observations[key][i] == batch.n_step.observations[key][j]).all()
        for name in ("rewards", "horizons", "ended"):
            assert getattr(taken.n_step, name)[i] == getattr(batch.n_step, name)[j]


def test_the_number_of_steps_is_spread_over_all_scales_up_to_the_horizon(rng):
    n_steps = NStepRelabeling().n_steps(np.full(20_000, 100), rng)
    assert n_steps.min() == 2
    assert n_steps.max() == 100
    assert np.mean(n_steps <= 10) == pytest.approx(0.5, abs=0.02)
    assert (NStepRelabeling().n_steps(np.ones(5, dtype=np.int64), rng) == 1).all()


def test_exponential_weighting_prefers_better_episodes_by_a_known_ratio(rng):
    buffer = make_buffer(2, weighting=ExponentialWeighting(temperature=0.5))
    for number in range(2):
        buffer.add(Episode(np.full((1, 1), number), np.zeros(1), np.array([float(number)])))
    # Standardised returns -1 and 1, so the odds are exp(2 / 0.5)
    share = buffer.sample(20_000, rng).observations.double().mean().item()
    assert share == pytest.approx(1 / (1 + np.exp(-4)), abs=0.005)


def test_equal_returns_weigh_the_same_however_sharp_the_weighting():
    weights = ExponentialWeighting(temperature=1e-3).weights(np.full(3, 7.0), np.ones(3))
    np.testing.assert_array_equal(weights, np.ones(3))


def test_best_keeps_the_highest_returns_and_prefers_shorter_then_older():
    buffer = make_buffer(3)
    for number, rewards in enumerate([[5.0], [1.0], [2.0, 3.0], [5.0], [0.0], [9.0], [5.0]]):
        buffer.add(Episode(np.full((len(rewards), 1), number), np.zeros(len(rewards)), np.array(rewards)))
    # 9, and the first two one-step fives; the five that took two steps had to go, and the last one came too late
    assert sorted(buffer.returns.tolist()) == [5, 5, 9]
    assert buffer.lengths.tolist() == [1, 1, 1]
    assert set(buffer.sample(50, np.random.default_rng(0)).observations.flatten().tolist()) == {0, 3, 5}


def test_best_and_spread_keeps_the_best_and_of_the_others_those_that_lie_apart():
    buffer = make_buffer(6, BestSpreadRetention(best_fraction=0.5))
    for reward in [1.0, 2.0, 2.1, 9.0, 4.0, 10.0, 11.0, 12.0, 4.1]:
        buffer.add(Episode(np.zeros((1, 1)), np.zeros(1), np.array([reward])))
    # 2, then 1, then 4 were the older of the two that were closest
    assert sorted(buffer.returns.tolist()) == [2.1, 4.1, 9.0, 10.0, 11.0, 12.0]


def test_recent_forgets_the_oldest():
    buffer = make_buffer(2, RecentRetention())
    for reward in [9.0, 1.0, 2.0]:
        buffer.add(Episode(np.zeros((1, 1)), np.zeros(1), np.array([reward])))
    assert buffer.returns.tolist() == [1, 2]


def test_best_and_recent_keeps_both():
    buffer = make_buffer(4, BestRecentRetention(best_fraction=0.5))
    for reward in [9.0, 1.0, 8.0, 2.0, 3.0, 4.0]:
        buffer.add(Episode(np.zeros((1, 1)), np.zeros(1), np.array([reward])))
    assert buffer.returns.tolist() == [9, 8, 3, 4]


def test_the_same_seed_draws_the_same_batch(rng):
    buffer = make_buffer(5, relabeling=NStepRelabeling())
    for number in range(5):
        buffer.add(make_episode(number, number + 1, rng))
    first, second = (buffer.sample(32, np.random.default_rng(7)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first[:3], second[:3], strict=True))
    assert all((a == b).all() for a, b in zip(first.n_step, second.n_step, strict=True))


@pytest.mark.parametrize("retention", [BestRetention(), RecentRetention()])
def test_memory_stays_within_a_quarter_above_the_raw_bytes_also_after_thousands_of_evictions(retention, rng):
    buffer = make_buffer(50, retention)
    for number in range(3000):
        length = int(rng.integers(20, 60))
        buffer.add(
            Episode(
                np.full((length, 8, 8), number % 256, dtype=np.uint8),
                rng.integers(2, size=length),
                rng.normal(size=length).astype(np.float32),
            )
        )
    raw = buffer.n_steps * (64 + 8 + 4)
    assert buffer.nbytes <= 1.25 * raw
    batch = buffer.sample(64, rng)
    assert batch.observations.numpy().dtype == np.uint8
    # Each observation is still of one piece
    assert (batch.observations.flatten(1).float().std(dim=1) == 0).all()


def test_an_empty_buffer_says_what_to_do(rng):
    with pytest.raises(ValueError, match="collect at least one whole episode"):
        make_buffer(1).sample(1, rng)


def test_an_episode_of_another_environment_is_refused_and_harms_nothing(rng):
    buffer = make_buffer(3)
    buffer.add(Episode(np.zeros((2, 4)), np.zeros(2), np.ones(2)))
    with pytest.raises(ValueError, match=r"\(5,\).*but the buffer holds.*\(4,\)"):
        buffer.add(Episode(np.zeros((2, 5)), np.zeros(2), np.ones(2)))
    with pytest.raises(ValueError, match="the buffer holds"):
        buffer.add(Episode({"a": np.zeros((2, 4))}, np.zeros(2), np.ones(2)))
    assert len(buffer) == 1
    buffer.sample(4, rng)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_buffer(0), "buffer_size=0"),
        (lambda: TrailingSegments(1.5), "segments=1.5"),
        (lambda: DeadlineSegments(0), "max_horizon=0"),
        (lambda: ExponentialWeighting(0), "temperature=0"),
        (lambda: BestRecentRetention(2), "best_fraction=2"),
        (lambda: BestSpreadRetention(-1), "best_fraction=-1"),
    ],
)
def test_arguments_that_cannot_work_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
