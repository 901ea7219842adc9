"""Whether an env was reset while nobody was looking."""

from __future__ import annotations

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper


class ResetWatch:
    """
    Knows the latest resets of a VecEnv, and whether there were others since.

    SB3's VecEnvs note at each reset the ``info`` that came with it. Whether that is still the same object tells more
    than what it says, which may be the same after each reset. A VecEnv without such notes cannot be watched.
    The notes are replaced by copies, so only the latest watch of an env is right.

    :param env: the environment, in any wrappers
    """

    def __init__(self, env: VecEnv) -> None:
        self._env = _innermost(env)
        infos = vars(self._env).get("reset_infos")  # which VecEnvs that others made may lack
        self._infos = None
        if isinstance(infos, (list, tuple)):
            # As copies, since an env may give one and the same object at each reset
            self._env.reset_infos = [dict(info) for info in infos]
            self._infos = list(self._env.reset_infos)

    def saw_reset(self) -> bool:
        """
        :return: whether the env was reset since, as ``evaluate_policy(model, model.get_env())`` does; False also where
            it cannot be watched
        """
        if self._infos is None:
            return False
        return any(before is not now for before, now in zip(self._infos, self._env.reset_infos, strict=True))


def _innermost(env: VecEnv) -> VecEnv:
    """:return: the VecEnv in all wrappers; not ``unwrapped``, which some override to give their simulator"""
    while isinstance(env, VecEnvWrapper) and isinstance(env.venv, VecEnv):
        env = env.venv
    return env
