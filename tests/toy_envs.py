"""Small environments with a known answer."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class CountdownEnv(gym.Env):
    """
    Shows how many steps are left, pays 1 per step, and ends after ``length`` steps.

    :param length: steps of an episode
    :param truncates: whether it ends by truncation instead of termination
    """

    def __init__(self, length: int = 4, truncates: bool = False) -> None:
        self.observation_space = spaces.Box(0, length, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.length = length
        self.truncates = truncates

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.left = self.length
        return self._observation(), {}

    def step(self, action):
        self.left -= 1
        over = self.left == 0
        return self._observation(), 1.0, over and not self.truncates, over and self.truncates, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.left], dtype=np.float32)


class SignEnv(gym.Env):
    """Pays 1 for telling whether a random number is positive, for 50 steps: so random actions earn about 25."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action):
        reward = float(action == (self.number[0] > 0))
        self.steps += 1
        return self._observation(), reward, False, self.steps == 50, {}

    def _observation(self) -> np.ndarray:
        self.number = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.number


class PayoutEnv(gym.Env):
    """
    Action 1 pays 1, action 0 pays nothing, for ``length`` steps: every return up to the horizon can be commanded.

    The observation says nothing, so only the command tells what to do.
    """

    def __init__(self, length: int = 10) -> None:
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), float(action), self.steps == self.length, False, {}


class RandomEnv(gym.Env):
    """Random observations, rewards and lengths, from its own generator; remembers all that happened."""

    def __init__(self, max_length: int = 6, seed: int = 0) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.max_length = max_length
        self.rng = np.random.default_rng(seed)
        self.history: list[list[tuple[np.ndarray, int, float]]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.left = int(self.rng.integers(1, self.max_length + 1))
        self.history.append([])
        self.observation = self.rng.uniform(-1, 1, 2).astype(np.float32)
        return self.observation, {}

    def step(self, action):
        reward = float(np.float32(self.rng.normal()))
        self.history[-1].append((self.observation, int(action), reward))
        self.observation = self.rng.uniform(-1, 1, 2).astype(np.float32)
        self.left -= 1
        return self.observation, reward, self.left == 0, False, {}


class FaultyEnv(CountdownEnv):
    """
    Returns something that is not finite at one step.

    :param fault: ``"reward"`` or ``"observation"``
    :param at_step: the step of the first episode at which to do so, from 1
    """

    def __init__(self, fault: str, at_step: int = 3, value: float = np.nan) -> None:
        super().__init__(length=10)
        self.fault = fault
        self.at_step = at_step
        self.value = value

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.length - self.left == self.at_step:
            if self.fault == "reward":
                reward = self.value
            else:
                observation = observation + np.float32(self.value)
        return observation, reward, terminated, truncated, info


class SpaceEnv(gym.Env):
    """
    Random observations of any space, any actions, episodes of 4 steps; pays 1 per step.

    :param observation_space: any observation space
    :param action_space: any action space
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 4, False, {}


class PictureEnv(gym.Env):
    """
    A bright square in one of four corners says which of four actions pays; nothing else does.

    :param length: steps of an episode
    """

    def __init__(self, length: int = 20) -> None:
        self.observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        self.action_space = spaces.Discrete(4)
        self.length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        return self._draw(), {}

    def step(self, action):
        reward = float(action == self.corner)
        self.steps += 1
        return self._draw(), reward, self.steps == self.length, False, {}

    def _draw(self) -> np.ndarray:
        self.corner = int(self.np_random.integers(4))
        picture = np.zeros((36, 36, 1), np.uint8)
        row, column = divmod(self.corner, 2)
        picture[18 * row : 18 * row + 18, 18 * column : 18 * column + 18] = 255
        return picture
