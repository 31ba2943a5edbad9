"""Compile Triton kernels without a GPU, and read what the machine code of their main loop costs."""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import driver
from triton.runtime.jit import JITFunction

BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
LABEL = re.compile(r"^\s*(\.L_x_\w+):")
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;")
BRANCH = re.compile(r"\bBRA\b.*?`\((\.L_x_\w+)\)")


def compile_kernel(
    fn: Any,
    signature: Mapping[str, str],
    constexprs: Mapping[str, object],
    capability: int,
    **options: object,
) -> Any:
    """Compile a jit function for an NVIDIA GPU of compute capability 80, 90 or 100.

    signature: type of every argument that is not in constexprs, such as "*bf16" or "i64"; constexprs: value of the
    others; options: num_warps and the like.
    """
    names = fn.arg_names
    source = ASTSource(
        fn,
        {name: "constexpr" if name in constexprs else signature[name] for name in names},
        {(names.index(name),): value for name, value in constexprs.items()},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


class _NoGpu:
    """What Triton asks of a driver in order to compile."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        # No real device has this number, so that none is handed a kernel compiled for another.
        return -int(self.target.arch)

    def get_current_stream(self, device: int) -> int:
        return device

    def get_current_target(self) -> GPUTarget:
        return self.target


@contextmanager
def compiling(capability: int) -> Iterator[list[Any]]:
    """Let every launch inside compile for such a GPU and run nothing; yield the list of the kernels compiled."""
    kernels = []

    def run(self: Any, *args: object, grid: object, warmup: bool, **options: object) -> None:
        kernels.append(launch(self, *args, grid=grid, warmup=True, **options))

    launch, active = JITFunction.run, driver._active
    driver.set_active(_NoGpu(capability))
    JITFunction.run = run
    try:
        yield kernels
    finally:
        JITFunction.run = launch
        driver._active = active


def sass_of(compiled: Any) -> str:
    """Return the machine code as nvdisasm prints it, with labels."""
    return _run("nvdisasm", "-c", compiled.asm["cubin"])


def resources_of(compiled: Any) -> dict[str, int]:
    """Return registers (REG), bytes of stack (STACK), local (LOCAL) and shared memory (SHARED) of the kernel."""
    usage = _run("cuobjdump", "--dump-resource-usage", compiled.asm["cubin"])
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", usage)}


def instructions(sass: str) -> list[str]:
    """Return every instruction of the kernel."""
    return [match[1] for line in sass.splitlines() if (match := INSTRUCTION.match(line))]


def main_loop(sass: str) -> list[str]:
    """Return the instructions of the longest loop that holds no other, from its label to its branch back."""
    code, loops = _loops(sass)
    inner = [loop for loop in loops if not any(loop != other and _holds(loop, other) for other in loops)]
    start, stop = max(inner, key=lambda loop: loop[1] - loop[0])
    return code[start:stop]


def loop_with(sass: str, opcode: str) -> list[str]:
    """Return the instructions of the first loop that holds the opcode, from its label to its last branch back."""
    code, loops = _loops(sass)
    held = (code[start:stop] for start, stop in sorted(dict(loops).items()))
    return next(loop for loop in held if any(opcode in instruction for instruction in loop))


def _loops(sass: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Return every instruction, and of each branch back the place that it leads to and the one behind it."""
    starts: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    code: list[str] = []
    for line in sass.splitlines():
        if label := LABEL.match(line):
            starts[label[1]] = len(code)
        elif match := INSTRUCTION.match(line):
            code.append(match[1])
            branch = BRANCH.search(match[1])
            # A branch to itself ends the kernel's padding.
            if branch and starts.get(branch[1], len(code)) < len(code) - 1:
                loops.append((starts[branch[1]], len(code)))
    return code, loops


def _holds(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _run(tool: str, option: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([BIN / tool, option, file.name], capture_output=True, text=True, check=True).stdout
