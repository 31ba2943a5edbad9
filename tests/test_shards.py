"""How many rows a shard has by default, and what is too large for one."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds.corpus import unpacked_bytes
from euds.engine.config import score_config
from euds.engine.prepare import prepare
from euds.engine.shards import default_shard_rows
from euds.errors import InputError

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
MIB = 1 << 20


def shard_rows(path: Path, **settings: Any) -> int | None:
    config = score_config(path, measures=["information"], **settings)
    return prepare(config, path.parent / "run").config.shard_rows


@pytest.mark.parametrize("row_bytes", [1, 300, 4096])
def test_shards_of_short_texts_have_their_rows_by_the_corpus_and_the_device(row_bytes: int) -> None:
    def rows(*counts: int, quick: bool) -> list[int]:
        return [default_shard_rows(n, n * row_bytes, quick=quick) for n in counts]

    assert rows(1, 10**6, 10**6 * 5, 10**9, quick=False) == [1024, 1024, 8192, 16384]
    assert rows(1 << 20, (1 << 20) + 1, quick=False) == [1024, 2048]
    assert rows(1, 1 << 23, (1 << 23) + 1, 10**9, quick=True) == [8192, 8192, 16384, 16384]


@pytest.mark.parametrize("quick", [False, True])
def test_a_shard_of_long_texts_has_64_mib_at_most_on_the_average(quick: bool) -> None:
    rng = np.random.default_rng(0)
    for n_rows, row_bytes in zip(rng.integers(1, 10**7, 300), 2 ** rng.uniform(3, 30, 300), strict=True):
        n_rows, n_bytes = int(n_rows), int(n_rows * row_bytes)
        plain, found = default_shard_rows(n_rows, 0, quick=quick), default_shard_rows(n_rows, n_bytes, quick=quick)
        fits = [rows for rows in (1 << at for at in range(15)) if min(rows, n_rows) * n_bytes / n_rows <= 64 * MIB]
        assert found == max([1, *(rows for rows in fits if rows <= plain)])


def test_a_corpus_that_is_one_shard_stays_one() -> None:
    assert default_shard_rows(4, 64 * MIB, quick=True) == 8192
    assert default_shard_rows(4, 64 * MIB + 1, quick=True) == 2
    assert default_shard_rows(1, 10**12, quick=True) == 1


def test_files_that_pack_their_texts_hold_four_times_their_size(tmp_path: Path) -> None:
    sizes = {"a.jsonl": 1, "a.csv": 1, "a.arrow": 1, "a.CSV.GZ": 4, "a.jsonl.zst": 4, "a.parquet": 4, "a.feather": 4}
    assert {name: unpacked_bytes(tmp_path / name, 10) for name in sizes} == {
        name: 10 * times for name, times in sizes.items()
    }


def test_a_plan_and_an_estimate_cut_shards_of_long_texts_by_their_bytes(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(64, 1)])
    content, size = corpus.read_bytes(), corpus.stat().st_size
    assert shard_rows(corpus) == 8192
    monkeypatch.setattr("euds.engine.shards.SHARD_BYTES", -(-size // 4))
    assert shard_rows(corpus) == 16
    assert shard_rows(corpus, shard_rows=50) == 50
    found = euds.estimate(corpus, measures=["information"])
    assert found.largest_task == 1 / 4
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(content))
    with pa.output_stream(str(tmp_path / "packed.jsonl.zst"), compression="zstd") as packed:
        packed.write(content)
    pq.write_table(pa.table({"text": make_texts(64, 1)}), tmp_path / "packed.parquet")
    for path in tmp_path.glob("packed.*"):
        eighth = -(-4 * path.stat().st_size // 8)
        for most, rows in ((eighth, 8), (eighth - 1, 4)):
            monkeypatch.setattr("euds.engine.shards.SHARD_BYTES", most)
            assert shard_rows(path) == rows


def test_a_run_over_long_texts_has_more_parts(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(64, 1)])
    monkeypatch.setattr("euds.engine.shards.SHARD_BYTES", -(-corpus.stat().st_size // 4))
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    names = [path.name for path in sorted((tmp_path / "run" / "scores").glob("*.parquet"))]
    assert names == [f"part-{at:05d}.parquet" for at in range(4)]


@pytest.mark.parametrize(
    ("limit", "most", "words"),
    [("MAX_SHARD_TOKENS", 200, "200 tokens"), ("MAX_SHARD_WORD_BYTES", 400, "400 bytes of different words")],
)
def test_a_shard_that_its_file_cannot_hold_is_refused_by_name(
    tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, words: str
) -> None:
    rows = [{"text": "a film"}] * 8 + [
        {"text": " ".join(f"word{at}" for at in range(40 * row, 40 * row + 40))} for row in range(8)
    ]
    corpus = write_jsonl(rows)
    monkeypatch.setattr(f"euds.engine.read.{limit}", most)
    monkeypatch.setattr("euds.engine.read.CHUNK_ROWS", 2)
    settings: dict[str, Any] = {"out": tmp_path / "run", "measures": ["information"]}
    told = (
        rf"^shard_rows: the shard of 8 rows that begins with row id 8 has more than {words}, which its file cannot "
        r"hold; start over with a smaller --shard-rows$"
    )
    with pytest.raises(InputError, match=told):
        euds.score(corpus, shard_rows=8, **settings)
    if limit == "MAX_SHARD_TOKENS":
        assert euds.score(corpus, shard_rows=4, force_new=True, **settings).n_scored == 16
