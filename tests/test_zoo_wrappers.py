"""Of observations with more than a picture the picture is left, and ViZDoom's configurations learn from it."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("rl_zoo3")

from short_run import short_run

from sb3_udrl.zoo.wrappers import ScreenOnly


class GameEnv(gym.Env):
    """A picture of 48 x 64 whose colour is the step, and what a game shows beside it."""

    observation_space = spaces.Dict(
        screen=spaces.Box(0, 255, (48, 64, 3), np.uint8), gamevariables=spaces.Box(-np.inf, np.inf, (1,))
    )
    action_space = spaces.Discrete(2)

    def observe(self):
        return {"screen": np.full((48, 64, 3), self.t, np.uint8), "gamevariables": np.ones(1, np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), 1.0, self.t == 5, False, {}


def test_only_the_picture_is_left():
    env = ScreenOnly(GameEnv())
    assert env.observation_space == GameEnv.observation_space["screen"]
    assert (env.reset()[0] == 0).all()
    observation = env.step(0)[0]
    assert observation in env.observation_space
    assert (observation == 1).all()


def test_wrappers_for_pictures_apply():
    pytest.importorskip("cv2")
    from stable_baselines3.common.atari_wrappers import WarpFrame

    env = WarpFrame(ScreenOnly(GameEnv()), width=36, height=36)
    assert env.reset()[0].shape == (36, 36, 1)
    assert (env.step(0)[0] == 1).all()


def test_a_picture_of_another_name_is_asked_for():
    with pytest.raises(ValueError, match="'pixels'.*key of the picture"):
        ScreenOnly(GameEnv(), key="pixels")
    with pytest.raises(ValueError, match="'screen'"):
        ScreenOnly(ScreenOnly(GameEnv()))


@pytest.mark.parametrize("algo", ["udrl", "udrl_srivastava2019"])
def test_vizdooms_take_cover_is_learned_from_with_the_settings_that_come_with_this_package(algo, tmp_path, monkeypatch):
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)  # it writes a file where it runs
    evaluation = short_run("VizdoomTakeCover-v1", algo, 1200, env_modules=("vizdoom.gymnasium_wrapper",))
    assert evaluation["step"] == 1200
    # A reward of 1 for each step survived
    assert evaluation["returns"] == evaluation["lengths"]
