"""A run of the benchmark trains as its algorithm would alone, and is measured on episodes that are the same for all."""

import dataclasses
import io
import pickle
import random

import benchmark_envs
import numpy as np
import pytest
import torch as th

pytest.importorskip("rl_zoo3")

from rl_zoo3.wrappers import DelayedRewardWrapper
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.logger import configure

from sb3_udrl import UDRL
from sb3_udrl.benchmark import provenance
from sb3_udrl.benchmark.runs import Plan
from sb3_udrl.benchmark.seeding import EVALUATION_SEED, random_states_kept
from sb3_udrl.benchmark.stopwatch import PHASES, Stopwatch
from sb3_udrl.benchmark.training import Evaluation, Setup, train

# Rollouts of 256 steps, and updates that a short run makes
PLAN = Plan(
    envs=["CartPole-v1"],
    algos=["udrl", "ppo", "dqn"],
    seeds=range(1),
    timesteps=768,
    eval_freq=300,
    n_eval_episodes=3,
    n_final_episodes=5,
    hyperparams={"udrl": {"learning_starts": 100}, "dqn": {"learning_starts": 100}},
)
CLASSES = {"udrl": UDRL, "ppo": PPO, "dqn": DQN}


def nothing(step, mean_return):
    pass


def run_of(algo, **changes):
    runs, _ = dataclasses.replace(PLAN, **changes).runs()
    (run,) = [run for run in runs if run.algo == algo]
    return dataclasses.replace(run, calibrate=False)


def weights(model):
    return {key: value.clone() for key, value in model.policy.state_dict().items()}


@pytest.mark.parametrize("algo", ["udrl", "ppo", "dqn"])
def test_evaluating_changes_nothing_of_what_is_learned(algo, tmp_path):
    run = run_of(algo)
    alone = Setup(run, tmp_path, "cpu").model()
    before = weights(alone)
    alone.learn(run.timesteps)
    record, files = train(run, nothing, save_model=True)
    evaluated = CLASSES[algo].load(io.BytesIO(files["model.zip"]))
    expected, got = weights(alone), weights(evaluated)
    assert any(not th.equal(before[key], expected[key]) for key in expected)
    assert all(th.equal(expected[key], got[key]) for key in expected)
    assert len(record["evaluations"]) == 4


@pytest.mark.parametrize("algo", ["udrl", "ppo", "dqn"])
def test_evaluations_are_at_the_same_steps_for_all_and_hold_every_episode(algo):
    beats = []
    record, files = train(run_of(algo), lambda step, mean_return: beats.append((step, mean_return)))
    steps = [evaluation["step"] for evaluation in record["evaluations"]]
    # As near as 8 envs at a time allow
    assert steps == pytest.approx([0, 300, 600, 768], abs=7)
    assert [len(evaluation["returns"]) for evaluation in record["evaluations"]] == [3, 3, 3, 5]
    for evaluation in record["evaluations"]:
        assert evaluation["returns"] == evaluation["lengths"]  # CartPole pays 1 a step
    assert beats == [(e["step"], pytest.approx(np.mean(e["returns"]))) for e in record["evaluations"]]
    assert files == {}


def test_evaluation_takes_the_most_likely_actions_unless_it_is_asked_to_sample():
    evaluations = {}
    for deterministic in (True, False):
        run = run_of("udrl", deterministic=deterministic)
        record, _ = train(run, nothing)
        evaluations[deterministic] = [evaluation["returns"] for evaluation in record["evaluations"]]
        assert record["run"]["source"].endswith("; evaluated with sampled actions") != deterministic
    assert evaluations[True] != evaluations[False]


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_nothing_is_learned_from_steps_beyond_the_budget(algo):
    # The next rollout would end at 512 steps
    less, more = run_of(algo, timesteps=300), run_of(algo, timesteps=300 + 511 - 300)
    models = []
    for run in (less, more):
        record, files = train(
            dataclasses.replace(run, hyperparams={**run.hyperparams, **FLAT[algo]}), nothing, "cpu", True
        )
        assert record["evaluations"][-1]["step"] <= run.timesteps + 8
        models.append(weights(CLASSES[algo].load(io.BytesIO(files["model.zip"]))))
    assert all(th.equal(models[0][key], models[1][key]) for key in models[0])


# Without schedules, so that the length of training changes nothing else
FLAT = {"ppo": {"learning_rate": 1e-3, "clip_range": 0.2}, "dqn": {"exploration_fraction": 1e-9}}


@pytest.mark.parametrize("algo", ["udrl", "ppo"])
def test_the_same_seed_gives_the_same_result(algo):
    first, second = (train(run_of(algo), nothing)[0] for _ in range(2))
    assert [e["returns"] for e in first["evaluations"]] == [e["returns"] for e in second["evaluations"]]


def test_a_model_is_saved_with_the_normalisation_that_it_learned():
    run = run_of("ppo", envs=["Acrobot-v1"], timesteps=64)
    assert run.hyperparams["normalize"]
    _, files = train(run, nothing, save_model=True)
    assert pickle.loads(files["vecnormalize.pkl"]).obs_rms.count > 64
    assert PPO.load(io.BytesIO(files["model.zip"])).num_timesteps >= 64


