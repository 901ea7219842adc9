"""A study is made of the runs that the command line asks for, with the settings that it says."""

import dataclasses

import pytest
import yaml

pytest.importorskip("rl_zoo3")

from sb3_udrl.benchmark.runs import Plan
from sb3_udrl.benchmark.seeding import EVALUATION_SEED
from sb3_udrl.benchmark.settings import Algorithm, find_algorithm, policy_for, tuned_settings
from sb3_udrl.benchmark.study import suitable
from sb3_udrl.zoo.hyperparams import config_file

PLAN = Plan(envs=["CartPole-v1"], algos=["udrl", "ppo"], seeds=range(2), timesteps=100)


def test_the_grid_has_each_algorithm_on_each_environment_with_each_seed():
    runs, skipped = dataclasses.replace(PLAN, envs=["CartPole-v1", "Acrobot-v1"], seeds=range(5, 8)).runs()
    names = {(run.env, run.algo, run.seed) for run in runs}
    assert names == {(e, a, s) for e in ("CartPole-v1", "Acrobot-v1") for a in ("udrl", "ppo") for s in (5, 6, 7)}
    assert len({run.name for run in runs}) == 12
    assert skipped == {}


def test_equal_settings_have_equal_names_and_each_other_setting_another_one():
    run = PLAN.runs()[0][0]
    assert PLAN.runs()[0][0].name == run.name
    for change in (
        {"timesteps": 200},
        {"eval_freq": 7},
        {"n_eval_episodes": 3},
        {"n_final_episodes": 3},
        {"deterministic": False},
        {"hyperparams": {"udrl": {"batch_size": 3}}},
        {"env_kwargs": {"sutton_barto_reward": True}},
        {"env_wrapper": ["rl_zoo3.wrappers.TimeFeatureWrapper"]},
        {"calibrate": True, "envs": ["CartPole-v1"], "algos": ["mine=udrl", "ppo"]},
    ):
        assert dataclasses.replace(PLAN, **change).runs()[0][0].key != run.key


def test_stock_algorithms_have_the_zoos_settings_and_udrl_ours():
    ours = yaml.safe_load(config_file("udrl").read_text())["CartPole-v1"]
    settings = tuned_settings(find_algorithm("udrl"), "CartPole-v1", {})
    assert settings.n_timesteps == ours.pop("n_timesteps")
    assert settings.hyperparams == ours
    ppo = tuned_settings(find_algorithm("ppo"), "CartPole-v1", {})
    assert ppo.source == "RL Zoo, ppo.yml, 'CartPole-v1'"
    assert ppo.n_timesteps == 100_000
    assert ppo.hyperparams["clip_range"] == "lin_0.2"


def test_where_nobody_tuned_an_algorithm_the_report_says_so():
    settings = tuned_settings(find_algorithm("ppo"), "FrozenLake-v1", {})
    assert settings.hyperparams == {"policy": "MlpPolicy"}
    assert settings.source == "RL Zoo, ppo.yml, 'default' (nobody tuned it here)"
    assert settings.n_timesteps is None


def test_settings_for_another_version_of_an_environment_come_before_those_for_any():
    settings = tuned_settings(find_algorithm("ppo"), "Hopper-v5", {})
    assert settings == tuned_settings(find_algorithm("ppo"), "Hopper-v4", {})
    assert settings.source == "RL Zoo, ppo.yml, 'Hopper-v4'"
    ours = tuned_settings(find_algorithm("udrl"), "Hopper-v4", {})
    assert ours.source == "ours, udrl.yml, 'Hopper-v5'"


def test_of_other_versions_the_newest_has_the_say(tmp_path):
    config = tmp_path / "ppo.yml"
    entries = {f"{name}-v{version}": {"seed": version} for name in ("Hopper", "HopperHard") for version in (2, 10, 3)}
    config.write_text(yaml.safe_dump(entries))
    settings = tuned_settings(Algorithm("ppo", "ppo", config), "Hopper-v5", {})
    assert settings.source == "RL Zoo, ppo.yml, 'Hopper-v10'"
    assert settings.hyperparams == {"seed": 10}


def test_the_policy_follows_the_observations_where_nobody_tuned_it():
    flat = {"env_wrapper": ["gymnasium.wrappers.FlattenObservation"]}
    assert tuned_settings(find_algorithm("ppo"), "Blackjack-v1", flat).hyperparams["policy"] == "MlpPolicy"
    pixels = {"env_wrapper": ["gymnasium.wrappers.AddRenderObservation"], "env_kwargs": {"render_mode": "rgb_array"}}
    assert policy_for("ppo", "CartPole-v1", pixels) == "CnnPolicy"
    assert policy_for("ppo_lstm", "CartPole-v1", {}) == "MlpLstmPolicy"
    progress = {"env_wrapper": ["sb3_udrl.wrappers.EpisodeProgress"]}
    assert policy_for("udrl", "CartPole-v1", progress) == "MlpPolicy"
    assert policy_for("ppo", "CartPole-v1", progress) == "MultiInputPolicy"
    # A2C's own default says MlpPolicy
    pixels["env_wrapper"] = [{"gymnasium.wrappers.AddRenderObservation": {"render_only": False}}]
    assert tuned_settings(find_algorithm("a2c"), "Acrobot-v1", {}).hyperparams["policy"] == "MlpPolicy"
    assert (
        tuned_settings(find_algorithm("udrl_defaults"), "Acrobot-v1", pixels).hyperparams["policy"]
        == "MultiInputPolicy"
    )


