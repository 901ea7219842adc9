"""Commands are obeyed: what is asked for is what comes, over the whole range."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from toy_envs import PayoutEnv

from sb3_udrl import UDRL

LENGTH = 10
COMMANDS = [2.0, 4.0, 6.0, 8.0, 10.0]


def achieved_returns(model, desired_return, n_episodes=400):
    """The mean return of episodes in which each step is told exactly what is left to get."""
    returns = np.zeros(n_episodes)
    observations = np.zeros((n_episodes, 1), np.float32)
    for step in range(LENGTH):
        command = np.column_stack([desired_return - returns, np.full(n_episodes, LENGTH - step)])
        actions, _ = model.predict(observations, command=command)
        returns += actions  # action 1 pays 1
    return returns.mean()


LESS_LUCK = {"luck": 0.1, "hindsight_fraction": 0.5}


@pytest.fixture(scope="module", params=[{}, LESS_LUCK], ids=["luck", "less luck"])
def model(request):
    env = make_vec_env(lambda: PayoutEnv(LENGTH), 4)
    rules = {"retention": "recent", "buffer_size": 2000, "segments": "uniform"}
    return UDRL("MlpPolicy", env, **rules, policy_kwargs=request.param, seed=0).learn(10_000)


@pytest.mark.parametrize("desired_return", COMMANDS)
def test_the_return_is_within_5_percent_of_the_command(model, desired_return):
    assert achieved_returns(model, desired_return) == pytest.approx(desired_return, rel=0.05)


def test_a_network_that_ignores_its_command_would_not_pass(model):
    forward = model.policy.command_scaling.forward
    model.policy.command_scaling.forward = lambda commands: th.full_like(commands, 0.5)
    returns = [achieved_returns(model, desired_return) for desired_return in COMMANDS]
    model.policy.command_scaling.forward = forward
    obeyed = [abs(got - asked) <= 0.05 * asked for got, asked in zip(returns, COMMANDS, strict=True)]
    assert sum(obeyed) <= 1
