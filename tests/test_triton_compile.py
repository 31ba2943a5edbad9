"""The machine code of the logits kernel, compiled for GPUs that need not be there: loads, spills, cost."""

import functools
import re
from typing import Any

import pytest

pytest.importorskip("triton")

import torch
from sass import compile_kernel, compiling, instructions, main_loop, resources_of, sass_of

from euds.kernels import token_stats_triton
from euds.kernels.ragged_stats_triton import ragged_mean_max
from euds.kernels.token_stats_triton import LANES, MAX_REGISTERS, N_WARPS, STEP, _rows_kernel

CAPABILITIES = [pytest.param(80, marks=pytest.mark.slow), 90, pytest.param(100, marks=pytest.mark.slow)]
DTYPES = ["bf16", "fp16", "fp32"]
TYPES = {
    "targets": "*i64",
    "out": "*fp32",
    "of_targets": "*fp32",
    "rows_per_batch": "i32",
    "batch_stride": "i64",
    "row_stride": "i64",
    "vocabulary": "i32",
    "part_steps": "i32",
    "part_stride": "i64",
    "step": "i64",
    "n_carried": "i32",
    "scale": "fp32",
    "temperature": "fp32",
    "cap_exponent": "fp32",
}
LOGITS_A_THREAD = 2 * STEP.value // LANES.value
"""Logits of one turn of the main loop."""


OF_LOGITS: dict[str, object] = {"bias": None, "cap_exponent": None, "FINISH": True}
"""What `token_stats` leaves out."""
OF_A_TILE: dict[str, object] = {"targets": None, "of_targets": None, "FINISH": False}
"""What `update_sums` leaves out; a plain tile has neither bias nor soft cap either."""


@functools.cache
def compiled(capability: int, dtype: str, varentropy: bool, use: str = "logits") -> Any:
    """Compile the kernel for whole logits, or for a tile, with the options of the launcher."""
    left_out = {"logits": OF_LOGITS, "plain tile": OF_LOGITS | OF_A_TILE, "tile": OF_A_TILE}[use]
    limited = dtype != "fp32" and "bias" in left_out
    return compile_kernel(
        _rows_kernel,
        {**TYPES, "logits": f"*{dtype}", "bias": f"*{dtype}"},
        {**left_out, "VARENTROPY": varentropy},
        capability,
        num_warps=N_WARPS,
        maxnreg=MAX_REGISTERS if limited else None,
        enable_fp_fusion=True,
    )


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("varentropy", "most"), [(False, 10.0), (True, 12.5)])
def test_the_main_loop_is_cheap(dtype: str, varentropy: bool, most: float, capability: int) -> None:
    kernel = compiled(capability, dtype, varentropy)
    loop = main_loop(sass_of(kernel))
    loads = [line for line in loop if "LDG" in line]
    assert len(loads) == LOGITS_A_THREAD * (4 if dtype == "fp32" else 2) // 16
    assert all(".128" in line for line in loads)
    assert not any(name in line for line in loop for name in ("BAR.", "LDS", "STS", "SHFL"))
    assert len(loop) / LOGITS_A_THREAD <= most
    assert "ld.global.v4.b32" in kernel.asm["ptx"]
    assert "ex2.approx.ftz.f32" in kernel.asm["ptx"]
    assert "ex2.approx.f32" not in kernel.asm["ptx"]


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("use", ["logits", "plain tile", "tile"])
def test_nothing_spills(dtype: str, use: str, capability: int) -> None:
    kernel = compiled(capability, dtype, True, use)
    used = resources_of(kernel)
    assert used["STACK"] == used["LOCAL"] == 0
    assert not any(name in line for line in instructions(sass_of(kernel)) for name in ("STL", "LDL"))


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_any_length_is_read_by_whole_words(dtype: str, capability: int) -> None:
    loads = [line for line in instructions(sass_of(compiled(capability, dtype, False))) if "LDG" in line]
    narrow = [line for line in loads if ".128" not in line]
    # What is left at both ends of the row, two logits a lane, then the target and its logit.
    assert len(narrow) == 4
    assert len(loads) > 3