def test_all_algorithms_are_evaluated_on_the_same_seeds_which_training_never_sees():
    seen = {}
    for algo in ("udrl", "ppo", "dqn"):
        plan = {"envs": ["Seeds-v0"], "env_modules": ("benchmark_envs",), "timesteps": 300, "eval_freq": 100}
        run = run_of(algo, **plan)
        benchmark_envs.SEEDS.clear()
        train(run, nothing)
        seen[algo] = set(benchmark_envs.SEEDS)
    evaluation = set(range(EVALUATION_SEED, EVALUATION_SEED + 3))
    for seeds in seen.values():
        assert evaluation <= seeds
        assert {seed for seed in seeds if seed >= 1000} == evaluation


def test_evaluation_normalises_observations_as_training_does(tmp_path):
    run = run_of("ppo", envs=["Acrobot-v1"], timesteps=64)
    setup = Setup(run, tmp_path, "cpu")
    model = setup.model()
    env = setup.create_envs(2, eval_env=True)
    evaluation = Evaluation(run, env, Stopwatch(), nothing)
    model.learn(64, evaluation)
    evaluation.evaluate(2)
    trained = model.get_vec_normalize_env()
    assert trained.obs_rms.count > 64
    assert np.array_equal(env.obs_rms.mean, trained.obs_rms.mean)
    assert not env.norm_reward
    # Returns are the environment's own
    assert all(episode_return >= -500 for e in evaluation.evaluations for episode_return in e["returns"])


def test_evaluation_is_in_environments_made_and_wrapped_like_those_of_training(tmp_path):
    run = run_of(
        "udrl",
        envs=["Diary-v0"],
        env_modules=("benchmark_envs",),
        env_kwargs={"diary": str(tmp_path / "diary")},
        env_wrapper=[{"rl_zoo3.wrappers.DelayedRewardWrapper": {"delay": 21}}],
    )
    setup = Setup(run, tmp_path, "cpu")
    setup.model()
    env = setup.create_envs(2, eval_env=True)
    assert env.get_attr("diary") == [tmp_path / "diary"] * 2
    assert env.env_is_wrapped(DelayedRewardWrapper) == [True, True]


def test_global_random_states_are_as_if_nothing_had_been_evaluated(tmp_path):
    run = run_of("ppo")
    setup = Setup(run, tmp_path, "cpu")
    model = setup.model()
    evaluation = Evaluation(run, setup.create_envs(2, eval_env=True), Stopwatch(), nothing)
    model.set_logger(configure(None, []))
    evaluation.init_callback(model)
    states = random.getstate(), np.random.get_state()[1].copy(), th.get_rng_state()
    evaluation.evaluate(2)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert th.equal(th.get_rng_state(), states[2])


@pytest.mark.parametrize(("started", "devices"), [(False, []), (True, [0, 1])])
def test_devices_that_run_keep_their_random_states_too(started, devices, monkeypatch):
    kept = []
    fork_rng = th.random.fork_rng
    monkeypatch.setattr(th.cuda, "is_initialized", lambda: started)
    monkeypatch.setattr(th.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(th.random, "fork_rng", lambda devices: (kept.extend(devices), fork_rng(devices=[]))[1])
    with random_states_kept():
        pass
    assert kept == devices


def test_a_record_says_what_time_and_memory_went_into_and_where_it_comes_from():
    record, _ = train(run_of("udrl"), nothing)
    assert list(record["seconds"]) == list(PHASES)
    assert all(seconds > 0 for seconds in record["seconds"].values())
    learning = sum(seconds for phase, seconds in record["seconds"].items() if phase != "evaluation")
    assert record["evaluations"][-1]["seconds"] == pytest.approx(learning, abs=0.01)
    assert 100 < record["peak_memory_mb"] < 10_000
    assert record["versions"]["stable-baselines3"]
    assert record["arguments"]["learning_starts"] == "100"
    assert record["arguments"]["batch_size"] == "256"
    assert record["run"]["seed"] == 0


def test_the_revision_is_that_of_the_code_that_trained_not_of_what_is_checked_out_meanwhile(monkeypatch):
    checked_out = ["old"]
    monkeypatch.setattr(provenance, "git_revision", lambda: checked_out[-1])
    record, _ = train(run_of("udrl"), lambda step, mean_return: checked_out.append("new"))
    assert checked_out[-1] == "new"
    assert record["git_revision"] == "old"


def test_udrl_is_calibrated_on_what_it_has_seen():
    plan = {"envs": ["Payout-v0"], "env_modules": ("benchmark_envs",), "timesteps": 600, "calibrate": True}
    runs, _ = dataclasses.replace(PLAN, algos=["udrl"], hyperparams={}, **plan).runs()
    record, _ = train(runs[0], nothing)
    asked = [one["desired_return"] for one in record["calibration"]]
    assert len(asked) == 9
    assert 0 <= asked[0] < asked[-1] <= 20


def test_a_run_in_which_no_episode_ended_has_nothing_to_be_calibrated_on():
    runs, _ = dataclasses.replace(PLAN, algos=["udrl"], hyperparams={}, timesteps=8).runs()
    with pytest.warns(UserWarning, match="Nothing is learned yet"):
        record, _ = train(runs[0], nothing)
    assert runs[0].calibrate
    assert record["calibration"] == []


def test_a_stopwatch_runs_one_phase_at_a_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    watch = Stopwatch()

    def step(seconds):
        now[0] += seconds

    watch.switch("acting")
    step(1)
    watch.timed("environment", step)(2)
    step(3)
    with watch.during("evaluation"):
        step(4)
        watch.timed("environment", step)(0.5)
    watch.switch("training")
    step(5)
    assert watch.learning_seconds() == 1 + 2 + 3 + 0.5 + 5
    watch.switch(None)
    step(100)
    assert watch.seconds == {"acting": 4, "environment": 2.5, "training": 5, "evaluation": 4}
