"""Upside-Down Reinforcement Learning for Stable-Baselines3: say how much return you want, and by when."""

from importlib.metadata import version

from sb3_udrl.commands import Command
from sb3_udrl.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_udrl.udrl import UDRL
from sb3_udrl.wrappers import EpisodeProgress, VecEpisodeProgress

__all__ = [
    "UDRL",
    "CnnPolicy",
    "Command",
    "EpisodeProgress",
    "MlpPolicy",
    "MultiInputPolicy",
    "VecEpisodeProgress",
    "__version__",
]

__version__ = version("sb3-udrl")
