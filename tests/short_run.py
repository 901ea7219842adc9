"""A run of the benchmark that is only long enough to learn once."""

from typing import Any

from sb3_udrl.benchmark.runs import Plan
from sb3_udrl.benchmark.training import train

LITTLE = {"n_envs": 2, "learning_starts": [2, "episode"], "train_freq": [1, "episode"], "gradient_steps": 1}


def short_run(env_id: str, algo: str, timesteps: int, **plan: Any) -> dict[str, Any]:
    """
    :param env_id: an environment
    :param algo: a configuration of UDRL that comes with this package
    :param timesteps: enough for two episodes in each of two environments
    :param plan: more of the plan
    :return: the evaluation after training
    """
    runs, _ = Plan(
        envs=[env_id],
        algos=[algo],
        seeds=range(1),
        timesteps=timesteps,
        eval_freq=timesteps,
        n_eval_episodes=1,
        n_final_episodes=1,
        hyperparams={algo: {**LITTLE, "batch_size": 8}},
        **plan,
    ).runs()
    record, _ = train(runs[0], lambda step, mean_return: None)
    return record["evaluations"][-1]
