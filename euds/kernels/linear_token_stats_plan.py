"""How a call of the fused kernel of linear token statistics runs: tiles, kind of loads, shares of the vocabulary."""

import math
from dataclasses import dataclass
from functools import cache

import torch
import triton


@dataclass(frozen=True)
class Tiles:
    """Shape of a tile (hidden rows, vocabulary columns, depth along H), and how a program works on it."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Plan:
    """How one call runs.

    Attributes:
        tiles: what a program works on at a time.
        tma: whether it loads by the tensor memory accelerator, else by pointers.
        tiles_per_share: tiles along the vocabulary that a program takes; the last of a block of rows may take fewer.
        neighbours: blocks of rows whose programs run side by side.
    """

    tiles: Tiles
    tma: bool
    tiles_per_share: int
    neighbours: int


AMPERE_TILES = Tiles(64, 128, 32, 8, 4)
TILES = {9: Tiles(128, 256, 64, 8, 4), 10: Tiles(128, 128, 64, 8, 3)}
"""By major compute capability; others take `AMPERE_TILES`, which fit the shared memory of every card since."""

HOPPER_SOFTCAP_TILES = Tiles(128, 256, 64, 8, 3)
"""With a soft cap a fourth stage makes the compiler spill."""

FLOAT32_TILES = Tiles(64, 64, 16, 4, 2)
"""Exact float32 products have no tensor cores: each thread multiplies, and needs registers for the operands."""

NEIGHBOUR_BYTES = 32 << 20
"""Hidden states of the blocks that run side by side, which the L2 cache should hold while weights pass by.

On an H200, for 8,192 rows, groups of 8 to 64 blocks came within three points of each other at H 2048 and 4096, larger
ones ahead; at H 576 and 1024 all 64 at once were best, by one point over 32 and three to seven over 8."""

MORE_GROUPS = 8
"""How many groups of neighbours beyond the fewest are tried."""

TILE_OVERHEAD = 0.5
"""Start and end of a program, in tiles: a guess, not measured. It favours fewer and longer programs."""


def choose_plan(hidden: torch.Tensor, weight: torch.Tensor, *, softcapped: bool = False) -> Plan:
    """Return how to run hidden (N, H) against weight (V, H), N >= 1, on the device that holds them."""
    # Tensors outside a GPU come this far only in Triton's interpreter.
    major, multiprocessors = 0, 1
    if hidden.is_cuda:
        properties = torch.cuda.get_device_properties(hidden.device)
        major, multiprocessors = properties.major, properties.multi_processor_count
    exact = hidden.dtype == torch.float32
    tiles = FLOAT32_TILES if exact else TILES.get(major, AMPERE_TILES)
    if tiles is TILES[9] and softcapped:
        tiles = HOPPER_SOFTCAP_TILES
    tma = not exact and major in TILES and fits_descriptor(hidden) and fits_descriptor(weight)
    n_blocks, n_tiles = triton.cdiv(len(hidden), tiles.rows), triton.cdiv(len(weight), tiles.columns)
    most_neighbours = max(1, NEIGHBOUR_BYTES // (tiles.rows * hidden.shape[1] * hidden.element_size()))
    return Plan(tiles, tma, *choose_shares(n_blocks, n_tiles, multiprocessors, most_neighbours))


@cache
def choose_shares(n_blocks: int, n_tiles: int, multiprocessors: int, most_neighbours: int) -> tuple[int, int]:
    """Return the tiles of a share and the neighbours with which the multiprocessors have as little to wait as can be.

    A program takes a multiprocessor for itself, which is true of Hopper's tiles and assumed of others. As many shares
    of each neighbour as fit run at once; where some multiprocessors are left over, shares are shorter, and what remains
    of every block is one more share, which those left over take one after another. 64 blocks on 132 multiprocessors:
    128 programs take 48.5 % of the vocabulary each, and four take 16 times 3 %, where halves would leave four idle.
    """

    def schedule(n_groups: int) -> tuple[float, int, int]:
        neighbours = triton.cdiv(n_blocks, n_groups)
        shares, left_over = divmod(multiprocessors, neighbours)
        tiles = triton.cdiv(n_tiles, shares)
        if left_over:
            turns = triton.cdiv(neighbours, left_over)
            # The least with which the turns of the short shares take no longer than a long one.
            balanced = (turns * (n_tiles + TILE_OVERHEAD) - TILE_OVERHEAD) / (turns * shares + 1)
            tiles = max(1, min(tiles, math.ceil(balanced)))
        programs = neighbours * triton.cdiv(n_tiles, tiles)
        busy = neighbours * n_tiles + programs * TILE_OVERHEAD
        # Groups run into one another; only the last one's longest program is waited for.
        return (n_groups - 1) * busy / multiprocessors + tiles + TILE_OVERHEAD, tiles, neighbours

    fewest = triton.cdiv(n_blocks, min(most_neighbours, multiprocessors))
    most = min(n_blocks, fewest + MORE_GROUPS)
    _, tiles, neighbours = min(schedule(n_groups) for n_groups in range(fewest, most + 1))
    return tiles, neighbours


def fits_descriptor(matrix: torch.Tensor) -> bool:
    """Whether the tensor memory accelerator can address a matrix: rows contiguous, apart, and 16-byte aligned."""
    row_bytes = matrix.stride(0) * matrix.element_size()
    apart = matrix.stride(1) == 1 and matrix.stride(0) >= matrix.shape[1]
    return apart and row_bytes % 16 == 0 and matrix.data_ptr() % 16 == 0
