"""Tensors are tiny here: threads would mostly wait for each other, on a busy machine ten times as long."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
