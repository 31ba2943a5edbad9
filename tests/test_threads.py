"""Kernels use the threads their caller has asked for, and leave torch's setting alone."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
{imports}
import euds
euds.information_entropy(np.arange(100) % 7, np.array([0, 40, 100]))
euds.cluster_entropy(np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32), n_clusters=4)
import torch
print(torch.get_num_threads())
"""


@pytest.mark.parametrize("imports", ["import torch", "import torch; torch.set_num_threads(1)"])
def test_torch_keeps_its_threads(imports: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2" if "set_num" in imports else "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(imports=imports)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["1"]


def test_numba_keeps_its_threads() -> None:
    program = """
import numba, torch, numpy as np
torch.set_num_threads(2)
numba.set_num_threads(1)
import euds
euds.cluster_entropy(np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32), n_clusters=4)
print(numba.get_num_threads(), torch.get_num_threads())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["1", "2"]
