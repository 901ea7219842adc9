"""How a command enters the network: its scaling, and the layer where it meets the observation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch as th
from stable_baselines3.common.torch_layers import create_mlp
from torch import nn


class CommandScaling(nn.Module):
    """
    Brings commands to the size of a network input, the only place where that happens.

    A command is clipped to the range of the commands in training batches (returns: and 0; horizon at least 1, and no
    longer than in recent batches, unless its scale is fixed; 1912.02877 §2.3.2). So who asks for more than was ever
    reached gets the most ambitious behaviour that was learned, for longer, instead of whatever the network makes of
    inputs it has never seen.

    Then, as in the papers, it is multiplied by fixed scales; or, where none is given, brought to zero mean and unit
    variance by statistics that follow the training batches.

    All state is in float buffers, so that it is saved with the policy.

    :param return_scale: fixed factor for desired returns, as in the papers; None to follow the data
    :param horizon_scale: fixed factor for desired horizons (per environment step); None to follow the data
    :raises ValueError: when a fixed scale is not positive
    """

    low: th.Tensor
    high: th.Tensor
    mean: th.Tensor
    scale: th.Tensor
    rate: th.Tensor

    MOMENTUM = 1e-2  # how far the statistics move with each training batch
    EPSILON = 1e-3  # smallest standard deviation, relative to the size of the commands

    def __init__(self, return_scale: float | None = None, horizon_scale: float | None = None) -> None:
        super().__init__()
        for name, value in (("return_scale", return_scale), ("horizon_scale", horizon_scale)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive, or None to follow the data.")
        # Each for (desired_return, desired_horizon): the range seen, mean and scale, and how fast they follow
        self.register_buffer("low", th.tensor([0.0, 1.0]))
        self.register_buffer("high", th.tensor([0.0, 1.0]))
        self.register_buffer("mean", th.zeros(2))
        self.register_buffer("scale", th.tensor([return_scale or 1.0, horizon_scale or 1.0]))
        self.register_buffer("rate", th.tensor([0.0 if return_scale else 1.0, 0.0 if horizon_scale else 1.0]))

    def forward(self, commands: th.Tensor) -> th.Tensor:
        """
        :param commands: (desired_return, desired_horizon), shape (B, 2)
        :return: network inputs, shape (B, 2)
        """
        if self.training:
            self._widen(commands)
            self._follow(commands)
        return self.scale_only(commands)

    def scale_only(self, commands: th.Tensor) -> th.Tensor:
        """
        As :meth:`forward`, but in training nothing is learned about the range and size of commands.

        :param commands: (desired_return, desired_horizon), shape (B, 2)
        :return: network inputs, shape (B, 2)
        """
        return (th.clamp(commands, self.low, self.high) - self.mean) * self.scale

    def scale_rewards(self, rewards: th.Tensor) -> th.Tensor:
        """
        :param rewards: a part of a return, shape (B,)
        :return: by how much it changes the scaled return, shape (B,)
        """
        return rewards * self.scale[0]

    def _widen(self, commands: th.Tensor) -> None:
        th.minimum(self.low, commands.amin(dim=0), out=self.low)
        high = commands.amax(dim=0)
        # Horizons become shorter when a time limit is met, and what is no longer learned from should not be asked for.
        # Returns need no such care: what can be had from a state is learned (AchievableReturn)
        self.high[1].lerp_(high[1], self.rate[1])
        th.maximum(self.high, high, out=self.high)

    def _follow(self, commands: th.Tensor) -> None:
        size = commands.square().mean(dim=0).sqrt()
        # The first batch sets them; while all returns are zero there is nothing to scale by
        rate = self.rate * (size > 0)
        deviation = (commands - commands.mean(dim=0)).square().mean(dim=0).sqrt() + self.EPSILON * size
        self.mean.lerp_(commands.mean(dim=0), rate)
        self.scale.copy_(th.where(rate > 0, 1 / th.lerp(1 / self.scale, deviation, rate), self.scale))
        self.rate.copy_(th.where(rate > 0, self.MOMENTUM, self.rate))


class FeatureScaling(nn.Module):
    """
    Brings features to zero mean and unit variance, by statistics that follow the training batches.

    So observations may have any size, without VecNormalize, and what a batch was normalised with is saved with the
    policy. Normalised features are clipped, as VecNormalize does.

    :param features_dim: size F of the features
    :param epsilon: added to the variance, and to it relative to the squared mean (float32 resolves little more). It
        also bounds how much gradients grow on their way back to a features extractor that learns
    """

    mean: th.Tensor
    variance: th.Tensor
    rate: th.Tensor

    MOMENTUM = 1e-2  # how far the statistics move with each training batch
    CLIP = 5.0

    def __init__(self, features_dim: int, epsilon: float = 1e-12) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("mean", th.zeros(features_dim))
        self.register_buffer("variance", th.ones(features_dim))
        self.register_buffer("rate", th.ones(1))

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: shape (B, F)
        :return: normalised, shape (B, F)
        """
        if self.training:
            self._follow(features.detach())
        variance = self.variance + self.epsilon * (1 + self.mean.square())
        normalized = (features - self.mean) / variance.sqrt()
        return normalized.clamp(-self.CLIP, self.CLIP)

    def _follow(self, features: th.Tensor) -> None:
        # The first batch sets them
        self.mean.lerp_(features.mean(dim=0), self.rate)
        self.variance.lerp_((features - self.mean).square().mean(dim=0), self.rate)
        self.rate.fill_(self.MOMENTUM)


