"""The remembered episodes, and how training batches are drawn from them."""

from __future__ import annotations

from copy import copy
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TensorDict
from stable_baselines3.common.utils import get_device, obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_udrl.arguments import positive_int
from sb3_udrl.episodes import Episode, observation_dict
from sb3_udrl.frames import FrameStack
from sb3_udrl.relabeling import Relabeling
from sb3_udrl.retention import Retention
from sb3_udrl.segments import SegmentBatch, Segments
from sb3_udrl.weighting import Weighting


class NStep(NamedTuple):
    """What came within the first n steps of B segments, each with its own n."""

    observations: th.Tensor | TensorDict
    """The observations after n steps, in the env's dtype. Shape: (B, *observation_shape), per key for Dict spaces."""

    rewards: th.Tensor
    """The sum of rewards until then, float32. Shape: (B,)"""

    horizons: th.Tensor
    """What is left of the horizon, float32. Shape: (B,)"""

    ended: th.Tensor
    """Whether the segment was over by then, so that nothing is left to expect, bool. Shape: (B,)"""


class CommandBatch(NamedTuple):
    """B examples of how a command was obeyed: in this state, with this command, this action was taken."""

    observations: th.Tensor | TensorDict
    """The observations at t1, in the env's dtype. Shape: (B, *observation_shape), per key for Dict spaces."""

    actions: th.Tensor
    """The actions at t1. Shape: (B, *action_shape)"""

    commands: th.Tensor
    """(desired_return, desired_horizon) = (sum of rewards t1..t2, horizon), float32. Shape: (B, 2)"""

    n_step: NStep | None = None
    """What came within the first steps; None when only whole segments count."""

    def take(self, indices: np.ndarray) -> CommandBatch:
        """
        :param indices: of examples, shape (N,)
        :return: these examples
        """
        chosen = th.as_tensor(indices, device=self.actions.device)
        return CommandBatch(
            _take(self.observations, chosen),
            self.actions[chosen],
            self.commands[chosen],
            None if self.n_step is None else NStep(*(_take(values, chosen) for values in self.n_step)),
        )


def _take(values: th.Tensor | TensorDict, chosen: th.Tensor) -> Any:
    return {key: value[chosen] for key, value in values.items()} if isinstance(values, dict) else values[chosen]


