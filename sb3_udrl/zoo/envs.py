"""Environments of the papers that Gymnasium does not have."""

from __future__ import annotations

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec

VARIANT_OF = {"LunarLanderSparse-v3": "LunarLander-v3"}
"""What they are variants of: settings of algorithms that were not tuned for the variant are taken from there."""

_LONGER_THAN_ANY_EPISODE = 1001  # environment steps; LunarLander's last 1000


def register_envs() -> None:
    """
    Make LunarLanderSparse known to Gymnasium: LunarLander with all reward at the end of the episode (1912.02877).
    """
    for env_id, original in VARIANT_OF.items():
        if env_id in gym.registry:
            continue
        spec = gym.spec(original)
        delay = WrapperSpec(
            "DelayedRewardWrapper", "rl_zoo3.wrappers:DelayedRewardWrapper", {"delay": _LONGER_THAN_ANY_EPISODE}
        )
        gym.register(
            env_id,
            spec.entry_point,
            reward_threshold=spec.reward_threshold,
            max_episode_steps=spec.max_episode_steps,
            additional_wrappers=(delay,),
        )
