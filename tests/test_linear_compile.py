"""The kernel fused with the projection, compiled for GPUs that are not here: which instructions, and how many."""

import heapq
import os
import re
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
import triton
from sass import compiling, loop_with, sass_of

from euds.kernels.linear_token_stats_plan import (
    AMPERE_TILES,
    FLOAT32_TILES,
    HOPPER_SOFTCAP_TILES,
    TILES,
    Plan,
    Tiles,
    choose_shares,
)
from euds.kernels.linear_token_stats_triton import linear_token_stats

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")

SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
"""Bytes that one program can have."""


def build(
    capability: int,
    tiles: Tiles,
    tma: bool,
    dtype: torch.dtype = torch.bfloat16,
    width: int = 576,
    rows_apart: int = 576,
    biased: bool = False,
    softcap: float | None = None,
    varentropy: bool = False,
) -> tuple[Any, Any]:
    """Compile what a call would launch on a capability: the tile kernel and the merge."""
    hidden = torch.zeros(300, rows_apart, dtype=dtype)[:, :width]
    weight = torch.zeros(1000, rows_apart, dtype=dtype)[:, :width]
    bias = torch.zeros(1000, dtype=dtype) if biased else None
    with compiling(capability) as kernels:
        linear_token_stats(hidden, weight, None, bias, softcap, 0.7, varentropy, Plan(tiles, tma, 2, 1))
    tile_sums, merge = kernels
    return tile_sums, merge


def epilogue_per_logit(compiled: Any, tiles: Tiles) -> float:
    """Instructions of the sm_90 tile loop that are not the matrix product's, over a thread's logits of a tile."""
    loop = loop_with(sass_of(compiled), "HGMMA")
    # Up to the branch that skips the reduction while the depth goes on, the loop waits, loads and multiplies.
    after = next(i for i, instruction in enumerate(loop) if "gsb0, 0x1" in instruction)
    product = next(i for i, instruction in enumerate(loop) if i > after and "BRA" in instruction)
    return (len(loop) - product) * 32 * tiles.warps / (tiles.rows * tiles.columns)


def check_resources(compiled: Any, capability: int) -> None:
    """Everything fits into registers and shared memory."""
    assert compiled.metadata.shared <= SHARED_MEMORY[capability]
    assert not re.search(r"\b(LDL|STL)\b", sass_of(compiled)), "spills"


@pytest.mark.parametrize(("varentropy", "most"), [(False, 8.2), (True, 10.4)])
def test_hopper_multiplies_by_wgmma_fed_by_tma(varentropy: bool, most: float) -> None:
    compiled, merge = build(90, TILES[9], tma=True, varentropy=varentropy)
    ptx = compiled.asm["ptx"]
    assert "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16" in ptx
    assert "cp.async.bulk.tensor.2d" in ptx
    assert "ex2.approx.ftz.f32" in ptx
    assert "ex2.approx.f32" not in ptx
    check_resources(compiled, 90)
    check_resources(merge, 90)
    assert "atom" not in ptx + merge.asm["ptx"]
    loop = loop_with(sass_of(compiled), "HGMMA")
    # Loads and exponentials in one loop: the next tile is on its way while this one is reduced.
    assert any("UTMALDG" in instruction for instruction in loop)
    assert any("MUFU.EX2" in instruction for instruction in loop)
    # A product is left in flight while the next loads start.
    assert any("gsb0, 0x1" in instruction for instruction in loop)
    assert epilogue_per_logit(compiled, TILES[9]) <= most


