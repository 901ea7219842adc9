"""The search for hyper-parameters: what is drawn can be trained, pruning stops, and workers share a study."""

import contextlib
import glob
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest
from stable_baselines3.common.env_util import make_vec_env

from sb3_udrl import UDRL

pytest.importorskip("rl_zoo3")
optuna = pytest.importorskip("optuna")

from rl_zoo3.callbacks import TrialEvalCallback  # noqa: E402

from sb3_udrl.zoo.__main__ import prepare_storage  # noqa: E402
from sb3_udrl.zoo.hyperparams_opt import convert_udrl_params, sample_udrl_params  # noqa: E402

ENV_ID = "CartPole-v1"
SEARCH = [
    *("train", "--algo", "udrl", "--env", ENV_ID, "-n", "200", "-optimize", "--study-name", "udrl"),
    *("--sampler", "random", "--pruner", "none", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"),
]


@pytest.fixture(scope="module")
def drawn():
    """Pairs of a trial's parameters and the arguments that were made of them."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(150)]
    return [(trial, sample_udrl_params(trial, 2, 8, {})) for trial in trials]


def test_every_setting_that_is_drawn_builds_a_model(drawn):
    for env_id in (ENV_ID, "Pendulum-v1"):
        env = make_vec_env(env_id)
        for _, arguments in drawn:
            UDRL("MlpPolicy", env, device="cpu", **arguments)


def test_a_few_of_them_also_learn(drawn):
    for _, arguments in drawn[:10]:
        arguments = {**arguments, "gradient_steps": 2, "learning_starts": (2, "episode")}
        model = UDRL("MlpPolicy", make_vec_env(ENV_ID), seed=0, **arguments)
        while model._n_updates < 4 and model.num_timesteps < 10_000:
            model.learn(200, reset_num_timesteps=False)
        assert model._n_updates >= 4


def test_all_variants_are_drawn(drawn):
    def names(argument):
        return {next(iter(arguments[argument])) for _, arguments in drawn}

    assert names("retention") == {"best", "recent", "best+recent", "best+spread"}
    assert names("segments") == {"deadline", "trailing", "uniform"}
    assert names("weighting") == {"uniform", "length", "exponential"}
    assert names("command_sampler") == {"more", "best_episode", "mean_std"}
    policies = [arguments["policy_kwargs"] for _, arguments in drawn]
    assert {kwargs["command_layer"] for kwargs in policies} == {"gated", "product", "bilinear"}
    assert {kwargs["achievable_expectile"] is None for kwargs in policies} == {True, False}
    assert {arguments["relabeling"] for _, arguments in drawn} == {"n_step", "hindsight"}
    assert {kwargs["luck"] == 1 for kwargs in policies} == {True, False}
    assert {kwargs["n_action_bins"] for kwargs in policies} == {None, 3, 5, 11}
    assert {arguments["advantage_temperature"] is None for _, arguments in drawn} == {True, False}
    assert {arguments["hope_fraction"] is None for _, arguments in drawn} == {True, False}
    assert {arguments["exploration_eps"] > 0 for _, arguments in drawn} == {True, False}
    assert {arguments["warm_up_duration"] > 1 for _, arguments in drawn} == {True, False}
    assert {arguments["exploration_duration"] > 1 for _, arguments in drawn} == {True, False}
    assert {arguments["exploration_fraction"] < 1 for _, arguments in drawn} == {True, False}
    assert {arguments["gradient_steps"] < 1 for _, arguments in drawn} == {True, False}


def test_bins_are_only_drawn_for_box_actions():
    trial = optuna.create_study().ask()
    sample_udrl_params(trial, 0, 8, {})
    assert "n_action_bins" not in trial.params


def test_more_than_ever_is_only_asked_where_it_is_clipped_to_what_can_be_had(drawn):
    for _, arguments in drawn:
        expectile = arguments["policy_kwargs"]["achievable_expectile"]
        assert "more" not in arguments["command_sampler"] or expectile is not None
        assert arguments["advantage_temperature"] is None or expectile is not None
        assert arguments["relabeling"] == "hindsight" or expectile is not None
        assert arguments["policy_kwargs"]["luck"] == 1 or arguments["relabeling"] == "n_step"
        assert arguments["hope_fraction"] is None or arguments["policy_kwargs"]["luck"] < 1


def test_what_a_trial_holds_gives_the_same_setting_again(drawn):
    for trial, arguments in drawn:
        assert convert_udrl_params(trial.params) == arguments


def test_pruning_stops_learning_cleanly():
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=1e9))
    trial = study.ask()
    callback = TrialEvalCallback(make_vec_env(ENV_ID, seed=1), trial, n_eval_episodes=1, eval_freq=100)
    model = UDRL("MlpPolicy", make_vec_env(ENV_ID, 2), learning_starts=(3, "episode"), seed=0)
    model.learn(10_000, callback)
    assert callback.is_pruned
    assert model.num_timesteps == 200  # of the first evaluation, and no more
    model.learn(100, reset_num_timesteps=False)
    assert model.num_timesteps == 300


def start(folder, *arguments):
    """A worker, as a user would start it."""
    command = [sys.executable, "-m", "sb3_udrl.zoo", *SEARCH, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*workers):
    """Wait for workers; return what each printed."""
    outputs = [worker.communicate(timeout=1200)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), "\n".join(outputs)
    return outputs


def test_a_study_in_a_journal_file_is_gone_on_with(tmp_path):
    def load(load_if_exists):
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "udrl.log"))
        storage = optuna.storages.JournalStorage(backend)
        return optuna.create_study(
            study_name="udrl", storage=storage, direction="maximize", load_if_exists=load_if_exists
        )

    study = load(False)
    trial = study.ask()
    sample_udrl_params(trial, 2, 8, {})
    study.tell(trial, 1.0)
    finish(start(tmp_path, "--storage", "udrl.log", "--n-trials", 2))
    trials = load(True).trials
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert all(trial.value >= 1 for trial in trials)


@pytest.fixture(scope="module")
def postgresql():
    """The address of a PostgreSQL server of our own, on loopback, that is gone afterwards."""
    pytest.importorskip("psycopg", reason='the storage needs: pip install "psycopg[binary]"')
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    initdb = shutil.which("initdb") or (found[-1] if found else None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # The server refuses to run as root, and others cannot look into pytest's own folders
    user = "nobody" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, user)
        data, tools = f"{folder}/data", pathlib.Path(initdb).parent
        with contextlib.closing(socket.socket()) as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]

        def run(tool, *arguments):
            command = [str(tools / tool), "-D", data, *arguments]
            subprocess.run(command, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)

        run("initdb", "-U", "optuna", "--auth=trust", "--no-sync")
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", f"-h 127.0.0.1 -p {port} -k {folder} -F", "start")
        try:
            yield f"postgresql+psycopg://optuna@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("postgresql+pg8000://nobody@127.0.0.1:1/none", "--storage needs the module pg8000, which is not installed."),
        ("sqlite:////no/such/folder/study.db", "--storage: the database cannot be used."),
    ],
)
def test_a_storage_that_cannot_be_used_is_told_in_a_sentence(storage, message, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(SystemExit, match=message):
        prepare_storage(["--algo", "udrl", "--storage", storage])


def test_two_workers_share_a_study_on_a_postgresql_server(postgresql, tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    workers = [start(folder, "--storage", postgresql, "--max-total-trials", 6) for folder in folders]
    did = [
        {int(number) for number in re.findall(r"Trial (\d+) finished with value", output)}
        for output in finish(*workers)
    ]
    assert all(did), "a worker did nothing"
    assert not did[0] & did[1], "a trial was run twice"
    storage = optuna.storages.RDBStorage(postgresql)
    trials = optuna.load_study(study_name="udrl", storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    completed = {trial.number for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE}
    assert did[0] | did[1] == completed
    assert 6 <= len(completed) <= 7  # both may see room for a last one
