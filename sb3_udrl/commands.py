"""What a command is, how it counts down, and how the next one is chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from sb3_udrl.arguments import check_numbers, positive_int
from sb3_udrl.episodes import rank_episodes


class Command(NamedTuple):
    """
    "Get this much return within this many steps": the papers' c = (d^r, d^h), always in this order.
    """

    desired_return: float
    """Return wanted from here on, in the env's reward."""

    desired_horizon: float
    """Environment steps left to get it in, at least 1."""

    def checked(self) -> Command:
        """
        :return: the same command as plain floats
        :raises ValueError: when it is not finite, or its horizon is below one step
        """
        desired_return, desired_horizon = float(self[0]), float(self[1])
        # The policy keeps it as float32
        if not all(abs(number) <= float(np.finfo(np.float32).max) for number in (desired_return, desired_horizon)):
            raise ValueError(
                f"A command must be finite (as float32), got {tuple(self)}: pass (desired_return, desired_horizon)."
            )
        if desired_horizon < 1:
            raise ValueError(
                f"The desired horizon is {desired_horizon}, but an episode has at least one step: "
                "pass (desired_return, desired_horizon), in this order, with a horizon of 1 or more."
            )
        return Command(desired_return, desired_horizon)


def count_down(commands: np.ndarray, return_so_far: np.ndarray, steps_so_far: np.ndarray) -> np.ndarray:
    """
    What is left of commands (Algorithm 2, lines 6 and 7): what was asked minus what has happened.

    The remainder is exact, so it can leave the range in which a network can use it; the network's
    input is clipped (:class:`sb3_udrl.torch_layers.CommandScaling`), never the remainder.

    :param commands: as asked at the start of the episodes, shape (n_envs, 2)
    :param return_so_far: reward since then, shape (n_envs,)
    :param steps_so_far: environment steps since then, shape (n_envs,)
    :return: the remaining commands, shape (n_envs, 2)
    """
    return commands - np.stack([return_so_far, steps_so_far], axis=-1)


def earning_profile(returns_to_go: list[np.ndarray], n_points: int) -> np.ndarray:
    """
    How episodes earned their returns over time: the fraction of the return that is still to come,
    against the fraction of the episode that is gone (0 at the first step, 1 at the last).

    Exact for rewards that are the same at each step, and for those that come with the last step.

    :param returns_to_go: for each episode the sum of rewards from each step on, shape (T,)
    :param n_points: number of points
    :return: the mean profile, starting at 1, shape (n_points,)
    """
    gone = np.linspace(0.0, 1.0, n_points)
    curves = [np.interp(gone, np.linspace(0.0, 1.0, len(curve)), curve) for curve in returns_to_go]
    mean = np.mean(curves, axis=0)
    # Gains and losses that nearly cancel out have no meaningful fractions
    if abs(mean[0]) <= 0.1 * np.abs(mean).max():
        return 1.0 - gone
    return np.clip(mean / mean[0], -1.0, 2.0)


def expected_return_so_far(profile: np.ndarray, paces: np.ndarray, steps_so_far: np.ndarray) -> np.ndarray:
    """
    What episodes have earned by now that get a return within a horizon and earn it as the profile says.

    :param profile: of :func:`earning_profile`, shape (n_points,)
    :param paces: return and horizon, as in a :class:`Command`, shape (2,) or (n_envs, 2)
    :param steps_so_far: environment steps since the start, shape (n_envs,)
    :return: shape (n_envs,)
    """
    returns, horizons = paces[..., 0], paces[..., 1]
    # How much of the episode is over; its last step is step H - 1
    gone = steps_so_far / np.maximum(horizons - 1, 1)
    still_to_come: np.ndarray = np.interp(gone, np.linspace(0.0, 1.0, len(profile)), profile)
    return returns * (1 - still_to_come)


def return_at_one_pace(profile: np.ndarray, pace: np.ndarray, steps_so_far: np.ndarray) -> np.ndarray:
    """
    What episodes have earned by now that earn the same in the same time as the best one, however long they last.

    After its end costs go on: whoever is still under way has lost more. Gains do not, since nobody ever had more.

    :param profile: of the best episodes (:func:`earning_profile`), shape (n_points,)
    :param pace: return and length of the best one, shape (2,)
    :param steps_so_far: environment steps since the start, shape (n_envs,)
    :return: shape (n_envs,)
    """
    last_step = pace[1] - 1
    per_step = pace[0] * (1 - profile[-1]) / max(last_step, 1)
    steps_beyond = np.maximum(steps_so_far - last_step, 0)
    return expected_return_so_far(profile, pace, steps_so_far) + min(per_step, 0.0) * steps_beyond


def keep_one_pace(returns_to_go: list[np.ndarray], profile: np.ndarray, pace: Command) -> bool:
    """
    Whether episodes earn the same in the same time, however much they get before they end, as where each step survived
    pays; or rather in proportion to what they get until the deadline, as where one can be faster or slower.

    :param returns_to_go: for each episode the sum of rewards from each step on, shape (T,)
    :param profile: of the best episodes (:func:`earning_profile`)
    :param pace: return and length of the best one
    :return: whether the first explains better what they had earned at each of their steps
    """
    deadline = max(map(len, returns_to_go))
    squared_errors = np.zeros(2)
    for to_go in returns_to_go:
        so_far, steps = to_go[0] - to_go, np.arange(len(to_go))
        in_proportion = expected_return_so_far(profile, np.array([to_go[0], deadline]), steps)
        for i, expected in enumerate((return_at_one_pace(profile, np.array(pace), steps), in_proportion)):
            squared_errors[i] += np.square(so_far - expected).mean()
    return bool(squared_errors[0] <= squared_errors[1])