@pytest.mark.slow
@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hopper_takes_every_option_without_spills(dtype: torch.dtype, softcap: float | None) -> None:
    tiles = TILES[9] if softcap is None else HOPPER_SOFTCAP_TILES
    compiled, _ = build(90, tiles, tma=True, dtype=dtype, biased=True, softcap=softcap, varentropy=True)
    assert "wgmma.mma_async" in compiled.asm["ptx"]
    check_resources(compiled, 90)


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ampere_multiplies_by_mma_fed_by_asynchronous_copies(everything: bool) -> None:
    softcap = 30.0 if everything else None
    compiled, _ = build(80, AMPERE_TILES, tma=False, biased=everything, softcap=softcap, varentropy=everything)
    ptx = compiled.asm["ptx"]
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in ptx
    assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 0x10", ptx), "no 16-byte copies"
    check_resources(compiled, 80)


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_blackwell_multiplies_by_tcgen05_fed_by_tma(everything: bool) -> None:
    softcap = 30.0 if everything else None
    compiled, _ = build(100, TILES[10], tma=True, biased=everything, softcap=softcap, varentropy=everything)
    ptx = compiled.asm["ptx"]
    assert "tcgen05.mma" in ptx
    assert "cp.async.bulk.tensor.2d" in ptx
    check_resources(compiled, 100)


@pytest.mark.slow
def test_hopper_without_descriptors_still_uses_wgmma() -> None:
    compiled, _ = build(90, TILES[9], tma=False, width=570, rows_apart=571, varentropy=True)
    ptx = compiled.asm["ptx"]
    assert "cp.async.bulk.tensor" not in ptx
    assert "wgmma.mma_async" in ptx
    # It spills a little: "triton" takes the tiles for rows that no descriptor can address.
    assert compiled.metadata.shared <= SHARED_MEMORY[90]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_float32_products_are_exact(capability: int) -> None:
    compiled, _ = build(capability, FLOAT32_TILES, tma=False, dtype=torch.float32, biased=True, varentropy=True)
    assert not re.search(r"\btf32\b|wgmma|mma\.sync", compiled.asm["ptx"])
    check_resources(compiled, capability)


def seconds_of(n_blocks: int, n_tiles: int, tiles: int, neighbours: int, multiprocessors: int) -> float:
    """Tile times of a call whose programs start in order, each as soon as a multiprocessor is free."""
    free = [0.0] * multiprocessors
    for first in range(0, n_blocks, neighbours):
        for start in range(0, n_tiles, tiles):
            for _ in range(min(neighbours, n_blocks - first)):
                heapq.heapreplace(free, free[0] + min(tiles, n_tiles - start))
    return max(free)


@pytest.mark.parametrize("multiprocessors", [114, 132, 148])
@pytest.mark.parametrize("most_neighbours", [8, 16, 113])
@pytest.mark.parametrize("n_tiles", [1, 2, 125, 196, 1000])
@pytest.mark.parametrize("n_blocks", [1, 5, 33, 64, 128, 133, 200, 512])
def test_shares_fill_the_machine(n_blocks: int, n_tiles: int, most_neighbours: int, multiprocessors: int) -> None:
    tiles, neighbours = choose_shares(n_blocks, n_tiles, multiprocessors, most_neighbours)
    assert 1 <= tiles <= n_tiles
    assert 1 <= neighbours <= min(n_blocks, most_neighbours)
    seconds = seconds_of(n_blocks, n_tiles, tiles, neighbours, multiprocessors)
    if n_tiles >= 125 and n_blocks >= 33:
        assert n_blocks * n_tiles / multiprocessors / seconds > 0.87
    if n_blocks * n_tiles <= multiprocessors:
        assert seconds == 1


@pytest.mark.parametrize("n_tiles", [125, 196, 501, 593, 1000])
@pytest.mark.parametrize("most_neighbours", [16, 32, 64, 113])
def test_64_blocks_leave_none_of_132_multiprocessors_idle(n_tiles: int, most_neighbours: int) -> None:
    tiles, neighbours = choose_shares(64, n_tiles, 132, most_neighbours)
    assert 64 * n_tiles / 132 / seconds_of(64, n_tiles, tiles, neighbours, 132) > 0.94
    # Every further share is one more start of a program.
    assert triton.cdiv(n_tiles, tiles) <= 2 * 132 / neighbours
