"""What environments need before the Zoo's own wrappers apply."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class ScreenOnly(gym.ObservationWrapper[np.ndarray, Any, dict[str, np.ndarray]]):
    """
    The picture alone of observations that have more, such as ViZDoom's with its game variables.

    So wrappers for pictures, as SB3's :class:`~stable_baselines3.common.atari_wrappers.WarpFrame`, apply.

    :param env: an environment with a Dict of observations
    :param key: which of them is the picture
    :raises ValueError: when there is none of that name
    """

    def __init__(self, env: gym.Env[dict[str, np.ndarray], Any], key: str = "screen") -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Dict) or key not in space.spaces:
            raise ValueError(f"There is no observation {key!r} in {space}: pass the key of the picture.")
        self.key: str = key
        self.observation_space = space[key]

    def observation(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """
        :param observation: all observations of a step
        :return: the picture
        """
        return observation[self.key]
