"""The RL Zoo's commands work with UDRL: each is run for real on a small job, and what it leaves behind is looked at."""

import os
import subprocess
import sys

import numpy as np
import optuna
import pytest
import yaml
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_udrl import UDRL

pytest.importorskip("rl_zoo3")

ENV_ID = "CartPole-v1"
TRAIN = ["train", "--algo", "udrl", "--env", ENV_ID, "--eval-freq", "500", "--eval-episodes", "2", "--seed", "1"]


def zoo(folder, *arguments, module="sb3_udrl.zoo", check=True):
    """Run a command in a folder of its own, as a user would; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "SDL_VIDEODRIVER": "dummy", "MPLBACKEND": "agg", "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which an agent has been trained with our configuration, found without --conf-file."""
    folder = tmp_path_factory.mktemp("zoo")
    zoo(folder, *TRAIN, "-n", 2000, "--save-freq", 1000, "--save-replay-buffer", "-tb", "tb")
    return folder


def test_train_leaves_all_that_the_zoo_promises(trained):
    run = trained / "logs" / "udrl" / f"{ENV_ID}_1"
    names = {path.name for path in run.iterdir()}
    assert {f"{ENV_ID}.zip", "best_model.zip", "evaluations.npz", "replay_buffer.pkl", "0.monitor.csv"} <= names
    assert "rl_model_1000_steps.zip" in names
    config = dict(yaml.unsafe_load((run / ENV_ID / "config.yml").read_text()))
    assert config["policy"] == "MlpPolicy"
    assert UDRL.load(run / f"{ENV_ID}.zip").num_timesteps == 2000
    evaluations = np.load(run / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == [496, 992, 1488, 1984]
    assert list((trained / "tb").rglob("events.out.tfevents.*"))


def test_enjoy_plays_the_trained_agent(trained):
    output = zoo(trained, "enjoy", "--algo", "udrl", "--env", ENV_ID, "-f", "logs", "-n", 600, "--no-render")
    assert "Mean reward" in output


def test_enjoy_takes_a_command(trained):
    shared = ["enjoy", "--algo", "udrl", "--env", ENV_ID, "-f", "logs", "-n", 100, "--no-render"]
    output = zoo(trained, *shared, "--desired-return", 10, "--desired-horizon", 0.5, check=False)
    assert "The desired horizon is 0.5" in output
    zoo(trained, *shared, "--desired-return", 10, "--desired-horizon", 20)


def test_a_video_is_recorded(trained):
    pytest.importorskip("moviepy")
    pytest.importorskip("pygame")
    zoo(trained, "record_video", "--algo", "udrl", "--env", ENV_ID, "-f", "logs", "-n", 20, "--desired-return", 10)
    videos = list((trained / "logs").rglob("*.mp4"))
    assert videos
    assert all(video.stat().st_size > 0 for video in videos)


def test_training_goes_on_from_a_saved_agent_and_its_episodes(trained, tmp_path):
    run = trained / "logs" / "udrl" / f"{ENV_ID}_1"
    output = zoo(tmp_path, *TRAIN, "-n", 500, "-i", run / f"{ENV_ID}.zip")
    assert "Loading replay buffer" in output
    before = load_from_zip_file(run / f"{ENV_ID}.zip")[0]
    after = load_from_zip_file(tmp_path / "logs" / "udrl" / f"{ENV_ID}_1" / f"{ENV_ID}.zip")[0]
    # One update for 4 steps, from the first episode on: a new random warm-up would have taken all of the 500 steps
    assert after["_n_updates"] >= before["_n_updates"] + 50


def test_hyper_parameters_are_searched_and_those_of_a_trial_can_be_trained(tmp_path):
    storage = ["--storage", "sqlite:///study.db", "--study-name", "udrl"]
    search = ["-optimize", "--n-trials", 3, "--sampler", "random", "--pruner", "halving", "--n-evaluations", 2]
    zoo(tmp_path, *TRAIN, "-n", 1200, *search, *storage, "--no-optim-plots")
    study = optuna.load_study(study_name="udrl", storage=f"sqlite:///{tmp_path / 'study.db'}")
    finished = [trial for trial in study.trials if trial.state.is_finished()]
    assert len(finished) == 3
    assert not [trial for trial in finished if trial.state == optuna.trial.TrialState.FAIL]
    zoo(tmp_path, *TRAIN, "-n", 600, *storage, "--trial-id", 1)
    (saved,) = (tmp_path / "logs").rglob(f"{ENV_ID}.zip")
    model = UDRL.load(saved)
    assert model.batch_size == 2 ** study.trials[1].params["batch_size_pow"]


def test_learning_curves_are_plotted(trained):
    pytest.importorskip("seaborn")
    zoo(trained, "plot_train", "-a", "udrl", "-e", ENV_ID, "-f", "logs")
    zoo(trained, "all_plots", "-a", "udrl", "-e", ENV_ID, "-f", "logs", "--no-display", "-o", "post")
    assert (trained / "post.pkl").stat().st_size > 0


def test_stock_algorithms_train_beside_it(tmp_path):
    zoo(tmp_path, "train", "--algo", "ppo", "--env", ENV_ID, "-n", 300, "--eval-freq", -1)
    assert (tmp_path / "logs" / "ppo" / f"{ENV_ID}_1" / f"{ENV_ID}.zip").exists()


def test_the_stock_commands_know_udrl_by_a_module_of_the_users(tmp_path):
    (tmp_path / "custom_envs.py").write_text("from sb3_udrl.zoo import register\n\nregister()\n")
    stock = [*TRAIN, "-n", 600, "--conf-file", "sb3_udrl.zoo.hyperparams"]
    zoo(tmp_path, *stock[1:], module="rl_zoo3.train")
    assert (tmp_path / "logs" / "udrl" / f"{ENV_ID}_1" / f"{ENV_ID}.zip").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "'fly' is not a command of the Zoo"),
        (["train", "--algo", "udrl", "--trial-id", "0"], "rl_zoo3 takes trial 0 for none"),
        (["train", "--algo", "udrl", "--conf-file", "udrl_nonsense"], "There is no configuration 'udrl_nonsense'"),
    ],
)
def test_mistakes_are_answered_by_a_sentence(arguments, message, tmp_path):
    output = zoo(tmp_path, *arguments, check=False)
    assert message in output
    assert "Traceback" not in output


def test_without_the_zoo_the_command_says_what_to_install():
    code = (
        "import runpy, sys; sys.modules['rl_zoo3'] = None; sys.argv = ['zoo', 'train', '--algo', 'udrl']; "
        "runpy.run_module('sb3_udrl.zoo', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("train needs the module rl_zoo3")


def test_help_lists_the_commands(tmp_path):
    assert "record_training" in zoo(tmp_path, "--help")


def test_importing_the_package_does_not_import_the_zoo():
    code = "import sys, sb3_udrl; assert 'rl_zoo3' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
