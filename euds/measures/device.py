"""Where and in which precision models run."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from euds.errors import InvalidArgument, one_of
from euds.ops.token_stats import logits_dtype
from euds.progress import say

if TYPE_CHECKING:
    # It takes seconds to import, and a run without models does without.
    import torch

OUT_OF_MEMORY_SIGNS = (
    *("can't allocate memory", "not enough memory", "CUDA error: out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "Triton Error [CUDA]: out of memory"),
)
"""What RuntimeErrors of allocations say: torch's on a CPU, CUDA's, and those of the libraries on a GPU."""

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Precision:
    """A device and a floating-point format by name, as the manifest records them."""

    device: str
    dtype: str

    @property
    def kind(self) -> str:
        """The kind of device: "cpu" or "cuda"."""
        return self.device.partition(":")[0]

    @property
    def torch_device(self) -> "torch.device":
        """The device for torch."""
        import torch

        return torch.device(self.device)

    @property
    def torch_dtype(self) -> "torch.dtype":
        """The dtype for torch."""
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def to_json(self) -> dict[str, str]:
        """Return all that scores of a language model depend on here: on GPUs also the dtype of the logits."""
        facts = {"device": self.device, "dtype": self.dtype}
        if self.kind == "cuda":
            facts["logits"] = str(logits_dtype(self.torch_device, self.torch_dtype)).removeprefix("torch.")
        return facts


def precision(device: str = "auto", dtype: str = "auto") -> Precision:
    """Settle "auto": a CUDA device if there is one, bfloat16 there and float32 on the CPU.

    Raises:
        InvalidArgument: the device or dtype is unknown, or the device is not there.
    """
    one_of("dtype", dtype, DTYPES)
    if device != "cpu":
        import torch

        cuda = [f"cuda:{at}" for at in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
        if device == "auto":
            device = "cuda" if cuda else "cpu"
        if device.partition(":")[0] == "cuda" and not cuda:
            version = torch.__version__
            raise InvalidArgument(f"device: {device!r} was asked for, but torch {version} finds no CUDA device")
        one_of("device", device, ("auto", "cpu", "cuda", *cuda))
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    return Precision(device, dtype)


def on_device(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Return a tensor of the CPU on a device, in order with the device's other work.

    It goes to a GPU from pinned memory and without waiting: a copy from ordinary memory would hold the caller up until
    all work that the GPU had been given before is done, and so would one of a tensor with gaps.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def emulates_bfloat16(device: str) -> bool:
    """Tell a CPU without the instructions that oneDNN multiplies bfloat16 with (AVX-512 on x86)."""
    import torch

    known = torch.backends.mkldnn.is_available()
    return device == "cpu" and known and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def warn_of_emulated_bfloat16(setting: str, dtype: str, device: str) -> None:
    """Say that products of bfloat16 will be slow here, where they will, and which setting asked for them."""
    if dtype == "bfloat16" and emulates_bfloat16(device):
        say(
            f"warning: {setting}: this processor has no instructions for bfloat16, whose products take about ten "
            "times as long as float32's here; use float32",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an allocation that failed, on any device, from every other error."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS)


def free_cached_memory() -> None:
    """Give back what torch keeps of a GPU for later: its libraries allocate beside it, and find no room."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
