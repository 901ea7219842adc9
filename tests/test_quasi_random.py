"""Deterministic actions come as often as their probabilities say, and as evenly as they can."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.distributions import make_proba_distribution
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from toy_envs import CountdownEnv

from sb3_udrl import UDRL
from sb3_udrl.evaluation import evaluate_command
from sb3_udrl.quasi_random import quasi_random_actions
from sb3_udrl.wrappers import EpisodeProgress

SPACES = [(spaces.Discrete(4), 4), (spaces.MultiDiscrete([2, 3]), 5), (spaces.MultiBinary(3), 3)]  # with their logits


def actions_at(space, logits, steps, temperature=1.0):
    """The actions after these many steps, where the logits are always the same."""
    distribution = make_proba_distribution(space)
    logits = th.as_tensor(logits, dtype=th.float32).expand(len(steps), -1)
    distribution.proba_distribution(action_logits=logits)
    return distribution, quasi_random_actions(distribution, np.asarray(steps, np.float32), temperature).numpy()


@given(logits=st.lists(st.floats(-3, 3), min_size=2, max_size=5), start=st.integers(0, 10**6), n=st.integers(10, 300))
@settings(deadline=None)
def test_any_stretch_of_steps_has_each_action_about_as_often_as_its_probability_says(logits, start, n):
    distribution, actions = actions_at(spaces.Discrete(len(logits)), logits, range(start, start + n))
    counts = np.bincount(actions, minlength=len(logits))
    probs = distribution.distribution.probs[0].numpy()
    # Random actions would miss by about sqrt(n p (1 - p)), up to 9 here
    np.testing.assert_allclose(counts, n * probs, atol=3.5)


@pytest.mark.parametrize(("space", "n_logits"), SPACES[1:])
def test_each_dimension_has_its_own_numbers_so_that_combinations_come_as_often_as_they_should(space, n_logits):
    logits = np.linspace(-1, 1, n_logits)
    distribution, actions = actions_at(space, logits, range(2000))
    samples = np.concatenate([distribution.sample().numpy() for _ in range(20)])
    for combination in np.unique(samples, axis=0):
        expected = (samples == combination).all(axis=1).mean()
        assert (actions == combination).all(axis=1).mean() == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(("space", "n_logits"), SPACES)
def test_the_first_action_is_the_most_likely_one(space, n_logits):
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(size=n_logits)
        distribution, actions = actions_at(space, logits, [0])
        np.testing.assert_array_equal(actions, distribution.mode().numpy())


@pytest.mark.parametrize(("space", "n_logits"), SPACES)
def test_what_is_impossible_is_never_done_and_what_is_certain_always(space, n_logits):
    logits = np.full(n_logits, -1000.0)
    logits[-1] = 1000.0
    distribution, actions = actions_at(space, logits, range(1000))
    if isinstance(space, spaces.MultiDiscrete):
        actions = actions[:, 1]
        assert (actions == 2).all()
    else:
        np.testing.assert_array_equal(actions, distribution.mode().numpy())


def test_continuous_actions_are_the_mean():
    distribution = make_proba_distribution(spaces.Box(-1, 1, (2,)))
    mean = th.tensor([[0.3, -0.2], [0.1, 0.9]])
    distribution.proba_distribution(mean, th.zeros(2))
    th.testing.assert_close(quasi_random_actions(distribution, np.array([3, 4]), 1.0), mean)


class CoinEnv(CountdownEnv):
    """Remembers what was done."""

    def __init__(self):
        super().__init__(20)
        self.actions = []

    def step(self, action):
        self.actions.append(int(action))
        return super().step(action)


def actions_of(env_of, evaluate, **policy_kwargs):
    env = CoinEnv()
    model = UDRL("MlpPolicy", CoinEnv(), seed=0, policy_kwargs=policy_kwargs)
    with th.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(th.tensor([0.0, np.log(1.5)]))  # probabilities of .4 and .6
    evaluate(model, env_of(env))
    return env.actions[:20]


def by_evaluate_policy(model, env):
    evaluate_policy(model, env, n_eval_episodes=1, warn=False)


def by_commands(model, env):
    evaluate_command(model, env, (10.0, 20.0), n_eval_episodes=1)


@pytest.mark.parametrize("evaluate", [by_evaluate_policy, by_commands])
@pytest.mark.parametrize("env_of", [lambda env: env, EpisodeProgress, lambda env: make_vec_env(lambda: env, 1)])
def test_deterministic_evaluation_takes_turns_and_says_the_same_every_time(env_of, evaluate):
    actions = actions_of(env_of, evaluate, deterministic_temperature=1.0)
    assert actions[0] == 1
    assert sum(actions) == 12
    assert actions == actions_of(env_of, evaluate, deterministic_temperature=1.0)


def test_at_temperature_zero_it_is_always_the_most_likely_action():
    assert sum(actions_of(EpisodeProgress, by_commands, deterministic_temperature=0.0)) == 20


def test_the_lower_the_temperature_the_more_often_likely_actions_are_taken():
    _, actions = actions_at(spaces.Discrete(2), np.log([0.4, 0.6]), range(1000), temperature=0.5)
    assert actions.mean() == pytest.approx(0.36 / (0.36 + 0.16), abs=0.005)
    _, actions = actions_at(spaces.Discrete(2), np.log([0.4, 0.6]), range(1000), temperature=0.01)
    assert actions.mean() == 1


@pytest.mark.parametrize("temperature", [-0.1, 1.5, float("nan")])
def test_temperatures_that_mean_nothing_are_refused(temperature):
    with pytest.raises(ValueError, match=f"deterministic_temperature={temperature}: use a value from 0"):
        UDRL("MlpPolicy", "CartPole-v1", policy_kwargs={"deterministic_temperature": temperature})
