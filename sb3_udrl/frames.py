"""Stacked frames: each is stored once, and stacked again when it is sampled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from sb3_udrl.wrappers import VecEpisodeProgress, strip_progress_space

# What may stand around a VecFrameStack and leave its frames as they are
_TRANSPARENT = (VecTransposeImage, VecNormalize, VecMonitor, VecCheckNan, VecVideoRecorder, VecEpisodeProgress)


@dataclass(frozen=True)
class FrameStack:
    """
    How a VecFrameStack lays out frames in an observation, oldest first.

    Before an episode's first frame there are zeros, as SB3's VecFrameStack has it.
    """

    n_stack: int
    """Frames in an observation."""

    axes: tuple[tuple[str, int], ...]
    """For each key of the observation the axis along which its frames lie."""

    @classmethod
    def of(cls, env: VecEnv) -> FrameStack | None:
        """
        :param env: a vectorised environment
        :return: how it stacks frames, or None if it does not, or if something around it changes them
        """
        transposed, outermost = set[str](), env
        while isinstance(env, VecEnvWrapper) and not isinstance(env, VecFrameStack):
            if not isinstance(env, _TRANSPARENT):
                return None
            if isinstance(env, VecNormalize) and env.norm_obs and env is not outermost:
                return None  # the buffer holds normalised frames then, and the zeros before the first are none any more
            if isinstance(env, VecTransposeImage) and not env.skip:
                transposed |= set(getattr(env, "image_space_keys", ["observation"]))  # without keys there is one image
            env = env.venv
        if not isinstance(env, VecFrameStack):
            return None
        one, stacked = (_shapes(venv.observation_space) for venv in (env.venv, env))
        n_stack, axes = 1, []
        for key, shape in stacked.items():
            ratios = [of_stack // of_one for of_stack, of_one in zip(shape, one[key], strict=True)]
            n_stack, axis = max(ratios), int(np.argmax(ratios))
            # Around it, VecTransposeImage moves channels from last to first
            axes.append((key, (axis + 1) % 3 if key in transposed else axis))
        return cls(n_stack, tuple(axes)) if n_stack > 1 else None

    def stacked_shape(self, key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """
        :param key: key of the observation
        :param shape: of a frame
        :return: the shape of stacked frames
        """
        axis = dict(self.axes)[key]
        return (*shape[:axis], self.n_stack * shape[axis], *shape[axis + 1 :])

    def newest(self, observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """
        :param observations: stacked observations, shape (n, *observation_shape) for each key
        :return: their newest frames, shape (n, *frame_shape) for each key
        """
        return {key: np.split(observations[key], self.n_stack, axis=axis + 1)[-1] for key, axis in self.axes}

    def restack(self, key: str, frames: np.ndarray, starts: np.ndarray, t: np.ndarray) -> np.ndarray:
        """
        :param key: key of the observation
        :param frames: frames of all episodes, one after the other, shape (n_steps, *frame_shape)
        :param starts: where the episodes of the samples start in it, shape (B,)
        :param t: the steps wanted, counted from there, shape (B,)
        :return: the stacked observations, shape (B, *observation_shape)
        """
        stack = []
        for age in range(self.n_stack - 1, -1, -1):
            layer = frames[starts + np.maximum(t - age, 0)]
            layer[t < age] = 0
            stack.append(layer)
        return np.concatenate(stack, axis=dict(self.axes)[key] + 1)


def _shapes(space: spaces.Space) -> dict[str, tuple[int, ...]]:
    space = strip_progress_space(space)
    parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    return {key: part.shape or () for key, part in parts.items()}