def test_udrl_can_have_its_defaults_or_another_configuration():
    assert tuned_settings(find_algorithm("udrl_defaults"), "Acrobot-v1", {}).hyperparams == {
        "policy": "MlpPolicy",
        "n_envs": 8,
    }
    paper = tuned_settings(find_algorithm("udrl_srivastava2019"), "LunarLander-v3", {})
    assert paper.hyperparams["batch_size"] == 768
    elsewhere = tuned_settings(find_algorithm("udrl_srivastava2019"), "CartPole-v1", {})
    assert elsewhere.hyperparams == paper.hyperparams
    assert "nobody tuned it here" in elsewhere.source
    assert tuned_settings(find_algorithm("udrl_notebook"), "Acrobot-v1", {}) is None


def test_a_configuration_without_settings_for_an_environment_is_skipped():
    runs, skipped = dataclasses.replace(PLAN, envs=["Acrobot-v1"], algos=["udrl", "udrl_notebook"]).runs()
    assert {run.algo for run in runs} == {"udrl"}
    assert skipped == {("Acrobot-v1", "udrl_notebook"): "udrl_notebook has no settings for Acrobot-v1"}


def test_labels_tell_variants_apart():
    plan = dataclasses.replace(
        PLAN,
        envs=["CartPole-v1", "Late=CartPole-v1"],
        algos=["udrl", "best=udrl_defaults"],
        hyperparams={"best": {"retention": "best"}},
    )
    runs, _ = plan.runs()
    assert {(run.env, run.env_id) for run in runs} == {("CartPole-v1", "CartPole-v1"), ("Late", "CartPole-v1")}
    changed = {run.algo: run.hyperparams.get("retention") for run in runs}
    assert changed == {"udrl": None, "best": "best"}
    assert {run.source for run in runs if run.algo == "best"} == {"defaults of the constructor, changed: retention"}


def test_wrappers_and_arguments_of_environments_are_added_to_the_tuned_ones():
    delayed = {"rl_zoo3.wrappers.DelayedRewardWrapper": {"delay": 501}}
    plan = dataclasses.replace(
        PLAN,
        hyperparams={"ppo": {"env_wrapper": "rl_zoo3.wrappers.TimeFeatureWrapper"}},
        env_wrapper=[delayed],
        env_kwargs={"sutton_barto_reward": True},
    )
    runs, skipped = plan.runs()
    wrappers = {run.algo: run.hyperparams["env_wrapper"] for run in runs}
    assert wrappers == {"udrl": [delayed], "ppo": ["rl_zoo3.wrappers.TimeFeatureWrapper", delayed]}
    assert all(run.hyperparams["env_kwargs"] == {"sutton_barto_reward": True} for run in runs)
    assert suitable(runs, skipped) == runs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algos": ["pppo"]}, r"Unknown algorithm 'pppo': did you mean 'ppo'\?"),
        ({"algos": ["udrl_nonsense"]}, "Unknown algorithm 'udrl_nonsense': .*udrl_srivastava2019"),
        ({"envs": ["CartPool-v1"]}, r"Unknown environment 'CartPool-v1': did you mean 'CartPole-v1'\?"),
        ({"env_modules": ("no_such_module",)}, "--env-module no_such_module: .*importable"),
        ({"timesteps": 0}, "timesteps=0"),
        ({"seeds": range(0)}, "use at least one"),
        ({"seeds": range(EVALUATION_SEED, EVALUATION_SEED + 1)}, "Evaluation uses those from 1000000 on"),
        ({"algos": ["udrl", "udrl"]}, "'udrl' is named twice"),
        ({"hyperparams": {"dqn": {"gamma": 1}}}, "--hyperparams are for 'dqn', which is none"),
        ({"hyperparams": {"udrl": {"n_timesteps": 9}}}, "cannot change n_timesteps.*--timesteps"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_with_advice(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAN, **change).runs()


def test_an_algorithm_that_cannot_act_there_is_skipped_with_a_reason():
    runs, skipped = Plan(["Pendulum-v1"], ["udrl", "dqn"], range(1), timesteps=100).runs()
    assert {run.algo for run in suitable(runs, skipped)} == {"udrl"}
    assert "only supports" in skipped["Pendulum-v1", "dqn"]
    assert "Box" in skipped["Pendulum-v1", "dqn"]


def test_a_hyper_parameter_that_does_not_exist_is_found_before_training():
    runs, skipped = dataclasses.replace(PLAN, hyperparams={"ppo": {"no_such_thing": 1}}).runs()
    with pytest.raises(ValueError, match="ppo cannot be set up on CartPole-v1 .*no_such_thing"):
        suitable(runs, skipped)
