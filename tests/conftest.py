"""What all tests share."""

import numpy as np
import pytest
import torch as th

th.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded source of randomness."""
    return np.random.default_rng(0)