@functools.cache
def launched(dtype: torch.dtype, varentropy: bool) -> Any:
    """Return the kernel that a call of `token_stats` compiles for whole rows on an H100."""
    with pytest.MonkeyPatch.context() as patched, compiling(90) as kernels:
        patched.setattr(token_stats_triton, "_multiprocessors", lambda _: 132)
        logits = torch.empty(50257, dtype=dtype).expand(1100, 50257)
        token_stats_triton.token_stats(logits, torch.zeros(1100, dtype=torch.long), 1.0, varentropy)
    (kernel,) = kernels
    return kernel


def test_rows_lie_anywhere_in_memory() -> None:
    # Beyond 2^31 logits an offset in 32 bits would wrap around.
    ttir = launched(torch.bfloat16, True).asm["ttir"]
    for name in ("batch_stride", "row_stride", "part_stride", "step"):
        assert re.search(rf"%{name}: i64\b", ttir)
    for name in ("logits", "out", "targets", "of_targets"):
        offsets = [line for line in ttir.splitlines() if f"tt.addptr %{name}, " in line]
        assert offsets
        assert all(", i64" in line for line in offsets)


@pytest.mark.parametrize(
    ("dtype", "varentropy", "most"),
    [
        (torch.bfloat16, False, 9.3),
        (torch.bfloat16, True, 11.4),
        (torch.float16, False, 9.1),
        (torch.float16, True, 11.2),
    ],
)
def test_a_call_takes_the_registers_that_two_loads_at_once_need(
    dtype: torch.dtype, varentropy: bool, most: float
) -> None:
    kernel = launched(dtype, varentropy)
    # 64 registers, where the compiler stops by itself, are too few for both; ten programs have room with 96.
    assert 64 < resources_of(kernel)["REG"] <= MAX_REGISTERS
    loop = main_loop(sass_of(kernel))
    last = max(at for at, line in enumerate(loop) if "LDG" in line)
    assert last < len(loop) / 4
    assert len(loop) / LOGITS_A_THREAD <= most


def test_one_compilation_serves_every_shape_and_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_stats_triton, "_multiprocessors", lambda _: 132)
    shapes = [(1100, 50257), (10**6, 32000), (600, 16), (3000, 1), (2, 16, 50257)]
    with compiling(90) as kernels:
        for shape in shapes:
            logits = torch.empty(shape[-1], dtype=torch.bfloat16).expand(shape)
            token_stats_triton.token_stats(logits, None, 1.0)
        for n_samples in (1, 16, 33):
            ragged_mean_max(torch.empty(2, n_samples), torch.arange(n_samples + 1))
    # The one of few rows is split over programs, which leave sums to a second kernel.
    names = [kernel.name for kernel in kernels]
    assert names == ["_rows_kernel"] * 5 + ["_finish_kernel"] + ["_mean_max_kernel"] * 3
    assert len({kernel.hash for kernel in kernels[:4]}) == 1
    assert len({kernel.hash for kernel in kernels[6:]}) == 1
    for kernel in kernels:
        assert resources_of(kernel)["STACK"] == 0


def test_the_main_loop_is_found() -> None:
    sass = """
    .L_x_0:
        /*0000*/    MOV R1, R2 ;
    .L_x_1:
        /*0010*/    FADD R1, R1, R2 ;
        /*0020*/    @P0 BRA `(.L_x_1) ;
    .L_x_2:
        /*0030*/    FADD R1, R1, R2 ;
        /*0040*/    FADD R1, R1, R3 ;
        /*0050*/    @!P0 BRA `(.L_x_2) ;
        /*0060*/    @!P1 BRA `(.L_x_0) ;
    .L_x_3:
        /*0070*/    BRA `(.L_x_3) ;
    """
    assert main_loop(sass) == ["FADD R1, R1, R2", "FADD R1, R1, R3", "@!P0 BRA `(.L_x_2)"]
    assert len(instructions(sass)) == 8
