"""The UDRL algorithm: collect episodes under commands, learn how they obeyed, command a little more."""

from __future__ import annotations

import io
import math
import operator
import pathlib
import sys
import time
import warnings
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule, safe_mean, should_collect_more_steps
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
)
from typing_extensions import Self

from sb3_udrl.arguments import check_numbers, positive_int
from sb3_udrl.buffer import CommandBatch, EpisodeBuffer
from sb3_udrl.commands import (
    COMMAND_SAMPLERS,
    Command,
    CommandSampler,
    count_down,
    earning_profile,
    keep_one_pace,
)
from sb3_udrl.episodes import Episode, EpisodeAccumulator, Observations, observation_dict
from sb3_udrl.exploration import RandomActions
from sb3_udrl.frames import FrameStack
from sb3_udrl.policies import N_PROFILE_POINTS, CnnPolicy, MlpPolicy, MultiInputPolicy, UDRLPolicy
from sb3_udrl.relabeling import RELABELINGS, HindsightRelabeling, Relabeling
from sb3_udrl.resets import ResetWatch
from sb3_udrl.retention import RETENTIONS, Retention
from sb3_udrl.saving import check_model_file, read_pickle, write_whole
from sb3_udrl.schedules import TRAINING_SCHEDULES, FixedSteps, TrainingSchedule
from sb3_udrl.segments import SEGMENTS, Segments, TrailingSegments
from sb3_udrl.variants import resolve_variant
from sb3_udrl.weighting import WEIGHTINGS, Weighting
from sb3_udrl.wrappers import VecEpisodeProgress, check_progress_is_not_normalized, split_progress, strip_progress_space

_LEARNING_RATE = LinearSchedule(1e-3, 1e-4, 1.0)


