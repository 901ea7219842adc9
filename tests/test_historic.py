"""The runs of the historic systems are cut into their iterations rightly, and none is repeated."""

import json

import numpy as np
import pytest
from toy_envs import CountdownEnv

from sb3_udrl import UDRL
from sb3_udrl.benchmark import historic


def test_training_is_cut_into_warm_up_and_whole_iterations():
    model = UDRL("MlpPolicy", CountdownEnv(), learning_starts=(3, "episode"), train_freq=(2, "episode"))
    lengths = np.array([1, 2, 3, 4, 5, 6, 7, 8])
    # The last episode belongs to an iteration that was not finished
    assert historic.iterations(model, 10.0 * lengths, lengths) == [(6, 20.0), (15, 45.0), (28, 65.0)]


def test_too_few_steps_for_an_iteration_are_said_before_anything_is_written(tmp_path, monkeypatch):
    pytest.importorskip("rl_zoo3")
    out = tmp_path / "results.jsonl"
    arguments = ["--conf-file", "udrl_notebook", "--env", "CartPole-v1", "--seeds", "5", "-n", "200"]
    monkeypatch.setattr("sys.argv", ["historic", *arguments, "--command", "20", "20", "--out", str(out)])
    with pytest.raises(SystemExit, match="200 steps are too few"):
        historic.main()
    assert out.read_text() == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{n_envs: 8}", "n_envs=8 for CartPole-v1"),
        ("{learning_starts: 1000}", "learning_starts=1000 for CartPole-v1.*'episode'"),
        ("{train_freq: [100, step]}", r"train_freq=\[100, 'step'\]"),
    ],
)
def test_what_cannot_be_cut_into_iterations_is_not_trained(settings, message, tmp_path, monkeypatch):
    pytest.importorskip("rl_zoo3")
    path, out = tmp_path / "mine.yml", tmp_path / "results.jsonl"
    path.write_text(f"CartPole-v1: {settings}")
    arguments = ["historic", "--conf-file", str(path), "--command", "20", "20", "--out", str(out), "--env"]
    monkeypatch.setattr(historic, "run", lambda *settings: pytest.fail("it was run"))
    monkeypatch.setattr("sys.argv", [*arguments, "CartPole-v1"])
    with pytest.raises(SystemExit, match=message):
        historic.main()
    monkeypatch.setattr("sys.argv", [*arguments, "Acrobot-v1"])
    with pytest.raises(SystemExit, match="no entry for Acrobot-v1, only for CartPole-v1"):
        historic.main()
    assert not out.exists()


def test_a_command_that_nobody_could_obey_is_refused_before_training(tmp_path, monkeypatch):
    pytest.importorskip("rl_zoo3")
    monkeypatch.setattr(historic, "run", lambda *settings: pytest.fail("it was run"))
    arguments = ["--conf-file", "udrl_notebook", "--env", "CartPole-v0", "--command", "200", "0"]
    monkeypatch.setattr("sys.argv", ["historic", *arguments, "--out", str(tmp_path / "results.jsonl")])
    with pytest.raises(SystemExit, match="The desired horizon is 0"):
        historic.main()


@pytest.mark.slow
def test_a_historic_system_is_trained_through_the_zoo_and_not_twice(tmp_path, monkeypatch, capsys):
    pytest.importorskip("rl_zoo3")
    out = tmp_path / "results.jsonl"
    arguments = ["--conf-file", "udrl_notebook", "--env", "CartPole-v1", "--seeds", "5", "-n", "2500"]
    monkeypatch.setattr("sys.argv", ["historic", *arguments, "--command", "20", "20", "--out", str(out)])
    historic.main()
    (result,) = map(json.loads, out.read_text().splitlines())
    assert (result["seed"], result["timesteps"]) == (5, 2500)
    assert result["n_updates"] == 300 * len(result["training"])  # after the warm-up and after each iteration
    assert [one["desired_return"] for one in result["evaluations"]][2:] == [20, 20]
    monkeypatch.setattr(historic, "run", lambda *settings: pytest.fail("it was run again"))
    historic.main()
    assert "| 5 | 2500 |" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["historic", *arguments[:-1], "2600", "--command", "20", "20", "--out", str(out)])
    with pytest.raises(pytest.fail.Exception, match="it was run again"):  # for longer is another run
        historic.main()
    monkeypatch.setattr("sys.argv", ["historic", *arguments, "--command", "20", "30", "--out", str(out)])
    with pytest.raises(pytest.fail.Exception, match="it was run again"):  # and so is another command
        historic.main()
