"""One process for each GPU, and which device each of them is given."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import euds
from euds.corpus import read_manifest
from euds.engine.config import ScoreConfig
from euds.engine.execution import Execution
from euds.engine.local_runner import LocalRunner
from euds.engine.prepare import Plan
from euds.engine.process_runner import ProcessRunner
from euds.errors import InputError, InvalidArgument
from euds.measures.device import Precision, precision


@pytest.mark.parametrize(
    ("n_gpus", "workers", "device", "expected"),
    [
        (3, None, "auto", ["cuda:0", "cuda:1", "cuda:2"]),
        (3, None, "cuda", ["cuda:0", "cuda:1", "cuda:2"]),
        (3, 2, "auto", ["cuda:0", "cuda:1"]),
        (2, 3, "auto", ["cuda:0", "cuda:1", "cuda:0"]),
        (3, None, "cuda:1", ["cuda:1"]),
        (3, 2, "cuda:1", ["cuda:1", "cuda:1"]),
        (3, None, "cpu", ["cpu"]),
        (1, None, "auto", ["cuda:0"]),
        (0, None, "auto", ["auto"]),
        (0, 2, "cpu", ["cpu", "cpu"]),
    ],
)
def test_every_gpu_gets_a_process_unless_one_is_named(
    n_gpus: int, workers: int | None, device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert Execution(workers)._devices(_plan(device, "lm"), 9) == expected
    assert Execution(workers)._devices(_plan(device, "embedder"), 9) == expected


def test_no_more_processes_are_started_than_can_have_work(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert Execution()._devices(_plan("auto", "lm"), 2) == ["cuda:0", "cuda:1"]
    assert "warning: only 2 of 3 workers can have work: a shard (of 64 rows)" in capsys.readouterr().err
    assert Execution(10**9)._devices(_plan("cpu"), 1) == ["cpu"]
    assert "only 1 of 1,000,000,000 workers" in capsys.readouterr().err
    assert Execution(2)._devices(_plan("cpu"), 2) == ["cpu", "cpu"]
    assert capsys.readouterr().err == ""
    # All of it by a real run: one shard is worked on in this process.
    found = euds.score(corpus, out=tmp_path / "run", measures=["information"], workers=10**9)
    assert found.n_rows == 152
    assert "only 1 of 1,000,000,000 workers can have work: a shard (of 8,192 rows)" in capsys.readouterr().err
    euds.score(corpus, out=tmp_path / "split", measures=["information"], split="1/2")
    assert "only 1 of 2 pieces can have work" in capsys.readouterr().err


def test_what_needs_no_model_needs_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert Execution()._devices(_plan("auto", "tokenizer"), 9) == ["cpu"]
    assert Execution(2)._devices(_plan("auto"), 9) == ["cpu", "cpu"]


def test_a_run_on_the_cpu_takes_no_gpu() -> None:
    assert _plan("cuda:1", "lm").takes_gpu
    assert _plan("auto", "embedder").takes_gpu
    assert not _plan("cpu", "lm").takes_gpu
    assert not _plan("auto", "tokenizer").takes_gpu


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "cpu:7", "cuda:x", "cuda:2", "cuda:-1", "cuda:", ""])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    corpus: Path, tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    settings: list[dict[str, Any]] = [{"measures": ["information"]}, {"measures": ["generative"], "lm": tiny_lm}]
    for given in settings:
        with pytest.raises(InvalidArgument, match=r"device: unknown value .*; known: auto, cpu, cuda, cuda:0, cuda:1$"):
            euds.score(corpus, out=tmp_path / "run", device=device, **given)
    assert not (tmp_path / "run").exists()
    assert precision("cuda:1").device == "cuda:1"


def test_without_cuda_a_cuda_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:0"):
        with pytest.raises(InvalidArgument, match="finds no CUDA device"):
            precision(device)
    assert precision().device == "cpu"


def test_cards_that_round_logits_otherwise_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Precision("cuda:1", "bfloat16")
    for capability, logits in (((8, 0), "bfloat16"), ((9, 0), "float32"), ((10, 0), "float32"), ((12, 0), "bfloat16")):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda device, found=capability: found)
        assert card.to_json() == {"device": "cuda:1", "dtype": "bfloat16", "logits": logits}
    assert Precision("cuda", "float32").to_json()["logits"] == "float32"
    assert Precision("cpu", "bfloat16").to_json() == {"device": "cpu", "dtype": "bfloat16"}


def test_processes_on_cards_that_round_logits_otherwise_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9 - device.index, 0))
    settled = {"device": "cuda", "dtype": "bfloat16"}
    devices = ["cuda:0", "cuda:1"]
    plan = replace(_plan("cuda", "lm"), fingerprint={"precision": {**settled, "logits": "float32"}})
    with pytest.raises(
        InputError, match=r"float32\), but a process on cuda:1 has .* \(logits in bfloat16\); set CUDA_"
    ):
        ProcessRunner(plan, devices)
    # No logits are measured, or the cards are of one kind.
    for fingerprint, found in (({"precision": settled}, devices), (plan.fingerprint, ["cuda:0", "cuda:0"])):
        with ProcessRunner(replace(plan, fingerprint=fingerprint), found):
            pass


def test_the_manifest_tells_the_threads_of_the_workers(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("euds.engine.process_runner.check_threads", lambda _: 7)
    plan = replace(_plan("cpu"), fingerprint={"precision": None})
    assert ProcessRunner(plan, ["cpu", "cpu"]).torch_threads is None
    processes = ProcessRunner(replace(plan, folders={"lm": Path("lm")}), ["cpu", "cpu"])
    assert processes.torch_threads == 3
    monkeypatch.setattr(LocalRunner, "torch_threads", processes.torch_threads)
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    assert read_manifest(tmp_path / "run")["device"]["torch_threads"] == 3


def _plan(device: str, *roles: str) -> Plan:
    settings: dict[str, Any] = dict.fromkeys(field.name for field in fields(ScoreConfig))
    settings |= {"measures": ("information",), "text_fields": ("text",), "semantic": (), "device": device}
    settings |= {"shard_rows": 64, "dtype": "auto", "seed": 0, "n_neighbors": 1, "similarity_temperature": 1.0}
    folders = {role: Path(role) for role in roles}
    return Plan(Path("run"), ScoreConfig(**settings), (), (), 0, folders, {})