class ReturnEstimates(NamedTuple):
    """What B examples can be asked for, in units of scaled return."""

    achievable: th.Tensor
    """The most that can be asked for: a high expectile of what examples stand for. Shape: (B,)"""

    expected: th.Tensor
    """What to expect: the mean of what examples stand for. Shape: (B,)"""

    value: th.Tensor
    """What n-step returns go on with: the mean, or with less luck what is hoped for, of what came. Shape: (B,)"""

    smallest_room: float
    """The least that counts as room between expected and achievable; where all actions bring the same, it is noise."""

    def clip(self, commands: th.Tensor) -> th.Tensor:
        """
        :param commands: scaled commands, shape (B, 2)
        :return: the same, where none asks for more than can be had, shape (B, 2)
        """
        return th.stack([th.minimum(commands[:, 0], self.achievable), commands[:, 1]], dim=1)

    def relative(self, commands: th.Tensor) -> th.Tensor:
        """
        How ambitious commands are for their states: 0 asks for what is to be expected anyway, nearly 1 for the most,
        (command - expected) / (achievable - expected + smallest_room).

        One action changes little of a return, and what it changes is small beside the differences between states. Seen
        so, it is not.

        :param commands: scaled commands, shape (B, 2)
        :return: ambition, from -3 to 3, shape (B,)
        """
        room = (self.achievable - self.expected).clamp(min=0) + self.smallest_room
        return ((commands[:, 0] - self.expected) / room).clamp(-3, 3)


