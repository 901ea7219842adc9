"""With EpisodeProgress commands count down exactly, whatever stands around it; misuse is refused with what to write."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecFrameStack, VecNormalize
from toy_envs import CountdownEnv, RandomEnv

from sb3_udrl import UDRL, EpisodeProgress, VecEpisodeProgress
from sb3_udrl.wrappers import PROGRESS_KEY, split_progress

DESIRED_RETURN, DESIRED_HORIZON = 50.0, 20.0


class TruthEnv(RandomEnv):
    """Random rewards and lengths; the observation is the truth about the episode: (return so far, steps so far)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(max_length=12, seed=seed)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def reset(self, **kwargs):
        _, info = super().reset(**kwargs)
        self.truth = np.zeros(2)
        return self.truth.astype(np.float32), info

    def step(self, action):
        _, reward, terminated, truncated, info = super().step(action)
        self.truth += (reward, 1)
        return self.truth.astype(np.float32), reward, terminated, truncated, info


def truth_envs(n_envs, vec_env_cls=DummyVecEnv, wrap=EpisodeProgress):
    """``n_envs`` environments that know the truth, each with its own randomness."""
    return vec_env_cls([lambda seed=seed: wrap(TruthEnv(seed)) for seed in range(n_envs)])


KEYS = {"norm_obs_keys": ["observation"]}
STACKS = {
    "one env": lambda: truth_envs(1),
    "three envs": lambda: truth_envs(3),
    "two processes": lambda: truth_envs(2, SubprocVecEnv),
    "frame stack": lambda: VecFrameStack(truth_envs(2), 3),
    "gymnasium's frame stack": lambda: truth_envs(2, wrap=lambda env: FrameStackObservation(EpisodeProgress(env), 3)),
    "normalised rewards": lambda: VecNormalize(truth_envs(2), norm_obs=False),
    "normalised": lambda: VecNormalize(truth_envs(2), **KEYS),
    "normalised, then stacked": lambda: VecFrameStack(VecNormalize(truth_envs(2), **KEYS), 3),
    "vec wrapper": lambda: VecEpisodeProgress(truth_envs(3, wrap=lambda env: env)),
    "vec wrapper around normalised rewards": lambda: VecEpisodeProgress(
        VecNormalize(truth_envs(3, wrap=lambda env: env), norm_obs=False)
    ),
}


def spy(model, env):
    """Compare the commands that reach the network with the truth in the (original) observation; return the errors."""
    errors = []
    forward = model.policy.command_scaling.forward

    def compare(commands):
        if model.policy.training:
            return forward(commands)
        truth = env.current_truth()
        errors.append(np.abs(commands.numpy() - ([DESIRED_RETURN, DESIRED_HORIZON] - truth)).max())
        return forward(commands)

    model.policy.command_scaling.forward = compare
    return errors


class TruthKeeper(VecEnvWrapper):
    """Outermost; remembers the truth that the env told, before anything normalised it."""

    def reset(self):
        observations = self.venv.reset()
        self.truth = np.zeros((self.num_envs, 2))
        return observations

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        self.truth += np.column_stack([self.original_rewards(rewards), np.ones(self.num_envs)])
        self.truth[dones] = 0
        return observations, rewards, dones, infos

    def original_rewards(self, rewards):
        env = self.venv
        while env is not None:
            if isinstance(env, VecNormalize):
                return env.get_original_reward()
            env = getattr(env, "venv", None)
        return rewards

    def current_truth(self):
        return self.truth


@pytest.mark.parametrize("stack", STACKS)
def test_the_command_counts_down_exactly_in_evaluate_policy(stack):
    env = TruthKeeper(STACKS[stack]())
    model = UDRL("MlpPolicy", env, seed=0)
    model.set_command(DESIRED_RETURN, DESIRED_HORIZON)
    errors = spy(model, env)
    evaluate_policy(model, env, n_eval_episodes=7, warn=False)
    env.close()
    assert len(errors) > 7
    assert max(errors) < 1e-5


def test_the_command_counts_down_exactly_in_eval_callback():
    env = TruthKeeper(truth_envs(2))
    model = UDRL("MlpPolicy", TruthKeeper(truth_envs(2)), seed=0)
    model.set_command(DESIRED_RETURN, DESIRED_HORIZON)
    callback = EvalCallback(env, n_eval_episodes=5, eval_freq=20, verbose=0, warn=False)
    errors = spy(model, env)
    model.learn(40, callback)  # random, without an update
    assert len(errors) > 5
    assert max(errors) < 1e-5


def test_the_command_counts_down_exactly_while_a_video_is_recorded(tmp_path):
    pytest.importorskip("moviepy")
    pytest.importorskip("pygame")
    inner = EpisodeProgress(gym.make("CartPole-v1", render_mode="rgb_array"))
    env = gym.wrappers.RecordVideo(inner, str(tmp_path), disable_logger=True)
    model = UDRL("MlpPolicy", "CartPole-v1", seed=0)
    model.set_command(50.0, 60.0)
    seen = []
    forward = model.policy.command_scaling.forward
    model.policy.command_scaling.forward = lambda commands: (seen.append(commands[0].tolist()), forward(commands))[1]
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        action, _ = model.predict(observation)
        observation, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    env.close()
    assert seen == [[50.0 - step, 60.0 - step] for step in range(len(seen))]
    assert list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("trained_on", [lambda: CountdownEnv(5), lambda: EpisodeProgress(CountdownEnv(5))])
