"""Commands count down exactly, and each sampler asks for what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sb3_udrl.commands import (
    COMMAND_SAMPLERS,
    BestEpisodeSampler,
    Command,
    MeanStdSampler,
    MoreSampler,
    count_down,
    earning_profile,
    expected_return_so_far,
    keep_one_pace,
    return_at_one_pace,
)

RETURNS = np.array([3.0, -1.0, 10.0, 8.0])
LENGTHS = np.array([5, 7, 20, 10])


@pytest.mark.parametrize(
    ("command", "message"),
    [((np.nan, 5), "finite"), ((1, np.inf), "finite"), ((500, 0.5), "horizon is 0.5"), ((9, -3), "in this order")],
)
def test_commands_that_nobody_can_obey_are_refused(command, message):
    with pytest.raises(ValueError, match=message):
        Command(*command).checked()


def test_a_command_is_return_first_then_horizon():
    assert Command(7.0, 3.0) == (7.0, 3.0)
    assert Command(7.0, 3.0).desired_horizon == 3.0


def test_one_step_of_counting_down_by_hand():
    commands = np.array([[10.0, 4.0], [5.0, 9.0]])
    remaining = count_down(commands, return_so_far=np.array([2.5, -1.0]), steps_so_far=np.array([1, 2]))
    assert remaining.tolist() == [[7.5, 3.0], [6.0, 7.0]]


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=50), st.floats(-1e3, 1e3), st.floats(1, 1e3))
def test_counting_down_is_what_algorithm_2_does_step_by_step(rewards, desired_return, desired_horizon):
    expected_return, expected_horizon = desired_return, desired_horizon
    for reward in rewards:
        expected_return -= reward
        expected_horizon -= 1
    remaining = count_down(
        np.array([[desired_return, desired_horizon]]), np.array([sum(rewards)]), np.array([len(rewards)])
    )
    np.testing.assert_allclose(remaining[0], [expected_return, expected_horizon], atol=1e-6)


def test_the_papers_sampler_draws_from_the_mean_to_one_standard_deviation_above(rng):
    sampler = MeanStdSampler(last_few=2)  # looks at the returns 10 and 8
    commands = [sampler.sample(RETURNS, LENGTHS, rng) for _ in range(500)]
    returns = [command.desired_return for command in commands]
    assert 9 <= min(returns) < 9.1
    assert 9.9 < max(returns) <= 10
    assert np.mean(returns) == pytest.approx(9.5, abs=0.05)
    assert {command.desired_horizon for command in commands} == {15.0}


@pytest.mark.parametrize(
    ("reward_per_step", "rho"),
    [(1.0, 1), (-1.0, -1), (0.0, 0)],  # each step pays, each step costs, length does not matter
)
def test_the_best_episode_sampler_stretches_horizons_the_way_in_which_lengths_go_with_returns(
    reward_per_step, rho, rng
):
    lengths = np.array([10, 20, 30])
    returns = reward_per_step * lengths if reward_per_step else np.array([5.0, 7.0, 5.0])
    sampler = BestEpisodeSampler(last_few=1, max_factor=2.0)
    best = int(np.argmax(returns))
    factors = []
    for _ in range(300):
        command = sampler.sample(returns, lengths, rng)
        factors.append(1 + (command.desired_return - returns[best]) / abs(returns[best]))
        assert command.desired_horizon == pytest.approx(lengths[best] * factors[-1] ** rho)
    assert 1 <= min(factors) < 1.02
    assert 1.98 < max(factors) <= 2


def test_the_best_episode_sampler_starts_from_any_of_the_best_few(rng):
    sampler = BestEpisodeSampler(last_few=2, max_factor=1.0)
    assert {sampler.sample(RETURNS, LENGTHS, rng) for _ in range(100)} == {(10.0, 20.0), (8.0, 10.0)}


def test_more_than_a_negative_return_is_closer_to_zero(rng):
    sampler = BestEpisodeSampler(last_few=1, max_factor=1.5)
    returns = [sampler.sample(np.array([-100.0]), np.array([50]), rng).desired_return for _ in range(100)]
    assert -100 <= min(returns) < max(returns) <= -50


def test_more_asks_for_more_than_ever_in_all_the_time_there_is(rng):
    command = MoreSampler().sample(RETURNS, LENGTHS, rng)
    assert command.desired_return == RETURNS.max() + (RETURNS.max() - RETURNS.min())
    assert command.desired_horizon == 10 * LENGTHS.max()


@pytest.mark.parametrize(("returns", "asked"), [([500.0] * 3, 1000.0), ([90.0, 100.0], 200.0), ([-75.0, -80.0], 0.0)])
def test_more_leaves_as_much_as_was_ever_earned_even_at_the_end_of_a_best_episode(returns, asked):
    command = MoreSampler().evaluation_command(np.array(returns), np.full(len(returns), 500))
    assert command.desired_return == asked
    assert command.desired_return - max(returns) >= abs(max(returns))


@pytest.mark.parametrize("name", ["best_episode", "mean_std"])
def test_what_is_asked_in_evaluation_has_been_reached_before(name):
    command = COMMAND_SAMPLERS[name](last_few=2).evaluation_command(RETURNS, LENGTHS)
    assert command == Command(9.0, 15.0)


@pytest.mark.parametrize("name", COMMAND_SAMPLERS)
def test_samplers_need_an_episode_to_start_from(name, rng):
    with pytest.raises(ValueError, match="No episode has finished"):
        COMMAND_SAMPLERS[name]().sample(np.zeros(0), np.zeros(0), rng)
    with pytest.raises(ValueError, match="last_few=0"):
        COMMAND_SAMPLERS[name](last_few=0)


@pytest.mark.parametrize("factor", [0.5, float("nan"), float("inf"), "2"])
def test_a_factor_that_asks_for_less_or_for_no_number_is_refused(factor):
    with pytest.raises(ValueError, match=f"max_factor='?{factor}"):
        BestEpisodeSampler(max_factor=factor)


@pytest.mark.parametrize("n_stds", [-1.0, float("nan"), float("inf"), "1e-1"])
def test_standard_deviations_that_ask_for_less_or_for_no_number_are_refused(n_stds):
    with pytest.raises(ValueError, match=f"n_stds='?{n_stds}"):
        MeanStdSampler(n_stds=n_stds)


def test_the_profile_of_constant_rewards_falls_evenly():
    returns_to_go = np.cumsum(np.ones(50))[::-1]
    # Exact at each step: after t of 50 steps, 50 - t are to come
    profile = earning_profile([returns_to_go], 101)
    steps = np.arange(50)
    np.testing.assert_allclose(np.interp(steps / 49, np.linspace(0, 1, 101), profile), (50 - steps) / 50)


def test_the_profile_of_a_final_reward_stays_up_to_the_end():
    returns_to_go = np.full(30, -7.0)
    np.testing.assert_array_equal(earning_profile([returns_to_go, returns_to_go[:1]], 101), np.ones(101))


def test_a_return_of_about_zero_has_no_profile_of_its_own():
    returns_to_go = np.array([0.0, 100.0, 50.0, 10.0])
    np.testing.assert_allclose(earning_profile([returns_to_go], 11), np.linspace(1, 0, 11))


def to_go(rewards):
    return np.cumsum(rewards[::-1])[::-1]


def test_who_is_paid_for_each_step_keeps_one_pace():
    episodes = [to_go(np.ones(length)) for length in (50, 10, 30)]
    profile = earning_profile(episodes[:1], 101)
    assert keep_one_pace(episodes, profile, Command(50.0, 50.0))
    assert keep_one_pace(episodes[:1], profile, Command(50.0, 50.0))
    # After 20 steps each has earned 20, whatever was asked; but nobody ever had more than 50
    np.testing.assert_allclose(return_at_one_pace(profile, np.array([50.0, 50.0]), np.array([20, 49])), [20, 49])
    assert return_at_one_pace(profile, np.array([50.0, 50.0]), np.array([300])) <= 50


def test_who_pays_for_each_step_goes_on_paying_for_longer_than_the_best_did():
    episodes = [to_go(-np.ones(length)) for length in (62, 75, 120, 300, 500)]
    profile = earning_profile(episodes[:1], 101)
    assert keep_one_pace(episodes, profile, Command(-62.0, 62.0))
    steps = np.arange(500)
    np.testing.assert_allclose(return_at_one_pace(profile, np.array([-62.0, 62.0]), steps), -steps, atol=1e-9)


def test_who_is_faster_or_slower_does_not():
    episodes = [to_go(np.full(40, speed)) for speed in (4.0, 1.0, 2.0)]
    assert not keep_one_pace(episodes, earning_profile(episodes[:1], 101), Command(160.0, 40.0))


def test_who_is_paid_at_the_end_has_earned_nothing_before():
    profile = earning_profile([np.full(20, 9.0)], 101)
    steps = np.arange(100)
    for pace in ([9.0, 20.0], [3.0, 100.0], [-9.0, 20.0]):
        assert not expected_return_so_far(profile, np.array(pace), steps).any()
        assert not return_at_one_pace(profile, np.array(pace), steps).any()
