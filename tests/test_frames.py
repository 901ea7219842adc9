"""With VecFrameStack each frame is stored once, and sampled observations are those that were seen."""

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from toy_envs import RandomEnv, SpaceEnv

from sb3_udrl import UDRL, EpisodeProgress
from sb3_udrl.frames import FrameStack

IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "vector": spaces.Box(-1, 1, (2,), np.float32)})
# What has three dimensions is not always an image
GRID = spaces.Dict({"image": IMAGE, "grid": spaces.Box(-1, 1, (4, 4, 1), np.float32)})


def envs(space, wrap=lambda env: env):
    return make_vec_env(lambda: wrap(SpaceEnv(space, spaces.Discrete(3))), 2, seed=0)


STACKS = {
    "vector": ("MlpPolicy", lambda: VecFrameStack(make_vec_env(RandomEnv, 2, seed=0), 3)),
    "normalised around": ("MlpPolicy", lambda: VecNormalize(VecFrameStack(make_vec_env(RandomEnv, 2, seed=0), 3))),
    "normalised around, not outermost": (
        "MlpPolicy",
        lambda: VecMonitor(VecNormalize(VecFrameStack(DummyVecEnv([RandomEnv, RandomEnv]), 3))),
    ),
    "normalised inside": ("MlpPolicy", lambda: VecFrameStack(VecNormalize(make_vec_env(RandomEnv, 2, seed=0)), 3)),
    "monitor around": ("MlpPolicy", lambda: VecMonitor(VecFrameStack(DummyVecEnv([RandomEnv, RandomEnv]), 2))),
    "image, stacked first": ("CnnPolicy", lambda: VecFrameStack(envs(IMAGE), 4)),
    "image, transposed first": ("CnnPolicy", lambda: VecFrameStack(VecTransposeImage(envs(IMAGE)), 4)),
    "dict": ("MultiInputPolicy", lambda: VecFrameStack(envs(DICT), 3)),
    "dict with a grid": ("MultiInputPolicy", lambda: VecFrameStack(envs(GRID), 3)),
    "image, not transposed": ("MlpPolicy", lambda: VecTransposeImage(VecFrameStack(envs(IMAGE), 3), skip=True)),
    "image, stacked along its height": (
        "CnnPolicy",
        lambda: VecTransposeImage(VecFrameStack(envs(IMAGE), 3, channels_order="first")),
    ),
    "episode progress": ("MlpPolicy", lambda: VecFrameStack(envs(DICT["vector"], EpisodeProgress), 3)),
}


def numbered(observations):
    return observations if isinstance(observations, dict) else {"observation": observations}


@pytest.mark.parametrize("name", STACKS)
def test_sampled_observations_are_those_that_were_seen(name):
    policy, make_env = STACKS[name]
    model = UDRL(policy, make_env(), learning_starts=10_000, retention="recent", buffer_size=1000, seed=0)
    seen = []
    add = model._episodes.add
    newest = FrameStack.newest

    def spy_on_newest(self, observations):
        seen.append({key: value.copy() for key, value in observations.items()})
        return newest(self, observations)

    def spy_on_add(observations, *others):
        if model.replay_buffer.frame_stack is None:  # kept as seen
            seen.append({"observation": observations.copy()})
        return add(observations, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameStack, "newest", spy_on_newest)
        patch.setattr(model._episodes, "add", spy_on_add)
        model.learn(80)
    assert len(seen) == 40
    everything = {key: np.concatenate([step[key] for step in seen]) for key in seen[0]}
    observations = numbered(model.replay_buffer.sample(200, np.random.default_rng(0)).observations)
    for key, values in observations.items():
        known = {one.tobytes() for one in everything[key]}
        assert all(one.tobytes() in known for one in values.numpy())


def test_each_frame_is_stored_once():
    model = UDRL("CnnPolicy", VecFrameStack(envs(IMAGE), 8), learning_starts=10_000, retention="recent", seed=0)
    model.learn(200)
    buffer = model.replay_buffer
    raw = buffer.n_steps * (36 * 36 * 3 + 8 + 4)
    assert buffer.nbytes <= 1.25 * raw


def test_a_wrapper_that_could_change_frames_makes_the_buffer_keep_what_was_seen():
    class Noise(VecEnvWrapper):
        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            return self.venv.step_wait()

    env = Noise(VecFrameStack(make_vec_env(RandomEnv, 2, seed=0), 3))
    assert FrameStack.of(env) is None
    model = UDRL("MlpPolicy", env, learning_starts=10_000, seed=0).learn(80)
    assert model.replay_buffer.shapes["observation/observation"] == (6,)


def test_buffers_with_stacked_frames_are_saved_and_loaded(tmp_path):
    env = VecFrameStack(make_vec_env(RandomEnv, 2, seed=0), 3)
    model = UDRL("MlpPolicy", env, learning_starts=10, seed=0).learn(100)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = UDRL.load(tmp_path / "model", env=env)
    loaded.load_replay_buffer(tmp_path / "buffer")
    loaded.learn(50)
    # Not reset, so that its first observation may lie in the middle of an episode
    loaded = UDRL.load(tmp_path / "model", env=env, force_reset=False).learn(50, reset_num_timesteps=False)
    assert loaded.replay_buffer.frame_stack == model.replay_buffer.frame_stack
    # Stacks of another shape
    with pytest.raises(ValueError, match="are of another environment"):
        UDRL("MlpPolicy", SpaceEnv(spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(3))).load_replay_buffer(
            tmp_path / "buffer"
        )
    # The same shape, but nobody knows how its frames lie
    space = spaces.Box(-1, 1, (6,), np.float32)
    other = UDRL("MlpPolicy", SpaceEnv(space, spaces.Discrete(3)), seed=0)
    other.load_replay_buffer(tmp_path / "buffer")
    with pytest.raises(ValueError, match="wrap it in VecFrameStack as before"):
        other.learn(10)
