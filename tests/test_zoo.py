"""The RL Zoo's commands work with UDRL: each is run for real on a small job, and what it leaves behind is looked at."""

import os
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import optuna
import pytest
import yaml
from hub import running_hub
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_udrl import UDRL

pytest.importorskip("rl_zoo3")

ENV_ID = "CartPole-v1"
TRAIN = ["train", "--algo", "udrl", "--env", ENV_ID, "--eval-freq", "500", "--eval-episodes", "2", "--seed", "1"]


def zoo(folder, *arguments, module="sb3_udrl.zoo", check=True, **environment):
    """Run a command in a folder of its own, as a user would; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "SDL_VIDEODRIVER": "dummy", "MPLBACKEND": "agg", "WANDB_MODE": "offline", **environment},
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


def returns_of(model, n_steps):
    """What a model gets in the episodes that end within so many steps, in the environment that enjoy plays in."""
    env = make_vec_env(ENV_ID, seed=0)
    observation, state, start, returns, so_far = env.reset(), None, np.ones(1, bool), [], 0.0
    for _ in range(n_steps):
        action, state = model.predict(observation, state, start, deterministic=True)
        observation, reward, start, _ = env.step(action)
        so_far += reward[0]
        if start[0]:
            returns.append(so_far)
            so_far = 0.0
    return returns


@pytest.mark.parametrize("command", [None, (10, 20)])
def test_enjoy_plays_the_trained_agent_under_its_own_command_or_another(trained, command):
    options = [] if command is None else ["--desired-return", command[0], "--desired-horizon", command[1]]
    shared = ["enjoy", "--algo", "udrl", "--env", ENV_ID, "-f", "logs", "-n", 600, "--no-render"]
    played = [float(value) for value in re.findall(r"Episode Reward: (\S+)", zoo(trained, *shared, *options))]
    model = UDRL.load(trained / "logs" / "udrl" / f"{ENV_ID}_1" / f"{ENV_ID}.zip")
    own = returns_of(model, 600)
    if command is not None:
        model.set_command(*command)
    assert played == returns_of(model, 600)
    assert (played == own) == (command is None)


def test_enjoy_refuses_a_command_that_nobody_can_obey(trained):
    shared = ["enjoy", "--algo", "udrl", "--env", ENV_ID, "-f", "logs", "-n", 100, "--no-render"]
    output = zoo(trained, *shared, "--desired-return", 10, "--desired-horizon", 0.5, check=False)
    assert "The desired horizon is 0.5" in output
    assert "Traceback" not in output


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


def test_learning_curves_are_plotted(trained, tmp_path):
    pytest.importorskip("seaborn")
    runs = trained / "logs" / "udrl"
    zoo(trained, "plot_train", "-a", "udrl", "-e", ENV_ID, "-f", "logs")
    for number in (1, 2):  # of one run alone rl_zoo3 makes no table
        shutil.copytree(runs / f"{ENV_ID}_1", tmp_path / "logs" / "udrl" / f"{ENV_ID}_{number}")
    table = zoo(tmp_path, "all_plots", "-a", "udrl", "-e", ENV_ID, "-f", "logs", "--no-display", "-o", "post")
    last = np.load(runs / f"{ENV_ID}_1" / "evaluations.npz")["results"][-1].mean()
    assert re.search(rf"{ENV_ID} *\| *{last:.0f} \+/- 0", table)
    output = zoo(tmp_path, "plot_from_file", "-i", "post.pkl", "-l", "ours", "-b", "-o", "box.svg")
    assert "keys: ['UDRL-logs']" in output
    assert "<svg" in (tmp_path / "box.svg").read_text()


def seconds(video):
    """How long a video is."""
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(video)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_training_is_recorded_from_its_checkpoints_to_its_end(trained, tmp_path):
    pytest.importorskip("moviepy")
    pytest.importorskip("pygame")
    run = tmp_path / "logs" / "udrl" / f"{ENV_ID}_1"
    shutil.copytree(trained / "logs" / "udrl" / f"{ENV_ID}_1", run)
    (run / "best_model.zip").unlink()
    asked = ["--desired-return", 10, "--desired-horizon", 10]
    zoo(tmp_path, "record_training", "--algo", "udrl", "--env", ENV_ID, "-f", "logs", "-n", 30, *asked)
    training = run / "videos" / "training.mp4"
    parts = sorted(path for path in (run / "videos").glob("*.mp4") if path != training)
    assert [path.name.partition("-udrl")[0] for path in parts] == ["checkpoint-1000", "checkpoint-2000", "final-model"]
    assert seconds(training) == pytest.approx(sum(map(seconds, parts)), rel=0.1)


def test_without_ffmpeg_recording_a_training_says_what_is_missing(tmp_path):
    output = zoo(tmp_path, "record_training", "--algo", "udrl", "--env", ENV_ID, check=False, PATH="/nowhere")
    assert output.startswith("record_training joins its videos with the program ffmpeg")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A folder in which an agent has been trained with VecNormalize, and tracked by Weights & Biases."""
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("tracked")
    zoo(folder, *TRAIN, "-n", 2000, "--track", "-params", "normalize:True")
    return folder


