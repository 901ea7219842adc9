"""What a study says of each environment: one line for each algorithm, and which of them is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_udrl.benchmark.lines import Line, algos_of, lines_of
from sb3_udrl.benchmark.results import Record
from sb3_udrl.benchmark.runs import import_modules
from sb3_udrl.benchmark.statistics import Interval, interval_to_json, number, probability_of_improvement


@dataclass(frozen=True)
class Environment:
    """
    The algorithms in one environment.

    :param name: what it is called
    :param lines: one for each algorithm
    :param threshold: return that counts as solved; None when nobody said
    """

    name: str
    lines: list[Line]
    threshold: float | None

    @property
    def before_training(self) -> float:
        """:return: mean return of policies that have learned nothing yet"""
        return float(np.mean(self._returns_before_training()))

    @property
    def best(self) -> float:
        """:return: the best algorithm's interquartile mean"""
        return max(float(line.final.value) for line in self.lines)

    @property
    def learned(self) -> bool:
        """
        :return: whether the best algorithm is above the mean return before training, by more than one standard
            deviation over the seeds there (one lucky policy may well be as good before)
        """
        return self.best - self.before_training > self._returns_before_training().std()

    def _returns_before_training(self) -> np.ndarray:
        return np.concatenate([line.returns[:, 0] for line in self.lines])

    def normalised(self, line: Line) -> np.ndarray:
        """
        :param line: an algorithm
        :return: its scores, where 0 is before training and 1 is the best algorithm's interquartile mean. Of use only
            where something was ``learned``
        """
        return (line.scores - self.before_training) / (self.best - self.before_training)

    def to_json(self) -> dict[str, Any]:
        """:return: all of it"""
        return {
            "env": self.name,
            "threshold": self.threshold,
            "before_training": number(self.before_training),
            "algos": [line.to_json(self.threshold) for line in self.lines],
            "probability_of_improvement": improvements_to_json([self], [line.algo for line in self.lines]),
        }


def compare(records: list[Record], thresholds: dict[str, float]) -> list[Environment]:
    """
    :param records: finished runs
    :param thresholds: return that counts as solved, by environment; default: Gymnasium's
    :return: what they say of each environment
    :raises ValueError: when a threshold is for an environment that nothing was run in
    """
    names = sorted({record["run"]["env"] for record in records})
    unknown = sorted(set(thresholds) - set(names))
    if unknown:
        raise ValueError(f"--threshold is for {unknown[0]!r}, but the runs are of {', '.join(names)}.")
    environments = []
    for name in names:
        own = [record for record in records if record["run"]["env"] == name]
        lines = [line for algo in algos_of(own) for line in lines_of(algo, own)]
        threshold = thresholds.get(name, known_threshold(own[0]["run"]))
        environments.append(Environment(name, lines, threshold))
    return environments


def known_threshold(run: dict[str, Any]) -> float | None:
    """
    :param run: settings of a run
    :return: the return at which Gymnasium says that its environment is solved
    """
    try:
        import_modules(run["env_modules"])
        threshold = gym.spec(run["env_id"]).reward_threshold
    except (ValueError, gym.error.Error):
        return None  # it was run on another machine
    return None if threshold is None else float(threshold)


def common(environments: Sequence[Environment]) -> tuple[list[Environment], list[str]]:
    """
    Not every algorithm acts in every environment, and only like should be averaged with like.

    :param environments: what was compared
    :return: environments to average over, and algorithms to compare there: those that ran in at least half of all
        environments. All of them ran in each of the environments returned, and something was learned there
    """
    ran: dict[str, list[str]] = {}
    for environment in environments:
        for line in environment.lines:
            ran.setdefault(line.algo, []).append(environment.name)
    algos = [algo for algo, names in ran.items() if 2 * len(names) >= len(environments)]
    if not algos:
        return [], []
    shared = [env for env in environments if env.learned and all(env.name in ran[algo] for algo in algos)]
    return shared, algos


def overall(environments: Sequence[Environment], algo: str) -> list[np.ndarray]:
    """
    :param environments: those in which it ran
    :param algo: an algorithm
    :return: its normalised scores in each
    """
    return [env.normalised(line) for env in environments for line in env.lines if line.algo == algo]


def improvement(environments: Sequence[Environment], ours: str, theirs: str) -> Interval | None:
    """
    :param environments: what was compared
    :param ours: an algorithm
    :param theirs: another one
    :return: how likely a run of the one is better than a run of the other, where both ran; None where they nowhere did,
        or are the same
    """
    pairs = [
        (one.scores, other.scores)
        for env in environments
        for one in env.lines
        for other in env.lines
        if (one.algo, other.algo) == (ours, theirs)
    ]
    return probability_of_improvement(*map(list, zip(*pairs, strict=True))) if pairs and ours != theirs else None


def improvements_to_json(environments: Sequence[Environment], algos: Sequence[str]) -> list[dict[str, Any]]:
    """
    :param environments: what was compared
    :param algos: the algorithms
    :return: how likely each is better than each other
    """
    return [
        {"algo": ours, "over": theirs, **interval_to_json(interval)}
        for ours in algos
        for theirs in algos
        if (interval := improvement(environments, ours, theirs)) is not None
    ]
