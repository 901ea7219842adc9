"""UDRL learns what can be seen, for every kind of action."""

import pytest
from one_step import OneStepSegments
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import (
    IdentityEnv,
    IdentityEnvBox,
    IdentityEnvMultiBinary,
    IdentityEnvMultiDiscrete,
)
from stable_baselines3.common.evaluation import evaluate_policy
from toy_envs import PictureEnv, SignEnv

from sb3_udrl import UDRL


@pytest.mark.parametrize(
    "make_env",
    [
        lambda: IdentityEnv(4),
        lambda: IdentityEnvMultiDiscrete(4),
        lambda: IdentityEnvMultiBinary(4),
        lambda: IdentityEnvBox(eps=0.5),
    ],
    ids=["Discrete", "MultiDiscrete", "MultiBinary", "Box"],
)
def test_the_identity_envs_of_sb3_are_learned(make_env):
    env = make_vec_env(make_env, 4)
    model = UDRL("MlpPolicy", env, learning_starts=(20, "episode"), segments=OneStepSegments(), seed=0).learn(6_000)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=20)
    assert mean >= 90  # of 100


def test_what_only_the_picture_tells_is_learned():
    env = make_vec_env(PictureEnv, 4, seed=0)
    policy_kwargs = {"features_extractor_kwargs": {"features_dim": 64}}
    model = UDRL("CnnPolicy", env, batch_size=64, segments=OneStepSegments(), policy_kwargs=policy_kwargs, seed=0)
    model.learn(4_000)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=20)
    assert mean >= 18  # of 20; at random 5


@pytest.mark.parametrize("seed", range(2))
def test_what_pays_at_every_step_is_learned_to_the_last_step(seed):
    model = UDRL(
        "MlpPolicy",
        make_vec_env(SignEnv, 4, seed=seed),
        batch_size=64,
        buffer_size=40,
        learning_starts=(20, "episode"),
        gradient_steps=0.25,
        segments={"deadline": {"max_horizon": 40}},
        policy_kwargs={"net_arch": [32], "embedding_dim": 32},
        seed=seed,
    ).learn(8_000)
    assert model.replay_buffer.returns[-8:].mean() >= 40  # of 50; at random 25
