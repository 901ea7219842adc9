"""How commands enter the network: scaled, clipped, and multiplied in as the papers say."""

import pytest
import torch as th
from torch import nn

from sb3_udrl.torch_layers import (
    COMMAND_LAYERS,
    AchievableReturn,
    BilinearLayer,
    CommandScaling,
    FeatureScaling,
    GatedLayer,
    ProductLayer,
    ReturnEstimates,
)

FEATURES = th.tensor([[1.0, -2.0, 0.5], [0.3, 0.1, -0.7]])
COMMANDS = th.tensor([[2.0, 1.0], [-1.0, 3.0]])


def test_fixed_scales_multiply_return_and_horizon_in_this_order():
    scaling = CommandScaling(return_scale=0.5, horizon_scale=0.1)
    assert scaling(th.tensor([[20.0, 30.0]])).tolist() == [[10.0, 3.0]]


def test_the_first_batch_sets_mean_and_scale_and_later_ones_move_them_slowly():
    scaling = CommandScaling()
    inputs = scaling(th.tensor([[30.0, 3.0], [40.0, 4.0]]))
    assert inputs.mean(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert inputs.square().mean(dim=0).tolist() == pytest.approx([1.0, 1.0], rel=0.02)
    before = scaling.mean.clone()
    later = th.tensor([[3000.0, 300.0], [5000.0, 500.0]])
    scaling(later)
    th.testing.assert_close(scaling.mean, before + 0.01 * (later.mean(dim=0) - before))
    for _ in range(2_000):
        scaling(later)
    assert scaling.mean.tolist() == pytest.approx([4000, 400], rel=1e-2)
    assert scaling.scale.tolist() == pytest.approx([1 / 1000, 1 / 100], rel=1e-2)


def test_fixed_scales_never_move():
    scaling = CommandScaling(0.01, 0.02)
    scaling(th.tensor([[30.0, 3.0], [40.0, 4.0]]))
    assert scaling.scale.tolist() == pytest.approx([0.01, 0.02])
    assert scaling.mean.tolist() == [0.0, 0.0]


def test_returns_of_zero_leave_the_scale_alone_until_there_is_something_to_scale_by():
    scaling = CommandScaling()
    assert scaling(th.tensor([[0.0, 5.0], [0.0, 7.0]]))[:, 0].tolist() == [0.0, 0.0]
    assert scaling.scale[0] == 1.0
    inputs = scaling(th.tensor([[0.0, 5.0], [50.0, 7.0]]))
    assert inputs[:, 0].tolist() == pytest.approx([-1.0, 1.0], rel=0.01)


def test_inputs_are_clipped_to_what_was_seen_and_a_horizon_of_one():
    scaling = CommandScaling(1.0, 1.0)
    scaling(th.tensor([[-5.0, 1.0], [10.0, 20.0]]))
    scaling.eval()
    beyond = th.tensor([[100.0, 50.0], [-100.0, -3.0], [7.0, 7.0]])
    assert scaling(beyond).tolist() == [[10.0, 20.0], [-5.0, 1.0], [7.0, 7.0]]
    # Acting does not change what was seen
    assert scaling(beyond).tolist() == [[10.0, 20.0], [-5.0, 1.0], [7.0, 7.0]]


def test_horizons_that_are_no_longer_learned_from_are_no_longer_asked_for():
    scaling = CommandScaling()
    scaling(th.tensor([[0.0, 1.0], [10.0, 20.0]]))
    for _ in range(1_000):
        scaling(th.tensor([[0.0, 1.0], [5.0, 8.0]]))
    scaling.eval()
    th.testing.assert_close(scaling(th.tensor([[100.0, 100.0]])), scaling(th.tensor([[10.0, 8.0]])), atol=0.01, rtol=0)


def test_with_a_fixed_scale_horizons_are_clipped_to_all_that_were_seen():
    scaling = CommandScaling(1.0, 1.0)
    for horizon in [20.0] + 1_000 * [8.0]:
        scaling(th.tensor([[10.0, horizon]]))
    assert scaling.eval()(th.tensor([[100.0, 100.0]])).tolist() == [[10.0, 20.0]]


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_scales_must_be_positive(scale):
    with pytest.raises(ValueError, match="return_scale"):
        CommandScaling(return_scale=scale)
    with pytest.raises(ValueError, match="horizon_scale"):
        CommandScaling(horizon_scale=scale)


def test_all_state_is_in_float_buffers_so_that_it_is_saved():
    state = CommandScaling().state_dict()
    assert set(state) == {"low", "high", "mean", "scale", "rate"}
    assert all(value.dtype == th.float32 for value in state.values())


@pytest.mark.parametrize("activation_fn", [nn.Tanh, nn.ReLU, nn.PReLU])
def test_the_gated_layer_is_the_papers_formula(activation_fn):
    layer = GatedLayer(3, 2, 4, activation_fn)
    expected = layer.activation(FEATURES @ layer.features_net.weight.T + layer.features_net.bias) * th.sigmoid(
        COMMANDS @ layer.command_net.weight.T + layer.command_net.bias
    )
    th.testing.assert_close(layer(FEATURES, COMMANDS), expected)


def test_the_product_layer_multiplies_two_embeddings():
    layer = ProductLayer(3, 2, 4, nn.PReLU)
    expected = layer.activation(layer.features_net(FEATURES)) * layer.command_activation(layer.command_net(COMMANDS))
    th.testing.assert_close(layer(FEATURES, COMMANDS), expected)
    assert layer.activation is not layer.command_activation  # each PReLU learns its own slope


@th.no_grad()
def test_the_bilinear_layer_computes_its_weights_from_the_command():
    layer = BilinearLayer(3, 2, 4, nn.ReLU)
    for features, command, output in zip(FEATURES, COMMANDS, layer(FEATURES, COMMANDS), strict=True):
        weights = layer.weight_net(command).reshape(3, 4)
        expected = [
            max(0.0, sum(float(features[i] * weights[i, e]) for i in range(3)) + float(layer.bias_net(command)[e]))
            for e in range(4)
        ]
        assert output.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", COMMAND_LAYERS)
def test_every_layer_tells_return_from_horizon(name):
    layer = COMMAND_LAYERS[name](3, 2, 8, nn.Tanh)
    assert not th.allclose(layer(FEATURES, COMMANDS), layer(FEATURES, COMMANDS.flip(dims=[1])))


@pytest.mark.parametrize("size", [1e-5, 1.0, 1e5])
def test_features_of_any_size_are_the_same_to_the_network(size, rng):
    features = th.as_tensor(rng.normal(3.0, 2.0, (64, 3)), dtype=th.float32)
    expected = FeatureScaling(3).train()(features)
    assert th.allclose(FeatureScaling(3).train()(size * features), expected, atol=1e-2)


@pytest.mark.parametrize("value", [0.0, 1e-3, 1000.1, 77777.7])
def test_a_feature_that_never_changes_says_nothing_whatever_it_is(value):
    scaling = FeatureScaling(1).train()
    for _ in range(100):
        assert scaling(th.full((64, 1), value)).abs().max() < 0.2


def test_features_are_normalised_by_the_first_batch_and_then_slowly(rng):
    scaling = FeatureScaling(3)
    features = th.as_tensor(rng.normal([5.0, -2.0, 7.0], [10.0, 0.1, 0.0], (256, 3)), dtype=th.float32)
    normalized = scaling.train()(features)
    assert normalized.mean(dim=0).abs().max() < 1e-2
    assert normalized[:, :2].std(dim=0).sub(1).abs().max() < 0.1
    assert (normalized[:, 2] == 0).all()  # what never changes says nothing
    before = scaling.mean.clone()
    scaling(features + 100)
    th.testing.assert_close(scaling.mean, before + 1.0, atol=1e-3, rtol=0)


def test_features_far_outside_are_clipped_and_statistics_rest_while_acting():
    scaling = FeatureScaling(1)
    scaling.train()(th.tensor([[0.0], [2.0]]))
    before = scaling.state_dict()["mean"].clone()
    assert scaling.eval()(th.tensor([[1e9]])).item() == FeatureScaling.CLIP
    assert scaling.mean == before


def expectile_of_a_coin(p):
    """The e that balances .97 * p * (1 - e) = .03 * (1 - p) * e."""
    return 0.97 * p / (0.97 * p + 0.03 * (1 - p))


@pytest.mark.parametrize(
    ("luck", "hope", "expected", "value"),
    [(1.0, 0.97, 0.2, 0.2), (0.5, 0.97, 0.05, expectile_of_a_coin(0.2)), (0.5, 0.5, 0.05, 0.2)],
    ids=["mean", "hope", "no more hope"],
)
def test_what_is_achievable_and_hoped_for_sees_successes_that_are_rare(luck, hope, expected, value, rng):
    th.manual_seed(0)
    achievable = AchievableReturn(1, action_dim=2, expectile=0.97, luck=luck, net_arch=[64, 64])
    achievable.hope = hope
    optimizer = th.optim.Adam(achievable.parameters(), lr=1e-2)
    features, commands = th.zeros(256, 1), th.ones(256, 2)
    for _ in range(800):
        relabeled = th.as_tensor(rng.random(256) < 0.05, dtype=th.float32)
        came = th.as_tensor(rng.random(256) < 0.2, dtype=th.float32)
        loss = achievable.loss(achievable(features, commands), relabeled, came).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    estimates = achievable(th.zeros(1, 1), th.ones(1, 2))
    assert estimates.achievable.item() == pytest.approx(expectile_of_a_coin(0.05), abs=0.1)
    assert estimates.expected.item() == pytest.approx(expected, abs=0.05)
    assert estimates.value.item() == pytest.approx(value, abs=0.05)


def test_with_less_luck_smaller_differences_count():
    rooms = [
        AchievableReturn(1, 2, 0.97, luck, [8])(th.zeros(1, 1), th.ones(1, 2)).smallest_room for luck in (1.0, 0.1)
    ]
    assert rooms == pytest.approx([0.1, 0.01])


def test_only_commands_for_more_than_is_achievable_are_clipped():
    estimates = ReturnEstimates(th.tensor([2.0, 2.0, 2.0]), th.zeros(3), th.zeros(3), smallest_room=0.1)
    clipped = estimates.clip(th.tensor([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]]))
    assert clipped.tolist() == [[1.0, 7.0], [2.0, 7.0], [2.0, 7.0]]


