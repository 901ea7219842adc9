"""Which steps of training are not the policy's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class RandomActions:
    """
    Random actions that are held for a while (temporally extended epsilon-greedy, 2006.01782).

    What pays only when it is done for many steps in a row, as to switch the engines off until the lander rests, is not
    found by single random actions: the policy's next ones undo it.

    :param n_envs: number of environments
    :param duration: for how many environment steps each is held at most: uniform from 1, and never beyond its episode
    """

    def __init__(self, n_envs: int, duration: int) -> None:
        self.duration = duration
        self._steps_left = np.zeros(n_envs, dtype=np.int64)
        self._held: dict[int, np.ndarray] = {}

    def replace(
        self,
        actions: np.ndarray,
        chosen: np.ndarray,
        draw: Callable[[int], np.ndarray],
        episode_starts: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """
        :param actions: what the policy would do in this step, shape (n_envs, *action_shape)
        :param chosen: where a random action begins if none is held, shape (n_envs,)
        :param draw: makes that many random actions, shape (n, *action_shape)
        :param episode_starts: whether an episode starts with this step, shape (n_envs,)
        :param rng: source of randomness
        :return: the same array, with what is done
        """
        self._steps_left[episode_starts] = 0
        for i in np.flatnonzero((self._steps_left == 0) & chosen).tolist():
            self._held[i] = draw(1)[0]
            self._steps_left[i] = rng.integers(1, self.duration, endpoint=True)
        for i in np.flatnonzero(self._steps_left).tolist():
            actions[i] = self._held[i]
            self._steps_left[i] -= 1
        return actions
