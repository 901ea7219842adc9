"""What all tests share."""

import os

import numpy as np
import pytest
import torch as th
from hypothesis import HealthCheck, settings

th.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # in the processes that tests start

# A busy machine proves nothing wrong
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded source of randomness."""
    return np.random.default_rng(0)
