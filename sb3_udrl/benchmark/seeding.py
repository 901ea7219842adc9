"""Evaluation with seeds of its own, which leaves training as it would have been without it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch as th

EVALUATION_SEED = 1_000_000  # and those that follow; training never sees them


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Whatever happens inside, the global random generators go on as if nothing had."""
    states = random.getstate(), np.random.get_state()
    cudnn = th.backends.cudnn.deterministic
    # To ask a device for its state would start it
    devices = range(th.cuda.device_count()) if th.cuda.is_initialized() else ()
    try:
        with th.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        th.backends.cudnn.deterministic = cudnn
