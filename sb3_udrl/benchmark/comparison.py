"""What the runs of a study say: scores, curves and times of each algorithm in each environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_udrl.benchmark.results import Record
from sb3_udrl.benchmark.runs import import_modules
from sb3_udrl.benchmark.statistics import (
    Interval,
    first_reaching,
    median_with_never,
    probability_of_improvement,
    stratified_interval,
)
from sb3_udrl.benchmark.stopwatch import PHASES

N_TIMES = 50  # points of a curve by wall-clock
SEED_KEYS = ("seed", "key")


@dataclass(frozen=True)
class Line:
    """
    Runs that differ by their seeds only.

    :param algo: what the algorithm is called
    :param records: the runs, by seed
    """

    algo: str
    records: list[Record]

    @property
    def run(self) -> dict[str, Any]:
        """:return: their settings"""
        settings: dict[str, Any] = self.records[0]["run"]
        return settings

    @property
    def seeds(self) -> list[int]:
        """:return: their seeds"""
        return [record["run"]["seed"] for record in self.records]

    @cached_property
    def scores(self) -> np.ndarray:
        """:return: mean return of the evaluation after training, shape (n_seeds,)"""
        return self.returns[:, -1]

    @cached_property
    def returns(self) -> np.ndarray:
        """:return: mean return of each evaluation, shape (n_seeds, n_evaluations)"""
        return np.array([[np.mean(e["returns"]) for e in record["evaluations"]] for record in self.records])

    @property
    def steps(self) -> np.ndarray:
        """:return: environment steps at each evaluation, shape (n_evaluations,)"""
        return np.array([evaluation["step"] for evaluation in self.records[0]["evaluations"]])

    @property
    def std(self) -> float:
        """:return: sample standard deviation of the scores; NaN when one seed gives none"""
        return float(self.scores.std(ddof=1)) if len(self.scores) > 1 else float("nan")

    @property
    def mean_length(self) -> float:
        """:return: mean episode length in the evaluation after training, in environment steps"""
        return float(np.mean([record["evaluations"][-1]["lengths"] for record in self.records]))

    @property
    def seconds(self) -> np.ndarray:
        """:return: seconds of training, evaluation not counted, at each evaluation, shape (n_seeds, n_evaluations)"""
        return np.array([[evaluation["seconds"] for evaluation in record["evaluations"]] for record in self.records])

    @cached_property
    def final(self) -> Interval:
        """:return: interquartile mean of the scores"""
        return stratified_interval([self.scores])

    @cached_property
    def curve(self) -> Interval:
        """:return: interquartile mean of the returns at each evaluation"""
        return stratified_interval([self.returns])

    @cached_property
    def curve_by_time(self) -> tuple[np.ndarray, Interval]:
        """:return: seconds, up to the end of the fastest seed, and the interquartile mean of the returns then"""
        seconds = np.linspace(0, self.seconds[:, -1].min(), N_TIMES)
        returns = [np.interp(seconds, at, values) for at, values in zip(self.seconds, self.returns, strict=True)]
        return seconds, stratified_interval([np.array(returns)])

    def reaching(self, threshold: float, by: str) -> list[float | None]:
        """
        :param threshold: a mean return
        :param by: ``"steps"`` or ``"seconds"``
        :return: when each seed reached it first
        """
        when = np.broadcast_to(self.steps, self.returns.shape) if by == "steps" else self.seconds
        pairs = zip(self.returns.tolist(), when.tolist(), strict=True)
        return [first_reaching(values, at, threshold) for values, at in pairs]

    def mean_seconds(self) -> dict[str, float]:
        """:return: seconds of each phase, on average over the seeds"""
        return {phase: float(np.mean([record["seconds"][phase] for record in self.records])) for phase in PHASES}

    @property
    def calibration(self) -> list[dict[str, Any]]:
        """:return: commanded and achieved returns of all seeds"""
        return [record for run in self.records for record in run.get("calibration", [])]

    def to_json(self, threshold: float | None) -> dict[str, Any]:
        """
        :param threshold: return that counts as solved
        :return: all of it
        """
        worst = int(self.scores.argmin())
        seconds, by_time = self.curve_by_time
        content: dict[str, Any] = {
            "algo": self.algo,
            "settings": {key: value for key, value in self.run.items() if key not in SEED_KEYS},
            "seeds": self.seeds,
            "scores": numbers(self.scores),
            "iqm": interval_to_json(self.final),
            "mean": number(self.scores.mean()),
            "std": number(self.std),
            "worst_seed": {"seed": self.seeds[worst], "score": number(self.scores[worst])},
            "curve": {"steps": self.steps.tolist(), **interval_to_json(self.curve)},
            "curve_by_time": {"seconds": numbers(seconds), **interval_to_json(by_time)},
            "mean_length": number(self.mean_length),
            "seconds": {phase: number(value) for phase, value in self.mean_seconds().items()},
            "peak_memory_mb": max(record["peak_memory_mb"] for record in self.records),
        }
        if threshold is not None:
            for by in ("steps", "seconds"):
                reached = self.reaching(threshold, by)
                content[f"{by}_to_threshold"] = {"seeds": reached, "median": median_with_never(reached)}
        if self.calibration:
            content["calibration"] = self.calibration
        return content


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


def algos_of(records: list[Record]) -> list[str]:
    """
    :param records: runs
    :return: their algorithms, UDRL's first
    """
    names = {record["run"]["algo"]: record["run"]["zoo_name"] for record in records}
    return sorted(names, key=lambda name: (names[name] != "udrl", name))


def lines_of(algo: str, records: list[Record]) -> list[Line]:
    """
    :param algo: an algorithm
    :param records: runs in one environment
    :return: its runs, apart where their settings differ, and then with what differs in the name
    """
    groups: dict[tuple[tuple[str, str], ...], dict[int, Record]] = {}  # by settings, and by seed
    for record in records:
        if record["run"]["algo"] == algo:
            settings = tuple(sorted(flat_settings(record["run"]).items()))
            # Once is enough: with the same settings the same seed is the same run
            groups.setdefault(settings, {}).setdefault(record["run"]["seed"], record)
    flat = [dict(settings) for settings in groups]
    differing = sorted({key for one in flat for key in one if any(one.get(key) != other.get(key) for other in flat)})
    lines = []
    for one, group in zip(flat, groups.values(), strict=True):
        difference = ", ".join(f"{key}={one.get(key, 'default')}" for key in differing)
        lines.append(Line(f"{algo} ({difference})" if difference else algo, [group[seed] for seed in sorted(group)]))
    return lines


def flat_settings(run: dict[str, Any]) -> dict[str, str]:
    """
    :param run: settings of a run
    :return: those that decide what comes out, hyper-parameters beside the rest
    """
    aside = (*SEED_KEYS, "hyperparams", "source", "tuned_for")
    flat = {**{key: value for key, value in run.items() if key not in aside}, **run["hyperparams"]}
    return {key: str(value) for key, value in flat.items()}


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


def number(value: float) -> float | None:
    """
    :param value: a number
    :return: the same as JSON can hold it
    """
    return round(float(value), 4) if np.isfinite(value) else None


def numbers(values: Any) -> Any:
    """
    :param values: a number, or an array of them
    :return: the same as JSON can hold it
    """
    return [number(value) for value in values] if np.ndim(values) else number(values)


def interval_to_json(interval: Interval) -> dict[str, Any]:
    """
    :param interval: an estimate
    :return: the same as JSON can hold it
    """
    return {key: numbers(value) for key, value in interval._asdict().items()}