def test_ambition_is_0_for_what_is_to_be_expected_and_nearly_1_for_the_most_that_can_be_had():
    achievable, expected = th.tensor([0.9, 0.9, 0.9, 7.0]), th.tensor([0.0, 0.0, 0.0, 7.0])
    estimates = ReturnEstimates(achievable, expected, value=expected, smallest_room=0.1)
    ambition = estimates.relative(th.tensor([[0.0, 1.0], [0.9, 1.0], [-100.0, 1.0], [7.05, 1.0]]))
    # The last knows of no room at all, which is no reason to divide by it
    assert ambition.tolist() == pytest.approx([0.0, 0.9, -3.0, 0.5], abs=1e-3)


def test_what_an_action_brings_on_average_is_known_however_large_the_luck(rng):
    th.manual_seed(0)
    achievable = AchievableReturn(1, action_dim=2, expectile=0.97, luck=1e-6, net_arch=[64, 64])
    optimizer = th.optim.Adam(achievable.parameters(), lr=1e-2)
    features, commands = th.zeros(256, 1), th.ones(256, 2)

    def without_luck(actions, came):
        estimates = achievable(features[: len(actions)], commands[: len(actions)])
        return achievable.without_luck(features[: len(actions)], commands[: len(actions)], actions, estimates, came)

    for _ in range(400):
        actions = th.as_tensor(rng.integers(2, size=256))
        came = 0.5 * actions + th.as_tensor(rng.normal(size=256), dtype=th.float32)
        _, loss = without_luck(nn.functional.one_hot(actions).float(), came)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    average, _ = without_luck(th.eye(2), came=th.tensor([100.0, -100.0]))
    assert average.tolist() == pytest.approx([0.0, 0.5], abs=0.2)


@pytest.mark.parametrize("luck", [0.0, -0.1, 1.1, float("nan")])
def test_luck_is_a_share(luck):
    with pytest.raises(ValueError, match="luck="):
        AchievableReturn(1, 2, 0.97, luck, [8])


@pytest.mark.parametrize("expectile", [0.0, 1.0, float("nan")])
def test_an_expectile_lies_between_0_and_1(expectile):
    with pytest.raises(ValueError, match="achievable_expectile="):
        AchievableReturn(1, 2, expectile, 1.0, [8])
