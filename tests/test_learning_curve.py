"""The curves of the README's results have something to be compared with, and no finished run is lost or repeated."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from stable_baselines3.common.env_util import make_vec_env

from sb3_udrl.benchmark import learning_curve
from sb3_udrl.benchmark.learning_curve import RandomActions, evaluate, run


@pytest.mark.parametrize(("env_id", "low", "high"), [("CartPole-v1", 15, 30), ("Pendulum-v1", -1500, -1000)])
def test_acting_at_random_is_evaluated_on_the_same_episodes_each_time(env_id, low, high):
    env = make_vec_env(env_id, 5)
    mean, std = evaluate(RandomActions(env), env)
    assert low < mean < high
    assert std > 0
    assert (mean, std) == evaluate(RandomActions(env), env)


@pytest.mark.parametrize(("eval_freq", "steps"), [(10, [10, 20, 24]), (12, [12, 24]), (100, [24])])
def test_the_end_of_training_is_evaluated_whatever_lies_between_evaluations(eval_freq, steps):
    settings = {"env": "CartPole-v1", "seed": 0, "n_envs": 2, "timesteps": 24, "eval_freq": eval_freq, "arguments": {}}
    with pytest.warns(UserWarning, match="Nothing is learned yet|No episode has finished"):
        result = run(settings)
    assert [point[0] for point in result["curve"]] == steps
    assert result["final"] == result["curve"][-1][1]


def test_what_is_finished_is_kept_when_another_run_fails_and_told_apart_from_other_settings(
    tmp_path, monkeypatch, capsys
):
    ran = []

    def fake_run(settings):
        ran.append(settings["seed"])
        if settings["seed"] == 0 and ran.count(0) == 1:
            raise RuntimeError("no memory")
        return {**settings, "curve": [(10, 100.0 * settings["seed"], 1.0)], "final": 100.0 * settings["seed"]}

    out = tmp_path / "results.jsonl"
    other = {"env": "Pendulum-v1", "n_envs": 1, "timesteps": 5, "eval_freq": 5, "arguments": {}}
    out.write_text(json.dumps({**other, "seed": 0, "curve": [(5, -900.0, 1.0)], "final": -900.0}) + "\n")
    monkeypatch.setattr(learning_curve, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(learning_curve, "run", fake_run)
    monkeypatch.setattr("sys.argv", ["learning_curve", "--seeds", "0", "1", "2", "--out", str(out)])
    with pytest.raises(SystemExit, match="1 runs are not finished"):
        learning_curve.main()
    output = capsys.readouterr()
    assert "Seed 0 failed: RuntimeError: no memory" in output.err
    assert "mean 150.0, worst 100.0" in output.out
    with out.open("a") as file:
        file.write('{"env": "Acro')  # killed while writing
    learning_curve.main()
    assert "mean 100.0, worst 0.0" in capsys.readouterr().out
    assert sorted(ran) == [0, 0, 1, 2]
    assert sorted(result["seed"] for result in learning_curve.read_results(out)) == [0, 0, 1, 2]