class UDRL(BaseAlgorithm):
    """
    Upside-Down Reinforcement Learning: learn, by supervised learning alone, which actions bring a desired
    return within a desired horizon, and ask for a little more each time.

    Papers: https://arxiv.org/abs/1912.02877 (Srivastava et al. 2019, the algorithm; symbols and section numbers below
    are from here) and https://arxiv.org/abs/1912.02875 (Schmidhuber 2019).

    The arguments that take a variant (``retention``, ``command_sampler``, ``segments``, ``weighting``, ``relabeling``,
    and ``gradient_steps`` where it is not a number) accept its name, ``{name: {argument: value}}``, or an object.

    With :class:`~stable_baselines3.common.vec_env.VecNormalize`, commands and returns stay in the env's own reward;
    like in SB3's off-policy algorithms, what is remembered is not normalised (where nothing outside of VecNormalize
    changes observations; elsewhere it is kept as it was seen).

    :param policy: the behaviour function B: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"`` or a class
    :param env: the environment, or its id; None only where load() makes the model, to predict
    :param learning_rate: of the optimizer (Adam by default); a float, or a function of the remaining progress (1 to 0);
        by default it falls from 1e-3 to 1e-4, so that what was learned stays learned
    :param buffer_size: how many episodes to remember (the papers' replay size)
    :param learning_starts: how long to act at random before the first update, in environment steps, or as
        ``(n, "episode")`` (n_warm_up_episodes); at least until an episode has finished
    :param batch_size: examples per gradient step
    :param train_freq: how much to collect between updates, in steps of the (vectorised) env, or as
        ``(n, "episode")`` (n_episodes_per_iter); episodes under way are continued after the update
    :param gradient_steps: gradient steps per update (n_updates_per_iter); a fraction below 1 for that many per
        environment step, rounded up at each update; -1 for one per environment step; or ``"epochs"`` for passes over
        the buffer until episodes that are held out are predicted no better
        (``{"epochs": {"max_epochs": 100, "patience": 10}}``), see :mod:`sb3_udrl.schedules`
    :param retention: which episodes to remember: ``"best"`` (highest return, §2.3.1), ``"recent"``, ``"best+recent"``
        (half of each), or ``"best+spread"``, half of them the best and half of them spread over all returns, so that
        small commands are not forgotten
    :param command_sampler: how to choose the next command (d^r_0, d^h_0): ``"more"`` than ever, ``"best_episode"``, or
        ``"mean_std"`` (§2.3.4), see :mod:`sb3_udrl.commands`
    :param segments: which stretches t1..t2 of episodes are examples: ``"deadline"`` (a horizon may lie beyond the end),
        ``"trailing"`` (t2 = T, §2.3.3), ``"uniform"`` (any t1 < t2), or the probability of trailing ones; see
        :mod:`sb3_udrl.segments`
    :param weighting: how often each episode is imitated: ``"uniform"`` (§2.3.3), in proportion to its ``"length"``, or
        ``"exponential"`` in its standardised return
    :param relabeling: which return examples stand for: ``"n_step"``, what came within n steps and what is to be
        expected after them (with less ``luck`` of the policy: hoped for), or ``"hindsight"``, what came (§2.3.3), as
        they do in any case when the policy has no ``achievable_expectile``, and a part of them with the
        ``hindsight_fraction`` of the policy; see :mod:`sb3_udrl.relabeling`
    :param advantage_temperature: examples count in proportion to exp(advantage / temperature), where the advantage is
        how much more their return is than was to be expected from the same state within the same horizon, in standard
        deviations of the advantages of a batch (advantage-weighted regression, 1910.00177); but for a share of .3 that
        is the same for all. For given state and command this changes nothing; it spends the network on the commands
        that are worth obeying. None: all count the same (§2.3.3), as they do when the policy has no
        ``achievable_expectile``
    :param ent_coef: coefficient of an entropy bonus in the loss
    :param max_grad_norm: maximum norm of the gradient; None not to clip
    :param warm_up_duration: for how many environment steps each random action before the first update is held at most:
        for a random number from 1 on. Longer ones swing, or climb: in MountainCar single ones never reach the goal
    :param exploration_eps: probability that at a step of training a uniformly random action begins; falls linearly to
        0, so that what is remembered in the end is what the policy does
    :param exploration_duration: for how many environment steps it is held at most: each for a random number from 1 on.
        Longer ones find what pays only when it is done for a while, see :mod:`sb3_udrl.exploration`
    :param exploration_fraction: share of training after which ``exploration_eps`` has fallen to 0 (SB3's DQN: to its
        final value)
    :param hope_fraction: share of training after which n-step returns go on with what is to be expected, and no longer
        with what is to be hoped for, as they do with less ``luck`` of the policy; it falls linearly from the one to the
        other. Hope finds what rarely succeeds, but does not see what is risky; None: to hope to the end. Not looked at
        with all luck
    :param policy_kwargs: arguments of the policy, see :class:`sb3_udrl.policies.UDRLPolicy`
    :param stats_window_size: how many episodes the logged means of return and length look back on
    :param tensorboard_log: where to log for TensorBoard; None not to
    :param verbose: 0 no output, 1 info, 2 debug
    :param seed: seed of all pseudo-random generators
    :param device: where the policy runs
    :param _init_setup_model: whether to build the networks in the constructor
    :raises ValueError: for arguments that cannot work, with the offending value
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: UDRLPolicy
    replay_buffer: EpisodeBuffer
    gamma = 1.0  # nothing is discounted (1912.02875 §3.1.3); other tools read it

    def __init__(
        self,
        policy: str | type[UDRLPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = _LEARNING_RATE,
        buffer_size: int = 300,
        learning_starts: int | tuple[int, str] = (50, "episode"),
        batch_size: int = 256,
        train_freq: int | tuple[int, str] = (1, "episode"),
        gradient_steps: float | str | dict[str, Any] | TrainingSchedule = 0.5,
        retention: str | dict[str, Any] | Retention = "recent",
        command_sampler: str | dict[str, Any] | CommandSampler = "more",
        segments: str | float | dict[str, Any] | Segments = "deadline",
        weighting: str | dict[str, Any] | Weighting = "length",
        relabeling: str | dict[str, Any] | Relabeling = "n_step",
        advantage_temperature: float | None = None,
        ent_coef: float = 0.0,
        max_grad_norm: float | None = None,
        warm_up_duration: int = 1,
        exploration_eps: float = 0.0,
        exploration_duration: int = 1,
        exploration_fraction: float = 1.0,
        hope_fraction: float | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            # By name SB3 would refuse MlpPolicy for the Dict that EpisodeProgress makes
            self._get_policy_from_name(policy) if isinstance(policy, str) else policy,
            env,
            learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        if not issubclass(self.policy_class, UDRLPolicy):
            raise ValueError(
                f"{self.policy_class.__name__} does not take commands: use {', '.join(self.policy_aliases)}, or a "
                "subclass of UDRLPolicy. If this came from load(), another algorithm saved the file."
            )
        if self.env is not None:
            self._check_spaces(policy)
            check_progress_is_not_normalized(self.env)
        elif _init_setup_model:
            raise ValueError("A new model needs its environment: pass env. Only load() can do without, to predict.")
        self.buffer_size = buffer_size
        self.learning_starts = learning_starts
        self.batch_size = batch_size
        self.train_freq = train_freq
        self.gradient_steps = gradient_steps
        self.retention = retention
        self.command_sampler = command_sampler
        self.segments = segments
        self.weighting = weighting
        self.relabeling = relabeling
        self.advantage_temperature = advantage_temperature
        self.ent_coef = ent_coef
        self.max_grad_norm = max_grad_norm
        self.warm_up_duration = warm_up_duration
        self.exploration_eps = exploration_eps
        self.exploration_duration = exploration_duration
        self.exploration_fraction = exploration_fraction
        self.hope_fraction = hope_fraction

        self._user_command = False  # whether the user chose the evaluation command
        # Progress of the rollout under way, which learn() may leave unfinished
        self._rollout_steps = 0
        self._rollout_episodes = 0
        self._resets: ResetWatch | None = None  # since learn() ended
        if _init_setup_model:
            self._setup_model()

    def _check_spaces(self, policy: str | type[UDRLPolicy]) -> None:
        """
        :raises ValueError: when nothing can be learned in these spaces, or not with this policy
        :raises NotImplementedError: for observations that SB3 does not know
        """
        get_obs_shape(self._inner_space)
        is_dict = isinstance(self._inner_space, spaces.Dict)
        if policy in ("MlpPolicy", "CnnPolicy") and is_dict:
            raise ValueError(f"You must use `MultiInputPolicy` when working with dict observation space, not {policy}")
        if policy == "MultiInputPolicy" and not is_dict:
            raise ValueError(
                f"MultiInputPolicy is for Dict observations, these are {self._inner_space}: use MlpPolicy, or "
                "CnnPolicy for images (what EpisodeProgress adds does not count)."
            )
        observations = self._inner_space.spaces.values() if is_dict else [self._inner_space]  # type: ignore[attr-defined]
        for space in (self.action_space, *observations):
            if np.any(getattr(space, "start", 0)):
                raise ValueError(
                    f"The numbers of {space} do not start at 0, which SB3 cannot handle: wrap the environment, so that "
                    "they do (gymnasium.ActionWrapper, gymnasium.ObservationWrapper)."
                )
        if isinstance(self.action_space, spaces.Box):
            with np.errstate(over="ignore"):
                width = self.action_space.high - self.action_space.low
            if not (np.isfinite(width).all() and (width > 0).all()):
                raise ValueError(
                    f"{self.action_space} cannot be scaled to [-1, 1]: some of its bounds are equal, or too far apart "
                    f"for {self.action_space.dtype}. Wrap the environment, so that actions have only what can be "
                    "chosen, within narrower bounds or with a wider dtype (gymnasium.wrappers.TransformAction)."
                )

    @property
    def _inner_space(self) -> spaces.Space:
        """:return: the observation space without what EpisodeProgress adds"""
        return strip_progress_space(self.observation_space)

    def _setup_model(self) -> None:
        self._check_arguments()
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self._train_freq = _to_train_freq("train_freq", self.train_freq, minimum=1)
        self._learning_starts = _to_train_freq("learning_starts", self.learning_starts, minimum=0)
        self._sampler = resolve_variant("command_sampler", self.command_sampler, COMMAND_SAMPLERS, CommandSampler)
        self._schedule = self._resolve_schedule()
        warm_up_duration = positive_int("warm_up_duration", self.warm_up_duration, "environment steps")
        self._warm_up = RandomActions(self.n_envs, warm_up_duration)
        duration = positive_int("exploration_duration", self.exploration_duration, "environment steps")
        self._exploration = RandomActions(self.n_envs, duration)
        self._episodes = EpisodeAccumulator(self.n_envs)
        policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs)
        self.policy = policy.to(self.device)  # type: ignore[assignment]
        # load() calls this with the saved arguments already in place
        if getattr(self, "replay_buffer", None) is None:
            self.replay_buffer = EpisodeBuffer(
                self.buffer_size,
                resolve_variant("retention", self.retention, RETENTIONS, Retention),
                self._resolve_segments(),
                resolve_variant("weighting", self.weighting, WEIGHTINGS, Weighting),
                self._resolve_relabeling(),
                device=self.device,
            )

    def _resolve_segments(self) -> Segments:
        """:return: the rule that ``segments`` names; a number is the probability of trailing ones"""
        if isinstance(self.segments, (int, float)):
            return TrailingSegments(self.segments)
        return resolve_variant("segments", self.segments, SEGMENTS, Segments)

    def _resolve_relabeling(self) -> Relabeling:
        """:return: the rule that ``relabeling`` names; hindsight where the policy does not know what to expect"""
        relabeling: Relabeling = resolve_variant("relabeling", self.relabeling, RELABELINGS, Relabeling)
        if self.policy.achievable_return is None:
            return HindsightRelabeling()
        if isinstance(relabeling, HindsightRelabeling) and self.policy.hindsight_fraction > 0:
            raise ValueError(
                f"hindsight_fraction={self.policy.hindsight_fraction} is the share of the examples that stand for what "
                f"came, but with relabeling={self.relabeling!r} all of them do: use relabeling='n_step', or "
                "hindsight_fraction=0."
            )
        if isinstance(relabeling, HindsightRelabeling) and self.policy.luck < 1:
            raise ValueError(
                f"luck={self.policy.luck} takes luck out of returns, but relabeling={self.relabeling!r} means what "
                "came to the letter: use relabeling='n_step', or luck=1.0."
            )
        return relabeling

    def _resolve_schedule(self) -> TrainingSchedule | None:
        """:return: the schedule that ``gradient_steps`` names; None where it is a number"""
        if isinstance(self.gradient_steps, (str, dict, TrainingSchedule)):
            return resolve_variant("gradient_steps", self.gradient_steps, TRAINING_SCHEDULES, TrainingSchedule)
        number = self.gradient_steps if isinstance(self.gradient_steps, (int, float, np.number)) else math.nan
        if not (number == -1 or 0 <= number < 1 or (number > 0 and float(number).is_integer())):
            raise ValueError(
                f"gradient_steps={self.gradient_steps}: use a whole number, a fraction below 1 (per environment step), "
                "-1 (one per environment step), or 'epochs'."
            )
        return None

    def _check_arguments(self) -> None:
        """:raises ValueError: for an argument that is out of range; the variants check their own"""
        self.batch_size = positive_int("batch_size", self.batch_size, "examples")
        check_numbers(
            exploration_eps=self.exploration_eps,
            exploration_fraction=self.exploration_fraction,
            ent_coef=self.ent_coef,
        )
        check_numbers(
            or_none=True,
            max_grad_norm=self.max_grad_norm,
            advantage_temperature=self.advantage_temperature,
            hope_fraction=self.hope_fraction,
        )
        if not 0 <= self.exploration_eps <= 1:
            raise ValueError(f"exploration_eps={self.exploration_eps} is a probability: use a value from 0 to 1.")
        if not 0 < self.exploration_fraction <= 1:
            raise ValueError(
                f"exploration_fraction={self.exploration_fraction}: use a share of the training, above 0 and up to 1, "
                "or exploration_eps=0 to do without random actions."
            )
        if self.hope_fraction is not None and not 0 < self.hope_fraction <= 1:
            raise ValueError(
                f"hope_fraction={self.hope_fraction}: use a share of the training, above 0 and up to 1, or None to "
                "hope to the end."
            )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm={self.max_grad_norm} must be positive, or None not to clip gradients.")
        if self.advantage_temperature is not None and not self.advantage_temperature > 0:
            raise ValueError(
                f"advantage_temperature={self.advantage_temperature} must be positive, or None for equal weights."
            )
        if not np.isfinite(self.ent_coef):
            raise ValueError(f"ent_coef={self.ent_coef} must be finite.")

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed Python, NumPy, torch, the action space, the env, and our own generators.

        :param seed: the seed; None for a random one
        """
        super().set_random_seed(seed)
        self._rng = np.random.default_rng(seed)
        # Gymnasium seeds the action space likewise: in step with it, durations of random actions would depend on them
        self._warm_up_rng = np.random.default_rng(None if seed is None else [seed, 1])

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Go on in another environment with the same spaces.

        :param env: the environment
        :param force_reset: whether to reset it before learning goes on (as it is in any case when only one of this and
            the last one normalises observations)
        :raises ValueError: when its spaces differ, or it normalises what EpisodeProgress adds
        """
        if isinstance(env, VecEnv):
            check_progress_is_not_normalized(env)
        super().set_env(env, force_reset)
        self._resets = None

    # ------------------------------------------------------------------ learning

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError("This model has no environment to learn in: call set_env(env), or load it with env=...")
        # The last observation has an original only if it is of an env that normalises
        normalizes_otherwise = self._normalizes_batches() != (self._last_original_obs is not None)
        was_reset = self._resets is not None and self._resets.saw_reset()
        if was_reset or normalizes_otherwise:
            self._last_obs = None  # its episodes cannot be gone on with: reset it once more
        env_is_reset = reset_num_timesteps or self._last_obs is None
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if reset_num_timesteps:  # otherwise the next update also owes what was collected before the reset
            self._rollout_steps = self._rollout_episodes = 0
        if env_is_reset:
            self._episodes.reset()
            assert isinstance(self._last_obs, (np.ndarray, dict))
            self._check_finite(self._last_obs, np.zeros(self.n_envs))
        self._match_observations()
        return result

    def _match_observations(self) -> None:
        """:raises ValueError: when the env stacks or normalises observations otherwise than what is remembered"""
        assert self.env is not None
        buffer = self.replay_buffer
        frame_stack = FrameStack.of(self.env)
        normalize = self._vec_normalize_env
        normalized = normalize is not None and normalize.norm_obs and not self._normalizes_batches()
        if len(buffer) == 0:
            buffer.frame_stack, buffer.normalized = frame_stack, normalized
        if buffer.frame_stack != frame_stack:
            raise ValueError(
                f"The remembered episodes have {buffer.frame_stack}, this env has {frame_stack} (None also "
                "where a VecFrameStack lies behind a wrapper that may change frames): wrap it in VecFrameStack as "
                "before, or load the model without its replay buffer."
            )
        if buffer.normalized != normalized:
            kinds = {True: "normalised", False: "as the env gives them"}
            raise ValueError(
                f"The remembered observations are {kinds[buffer.normalized]}, those to come would be "
                f"{kinds[normalized]}: put VecNormalize in the same place among the wrappers as before, or load the "
                "model without its replay buffer."
            )

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str = "UDRL",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """
        Algorithm 1: collect, learn, command more, until the steps are used up.

        :param total_timesteps: how many environment steps to make (rounded up to a multiple of ``n_envs``)
        :param callback: called at every step
        :param log_interval: how many iterations (rollout and update) between logs; None for no logs
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: whether to count steps from zero, and reset the env
        :param progress_bar: whether to show a progress bar
        :return: the model
        :raises ValueError: when there is no env, or the env returns NaN or infinite rewards or observations
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        try:
            self._iterate(callback, total_timesteps, log_interval)
        finally:  # also after Ctrl-C
            assert self.env is not None
            self._resets = ResetWatch(self.env)
        self._warn_if_nothing_is_learned()
        callback.on_training_end()  # which may reset the env: the next learn() must notice
        return self

    def _iterate(self, callback: BaseCallback, total_timesteps: int, log_interval: int | None) -> None:
        """Collect and learn in turn, until the steps are used up, or the callback asks to stop."""
        assert self.env is not None
        iteration = 0
        while self.num_timesteps < total_timesteps:
            if not self.collect_rollouts(self.env, callback, total_timesteps):
                return
            if self._rollout_is_unfinished():
                return  # out of steps: the next learn() goes on with it
            gradient_steps = self._gradient_steps_due(self._rollout_steps * self.n_envs)
            self._rollout_steps = self._rollout_episodes = 0
            if gradient_steps != 0 and len(self.replay_buffer) > 0:
                self.train(gradient_steps, self.batch_size)
            iteration += 1
            if log_interval is not None and iteration % log_interval == 0:
                self.logger.record("time/iterations", iteration, exclude="tensorboard")
                self.dump_logs()

    def _warn_if_nothing_is_learned(self) -> None:
        if len(self.replay_buffer) == 0 and self._episodes.steps_so_far.max() >= _LONG_EPISODE:
            warnings.warn(
                f"No episode has ended within {self._episodes.steps_so_far.max()} steps, and UDRL learns from finished "
                "episodes only. Give the environment a time limit: gymnasium.make(id, max_episode_steps=...), or "
                "make_vec_env(id, env_kwargs=dict(max_episode_steps=...)), or TimeLimit(env, ...) inside of Monitor.",
                stacklevel=3,
            )
        elif self._is_warming_up():
            warnings.warn(
                f"Nothing is learned yet: learning_starts={self.learning_starts}, and there were {self._episode_num} "
                f"episodes in {self.num_timesteps} steps. Train for longer, or set learning_starts lower.",
                stacklevel=3,
            )

    def _rollout_is_unfinished(self) -> bool:
        """:return: whether to collect more before the next update"""
        return self._is_warming_up() or should_collect_more_steps(
            self._train_freq, self._rollout_steps, self._rollout_episodes
        )

    def _is_warming_up(self) -> bool:
        """:return: whether there is not enough yet for the first update"""
        if self._n_updates > 0:
            return False
        in_episodes = self._learning_starts.unit == TrainFrequencyUnit.EPISODE
        experience = self._episode_num if in_episodes else self.num_timesteps
        return len(self.replay_buffer) == 0 or experience < self._learning_starts.frequency

    def _gradient_steps_due(self, n_steps: int) -> int | TrainingSchedule:
        """
        :param n_steps: environment steps since the last update
        :return: how many gradient steps to make, or what decides it
        """
        if isinstance(self.gradient_steps, (str, dict, TrainingSchedule)):
            assert self._schedule is not None
            return self._schedule
        if self.gradient_steps == -1:
            return n_steps
        if 0 < self.gradient_steps < 1:
            return math.ceil(self.gradient_steps * n_steps)
        return int(self.gradient_steps)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, total_timesteps: int) -> bool:
        """
        Algorithm 2 in each env: act under a command that counts down, until the next update is due.

        :param env: the training env
        :param callback: called at every step
        :param total_timesteps: number of steps at which to stop in any case
        :return: False when the callback asked to stop training
        """
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        while self.num_timesteps < total_timesteps and self._rollout_is_unfinished():
            self._start_commands()
            actions = self._sample_actions()
            try:
                new_obs, rewards, dones, infos = env.step(self.policy.to_env_actions(actions))
                assert isinstance(new_obs, (np.ndarray, dict))
                self._check_finite(new_obs, rewards)
                self.num_timesteps += env.num_envs
                self._rollout_steps += 1

                # Before the callback, so that what it saves, and a learn() that it stops, can be gone on with
                self._store_step(new_obs, actions, rewards, dones, infos)

                # Give access to local variables
                callback.update_locals(locals())
                continue_training = callback.on_step()
                self._update_info_buffer(infos, dones)
            except BaseException:  # also Ctrl-C
                self._last_obs = None  # the env may be a step ahead of what is remembered: learn() resets it then
                raise
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            if not continue_training:
                return False
        callback.on_rollout_end()
        return True

    def _start_commands(self) -> None:
        """Command each episode that starts with this step; until the first update they are random."""
        if self._n_updates == 0:
            return
        buffer = self.replay_buffer
        for i in np.flatnonzero(self._episodes.steps_so_far == 0):
            if len(buffer) > 0:
                self._episodes.commands[i] = self._sampler.sample(buffer.returns, buffer.lengths, self._rng).checked()
            else:  # a loaded model without its buffer
                self._episodes.commands[i] = self.command

    def _sample_actions(self) -> np.ndarray:
        """:return: actions as the policy makes them: under commands, or random, shape (n_envs, *action_shape)"""
        assert self._last_obs is not None
        progress = self._episodes
        random = np.array([command is None for command in progress.commands])
        starts = progress.steps_so_far == 0
        if random.all():
            dtype = np.float32 if isinstance(self.action_space, spaces.Box) else self.action_space.dtype
            actions = np.zeros((self.n_envs, *self.action_space.shape), dtype)  # type: ignore[misc]
        else:
            asked = np.array([command or Command(0.0, 1.0) for command in progress.commands])
            remaining = count_down(asked, progress.return_so_far, progress.steps_so_far)
            actions = self.policy.act(self._last_obs, remaining)
        actions = self._warm_up.replace(actions, random, self._random_actions, starts, self._warm_up_rng)
        if self.exploration_eps > 0 and not random.all():
            eps = LinearSchedule(self.exploration_eps, 0.0, self.exploration_fraction)(self._current_progress_remaining)
            chosen = self._rng.random(self.n_envs) < eps
            actions = self._exploration.replace(actions, chosen, self._random_actions, starts, self._rng)
        return actions

    def _random_actions(self, n: int) -> np.ndarray:
        return self.policy.from_env_actions(np.array([self.action_space.sample() for _ in range(n)]))

    def _store_step(
        self,
        new_obs: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Add the step to the running episodes, and those that it ended to the buffer."""
        observations: Any = self._last_obs
        new_original_obs = None
        if self._vec_normalize_env is not None:
            # Running statistics would make the returns of older episodes incomparable
            rewards = self._vec_normalize_env.get_original_reward()
        if self._normalizes_batches():
            observations = self._last_original_obs
            new_original_obs = self._vec_normalize_env.get_original_obs()  # type: ignore[union-attr]
        observations, _ = split_progress(observations, self._inner_space)
        frame_stack = self.replay_buffer.frame_stack
        if frame_stack is not None:
            frames = frame_stack.newest(observation_dict(observations))
            observations = frames if isinstance(observations, dict) else frames["observation"]
        for episode in self._episodes.add(observations, actions, rewards, dones, infos).values():
            self._remember(episode)
        self._last_obs = new_obs
        self._last_original_obs = new_original_obs

    def _remember(self, episode: Episode) -> None:
        self.replay_buffer.add(episode)
        self._rollout_episodes += 1
        self._episode_num += 1
        if episode.command is not None:
            desired_return, desired_horizon = episode.command
            self.logger.record_mean("rollout/desired_return", desired_return)
            self.logger.record_mean("rollout/desired_horizon", desired_horizon)
            self.logger.record_mean("rollout/command_error", episode.episode_return - desired_return)

    def _normalizes_batches(self) -> bool:
        """
        Whether the buffer holds the env's own observations, to be normalised with the statistics of the day when
        sampled. What changes them outside of a VecNormalize (a frame stack) cannot be redone, so then it holds what was
        seen.
        """
        env = self.env
        # These leave them alone, or add what is not remembered
        while isinstance(env, (VecCheckNan, VecMonitor, VecVideoRecorder, VecEpisodeProgress)):
            env = env.venv
        return isinstance(env, VecNormalize)

    def _check_finite(self, observations: Observations, rewards: np.ndarray) -> None:
        """
        :raises ValueError: for NaN or infinite values, before they are remembered; whoever goes on after that finds
            the env reset, since this step is lost
        """
        values = {"reward": rewards}
        values |= {
            f"'{key}'": value for key, value in observation_dict(observations).items() if value.dtype.kind == "f"
        }
        for name, value in values.items():
            if not np.isfinite(value).all():
                bad = np.flatnonzero(~np.isfinite(value).reshape(self.n_envs, -1).all(axis=1))[0]
                self._last_obs = None  # also when this is a first observation: the next learn() resets the env again
                raise ValueError(
                    f"Environment {bad} returned {name} = {value[bad]} at step "
                    f"{self._episodes.steps_so_far[bad] + 1} of its episode ({self.num_timesteps} steps in all): "
                    "rewards and observations must be finite. "
                    "Find the cause with stable_baselines3.common.vec_env.VecCheckNan."
                )

    def train(self, gradient_steps: int | TrainingSchedule, batch_size: int) -> None:
        """
        Learn from the buffer, by maximum likelihood of what was done (Algorithm 1, line 4).

        :param gradient_steps: number of gradient steps, or what decides it
        :param batch_size: examples per step
        :raises ValueError: when no episode has finished yet
        """
        self.policy.set_training_mode(True)
        try:
            self._train(gradient_steps, batch_size)
        finally:
            self.policy.set_training_mode(False)

    def _train(self, gradient_steps: int | TrainingSchedule, batch_size: int) -> None:
        self._update_learning_rate(self.policy.optimizer)
        self._update_hope()
        normalize = self._vec_normalize_env if self._normalizes_batches() else None
        schedule = gradient_steps if isinstance(gradient_steps, TrainingSchedule) else FixedSteps(gradient_steps)

        losses, achievable_losses, entropies = [], [], []
        for batch in schedule.batches(self.replay_buffer, batch_size, self._rng, normalize, self._held_out_loss):
            loss, achievable_loss, entropy = self._losses(batch)
            self.policy.optimizer.zero_grad()
            # No weight is in both, so they need no coefficient
            (loss + achievable_loss).backward()
            if self.max_grad_norm is not None:
                th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.item())
            achievable_losses.append(achievable_loss.item())
            entropies.append(entropy.item())
        if not losses:
            return  # all episodes are held out

        self._n_updates += len(losses)
        self._update_command()
        self.logger.record("train/loss", np.mean(losses))
        self.logger.record("train/achievable_loss", np.mean(achievable_losses))
        self.logger.record("train/entropy", np.mean(entropies))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for key, value in schedule.logs().items():
            self.logger.record(f"train/{key}", value)

    def _update_hope(self) -> None:
        achievable_return = self.policy.achievable_return
        if achievable_return is not None and self.hope_fraction is not None:
            hope = LinearSchedule(achievable_return.expectile, _MEAN, self.hope_fraction)
            achievable_return.hope = hope(self._current_progress_remaining)

    def _losses(self, batch: CommandBatch) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """:return: the loss of the behaviour function, that of the achievable return, and the entropy, each a scalar"""
        evaluation = self.policy.evaluate_actions(*batch)
        log_prob, entropy = evaluation.log_prob, evaluation.entropy
        mean_entropy = -log_prob.mean() if entropy is None else entropy.mean()
        weights = self._weights(evaluation.advantages, evaluation.to_the_letter)
        loss = -(weights * log_prob).mean() - self.ent_coef * mean_entropy
        return loss, evaluation.achievable_loss.mean(), mean_entropy

    def _held_out_loss(self, batch: CommandBatch) -> float:
        """:return: the loss of the behaviour function on examples that nothing is learned from, not even their scale"""
        self.policy.set_training_mode(False)
        with th.no_grad():
            loss, _, _ = self._losses(batch)
        self.policy.set_training_mode(True)
        return loss.item()

    def _weights(self, advantages: th.Tensor, to_the_letter: th.Tensor) -> th.Tensor:
        """:return: how much each example of a batch counts, 1 on average and to the letter, shape (B,)"""
        weights = th.ones_like(advantages)
        if self.advantage_temperature is None:
            return weights
        advantages = advantages[~to_the_letter]
        # Standardised as PPO does, so that the temperature has no unit
        standardized = (advantages - advantages.mean()) / (advantages.std(unbiased=False) + 1e-8)
        exponential = (standardized / self.advantage_temperature).exp().clamp(max=_MAX_WEIGHT)
        weights[~to_the_letter] = _EVEN_SHARE + (1 - _EVEN_SHARE) * exponential / exponential.mean()
        return weights

    def _update_command(self) -> None:
        """Keep the evaluation command, and how returns are earned, up to date with the best episodes."""
        buffer = self.replay_buffer
        best = self._sampler.best(buffer.returns, buffer.lengths)
        profile = earning_profile([buffer.returns_to_go(i) for i in best], N_PROFILE_POINTS)
        self.policy.profile.copy_(th.as_tensor(profile))
        pace = Command(buffer.returns[best[0]], float(buffer.lengths[best[0]]))
        some = np.linspace(0, len(buffer) - 1, min(len(buffer), _N_PACE_EPISODES)).astype(int)
        kept = keep_one_pace([buffer.returns_to_go(i) for i in some], profile, pace)
        self.policy.pace.copy_(th.tensor(pace) if kept else th.zeros(2))
        if not self._user_command:
            self.policy.set_command(self._sampler.evaluation_command(buffer.returns, buffer.lengths))

    def dump_logs(self) -> None:
        """Write the logs. ``docs/logging.md`` explains each key."""
        assert self.ep_info_buffer is not None
        assert self.ep_success_buffer is not None
        elapsed = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        if len(self.ep_info_buffer) > 0 and len(self.ep_info_buffer[0]) > 0:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        if len(self.ep_success_buffer) > 0:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        buffer = self.replay_buffer
        self.logger.record("buffer/episodes", len(buffer))
        self.logger.record("buffer/steps", buffer.n_steps)
        if len(buffer) > 0:
            self.logger.record("buffer/return_max", buffer.returns.max())
            self.logger.record("buffer/return_mean", buffer.returns.mean())
            self.logger.record("buffer/return_min", buffer.returns.min())
        self.logger.dump(step=self.num_timesteps)

    # ------------------------------------------------------------------ acting

    @property
    def command(self) -> Command:
        """:return: the evaluation command, (desired_return, desired_horizon), which is saved with the policy"""
        return Command(*self.policy.command.tolist())

    def set_command(self, desired_return: float, desired_horizon: float) -> None:
        """
        Choose the evaluation command for good, in place of the one that training arrives at.

        :param desired_return: return wanted, in the env's reward
        :param desired_horizon: environment steps to get it in, at least 1
        :raises ValueError: when they are not finite, or the horizon is below one step
        """
        self.policy.set_command(Command(desired_return, desired_horizon))
        self._user_command = True

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        command: tuple[float, float] | np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Act on observations. Pass the returned state to the next call, so that the command counts down.

        :param observation: one observation, or one per environment
        :param state: what the previous call returned; None at the beginning
        :param episode_start: whether an episode starts with this observation, shape (n_envs,)
        :param deterministic: whether to take the most likely action instead of a random one
        :param command: (desired_return, desired_horizon) for the whole episode, one for all or shape (n_envs, 2);
            default: the evaluation command
        :return: the action(s), and the state for the next call
        :raises ValueError: when ``state`` or ``command`` is for another number of environments
        """
        return self.policy.predict(observation, state, episode_start, deterministic, command)

    # ------------------------------------------------------------------ saving

    def _excluded_save_params(self) -> list[str]:
        return [
            *super()._excluded_save_params(),
            "_rng",
            "_warm_up_rng",
            "_episodes",
            "_warm_up",
            "_exploration",
            "_sampler",
            "_schedule",
            "_resets",
            "_train_freq",
            "_learning_starts",
        ]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    @classmethod
    def load(cls, path: str | pathlib.Path | io.BufferedIOBase, *args: Any, **kwargs: Any) -> Self:
        """
        Load a model. Its replay buffer is in another file, see :meth:`load_replay_buffer`.

        :param path: file, or path to it
        :param args: passed on to :meth:`BaseAlgorithm.load`
        :param kwargs: passed on to :meth:`BaseAlgorithm.load`
        :return: the model
        :raises ValueError: when the file is truncated, or not a UDRL model, or is for other spaces
        """
        check_model_file(path)
        return super().load(path, *args, **kwargs)

    def save(self, path: str | pathlib.Path | io.BufferedIOBase, *args: Any, **kwargs: Any) -> None:
        """
        Save the model, without its replay buffer. A file at ``path`` is replaced only by a complete one.

        :param path: file, or path to it (``.zip`` is added when it has no suffix)
        :param args: passed on to :meth:`BaseAlgorithm.save`
        :param kwargs: passed on to :meth:`BaseAlgorithm.save`
        """
        with write_whole(path, "zip") as file:
            super().save(file, *args, **kwargs)

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """
        Save the remembered episodes, and those under way.

        :param path: file, or path to it (``.pkl`` is added when it has no suffix)
        """
        with write_whole(path, "pkl") as file:
            # Rules may be the user's own, of a class that does not exist where the episodes are loaded
            save_to_pkl(file, (self.replay_buffer.without_rules(), self._episodes), self.verbose)

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load the remembered episodes. What is done with them is this model's business, whatever the one did that saved
        them; those that are too many for its ``buffer_size`` are forgotten.

        :param path: file, or path to it
        :param truncate_last_traj: whether to forget the episodes that were under way; False to go on with them
            in the very same env, see ``load(..., force_reset=False)``
        :raises ValueError: when the file holds something else
        """
        loaded = read_pickle(path, self.verbose)
        if not (isinstance(loaded, tuple) and len(loaded) == 2 and isinstance(loaded[0], EpisodeBuffer)):
            raise ValueError(
                f"{path} holds a {type(loaded).__name__}, not the episodes of a UDRL model: "
                "pass a file written by UDRL.save_replay_buffer()."
            )
        buffer, episodes = loaded
        shapes, expected = buffer.observed_shapes, self._step_shapes()
        if len(buffer) > 0 and shapes != expected:
            raise ValueError(f"The episodes in {path} are of another environment: {shapes}, here {expected}.")
        buffer.adopt_rules(self.replay_buffer)
        self.replay_buffer = buffer
        if not truncate_last_traj and episodes.n_envs == self.n_envs:
            self._episodes = episodes

    def _step_shapes(self) -> dict[str, tuple[int, ...]]:
        """:return: the shapes of what is seen and done in each step in these spaces"""
        space = self._inner_space
        observations = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
        shapes = {f"observation/{key}": sub_space.shape for key, sub_space in observations.items()}
        return {**shapes, "action": self.action_space.shape}  # type: ignore[dict-item]


_MEAN = 0.5  # the expectile that is the mean
_EVEN_SHARE = 0.3  # of the weights, so that commands for little are not forgotten
_MAX_WEIGHT = 20.0  # of one example, as in 1910.00177
_N_PACE_EPISODES = 20  # that tell how returns are earned, from all over the buffer
_LONG_EPISODE = 1000  # environment steps after which it is odd that no episode has ended


def _to_train_freq(argument: str, value: int | tuple[int, str], minimum: int) -> TrainFreq:
    """Read "n steps" or (n, "step" or "episode"), as SB3's off-policy algorithms do."""
    try:
        frequency, unit = value if isinstance(value, (tuple, list)) else (value, "step")
        train_freq = TrainFreq(operator.index(frequency), TrainFrequencyUnit(unit))
    except (TypeError, ValueError):
        train_freq = None
    if train_freq is None or train_freq.frequency < minimum:
        raise ValueError(
            f"{argument}={value!r}: use a number of steps, at least {minimum}, or (number, 'step' or 'episode')."
        )
    return train_freq
