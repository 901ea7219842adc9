"""UDRL goes where PPO goes: every observation and action space, every policy, every wrapper; and the README says so."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from toy_envs import SpaceEnv

from sb3_udrl import UDRL

IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
VECTOR = spaces.Box(-1, 1, (3,), np.float32)
OBSERVATION_SPACES = {
    "Box": VECTOR,
    "Box (image)": IMAGE,
    "Discrete": spaces.Discrete(5),
    "MultiDiscrete": spaces.MultiDiscrete([3, 4]),
    "MultiBinary": spaces.MultiBinary(4),
    "Dict": spaces.Dict({"image": IMAGE, "vector": VECTOR, "discrete": spaces.Discrete(3)}),
}
POLICIES = {
    "Box": ["MlpPolicy"],
    "Box (image)": ["MlpPolicy", "CnnPolicy"],
    "Discrete": ["MlpPolicy"],
    "MultiDiscrete": ["MlpPolicy"],
    "MultiBinary": ["MlpPolicy"],
    "Dict": ["MultiInputPolicy"],
}
ACTION_SPACES = {
    "Box": spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32)),
    "Discrete": spaces.Discrete(4),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2]),
    "MultiBinary": spaces.MultiBinary(3),
}
CELLS = [
    pytest.param(policy, observation, action, id=f"{policy}-{observation}-{action}")
    for observation, policies in POLICIES.items()
    for policy in policies
    for action in ACTION_SPACES
]
SMALL = {
    "learning_starts": (2, "episode"),
    "train_freq": (1, "episode"),
    "gradient_steps": 1,
    "batch_size": 8,
    "seed": 0,
}


def make_model(policy, env, **kwargs):
    small_images = {"features_extractor_kwargs": {"features_dim": 16}} if policy == "CnnPolicy" else {}
    small_dicts = {"features_extractor_kwargs": {"cnn_output_dim": 16}} if policy == "MultiInputPolicy" else {}
    policy_kwargs = {"net_arch": [8], "embedding_dim": 8, **small_images, **small_dicts}
    return UDRL(policy, env, policy_kwargs=policy_kwargs, **{**SMALL, **kwargs})


@pytest.mark.parametrize(("policy", "observation", "action"), CELLS)
def test_every_cell_trains_saves_loads_and_predicts_the_same(policy, observation, action, tmp_path):
    env = make_vec_env(lambda: SpaceEnv(OBSERVATION_SPACES[observation], ACTION_SPACES[action]), 2, seed=0)
    model = make_model(policy, env).learn(48)
    assert model._n_updates > 0
    observations = model.get_env().reset()
    actions, _ = model.predict(observations, deterministic=True)
    model.save(tmp_path / "model")
    loaded = UDRL.load(tmp_path / "model", env=env)
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], actions)
    assert all(ACTION_SPACES[action].contains(one) for one in actions)


def test_box_actions_in_bins_are_remembered_saved_and_loaded(tmp_path):
    env = make_vec_env(lambda: SpaceEnv(VECTOR, ACTION_SPACES["Box"]), 2, seed=0)
    model = UDRL("MlpPolicy", env, policy_kwargs={"n_action_bins": 3, "net_arch": [8]}, **SMALL).learn(48)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = UDRL.load(tmp_path / "model", env=env)
    loaded.load_replay_buffer(tmp_path / "buffer")
    observations = env.reset()
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    loaded.learn(48, reset_num_timesteps=False)
    assert loaded.replay_buffer.sample(200, np.random.default_rng(0)).actions.unique().tolist() == [-1.0, 0.0, 1.0]
    actions, _ = loaded.predict(observations)
    for dimension, values in enumerate([[-2.0, -0.5, 1.0], [0.0, 2.5, 5.0]]):
        assert np.isclose(actions[:, [dimension]], values).any(axis=1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_whole_numbers_in_a_box_come_through_scaling_unchanged(dtype):
    space = spaces.Box(0, 100, (1,), dtype)
    policy = make_model("MlpPolicy", SpaceEnv(VECTOR, space)).policy
    actions = np.arange(101, dtype=dtype)[:, None]
    done = policy.to_env_actions(policy.scale_action(actions))
    np.testing.assert_array_equal(done, actions)
    assert done.dtype == dtype


@pytest.mark.parametrize("n_action_bins", [None, 5])
def test_the_bounds_of_a_box_are_not_crossed_by_rounding(n_action_bins):
    space = spaces.Box(-2.1, 0.4, (1,), np.float32)
    policy = UDRL("MlpPolicy", SpaceEnv(VECTOR, space), policy_kwargs={"n_action_bins": n_action_bins}).policy
    assert space.contains(policy.to_env_actions(np.ones((1, 1), np.float32))[0])


@pytest.mark.parametrize(("low", "high"), [([-1.0, 0.0], [1.0, 0.0]), ([-3e38, -1.0], [3e38, 1.0])])
def test_actions_that_cannot_be_scaled_are_refused(low, high):
    space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
    with pytest.raises(ValueError, match="cannot be scaled"):
        make_model("MlpPolicy", SpaceEnv(VECTOR, space))


def test_the_buffer_keeps_the_dtypes_of_the_env():
    env = make_vec_env(lambda: SpaceEnv(OBSERVATION_SPACES["Dict"], ACTION_SPACES["Discrete"]))
    model = make_model("MultiInputPolicy", env).learn(20)
    observations = model.replay_buffer.sample(2, np.random.default_rng(0)).observations
    assert {key: value.dtype for key, value in observations.items()} == {
        "image": th.uint8,
        "vector": th.float32,
        "discrete": th.int64,
    }


@pytest.mark.parametrize(
    ("policy", "make_env"),
    [
        ("MlpPolicy", lambda env: VecNormalize(env)),
        ("MlpPolicy", lambda env: VecNormalize(env, norm_obs=False)),
        ("MlpPolicy", lambda env: VecNormalize(env, norm_reward=False)),
        ("MlpPolicy", lambda env: VecNormalize(VecFrameStack(env, 2))),
        ("MlpPolicy", lambda env: VecFrameStack(VecNormalize(env), 2)),
        ("MlpPolicy", lambda env: VecMonitor(env)),
    ],
)
def test_every_order_of_wrappers_trains(policy, make_env):
    env = make_env(DummyVecEnv([lambda: SpaceEnv(VECTOR, ACTION_SPACES["Box"])] * 2))
    model = make_model(policy, env).learn(48)
    assert model._n_updates > 0
    # Commands are in the env's own reward in any case
    assert set(model.replay_buffer.returns) == {4.0}


@pytest.mark.parametrize(
    "make_env",
    [
        lambda env: VecFrameStack(env, 4),
        lambda env: VecTransposeImage(VecFrameStack(env, 4)),
        lambda env: VecFrameStack(VecTransposeImage(env), 4),
    ],
)
def test_images_are_stacked_and_transposed_in_any_order(make_env):
    env = make_env(make_vec_env(lambda: SpaceEnv(IMAGE, ACTION_SPACES["Discrete"]), 2, seed=0))
    model = make_model("CnnPolicy", env).learn(48)
    batch = model.replay_buffer.sample(3, np.random.default_rng(0))
    assert batch.observations.shape == (3, 12, 36, 36)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_observations_of_other_dtypes_train(dtype):
    space = spaces.Box(np.array([-3, 0]).astype(dtype), np.array([5, 100]).astype(dtype), dtype=dtype)
    model = make_model("MlpPolicy", DummyVecEnv([lambda: SpaceEnv(space, ACTION_SPACES["Box"])])).learn(40)
    assert model.replay_buffer.sample(2, np.random.default_rng(0)).observations.numpy().dtype == dtype


def test_custom_features_extractors_are_used():
    class Extractor(FlattenExtractor):
        calls = 0

        def forward(self, observations):
            Extractor.calls += 1
            return super().forward(observations)

    env = DummyVecEnv([lambda: SpaceEnv(VECTOR, ACTION_SPACES["Box"])])
    UDRL("MlpPolicy", env, policy_kwargs={"features_extractor_class": Extractor}, **SMALL).learn(40)
    assert Extractor.calls > 0


def test_images_can_be_left_as_they_are():
    space = spaces.Box(0, 1, (3, 36, 36), np.float32)
    env = DummyVecEnv([lambda: SpaceEnv(space, ACTION_SPACES["Discrete"])])
    kwargs = {"normalize_images": False, "features_extractor_kwargs": {"features_dim": 8}}
    UDRL("CnnPolicy", env, policy_kwargs=kwargs, **SMALL).learn(40)


def test_the_table_in_the_readme_is_what_these_tests_show():
    names = ["Discrete", "Box", "MultiDiscrete", "MultiBinary", "Dict"]
    observations = {"Box" if name.startswith("Box") else name for name in OBSERVATION_SPACES}
    rows = [
        f"| {name} | {'✔️' if name in ACTION_SPACES else '❌'} | {'✔️' if name in observations else '❌'} |"
        for name in names
    ]
    table = "\n".join(["| Space | Action | Observation |", "|---|---|---|", *rows])
    assert table in (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
