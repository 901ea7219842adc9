"""The configuration files: made of valid arguments, and the historic ones give the historic systems."""

import inspect
import pathlib
import re

import gymnasium as gym
import pytest
import torch as th
from torch import nn

from sb3_udrl import UDRL
from sb3_udrl.commands import MeanStdSampler
from sb3_udrl.policies import UDRLPolicy
from sb3_udrl.relabeling import HindsightRelabeling
from sb3_udrl.retention import BestRecentRetention, BestRetention
from sb3_udrl.schedules import Epochs
from sb3_udrl.segments import TrailingSegments
from sb3_udrl.torch_layers import BilinearLayer, GatedLayer, ProductLayer
from sb3_udrl.weighting import UniformWeighting

yaml = pytest.importorskip("yaml")

FOLDER = pathlib.Path(__file__).parent.parent / "hyperparams"
HISTORIC = ["udrl_blog", "udrl_notebook", "udrl_srivastava2019"]
OF_THE_ZOO = {"n_timesteps", "n_envs", "normalize", "env_wrapper", "frame_stack"}
# What is not the algorithm: where to run, what to log, the environment, and images. And what nothing looks at: luck and
# the share of hindsight where achievable_expectile is None, the rest of exploration where exploration_eps is 0
NOT_THE_ALGORITHM = {
    *("self", "env", "stats_window_size", "tensorboard_log", "verbose", "seed", "device", "_init_setup_model"),
    *("observation_space", "action_space", "lr_schedule"),
    *("features_extractor_class", "features_extractor_kwargs", "normalize_images", "optimizer_kwargs", "log_std_init"),
    "n_action_bins",  # none of them has Box actions
    *("luck", "hope_fraction", "hindsight_fraction", "exploration_duration", "exploration_fraction"),
}


def entries(name):
    """The entries of a file by environment, as arguments of UDRL."""
    for env_id, entry in yaml.safe_load((FOLDER / f"{name}.yml").read_text()).items():
        arguments = {key: value for key, value in entry.items() if key not in OF_THE_ZOO}
        if isinstance(arguments.get("policy_kwargs"), str):  # as the Zoo reads it
            arguments["policy_kwargs"] = eval(arguments["policy_kwargs"], {"dict": dict, "nn": nn, "th": th})
        if not env_id.startswith("."):
            yield env_id, arguments


def model_of(name, env_id):
    env = gym.make(env_id.replace("CartPole-v0", "CartPole-v1"))  # the same but for its length
    return UDRL(env=env, **dict(entries(name))[env_id])


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yml")))
def test_every_configuration_is_made_of_valid_arguments(name):
    for env_id, arguments in entries(name):
        if "Vizdoom" not in env_id:
            UDRL("MlpPolicy", "CartPole-v1", **{key: value for key, value in arguments.items() if key != "policy"})


@pytest.mark.parametrize("name", HISTORIC)
def test_a_historic_configuration_leaves_nothing_to_our_defaults(name):
    """Also those that are added later: then say here what the historic system did."""
    algorithm = set(inspect.signature(UDRL.__init__).parameters) - NOT_THE_ALGORITHM
    policy = set(inspect.signature(UDRLPolicy.__init__).parameters) - NOT_THE_ALGORITHM
    for env_id, arguments in entries(name):
        assert algorithm - set(arguments) == set(), env_id
        assert policy - set(arguments["policy_kwargs"]) == set(), env_id


def layers(model):
    """The network as text, without names and what drops nothing: features and command first, then what is behind."""
    policy = model.policy
    text = "".join(map(repr, [policy.command_layer, policy.mlp, policy.action_net])).replace("_features", "")
    return re.sub(r", bias=True|\(\w+\): |\n\s*|Dropout\(p=0\.0, inplace=False\)", "", text)


def what_all_have_in_common(model):
    """The paper's algorithm: §2.3.3 to §2.3.6, and no more."""
    buffer, policy = model.replay_buffer, model.policy
    assert isinstance(buffer.weighting, UniformWeighting)
    assert isinstance(buffer.relabeling, HindsightRelabeling)
    assert isinstance(buffer.segments, TrailingSegments)
    assert isinstance(model._sampler, MeanStdSampler)
    assert model._sampler.n_stds == 1
    assert model.advantage_temperature is None
    assert policy.achievable_return is None
    assert isinstance(policy.feature_scaling, nn.Identity)
    assert isinstance(policy.optimizer, th.optim.Adam)
    assert (model.ent_coef, model.exploration_eps) == (0, 0)
    assert model.lr_schedule(1.0) == model.lr_schedule(0.0)
    # Fixed scales do not follow the data
    assert policy.command_scaling.rate.tolist() == [0, 0]


