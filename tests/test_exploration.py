"""Random actions last as long as they should, and no longer than their episode."""

import numpy as np
import pytest

from sb3_udrl.exploration import RandomActions

POLICY = 0  # what it would do


def explore(n_steps, n_envs, eps, duration, rng, starts=lambda step: False):
    """:return: what was done in each step, where random actions are numbered, shape (n_steps, n_envs)"""
    exploration, numbers = RandomActions(n_envs, duration), iter(range(1, 10**9))

    def draw(n):
        return np.array([next(numbers) for _ in range(n)])

    return np.array(
        [
            exploration.replace(
                np.full(n_envs, POLICY), rng.random(n_envs) < eps, draw, np.full(n_envs, starts(step)), rng
            )
            for step in range(n_steps)
        ]
    )


def runs(actions):
    """:return: for how many steps in a row each random action was done"""
    _, counts = np.unique(actions[actions != POLICY], return_counts=True)
    return counts


def test_random_actions_begin_as_often_as_they_should_and_are_held_for_a_random_number_of_steps(rng):
    actions = explore(4000, 5, eps=0.1, duration=4, rng=rng)
    free = (actions == POLICY).sum() + len(runs(actions))  # steps at which one could begin
    assert len(runs(actions)) / free == pytest.approx(0.1, rel=0.1)
    assert np.bincount(runs(actions))[1:] / len(runs(actions)) == pytest.approx(1 / 4, abs=0.04)


def test_an_action_is_held_without_a_break():
    actions = explore(500, 1, eps=0.2, duration=6, rng=np.random.default_rng(0))[:, 0]
    for number in np.unique(actions[actions != POLICY]):
        assert (np.diff(np.flatnonzero(actions == number)) == 1).all()


def test_no_action_is_held_beyond_its_episode(rng):
    actions = explore(3000, 3, eps=0.5, duration=50, rng=rng, starts=lambda step: step % 10 == 0)
    in_each_episode = [np.unique(episode[episode != POLICY]) for episode in actions.reshape(300, 10, 3)]
    assert len(np.concatenate(in_each_episode)) == len(runs(actions))  # so none is in two of them
    assert runs(actions).max() == 10


def test_with_a_duration_of_one_step_each_random_action_is_another(rng):
    assert (runs(explore(300, 4, eps=1.0, duration=1, rng=rng)) == 1).all()


def test_without_eps_the_policy_decides(rng):
    assert (explore(50, 4, eps=0.0, duration=9, rng=rng) == POLICY).all()


def test_actions_may_be_vectors(rng):
    exploration, both = RandomActions(2, 3), np.ones(2, dtype=bool)
    done = exploration.replace(np.zeros((2, 3)), both, lambda n: np.ones((n, 3)), both, rng)
    assert done.shape == (2, 3)
    assert (done == 1).all()