class EpisodeBuffer:
    """
    Remembers whole episodes and draws examples from them.

    All steps lie in flat arrays, episode after episode, so that a batch is one gather. Instead of
    rewards the buffer stores each step's return-to-go G, so that the return of a segment is
    G[t1] - G[t2]. Forgotten episodes leave holes; when holes exceed ``SLACK`` of the steps in use,
    the episodes behind them move up.

    :param buffer_size: how many episodes to keep (the papers' replay size)
    :param retention: which ones
    :param segments: which stretches of them become examples
    :param weighting: how often each is drawn
    :param relabeling: how many steps of an example count as they came
    :param device: where batches go
    :param frame_stack: how observations are stacked, when the episodes to come hold only their newest frames
    :param normalized: whether the episodes to come hold observations that are normalised already
    :raises ValueError: when ``buffer_size`` is below 1
    """

    SLACK = 1 / 32

    def __init__(
        self,
        buffer_size: int,
        retention: Retention,
        segments: Segments,
        weighting: Weighting,
        relabeling: Relabeling,
        device: th.device | str = "auto",
        frame_stack: FrameStack | None = None,
        normalized: bool = False,
    ) -> None:
        self.buffer_size = positive_int("buffer_size", buffer_size, "episodes")
        self.retention = retention
        self.segments = segments
        self.weighting = weighting
        self.relabeling = relabeling
        self.device = get_device(device)
        self.frame_stack = frame_stack
        self.normalized = normalized
        self.returns = np.zeros(0)
        """Episode returns, oldest first. Shape: (n_episodes,)"""
        self.lengths = np.zeros(0, dtype=np.int64)
        """Episode lengths in steps. Shape: (n_episodes,)"""
        self.terminated = np.zeros(0, dtype=np.bool_)
        """Whether they ended by themselves, not by a time limit. Shape: (n_episodes,)"""
        self.numbers = np.zeros(0, dtype=np.int64)
        """How many episodes came before each of them, forgotten ones included. Shape: (n_episodes,)"""
        self._n_added = 0
        self._starts = np.zeros(0, dtype=np.int64)
        self._arrays: dict[str, np.ndarray] = {}
        self._n_used = 0  # steps up to the last episode's end, holes included
        self._dict_space = False

    def __len__(self) -> int:
        """:return: the number of episodes"""
        return len(self.returns)

    @property
    def n_steps(self) -> int:
        """:return: the number of steps of all episodes together"""
        return int(self.lengths.sum())

    @property
    def nbytes(self) -> int:
        """:return: memory held by the steps, in bytes"""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """:return: the shape of each thing that is kept of one step, by name"""
        return {name: array.shape[1:] for name, array in self._arrays.items()}

    @property
    def observed_shapes(self) -> dict[str, tuple[int, ...]]:
        """:return: the shape of what was seen and done in one step, by name: with frames stacked"""
        shapes = {name: shape for name, shape in self.shapes.items() if name != "return_to_go"}
        if self.frame_stack is not None and shapes:
            for key, _ in self.frame_stack.axes:
                shapes[f"observation/{key}"] = self.frame_stack.stacked_shape(key, shapes[f"observation/{key}"])
        return shapes

    def add(self, episode: Episode) -> None:
        """
        Remember an episode; forget one when there are too many (perhaps this one).

        :param episode: the episode
        :raises ValueError: when its observations or actions have another shape or keys than before
        """
        returns_to_go = np.cumsum(episode.rewards[::-1], dtype=np.float64)[::-1]
        arrays = {f"observation/{key}": values for key, values in observation_dict(episode.observations).items()}
        arrays |= {"action": episode.actions, "return_to_go": returns_to_go}
        self._check(arrays)
        self._dict_space = isinstance(episode.observations, dict)

        self.returns = np.append(self.returns, returns_to_go[0])
        self.lengths = np.append(self.lengths, len(episode))
        self.terminated = np.append(self.terminated, episode.terminated)
        self.numbers = np.append(self.numbers, self._n_added)
        self._n_added += 1
        forgotten = self.retention.forget(self.returns, self.lengths, self.buffer_size)
        self._starts = np.append(self._starts, self._n_used)
        newest = len(self.returns) - 1
        self._delete(forgotten)
        if newest not in forgotten:
            self._write(arrays, len(episode))

    def without_rules(self) -> EpisodeBuffer:
        """:return: the same episodes, to be saved; whoever loads them adopts the rules of another buffer"""
        bare = copy(self)
        del bare.retention, bare.segments, bare.weighting, bare.relabeling
        return bare

    def adopt_rules(self, other: EpisodeBuffer) -> None:
        """
        Go on as another buffer would with these episodes; forget those that are too many for it.

        :param other: a buffer
        """
        self.buffer_size, self.device = other.buffer_size, other.device
        self.retention, self.segments = other.retention, other.segments
        self.weighting, self.relabeling = other.weighting, other.relabeling
        self._delete(self.retention.forget(self.returns, self.lengths, self.buffer_size))

    def _check(self, arrays: dict[str, np.ndarray]) -> None:
        shapes = {name: values.shape[1:] for name, values in arrays.items()}
        if self._arrays and shapes != self.shapes:
            raise ValueError(
                f"One step of the episode has shapes {shapes}, but the buffer holds {self.shapes}: "
                "use one buffer for one kind of environment."
            )

    def _delete(self, indices: np.ndarray) -> None:
        if len(indices) == 0:
            return
        self.returns = np.delete(self.returns, indices)
        self.lengths = np.delete(self.lengths, indices)
        self.terminated = np.delete(self.terminated, indices)
        self.numbers = np.delete(self.numbers, indices)
        self._starts = np.delete(self._starts, indices)

    def _write(self, arrays: dict[str, np.ndarray], length: int) -> None:
        """Put the newest episode's steps behind all others."""
        n_live = self.n_steps - length
        if self._n_used > n_live * (1 + self.SLACK):
            self._compact()
        start, end = self._n_used, self._n_used + length
        self._starts[-1] = start
        for name, values in arrays.items():
            if name not in self._arrays:
                self._arrays[name] = np.empty((0, *values.shape[1:]), dtype=values.dtype)
            array = self._arrays[name]
            if not array.flags.owndata:  # as after unpickling
                array = self._arrays[name] = array.copy()
            if not end <= len(array) <= end * (1 + 2 * self.SLACK):
                # Grows and shrinks in place; nobody else holds a view of it
                array.resize((int(end * (1 + self.SLACK)), *array.shape[1:]), refcheck=False)
            array[start:end] = values
        self._n_used = end

    def _compact(self) -> None:
        """Close the holes. Episodes only ever move towards the front, oldest first, so none is overwritten."""
        end = 0
        for i, length in enumerate(self.lengths[:-1]):
            start = self._starts[i]
            if start != end:
                for array in self._arrays.values():
                    array[end : end + length] = array[start : start + length]
                self._starts[i] = end
            end += int(length)
        self._n_used = end

    def sample(self, batch_size: int, rng: np.random.Generator, env: VecNormalize | None = None) -> CommandBatch:
        """
        Draw independent examples: an episode by the weighting, then a segment of it.

        The command of an example is what its segment fulfilled: (sum of rewards t1..t2, horizon). What it stands for in
        training may be another return, see :mod:`sb3_udrl.relabeling`.

        :param batch_size: number of examples B
        :param rng: source of randomness
        :param env: normalises the observations, with its statistics of the day
        :return: the examples
        :raises ValueError: when the buffer is empty
        """
        self._check_not_empty()
        return self.draw(self._sample_episodes(batch_size, rng), rng, env)

    def draw(self, episodes: np.ndarray, rng: np.random.Generator, env: VecNormalize | None = None) -> CommandBatch:
        """
        Draw a segment of each of the given episodes.

        :param episodes: indices of remembered episodes, shape (B,)
        :param rng: source of randomness
        :param env: normalises the observations, with its statistics of the day
        :return: the examples, in the same order
        :raises ValueError: when the buffer is empty
        """
        self._check_not_empty()
        lengths = self.lengths[episodes]
        segments = self.segments.sample(lengths, self.terminated[episodes], rng)
        t1, t2, horizons = segments
        starts = self._starts[episodes]
        steps = starts + t1
        returns_to_go = self._arrays["return_to_go"]
        # Behind the last step nothing is left to go
        left = np.where(t2 < lengths, returns_to_go[starts + np.minimum(t2, lengths - 1)], 0.0)
        n_steps = self.relabeling.n_steps(horizons, rng)
        return CommandBatch(
            observations=self._gather_observations(starts, t1, env),
            actions=th.as_tensor(self._arrays["action"][steps], device=self.device),
            commands=th.stack([self._to_float(returns_to_go[steps] - left), self._to_float(horizons)], dim=1),
            n_step=None if n_steps is None else self._n_step(starts, lengths, segments, n_steps, env),
        )

    def _n_step(
        self,
        starts: np.ndarray,
        lengths: np.ndarray,
        segments: SegmentBatch,
        n_steps: np.ndarray,
        env: VecNormalize | None,
    ) -> NStep:
        """:return: what came within the first ``n_steps`` of the segments, or less where they are shorter"""
        t1, t2, horizons = segments
        # Where a segment ends with its episode there is no observation after it, and none is needed
        then = np.minimum(np.minimum(t1 + n_steps, t2), lengths - 1)
        returns_to_go = self._arrays["return_to_go"]
        return NStep(
            observations=self._gather_observations(starts, then, env),
            rewards=self._to_float(returns_to_go[starts + t1] - returns_to_go[starts + then]),
            horizons=self._to_float(horizons - (then - t1)),
            ended=th.as_tensor(t1 + n_steps >= t2, device=self.device),
        )

    def _to_float(self, values: np.ndarray) -> th.Tensor:
        return th.as_tensor(values.astype(np.float32), device=self.device)

    def _check_not_empty(self) -> None:
        if len(self) == 0:
            raise ValueError("The buffer is empty: collect at least one whole episode before training.")

    def _gather_observations(
        self, starts: np.ndarray, t1: np.ndarray, env: VecNormalize | None
    ) -> th.Tensor | TensorDict:
        prefix = "observation/"
        flat = {name.removeprefix(prefix): array for name, array in self._arrays.items() if name.startswith(prefix)}
        if self.frame_stack is None:
            arrays = {key: array[starts + t1] for key, array in flat.items()}
        else:
            arrays = {key: self.frame_stack.restack(key, array, starts, t1) for key, array in flat.items()}
        if env is not None:
            normalizes_dict = isinstance(env.observation_space, spaces.Dict)
            arrays = observation_dict(env.normalize_obs(arrays if normalizes_dict else arrays["observation"]))
        return obs_as_tensor(arrays if self._dict_space else arrays["observation"], self.device)

    def returns_to_go(self, episode: int) -> np.ndarray:
        """
        :param episode: index of a remembered episode, oldest first
        :return: the sum of rewards from each of its steps on, float64, shape (T,)
        """
        start = self._starts[episode]
        return self._arrays["return_to_go"][start : start + self.lengths[episode]].copy()

    def _sample_episodes(self, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        cumulative = np.cumsum(self.weighting.weights(self.returns, self.lengths))
        return np.searchsorted(cumulative, rng.random(batch_size) * cumulative[-1], side="right")
