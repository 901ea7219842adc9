"""With the papers' settings UDRL is Algorithms 1 and 2 of 1912.02877: checked by plain loops that share no code."""

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from toy_envs import RandomEnv

from sb3_udrl import UDRL

WARM_UP, PER_ITERATION, REPLAY_SIZE, LAST_FEW, BATCH_SIZE, UPDATES, SEED = 7, 4, 6, 3, 16, 5, 3


class Reference:
    """
    The paper's algorithm, on lists, replaying what an environment has seen.

    :param history: the episodes in order, each a list of (observation, action, reward)
    """

    def __init__(self, history):
        self.history = history
        self.rng = np.random.default_rng(SEED)
        self.replay = []  # (episode, order of arrival)
        self.commands = []  # one list of (desired return, desired horizon) for each commanded episode
        self.batches = []

    def run(self):
        for number in range(WARM_UP):  # Algorithm 1, line 1
            self.add(number)
        number = WARM_UP
        self.improve()  # line 4
        while number < len(self.history):
            for _ in range(PER_ITERATION):
                if number == len(self.history):
                    return
                self.obey(number)  # lines 5 and 6
                self.add(number)
                number += 1
            self.improve()

    def add(self, number):
        """Keep the best (section 2.3.1); of equal returns the shorter, then the older."""
        self.replay.append((self.history[number], number))
        self.replay.sort(key=lambda entry: (-self.total(entry[0]), len(entry[0]), entry[1]))
        del self.replay[REPLAY_SIZE:]

    @staticmethod
    def total(episode):
        return sum(reward for _, _, reward in episode)

    def obey(self, number):
        """Section 2.3.4, then Algorithm 2."""
        best = [episode for episode, _ in self.replay[:LAST_FEW]]
        returns = [self.total(episode) for episode in best]
        mean = sum(returns) / len(returns)
        std = (sum((value - mean) ** 2 for value in returns) / len(returns)) ** 0.5
        desired_return = self.rng.uniform(mean, mean + std)
        desired_horizon = sum(len(episode) for episode in best) / len(best)
        steps = []
        for _, _, reward in self.history[number]:
            steps.append((desired_return, desired_horizon))
            desired_return -= reward
            desired_horizon -= 1
        self.commands.append(steps)

    def improve(self):
        """Section 2.3.3: a random episode, a random t1, and t2 = T."""
        in_order = [episode for episode, number in sorted(self.replay, key=lambda entry: entry[1])]
        for _ in range(UPDATES):
            which = [int(u * len(in_order)) for u in self.rng.random(BATCH_SIZE)]
            batch = []
            for u, i in zip(self.rng.random(BATCH_SIZE), which, strict=True):
                episode = in_order[i]
                t1 = int(u * len(episode))
                to_go = sum(reward for _, _, reward in episode[t1:])
                observation, action, _ = episode[t1]
                batch.append((*observation, action, to_go, len(episode) - t1))
            self.batches.append(batch)


@pytest.fixture(scope="module")
def run():
    """What UDRL did, and what the reference says that it should have done."""
    env = RandomEnv()
    model = UDRL(
        "MlpPolicy",
        make_vec_env(lambda: env),
        buffer_size=REPLAY_SIZE,
        learning_starts=(WARM_UP, "episode"),
        batch_size=BATCH_SIZE,
        train_freq=(PER_ITERATION, "episode"),
        gradient_steps=UPDATES,
        retention="best",
        command_sampler={"mean_std": {"last_few": LAST_FEW}},
        segments="trailing",
        weighting="uniform",
        relabeling="hindsight",
        advantage_temperature=None,
        policy_kwargs={
            "return_scale": 0.015,
            "horizon_scale": 0.03,
            "achievable_expectile": None,
            "normalize_features": False,
            "dropout_rate": 0.0,
        },
        seed=SEED,
    )
    seen_commands, seen_batches = [], []
    act, evaluate_actions = model.policy.act, model.policy.evaluate_actions

    def spy_on_act(observations, commands, deterministic=False):
        seen_commands.append(commands[0].tolist())
        return act(observations, commands, deterministic)

    def spy_on_evaluate(observations, actions, commands, n_step):
        assert n_step is None
        seen_batches.append(np.column_stack([observations, actions, commands]))
        return evaluate_actions(observations, actions, commands)

    model.policy.act, model.policy.evaluate_actions = spy_on_act, spy_on_evaluate
    model.learn(400)
    # The first reset belongs to make_vec_env's seeding; the last episode is under way
    history = [episode for episode in env.history if episode]
    finished = history[: model._episode_num]
    reference = Reference(finished)
    reference.run()
    return seen_commands, seen_batches, reference


def test_the_same_random_numbers_give_the_same_batches(run):
    _, batches, reference = run
    assert len(batches) > 10 * UPDATES
    assert len(batches) == len(reference.batches)
    for batch, expected in zip(batches, reference.batches, strict=True):
        np.testing.assert_allclose(batch, expected, rtol=1e-5, atol=1e-5)


def test_the_same_random_numbers_give_the_same_commands_step_by_step(run):
    commands, _, reference = run
    expected = [command for steps in reference.commands for command in steps]
    assert len(expected) > 50
    np.testing.assert_allclose(commands[: len(expected)], expected, rtol=1e-6, atol=1e-6)
