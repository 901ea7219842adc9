"""
A pytest plugin: UDRL stands in for one of Stable-Baselines3's own algorithms.

``pytest -p stand_in`` with the environment variable ``STAND_IN_FOR=A2C`` replaces ``stable_baselines3.A2C`` before
SB3's tests import it. The tests are not changed; only arguments that mean nothing to UDRL are dropped. The defaults
suit tests of a few hundred steps, in environments that pay at once: frequent updates, and segments of one step.
"""

import os

import stable_baselines3
from one_step import OneStepSegments

from sb3_udrl import UDRL

NAME = os.environ["STAND_IN_FOR"]
MEANINGLESS = {"n_steps", "gamma", "target_update_interval"}
MEANINGLESS_TO_POLICY = {"share_features_extractor"}  # there is no critic to share it with


class StandIn(UDRL):
    """UDRL, as if it were another algorithm."""

    def __init__(self, *args, policy_kwargs=None, **kwargs):
        kwargs = {key: value for key, value in kwargs.items() if key not in MEANINGLESS}
        if policy_kwargs is not None:
            policy_kwargs = {key: value for key, value in policy_kwargs.items() if key not in MEANINGLESS_TO_POLICY}
        defaults = {
            "learning_starts": (1, "episode"),
            "train_freq": 4,
            "gradient_steps": 0.5,
            "batch_size": 128,
            "segments": OneStepSegments(),
            "relabeling": "hindsight",  # nothing comes after one step
            "exploration_eps": 0.3,  # with 16 actions, of which one pays, some state would miss its own otherwise
        }
        super().__init__(*args, policy_kwargs=policy_kwargs, **{**defaults, **kwargs})

    def learn(self, *args, tb_log_name=NAME, **kwargs):
        return super().learn(*args, tb_log_name=tb_log_name, **kwargs)


StandIn.__name__ = StandIn.__qualname__ = NAME
setattr(stable_baselines3, NAME, StandIn)
# Saved models are pickled by reference to their class
StandIn.__module__ = "stable_baselines3"