def test_weights_and_biases_sees_all_our_keys(tracked):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (events,) = (tracked / "runs").rglob("events.out.tfevents.*")
    logs = accumulator.EventAccumulator(str(events)).Reload()
    keys = set(logs.Tags()["scalars"])
    ours = {
        "rollout/desired_return",
        "rollout/command_error",
        "train/loss",
        "train/achievable_loss",
        "buffer/return_max",
    }
    assert ours | {"rollout/ep_rew_mean", "eval/mean_reward", "time/fps"} <= keys
    (record,) = (tracked / "wandb").rglob("offline-run-*/*.wandb")
    seen = record.read_bytes()
    assert [key for key in sorted(keys) if key.encode() not in seen] == []


def test_agents_are_benchmarked_with_their_normalisation(tracked):
    run = tracked / "logs" / "udrl" / f"{ENV_ID}_1"
    with (run / ENV_ID / "vecnormalize.pkl").open("rb") as file:
        statistics = pickle.load(file)
    assert statistics.obs_rms.count > 2000
    zoo(tracked, "benchmark", "--no-hub", "--log-dir", "logs", "--benchmark-dir", "bench", "-n", 300)
    played = np.genfromtxt(
        tracked / "bench" / f"udrl-{ENV_ID}" / "0.monitor.csv", delimiter=",", skip_header=1, names=True
    )
    header, _, row = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tracked / "bench" / "benchmark.md").read_text().splitlines()
        if line.startswith("|")
    ]
    result = dict(zip(header, row, strict=True))
    assert (result["algo"], result["env_id"]) == ("udrl", ENV_ID)
    assert float(result["mean_reward"]) == pytest.approx(played["r"].mean(), abs=0.001)
    assert (tracked / "benchmark.md").exists()


def test_an_agent_that_is_pushed_to_the_hub_can_be_loaded_from_it(trained, tmp_path):
    with running_hub(tmp_path / "hub") as address:
        environment = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_ours", "HF_HOME": str(tmp_path / "home")}
        shared = ["--algo", "udrl", "--env", ENV_ID, "--organization", "us"]
        zoo(trained, "push_to_hub", *shared, "-f", "logs", "--no-render", **environment)
        card = (tmp_path / "hub" / "us" / f"udrl-{ENV_ID}" / "README.md").read_text()
        assert f"**UDRL** Agent playing **{ENV_ID}**" in card
        load = ["load_from_hub", *shared, "-f", "loaded"]
        refused = zoo(tmp_path, *load, check=False, **environment)
        assert "you can set the environment variable `TRUST_REMOTE_CODE` to `True`" in refused
        assert "Traceback" not in refused
        zoo(tmp_path, *load, **environment, TRUST_REMOTE_CODE="True")
    pushed, loaded = (
        UDRL.load(folder / "udrl" / f"{ENV_ID}_1" / f"{ENV_ID}.zip")
        for folder in (trained / "logs", tmp_path / "loaded")
    )
    assert loaded.command == pushed.command
    for ours, theirs in zip(pushed.policy.parameters(), loaded.policy.parameters(), strict=True):
        assert ours.equal(theirs)


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
        (["train", "--algo", "udrl", "--trial-id", "3"], "Say --storage and --study-name"),
        (["train", "--algo", "udrl", "--conf-file", "mine.py"], "There is no configuration 'mine.py'"),
        (["enjoy", "--algo", "ppo", "--desired-return", "20"], "the agent is one of --algo ppo"),
        (["train", "--algo", "udrl", "--conf-file", "udrl_nonsense"], "There is no configuration 'udrl_nonsense'"),
        (["train", "--algo", "udrl", "--conf-file", "typo.yml"], "There is no configuration 'typo.yml'"),
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