class AchievableReturn(nn.Module):
    """
    Knows how much can be had from a state within a horizon: a high expectile of the returns that examples stand for
    (asymmetric least squares, Newey & Powell 1987; for RL in 2110.06169 §4.1), so that a command need not ask for what
    nothing remembered is like. Unlike a quantile, an expectile also sees successes that are rarer than 1 - expectile.

    The best that is known *from this very state* is asked for, rather than the best ever: it gives credit for what
    an action changes, not for how good the state already was (learned in-distribution returns as commands: 2506.08463).
    Beside it stands what is to be expected, the mean, so that a command can be compared with it, and the value with
    which n-step returns go on. With all luck that is the same mean. With less it is what is to be *hoped for*, the high
    expectile of what came: as long as most attempts fail, on average the best is not to try (2110.06169 bootstraps with
    an expectile as well; this one is learned from what came, so it promises nothing that never was). Later in training
    ``hope``, which expectile that is, may fall to the mean: who hopes does not see what is risky.

    :param features_dim: size F of the features
    :param action_dim: size A of an action as a network input
    :param expectile: which expectile counts as achievable, between 0 and 1 (.5 is the mean)
    :param luck: as in :class:`sb3_udrl.policies.UDRLPolicy`
    :param net_arch: sizes of the hidden layers
    :raises ValueError: when ``expectile`` or ``luck`` is out of range
    """

    def __init__(self, features_dim: int, action_dim: int, expectile: float, luck: float, net_arch: list[int]) -> None:
        super().__init__()
        if not 0 < expectile < 1:
            raise ValueError(f"achievable_expectile={expectile} must lie between 0 and 1, or be None to clip nothing.")
        if not 0 < luck <= 1:
            raise ValueError(f"luck={luck} is a share: it must lie above 0, up to 1 for all of it.")
        self.expectile = expectile
        self.hope = expectile
        self.luck = luck
        # Less luck leaves smaller differences, so smaller ones count
        self.smallest_room = 0.1 * luck
        self.net = nn.Sequential(*create_mlp(features_dim + 1, 2 if luck == 1 else 3, net_arch))
        self.advantage_net = (
            None if luck == 1 else nn.Sequential(*create_mlp(features_dim + 1 + action_dim, 1, net_arch))
        )

    def forward(self, features: th.Tensor, commands: th.Tensor) -> ReturnEstimates:
        """
        :param features: shape (B, F)
        :param commands: scaled commands, of which only the horizon matters, shape (B, 2)
        :return: scaled returns, each of shape (B,)
        """
        achievable, expected, *value = self.net(self._inputs(features, commands)).unbind(dim=1)
        return ReturnEstimates(achievable, expected, value[0] if value else expected, self.smallest_room)

    def _inputs(self, features: th.Tensor, commands: th.Tensor) -> th.Tensor:
        # What the features are is the behaviour function's business
        return th.cat([features.detach(), commands[:, 1:]], dim=1)

    def without_luck(
        self, features: th.Tensor, commands: th.Tensor, actions: th.Tensor, estimates: ReturnEstimates, came: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        What an example brought was mostly the doing of the actions that followed. So that it tells what its own action
        is worth, only a share of that luck counts.

        :param features: shape (B, F)
        :param commands: scaled commands, of which only the horizon matters, shape (B, 2)
        :param actions: as network inputs, shape (B, A)
        :param estimates: for the same examples, each of shape (B,)
        :param came: the scaled returns that the examples brought, shape (B,)
        :return: what their actions bring on average and a share of the rest, and the loss of the average, each of shape
            (B,)
        """
        if self.advantage_net is None:
            return came, th.zeros_like(came)
        value = estimates.value.detach()
        advantages = self.advantage_net(th.cat([self._inputs(features, commands), actions], dim=1)).squeeze(dim=1)
        loss = 0.5 * (came - value - advantages).square()
        return th.lerp(value + advantages.detach(), came, self.luck), loss

    def loss(self, estimates: ReturnEstimates, relabeled: th.Tensor, returns: th.Tensor) -> th.Tensor:
        """
        :param estimates: for the states and horizons of examples, each of shape (B,)
        :param relabeled: the scaled returns they are examples for, shape (B,)
        :param returns: the scaled returns that came, shape (B,)
        :return: the loss of each, shape (B,)
        """
        loss = _expectile_loss(relabeled - estimates.achievable, self.expectile)
        if self.luck == 1:  # what examples stand for is what came, on average
            return loss + 0.5 * (returns - estimates.expected).square()
        loss = loss + 0.5 * (relabeled - estimates.expected).square()
        return loss + _expectile_loss(returns - estimates.value, self.hope)


def _expectile_loss(error: th.Tensor, expectile: float) -> th.Tensor:
    """:return: the squared error whose minimum is the expectile, shape (B,)"""
    return th.where(error > 0, expectile, 1 - expectile) * error.square()


class CommandLayer(nn.Module, ABC):
    """
    The network's first layer, which mixes features with the command.

    :param features_dim: size F of the features
    :param command_dim: size C of what is known of the command: return and horizon, and perhaps more
    :param embedding_dim: size E of the output
    :param activation_fn: activation of the embedding
    """

    def __init__(self, features_dim: int, command_dim: int, embedding_dim: int, activation_fn: type[nn.Module]) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.activation = activation_fn()

    @abstractmethod
    def forward(self, features: th.Tensor, commands: th.Tensor) -> th.Tensor:
        """
        :param features: shape (B, F)
        :param commands: scaled commands, shape (B, C)
        :return: shape (B, E)
        """


class GatedLayer(CommandLayer):
    """act(W x + b) * sigmoid(V c + d): the command opens and closes each feature (1912.02877 §3.2)."""

    def __init__(self, features_dim: int, command_dim: int, embedding_dim: int, activation_fn: type[nn.Module]) -> None:
        super().__init__(features_dim, command_dim, embedding_dim, activation_fn)
        self.features_net = nn.Linear(features_dim, embedding_dim)
        self.command_net = nn.Linear(command_dim, embedding_dim)

    def forward(self, features: th.Tensor, commands: th.Tensor) -> th.Tensor:
        return self.activation(self.features_net(features)) * th.sigmoid(self.command_net(commands))


class ProductLayer(CommandLayer):
    """act(W x + b) * act(V c + d): both are embedded the same way (PyPI package upside-down-rl)."""

    def __init__(self, features_dim: int, command_dim: int, embedding_dim: int, activation_fn: type[nn.Module]) -> None:
        super().__init__(features_dim, command_dim, embedding_dim, activation_fn)
        self.features_net = nn.Linear(features_dim, embedding_dim)
        self.command_net = nn.Linear(command_dim, embedding_dim)
        self.command_activation = activation_fn()

    def forward(self, features: th.Tensor, commands: th.Tensor) -> th.Tensor:
        return self.activation(self.features_net(features)) * self.command_activation(self.command_net(commands))


class BilinearLayer(CommandLayer):
    """act(W(c) x + b(c)), with weights and bias that are linear in the command (the 2019 authors' own notebook)."""

    def __init__(self, features_dim: int, command_dim: int, embedding_dim: int, activation_fn: type[nn.Module]) -> None:
        super().__init__(features_dim, command_dim, embedding_dim, activation_fn)
        self.features_dim = features_dim
        self.weight_net = nn.Linear(command_dim, features_dim * embedding_dim)
        self.bias_net = nn.Linear(command_dim, embedding_dim)

    def forward(self, features: th.Tensor, commands: th.Tensor) -> th.Tensor:
        weights = self.weight_net(commands).view(-1, self.features_dim, self.embedding_dim)
        # (B, 1, F) @ (B, F, E)
        embedding = th.bmm(features.unsqueeze(1), weights).squeeze(1) + self.bias_net(commands)
        return self.activation(embedding)


COMMAND_LAYERS: dict[str, type[CommandLayer]] = {
    "gated": GatedLayer,
    "bilinear": BilinearLayer,
    "product": ProductLayer,
}
