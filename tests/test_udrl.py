"""UDRL keeps Stable-Baselines3's contract: steps, callbacks, seeds, saving, logging, and helpful errors."""

import io
import pathlib
import tracemalloc
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)
from toy_envs import CountdownEnv, FaultyEnv, PayoutEnv, RandomEnv, SpaceEnv

from sb3_udrl import UDRL, Command
from sb3_udrl.commands import BestEpisodeSampler
from sb3_udrl.episodes import Episode
from sb3_udrl.relabeling import HindsightRelabeling, NStepRelabeling
from sb3_udrl.retention import RecentRetention
from sb3_udrl.segments import TrailingSegments
from sb3_udrl.weighting import UniformWeighting
from sb3_udrl.wrappers import VecEpisodeProgress

QUICK = {
    "learning_starts": (3, "episode"),
    "train_freq": (2, "episode"),
    "gradient_steps": 3,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "policy_kwargs": {"net_arch": [8], "embedding_dim": 8},
    "seed": 0,
}


EXACT = {"best_episode": {"max_factor": 1.0}}  # asks for what the best episode reached, no more


def make_model(env, **kwargs):
    return UDRL("MlpPolicy", env, **{**QUICK, **kwargs})


def weights(model):
    return th.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def spy_on_commands(model):
    """Keeps a copy of the commands that each step is made under."""
    commands, start_commands = [], model._start_commands

    def spy():
        start_commands()
        commands.append(list(model._episodes.commands))

    model._start_commands = spy
    return commands


# ------------------------------------------------------------------ steps and episodes


@pytest.mark.parametrize("n_envs", [1, 3])
def test_learn_makes_the_steps_asked_for_also_when_called_again(n_envs):
    model = make_model(make_vec_env(lambda: CountdownEnv(100), n_envs))
    model.learn(60)
    assert model.num_timesteps == 60
    model.learn(60, reset_num_timesteps=False)
    assert model.num_timesteps == 120
    model.learn(30)
    assert model.num_timesteps == 30


def test_two_short_calls_of_learn_are_one_long_one():
    once = make_model(make_vec_env(lambda: RandomEnv(20), 2)).learn(400)
    twice = make_model(make_vec_env(lambda: RandomEnv(20), 2)).learn(150).learn(250, reset_num_timesteps=False)
    assert once._n_updates == twice._n_updates > 0
    assert th.equal(weights(once), weights(twice))


def test_episodes_under_way_survive_from_one_learn_to_the_next():
    model = make_model(CountdownEnv(50))
    for _ in range(5):
        model.learn(20, reset_num_timesteps=False)
    assert model.replay_buffer.lengths.tolist() == [50, 50]


def test_episodes_under_way_are_dropped_when_the_env_is_reset_under_them():
    model = make_model(CountdownEnv(50))
    model.learn(20)
    model.set_env(CountdownEnv(50))
    model.learn(60, reset_num_timesteps=False)
    assert model.replay_buffer.lengths.tolist() == [50]
    model.learn(60)
    assert model.replay_buffer.lengths.tolist() == [50, 50]


@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_an_env_that_others_have_reset_between_two_calls_of_learn_starts_new_episodes(vec_env_cls):
    model = make_model(VecMonitor(vec_env_cls([lambda: CountdownEnv(50)])))
    model.learn(40)
    evaluate_policy(model, model.get_env(), n_eval_episodes=1)
    model.learn(60, reset_num_timesteps=False)
    assert model.replay_buffer.lengths.tolist() == [50]  # not of 90 steps, as if both were one
    model.learn(40, reset_num_timesteps=False)
    assert model.replay_buffer.lengths.tolist() == [50, 50]
    model.get_env().close()


def test_a_reset_is_noticed_also_where_each_gives_the_same_info():
    info = {}

    class SameInfo(gym.Wrapper):
        def reset(self, **kwargs):
            return self.env.reset(**kwargs)[0], info

    model = make_model(VecMonitor(DummyVecEnv([lambda: SameInfo(CountdownEnv(50))])))
    model.learn(40)
    evaluate_policy(model, model.get_env(), n_eval_episodes=1)
    model.learn(60, reset_num_timesteps=False)
    assert model.replay_buffer.lengths.tolist() == [50]


class SimulatorVecEnv(DummyVecEnv):
    """As Isaac Lab's: ``unwrapped`` is the simulator's environment."""

    @property
    def unwrapped(self):
        return self.envs[0].unwrapped


class ForeignVecEnv:
    """Steps one env, and is no VecEnv of SB3's."""

    num_envs = 1

    def __init__(self, env):
        self.env, self.observation_space, self.action_space = env, env.observation_space, env.action_space

    def reset(self):
        return self.env.reset()[0][None]

    def step_async(self, actions):
        self.action = actions[0]

    def step_wait(self):
        observation, reward, terminated, truncated, info = self.env.step(self.action)
        done = terminated or truncated
        if done:
            info, observation = {**info, "terminal_observation": observation}, self.env.reset()[0]
        return observation[None], np.array([reward]), np.array([done]), [info]


