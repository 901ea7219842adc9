"""
Statistics for a handful of seeds, after Agarwal et al. 2021 (arXiv 2108.13264).

A *score* is one number for one seed. Scores come in strata, one array for each environment; resampling keeps to them,
and each counts as much as any other, however many seeds it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from sb3_udrl.benchmark.json_lines import significant

CONFIDENCE = 0.95
N_RESAMPLES = 2000
TRIMMED = 0.25  # from either end

Strata = Sequence[np.ndarray]


class Interval(NamedTuple):
    """
    An estimate and where it may lie.

    :param value: the estimate
    :param low: lower end of the interval; NaN when one seed gives none
    :param high: upper end
    """

    value: Any
    low: Any
    high: Any


def interquartile_mean(*strata: np.ndarray, axis: int = 0) -> Any:
    """
    :param strata: scores
    :param axis: along which they lie
    :return: the mean of the middle half, where each stratum weighs as much as any other
    """
    sizes = [scores.shape[axis] for scores in strata]
    scores = np.concatenate(strata, axis=axis)
    if len(set(sizes)) == 1:
        return stats.trim_mean(scores, TRIMMED, axis=axis)
    # scipy knows no weights: sort, and let count what lies within the middle half of all weights
    weights = np.concatenate([np.full(size, 1 / (size * len(sizes))) for size in sizes])
    scores = np.moveaxis(scores, axis, -1)
    order = scores.argsort(axis=-1)
    sorted_weights = weights[order]
    ends = sorted_weights.cumsum(axis=-1)
    inside = np.minimum(ends, 1 - TRIMMED) - np.maximum(ends - sorted_weights, TRIMMED)
    return np.average(np.take_along_axis(scores, order, axis=-1), axis=-1, weights=inside.clip(min=0))


def mean(*strata: np.ndarray, axis: int = 0) -> Any:
    """
    :param strata: scores
    :param axis: along which they lie
    :return: their mean, where each stratum weighs as much as any other
    """
    return np.mean([scores.mean(axis=axis) for scores in strata], axis=0)


def stratified_interval(strata: Strata, statistic: Callable[..., Any] = interquartile_mean) -> Interval:
    """
    A 95 % interval by the bootstrap (percentiles), in which each stratum is drawn again from itself.

    :param strata: scores, shape (n_seeds, ...) each; a statistic is made of each further element by itself
    :param statistic: of the strata, with ``axis``
    :return: the statistic and its interval
    """
    value = statistic(*strata, axis=0)
    if min(len(scores) for scores in strata) < 2:
        unknown = np.full(np.shape(value), np.nan)[()]
        return Interval(value, unknown, unknown)
    found = stats.bootstrap(
        strata,
        statistic,
        axis=0,
        vectorized=True,
        n_resamples=N_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(value, found.low, found.high)


def performance_profile(strata: Strata, thresholds: np.ndarray) -> Interval:
    """
    :param strata: scores
    :param thresholds: what to compare them with, shape (n_thresholds,)
    :return: the share of runs above each threshold, on average over the environments
    """
    return stratified_interval([(scores[:, None] > thresholds).astype(float) for scores in strata], mean)


def probability_of_improvement(ours: Strata, theirs: Strata) -> Interval:
    """
    :param ours: scores of one algorithm
    :param theirs: scores of another one in the same environments
    :return: how likely a run of the one is better than a run of the other, on average over the environments; ties
        count half
    """
    return stratified_interval([*ours, *theirs], _share_of_better_pairs)


def _share_of_better_pairs(*strata: np.ndarray, axis: int = 0) -> Any:
    half = len(strata) // 2
    shares = []
    for ours, theirs in zip(strata[:half], strata[half:], strict=True):
        x, y = np.moveaxis(ours, axis, -1)[..., :, None], np.moveaxis(theirs, axis, -1)[..., None, :]
        shares.append(((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1)))
    return np.mean(shares, axis=0)


def median_with_never(values: Sequence[float | None]) -> float | None:
    """
    :param values: of each seed; None for never
    :return: their median, where never is later than everything; None when that is never
    """
    median = float(np.median([np.inf if value is None else value for value in values]))
    return median if np.isfinite(median) else None


def first_reaching(mean_returns: Sequence[float], when: Sequence[float], threshold: float) -> float | None:
    """
    :param mean_returns: of the evaluations in order
    :param when: the step, or the second, of each
    :param threshold: a mean return
    :return: when it was reached first; None for never
    """
    return next((at for at, value in zip(when, mean_returns, strict=True) if value >= threshold), None)


def number(value: float) -> float | None:
    """
    :param value: a number
    :return: the same as JSON can hold it
    """
    return significant(value) if np.isfinite(value) else None


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