def test_a_model_works_with_and_without_the_wrapper_whichever_it_was_trained_on(trained_on, tmp_path):
    model = UDRL("MlpPolicy", trained_on(), learning_starts=20, seed=0).learn(50)
    model.save(tmp_path / "model")
    plain, wrapped = CountdownEnv(5), EpisodeProgress(CountdownEnv(5))
    for subject in (model, UDRL.load(tmp_path / "model"), model.policy):
        actions = []
        for env in (plain, wrapped):
            assert evaluate_policy(subject, env, n_eval_episodes=2, warn=False)[0] == 5
            observation, _ = env.reset()
            actions.append(subject.predict(observation, deterministic=True)[0])
        # Constant rewards: the estimate is as exact as the facts
        assert actions[0] == actions[1]


def test_learning_is_the_same_with_and_without_the_wrapper():
    weights = []
    for wrap in (lambda env: env, EpisodeProgress):
        env = DummyVecEnv([lambda wrap=wrap: wrap(RandomEnv())])
        model = UDRL("MlpPolicy", env, learning_starts=20, seed=0).learn(200)
        assert PROGRESS_KEY not in model.replay_buffer.shapes
        weights.append(th.cat([parameter.detach().flatten() for parameter in model.policy.parameters()]))
    assert th.equal(*weights)


def test_dict_observations_keep_their_own_keys():
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)})

    class DictEnv(CountdownEnv):
        def __init__(self):
            super().__init__(5)
            self.observation_space = space

        def _observation(self):
            return {"a": np.zeros(2, np.float32), "b": 1}

    model = UDRL("MultiInputPolicy", EpisodeProgress(DictEnv()), learning_starts=10, seed=0).learn(40)
    assert model.policy.observation_space == space
    assert evaluate_policy(model, DictEnv(), n_eval_episodes=1, warn=False)[0] == 5
    with pytest.raises(ValueError, match="You must use `MultiInputPolicy`"):
        UDRL("MlpPolicy", EpisodeProgress(DictEnv()))


def test_the_terminal_observation_has_the_whole_episode():
    env = VecEpisodeProgress(DummyVecEnv([lambda: CountdownEnv(3)]))
    env.reset()
    for _ in range(3):
        observation, _, _, infos = env.step(np.zeros(1, dtype=int))
    assert infos[0]["terminal_observation"][PROGRESS_KEY].tolist() == [3, 3]
    assert observation[PROGRESS_KEY].tolist() == [[0, 0]]


def test_a_vec_normalize_over_the_reserved_key_is_refused_with_the_line_to_write():
    normalized = VecNormalize(truth_envs(2))
    with pytest.raises(ValueError, match=r"norm_obs_keys=\['observation'\]"):
        UDRL("MlpPolicy", normalized)
    model = UDRL("MlpPolicy", truth_envs(2))
    before = model.get_env()
    with pytest.raises(ValueError, match=r"norm_obs_keys=\['observation'\]"):
        model.set_env(normalized)
    assert model.get_env() is before
    # Also where only predict can see it
    model = UDRL("MlpPolicy", TruthEnv())
    with pytest.raises(ValueError, match=r"something has normalised it.*norm_obs_keys"):
        evaluate_policy(model, normalized, n_eval_episodes=20, warn=False)


def test_wrapping_twice_is_refused():
    with pytest.raises(ValueError, match="once, not both"):
        EpisodeProgress(EpisodeProgress(CountdownEnv()))
    with pytest.raises(ValueError, match="once, not both"):
        VecEpisodeProgress(truth_envs(1))


def test_a_dict_without_the_key_says_what_is_missing():
    model = UDRL("MlpPolicy", EpisodeProgress(CountdownEnv()))
    with pytest.raises(ValueError, match="episode_progress"):
        model.predict({"position": np.zeros(1, np.float32)})


def test_a_dict_of_one_observation_is_that_observation_with_and_without_the_wrapper():
    class OneKeyEnv(CountdownEnv):
        def __init__(self):
            super().__init__(5)
            self.observation_space = spaces.Dict({"observation": self.observation_space})

        def _observation(self):
            return {"observation": super()._observation()}

    model = UDRL("MlpPolicy", EpisodeProgress(OneKeyEnv()), learning_starts=10, seed=0).learn(30)
    assert evaluate_policy(model, OneKeyEnv(), n_eval_episodes=1, warn=False)[0] == 5


def test_a_single_observation_of_a_frame_stack_has_the_progress_of_today():
    env = FrameStackObservation(EpisodeProgress(TruthEnv()), 3)
    model = UDRL("MlpPolicy", env, learning_starts=20, seed=0).learn(50)
    observation, _ = env.reset()
    observation, reward, *_ = env.step(1)
    rest, progress = split_progress(observation, model.policy.observation_space)
    np.testing.assert_allclose(progress, [[reward, 1]], rtol=1e-6)
    assert rest.shape == (3, 2)
    model.predict(observation)
