"""The kernel fused with the projection, compiled for GPUs that are not here: which instructions, and how many."""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from euds.kernels import linear_token_stats_triton as module
from euds.kernels.linear_token_stats_plan import (
    AMPERE_TILES,
    FLOAT32_TILES,
    HOPPER_SOFTCAP_TILES,
    TILES,
    Plan,
    Tiles,
    choose_splits,
)
from euds.kernels.linear_token_stats_triton import linear_token_stats

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")

BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
"""Bytes that one program can have."""


class Target:
    """Stands where Triton expects the driver of a GPU, and knows only its compute capability."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


class Compiled:
    """A kernel that is compiled for its arguments where it would be launched."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.result: Any = None

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: Any, **options: Any) -> None:
            self.result = self.kernel.warmup(*args, grid=grid, **options)

        return launch


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Return a function that compiles what a call would launch on a capability: the tile kernel and the merge."""
    active = driver._active

    def compile_call(
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
        driver.set_active(Target(capability))
        kernels = [Compiled(module.tile_sums_kernel), Compiled(module.merge_splits_kernel)]
        monkeypatch.setattr(module, "tile_sums_kernel", kernels[0])
        monkeypatch.setattr(module, "merge_splits_kernel", kernels[1])
        hidden = torch.zeros(300, rows_apart, dtype=dtype)[:, :width]
        weight = torch.zeros(1000, rows_apart, dtype=dtype)[:, :width]
        bias = torch.zeros(1000, dtype=dtype) if biased else None
        linear_token_stats(hidden, weight, None, bias, softcap, 0.7, varentropy, Plan(tiles, tma, 2))
        monkeypatch.undo()
        return kernels[0].result, kernels[1].result

    yield compile_call
    driver._active = active


def dump(compiled: Any, tool: str, option: str) -> str:
    """Return what a tool of the CUDA toolkit says of the machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        return subprocess.run([BIN / tool, option, file.name], capture_output=True, text=True, check=True).stdout


def registers(compiled: Any) -> int:
    """Return registers a thread."""
    found = re.search(r"\bREG:(\d+)", dump(compiled, "cuobjdump", "--dump-resource-usage"))
    assert found is not None
    return int(found[1])


def loop_with(compiled: Any, opcode: str) -> list[str]:
    """Return the instructions of the first loop that holds the opcode, from its label to its last branch back."""
    labels: dict[str, int] = {}
    ends: dict[int, int] = {}
    code: list[str] = []
    for line in dump(compiled, "nvdisasm", "-c").splitlines():
        if label := re.match(r"\s*(\.L_x_\w+):", line):
            labels[label[1]] = len(code)
        elif found := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
            code.append(found[1])
            branch = re.search(r"\bBRA\b.*`\((\.L_x_\w+)\)", found[1])
            if branch and branch[1] in labels:
                ends[labels[branch[1]]] = len(code)
    loops = [code[start:end] for start, end in sorted(ends.items())]
    return next(loop for loop in loops if any(opcode in instruction for instruction in loop))


def epilogue_per_logit(compiled: Any, tiles: Tiles) -> float:
    """Instructions of the sm_90 tile loop that are not the matrix product's, over a thread's logits of a tile."""
    loop = loop_with(compiled, "HGMMA")
    # Up to the branch that skips the reduction while the depth goes on, the loop waits, loads and multiplies.
    after = next(i for i, instruction in enumerate(loop) if "gsb0, 0x1" in instruction)
    product = next(i for i, instruction in enumerate(loop) if i > after and "BRA" in instruction)
    return (len(loop) - product) * 32 * tiles.warps / (tiles.rows * tiles.columns)


def check_resources(compiled: Any, capability: int) -> None:
    """Everything fits into registers and shared memory."""
    assert registers(compiled) <= 255
    assert compiled.metadata.shared <= SHARED_MEMORY[capability]
    assert not re.search(r"\b(LDL|STL)\b", dump(compiled, "nvdisasm", "-c")), "spills"


