"""The command line trains, evaluates, saves, and says so."""

import json
import re

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from toy_envs import CountdownEnv

from sb3_udrl import UDRL, EpisodeProgress
from sb3_udrl.__main__ import EVALUATION_SEED, main, number_range
from sb3_udrl.evaluation import calibrate
from sb3_udrl.policies import policy_name


def test_it_trains_evaluates_saves_and_says_where(tmp_path, capsys):
    main(["--timesteps", "2000", "--n-envs", "2", "--n-eval-episodes", "4", "--out", str(tmp_path)])
    output = capsys.readouterr().out
    path = tmp_path / "udrl-CartPole-v1.zip"
    assert "in 4 new episodes" in output
    assert str(path) in output
    loaded = UDRL.load(path)
    assert f"Asked for a return of {loaded.command.desired_return:.1f}" in output


def test_the_command_of_the_evaluation_can_be_chosen_and_is_saved(tmp_path, capsys):
    command = ["--desired-return", "30", "--desired-horizon", "40"]
    main(["--timesteps", "1500", "--n-eval-episodes", "2", "--out", str(tmp_path), *command])
    assert "a return of 30.0 within 40 steps" in capsys.readouterr().out
    assert UDRL.load(tmp_path / "udrl-CartPole-v1.zip").command == (30.0, 40.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "CartPool-v1"], "CartPool.*pprint_registry"),
        (["--n-envs", "0"], "must be at least 1, got 0"),
        (["--desired-horizon", "0"], "The desired horizon is 0"),
        (["--desired-return", "nan"], "must be finite"),
        (["calibrate", "nothing.zip", "--env", "CartPole-v1", "--returns=1"], "nothing.zip cannot be loaded"),
        (["calibrate", "nothing.zip", "--env", "CartPole-v1", "--returns", "10:0:5"], "no number lies in '10:0:5'"),
        (["--out", "/proc/nowhere"], "--out /proc/nowhere: nothing can be saved there"),
    ],
)
def test_bad_arguments_end_with_a_sentence_before_training(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(UDRL, "learn", None)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert re.search(message, f"{end.value}{capsys.readouterr().err}")  # argparse prints its own


def test_the_policy_is_the_one_that_the_observations_need():
    image = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
    spaces = [gym.spaces.Box(-1, 1, (3,)), image, gym.spaces.Dict({"image": image})]
    assert [policy_name(space) for space in spaces] == ["MlpPolicy", "CnnPolicy", "MultiInputPolicy"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("50:150:50", [50, 100, 150]), ("0:11:4", [0, 4, 8]), ("0:1:.1", np.linspace(0, 1, 11)), ("3,1", [3, 1])],
)
def test_a_range_ends_where_it_says(text, numbers):
    assert number_range(text) == pytest.approx(list(numbers))


def test_too_few_steps_to_learn_anything_are_said(tmp_path, capsys):
    main(["--timesteps", "16", "--n-eval-episodes", "1", "--out", str(tmp_path)])
    assert "Nothing was learned" in capsys.readouterr().out


def test_a_model_that_does_not_fit_the_environment_ends_with_a_sentence(tmp_path):
    UDRL("MlpPolicy", "CartPole-v1", seed=0).save(tmp_path / "model.zip")
    with pytest.raises(SystemExit, match="cannot play Pendulum-v1"):
        main(["calibrate", str(tmp_path / "model.zip"), "--env", "Pendulum-v1", "--returns", "5"])


@pytest.mark.parametrize("wrapper", [None, EpisodeProgress])
def test_a_model_trained_with_vec_normalize_is_calibrated_with_its_statistics_or_not_at_all(wrapper, tmp_path):
    def make_env(n_envs, seed, **kwargs):
        env = make_vec_env("CartPole-v1", n_envs, seed=seed, wrapper_class=wrapper)
        return VecNormalize(env, norm_obs_keys=None if wrapper is None else ["observation"], **kwargs)

    env = make_env(1, 0)
    model = UDRL("MlpPolicy", env, learning_starts=20, seed=0).learn(200)
    model.save(tmp_path / "model.zip")
    env.save(str(tmp_path / "statistics.pkl"))
    arguments = [
        "calibrate",
        str(tmp_path / "model.zip"),
        "--env",
        "CartPole-v1",
        "--returns",
        "20",
        "--horizons",
        "30",
    ]
    with pytest.raises(SystemExit, match=r"VecNormalize normalised.*--vec-normalize"):
        main(arguments)
    with pytest.raises(SystemExit, match="nothing.pkl cannot be loaded"):
        main([*arguments, "--vec-normalize", "nothing.pkl"])
    with pytest.raises(SystemExit, match="does not fit Pendulum-v1"):
        main([*arguments, "--env", "Pendulum-v1", "--vec-normalize", str(tmp_path / "statistics.pkl")])
    main([*arguments, "--vec-normalize", str(tmp_path / "statistics.pkl"), "--out", str(tmp_path)])
    (record,) = json.loads((tmp_path / "calibration.json").read_text())

    eval_env = make_env(8, EVALUATION_SEED, training=False, norm_reward=False)
    eval_env.obs_rms = env.obs_rms
    (expected,) = calibrate(model, eval_env, [(20, 30)], 20)
    assert record["mean_return"] == expected["mean_return"]


def test_a_model_whose_rewards_alone_were_normalised_needs_no_statistics(tmp_path, capsys):
    env = VecNormalize(make_vec_env("CartPole-v1", seed=0), norm_obs=False)
    UDRL("MlpPolicy", env, learning_starts=20, seed=0).learn(200).save(tmp_path / "model.zip")
    main(["calibrate", f"{tmp_path}/model.zip", "--env", "CartPole-v1", "--returns", "20", "--horizons", "30"])
    assert "Mean error relative to the command" in capsys.readouterr().out


def test_where_episodes_need_not_end_evaluation_does_not_wait_for_one(tmp_path, capsys):
    gym.register("Endless-v0", lambda: CountdownEnv(10**9))
    try:
        main(["--env", "Endless-v0", "--timesteps", "16", "--out", str(tmp_path)])
    finally:
        del gym.registry["Endless-v0"]
    assert "Not evaluated: no episode of Endless-v0 has ended" in capsys.readouterr().out
    assert (tmp_path / "udrl-Endless-v0.zip").exists()


def test_what_cannot_be_drawn_is_not_trained_for_a_video(monkeypatch):
    pytest.importorskip("moviepy")
    monkeypatch.setattr(UDRL, "learn", None)
    spec = gym.envs.registration.EnvSpec("Dark-v0", entry_point=lambda: CountdownEnv(10))
    monkeypatch.setitem(gym.registry, "Dark-v0", spec)
    with pytest.raises(SystemExit, match="Dark-v0 cannot be drawn"):
        main(["--env", "Dark-v0", "--video"])


def test_a_video_is_recorded_where_rendering_is_possible(tmp_path, capsys):
    pytest.importorskip("moviepy")
    pytest.importorskip("pygame")
    main(["--timesteps", "1500", "--n-eval-episodes", "2", "--out", str(tmp_path), "--video"])
    assert "Video: " in capsys.readouterr().out
    videos = list(tmp_path.glob("*.mp4"))
    assert len(videos) == 1
    assert videos[0].stat().st_size > 1000
