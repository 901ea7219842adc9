"""What runs that differ by their seeds only say: scores, curves and times."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sb3_udrl.benchmark.results import Record
from sb3_udrl.benchmark.statistics import (
    Interval,
    first_reaching,
    interval_to_json,
    median_with_never,
    number,
    numbers,
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

    @property
    def n_curve(self) -> int:
        """
        :return: how many evaluations make a curve: where the one after training plays more episodes than those before,
            other episodes would look like a step, so all but that one
        """
        *_, before, last = self.records[0]["evaluations"]
        plays_others = len(last["returns"]) != len(before["returns"])
        return len(self.steps) - 1 if plays_others and len(self.steps) > 2 else len(self.steps)

    @cached_property
    def curve(self) -> tuple[np.ndarray, Interval]:
        """:return: environment steps, and the interquartile mean of the returns then"""
        return self.steps[: self.n_curve], stratified_interval([self.returns[:, : self.n_curve]])

    @cached_property
    def curve_by_time(self) -> tuple[np.ndarray, Interval]:
        """:return: seconds, up to the end of the fastest seed, and the interquartile mean of the returns then"""
        times, returns = self.seconds[:, : self.n_curve], self.returns[:, : self.n_curve]
        seconds = np.linspace(0, times[:, -1].min(), N_TIMES)
        rows = [np.interp(seconds, at, values) for at, values in zip(times, returns, strict=True)]
        return seconds, stratified_interval([np.array(rows)])

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
        (steps, curve), (seconds, by_time) = self.curve, self.curve_by_time
        content: dict[str, Any] = {
            "algo": self.algo,
            "settings": {key: value for key, value in self.run.items() if key not in SEED_KEYS},
            "seeds": self.seeds,
            "scores": numbers(self.scores),
            "iqm": interval_to_json(self.final),
            "mean": number(self.scores.mean()),
            "std": number(self.std),
            "worst_seed": {"seed": self.seeds[worst], "score": number(self.scores[worst])},
            "curve": {"steps": steps.tolist(), **interval_to_json(curve)},
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
