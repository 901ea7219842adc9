"""Steps become episodes, none is lost, and nothing that is wrong gets in."""

import tracemalloc

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_envs import CountdownEnv

from sb3_udrl.episodes import Episode, EpisodeAccumulator, rank_episodes


def make_episode(values, **kwargs):
    n = len(values)
    parts = {"observations": np.zeros((n, 2)), "actions": np.zeros(n), "rewards": np.array(values, dtype=np.float32)}
    return Episode(**{**parts, **kwargs})


def run(vec_env, n_steps, reset=True):
    """Step a VecEnv with action 0, and return the accumulator and what came out of it, by env."""
    accumulator = EpisodeAccumulator(vec_env.num_envs)
    observations = vec_env.reset()
    if reset:
        accumulator.reset()
    episodes = [[] for _ in range(vec_env.num_envs)]
    for _ in range(n_steps):
        actions = np.zeros(vec_env.num_envs, dtype=np.int64)
        new_observations, rewards, dones, infos = vec_env.step(actions)
        for i, episode in accumulator.add(observations, actions, rewards, dones, infos).items():
            episodes[i].append(episode)
        observations = new_observations
    return accumulator, episodes


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rewards": np.zeros((3, 1))}, "one number per step"),
        ({"actions": np.zeros(2)}, "2 actions for 3 rewards"),
        ({"observations": np.zeros((4, 2))}, "4 entries of 'observation' for 3 rewards"),
        ({"observations": {"position": np.zeros((2, 2))}}, "2 entries of 'position' for 3 rewards"),
        ({"rewards": np.array([0.0, np.nan, 0.0])}, "reward of step 1 is nan"),
        ({"rewards": np.array([0.0, 0.0, -np.inf])}, "reward of step 2 is -inf"),
    ],
)
def test_an_episode_with_parts_that_do_not_fit_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        make_episode([0.0, 0.0, 0.0], **parts)


def test_an_episode_without_steps_is_refused():
    with pytest.raises(ValueError, match="at least one step"):
        make_episode([])


def test_an_episode_knows_its_length_and_return():
    episode = make_episode([1.0, -0.5, 2.0])
    assert len(episode) == 3
    assert episode.episode_return == 2.5


def test_the_observations_of_an_episode_are_those_before_each_action():
    _, episodes = run(DummyVecEnv([lambda: CountdownEnv(length=4)]), n_steps=8)
    assert len(episodes[0]) == 2
    for episode in episodes[0]:
        assert episode.observations.ravel().tolist() == [4, 3, 2, 1]
        assert episode.rewards.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("make_env", "terminated", "truncated"),
    [
        (lambda: CountdownEnv(4), True, False),
        (lambda: CountdownEnv(4, truncates=True), False, True),
        (lambda: TimeLimit(CountdownEnv(9), 4), False, True),
        (lambda: TimeLimit(CountdownEnv(4), 4), True, False),  # both at once: the environment's own end counts
    ],
)
def test_termination_and_truncation_stay_apart(make_env, terminated, truncated):
    _, episodes = run(DummyVecEnv([make_env]), n_steps=4)
    assert (episodes[0][0].terminated, episodes[0][0].truncated) == (terminated, truncated)


@pytest.mark.parametrize(
    ("lengths", "n_steps", "expected"),
    [
        ([1], 5, [5]),  # episodes of one step
        ([2, 7], 14, [7, 2]),  # the long one is not lost to the short one
        ([3, 5, 4], 12, [4, 2, 3]),  # env 1 is in the middle of an episode at the end
    ],
)
def test_no_episode_is_dropped_for_being_long(lengths, n_steps, expected):
    env = DummyVecEnv([lambda length=length: CountdownEnv(length) for length in lengths])
    accumulator, episodes = run(env, n_steps)
    assert [len(of_env) for of_env in episodes] == expected
    for length, of_env in zip(lengths, episodes, strict=True):
        assert all(len(episode) == length for episode in of_env)
    assert accumulator.steps_so_far.tolist() == [n_steps % length for length in lengths]


def test_episodes_whose_beginning_was_not_seen_are_dropped():
    _, episodes = run(DummyVecEnv([lambda: CountdownEnv(4)]), n_steps=8, reset=False)
    assert len(episodes[0]) == 1


def test_progress_counts_rewards_and_steps_and_starts_anew():
    accumulator, _ = run(DummyVecEnv([lambda: CountdownEnv(4), lambda: CountdownEnv(3)]), n_steps=3)
    assert accumulator.return_so_far.tolist() == [3, 0]
    assert accumulator.steps_so_far.tolist() == [3, 0]
    accumulator.reset()
    assert accumulator.return_so_far.tolist() == [0, 0]


def test_a_vec_env_that_reuses_its_arrays_does_no_harm():
    accumulator = EpisodeAccumulator(1)
    accumulator.reset()
    observations, actions, rewards = np.zeros((1, 1)), np.zeros(1), np.zeros(1)
    for step in range(3):
        observations[:], actions[:], rewards[:] = step, 10 + step, 100 + step
        episodes = accumulator.add(observations, actions, rewards, np.array([step == 2]), [{}])
    assert episodes[0].observations.ravel().tolist() == [0, 1, 2]
    assert episodes[0].actions.tolist() == [10, 11, 12]
    assert episodes[0].rewards.tolist() == [100, 101, 102]


def test_dict_observations_stay_dicts():
    accumulator = EpisodeAccumulator(1)
    accumulator.reset()
    observations = {"a": np.ones((1, 2)), "b": np.zeros((1, 3), dtype=np.uint8)}
    episode = accumulator.add(observations, np.zeros(1), np.ones(1), np.array([True]), [{}])[0]
    assert episode.observations["a"].shape == (1, 2)
    assert episode.observations["b"].dtype == np.uint8


def test_episodes_are_ranked_by_return_then_shorter_then_older():
    returns = np.array([1.0, 5.0, 5.0, 5.0, 2.0])
    lengths = np.array([9, 4, 3, 3, 1])
    assert rank_episodes(returns, lengths).tolist() == [2, 3, 1, 4, 0]


def test_a_long_episode_does_not_keep_alive_what_was_seen_in_other_envs():
    n_envs, n_steps, size = 16, 200, 1000
    accumulator = EpisodeAccumulator(n_envs)
    accumulator.reset()
    dones = np.arange(n_envs) > 0  # all episodes end with their first step, but for one
    tracemalloc.start()
    for _ in range(n_steps):
        observations, zeros = np.zeros((n_envs, size), np.uint8), np.zeros(n_envs)
        accumulator.add(observations, zeros, zeros, dones, [{}] * n_envs)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_steps * size < held < 3 * n_steps * size
