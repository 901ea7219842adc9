"""Calibration measures what was asked and what came of it, without favouring short episodes."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from toy_envs import CountdownEnv, PayoutEnv, SpaceEnv

from sb3_udrl import UDRL, Command, EpisodeProgress
from sb3_udrl.__main__ import main
from sb3_udrl.evaluation import calibrate, evaluate_command, mean_absolute_error

RECORD = {
    "desired_return": 5.0,
    "desired_horizon": 7.0,
    "mean_return": 10.0,
    "std_return": 0.0,
    "mean_length": 10.0,
    "returns": [10.0] * 3,
    "lengths": [10] * 3,
}


def obedient_model(env):
    """A model that takes action 1 as long as there is return to get."""
    model = UDRL("MlpPolicy", env, seed=0)
    model.policy._act = lambda observations, commands, deterministic: (commands[:, 0] > 0).astype(int)
    return model


def test_a_record_says_what_was_asked_and_what_came():
    model = UDRL("MlpPolicy", CountdownEnv(10), seed=0)
    assert evaluate_command(model, CountdownEnv(10), (5.0, 7.0), n_eval_episodes=3) == RECORD


def test_the_command_is_the_models_own_unless_told_otherwise():
    model = UDRL("MlpPolicy", CountdownEnv(10), seed=0)
    model.set_command(5.0, 7.0)
    assert evaluate_command(model, CountdownEnv(10), n_eval_episodes=3) == RECORD
    assert model.command == Command(5.0, 7.0)


@pytest.mark.parametrize(
    "make_env",
    [
        lambda: PayoutEnv(10),
        lambda: EpisodeProgress(PayoutEnv(10)),
        lambda: make_vec_env(lambda: PayoutEnv(10), 3),
        lambda: VecNormalize(make_vec_env(lambda: PayoutEnv(10), 3)),
        lambda: VecFrameStack(make_vec_env(lambda: EpisodeProgress(PayoutEnv(10)), 3), 2),
    ],
)
def test_commands_count_down_exactly_and_returns_are_the_envs_own(make_env):
    env = make_env()
    model = obedient_model(env)
    records = calibrate(model, env, [(desired_return, 10.0) for desired_return in (0, 3, 7, 10)], n_eval_episodes=5)
    assert [record["mean_return"] for record in records] == [0, 3, 7, 10]
    assert all(len(record["returns"]) == 5 for record in records)
    assert mean_absolute_error(records) == 0


def test_short_episodes_are_not_favoured():
    env = DummyVecEnv([lambda: CountdownEnv(2), lambda: CountdownEnv(50)])
    model = UDRL("MlpPolicy", env, seed=0)
    assert sorted(evaluate_command(model, env, n_eval_episodes=6)["lengths"]) == [2, 2, 2, 50, 50, 50]


def test_the_relative_error_is_the_mean_over_commands():
    records = [{"desired_return": 10, "mean_return": 9}, {"desired_return": -4, "mean_return": -5}]
    assert mean_absolute_error(records) == pytest.approx((0.1 + 0.25) / 2)
    with pytest.raises(ValueError, match="other than zero"):
        mean_absolute_error([{"desired_return": 0, "mean_return": 1}])


def test_what_cannot_be_evaluated_is_refused():
    model = UDRL("MlpPolicy", CountdownEnv(10), seed=0)
    with pytest.raises(ValueError, match="n_eval_episodes=0"):
        evaluate_command(model, CountdownEnv(10), n_eval_episodes=0)
    with pytest.raises(ValueError, match="no commands"):
        calibrate(model, CountdownEnv(10), [])
    with pytest.raises(ValueError, match="horizon is 0"):
        calibrate(model, CountdownEnv(10), [(5, 5), (5, 0)])
    env = CountdownEnv(10)
    env.action_space = spaces.Discrete(7)
    with pytest.raises(ValueError, match=r"actions are Discrete\(2\), this environment wants Discrete\(7\)"):
        evaluate_command(model, env)


def test_records_make_a_table():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame([RECORD, RECORD])
    assert table["mean_return"].tolist() == [10, 10]


def test_the_picture_shows_each_command_and_the_identity_line():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from sb3_udrl.plotting import plot_calibration

    records = [{**RECORD, "desired_return": value, "mean_return": value + 1} for value in (1.0, 2.0, 4.0)]
    ax = plot_calibration(records, label="one")
    assert ax.containers[0].lines[0].get_xydata().tolist() == [[1, 2], [2, 3], [4, 5]]
    plot_calibration(records, ax=ax, label="two")
    assert sum(line.get_gid() == "identity" for line in ax.lines) == 1
    # Several models: one point for each command
    ax = plot_calibration([*records, *({**record, "mean_return": 0.0} for record in records)])
    assert ax.containers[0].lines[0].get_ydata().tolist() == [1.0, 1.5, 2.5]
    # The same returns within other horizons are other commands
    ax = plot_calibration([*records, *({**record, "desired_horizon": 99, "mean_return": 9.0} for record in records)])
    assert [box.lines[0].get_ydata().tolist() for box in ax.containers] == [[2, 3, 5], [9, 9, 9]]
    assert [text.get_text() for text in ax.get_legend().get_texts()][1] == "within 99 steps"
    matplotlib.pyplot.close("all")
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_calibration([])


def test_the_callback_logs_the_error_and_the_picture(tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from sb3_udrl.callbacks import CalibrationCallback

    model = UDRL("MlpPolicy", CountdownEnv(10), learning_starts=20, seed=0, tensorboard_log=str(tmp_path))
    model.learn(100, CalibrationCallback(CountdownEnv(10), [(5, 10), (10, 10)], eval_freq=30, n_eval_episodes=1))
    events = event_accumulator.EventAccumulator(str(tmp_path / "UDRL_1")).Reload()
    assert [round(event.value, 3) for event in events.Scalars("calibration/mean_abs_error")] == [0.5] * 3
    assert len(events.Images("calibration/figure")) == 3


def test_the_callback_normalises_as_training_does_and_leaves_no_figures_open():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    from sb3_udrl.callbacks import CalibrationCallback

    before = pyplot.get_fignums()

    env, eval_env = (VecNormalize(DummyVecEnv([lambda: CountdownEnv(10)]), norm_reward=False) for _ in range(2))
    model = UDRL("MlpPolicy", env, learning_starts=20, seed=0)
    model.learn(100, CalibrationCallback(eval_env, [(0, 10)], eval_freq=100, n_eval_episodes=1))
    assert np.array_equal(eval_env.obs_rms.mean, env.obs_rms.mean)
    assert pyplot.get_fignums() == before


def test_the_callback_needs_no_normalisation_where_only_rewards_are_normalised():
    pytest.importorskip("matplotlib")
    from sb3_udrl.callbacks import CalibrationCallback

    env = VecNormalize(DummyVecEnv([lambda: CountdownEnv(10)]), norm_obs=False)
    callback = CalibrationCallback(CountdownEnv(10), [(5, 10)], eval_freq=20, n_eval_episodes=1)
    assert UDRL("MlpPolicy", env, learning_starts=20, seed=0).learn(50, callback).num_timesteps == 50


def test_the_callback_goes_on_waiting_when_training_goes_on(monkeypatch):
    pytest.importorskip("matplotlib")
    from sb3_udrl.callbacks import CalibrationCallback

    logged = []
    monkeypatch.setattr(CalibrationCallback, "_log_calibration", lambda self: logged.append(self.num_timesteps))
    callback = CalibrationCallback(CountdownEnv(10), [(5, 10)], eval_freq=30)
    model = UDRL("MlpPolicy", CountdownEnv(10), learning_starts=20, seed=0)
    for _ in range(5):
        model.learn(20, callback, reset_num_timesteps=False)
    assert logged == [30, 60, 90]
    model.learn(40, callback)  # counts from zero again
    assert logged == [30, 60, 90, 30]


def test_the_callback_refuses_what_cannot_work_before_training():
    pytest.importorskip("matplotlib")
    from sb3_udrl.callbacks import CalibrationCallback

    model = UDRL("MlpPolicy", VecNormalize(DummyVecEnv([lambda: CountdownEnv(10)])), seed=0)
    with pytest.raises(ValueError, match="the observations of training, but nothing of eval_env"):
        model.learn(10, CalibrationCallback(CountdownEnv(10), [(5, 10)]))
    model = UDRL("MlpPolicy", CountdownEnv(10), seed=0)
    with pytest.raises(ValueError, match="nothing of training, but the observations of eval_env"):
        model.learn(10, CalibrationCallback(VecNormalize(DummyVecEnv([lambda: CountdownEnv(10)])), [(5, 10)]))
    normalized = VecNormalize(DummyVecEnv([lambda: CountdownEnv(10)]))
    with_progress = VecNormalize(
        DummyVecEnv([lambda: EpisodeProgress(CountdownEnv(10))]), norm_obs_keys=["observation"]
    )
    for env, eval_env in ((normalized, with_progress), (with_progress, normalized)):
        model = UDRL("MlpPolicy", env, seed=0)
        with pytest.raises(ValueError, match="the keys.*EpisodeProgress in both or in neither"):
            model.learn(10, CalibrationCallback(eval_env, [(5, 10)]))
    space = spaces.Dict(a=spaces.Box(-1, 1, (1,)), b=spaces.Box(0, 100, (1,)))
    one_key, both_keys = (
        VecNormalize(DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(2))]), norm_obs_keys=keys)
        for keys in (["a"], ["a", "b"])
    )
    for env, eval_env in ((one_key, both_keys), (both_keys, one_key)):
        model = UDRL("MultiInputPolicy", env, seed=0)
        with pytest.raises(ValueError, match=r"the keys \['a'.*the same norm_obs_keys"):
            model.learn(10, CalibrationCallback(eval_env, [(5, 10)]))
    assert model.num_timesteps == 0

    with pytest.raises(ValueError, match="no commands"):
        CalibrationCallback(CountdownEnv(10), [])
    with pytest.raises(ValueError, match="must be finite"):
        CalibrationCallback(CountdownEnv(10), [(1e39, 5)])


def test_the_command_line_writes_the_table_and_the_picture(tmp_path, capsys):
    UDRL("MlpPolicy", "CartPole-v1", seed=0).save(tmp_path / "model.zip")
    arguments = [str(tmp_path / "model.zip"), "--env", "CartPole-v1", "--returns", "5:15:5", "--horizons", "5:15:5"]
    main(["calibrate", *arguments, "--n-eval-episodes", "2", "--out", str(tmp_path / "out")])
    assert "Mean error relative to the command" in capsys.readouterr().out
    records = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert [(record["desired_return"], record["desired_horizon"]) for record in records] == [(5, 5), (10, 10), (15, 15)]
    if (tmp_path / "out" / "calibration.png").exists():
        assert np.fromfile(tmp_path / "out" / "calibration.png", dtype=np.uint8)[1:4].tobytes() == b"PNG"
    with pytest.raises(SystemExit, match="Got 3 returns, but 2 horizons"):
        main(["calibrate", *arguments[:-1], "5,10"])
