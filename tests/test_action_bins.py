"""Box actions as choices between a few values."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_udrl.action_bins import ActionBins

BOX = spaces.Box(-2, 5, (2, 3), np.float32)


def test_bins_are_equally_spaced_between_the_bounds():
    assert ActionBins(5, BOX).values(np.arange(5)).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_the_networks_see_one_choice_for_each_dimension():
    assert ActionBins(5, BOX).space == spaces.MultiDiscrete([5] * 6)


@pytest.mark.parametrize("n_bins", [2, 3, 5, 16, 255])
def test_a_bin_is_nearest_to_what_it_stands_for(n_bins):
    bins = ActionBins(n_bins, BOX)
    assert bins.nearest(bins.values(th.arange(n_bins))).tolist() == list(range(n_bins))


def test_actions_that_were_not_chosen_from_bins_are_taken_for_the_nearest():
    assert ActionBins(3, BOX).nearest(th.tensor([-7.0, -0.6, -0.4, 0.4, 0.6, 7.0])).tolist() == [0, 0, 1, 1, 2, 2]


def test_of_uniformly_random_actions_every_bin_gets_the_same_share(rng):
    values, counts = np.unique(ActionBins(4, BOX).snap(rng.uniform(-1, 1, 20_000)), return_counts=True)
    np.testing.assert_allclose(values, [-1, -1 / 3, 1 / 3, 1])
    assert counts / 20_000 == pytest.approx(1 / 4, abs=0.02)


@pytest.mark.parametrize("bound", [-1.0, 1.0])
def test_the_bounds_belong_to_the_outermost_bins(bound):
    assert ActionBins(4, BOX).snap(np.array([bound])) == [bound]


@pytest.mark.parametrize("n_bins", [3, 3.0, np.int64(3)])
def test_whole_numbers_of_any_type_are_taken(n_bins):
    assert ActionBins(n_bins, BOX).space == spaces.MultiDiscrete([3] * 6)


@pytest.mark.parametrize("n_bins", [1, 0, 2.5, "5", float("inf")])
def test_bins_that_leave_no_choice_are_refused(n_bins):
    with pytest.raises(ValueError, match=f"n_action_bins={n_bins}.*at least 2"):
        ActionBins(n_bins, BOX)
