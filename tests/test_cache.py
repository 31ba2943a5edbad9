"""A cached score is the one that was computed, of the same model and tokens; nothing damaged is ever trusted."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_score_resume import digests

import euds
from euds.engine.cache_upkeep import ABANDONED_SECONDS, FAN, tend
from euds.engine.segments import Segments, keys_of, segment_names
from euds.errors import InputError, InvalidArgument
from euds.measures.generative import GenerativeScorer
from euds.measures.semantic import Embedder
from euds.pipeline.data import RunData
from euds.pipeline.demo import SENTIMENT
from euds.pipeline.recipe import load_recipe
from euds.pipeline.run import _score

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
LIMIT = 10**9
PLAIN = (
    "film",
    "plot",
    "actor",
    "scene",
    "story",
    "was",
    "felt",
    "dull",
    "sad",
    "long",
    "very",
    "funny",
    "bright",
    "the",
    "a",
)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Texts that reached each real model."""
    counts = {"generative": 0, "embedding": 0}

    def spy(owner: type, method: str, name: str) -> None:
        real = getattr(owner, method)

        def counted(self: Any, samples: Any) -> Any:
            counts[name] += len(samples)
            return real(self, samples)

        monkeypatch.setattr(owner, method, counted)

    spy(GenerativeScorer, "score", "generative")
    spy(Embedder, "embed", "embedding")
    return counts


@pytest.fixture
def settings(tiny_lm: Path, tiny_encoder: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "lm": tiny_lm,
        "embedder": tiny_encoder,
        "n_clusters": 4,
        "shard_rows": 16,
        "cache": tmp_path / "cache",
    }


