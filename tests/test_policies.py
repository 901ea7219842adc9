"""The behaviour function: every action space, commands that matter, and predict on observations alone."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule
from torch import nn

from sb3_udrl import UDRL
from sb3_udrl.buffer import NStep
from sb3_udrl.commands import Command
from sb3_udrl.policies import N_PROFILE_POINTS, MlpPolicy
from sb3_udrl.torch_layers import COMMAND_LAYERS

OBSERVATIONS = spaces.Box(-1, 1, (3,), np.float32)
ACTION_SPACES = [
    spaces.Discrete(4),
    spaces.MultiDiscrete([3, 2]),
    spaces.MultiBinary(3),
    spaces.Box(-1, 1, (2,), np.float32),
    spaces.Box(np.array([-1.0, 0.0]), np.array([5.0, 1.0]), dtype=np.float64),  # asymmetric, float64
    spaces.Box(-1, 1, (2, 3), np.float32),
    spaces.Box(-1, 1, (), np.float32),
]

BOXES = [space for space in ACTION_SPACES if isinstance(space, spaces.Box)]
EVERY_WAY_TO_ACT = [
    *(pytest.param(space, None, id=str(space)) for space in ACTION_SPACES),
    *(pytest.param(space, 5, id=f"{space} in 5 bins") for space in BOXES),
]


def make_policy(action_space=ACTION_SPACES[0], observation_space=OBSERVATIONS, **kwargs):
    th.manual_seed(0)
    policy = MlpPolicy(observation_space, action_space, ConstantSchedule(1e-3), **kwargs)
    # As if it had been trained on commands up to here
    policy.set_training_mode(True)
    policy.command_scaling(th.tensor([[-100.0, 1.0], [100.0, 100.0]]))
    policy.set_training_mode(False)
    return policy


def spy_on_commands(policy):
    """Collect the commands that reach the network."""
    seen = []
    forward = policy.command_scaling.forward
    policy.command_scaling.forward = lambda commands: (seen.append(commands.tolist()), forward(commands))[1]
    return seen


@pytest.mark.parametrize(("action_space", "n_action_bins"), EVERY_WAY_TO_ACT)
def test_predict_gives_actions_of_the_space(action_space, n_action_bins):
    policy = make_policy(action_space, n_action_bins=n_action_bins)
    action, _ = policy.predict(np.zeros(3, np.float32))
    assert action_space.contains(action)
    actions, _ = policy.predict(np.zeros((5, 3), np.float32))
    assert actions.shape == (5, *action_space.shape)
    assert all(action_space.contains(action) for action in actions)
    stored = policy(th.zeros(5, 3)).detach().numpy()
    assert stored.shape == actions.shape
    assert all(action_space.contains(action) for action in policy.to_env_actions(stored))


@pytest.mark.parametrize(("action_space", "n_action_bins"), EVERY_WAY_TO_ACT)
def test_log_probabilities_are_those_of_the_distribution_that_acts(action_space, n_action_bins):
    policy = make_policy(action_space, n_action_bins=n_action_bins)
    nn.init.normal_(policy.action_net.bias)  # else all are about equally likely
    observations, commands = th.rand(2000, 3), th.rand(2000, 2) * 10
    actions = policy(observations, commands).detach()
    log_prob, entropy, *_ = policy.evaluate_actions(observations, actions, commands)
    assert log_prob.shape == (2000,)
    # The mean of -log p over its own samples estimates the entropy
    assert -log_prob.mean().item() == pytest.approx(entropy.mean().item(), abs=0.1)


def test_after_n_steps_the_value_takes_the_place_of_what_came():
    policy = make_policy(spaces.Discrete(2), dropout_rate=0.0, luck=0.5)
    policy.achievable_return.luck = 1.0  # counts all of it, but keeps apart what is expected and what is hoped for
    observations, commands = th.rand(3, 3), th.tensor([[10.0, 5.0], [20.0, 6.0], [30.0, 7.0]])
    then, rewards, left = th.rand(3, 3), th.tensor([1.0, 2.0, 3.0]), th.tensor([4.0, 3.0, 2.0])
    policy.command_scaling.train()(commands)
    policy.set_training_mode(False)
    n_step = NStep(then, rewards, left, ended=th.tensor([False, False, True]))
    advantages = policy.evaluate_actions(observations, th.zeros(3), commands, n_step).advantages

    def estimates(observations, horizons):
        scaled = policy.command_scaling(th.stack([commands[:, 0], horizons], dim=1))
        return policy.achievable_return(policy._features(observations), scaled)

    scale, mean = policy.command_scaling.scale[0], policy.command_scaling.mean[0]
    # Estimates are of scaled returns, from which the mean of the returns that were seen is taken away
    value = estimates(then, left).value / scale + mean
    came = th.where(n_step.ended, commands[:, 0], rewards + value)
    th.testing.assert_close(
        advantages, (scale * (came - mean) - estimates(observations, commands[:, 1]).expected).detach()
    )


@pytest.mark.parametrize(("action_space", "n_action_bins"), EVERY_WAY_TO_ACT)
def test_of_luck_only_its_share_counts_beside_what_an_action_brings_on_average(action_space, n_action_bins):
    def example_advantages(luck, better_luck=0.0):
        """The same networks, told to count another share."""
        policy.achievable_return.luck = luck
        luckier = n_step._replace(rewards=n_step.rewards + better_luck)
        return policy.evaluate_actions(observations, actions, commands, luckier).advantages

    policy = make_policy(action_space, luck=0.5, dropout_rate=0.0, n_action_bins=n_action_bins)
    observations, commands = th.rand(100, 3), th.rand(100, 2) * 10 + 1
    n_step = NStep(th.rand(100, 3), th.rand(100), th.rand(100) + 1, ended=th.zeros(100, dtype=th.bool))
    policy.command_scaling.train()(commands)
    policy.set_training_mode(False)
    actions = policy(observations, commands).detach()
    none, half, all_of_it = example_advantages(0.0), example_advantages(0.5), example_advantages(1.0)
    th.testing.assert_close(half, (none + all_of_it) / 2)
    th.testing.assert_close(example_advantages(0.0, better_luck=5.0), none)
    assert (example_advantages(0.5, better_luck=5.0) > half).all()


def spy_on_command_inputs(policy):
    """What the command layer is shown from now on, call by call."""
    seen = []
    policy.command_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    return seen


def test_a_share_of_examples_stands_for_what_came_and_is_marked():
    policy = make_policy(spaces.Discrete(2), dropout_rate=0.0, luck=0.1, hindsight_fraction=0.4)
    observations, commands = th.rand(10, 3), th.rand(10, 2) * 10 + 1
    n_step = NStep(th.rand(10, 3), th.rand(10), th.rand(10) + 1, ended=th.zeros(10, dtype=th.bool))
    seen = spy_on_command_inputs(policy)
    chosen = policy.evaluate_actions(observations, th.zeros(10), commands, n_step).to_the_letter
    returns, _, ambitions, marks = seen[0].unbind(dim=1)
    came = policy.command_scaling(commands)[:, 0]
    assert chosen.sum() == 4
    assert th.equal(marks, chosen.float())
    th.testing.assert_close(returns[chosen], came[chosen])
    assert (returns[~chosen] != came[~chosen]).all()
    assert (ambitions[chosen] == 0.0).all()
    assert (ambitions[~chosen] != 0.0).all()


def test_what_is_thought_to_be_achievable_does_not_depend_on_the_share_that_is_marked():
    policy = make_policy(spaces.Discrete(2), dropout_rate=0.0, luck=0.1, hindsight_fraction=0.1)
    example = th.rand(10, 3), th.zeros(10), th.rand(10, 2) * 10 + 1
    n_step = NStep(th.rand(10, 3), th.rand(10), th.rand(10) + 1, ended=th.zeros(10, dtype=th.bool))
    few = policy.evaluate_actions(*example, n_step)
    policy.hindsight_fraction = 0.9
    many = policy.evaluate_actions(*example, n_step)
    assert many.to_the_letter.sum() == 9
    th.testing.assert_close(few.achievable_loss, many.achievable_loss)


@pytest.mark.parametrize(
    ("asked", "to_the_letter"), [(-1e6, True), (60.0, True), (70.0, False), (100.0, False), (1e6, False)]
)
def test_commands_for_less_than_is_achievable_are_meant_to_the_letter(asked, to_the_letter):
    assert marked_when_asked(asked, achievable=65.0) == to_the_letter


def test_as_much_as_ever_came_is_as_much_as_can_be_had_whatever_is_thought_to_be_achievable():
    assert not marked_when_asked(100.0, achievable=150.0)
    assert not marked_when_asked(1e6, achievable=150.0)
    assert marked_when_asked(90.0, achievable=150.0)


def marked_when_asked(desired_return, achievable, expected=50.0):
    """Whether a command is meant to the letter, where all that ever came is from -100 to 100."""
    policy = make_policy(spaces.Discrete(2), luck=0.1, hindsight_fraction=0.4, return_scale=1.0)
    estimates = policy.achievable_return.net[-1]
    nn.init.zeros_(estimates.weight)
    estimates.bias.data.copy_(th.tensor([achievable, expected, expected]))
    seen = spy_on_command_inputs(policy)
    policy.get_distribution(th.zeros(1, 3), th.tensor([[desired_return, 50.0]]))
    _, _, ambition, mark = seen[0][0].tolist()
    assert (ambition == 0.0) == (mark == 1.0)
    return mark == 1.0


@pytest.mark.parametrize("hindsight_fraction", [-0.1, 1.0, float("nan")])
def test_hindsight_is_a_share_of_the_examples(hindsight_fraction):
    with pytest.raises(ValueError, match=f"hindsight_fraction={hindsight_fraction}"):
        make_policy(hindsight_fraction=hindsight_fraction)


@pytest.mark.parametrize("kwargs", [{"luck": 0.1}, {}, {"luck": 0.1, "hindsight_fraction": 0.5}], ids=str)
def test_acting_and_estimating_teach_each_other_nothing(kwargs):
    policy = make_policy(spaces.Discrete(2), **kwargs)
    n_step = NStep(th.rand(3, 3), th.rand(3), th.rand(3) + 1, ended=th.tensor([False, False, True]))
    evaluation = policy.evaluate_actions(th.rand(3, 3), th.zeros(3), th.rand(3, 2) + 1, n_step)
    evaluation.log_prob.mean().backward()
    assert all(weight.grad is None for weight in policy.achievable_return.parameters())
    assert policy.action_net.weight.grad is not None
    policy.zero_grad()
    evaluation.achievable_loss.mean().backward()
    learned = {name for name, weight in policy.named_parameters() if weight.grad is not None}
    assert learned == {name for name, _ in policy.named_parameters() if name.startswith("achievable_return.")}


def test_box_actions_are_scaled_to_the_bounds_and_clipped_only_for_the_env():
    policy = make_policy(ACTION_SPACES[4])
    env_actions = policy.to_env_actions(np.array([[0.0, 0.0], [-1.0, 1.0], [7.0, -7.0]]))
    np.testing.assert_allclose(env_actions, [[2.0, 0.5], [-1.0, 1.0], [5.0, 0.0]])


@pytest.mark.parametrize("action_space", BOXES, ids=str)
def test_binned_actions_are_what_bins_stand_for_and_reach_both_bounds(action_space):
    policy = make_policy(action_space, n_action_bins=3)
    actions = policy(th.rand(500, 3), th.rand(500, 2) * 10)
    assert actions.unique().tolist() == [-1.0, 0.0, 1.0]
    env_actions = policy.to_env_actions(actions.numpy().reshape(-1, *action_space.shape))
    np.testing.assert_array_equal(env_actions.min(axis=0), action_space.low)
    np.testing.assert_array_equal(env_actions.max(axis=0), action_space.high)


@pytest.mark.parametrize("layer", COMMAND_LAYERS)
def test_the_command_changes_what_is_done(layer):
    policy = make_policy(command_layer=layer, ortho_init=False, return_scale=0.05, horizon_scale=0.05)
    nn.init.normal_(policy.action_net.weight)  # else all are about equally likely
    observations = th.zeros(1, 3)
    little, much = (
        policy.get_distribution(observations, th.tensor([command])).distribution.probs.detach().clone()
        for command in ([0.0, 10.0], [90.0, 90.0])
    )
    assert not th.allclose(little, much, atol=1e-3)


def test_counting_steps_makes_the_horizon_exact_and_follows_the_profile():
    policy = make_policy()
    policy.set_command(Command(10.0, 5.0))
    policy.profile.copy_(th.linspace(1.0, 0.2, N_PROFILE_POINTS))  # 2 of 10 come with the last of 5 steps
    seen = spy_on_commands(policy)
    state = None
    for _ in range(6):
        _, state = policy.predict(np.zeros(3, np.float32), state)
    expected = [[10, 5], [8, 4], [6, 3], [4, 2], [2, 1], [2, 0]]
    np.testing.assert_allclose(np.concatenate(seen), expected, atol=1e-5)


def test_where_all_episodes_keep_one_pace_the_command_has_no_part_in_it():
    policy = make_policy()
    policy.set_command(Command(10.0, 100.0))
    policy.pace.copy_(th.tensor([50.0, 26.0]))  # 2 for each step
    seen = spy_on_commands(policy)
    state = None
    for _ in range(3):
        _, state = policy.predict(np.zeros(3, np.float32), state)
    np.testing.assert_allclose(np.concatenate(seen), [[10, 100], [8, 99], [6, 98]], atol=1e-5)


def test_where_each_step_costs_it_also_does_after_the_end_of_the_best_episode():
    policy = make_policy()
    policy.set_command(Command(-10.0, 100.0))
    policy.profile.copy_(th.linspace(1.0, 0.5, N_PROFILE_POINTS))
    policy.pace.copy_(th.tensor([-4.0, 2.0]))  # 2 for each of 2 steps
    seen = spy_on_commands(policy)
    state = None
    for _ in range(5):
        _, state = policy.predict(np.zeros(3, np.float32), state)
    np.testing.assert_allclose(np.concatenate(seen)[:, 0], [-10, -8, -6, -4, -2], atol=1e-5)


def test_an_episode_start_begins_the_command_anew_in_its_env_only():
    policy = make_policy()
    policy.set_command(Command(10.0, 11.0))
    seen = spy_on_commands(policy)
    observations = np.zeros((2, 3), np.float32)
    _, state = policy.predict(observations, None, np.array([True, True]))
    _, state = policy.predict(observations, state, np.array([False, False]))
    policy.predict(observations, state, np.array([False, True]))
    np.testing.assert_allclose(seen[-1], [[8, 9], [10, 11]], atol=1e-5)


def test_episode_starts_may_be_numbers():
    policy = make_policy()
    _, (steps,) = policy.predict(np.zeros((2, 3), np.float32), (np.array([5, 7]),), np.array([1.0, 0.0]))
    assert steps.tolist() == [1, 8]


def test_looking_at_a_distribution_teaches_nothing():
    policy = MlpPolicy(OBSERVATIONS, ACTION_SPACES[0], ConstantSchedule(1e-3))
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    first, second = (policy.get_distribution(th.full((1, 3), 5.0)).distribution.probs for _ in range(2))
    assert th.equal(first, second)
    assert all(th.equal(value, before[key]) for key, value in policy.state_dict().items())


def test_without_state_every_step_is_the_first():
    policy = make_policy()
    policy.set_command(Command(10.0, 5.0))
    seen = spy_on_commands(policy)
    for _ in range(2):
        policy.predict(np.zeros(3, np.float32))
    assert seen == [[[10, 5]], [[10, 5]]]


def test_a_command_for_one_call_leaves_the_stored_one_alone():
    policy = make_policy()
    policy.set_command(Command(10.0, 5.0))
    seen = spy_on_commands(policy)
    observations = np.zeros((2, 3), np.float32)
    policy.predict(observations, command=Command(3.0, 2.0))
    policy.predict(observations, command=np.array([[1.0, 2.0], [3.0, 4.0]]))
    policy.predict(observations)
    assert seen == [[[3, 2], [3, 2]], [[1, 2], [3, 4]], [[10, 5], [10, 5]]]


def test_predict_refuses_what_does_not_fit():
    policy = make_policy()
    observations = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"command has shape \(3,\)"):
        policy.predict(observations, command=np.zeros(3))
    with pytest.raises(ValueError, match="horizon is 0"):
        policy.predict(observations, command=Command(5.0, 0.0))
    with pytest.raises(ValueError, match="the state of 3"):
        policy.predict(observations, state=(np.zeros(3, dtype=np.int64),))
    with pytest.raises(ValueError, match="mixing Gym API"):
        policy.predict((observations, {}))


@pytest.mark.parametrize(
    ("net_arch", "pi", "vf"),
    [
        (None, [128, 128], [64, 64]),
        ([8], [8], [8]),
        ({"pi": [8, 4], "vf": [16]}, [8, 4], [16]),
        ({"vf": [16]}, [], [16]),
        ({"pi": [8]}, [8], []),
    ],
    ids=str,
)
def test_hidden_layers_are_named_as_in_ppo(net_arch, pi, vf):
    policy = make_policy(luck=0.1, net_arch=net_arch)
    assert hidden_sizes(policy.mlp) == pi
    assert hidden_sizes(policy.achievable_return.net)[:-1] == vf
    assert hidden_sizes(policy.achievable_return.advantage_net)[:-1] == vf
    assert policy.action_net.in_features == (pi or [policy.embedding_dim])[-1]


def hidden_sizes(network):
    """The output size of each linear layer."""
    return [layer.out_features for layer in network if isinstance(layer, nn.Linear)]


def test_an_unknown_command_layer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'fourier'.*'gated', 'bilinear', 'product'"):
        make_policy(command_layer="fourier")


@pytest.mark.parametrize("n_action_bins", [None, 5])
def test_a_policy_saved_alone_keeps_its_command_and_all_its_settings(tmp_path, n_action_bins):
    policy = make_policy(
        ACTION_SPACES[3],
        net_arch=[8],
        activation_fn=nn.Tanh,
        command_layer="bilinear",
        embedding_dim=5,
        embedding_activation_fn=nn.PReLU,
        return_scale=0.3,
        log_std_init=-0.5,
        luck=0.1,
        hindsight_fraction=0.5,
        n_action_bins=n_action_bins,
    )
    policy.set_command(Command(7.0, 3.0))
    policy.save(tmp_path / "policy.pkl")
    loaded = MlpPolicy.load(tmp_path / "policy.pkl")
    assert loaded.command.tolist() == [7.0, 3.0]
    observations = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    for state in (None, (np.full(10, 2),)):
        expected, _ = policy.predict(observations, state, deterministic=True)
        np.testing.assert_array_equal(loaded.predict(observations, state, deterministic=True)[0], expected)


def test_units_are_dropped_in_training_only():
    policy = UDRL("MlpPolicy", "CartPole-v1", policy_kwargs={"dropout_rate": 0.5}).policy
    observations, commands = th.ones(1, 4), th.ones(1, 2)
    logits = {}
    for training in (True, False):
        policy.set_training_mode(training)
        draws = [policy.get_distribution(observations, commands).distribution.logits for _ in range(5)]
        logits[training] = {tuple(values.flatten().tolist()) for values in draws}
    assert len(logits[False]) == 1
    assert len(logits[True]) == 5


@pytest.mark.parametrize(("argument", "value"), [("dropout_rate", 1.0), ("embedding_dim", 0), ("embedding_dim", 2.5)])
def test_networks_through_which_nothing_could_pass_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"{argument}={value}"):
        UDRL("MlpPolicy", "CartPole-v1", policy_kwargs={argument: value})


@pytest.mark.parametrize("log_std_init", [-3.1, 1.0, float("nan")])
def test_a_standard_deviation_that_nothing_could_move_is_refused(log_std_init):
    with pytest.raises(ValueError, match=f"log_std_init={log_std_init} would never be learned"):
        UDRL("MlpPolicy", "Pendulum-v1", policy_kwargs={"log_std_init": log_std_init})
