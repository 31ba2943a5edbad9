"""How a call of the fused kernel of linear token statistics runs: tiles, kind of loads, shares of the vocabulary."""

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
        splits: programs along the vocabulary.
        neighbours: blocks of rows whose programs run side by side. On an H200 16 came four points nearer to the product
            alone than all 64 blocks at H 4096, V 151,936, where those do not fit the L2 cache, and as near elsewhere.
    """

    tiles: Tiles
    tma: bool
    splits: int
    neighbours: int = 16


AMPERE_TILES = Tiles(64, 128, 32, 8, 4)
TILES = {9: Tiles(128, 256, 64, 8, 4), 10: Tiles(128, 128, 64, 8, 3)}
"""By major compute capability; others take `AMPERE_TILES`, which fit the shared memory of every card since."""

HOPPER_SOFTCAP_TILES = Tiles(128, 256, 64, 8, 3)
"""With a soft cap a fourth stage makes the compiler spill."""

FLOAT32_TILES = Tiles(64, 64, 16, 4, 2)
"""Exact float32 products have no tensor cores: each thread multiplies, and needs registers for the operands."""

MAX_SPLITS = 16
"""Splits to try when the row blocks alone would fill most of the machine."""

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
    return Plan(tiles, tma, choose_splits(n_blocks, n_tiles, multiprocessors))


@cache
def choose_splits(n_blocks: int, n_tiles: int, multiprocessors: int) -> int:
    """Return into how many shares to split the vocabulary, so that the last wave of programs is as full as can be.

    A program takes a multiprocessor for itself; a call lasts waves * (tiles a program + overhead).
    """
    most = min(n_tiles, max(MAX_SPLITS, multiprocessors // n_blocks))

    def duration(splits: int) -> float:
        waves = triton.cdiv(n_blocks * splits, multiprocessors)
        return float(waves * (triton.cdiv(n_tiles, splits) + TILE_OVERHEAD))

    return min(range(1, most + 1), key=duration)


def fits_descriptor(matrix: torch.Tensor) -> bool:
    """Whether the tensor memory accelerator can address a matrix: rows contiguous, apart, and 16-byte aligned."""
    row_bytes = matrix.stride(0) * matrix.element_size()
    apart = matrix.stride(1) == 1 and matrix.stride(0) >= matrix.shape[1]
    return apart and row_bytes % 16 == 0 and matrix.data_ptr() % 16 == 0