class ForeignVecEnvWrapper(VecEnvWrapper):
    """As SuperSuit's: makes a VecEnv of something that is none, and does not call the constructor of SB3's."""

    def __init__(self, venv):
        self.venv, self.num_envs, self.render_mode = venv, venv.num_envs, None
        self.observation_space, self.action_space = venv.observation_space, venv.action_space

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()

    def get_attr(self, attr_name, indices=None):
        return [None]

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False]

    def seed(self, seed=None):
        return [seed]


@pytest.mark.parametrize(
    "make_env",
    [
        lambda: SimulatorVecEnv([lambda: CountdownEnv(5)]),
        lambda: ForeignVecEnvWrapper(ForeignVecEnv(CountdownEnv(5))),
    ],
    ids=["simulator", "foreign"],
)
def test_vec_envs_that_others_made_are_learned_in_and_returned_to(make_env):
    model = make_model(make_env()).learn(20)
    model.learn(20, reset_num_timesteps=False)
    assert model.replay_buffer.lengths.tolist() == [5] * 8
    assert model._n_updates > 0


class ResetsInTheEnd(BaseCallback):
    def _on_step(self):
        return True

    def _on_training_end(self):
        evaluate_policy(self.model, self.training_env, n_eval_episodes=1)


def test_an_env_that_a_callback_resets_when_training_ends_starts_new_episodes():
    model = make_model(VecMonitor(DummyVecEnv([lambda: CountdownEnv(50)])))
    model.learn(40, ResetsInTheEnd())
    model.learn(60, reset_num_timesteps=False)
    assert model.replay_buffer.lengths.tolist() == [50]


def test_actions_are_random_until_the_first_update_and_commanded_afterwards():
    model = make_model(CountdownEnv(5), learning_starts=(4, "episode"))
    seen = spy_on_commands(model)
    model.learn(40)
    commanded = [commands[0] is not None for commands in seen]
    assert commanded == [False] * 20 + [True] * 20


def test_learning_starts_and_train_freq_also_count_steps():
    model = make_model(CountdownEnv(5), learning_starts=12, train_freq=4, gradient_steps=1)
    model.learn(11)
    assert model._n_updates == 0
    model.learn(9, reset_num_timesteps=False)
    assert model._n_updates == 3  # at 12, 16 and 20 steps


def test_the_first_update_also_owes_what_was_collected_before_training_was_interrupted(tmp_path):
    kwargs = {"learning_starts": (50, "episode"), "gradient_steps": 0.5}
    uninterrupted = make_model(CountdownEnv(10), **kwargs).learn(520)
    with pytest.warns(UserWarning, match="Nothing is learned yet"):
        model = make_model(CountdownEnv(10), **kwargs).learn(490)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    resumed = UDRL.load(tmp_path / "model", env=CountdownEnv(10))
    resumed.load_replay_buffer(tmp_path / "buffer")
    resumed.learn(30, reset_num_timesteps=False)
    assert resumed._n_updates == uninterrupted._n_updates == 260


@pytest.mark.parametrize(("gradient_steps", "expected"), [(7, 14), (-1, 20), (0.25, 6)])
def test_gradient_steps_are_per_update_or_per_environment_step(gradient_steps, expected):
    # Updates after 10 and 20 environment steps
    model = make_model(make_vec_env(lambda: CountdownEnv(5), 2), learning_starts=0, train_freq=5)
    model.gradient_steps = gradient_steps
    model.learn(20)
    assert model._n_updates == expected


def test_short_episodes_are_not_favoured_with_several_envs():
    lengths = [2, 30]
    env = DummyVecEnv([lambda length=length: CountdownEnv(length) for length in lengths])
    model = make_model(env, buffer_size=1000, retention="recent")
    model.learn(2 * 300)
    remembered = model.replay_buffer.lengths
    assert [(remembered == length).sum() for length in lengths] == [150, 10]


@pytest.mark.parametrize("duration", [1, 10])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_random_actions_become_rarer_until_there_are_none(duration, fraction):
    exploration = {"exploration_eps": 1.0, "exploration_duration": duration, "exploration_fraction": fraction}
    model = make_model(PayoutEnv(), buffer_size=1000, retention="recent", **exploration)
    with th.no_grad():
        model.policy.action_net.bias[:] = th.tensor([0.0, 100.0])  # would always take action 1
    model.gradient_steps = 1
    model.learn(int(4000 / fraction))
    returns = model.replay_buffer.returns
    assert returns[:100].mean() == pytest.approx(5 + 5 / 8, abs=0.6)
    assert returns[395:400].mean() > 9
    assert (returns[400:] == 10).all()


class RecordingEnv(CountdownEnv):
    """Remembers which actions were done."""

    def __init__(self, length, action_space):
        super().__init__(length)
        self.action_space = action_space
        self.done = []

    def step(self, action):
        self.done.append(float(action))
        return super().step(action)


