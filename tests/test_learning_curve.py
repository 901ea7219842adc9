"""The curves of the README's results have something to be compared with."""

import pytest
from stable_baselines3.common.env_util import make_vec_env

from sb3_udrl.benchmark.learning_curve import RandomActions, evaluate, run


@pytest.mark.parametrize(("env_id", "low", "high"), [("CartPole-v1", 15, 30), ("Pendulum-v1", -1500, -1000)])
def test_acting_at_random_is_evaluated_on_the_same_episodes_each_time(env_id, low, high):
    env = make_vec_env(env_id, 5)
    mean, std = evaluate(RandomActions(env), env)
    assert low < mean < high
    assert std > 0
    assert (mean, std) == evaluate(RandomActions(env), env)


@pytest.mark.parametrize(("eval_freq", "steps"), [(10, [10, 20, 24]), (12, [12, 24]), (100, [24])])
def test_the_end_of_training_is_evaluated_whatever_lies_between_evaluations(eval_freq, steps):
    settings = {"env": "CartPole-v1", "seed": 0, "n_envs": 2, "timesteps": 24, "eval_freq": eval_freq, "arguments": {}}
    with pytest.warns(UserWarning, match="Nothing is learned yet|No episode has finished"):
        result = run(settings)
    assert [point[0] for point in result["curve"]] == steps
    assert result["final"] == result["curve"][-1][1]