def cache_of(run_dir: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads((run_dir / "manifest.json").read_text())["cache"]
    return found


def rows_of(texts: list[str]) -> list[object]:
    return [{"text": text} for text in texts]


def unlike_texts(n: int) -> list[str]:
    """Texts of which no two have the same tokens."""
    return [" ".join([*pair, *PLAIN[: at % 7]]) for at, pair in enumerate(islice(permutations(PLAIN, 2), n))]


def test_a_corpus_that_grew_by_a_row_costs_a_row(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    texts = unlike_texts(100)
    euds.score(write_jsonl(rows_of(texts)), out=tmp_path / "before", **settings)
    assert seen == {"generative": 100, "embedding": 100}
    grown = write_jsonl(rows_of([*texts[:50], "one more film", *texts[50:]]), "grown.jsonl")
    euds.score(grown, out=tmp_path / "after", **settings)
    assert seen == {"generative": 101, "embedding": 101}
    assert cache_of(tmp_path / "after") == {
        "generative": {"hits": 100, "misses": 1},
        "embedding": {"hits": 100, "misses": 1},
    }
    before, after = (pq.read_table(tmp_path / name / "scores") for name in ("before", "after"))
    kept = [*range(50), *range(51, 101)]
    for column in ("generative_entropy_nats", "generative_entropy_max_nats", "nll_nats", "varentropy_nats2"):
        assert after.column(column).take(kept).to_pylist() == before.column(column).to_pylist()


def test_a_cold_cache_changes_no_byte_and_a_warm_one_repeats_it(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    rows = rows_of(unlike_texts(40))
    rows[3:3] = [{"text": None}, {"text": "of"}, "no object"]
    corpus = write_jsonl(rows)
    euds.score(corpus, out=tmp_path / "none", **{**settings, "cache": None})
    euds.score(corpus, out=tmp_path / "cold", **settings)
    before = dict(seen)
    euds.score(corpus, out=tmp_path / "warm", **settings)
    assert seen == before
    assert digests(tmp_path / "none") == digests(tmp_path / "cold") == digests(tmp_path / "warm")
    assert cache_of(tmp_path / "none") == {}


def test_rows_without_a_score_are_not_kept(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = GenerativeScorer.score

    def poisoned(self: GenerativeScorer, samples: Any) -> Any:
        scores = real(self, samples)
        scores.nll[[len(sample) > 40 for sample in samples]] = np.nan
        return scores

    texts = [*unlike_texts(20), " ".join(["plot"] * 50)]
    corpus = write_jsonl([*rows_of(texts), {"text": None}, {"text": "a"}])
    with monkeypatch.context() as patched:
        patched.setattr(GenerativeScorer, "score", poisoned)
        euds.score(corpus, out=tmp_path / "poisoned", **settings)
    stored = [pq.read_table(path) for path in (tmp_path / "cache").glob("generative-*/*.parquet")]
    assert sum(table.num_rows for table in stored) == 20
    again = euds.score(corpus, out=tmp_path / "again", **settings)
    assert (again.n_scored, again.n_quarantined) == (21, 2)
    assert cache_of(tmp_path / "again")["generative"] == {"hits": 20, "misses": 2}


def test_texts_with_the_same_tokens_are_computed_once(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    corpus = write_jsonl(rows_of(["the film was sad", "a dull plot", "the film was sad"] * 30))
    euds.score(corpus, out=tmp_path / "run", **settings)
    assert seen == {"generative": 2, "embedding": 2}
    values = pq.read_table(tmp_path / "run" / "scores").column("nll_nats").to_pylist()
    assert values == values[:3] * 30
    assert values[0] == values[2] != values[1]


def test_another_dtype_model_or_tokenizer_is_another_namespace(
    write_jsonl: WriteJsonl, tmp_path: Path, tiny_lm: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    corpus = write_jsonl(rows_of(unlike_texts(10)))
    generative = {**settings, "measures": ["generative"]}
    other = tmp_path / "other-lm"
    shutil.copytree(tiny_lm, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: weight * 1.5 for name, weight in weights.items()}, other / "model.safetensors", {"format": "pt"})
    euds.score(corpus, out=tmp_path / "first", **generative)
    changes: list[dict[str, Any]] = [{"dtype": "bfloat16"}, {"lm": other}]
    for at, change in enumerate(changes, 2):
        euds.score(corpus, out=tmp_path / f"run{at}", **{**generative, **change})
        assert seen["generative"] == 10 * at
    assert len(list((tmp_path / "cache").glob("generative-*"))) == 3
    first, second = (pq.read_table(tmp_path / name / "scores").column("nll_nats") for name in ("first", "run3"))
    assert first != second
    # A shorter reading limit gives other tokens of long texts only.
    euds.score(corpus, out=tmp_path / "short", **generative, max_tokens=200)
    assert seen["generative"] == 30


@pytest.mark.parametrize("stage", ["generative", "embeddings"])
def test_no_damaged_segment_is_trusted(
    write_jsonl: WriteJsonl,
    tmp_path: Path,
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(12)))
    euds.score(corpus, out=tmp_path / "whole", **settings)
    (segment,) = (tmp_path / "cache").glob(f"{stage}-*/*.parquet")
    content = segment.read_bytes()
    segment.write_bytes(content[: len(content) // 2])
    euds.score(corpus, out=tmp_path / "truncated", **settings)
    assert digests(tmp_path / "truncated") == digests(tmp_path / "whole")
    assert f"{segment}: damaged, removed from the cache" in capsys.readouterr().err
    assert not segment.exists()


def segment_table(n: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(n * 3, np.float32)), 3)
    return pa.table({"value": pa.array(rng.random(n, np.float32)), "count": np.arange(n, dtype=np.int32), "v": vectors})


def some_keys(n: int, seed: int) -> Any:
    ids = np.random.default_rng(seed).integers(0, 1000, 4 * n)
    return np.sort(keys_of(ids, np.arange(0, 4 * n + 1, 4), range(n)))


def test_any_flipped_byte_gives_the_same_rows_or_none(tmp_path: Path) -> None:
    keys, rows = some_keys(5, 0), segment_table(5, 0)
    segments = Segments(tmp_path / "space")
    segments.add(keys, rows)
    (name,) = segment_names(segments.folder)
    path = segments.folder / name
    content = path.read_bytes()
    intact = 0
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        found, table = Segments(segments.folder).look_up(keys)
        if table is not None:
            intact += int(found.all())
            assert table.cast(rows.schema).equals(rows.filter(pa.array(found)))
    assert 0 < intact < len(content)


def test_what_the_system_refuses_is_a_miss_and_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    keys = some_keys(5, 0)
    segments = Segments(tmp_path / "space")
    for _ in range(FAN):
        segments.add(keys, segment_table(5, 0))
    names = segment_names(segments.folder)
    with monkeypatch.context() as patched:
        patched.setattr("os.utime", refuse)
        assert segments.look_up(keys)[0].all()
    with monkeypatch.context() as patched:
        patched.setattr("pyarrow.parquet.read_table", refuse)
        assert not Segments(segments.folder).look_up(keys)[0].any()
        tend(tmp_path, segments.folder, LIMIT)
    assert segment_names(segments.folder) == names


def test_look_up_equals_a_dictionary_across_merges(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    segments = Segments(tmp_path / "space")
    pool = some_keys(200, 1)
    expected: dict[bytes, Any] = {}
    for at in range(3 * FAN):
        keys = np.sort(rng.choice(pool, int(rng.integers(1, 30)), replace=False))
        rows = segment_table(len(keys), at)
        segments.add(keys, rows)
        tend(tmp_path, segments.folder, LIMIT)
        for key, row in zip(keys.tolist(), rows.to_pylist(), strict=True):
            expected.setdefault(key, row)
        found, table = segments.look_up(pool)
        assert found.tolist() == [key in expected for key in pool.tolist()]
        assert table is not None
        assert table.to_pylist() == [expected[key] for key in pool[found].tolist()]
    assert len(segment_names(segments.folder)) < FAN


def test_a_key_that_ends_in_zeros_is_told_apart(tmp_path: Path) -> None:
    keys = np.array([b"a" * 14 + b"\0\0", b"a" * 14 + b"\0\1", b"a" * 16], "S16")
    segments = Segments(tmp_path / "space")
    segments.add(keys, segment_table(3, 0))
    found, table = Segments(segments.folder).look_up(keys[1:])
    assert found.all()
    assert table is not None
    assert table.column("count").to_pylist() == [1, 2]


def test_the_least_recently_used_go_and_the_limit_holds(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "space")
    all_keys = [some_keys(3000, at) for at in range(6)]
    sizes = []
    for at, keys in enumerate(all_keys):
        segments.add(keys, segment_table(3000, at))
        path = segments.folder / segment_names(segments.folder)[-1]
        os.utime(path, (at, at))
        sizes.append(path.stat().st_size)
    # Looked up, the oldest becomes the one used last.
    assert segments.look_up(all_keys[0][:1])[0].all()
    limit = sum(sizes) - sizes[1] - sizes[2]
    tend(tmp_path, segments.folder, limit)
    there = [bool(segments.look_up(keys)[0].all()) for keys in all_keys]
    assert there == [True, False, False, True, True, True]
    tend(tmp_path, segments.folder, 1)
    assert segment_names(segments.folder) == []


def test_a_run_keeps_the_cache_within_its_limit(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any]
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(200)))
    euds.score(corpus, out=tmp_path / "run", **settings, cache_limit_gb=2e-5)
    sizes = [path.stat().st_size for path in (tmp_path / "cache").rglob("*.parquet")]
    assert 0 < sum(sizes) <= 20_000


def test_what_a_killed_writer_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "space")
    segments.add(some_keys(3, 0), segment_table(3, 0))
    old, new = (segments.folder / f".{name}.parquet.1-ab.partial" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"PAR1half")
    past = time.time() - ABANDONED_SECONDS - 60
    os.utime(old, (past, past))
    tend(tmp_path, segments.folder, LIMIT)
    assert (old.exists(), new.exists()) == (False, True)
    assert segments.look_up(some_keys(3, 0))[0].all()


def test_impossible_caches_are_refused(write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any]) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(3)))
    with pytest.raises(InvalidArgument, match="cache_limit_gb: must be above 0, got 0"):
        euds.score(corpus, out=tmp_path / "run", **settings, cache_limit_gb=0)
    with pytest.raises(InputError, match="is a file; --cache names a folder"):
        euds.score(corpus, out=tmp_path / "run", **{**settings, "cache": corpus})
    assert not (tmp_path / "run").exists()
    euds.score(corpus, out=tmp_path / "run", **settings, dry_run=True)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_does_not_end_a_run_that_has_begun(
    write_jsonl: WriteJsonl,
    tmp_path: Path,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(3)))
    with pytest.raises(InputError, match="no cache can be kept there: Not a directory"):
        euds.score(corpus, out=tmp_path / "none", **{**settings, "cache": corpus / "below"})

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Segments, "add", full)
    result = euds.score(corpus, out=tmp_path / "run", **settings)
    assert result.n_scored == 3
    assert "scores could not be cached: [Errno 28] No space left on device" in capsys.readouterr().err