class CommandSampler(ABC):
    """
    Chooses what to command next from the episodes that are remembered (Algorithm 1, line 5).

    In all methods ``returns`` and ``lengths`` have shape (n_episodes,), oldest episode first.

    :param last_few: how many of the best episodes to look at (the papers' ``last_few``)
    :raises ValueError: when ``last_few`` is not a whole number of at least one episode
    """

    def __init__(self, last_few: int = 1) -> None:
        self.last_few = positive_int("last_few", last_few, "episodes to start from")

    def best(self, returns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """
        :return: indices of the ``last_few`` best episodes, best first
        :raises ValueError: when there are no episodes
        """
        if len(returns) == 0:
            raise ValueError("No episode has finished yet, so there is none to base a command on.")
        return rank_episodes(returns, lengths)[: self.last_few]

    @abstractmethod
    def sample(self, returns: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> Command:
        """
        :param rng: source of randomness
        :return: a command for exploration
        """

    def evaluation_command(self, returns: np.ndarray, lengths: np.ndarray) -> Command:
        """
        What can be asked for without being greedy: the mean of the best episodes, which is also the
        lower bound of the papers' exploratory commands (1912.02877 §2.3.6).

        :return: the command for evaluation
        """
        best = self.best(returns, lengths)
        return Command(float(returns[best].mean()), float(lengths[best].mean()))


class MeanStdSampler(CommandSampler):
    """
    The papers' exploratory commands (1912.02877 §2.3.4): the horizon is the mean length M_h of the
    best episodes, the return is drawn from U[M, M + n_stds * S], with mean M and standard deviation S
    of their returns.

    :param last_few: number of best episodes
    :param n_stds: how many standard deviations to reach for at most, at least 0; 1 in the papers
    """

    def __init__(self, last_few: int = 75, n_stds: float = 1.0) -> None:
        super().__init__(last_few)
        check_numbers(n_stds=n_stds)
        if not 0 <= n_stds < np.inf:
            raise ValueError(f"n_stds={n_stds}: use a finite number, at least 0; below it would ask for less than M.")
        self.n_stds = n_stds

    def sample(self, returns: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> Command:
        best = self.best(returns, lengths)
        mean = returns[best].mean()
        desired_return = rng.uniform(mean, mean + self.n_stds * returns[best].std())
        return Command(float(desired_return), float(lengths[best].mean()))


class BestEpisodeSampler(CommandSampler):
    """
    A little more than a random one of the best episodes: its return and its horizon, stretched by a
    common factor drawn from U[1, max_factor] (``max_factor=2`` is the "twice as much" of 1912.02875, A1;
    ``last_few=1, max_factor=1`` asks for the best episode again).

    "More" of a negative return means closer to zero: r + (factor - 1) |r|. The horizon becomes longer only
    as far as longer episodes were better ones: it is multiplied by factor ** rho, where rho is the correlation
    of return and length among the remembered episodes. So it doubles where each step pays, stays where
    length does not matter, and halves where each step costs.

    :param last_few: number of best episodes
    :param max_factor: the largest factor, at least 1
    """

    def __init__(self, last_few: int = 1, max_factor: float = 2.0) -> None:
        super().__init__(last_few)
        check_numbers(max_factor=max_factor)
        if not 1 <= max_factor < np.inf:
            raise ValueError(
                f"max_factor={max_factor}: use a finite number, at least 1; below it would ask for less than was "
                "already reached."
            )
        self.max_factor = max_factor

    def sample(self, returns: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> Command:
        one = rng.choice(self.best(returns, lengths))
        factor = rng.uniform(1.0, self.max_factor)
        desired_return = returns[one] + (factor - 1.0) * abs(returns[one])
        desired_horizon = lengths[one] * factor ** _correlation(returns, lengths)
        return Command(float(desired_return), max(float(desired_horizon), 1.0))


class MoreSampler(CommandSampler):
    """
    More than ever: beyond the best return by as much as returns differ or as the best one is away from 0, whichever
    is more, within ten times the longest episode.

    For a network that clips its input to what can be had from each state within the longest horizon it knows
    (:class:`sb3_udrl.torch_layers.AchievableReturn`), so that the command says no more than "as much as you can", at
    every step: even at the end of an episode that has earned as much as the best one, at least as much again is left
    to ask for. It is the command for evaluation too: whoever wants less sets another.

    :param last_few: number of best episodes, whose earning profile is used to estimate returns so far
    """

    def sample(self, returns: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> Command:
        return self.evaluation_command(returns, lengths)

    def evaluation_command(self, returns: np.ndarray, lengths: np.ndarray) -> Command:
        best = returns[self.best(returns, lengths)[0]]
        return Command(float(best + max(best - returns.min(), abs(best))), float(10 * lengths.max()))


def _correlation(returns: np.ndarray, lengths: np.ndarray) -> float:
    """:return: Pearson's correlation, or 0 where one of them is always the same"""
    if returns.std() == 0 or lengths.std() == 0:
        return 0.0
    return float(np.corrcoef(returns, lengths)[0, 1])


COMMAND_SAMPLERS: dict[str, type[CommandSampler]] = {
    "more": MoreSampler,
    "best_episode": BestEpisodeSampler,
    "mean_std": MeanStdSampler,
}
