"""The curves of the README's results have something to be compared with."""

import pytest
from stable_baselines3.common.env_util import make_vec_env

from sb3_udrl.benchmark.learning_curve import RandomActions, evaluate


@pytest.mark.parametrize(("env_id", "low", "high"), [("CartPole-v1", 15, 30), ("Pendulum-v1", -1500, -1000)])
def test_acting_at_random_is_evaluated_on_the_same_episodes_each_time(env_id, low, high):
    env = make_vec_env(env_id, 5)
    mean, std = evaluate(RandomActions(env), env)
    assert low < mean < high
    assert std > 0
    assert (mean, std) == evaluate(RandomActions(env), env)
