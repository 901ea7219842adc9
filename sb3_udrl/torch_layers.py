"""How a command enters the network: its scaling, and the layer where it meets the observation."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch as th
from torch import nn


class CommandScaling(nn.Module):
    """
    Brings commands to the size of a network input, the only place where that happens.

    A command is clipped to the range of the commands in training batches (horizon at least 1; 1912.02877
    §2.3.2), and then multiplied by a scale. So who asks for more than was ever reached gets the most ambitious
    behaviour that was learned, for longer, instead of whatever the network makes of inputs it has never seen.

    Unless it is fixed, the scale follows the root mean square of the training commands, slowly enough for the
    weights behind it to keep up.

    All state is in float buffers, so that it is saved with the policy.

    :param return_scale: fixed factor for desired returns, as in the papers; None to follow the data
    :param horizon_scale: fixed factor for desired horizons (per environment step); None to follow the data
    :raises ValueError: when a fixed scale is not positive
    """

    low: th.Tensor
    high: th.Tensor
    scale: th.Tensor
    rate: th.Tensor

    MOMENTUM = 1e-3  # how far the scale moves with each training batch, in its logarithm

    def __init__(self, return_scale: float | None = None, horizon_scale: float | None = None) -> None:
        super().__init__()
        for name, value in (("return_scale", return_scale), ("horizon_scale", horizon_scale)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive, or None to follow the data.")
        # Each for (desired_return, desired_horizon): the range seen, the scale, and how fast it follows
        self.register_buffer("low", th.tensor([0.0, 1.0]))
        self.register_buffer("high", th.tensor([0.0, 1.0]))
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
        return th.clamp(commands, self.low, self.high) * self.scale

    def _widen(self, commands: th.Tensor) -> None:
        th.minimum(self.low, commands.amin(dim=0), out=self.low)
        th.maximum(self.high, commands.amax(dim=0), out=self.high)

    def _follow(self, commands: th.Tensor) -> None:
        size = commands.square().mean(dim=0).sqrt()
        # The first batch sets the scale; while all returns are zero there is nothing to scale by
        rate = self.rate * (size > 0)
        self.scale.copy_(self.scale ** (1 - rate) * size.clamp(min=th.finfo(size.dtype).tiny) ** -rate)
        self.rate.copy_(th.where(rate > 0, self.MOMENTUM, self.rate))


class CommandLayer(nn.Module, ABC):
    """
    The network's first layer, which mixes features with the command.

    :param features_dim: size F of the features
    :param embedding_dim: size E of the output
    :param activation_fn: activation of the embedding
    """

    def __init__(self, features_dim: int, embedding_dim: int, activation_fn: type[nn.Module]) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.activation = activation_fn()

    @abstractmethod
    def forward(self, features: th.Tensor, commands: th.Tensor) -> th.Tensor:
        """
        :param features: shape (B, F)
        :param commands: scaled commands, shape (B, 2)
        :return: shape (B, E)
        """


class GatedLayer(CommandLayer):
    """act(W x + b) * sigmoid(V c + d): the command opens and closes each feature (1912.02877 §3.2)."""

    def __init__(self, features_dim: int, embedding_dim: int, activation_fn: type[nn.Module]) -> None:
        super().__init__(features_dim, embedding_dim, activation_fn)
        self.features_net = nn.Linear(features_dim, embedding_dim)
        self.command_net = nn.Linear(2, embedding_dim)

    def forward(self, features: th.Tensor, commands: th.Tensor) -> th.Tensor:
        return self.activation(self.features_net(features)) * th.sigmoid(self.command_net(commands))


class ProductLayer(CommandLayer):
    """act(W x + b) * act(V c + d): both are embedded the same way (PyPI package upside-down-rl)."""

    def __init__(self, features_dim: int, embedding_dim: int, activation_fn: type[nn.Module]) -> None:
        super().__init__(features_dim, embedding_dim, activation_fn)
        self.features_net = nn.Linear(features_dim, embedding_dim)
        self.command_net = nn.Linear(2, embedding_dim)
        self.command_activation = activation_fn()

    def forward(self, features: th.Tensor, commands: th.Tensor) -> th.Tensor:
        return self.activation(self.features_net(features)) * self.command_activation(self.command_net(commands))


class BilinearLayer(CommandLayer):
    """act(W(c) x + b(c)), with weights and bias that are linear in the command (the 2019 authors' own notebook)."""

    def __init__(self, features_dim: int, embedding_dim: int, activation_fn: type[nn.Module]) -> None:
        super().__init__(features_dim, embedding_dim, activation_fn)
        self.features_dim = features_dim
        self.weight_net = nn.Linear(2, features_dim * embedding_dim)
        self.bias_net = nn.Linear(2, embedding_dim)

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
