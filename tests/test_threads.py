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


def test_calls_side_by_side_leave_blas_its_threads() -> None:
    program = """
import threading
import numpy as np
import scipy.linalg.cython_lapack
import threadpoolctl
import euds
rows, offsets = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32), np.arange(0, 601, 20)
euds.kernel_language_entropy(rows, offsets)
threads = [
    threading.Thread(target=lambda: [euds.kernel_language_entropy(rows, offsets) for _ in range(10)]) for _ in range(3)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print({one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"})
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "{2}"