@pytest.mark.parametrize(("duration", "mean_length"), [(1, 1.0), (9, 5.0)])
def test_random_actions_before_the_first_update_are_held_for_as_long_as_they_should(duration, mean_length):
    env = RecordingEnv(500, spaces.Box(-1, 1, ()))  # so that no two in a row are equal by chance
    make_model(env, learning_starts=10_000, warm_up_duration=duration).learn(5000)
    n_drawn = 1 + np.count_nonzero(np.diff(env.done))
    assert len(env.done) / n_drawn == pytest.approx(mean_length, rel=0.1)


def test_how_long_a_random_action_is_held_does_not_depend_on_which_it_is():
    env = RecordingEnv(20_000, spaces.Discrete(2))
    make_model(env, learning_starts=20_000, warm_up_duration=9, seed=100).learn(20_000)
    ends = np.flatnonzero(np.diff(env.done)) + 1
    stretches = np.split(np.array(env.done), ends)
    means = [np.mean([len(stretch) for stretch in stretches if stretch[0] == action]) for action in (0, 1)]
    # Two actions of 5 steps on average, since every other one is the same again
    assert means == pytest.approx([10, 10], rel=0.1)


@pytest.mark.parametrize(
    ("fraction", "hopes"), [(None, [0.9, 0.9, 0.9]), (1.0, [0.8, 0.7, 0.5]), (0.5, [0.7, 0.5, 0.5])], ids=str
)
def test_hope_falls_to_the_mean(fraction, hopes):
    kwargs = {"luck": 0.5, "achievable_expectile": 0.9}
    model = make_model(CountdownEnv(10), hope_fraction=fraction, policy_kwargs=kwargs)
    assert model.policy.achievable_return.hope == 0.9
    hope_at = {}

    def record(locals_, _):
        hope_at[model.num_timesteps] = model.policy.achievable_return.hope
        return True

    model.learn(2000, callback=record)
    assert [hope_at[steps] for steps in (500, 1000, 2000)] == pytest.approx(hopes, abs=0.01)


# ------------------------------------------------------------------ callbacks and logs