def test_a_recipe_names_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(SENTIMENT, ["score.cache=kept"])
    passed: dict[str, Any] = {}
    monkeypatch.setattr("euds.pipeline.run.score", lambda *_, **named: passed.update(named))
    _score(recipe, RunData(Path("a"), Path("b")), dry_run=True)
    assert passed["cache"] == "kept"


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_cache import LIMIT, segment_table, some_keys
from euds.engine.cache_upkeep import tend
from euds.engine.segments import Segments
cache, seed = Path({cache!r}), int(sys.argv[1])
segments = Segments(cache / "space")
for at in range({n}):
    # Every other segment is one that the other process writes as well.
    own = at if at % 2 else 1000 * seed + at
    segments.add(some_keys(50, own), segment_table(50, own))
    tend(cache, segments.folder, LIMIT)
    print(at, flush=True)
"""


def writer(cache: Path, seed: int, n: int) -> "subprocess.Popen[bytes]":
    program = WRITER.format(tests=str(Path(__file__).parent), cache=str(cache), n=n)
    return subprocess.Popen([sys.executable, "-c", program, str(seed)], stdout=subprocess.PIPE)


@pytest.mark.slow
def test_two_processes_write_and_merge_at_the_same_time(tmp_path: Path) -> None:
    processes = [writer(tmp_path, seed, 60) for seed in (1, 2)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    segments = Segments(tmp_path / "space")
    assert len(segment_names(segments.folder)) < 2 * FAN
    for own in {at if at % 2 else 1000 * seed + at for at in range(60) for seed in (1, 2)}:
        found, table = segments.look_up(some_keys(50, own))
        assert found.all()
        assert table is not None
        assert table.equals(segment_table(50, own))


@pytest.mark.slow
def test_writers_killed_at_any_moment_leave_nothing_that_is_trusted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed in range(1, 5):
        process = writer(tmp_path, seed, 10_000)
        assert process.stdout is not None
        n_written = int(rng.integers(4, 40))
        for _ in range(n_written):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        segments = Segments(tmp_path / "space")
        for at in range(n_written):
            own = at if at % 2 else 1000 * seed + at
            found, table = segments.look_up(some_keys(50, own))
            assert found.all()
            assert table is not None
            assert table.equals(segment_table(50, own))
    # A lock whose holder was killed is free, and the cache as good as before.
    tend(tmp_path, tmp_path / "space", LIMIT)
    assert Segments(tmp_path / "space").look_up(some_keys(50, 1))[0].all()


@pytest.mark.slow
def test_the_processes_of_a_run_share_a_cache(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any]
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(60)))
    euds.score(corpus, out=tmp_path / "two", **settings, workers=2)
    euds.score(corpus, out=tmp_path / "warm", **settings, workers=2)
    euds.score(corpus, out=tmp_path / "one", **{**settings, "cache": None})
    assert cache_of(tmp_path / "two")["generative"] == {"hits": 0, "misses": 60}
    assert cache_of(tmp_path / "warm")["generative"] == {"hits": 60, "misses": 0}
    assert digests(tmp_path / "two") == digests(tmp_path / "warm") == digests(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_with_a_cache_resumes_to_the_same_bytes(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, settings: dict[str, Any]
) -> None:
    # Repeated texts: what a killed run has cached must not give a text another score than the uninterrupted run does.
    texts = make_texts(150, 3)
    corpus = write_jsonl(rows_of([*texts, *texts[::3], *texts[:20]]))
    euds.score(corpus, out=tmp_path / "whole", **{**settings, "cache": tmp_path / "cache-whole"})
    run_dir = tmp_path / "killed"
    command = [sys.executable, "-m", "euds", "score", str(corpus), "--out", str(run_dir)]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    for attempt in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(run_dir.rglob("*.arrow"))) < 10 * (attempt + 1):
            time.sleep(0.002)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    euds.score(corpus, out=run_dir, **settings)
    assert digests(run_dir) == digests(tmp_path / "whole")
