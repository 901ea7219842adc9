"""The environments of the papers: what they pay, and whose settings they have."""

import gymnasium as gym
import pytest

pytest.importorskip("rl_zoo3")

from short_run import short_run

from sb3_udrl.benchmark.settings import find_algorithm, tuned_settings
from sb3_udrl.zoo import register


def play(env_id):
    """The rewards of an episode without engines."""
    env = gym.make(env_id)
    env.reset(seed=0)
    rewards, over = [], False
    while not over:
        _, reward, terminated, truncated, _ = env.step(0)
        rewards.append(reward)
        over = terminated or truncated
    return rewards


def test_sparse_lunar_lander_pays_everything_with_the_last_step():
    pytest.importorskip("Box2D")
    register()
    sparse, dense = play("LunarLanderSparse-v3"), play("LunarLander-v3")
    assert len(sparse) == len(dense)
    assert sparse[:-1] == [0.0] * (len(dense) - 1)
    assert sparse[-1] == pytest.approx(sum(dense))


def test_a_variant_ends_as_its_original_does():
    register()
    variant, original = gym.spec("LunarLanderSparse-v3"), gym.spec("LunarLander-v3")
    assert variant.max_episode_steps == original.max_episode_steps
    assert variant.reward_threshold == original.reward_threshold


def test_algorithms_that_were_not_tuned_for_a_variant_have_the_settings_of_its_original():
    variant = tuned_settings(find_algorithm("ppo"), "LunarLanderSparse-v3", {})
    assert variant == tuned_settings(find_algorithm("ppo"), "LunarLander-v3", {})
    assert "'LunarLander-v3'" in variant.source
    ours = tuned_settings(find_algorithm("udrl"), "LunarLanderSparse-v3", {})
    assert ours.hyperparams["segments"] == {"deadline": {"max_horizon": None}}


@pytest.mark.parametrize("algo", ["udrl", "udrl_srivastava2019"])
def test_sparse_lunar_lander_is_learned_from_with_the_settings_that_come_with_this_package(algo):
    pytest.importorskip("Box2D")
    evaluation = short_run("LunarLanderSparse-v3", algo, 600)
    assert evaluation["step"] == 600
    assert len(evaluation["returns"]) == 1
