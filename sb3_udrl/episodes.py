"""What an episode is, and how the steps of a vectorised environment become episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Observations = np.ndarray | dict[str, np.ndarray]
"""One array, or for a Dict space one array per key; the first axis counts steps or environments."""


def observation_dict(observations: Observations) -> dict[str, np.ndarray]:
    """
    See any observation as named arrays, so that Dict and plain spaces share one code path.

    :param observations: array(s) of any space
    :return: the arrays by key; a plain observation is named ``"observation"``
    """
    return observations if isinstance(observations, dict) else {"observation": observations}


@dataclass(frozen=True, eq=False)
class Episode:
    """
    One finished episode of T steps.

    :raises ValueError: when the parts do not have the same number of steps, the episode has none,
        or a reward is not finite
    """

    observations: Observations
    """What the policy saw before each action, in the env's dtype. Shape: (T, *observation_shape), per key for Dict."""

    actions: np.ndarray
    """What it did. Shape: (T, *action_shape)"""

    rewards: np.ndarray
    """What it got for it. Shape: (T,)"""

    terminated: bool = True
    """The environment itself ended the episode."""

    truncated: bool = False
    """A time limit cut the episode off (only if it did not terminate at the same step)."""

    command: tuple[float, float] | None = None
    """The (desired_return, desired_horizon) it was asked for; None for random warm-up episodes."""

    def __post_init__(self) -> None:
        n_steps = len(self.rewards)
        if n_steps == 0:
            raise ValueError("An episode needs at least one step, got none.")
        if self.rewards.shape != (n_steps,):
            raise ValueError(f"Rewards must be one number per step, shape ({n_steps},), got {self.rewards.shape}.")
        if len(self.actions) != n_steps:
            raise ValueError(f"Got {len(self.actions)} actions for {n_steps} rewards: pass one of each per step.")
        for key, values in observation_dict(self.observations).items():
            if len(values) != n_steps:
                raise ValueError(
                    f"Got {len(values)} entries of '{key}' for {n_steps} rewards: pass the observation before each "
                    "action, without the one after the last."
                )
        if not np.isfinite(self.rewards).all():
            step = int(np.flatnonzero(~np.isfinite(self.rewards))[0])
            raise ValueError(f"The reward of step {step} is {self.rewards[step]}: rewards must be finite.")

    def __len__(self) -> int:
        """:return: the number of steps T"""
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """:return: the undiscounted sum of rewards, accumulated in float64"""
        return float(self.rewards.sum(dtype=np.float64))


class EpisodeAccumulator:
    """
    Turns the steps of ``n_envs`` parallel environments into episodes.

    An unfinished episode stays here until it ends, however many rollouts that takes: dropping it
    would favour short episodes. Until the first :meth:`reset` nothing is known about how the episodes
    under way began, so these are dropped when they end.

    :param n_envs: number of parallel environments
    """

    def __init__(self, n_envs: int) -> None:
        self.n_envs = n_envs
        self.return_so_far = np.zeros(n_envs)
        """Reward since the episode's start, float64. Shape: (n_envs,)"""
        self.steps_so_far = np.zeros(n_envs, dtype=np.int64)
        """Environment steps since the episode's start. Shape: (n_envs,)"""
        self.commands: list[tuple[float, float] | None] = [None] * n_envs
        """What each running episode was asked for; set by whoever asks."""
        self._steps: list[list[tuple[dict[str, np.ndarray], np.ndarray, float]]] = [[] for _ in range(n_envs)]
        self._seen_from_start = np.zeros(n_envs, dtype=bool)

    def reset(self) -> None:
        """All environments were reset: forget the episodes under way, and start new ones."""
        for i in range(self.n_envs):
            self._start(i)

    def _start(self, i: int) -> None:
        self._steps[i] = []
        self.commands[i] = None
        self.return_so_far[i] = 0.0
        self.steps_so_far[i] = 0
        self._seen_from_start[i] = True

    def add(
        self,
        observations: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> dict[int, Episode]:
        """
        Add one step of every environment.

        A VecEnv resets by itself, so the observation that came back together with ``done`` already
        belongs to the next episode. It does not matter here: what is added are the observations
        *before* the actions.

        :param observations: what the policy saw before acting, shape (n_envs, *observation_shape)
        :param actions: what it did, shape (n_envs, *action_shape)
        :param rewards: what it got, shape (n_envs,)
        :param dones: whether the episode ended with this step, shape (n_envs,)
        :param infos: as returned by ``VecEnv.step``; ``"TimeLimit.truncated"`` tells truncation
        :return: the episodes that ended with this step, by index of their environment
        """
        arrays = observation_dict(observations)
        # DummyVecEnv rounds rewards to float32, SubprocVecEnv does not
        rewards = np.asarray(rewards, dtype=np.float32)
        self.return_so_far += rewards
        self.steps_so_far += 1
        finished = {}
        for i, steps in enumerate(self._steps):
            # Copies, since these arrays are not ours; one for each env, so that a long episode keeps no others' alive
            steps.append(
                ({key: np.array(values[i]) for key, values in arrays.items()}, np.array(actions[i]), rewards[i])
            )
            if dones[i]:
                if self._seen_from_start[i]:
                    truncated = bool(infos[i].get("TimeLimit.truncated", False))
                    finished[i] = self._finish(i, isinstance(observations, dict), truncated)
                self._start(i)
        return finished

    def _finish(self, i: int, dict_space: bool, truncated: bool) -> Episode:
        observations, actions, rewards = zip(*self._steps[i], strict=True)
        arrays = {key: np.stack([step[key] for step in observations]) for key in observations[0]}
        return Episode(
            observations=arrays if dict_space else arrays["observation"],
            actions=np.stack(actions),
            rewards=np.array(rewards),
            terminated=not truncated,
            truncated=truncated,
            command=self.commands[i],
        )


def rank_episodes(returns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """
    Order episodes from best to worst: by return, then the shorter, then the older.

    Where a return cannot be beaten, what is remembered so comes to rest, instead of drifting along with
    the latest episodes.

    :param returns: their returns, oldest episode first, shape (n_episodes,)
    :param lengths: their lengths in steps, shape (n_episodes,)
    :return: indices into both, best first, shape (n_episodes,)
    """
    return np.lexsort((lengths, -returns))  # stable, so the older come first
