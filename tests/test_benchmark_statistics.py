"""The benchmark's statistics are what they say, by brute force."""

import itertools

import numpy as np
import pytest

from sb3_udrl.benchmark.json_lines import significant
from sb3_udrl.benchmark.statistics import (
    first_reaching,
    interquartile_mean,
    mean,
    median_with_never,
    number,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    scores = np.array([100.0, 1, 2, 3, 4, -50, 5, 6])
    assert interquartile_mean(scores) == np.mean([2, 3, 4, 5])
    assert interquartile_mean(scores[:4], scores[4:]) == np.mean([2, 3, 4, 5])


def test_each_environment_counts_alike_however_many_seeds_it_has():
    few, many = np.array([0.0, 1.0]), np.arange(10.0) + 10
    assert interquartile_mean(few, many) == pytest.approx(interquartile_mean(np.repeat(few, 5), many))
    assert mean(few, many) == np.mean([0.5, 14.5])
    two = np.stack([few, few + 1]), np.stack([many, many + 1])
    expected = [interquartile_mean(few, many), interquartile_mean(few, many) + 1]
    assert interquartile_mean(*two, axis=1) == pytest.approx(expected)


def test_environments_with_any_numbers_of_seeds_have_an_interval(rng):
    strata = [rng.normal(size=size) for size in (19, 22, 23, 25)]  # no small number is divided by all of them
    interval = stratified_interval(strata)
    assert interval.low < interval.value < interval.high


def test_the_interval_of_three_scores_is_that_of_all_their_resamples(rng):
    scores = rng.normal(size=3)
    resamples = [np.mean(sample) for sample in itertools.product(scores, repeat=3)]
    expected = np.quantile(resamples, [0.025, 0.975], method="inverted_cdf")
    interval = stratified_interval([scores])
    assert interval.value == pytest.approx(scores.mean())
    assert [interval.low, interval.high] == pytest.approx(expected, abs=0.02)


def test_resampling_keeps_to_its_stratum():
    # Within each environment all seeds agree, so that nothing is left to chance
    interval = stratified_interval([np.full(5, 0.0), np.full(5, 10.0)], mean)
    assert tuple(interval) == (5, 5, 5)


def test_95_percent_intervals_of_means_hold_the_truth_about_as_often(rng):
    held = 0
    for _ in range(200):
        interval = stratified_interval([rng.normal(size=15), 3 + rng.normal(size=15)], mean)
        held += interval.low <= 1.5 <= interval.high
    assert 0.88 <= held / 200 <= 0.99


def test_one_seed_has_a_score_but_no_interval():
    interval = stratified_interval([np.array([7.0])])
    assert interval.value == 7
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)


def test_each_point_of_a_curve_has_its_own_interval(rng):
    curves = rng.normal(size=(6, 4))
    together = stratified_interval([curves])
    assert together.value == pytest.approx([interquartile_mean(column) for column in curves.T])
    alone = stratified_interval([curves[:, 2]])
    assert together.low[2] == pytest.approx(alone.low, abs=0.15)


def test_a_performance_profile_is_the_share_of_runs_above_each_threshold():
    strata = [np.array([1.0, 2, 3]), np.array([2.0, 4])]
    thresholds = np.array([0.0, 1, 2, 3.5, 4])
    profile = performance_profile(strata, thresholds)
    shares = [[(scores > threshold).mean() for scores in strata] for threshold in thresholds]
    assert profile.value == pytest.approx([np.mean(one) for one in shares])
    assert (profile.low <= profile.value).all()
    assert (profile.value <= profile.high).all()


def test_the_probability_of_improvement_counts_pairs_and_halves_ties(rng):
    ours, theirs = [rng.integers(0, 5, 7) * 1.0, rng.normal(size=4)], [rng.integers(0, 5, 6) * 1.0, rng.normal(size=9)]
    shares = [
        np.mean([1.0 if x > y else 0.5 if x == y else 0.0 for x in mine for y in other])
        for mine, other in zip(ours, theirs, strict=True)
    ]
    there, back = probability_of_improvement(ours, theirs), probability_of_improvement(theirs, ours)
    assert there.value == pytest.approx(np.mean(shares))
    assert there.value + back.value == pytest.approx(1)
    assert 0 <= there.low <= there.value <= there.high <= 1


def test_a_better_algorithm_is_better_for_certain():
    assert tuple(probability_of_improvement([np.arange(5.0) + 10], [np.arange(5.0)])) == (1, 1, 1)


def test_never_is_later_than_everything():
    assert median_with_never([5, 1, 9]) == 5
    assert median_with_never([5, None, 9]) == 9
    assert median_with_never([5, None, None]) is None
    assert median_with_never([1, 3, None, None]) is None


def test_small_returns_keep_their_digits():
    assert number(1.23456789e-5) == significant(1.23456789e-5) == 1.234568e-5
    assert (significant(0), significant(-9218.0637)) == (0, -9218.064)
    assert number(np.inf) is None


def test_a_threshold_is_reached_at_the_first_evaluation_at_or_above_it():
    assert first_reaching([1, 5, 4, 6], [0, 10, 20, 30], 5) == 10
    assert first_reaching([1, 5, 4, 6], [0, 10, 20, 30], 7) is None