@pytest.mark.parametrize(("varentropy", "most"), [(False, 8.2), (True, 10.4)])
def test_hopper_multiplies_by_wgmma_fed_by_tma(
    build: Callable[..., tuple[Any, Any]], varentropy: bool, most: float
) -> None:
    compiled, merge = build(90, TILES[9], tma=True, varentropy=varentropy)
    ptx = compiled.asm["ptx"]
    assert "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16" in ptx
    assert "cp.async.bulk.tensor.2d" in ptx
    assert "ex2.approx.ftz.f32" in ptx
    assert "ex2.approx.f32" not in ptx
    check_resources(compiled, 90)
    check_resources(merge, 90)
    assert "atom" not in ptx + merge.asm["ptx"]
    loop = loop_with(compiled, "HGMMA")
    # Loads and exponentials in one loop: the next tile is on its way while this one is reduced.
    assert any("UTMALDG" in instruction for instruction in loop)
    assert any("MUFU.EX2" in instruction for instruction in loop)
    # A product is left in flight while the next loads start.
    assert any("gsb0, 0x1" in instruction for instruction in loop)
    assert epilogue_per_logit(compiled, TILES[9]) <= most


@pytest.mark.slow
@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hopper_takes_every_option_without_spills(
    build: Callable[..., tuple[Any, Any]], dtype: torch.dtype, softcap: float | None
) -> None:
    tiles = TILES[9] if softcap is None else HOPPER_SOFTCAP_TILES
    compiled, _ = build(90, tiles, tma=True, dtype=dtype, biased=True, softcap=softcap, varentropy=True)
    assert "wgmma.mma_async" in compiled.asm["ptx"]
    check_resources(compiled, 90)


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ampere_multiplies_by_mma_fed_by_asynchronous_copies(
    build: Callable[..., tuple[Any, Any]], everything: bool
) -> None:
    softcap = 30.0 if everything else None
    compiled, _ = build(80, AMPERE_TILES, tma=False, biased=everything, softcap=softcap, varentropy=everything)
    ptx = compiled.asm["ptx"]
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in ptx
    assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 0x10", ptx), "no 16-byte copies"
    check_resources(compiled, 80)


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_blackwell_multiplies_by_tcgen05_fed_by_tma(build: Callable[..., tuple[Any, Any]], everything: bool) -> None:
    softcap = 30.0 if everything else None
    compiled, _ = build(100, TILES[10], tma=True, biased=everything, softcap=softcap, varentropy=everything)
    ptx = compiled.asm["ptx"]
    assert "tcgen05.mma" in ptx
    assert "cp.async.bulk.tensor.2d" in ptx
    check_resources(compiled, 100)


@pytest.mark.slow
def test_hopper_without_descriptors_still_uses_wgmma(build: Callable[..., tuple[Any, Any]]) -> None:
    compiled, _ = build(90, TILES[9], tma=False, width=570, rows_apart=571, varentropy=True)
    ptx = compiled.asm["ptx"]
    assert "cp.async.bulk.tensor" not in ptx
    assert "wgmma.mma_async" in ptx
    assert registers(compiled) <= 255
    assert compiled.metadata.shared <= SHARED_MEMORY[90]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_float32_products_are_exact(build: Callable[..., tuple[Any, Any]], capability: int) -> None:
    compiled, _ = build(capability, FLOAT32_TILES, tma=False, dtype=torch.float32, biased=True, varentropy=True)
    assert not re.search(r"\btf32\b|wgmma|mma\.sync", compiled.asm["ptx"])
    check_resources(compiled, capability)


@pytest.mark.parametrize("n_tiles", [1, 2, 125, 196, 1000])
@pytest.mark.parametrize("n_blocks", [1, 5, 33, 64, 128, 133, 200, 1000])
def test_splits_fill_the_machine(n_blocks: int, n_tiles: int) -> None:
    multiprocessors = 132
    splits = choose_splits(n_blocks, n_tiles, multiprocessors)
    assert 1 <= splits <= n_tiles
    waves = triton.cdiv(n_blocks * splits, multiprocessors)
    tile_times = waves * triton.cdiv(n_tiles, splits)
    if n_tiles >= 125 and n_blocks >= 33:
        assert n_blocks * n_tiles / (multiprocessors * tile_times) > 0.8
    if n_blocks * n_tiles <= multiprocessors:
        assert splits == n_tiles


def test_few_splits_suffice_for_many_rows() -> None:
    assert choose_splits(64, 196, 132) == 2
    assert choose_splits(132, 196, 132) == 1
    assert choose_splits(10_000, 196, 132) <= 4