def test_the_notebook_is_the_teaching_notebook():
    model = model_of("udrl_notebook", "CartPole-v0")
    what_all_have_in_common(model)
    assert isinstance(model.replay_buffer.retention, BestRetention)
    assert (model.buffer_size, model._sampler.last_few, model.replay_buffer.segments.trailing) == (600, 75, 1)
    assert (model.batch_size, model.gradient_steps, model.lr_schedule(1.0)) == (32, 300, 1e-3)
    assert tuple(model._learning_starts) == tuple(model._train_freq)
    assert model._train_freq.frequency == 50
    assert model.policy.command_scaling.scale.tolist() == pytest.approx([0.01, 0.01])
    assert isinstance(model.policy.command_layer, GatedLayer)
    assert layers(model) == (
        "GatedLayer(Tanh()Linear(in=4, out=32)Linear(in=2, out=32))"
        "Sequential(Linear(in=32, out=64)ReLU()Linear(in=64, out=64)ReLU())Linear(in=64, out=2)"
    )


def test_the_blog_is_the_blog_post():
    model = model_of("udrl_blog", "CartPole-v0")
    what_all_have_in_common(model)
    retention = model.replay_buffer.retention
    assert isinstance(retention, BestRecentRetention)
    assert (model.buffer_size, retention.best_fraction) == (400, 0.5)
    assert (model._learning_starts.frequency, model._train_freq.frequency) == (500, 100)
    assert (model._sampler.last_few, model.replay_buffer.segments.trailing) == (100, 0.75)
    schedule = model._schedule
    assert isinstance(schedule, Epochs)
    assert (schedule.max_epochs, schedule.patience, schedule.resample) == (100, 10, False)
    assert (model.batch_size, model.lr_schedule(1.0), model.max_grad_norm) == (32, 1e-3, 1.0)
    assert model.policy.command_scaling.scale.tolist() == [1, 1]
    assert isinstance(model.policy.command_layer, ProductLayer)
    assert layers(model) == (
        "ProductLayer(PReLU(num_parameters=1)Linear(in=4, out=64)Linear(in=2, out=64)PReLU(num_parameters=1))"
        "Sequential(Linear(in=64, out=64)PReLU(num_parameters=1))Linear(in=64, out=2)"
    )


def test_srivastava2019_is_the_authors_notebook():
    pytest.importorskip("Box2D")
    model = model_of("udrl_srivastava2019", "LunarLander-v3")
    what_all_have_in_common(model)
    assert isinstance(model.replay_buffer.retention, BestRetention)
    assert (model.buffer_size, model._sampler.last_few, model.replay_buffer.segments.trailing) == (600, 100, 1)
    assert (model._learning_starts.frequency, model._train_freq.frequency) == (50, 20)
    assert (model.batch_size, model.gradient_steps) == (768, 150)
    assert model.lr_schedule(1.0) == 0.0008709635899560805
    assert model.policy.command_scaling.scale.tolist() == pytest.approx([0.015, 0.03])
    assert isinstance(model.policy.command_layer, BilinearLayer)
    assert layers(model) == (
        "BilinearLayer(ReLU()Linear(in=2, out=512)Linear(in=2, out=64))"
        "Sequential(Linear(in=64, out=128)ReLU()Linear(in=128, out=128)ReLU())Linear(in=128, out=4)"
    )


@pytest.mark.parametrize("name", ["udrl_blog", "udrl_notebook"])
def test_the_network_sees_commands_that_have_run_out_as_zero_or_one(name):
    """The blog clips what is left at zero, the notebook the horizon at 1, where nothing has a negative reward."""
    scaling = model_of(name, "CartPole-v0").policy.command_scaling
    scaling.train()(th.tensor([[1.0, 1.0], [200.0, 200.0]]))  # a training batch
    scaling.eval()
    seen = scaling(th.tensor([[-3.0, -3.0], [150.0, 150.0], [250.0, 250.0]])) / scaling.scale
    th.testing.assert_close(seen, th.tensor([[0.0, 1.0], [150.0, 150.0], [200.0, 200.0]]))