@pytest.mark.parametrize("step", [10, 13])
def test_after_an_interruption_in_a_callback_no_two_episodes_are_taken_for_one(step):
    class InterruptAt(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == step:
                raise KeyboardInterrupt
            return True

    model = make_model(CountdownEnv(10))
    with pytest.raises(KeyboardInterrupt):
        model.learn(100, InterruptAt())
    model.learn(40, reset_num_timesteps=False)
    assert set(model.replay_buffer.lengths) == {10}


def test_after_an_interruption_in_training_a_reset_by_others_is_noticed(monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    model = make_model(CountdownEnv(10), learning_starts=12, train_freq=4)
    with monkeypatch.context() as patch:
        patch.setattr(model, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.learn(100)
    assert model._episodes.steps_so_far.tolist() == [2]
    evaluate_policy(model, model.get_env(), n_eval_episodes=1)
    model.learn(40, reset_num_timesteps=False)
    assert set(model.replay_buffer.lengths) == {10}


def test_a_callback_that_returns_false_stops_learning_and_loses_no_step():
    class StopAt(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < 17

    model = make_model(CountdownEnv(10))
    model.learn(100, StopAt())
    assert model.num_timesteps == 17
    assert model._episodes.steps_so_far[0] == 7
    model.learn(3, reset_num_timesteps=False)
    assert model.replay_buffer.lengths.tolist() == [10, 10]


def test_stock_callbacks_work(tmp_path):
    model = make_model("CartPole-v1")
    callbacks = [
        CheckpointCallback(100, str(tmp_path), save_replay_buffer=True),
        EvalCallback(make_vec_env("CartPole-v1", seed=99), eval_freq=150, n_eval_episodes=2, verbose=0),
        StopTrainingOnMaxEpisodes(12),
    ]
    model.learn(5000, callbacks)
    assert model._episode_num == 12
    assert (tmp_path / "rl_model_100_steps.zip").exists()
    assert (tmp_path / "rl_model_replay_buffer_100_steps.pkl").exists()
    assert np.isfinite(callbacks[1].last_mean_reward)


def test_all_keys_are_logged_with_the_values_that_the_docs_give(tmp_path):
    model = make_model(make_vec_env(lambda: CountdownEnv(5)), command_sampler=EXACT)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(40)
    model.logger.close()
    text = (tmp_path / "progress.csv").read_text().splitlines()
    logs = dict(zip(text[0].split(","), text[-1].split(","), strict=True))
    expected = {
        "rollout/desired_return": 5,
        "rollout/desired_horizon": 5,
        "rollout/command_error": 0,
        "rollout/ep_rew_mean": 5,
        "rollout/ep_len_mean": 5,
        "buffer/return_max": 5,
        "buffer/return_mean": 5,
        "buffer/return_min": 5,
        "train/learning_rate": 1e-3,
        "time/total_timesteps": 35,
        "time/episodes": 7,
        "buffer/episodes": 7,
        "buffer/steps": 35,
        "train/n_updates": 9,
        "time/iterations": 3,
    }
    assert {key: float(logs[key]) for key in expected} == pytest.approx(expected)
    assert {"train/loss", "train/achievable_loss", "train/entropy", "time/fps", "time/time_elapsed"} <= set(logs)
    docs = (pathlib.Path(__file__).parent.parent / "docs" / "logging.md").read_text()
    assert all(f"`{key}`" in docs for key in logs)


def test_log_interval_none_logs_nothing(tmp_path):
    model = make_model(CountdownEnv(5))
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(40, log_interval=None)
    assert (tmp_path / "progress.csv").read_text() == ""
    model.dump_logs()
    model.logger.close()
    assert "train/loss" in (tmp_path / "progress.csv").read_text()


def test_tensorboard_runs_are_named_after_the_algorithm(tmp_path):
    model = make_model(CountdownEnv(5), tensorboard_log=str(tmp_path))
    model.learn(20)
    model.learn(20, tb_log_name="mine")
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["UDRL_1", "mine_1"]


def test_an_env_whose_episodes_do_not_end_is_pointed_out():
    with pytest.warns(UserWarning, match="learns from finished episodes only"):
        make_model(CountdownEnv(5000)).learn(1500)


def test_training_that_ends_before_the_first_update_is_pointed_out():
    with pytest.warns(UserWarning, match=r"Nothing is learned yet: learning_starts=\(3, 'episode'\), and there were 2"):
        make_model(CountdownEnv(10)).learn(25)


# ------------------------------------------------------------------ seeds


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit_in_one_process_or_several(env_id):
    vec_envs = [DummyVecEnv, DummyVecEnv, SubprocVecEnv]
    models = []
    for vec_env_cls in vec_envs:
        env = make_vec_env(env_id, 2, seed=1, vec_env_cls=vec_env_cls)
        models.append(make_model(env).learn(2500))
        env.close()
    assert models[0]._n_updates > 0
    assert th.equal(weights(models[0]), weights(models[1]))
    assert th.equal(weights(models[0]), weights(models[2]))


def test_another_seed_gives_other_weights():
    assert not th.equal(*(weights(make_model("CartPole-v1", seed=seed).learn(300)) for seed in (0, 1)))


# ------------------------------------------------------------------ acting


def test_after_learning_and_loading_nothing_more_is_learned_by_looking(tmp_path):
    model = make_model(CountdownEnv(5)).learn(50)
    model.save(tmp_path / "model")
    for one in (model, UDRL.load(tmp_path / "model")):
        before = {key: value.clone() for key, value in one.policy.state_dict().items()}
        one.policy.get_distribution(
            one.policy.obs_to_tensor(np.full((1, *one.observation_space.shape), 9.0, np.float32))[0]
        )
        assert all(th.equal(value, before[key]) for key, value in one.policy.state_dict().items())


def test_the_evaluation_command_is_what_the_best_episodes_reached():
    model = make_model(CountdownEnv(5), command_sampler=EXACT).learn(50)
    assert model.command == Command(5.0, 5.0)


def test_by_default_more_is_asked_than_ever_was_reached():
    model = make_model(CountdownEnv(5)).learn(50)
    assert model.command.desired_return >= 5
    assert model.command.desired_horizon > 5


def test_a_command_that_the_user_sets_stays_through_training_and_saving(tmp_path):
    model = make_model(CountdownEnv(5)).learn(50)
    model.set_command(3.0, 4.0)
    model.learn(50)
    model.save(tmp_path / "model")
    loaded = UDRL.load(tmp_path / "model", env=CountdownEnv(5))
    assert loaded.command == Command(3.0, 4.0)
    loaded.learn(50)
    assert loaded.command == Command(3.0, 4.0)
    with pytest.raises(ValueError, match="horizon is 0"):
        model.set_command(3.0, 0.0)


def test_evaluate_policy_takes_the_model_and_the_policy():
    model = make_model("CartPole-v1").learn(500)
    env = make_vec_env("CartPole-v1", 2, seed=7)
    for subject in (model, model.policy):
        mean, _ = evaluate_policy(subject, env, n_eval_episodes=4)
        assert mean > 0


# ------------------------------------------------------------------ saving and loading


def test_a_loaded_model_goes_on_as_if_it_had_never_stopped(tmp_path):
    env = make_vec_env(lambda: RandomEnv(20), 2)
    model = make_model(env)
    model.learn(301)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    env_state = [(e.unwrapped.rng.bit_generator.state, e.unwrapped.left) for e in env.envs]

    def go_on(model):
        for e, (state, left) in zip(env.envs, env_state, strict=True):
            e.unwrapped.rng.bit_generator.state, e.unwrapped.left = state, left
        model.set_random_seed(5)
        model._last_obs = last_obs
        model.learn(200, reset_num_timesteps=False)
        return weights(model)

    last_obs = model._last_obs
    loaded = UDRL.load(tmp_path / "model", env=env, force_reset=False)
    loaded.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=False)
    assert loaded.num_timesteps == model.num_timesteps
    expected = go_on(model)
    assert th.equal(go_on(loaded), expected)
    np.testing.assert_array_equal(loaded.replay_buffer.returns, model.replay_buffer.returns)


def test_what_a_callback_saves_can_be_gone_on_with_in_the_very_same_env(tmp_path):
    env = make_vec_env(lambda: CountdownEnv(10))
    make_model(env).learn(13, CheckpointCallback(13, str(tmp_path), save_replay_buffer=True))
    loaded = UDRL.load(tmp_path / "rl_model_13_steps", env=env, force_reset=False)
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_13_steps", truncate_last_traj=False)
    assert loaded._episodes.steps_so_far.tolist() == [3]
    loaded.learn(27, reset_num_timesteps=False)
    assert loaded.replay_buffer.lengths.tolist() == [10] * 4


def test_loading_forgets_the_episodes_under_way_unless_told_otherwise(tmp_path):
    env = make_vec_env(lambda: CountdownEnv(50))
    model = make_model(env)
    model.learn(60)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = UDRL.load(tmp_path / "model", env=env, force_reset=False)
    loaded.load_replay_buffer(tmp_path / "buffer")
    # In the middle of an episode whose beginning nobody knows any more
    loaded.learn(90, reset_num_timesteps=False)
    assert loaded.replay_buffer.lengths.tolist() == [50, 50]


def test_a_loaded_model_without_its_buffer_starts_from_the_command_it_had(tmp_path):
    model = make_model(CountdownEnv(5), command_sampler=EXACT).learn(100)
    model.save(tmp_path / "model")
    loaded = UDRL.load(tmp_path / "model", env=CountdownEnv(5))
    seen = spy_on_commands(loaded)
    loaded.learn(5)
    assert seen[0] == [Command(5.0, 5.0)]


def test_loaded_episodes_are_used_as_this_model_does(tmp_path):
    make_model(CountdownEnv(5)).learn(50).save_replay_buffer(tmp_path / "buffer")
    model = make_model(CountdownEnv(5), segments="trailing", buffer_size=4)
    model.load_replay_buffer(tmp_path / "buffer")
    assert isinstance(model.replay_buffer.segments, TrailingSegments)
    assert model.replay_buffer.numbers.tolist() == [6, 7, 8, 9]
    assert len(model.learn(50).replay_buffer) == 4


def test_episodes_are_saved_without_the_rules_that_loading_replaces(tmp_path):
    class LocalWeighting(UniformWeighting):
        """Cannot be pickled, as a user's own in a notebook can hardly be loaded elsewhere."""

    weighting = LocalWeighting()
    model = make_model(CountdownEnv(5), weighting=weighting).learn(50)
    model.save_replay_buffer(tmp_path / "buffer")
    assert model.replay_buffer.weighting is weighting
    loaded = make_model(CountdownEnv(5))
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.learn(5).replay_buffer.lengths.tolist() == [5] * 11


def test_parameters_include_the_optimizer(tmp_path):
    model = make_model(CountdownEnv(5)).learn(50)
    assert set(model.get_parameters()) == {"policy", "policy.optimizer"}
    model.save(tmp_path / "model.zip")
    state = UDRL.load(tmp_path / "model.zip").get_parameters()["policy.optimizer"]["state"]
    expected = model.get_parameters()["policy.optimizer"]["state"]
    assert th.equal(state[0]["exp_avg"], expected[0]["exp_avg"])


def test_models_and_buffers_go_through_open_files():
    model = make_model(CountdownEnv(5)).learn(50)
    model_file, buffer_file = io.BytesIO(), io.BytesIO()
    model.save(model_file)
    model.save_replay_buffer(buffer_file)
    loaded = UDRL.load(model_file)
    buffer_file.seek(0)
    loaded.load_replay_buffer(buffer_file)
    assert len(loaded.replay_buffer) == len(model.replay_buffer)


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    model = make_model(CountdownEnv(5)).learn(20)
    model.save(tmp_path / "model.zip")
    before = (tmp_path / "model.zip").read_bytes()
    model.unpicklable = (i for i in range(3))
    with pytest.raises(TypeError):
        model.save(tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


def test_a_link_keeps_pointing_to_what_is_saved(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "latest.zip").symlink_to(tmp_path / "here" / "model.zip")
    make_model(CountdownEnv(5)).save(tmp_path / "latest.zip")
    assert (tmp_path / "latest.zip").is_symlink()
    assert UDRL.load(tmp_path / "here" / "model.zip").replay_buffer.buffer_size == 300


def test_truncated_and_foreign_files_are_refused_with_a_reason(tmp_path):
    make_model(CountdownEnv(5)).save(tmp_path / "whole.zip")
    (tmp_path / "half.zip").write_bytes((tmp_path / "whole.zip").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"half.zip is not a whole model file"):
        UDRL.load(tmp_path / "half.zip")
    damaged = bytearray((tmp_path / "whole.zip").read_bytes())
    damaged[damaged.rindex(b"PK\x01\x02") + 10] = 99  # how the last file in it is compressed
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"damaged.zip is not a whole model file \(.*compression"):
        UDRL.load(tmp_path / "damaged.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"other.zip is not a whole model file"):
        UDRL.load(tmp_path / "other.zip")
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "ppo.zip")
    with pytest.raises(ValueError, match="another algorithm saved the file"):
        UDRL.load(tmp_path / "ppo.zip")
    with pytest.raises(FileNotFoundError):
        UDRL.load(tmp_path / "nothing.zip")


def test_a_file_that_holds_no_episodes_is_refused(tmp_path):
    model = make_model(CountdownEnv(5)).learn(20)
    (tmp_path / "buffer.pkl").write_bytes(b"\x80\x04\x95")
    with pytest.raises(ValueError, match=r"buffer.pkl .*save_replay_buffer"):
        model.load_replay_buffer(tmp_path / "buffer.pkl")
    make_model(RandomEnv()).learn(20).save_replay_buffer(tmp_path / "other.pkl")
    with pytest.raises(ValueError, match="are of another environment"):
        model.load_replay_buffer(tmp_path / "other.pkl")
    assert len(model.replay_buffer) == 4


def test_a_model_for_another_space_is_refused(tmp_path):
    make_model("CartPole-v1").save(tmp_path / "model")
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        UDRL.load(tmp_path / "model", env=gym.make("Pendulum-v1"))


# ------------------------------------------------------------------ wrapped envs


def test_commands_are_in_the_rewards_of_the_env_also_under_vec_normalize():
    env = VecNormalize(make_vec_env(lambda: CountdownEnv(5), 2))
    model = make_model(env, command_sampler=EXACT).learn(200)
    assert set(model.replay_buffer.returns) == {5.0}
    assert model.command == Command(5.0, 5.0)


def test_observations_are_kept_raw_and_normalised_with_the_statistics_of_the_day():
    env = VecNormalize(make_vec_env(lambda: CountdownEnv(5), 2))
    model = make_model(env).learn(200)
    rng = np.random.default_rng(0)
    raw = model.replay_buffer.sample(64, np.random.default_rng(0)).observations
    assert set(raw.flatten().tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    normalised = model.replay_buffer.sample(64, rng, env).observations
    np.testing.assert_allclose(normalised, env.normalize_obs(raw.numpy()), rtol=1e-6)


def test_what_leaves_observations_alone_may_stand_around_vec_normalize():
    env = VecNormalize(DummyVecEnv([lambda: CountdownEnv(5)] * 2))
    model = make_model(env).learn(100)
    model.set_env(VecMonitor(VecCheckNan(env)))
    model.learn(100, reset_num_timesteps=False)
    raw = model.replay_buffer.sample(256, np.random.default_rng(0)).observations
    assert set(raw.flatten().tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_exact_progress_around_vec_normalize_changes_nothing_in_training():
    with_and_without = [
        make_model(wrap(VecNormalize(DummyVecEnv([lambda: RandomEnv()] * 2)))).learn(200)
        for wrap in (VecEpisodeProgress, lambda env: env)
    ]
    assert not with_and_without[0].replay_buffer.normalized
    assert th.equal(*(weights(model) for model in with_and_without))


def test_raw_and_normalised_observations_are_not_mixed():
    class SameObservations(VecEnvWrapper):
        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            return self.venv.step_wait()

    env = VecNormalize(make_vec_env(lambda: CountdownEnv(5), 2))
    model = make_model(env).learn(100)
    model.set_env(SameObservations(env))  # for all that is known it changes them
    with pytest.raises(ValueError, match="remembered observations are as the env gives them.*would be normalised"):
        model.learn(100, reset_num_timesteps=False)
    assert model.num_timesteps == 100


def test_an_env_that_begins_or_stops_to_normalise_is_reset_since_its_last_observation_is_of_another_kind():
    env = make_vec_env(lambda: CountdownEnv(50))
    model = make_model(env).learn(20)
    normalised = VecNormalize(env)
    normalised.reset()
    for next_env in (normalised, env):
        model.set_env(next_env, force_reset=False)
        model.learn(60, reset_num_timesteps=False)
    raw = model.replay_buffer.sample(512, np.random.default_rng(0)).observations
    assert set(raw.flatten().tolist()) == set(range(1, 51))
    assert model.replay_buffer.lengths.tolist() == [50, 50]


def test_vec_normalize_inside_a_frame_stack_is_kept_as_seen():
    env = VecFrameStack(VecNormalize(make_vec_env(lambda: CountdownEnv(5), 2)), 3)
    model = make_model(env).learn(200)
    assert model._n_updates > 0
    assert model.replay_buffer.sample(4, np.random.default_rng(0)).observations.shape == (4, 3)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("fault", ["reward", "observation"])
def test_values_that_are_not_finite_are_named_by_env_and_step_before_they_are_learned(fault, value):
    env = DummyVecEnv([lambda: CountdownEnv(10), lambda: FaultyEnv(fault, at_step=3, value=value)])
    model = make_model(env)
    with pytest.raises(ValueError, match=rf"Environment 1 returned .*{fault}.* = \[?(nan|inf)\]? at step 3 of"):
        model.learn(100)
    assert len(model.replay_buffer) == 0
    model.set_env(DummyVecEnv([lambda: CountdownEnv(10)] * 2), force_reset=False)
    model.learn(20, reset_num_timesteps=False)  # begins anew, since that step is lost
    assert model.replay_buffer.lengths.tolist() == [10, 10]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"buffer_size": 0}, "buffer_size=0"),
        ({"buffer_size": 2.5}, "buffer_size=2.5"),
        ({"gradient_steps": np.nan}, "gradient_steps=nan"),
        ({"gradient_steps": None}, "gradient_steps=None"),
        ({"train_freq": 1.5}, "train_freq=1.5"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"buffer_size": None}, "buffer_size=None"),
        ({"gradient_steps": -2}, "gradient_steps=-2"),
        ({"gradient_steps": 1.5}, "gradient_steps=1.5"),
        ({"train_freq": 0}, "train_freq=0"),
        ({"train_freq": (2, "epoch")}, r"train_freq=\(2, 'epoch'\)"),
        ({"learning_starts": (-1, "episode")}, "learning_starts="),
        ({"exploration_eps": 1.1}, "exploration_eps=1.1"),
        ({"exploration_eps": "1e-3"}, "exploration_eps='1e-3' is not a number.*!!float"),
        ({"exploration_eps": None}, "exploration_eps=None is not a number"),
        ({"warm_up_duration": 0}, "warm_up_duration=0"),
        ({"exploration_duration": 0}, "exploration_duration=0"),
        ({"exploration_duration": 2.5}, "exploration_duration=2.5"),
        ({"exploration_duration": None}, "exploration_duration=None"),
        ({"exploration_fraction": 0.0}, "exploration_fraction=0.0"),
        ({"exploration_fraction": 1.1}, "exploration_fraction=1.1"),
        ({"hope_fraction": 0.0}, "hope_fraction=0.0"),
        ({"hope_fraction": 1.5}, "hope_fraction=1.5"),
        ({"hope_fraction": "1"}, "hope_fraction='1' is not a number"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0"),
        ({"ent_coef": np.inf}, "ent_coef=inf"),
        ({"advantage_temperature": "1"}, "advantage_temperature='1' is not a number"),
        ({"policy_kwargs": {"luck": "1e-1"}}, "luck='1e-1' is not a number"),
        ({"policy_kwargs": {"hindsight_fraction": "5e-1"}}, "hindsight_fraction='5e-1' is not a number"),
        ({"policy_kwargs": {"horizon_scale": "1e-2"}}, "horizon_scale='1e-2' is not a number"),
        ({"segments": 2.0}, "segments=2.0"),
        ({"retention": "worst"}, r"retention='worst'.*'best', 'recent', 'best\+recent'"),
        ({"command_sampler": {"mean_std": {"lastfew": 3}}}, "lastfew"),
        ({"weighting": {"exponential": {"temperature": -1}}}, "temperature=-1"),
        ({"relabeling": "hindsight", "policy_kwargs": {"luck": 0.1}}, "luck=0.1.*relabeling='hindsight'"),
        (
            {"relabeling": "hindsight", "policy_kwargs": {"hindsight_fraction": 0.5}},
            "hindsight_fraction=0.5.*relabeling='hindsight'",
        ),
    ],
)
def test_arguments_that_cannot_work_are_refused_with_their_value(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_model(CountdownEnv(), **kwargs)


def test_counts_may_be_given_as_floats():
    model = make_model(
        CountdownEnv(5),
        batch_size=8.0,
        buffer_size=1e2,
        segments={"deadline": {"max_horizon": 20.0}},
        command_sampler={"mean_std": {"last_few": 2.0}},
        gradient_steps={"epochs": {"max_epochs": 2.0, "patience": 1.0}},
    )
    model.learn(50)
    assert model._n_updates > 0


def test_variants_are_chosen_by_name_with_arguments_or_as_objects():
    sampler = BestEpisodeSampler(last_few=3, max_factor=1.5)
    model = make_model(
        CountdownEnv(5),
        retention=RecentRetention(),
        command_sampler=sampler,
        weighting={"exponential": {"temperature": 0.5}},
    )
    assert model._sampler is sampler
    assert isinstance(model.replay_buffer.retention, RecentRetention)
    assert model.replay_buffer.weighting.temperature == 0.5
    model.learn(50)


def test_a_model_without_an_env_says_how_to_get_one(tmp_path):
    make_model(CountdownEnv(5)).save(tmp_path / "model")
    with pytest.raises(ValueError, match="set_env"):
        UDRL.load(tmp_path / "model").learn(10)


def test_training_without_episodes_says_what_to_do():
    model = make_model(CountdownEnv(50))
    model.learn(10)
    with pytest.raises(ValueError, match="collect at least one whole episode"):
        model.train(gradient_steps=1, batch_size=4)


def test_spaces_that_sb3_has_no_distribution_for_are_refused():
    env = CountdownEnv(5)
    env.action_space = spaces.Tuple([spaces.Discrete(2)])
    with pytest.raises(AssertionError, match="only supports"):
        make_model(DummyVecEnv([lambda: env]))


def test_steps_may_be_counted_in_any_whole_number_or_sb3s_own_words():
    model = make_model(CountdownEnv(5), train_freq=TrainFreq(4, TrainFrequencyUnit.STEP), learning_starts=np.int64(7))
    assert model._train_freq == (4, TrainFrequencyUnit.STEP)
    assert model._learning_starts == (7, TrainFrequencyUnit.STEP)


@pytest.mark.parametrize(
    ("policy", "observation", "action", "error", "message"),
    [
        (
            "MlpPolicy",
            spaces.Tuple([spaces.Discrete(2)]),
            spaces.Discrete(2),
            NotImplementedError,
            "Tuple.*not supported",
        ),
        (
            "MultiInputPolicy",
            spaces.Discrete(2),
            spaces.Discrete(2),
            ValueError,
            r"these are Discrete\(2\): use MlpPolicy",
        ),
        ("MlpPolicy", spaces.Discrete(2), spaces.Discrete(3, start=1), ValueError, "do not start at 0"),
        ("MlpPolicy", spaces.Discrete(2, start=1), spaces.Discrete(3), ValueError, "do not start at 0"),
        ("MlpPolicy", spaces.Discrete(2), spaces.MultiDiscrete([3, 3], start=[0, 1]), ValueError, "do not start at 0"),
    ],
)
def test_spaces_that_cannot_be_learned_in_are_refused_at_once(policy, observation, action, error, message):
    with pytest.raises(error, match=message):
        UDRL(policy, SpaceEnv(observation, action))


def test_a_new_model_needs_its_environment():
    with pytest.raises(ValueError, match="pass env"):
        UDRL("MlpPolicy", None)


def test_policies_that_take_no_commands_are_refused():
    with pytest.raises(ValueError, match="does not take commands"):
        UDRL(PPO.policy_aliases["MlpPolicy"], CountdownEnv(5))


def test_training_makes_no_second_copy_of_what_is_remembered():
    env = FakeImageEnv(screen_height=64, screen_width=64, n_channels=3, discrete=True)
    model = UDRL("CnnPolicy", env, batch_size=32, buffer_size=50, learning_starts=0, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(50):
        observations = rng.integers(0, 255, (40, 3, 64, 64), dtype=np.uint8)
        model.replay_buffer.add(Episode(observations, rng.integers(0, 2, 40), rng.normal(size=40)))
    model._setup_learn(1)
    tracemalloc.start()
    model.train(5, 32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert model.replay_buffer.nbytes > 2e7
    # A batch of 32 pictures, and what is logged; the networks' own memory is not NumPy's
    assert peak < 0.1 * model.replay_buffer.nbytes


def weights_of(model, advantages, to_the_letter=False):
    advantages = th.tensor(advantages)
    return model._weights(advantages, th.tensor(to_the_letter).expand(len(advantages)))


def test_examples_all_count_the_same_by_default():
    assert weights_of(make_model(CountdownEnv(5)), [-1.0, 1.0]).tolist() == [1, 1]


def test_with_a_temperature_examples_count_by_their_advantage_over_each_other():
    model = make_model(CountdownEnv(5), advantage_temperature=0.5)
    weights = weights_of(model, [-1.0, 1.0])
    assert weights.mean() == pytest.approx(1)
    # Two standard deviations apart, and a share of .3 is the same for all
    th.testing.assert_close((weights[1] - 0.3) / (weights[0] - 0.3), th.tensor(np.e**4, dtype=th.float32))
    # Neither the unit of reward nor how well all of them did matters
    th.testing.assert_close(weights_of(model, [-3e9, -1e9]), weights)
    th.testing.assert_close(weights_of(model, [7.0, 7.0]), th.ones(2))
    # Those that stand for what came have no part in it
    mixed = weights_of(model, [-1.0, 50.0, 1.0, -50.0], [False, True, False, True])
    th.testing.assert_close(mixed, th.tensor([weights[0], 1.0, weights[1], 1.0]))
    with pytest.raises(ValueError, match="advantage_temperature=0"):
        make_model(CountdownEnv(5), advantage_temperature=0)


def test_without_estimates_examples_stand_for_what_came():
    model = make_model(CountdownEnv(5), policy_kwargs={"achievable_expectile": None}, command_sampler="best_episode")
    assert isinstance(model.replay_buffer.relabeling, HindsightRelabeling)
    assert isinstance(make_model(CountdownEnv(5)).replay_buffer.relabeling, NStepRelabeling)
