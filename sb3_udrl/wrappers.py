"""Facts about the episode under way in the observation, so that commands can count down exactly at test time."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

PROGRESS_KEY = "episode_progress"
"""The reserved key: (return so far, environment steps so far), float32, shape (2,)."""

_PROGRESS_SPACE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def add_progress_space(space: spaces.Space) -> spaces.Dict:
    """
    :param space: an observation space
    :return: the space with the reserved key; a space that is no Dict becomes its ``"observation"``
    :raises ValueError: when the key is there already
    """
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
    if PROGRESS_KEY in parts:
        raise ValueError(
            f"The observation already has '{PROGRESS_KEY}': use EpisodeProgress or VecEpisodeProgress once, not both."
        )
    return spaces.Dict({**parts, PROGRESS_KEY: _PROGRESS_SPACE})


def has_progress(space: spaces.Space) -> bool:
    """
    :param space: an observation space
    :return: whether EpisodeProgress has been there
    """
    return isinstance(space, spaces.Dict) and PROGRESS_KEY in space.spaces


def strip_progress_space(space: spaces.Space) -> spaces.Space:
    """
    :param space: an observation space, with or without the reserved key
    :return: the space as it is without EpisodeProgress
    """
    if not isinstance(space, spaces.Dict) or not has_progress(space):
        return space
    parts = {key: part for key, part in space.spaces.items() if key != PROGRESS_KEY}
    return parts["observation"] if list(parts) == ["observation"] else spaces.Dict(parts)


def split_progress(observations: Any, space: spaces.Space) -> tuple[Any, np.ndarray | None]:
    """
    Take the reserved key out of observations.

    :param observations: one or several observations, with or without it
    :param space: the observation space without it
    :return: observations of that space; and (return so far, steps so far), shape (n, 2), or None
    :raises ValueError: when other keys are missing or too many, or the key's numbers were normalised
    """
    if not isinstance(observations, dict):
        return observations, None
    parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    rest = {key: value for key, value in observations.items() if key != PROGRESS_KEY}
    if parts.keys() != rest.keys():
        raise ValueError(
            f"Got an observation with the keys {sorted(observations)}, expected {sorted(parts)}: pass these with or "
            f"without the '{PROGRESS_KEY}' of EpisodeProgress, or the plain observation where there are no keys."
        )
    split = rest if isinstance(space, spaces.Dict) else rest["observation"]
    if PROGRESS_KEY not in observations:
        return split, None
    key, part = next(iter(parts.items()))
    n = len(rest[key]) if np.ndim(rest[key]) > len(part.shape or ()) else 1
    # Frame stacks repeat it; the last one is of today
    progress = np.reshape(observations[PROGRESS_KEY], (n, -1))[:, -2:].astype(np.float64)
    steps = progress[:, 1]
    if (steps < 0).any() or (steps != np.round(steps)).any():
        raise ValueError(
            f"'{PROGRESS_KEY}' says that {steps[0]} steps were made, so something has normalised it. Write "
            "VecNormalize(env, norm_obs_keys=['observation']), or list the keys of your own Dict observations."
        )
    return split, progress


def check_progress_is_not_normalized(env: VecEnv) -> None:
    """
    :param env: an environment for training
    :raises ValueError: when a VecNormalize in it would normalise the reserved key
    """
    normalize = unwrap_vec_normalize(env)
    if normalize is None or not normalize.norm_obs or not isinstance(normalize.observation_space, spaces.Dict):
        return
    if PROGRESS_KEY in (normalize.norm_obs_keys or normalize.observation_space.spaces):
        keys = [key for key in normalize.observation_space.spaces if key != PROGRESS_KEY]
        raise ValueError(
            f"VecNormalize would normalise '{PROGRESS_KEY}', the facts that commands count down by. Write "
            f"VecNormalize(env, norm_obs_keys={keys!r}); in the RL Zoo: "
            f"normalize: \"{{'norm_obs': True, 'norm_reward': False, 'norm_obs_keys': {keys!r}}}\"."
        )


class EpisodeProgress(gym.Wrapper):
    """
    Adds the return and the steps since the episode's start to the observation, under a reserved Dict key.

    SB3's tools never tell ``predict`` the rewards, so without this wrapper UDRL estimates how much of a desired
    return is left. With it the command counts down exactly, in ``evaluate_policy``, ``EvalCallback``, video recorders
    and frame stacks (SB3's and gymnasium's) alike. The policy takes the key out before it looks at the observation, so
    ``predict`` works with and without the wrapper, whichever the model was trained on. Only under VecNormalize, whose
    statistics callbacks copy from training to evaluation, either both want it or none.

    :param env: the environment
    :raises ValueError: when it is wrapped already
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = add_progress_space(env.observation_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._return_so_far, self._steps_so_far = 0.0, 0
        return self._add(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._return_so_far += float(reward)
        self._steps_so_far += 1
        return self._add(observation), reward, terminated, truncated, info

    def _add(self, observation: Any) -> dict[str, Any]:
        parts = observation if isinstance(observation, dict) else {"observation": observation}
        return {**parts, PROGRESS_KEY: np.array([self._return_so_far, self._steps_so_far], dtype=np.float32)}


class VecEpisodeProgress(VecEnvWrapper):
    """
    :class:`EpisodeProgress` for vectorised environments.

    Around a VecNormalize it counts the env's own rewards, as UDRL does.

    :param venv: the vectorised environment
    :raises ValueError: when it is wrapped already
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv, observation_space=add_progress_space(venv.observation_space))
        self._normalize = unwrap_vec_normalize(venv)
        self._progress = np.zeros((venv.num_envs, 2))

    def reset(self) -> VecEnvObs:
        observations = self.venv.reset()
        self._progress[:] = 0.0
        return self._add(observations, self._progress)

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        self._progress[:, 0] += rewards if self._normalize is None else self._normalize.get_original_reward()
        self._progress[:, 1] += 1
        for i in np.flatnonzero(dones):
            infos[i]["terminal_observation"] = self._add(infos[i]["terminal_observation"], self._progress[i])
        self._progress[dones] = 0.0
        return self._add(observations, self._progress), rewards, dones, infos

    def _add(self, observations: Any, progress: np.ndarray) -> dict[str, np.ndarray]:
        parts = observations if isinstance(observations, dict) else {"observation": observations}
        return {**parts, PROGRESS_KEY: progress.astype(np.float32)}
