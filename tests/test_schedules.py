"""Epoch training: each episode once per pass, early stopping by episodes that are never trained on."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize
from toy_envs import RandomEnv

from sb3_udrl import UDRL
from sb3_udrl.buffer import EpisodeBuffer
from sb3_udrl.episodes import Episode
from sb3_udrl.relabeling import HindsightRelabeling
from sb3_udrl.retention import RecentRetention
from sb3_udrl.schedules import Epochs
from sb3_udrl.segments import TrailingSegments
from sb3_udrl.weighting import UniformWeighting

QUICK = {
    "buffer_size": 30,
    "learning_starts": (20, "episode"),
    "train_freq": (10, "episode"),
    "batch_size": 4,
    "retention": "recent",
    "weighting": "uniform",
    "relabeling": "hindsight",
    "policy_kwargs": {"net_arch": [8], "embedding_dim": 8},
    "seed": 0,
}


def make_model(env, gradient_steps="epochs", **kwargs):
    return UDRL("MlpPolicy", env, **{**QUICK, "gradient_steps": gradient_steps, **kwargs})


def numbered_buffer(n_episodes, size=100):
    """Episodes of 1 to 7 steps whose observations say which episode and which step this is."""
    buffer = EpisodeBuffer(size, RecentRetention(), TrailingSegments(), UniformWeighting(), HindsightRelabeling())
    for number in range(n_episodes):
        length = 1 + number % 7
        observations = np.stack([np.full(length, number), np.arange(length)], axis=1).astype(np.float32)
        buffer.add(Episode(observations, np.arange(length), np.ones(length)))
    return buffer


def run(schedule, buffer, losses=None, batch_size=4, seed=0):
    """All batches as arrays of observations, and the examples that the loss was asked for."""
    asked = []

    def loss(batch):
        asked.append(batch.observations.numpy())
        return losses[len(asked) - 1] if losses else -float(len(asked))

    batches = schedule.batches(buffer, batch_size, np.random.default_rng(seed), None, loss)
    return [batch.observations.numpy() for batch in batches], asked


def passes(batches, n_training, batch_size=4):
    """The episode numbers and steps of each pass, shape (n_passes, n_training, 2)."""
    assert all(len(batch) == batch_size or len(batch) == n_training % batch_size for batch in batches)
    return np.concatenate(batches).reshape(-1, n_training, 2)


def test_a_pass_takes_one_example_of_each_episode_that_is_not_held_out():
    buffer, schedule = numbered_buffer(50), Epochs(max_epochs=6)
    held_out = np.flatnonzero(schedule.is_held_out(np.arange(50)))
    batches, _ = run(schedule, buffer)
    seen = passes(batches, 50 - len(held_out))
    assert len(seen) == 6
    expected = sorted(set(range(50)) - set(held_out))
    orders = [one[:, 0].tolist() for one in seen]
    assert all(sorted(order) == expected for order in orders)
    assert len({tuple(order) for order in orders}) == 6  # each in an order of its own


def test_held_out_episodes_are_never_trained_on_in_any_update():
    model = make_model(RandomEnv(), {"epochs": {"max_epochs": 3}}, buffer_size=15)
    trained, held_out = set(), set()
    evaluate_actions = model.policy.evaluate_actions

    def spy(observations, actions, commands, n_step=None):
        (trained if th.is_grad_enabled() else held_out).update(map(tuple, observations.tolist()))
        return evaluate_actions(observations, actions, commands)

    model.policy.evaluate_actions = spy
    model.learn(1000)
    assert model._n_updates > 100
    assert len(trained) > 100
    assert len(held_out) > 30
    assert not trained & held_out


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_asked_share_of_episodes_is_held_out_of_any_stretch_and_of_each_of_several_envs(fraction):
    held_out = Epochs(validation_fraction=fraction).is_held_out(np.arange(4000))
    for part in (held_out[:1000], held_out[3000:], *(held_out[i::8] for i in range(8))):
        assert part.mean() == pytest.approx(fraction, abs=0.01)


@pytest.mark.parametrize(
    ("losses", "patience", "n_passes"),
    [
        ([5.0, 4.0, 3.0, 3.5, 3.4, 3.3, 1.0], 3, 6),  # the best is the third: three more, whatever would have come
        ([5.0, 4.0, 4.5, 3.0, 3.0, 3.0, 1.0], 2, 6),  # an equal loss is no better
        ([1.0, 2.0, 0.5], 1, 2),
        ([7.0, 6.0, 5.0, 4.0], 3, 4),  # improves to the end
    ],
)
def test_an_update_stops_exactly_patience_passes_after_the_best(losses, patience, n_passes):
    schedule = Epochs(max_epochs=len(losses), patience=patience)
    batches, asked = run(schedule, numbered_buffer(50), losses)
    n_training = int((~schedule.is_held_out(np.arange(50))).sum())
    assert len(passes(batches, n_training)) == len(asked) == n_passes
    assert schedule.logs() == {"epochs": n_passes, "validation_loss": losses[n_passes - 1]}
    assert all((one == asked[0]).all() for one in asked)  # losses can be compared


def test_passes_draw_new_segments_or_go_over_the_same_ones():
    for resample, n_distinct in ((False, 1), (True, 5)):
        schedule = Epochs(max_epochs=5, resample=resample)
        n_training = int((~schedule.is_held_out(np.arange(50))).sum())
        seen = passes(run(schedule, numbered_buffer(50))[0], n_training)
        assert len({tuple(sorted(map(tuple, one.tolist()))) for one in seen}) == n_distinct


def test_episodes_keep_their_numbers_when_others_are_forgotten():
    buffer = numbered_buffer(50, size=20)
    assert buffer.numbers.tolist() == list(range(30, 50))
    drawn = buffer.draw(np.array([19, 0, 3]), np.random.default_rng(0))
    assert drawn.observations[:, 0].tolist() == [49, 30, 33]


def test_too_few_episodes_to_hold_one_out_are_trained_on_to_the_end():
    schedule = Epochs(max_epochs=30, patience=1)
    batches, asked = run(schedule, numbered_buffer(1))
    assert len(batches) == 30
    assert not asked
    assert schedule.logs() == {"epochs": 30}


def test_where_all_episodes_are_held_out_nothing_is_learned():
    buffer, schedule = numbered_buffer(50, size=1), Epochs()
    while not schedule.is_held_out(buffer.numbers).all():
        buffer.add(Episode(np.zeros((1, 2), np.float32), np.zeros(1), np.ones(1)))
    assert run(schedule, buffer) == ([], [])


def test_an_empty_buffer_is_refused():
    with pytest.raises(ValueError, match="collect at least one whole episode"):
        run(Epochs(), numbered_buffer(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": 0}, "max_epochs=0"),
        ({"patience": 0}, "patience=0"),
        ({"validation_fraction": 0.0}, "validation_fraction=0.0"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"n_epochs": 3}, "n_epochs"),
    ],
)
def test_arguments_out_of_range_are_refused_with_their_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model(RandomEnv(), {"epochs": arguments})


def test_an_unknown_schedule_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"gradient_steps='days' is not known. Use one of 'epochs'"):
        make_model(RandomEnv(), "days")


def weights(model):
    return th.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


RELABELINGS = pytest.mark.parametrize("relabeling", ["hindsight", "n_step"])


@RELABELINGS
def test_the_same_seed_gives_the_same_weights_bit_for_bit(relabeling):
    quick = {"epochs": {"max_epochs": 20, "patience": 5}}
    first, second = (make_model(RandomEnv(), quick, relabeling=relabeling).learn(200) for _ in range(2))
    assert first._n_updates == second._n_updates > 0
    assert th.equal(weights(first), weights(second))
    other = make_model(RandomEnv(), quick, relabeling=relabeling, seed=1).learn(200)
    assert not th.equal(weights(first), weights(other))


@RELABELINGS
def test_looking_at_held_out_episodes_changes_neither_weights_nor_scales(relabeling):
    model = make_model(RandomEnv(), relabeling=relabeling).learn(200)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    batch = model.replay_buffer.draw(np.arange(3), np.random.default_rng(0))
    assert np.isfinite(model._held_out_loss(batch._replace(commands=batch.commands * 100)))
    assert model.policy.training
    assert all(th.equal(before[name], value) for name, value in model.policy.state_dict().items())


def test_a_saved_model_goes_on_as_if_never_stopped(tmp_path):
    arguments = {"epochs": {"max_epochs": 4, "patience": 2}}
    model = make_model(RandomEnv(), arguments).learn(300)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = UDRL.load(tmp_path / "model", env=RandomEnv())
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.gradient_steps == arguments
    assert (loaded._schedule.max_epochs, loaded._schedule.patience) == (4, 2)
    assert loaded.replay_buffer.numbers.tolist() == model.replay_buffer.numbers.tolist()
    loaded.set_logger(model.logger)
    for one in (model, loaded):
        one.set_random_seed(5)
        one.train(one._schedule, 4)
    assert th.equal(weights(model), weights(loaded))


def test_gradient_steps_passes_and_the_held_out_loss_are_logged(tmp_path):
    model = make_model(RandomEnv(), {"epochs": {"max_epochs": 3}})
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(300)
    model.logger.close()
    columns, *rows = ((tmp_path / "progress.csv").read_text()).splitlines()
    last = dict(zip(columns.split(","), rows[-1].split(","), strict=True))
    assert last["train/epochs"] == "3"
    assert float(last["train/validation_loss"]) > 0
    assert int(last["train/n_updates"]) == model._n_updates


class DictEnv(gym.Wrapper):
    """RandomEnv with a Dict observation."""

    def __init__(self):
        super().__init__(RandomEnv())
        self.observation_space = spaces.Dict({"a": self.env.observation_space, "b": self.env.observation_space})

    def reset(self, **kwargs):
        observation, info = self.env.reset(**kwargs)
        return {"a": observation, "b": -observation}, info

    def step(self, action):
        observation, *rest = self.env.step(action)
        return ({"a": observation, "b": -observation}, *rest)


@RELABELINGS
def test_dict_observations_and_vec_normalize_work_with_it(relabeling):
    env = VecNormalize(make_vec_env(DictEnv, 3))
    arguments = {**QUICK, "gradient_steps": Epochs(max_epochs=2), "relabeling": relabeling}
    model = UDRL("MultiInputPolicy", env, **arguments).learn(400)
    assert model._n_updates > 0
