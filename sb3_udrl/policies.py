"""The behaviour function B(a | s, c) as Stable-Baselines3 policies."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution, make_proba_distribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space, preprocess_obs
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    create_mlp,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_udrl.action_bins import ActionBins
from sb3_udrl.arguments import check_numbers, positive_int
from sb3_udrl.buffer import NStep
from sb3_udrl.commands import Command, count_down, expected_return_so_far, return_at_one_pace
from sb3_udrl.episodes import observation_dict
from sb3_udrl.torch_layers import (
    COMMAND_LAYERS,
    AchievableReturn,
    CommandLayer,
    CommandScaling,
    FeatureScaling,
    ReturnEstimates,
)
from sb3_udrl.wrappers import split_progress, strip_progress_space

N_PROFILE_POINTS = 101
LOG_STD_RANGE = (-3.0, 0.5)
"""Of Box actions scaled to [-1, 1]: on a few good episodes the likelihood is highest without any noise, so bound it."""


class ActionEvaluation(NamedTuple):
    """What the policy says of B examples."""

    log_prob: th.Tensor
    """log π(a | s, c). Shape: (B,)"""

    entropy: th.Tensor | None
    """Entropy of the action distribution, None where it has no closed form. Shape: (B,)"""

    advantages: th.Tensor
    """How much better they did than is to be expected, in units of scaled return; 0 without estimates. Shape: (B,)"""

    to_the_letter: th.Tensor
    """Whether they were shown with the return that came, and marked so, bool. Shape: (B,)"""

    achievable_loss: th.Tensor
    """Loss of what is thought to be achievable, expected and hoped for; 0 without estimates. Shape: (B,)"""


class UDRLPolicy(BasePolicy):
    """
    The behaviour function: features of the observation meet the command, then an MLP gives the action distribution.

    Box actions are bins, or normal in the space scaled to [-1, 1]; see :meth:`to_env_actions`.

    :param observation_space: observation space, with or without what EpisodeProgress adds to it
    :param action_space: action space
    :param lr_schedule: learning rate schedule
    :param net_arch: sizes of hidden layers, as PPO has it: ``dict(pi=..., vf=...)``, where pi are those behind the
        command layer and vf those of the networks that know what is achievable, or a list for both; default
        ``dict(pi=[128, 128], vf=[64, 64])``, without those of pi behind a CNN
    :param activation_fn: their activation
    :param command_layer: how the command enters: ``"product"``, ``"gated"`` or ``"bilinear"``, or a class
        (:mod:`sb3_udrl.torch_layers`)
    :param embedding_dim: output size of the command layer
    :param embedding_activation_fn: its activation
    :param return_scale: fixed factor for desired returns (the papers' return scale); None to follow the data
    :param horizon_scale: fixed factor for desired horizons (the papers' horizon scale); None to follow the data
    :param achievable_expectile: a command for more than this expectile of what examples stand for, from a state within
        a horizon, is clipped to it, and the network is also told how ambitious a command is for its state
        (:class:`sb3_udrl.torch_layers.AchievableReturn`); None for neither
    :param luck: how much of what an example brought counts in its desired return, beyond what its state and action
        bring on average: above 0, to 1 for all of it. Less tells actions apart that chance hides (2205.15967, "You
        Can't Count on Luck"). Any value below 1 also lets n-step returns go on with what is to be *hoped for*, not the
        mean (with ``hope_fraction`` of UDRL it fades): leave it at 1 where chance is the environment's doing, and not
        the agent's own. Needs ``relabeling="n_step"``; not looked at without an ``achievable_expectile``
    :param hindsight_fraction: share of each batch that is shown with the return that came (1912.02877 §2.2.1), and
        marked for the network: to the letter; the rest is relabeled. A command for less than is achievable is marked as
        well. With ``luck`` below 1 relabeled examples all stand for nearly as much as can be had, so commands for less
        want such a share (.5 is what was tried). Needs ``relabeling="n_step"``; 0 for none
    :param normalize_features: whether to normalise features by running statistics
        (:class:`sb3_udrl.torch_layers.FeatureScaling`)
    :param dropout_rate: probability that a unit of the command layer or of a hidden layer is left out in training
        (1207.0580), since a small buffer is read many times over; 0 for none
    :param ortho_init: whether to initialise orthogonally, as A2C and PPO do
    :param n_action_bins: each dimension of a Box action is one of that many values, equally spaced from its lower to
        its upper bound, see :class:`sb3_udrl.action_bins.ActionBins`; None for a normal distribution
    :param log_std_init: initial log standard deviation of normal Box actions, in the space scaled to [-1, 1]: from -3
        to 0.5, the range that it is kept in
    :param features_extractor_class: features extractor
    :param features_extractor_kwargs: its keyword arguments
    :param normalize_images: whether to divide images by 255
    :param optimizer_class: optimizer
    :param optimizer_kwargs: its keyword arguments, without the learning rate; default for Adam: ``fused=True``
    """

    command: th.Tensor
    profile: th.Tensor
    pace: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        command_layer: str | type[CommandLayer] = "product",
        embedding_dim: int = 128,
        embedding_activation_fn: type[nn.Module] = nn.Tanh,
        return_scale: float | None = None,
        horizon_scale: float | None = None,
        achievable_expectile: float | None = 0.97,
        luck: float = 1.0,
        hindsight_fraction: float = 0.0,
        normalize_features: bool = True,
        dropout_rate: float = 0.25,
        ortho_init: bool = True,
        n_action_bins: int | None = None,
        log_std_init: float = 0.0,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if optimizer_kwargs is None:
            # All parameters in one call: with networks this small, a fifth of the time of a gradient step
            optimizer_kwargs = {"fused": True} if optimizer_class == th.optim.Adam else {}
        super().__init__(
            strip_progress_space(observation_space),
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            normalize_images=normalize_images,
        )
        if net_arch is None:
            net_arch = {"pi": [] if features_extractor_class == NatureCNN else [128, 128], "vf": [64, 64]}
        self.net_arch = net_arch
        self.activation_fn = activation_fn
        self.command_layer_class = command_layer
        self.embedding_dim = positive_int("embedding_dim", embedding_dim, "units")
        self.embedding_activation_fn = embedding_activation_fn
        self.return_scale = return_scale
        self.horizon_scale = horizon_scale
        self.achievable_expectile = achievable_expectile
        self.luck = luck
        self.hindsight_fraction = hindsight_fraction
        self.normalize_features = normalize_features
        check_numbers(
            dropout_rate=dropout_rate, luck=luck, hindsight_fraction=hindsight_fraction, log_std_init=log_std_init
        )
        check_numbers(
            or_none=True,
            return_scale=return_scale,
            horizon_scale=horizon_scale,
            achievable_expectile=achievable_expectile,
        )
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate={dropout_rate} is a probability: use a value from 0 to below 1.")
        self.dropout_rate = dropout_rate
        if not 0 <= hindsight_fraction < 1:
            raise ValueError(
                f"hindsight_fraction={hindsight_fraction} is a share: use a value from 0 to below 1; if all examples "
                "are to stand for what came, relabeling='hindsight' and luck=1."
            )
        self.ortho_init = ortho_init
        if not LOG_STD_RANGE[0] <= log_std_init <= LOG_STD_RANGE[1]:
            raise ValueError(
                f"log_std_init={log_std_init} would never be learned from: log standard deviations are kept within "
                f"{LOG_STD_RANGE}, so start there."
            )
        self.log_std_init = log_std_init
        self.n_action_bins = n_action_bins
        self.action_bins: ActionBins | None = None
        if isinstance(self.action_space, spaces.Box) and n_action_bins is not None:
            self.action_bins = ActionBins(n_action_bins, self.action_space)

        # The command for acting, and how returns are earned over an episode: see predict()
        self.register_buffer("command", th.tensor([0.0, 1.0]))
        self.register_buffer("profile", th.linspace(1.0, 0.0, N_PROFILE_POINTS))
        # Return and length of the best episode, if all keep its pace; zeros if they earn as commanded
        self.register_buffer("pace", th.zeros(2))
        self.command_scaling = CommandScaling(return_scale, horizon_scale)
        self._build(lr_schedule)
        # Only UDRL.train() trains: else every look at a distribution would move the statistics of commands and features
        self.set_training_mode(False)

    def _build(self, lr_schedule: Schedule) -> None:
        """
        Create the networks and the optimizer.

        :param lr_schedule: learning rate schedule, called with 1 for the initial rate
        """
        self.features_extractor = self.make_features_extractor()
        features_dim = self.features_extractor.features_dim
        # Features that are learned change all the time: small ones are noise, and must not get large gradients
        epsilon = 1e-6 if list(self.features_extractor.parameters()) else 1e-12
        self.feature_scaling = FeatureScaling(features_dim, epsilon) if self.normalize_features else nn.Identity()
        self.achievable_return: AchievableReturn | None = None
        if self.achievable_expectile is not None:
            action_dim = get_flattened_obs_dim(self._modelled_space())
            self.achievable_return = AchievableReturn(
                features_dim, action_dim, self.achievable_expectile, self.luck, self._hidden_layers("vf")
            )
        layer_class = self.command_layer_class
        if isinstance(layer_class, str):
            if layer_class not in COMMAND_LAYERS:
                raise ValueError(
                    f"command_layer={layer_class!r} is not known: use one of {', '.join(map(repr, COMMAND_LAYERS))}, "
                    "or a subclass of CommandLayer."
                )
            layer_class = COMMAND_LAYERS[layer_class]
        command_dim = 2
        if self.achievable_return is not None:
            command_dim = 3 if self.hindsight_fraction == 0 else 4  # see _command_inputs()
        self.command_layer: CommandLayer = layer_class(
            features_dim, command_dim, self.embedding_dim, self.embedding_activation_fn
        )
        hidden = self._hidden_layers("pi")
        latent_dim = hidden[-1] if hidden else self.embedding_dim
        layers = create_mlp(
            self.embedding_dim,
            -1,
            hidden,
            self.activation_fn,
            pre_linear_modules=[lambda _: nn.Dropout(self.dropout_rate)],  # type: ignore[list-item]
        )
        self.mlp = nn.Sequential(*layers, nn.Dropout(self.dropout_rate))

        self.action_dist = make_proba_distribution(self._modelled_space())
        if isinstance(self.action_dist, DiagGaussianDistribution):
            # Mean and log std: careful commands and careless ones need different noise
            self.action_net = nn.Linear(latent_dim, 2 * self.action_dist.action_dim)
        else:
            self.action_net = self.action_dist.proba_distribution_net(latent_dim=latent_dim)  # type: ignore[assignment]

        if self.ortho_init:
            # Not the command layer: without biases it would pass no command on where features are zero
            for module, gain in ((self.mlp, np.sqrt(2)), (self.action_net, 0.01)):
                module.apply(partial(self.init_weights, gain=gain))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _hidden_layers(self, name: str) -> list[int]:
        """:return: sizes of the hidden layers that ``net_arch`` has under this name"""
        return self.net_arch.get(name, []) if isinstance(self.net_arch, dict) else self.net_arch

    def _modelled_space(self) -> spaces.Space:
        """:return: the action space as the networks see it"""
        return self.action_space if self.action_bins is None else self.action_bins.space

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(
            lr_schedule=self._dummy_schedule,  # not needed to act
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            command_layer=self.command_layer_class,
            embedding_dim=self.embedding_dim,
            embedding_activation_fn=self.embedding_activation_fn,
            return_scale=self.return_scale,
            horizon_scale=self.horizon_scale,
            achievable_expectile=self.achievable_expectile,
            luck=self.luck,
            hindsight_fraction=self.hindsight_fraction,
            normalize_features=self.normalize_features,
            dropout_rate=self.dropout_rate,
            ortho_init=self.ortho_init,
            n_action_bins=self.n_action_bins,
            log_std_init=self.log_std_init,
            features_extractor_class=self.features_extractor_class,
            features_extractor_kwargs=self.features_extractor_kwargs,
            optimizer_class=self.optimizer_class,
            optimizer_kwargs=self.optimizer_kwargs,
        )
        return data

    def get_distribution(self, obs: PyTorchObs, commands: th.Tensor | None = None) -> Distribution:
        """
        B(a | s, c).

        :param obs: observations, shape (B, *observation_shape), per key for Dict spaces
        :param commands: (desired_return, desired_horizon), shape (B, 2); default: the evaluation command for all
        :return: the distribution over actions
        """
        features = self._features(obs)
        if commands is None:
            commands = self.command.expand(len(features), 2)
        commands = self.command_scaling(commands)
        if self.achievable_return is None:
            return self._distribution(features, commands)
        estimates = self.achievable_return(features, commands)
        # Estimates may be beyond all that ever came, to which commands are clipped: such a one still asks for the most
        most = self.command_scaling.scale_only(th.full_like(commands, th.inf))[:, 0]
        to_the_letter = commands[:, 0] < th.minimum(estimates.achievable, most)
        return self._distribution(features, self._command_inputs(estimates.clip(commands), estimates, to_the_letter))

    def _features(self, obs: PyTorchObs) -> th.Tensor:
        """:return: what the networks see of observations, shape (B, F)"""
        return self.feature_scaling(self.extract_features(obs, self.features_extractor))

    def _command_inputs(self, commands: th.Tensor, estimates: ReturnEstimates, to_the_letter: th.Tensor) -> th.Tensor:
        """
        :param commands: scaled, shape (B, 2)
        :param estimates: for the same states and horizons
        :param to_the_letter: whether just that return is meant, and not as much as can be had, bool, shape (B,)
        :return: what the command layer sees: return, horizon, ambition, and with a ``hindsight_fraction`` the mark,
            shape (B, 3 or 4)
        """
        ambition = estimates.relative(commands).detach()
        if self.hindsight_fraction == 0:
            return th.column_stack([commands, ambition])
        # What is to be expected is no measure for it: with less luck, hardly anything that came lies near it
        return th.column_stack([commands, ambition.where(~to_the_letter, 0.0), to_the_letter])

    def _choose_hindsight(self, returns: th.Tensor) -> th.Tensor:
        """:return: which of B examples are shown with the return that came, never the first, bool, shape (B,)"""
        numbers = th.arange(1, len(returns) + 1, device=returns.device)
        return numbers * self.hindsight_fraction % 1.0 < self.hindsight_fraction

    def _distribution(self, features: th.Tensor, commands: th.Tensor) -> Distribution:
        """:return: the distribution over actions, given features and what the command layer sees of commands"""
        outputs = self.action_net(self.mlp(self.command_layer(features, commands)))
        if isinstance(self.action_dist, DiagGaussianDistribution):
            mean, log_std = outputs.chunk(2, dim=1)
            return self.action_dist.proba_distribution(mean, (self.log_std_init + log_std).clamp(*LOG_STD_RANGE))
        return self.action_dist.proba_distribution(action_logits=outputs)

    def evaluate_actions(
        self, obs: PyTorchObs, actions: th.Tensor, commands: th.Tensor, n_step: NStep | None = None
    ) -> ActionEvaluation:
        """
        :param obs: observations, shape (B, *observation_shape)
        :param actions: actions as the buffer stores them, shape (B, *action_shape)
        :param commands: the commands they obeyed, shape (B, 2)
        :param n_step: what came within the first steps: then the value of the state after them takes the place of what
            came, in the returns of the commands; not looked at without an ``achievable_expectile``
        :return: how likely the actions were, and how well they did
        """
        features, commands = self._features(obs), self.command_scaling(commands)
        # One number per Discrete action; others are vectors, whatever the shape of their space
        discrete = isinstance(self.action_space, spaces.Discrete)
        actions = actions.flatten() if discrete else actions.float().reshape(len(actions), -1)
        if self.action_bins is not None:
            actions = self.action_bins.nearest(actions)
        if self.achievable_return is None:
            distribution = self._distribution(features, commands)
            log_prob = distribution.log_prob(actions)
            zeros = th.zeros_like(log_prob)
            return ActionEvaluation(log_prob, distribution.entropy(), zeros, zeros.bool(), zeros)
        returns, horizons = commands.unbind(dim=1)
        estimates = self.achievable_return(features, commands)
        relabeled, luck_loss = returns, th.zeros_like(returns)
        if n_step is not None:
            came = self._n_step_returns(self.achievable_return, n_step, returns)
            inputs = preprocess_obs(actions, self._modelled_space())
            assert isinstance(inputs, th.Tensor)
            relabeled, luck_loss = self.achievable_return.without_luck(features, commands, inputs, estimates, came)
        to_the_letter = self._choose_hindsight(returns)
        shown = th.stack([returns.where(to_the_letter, relabeled), horizons], dim=1)
        distribution = self._distribution(features, self._command_inputs(shown, estimates, to_the_letter))
        return ActionEvaluation(
            distribution.log_prob(actions),
            distribution.entropy(),
            (relabeled - estimates.expected).detach(),
            to_the_letter,
            self.achievable_return.loss(estimates, relabeled, returns) + luck_loss,
        )

    @th.no_grad()
    def _n_step_returns(self, achievable_return: AchievableReturn, n_step: NStep, returns: th.Tensor) -> th.Tensor:
        """:return: rewards of the first steps and the value of the state after them, as a scaled return, shape (B,)"""
        commands = th.stack([th.zeros_like(n_step.horizons), n_step.horizons], dim=1)
        features = self._features(n_step.observations)  # in training their statistics follow these observations too
        value = achievable_return(features, self.command_scaling.scale_only(commands)).value
        return th.where(n_step.ended, returns, self.command_scaling.scale_rewards(n_step.rewards) + value)

    def forward(self, obs: PyTorchObs, commands: th.Tensor | None = None, deterministic: bool = False) -> th.Tensor:
        """
        :param obs: observations, shape (B, *observation_shape)
        :param commands: shape (B, 2); default: the evaluation command
        :param deterministic: whether to take the most likely action instead of a random one
        :return: actions as the buffer stores them, shape (B, *action_shape)
        """
        actions = self.get_distribution(obs, commands).get_actions(deterministic=deterministic)
        if self.action_bins is not None:
            actions = self.action_bins.values(actions)
        return actions.reshape((-1, *self.action_space.shape))  # type: ignore[misc]

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic=deterministic)

    def act(
        self, observations: np.ndarray | dict[str, np.ndarray], commands: np.ndarray, deterministic: bool = False
    ) -> np.ndarray:
        """
        Act under explicit commands.

        :param observations: observations of ``n_envs`` environments
        :param commands: what each is still to get, (desired_return, desired_horizon), shape (n_envs, 2)
        :param deterministic: whether to take the most likely action instead of a random one
        :return: actions as the buffer stores them, shape (n_envs, *action_shape)
        """
        observations, _ = split_progress(observations, self.observation_space)
        obs_tensor, _ = self.obs_to_tensor(observations)
        return self._act(obs_tensor, commands, deterministic)

    def _act(self, obs_tensor: PyTorchObs, commands: np.ndarray, deterministic: bool) -> np.ndarray:
        with th.no_grad():
            actions = self(obs_tensor, th.as_tensor(commands, dtype=th.float32, device=self.device), deterministic)
        return actions.cpu().numpy()

    def to_env_actions(self, actions: np.ndarray) -> np.ndarray:
        """
        Box actions are modelled in the space scaled to [-1, 1], and clipped only on their way to the env:
        the distribution then explains what was drawn from it, and its log-probabilities are unbiased.

        :param actions: actions as the policy makes them and the buffer stores them
        :return: actions for the environment, of the action space's dtype
        """
        if isinstance(self.action_space, spaces.Box):
            actions = self.unscale_action(np.clip(actions, -1.0, 1.0))
            if np.issubdtype(self.action_space.dtype, np.integer):
                actions = np.round(actions)  # to the nearest: a cast alone would make 0 of .99999
            # Rounding may have gone beyond the bounds
            return actions.astype(self.action_space.dtype).clip(self.action_space.low, self.action_space.high)
        return actions.astype(self.action_space.dtype)

    def from_env_actions(self, actions: np.ndarray) -> np.ndarray:
        """
        The other way round; of uniformly random actions all bins get the same share.

        :param actions: actions for the environment, shape (n, *action_shape)
        :return: actions as the policy makes them and the buffer stores them
        """
        if not isinstance(self.action_space, spaces.Box):
            return actions
        scaled = self.scale_action(actions)
        return scaled if self.action_bins is None else self.action_bins.snap(scaled)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        command: tuple[float, float] | np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Act on observations alone, as all of SB3's tools ask for it.

        Nobody tells ``predict`` the rewards. With observations from
        :class:`~sb3_udrl.wrappers.EpisodeProgress` the command counts down exactly. Otherwise the steps of
        each episode are counted in ``state``: the horizon is exact, and the return still wanted is estimated
        by how the best episodes earned theirs over time. Either all episodes earn the same in the same time, or each in
        proportion to what it gets until its deadline, whichever explains the remembered ones better.
        Without ``state`` every step is taken for the first.

        :param observation: one observation, or one per environment
        :param state: what the previous call returned; None at the beginning
        :param episode_start: whether an episode starts with this observation, shape (n_envs,)
        :param deterministic: whether to take the most likely action instead of a random one
        :param command: (desired_return, desired_horizon) for the whole episode, one for all or shape (n_envs, 2);
            default: the evaluation command
        :return: the action(s), and the state for the next call
        :raises ValueError: when ``state`` or ``command`` is for another number of environments
        """
        if isinstance(observation, tuple):
            # Raises SB3's own advice against mixing gym's and the VecEnv's API
            return super().predict(observation, state, episode_start, deterministic)
        self.set_training_mode(False)
        observation, progress = split_progress(observation, self.observation_space)
        obs_tensor, vectorized = self.obs_to_tensor(observation)
        n_envs = len(next(iter(observation_dict(obs_tensor).values())))  # type: ignore[arg-type]
        steps = np.zeros(n_envs, dtype=np.int64) if state is None else state[0].copy()
        if len(steps) != n_envs:
            raise ValueError(f"Got {n_envs} observations, but the state of {len(steps)}: start again with state=None.")
        if episode_start is not None:
            steps[np.broadcast_to(np.asarray(episode_start, dtype=bool), n_envs)] = 0
        asked = self._asked_commands(n_envs, command)
        if progress is not None:
            remaining = count_down(asked, progress[:, 0], progress[:, 1])
        else:
            remaining = count_down(asked, self._estimate_return_so_far(asked, steps), steps)
        actions = self.to_env_actions(self._act(obs_tensor, remaining, deterministic))
        return actions if vectorized else actions.squeeze(axis=0), (steps + 1,)

    def _asked_commands(self, n_envs: int, command: tuple[float, float] | np.ndarray | None) -> np.ndarray:
        """:return: the commands at the start of the episodes, shape (n_envs, 2)"""
        asked = self.command.cpu().numpy() if command is None else np.asarray(command, dtype=np.float64)
        if asked.shape not in ((2,), (n_envs, 2)):
            raise ValueError(
                f"command has shape {asked.shape}: pass (desired_return, desired_horizon), or {n_envs} of them."
            )
        asked = np.broadcast_to(asked, (n_envs, 2))
        if command is not None:
            for one in asked:
                Command(*one).checked()
        return asked

    def _estimate_return_so_far(self, asked: np.ndarray, steps_so_far: np.ndarray) -> np.ndarray:
        """:return: what episodes that obey have earned by now, if they earn as remembered ones did, shape (n_envs,)"""
        profile, pace = self.profile.cpu().numpy(), self.pace.cpu().numpy()
        if pace[1] > 0:
            return return_at_one_pace(profile, pace, steps_so_far)
        return expected_return_so_far(profile, asked, steps_so_far)

    def set_command(self, command: Command) -> None:
        """
        Make this the command for evaluation; it is saved with the policy.

        :param command: (desired_return, desired_horizon)
        :raises ValueError: when it is not finite, or its horizon is below one step
        """
        self.command.copy_(th.tensor(Command(*command).checked()))


MlpPolicy = UDRLPolicy


class CnnPolicy(UDRLPolicy):
    """The behaviour function for images: the command meets the features behind the convolutions (1912.02877 §3.2)."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            observation_space, action_space, lr_schedule, features_extractor_class=features_extractor_class, **kwargs
        )


class MultiInputPolicy(UDRLPolicy):
    """The behaviour function for Dict observations."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            observation_space, action_space, lr_schedule, features_extractor_class=features_extractor_class, **kwargs
        )


def policy_name(observation_space: spaces.Space) -> str:
    """
    :param observation_space: of an environment
    :return: what SB3 calls the policy for such observations
    """
    if isinstance(observation_space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(observation_space) else "MlpPolicy"
