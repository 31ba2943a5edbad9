"""An estimate is what a run then takes, as far as that can be known; nothing is written beside the corpus."""

import gzip
import json
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from slices import read_slices
from typer.testing import CliRunner

import euds
from euds.corpus import Row, draw_sample, list_inputs, read_rows
from euds.engine.columns import ragged
from euds.engine.estimate_extrapolation import TIMED_BY_TOKENS, _total, extrapolate
from euds.engine.estimate_sample import ScoredSample
from euds.engine.finish import finish_shard
from euds.engine.pool import Pool, fit_pool
from euds.engine.prepare import Plan
from euds.engine.read import read_shard
from euds.engine.records import Record
from euds.engine.shards import cut_shards, largest_task, tasks
from euds.engine.work import Work
from euds.errors import InputError, InvalidArgument

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


@pytest.fixture
def corpus(write_jsonl: WriteJsonl, make_texts: Texts) -> Path:
    rows: list[object] = [{"text": text, "label": at % 2} for at, text in enumerate(make_texts(380, 4))]
    return write_jsonl([*rows, *[{"text": None}] * 20])


def test_a_sample_of_all_rows_is_the_run_itself(
    corpus: Path, tmp_path: Path, tiny_lm: Path, tiny_encoder: Path
) -> None:
    settings: dict[str, Any] = {"lm": tiny_lm, "embedder": tiny_encoder}
    found = euds.estimate(corpus, sample_rows=400, **settings)
    result = euds.score(corpus, out=tmp_path / "run", **settings)
    assert (found.n_rows, found.n_sampled, found.n_bytes) == (400, 400, corpus.stat().st_size)
    assert found.n_tokens == found.tokens_low == found.tokens_high == result.n_tokens
    assert found.quarantine == {"field 'text' is null": pytest.approx(20 / 400)}
    # Cluster numbers compress as well as there are clusters.
    (part,) = (tmp_path / "run" / "scores").glob("*.parquet")
    assert found.part_bytes == pytest.approx(part.stat().st_size, rel=0.02)
    assert found.seconds.keys() == {"read", "generative", "embedding", "finish", "information"}


def test_the_interval_holds_the_truth_as_often_as_it_says(corpus: Path) -> None:
    words = sum(len((json.loads(line)["text"] or "").split()) for line in corpus.read_text().splitlines())
    found = [euds.estimate(corpus, measures=["information"], sample_rows=60, seed=seed) for seed in range(40)]
    held = sum(one.tokens_low <= words <= one.tokens_high for one in found)
    # Of 40 at 95 %, fewer than 34 hold it in 1 of 1,000 tries; the seeds make it one and the same try.
    assert held >= 34
    assert np.mean([one.n_tokens for one in found]) == pytest.approx(words, rel=0.03)
    shares = [one.quarantine_share for one in found]
    assert np.mean(shares) == pytest.approx(0.05, abs=0.02)


def test_the_interval_of_few_rows_is_wide_enough() -> None:
    rng = np.random.default_rng(0)
    corpus = rng.normal(50, 10, 10_000)
    for n in (2, 3, 5, 10):
        found = [_total(rng.choice(corpus, n, replace=False), len(corpus)) for _ in range(1000)]
        held = sum(abs(total - corpus.sum()) <= half for total, half in found)
        # Of 1,000 at 95 %, fewer than 924 or more than 974 in 1 of 2,000 tries; at 1.96 standard errors, 700 for two.
        assert 924 <= held <= 974


def test_time_scales_with_rows_workers_and_price(corpus: Path) -> None:
    settings: dict[str, Any] = {"measures": ["information"], "sample_rows": 100, "shard_rows": 100}
    found = euds.estimate(corpus, workers=4, price_per_hour=3.0, **settings)
    # One process counts the tokens of the pool for all.
    stages = found.seconds["information"] + (found.seconds["read"] + found.seconds["finish"]) / 4
    assert found.total_seconds == pytest.approx(found.loading_seconds + found.planning_seconds + stages)
    assert found.worker_hours == pytest.approx(4 * found.total_seconds / 3600)
    assert found.cost == pytest.approx(3 * found.worker_hours)
    assert replace(found, price_per_hour=None).cost is None
    text = str(found)
    for part in ("400 in", "100 of them", "quarantine", "field 'text' is null", "at 3 an hour"):
        assert part in text
    assert "idle" not in text


def test_workers_are_idle_where_the_rows_cannot_be_shared(corpus: Path) -> None:
    def shared(path: Path, **settings: Any) -> euds.Estimate:
        return euds.estimate(path, measures=["information"], sample_rows=100, workers=8, **settings)

    packed = corpus.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(corpus.read_bytes()))
    for found in (shared(corpus), shared(packed, shard_rows=20)):
        stages = sum(found.seconds.values())
        assert found.total_seconds == pytest.approx(found.loading_seconds + found.planning_seconds + stages)
        assert "8 are no faster than one" in str(found)
    quarter = shared(corpus, shard_rows=100)
    assert quarter.largest_task == 1 / 4
    assert "8 are at most 4 times as fast as one" in str(quarter)
    assert shared(corpus, shard_rows=20).largest_task == 1 / 20


@pytest.mark.parametrize("shard_rows", [1, 7, 25, 50, 1000])
def test_the_largest_task_is_that_of_the_shards(write_jsonl: WriteJsonl, shard_rows: int) -> None:
    files = []
    file_rows = (25, 60, 0, 75, 3, 31)
    for at, n_rows in enumerate(file_rows):
        path = write_jsonl([{"text": "a film"}] * n_rows, f"{at}.jsonl")
        # Two of three are compressed.
        if at % 3:
            path = path.with_suffix(".jsonl.gz")
            path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        files.append(path)
    cut = tasks(list(cut_shards(files, shard_rows)))
    assert largest_task(files, file_rows, shard_rows) == max(sum(shard.n_rows for shard in task) for task in cut)


def test_parsing_is_part_of_reading(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow(files: Sequence[Path], *, stop: int, **named: Any) -> Iterator[Row]:
        for row in read_rows(files, stop=min(stop, 10), **named):
            now[0] += 2.0
            yield row

    monkeypatch.setattr("euds.engine.estimate_sample.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr("euds.engine.estimate_sample.read_rows", slow)
    found = euds.estimate(corpus, measures=["information"], sample_rows=50)
    assert found.seconds["read"] == pytest.approx(400 * 2.0)


def test_more_rows_are_sampled_where_no_model_reads_them(corpus: Path, tiny_lm: Path) -> None:
    assert euds.estimate(corpus, measures="information").n_sampled == 400
    assert euds.estimate(corpus, measures=["information", "generative"], lm=tiny_lm).n_sampled == 256


def test_what_counting_takes_anyway_does_not_grow_with_the_rows(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def fit(plan: Plan, *others: Any) -> None:
        counted.append(plan.n_rows)
        fit_pool(plan, *others)

    monkeypatch.setattr("euds.engine.estimate_sample.fit_pool", fit)
    monkeypatch.setattr("euds.engine.estimate_sample.pool_seconds", lambda work: {"information": 5.0 + counted[-1] / 8})
    found = euds.estimate(corpus, measures=["information"], sample_rows=100)
    # 16 rows of the warm-up are in both; the 100 of the sample are a fourth of the corpus.
    assert found.seconds["information"] == pytest.approx(5.0 + 16 / 8 + 400 / 8)


def test_what_finishing_takes_of_any_part_grows_with_the_parts(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(*arguments: Any) -> Record:
        record = finish_shard(*arguments)
        return replace(record, seconds={**record.seconds, "finish": 5.0 + record.counts["rows"] / 8})

    monkeypatch.setattr("euds.engine.estimate_sample.finish_shard", finish)
    found = euds.estimate(corpus, measures=["information"], sample_rows=100, shard_rows=64)
    assert found.seconds["finish"] == pytest.approx(7 * 5.0 + 400 / 8)


def test_as_many_clusters_are_searched_as_the_run_will_have(
    corpus: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []

    def finish(plan: Plan, work: Work, shard: int, pool: Pool) -> Record:
        assert pool.centroids is not None
        searched.append(len(pool.centroids))
        return finish_shard(plan, work, shard, pool)

    monkeypatch.setattr("euds.engine.estimate_sample.finish_shard", finish)
    euds.estimate(corpus, measures=["semantic"], embedder=tiny_encoder, sample_rows=50)
    # About the root of the corpus' 400 rows, not of the sample's.
    assert set(searched) == {20}


def test_models_are_timed_by_the_padded_tokens_of_the_runs_shards(
    write_jsonl: WriteJsonl, make_texts: Texts, tiny_lm: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[ScoredSample] = []

    def extrapolated(scored: ScoredSample, **settings: Any) -> euds.Estimate:
        kept.append(scored)
        return extrapolate(scored, **settings)

    monkeypatch.setattr("euds.engine.estimate.extrapolate", extrapolated)
    corpus = write_jsonl([{"text": text * (1 + at % 7)} for at, text in enumerate(make_texts(600, 4))])
    found = euds.estimate(
        corpus,
        semantic=["clusters", "label_words"],
        label_words=euds.LabelWordSettings(("good", "bad")),
        lm=tiny_lm,
        embedder=tiny_encoder,
        token_budget=1024,
        sample_rows=300,
        shard_rows=10,
    )
    (scored,) = kept
    worker = scored.worker
    whole = read_shard(worker.plan, read_rows([corpus]), worker.models.encoders)
    for name, (stage, column) in TIMED_BY_TOKENS.items():
        # Padded, a shard of 10 rows holds more than 10 rows of the sample, whose 300 are sorted by length.
        every, sampled = (np.diff(ragged(table, column)[1]).tolist() for table in (whole, scored.tokens))
        read = sum(worker.tokens_read(stage, every[at : at + 10]) for at in range(0, 600, 10))
        times = read / worker.tokens_read(stage, sampled)
        assert found.seconds[name] / scored.seconds[name] == pytest.approx(times, rel=0.05)


def test_shards_of_one_row_take_time_where_most_rows_are_bad(write_jsonl: WriteJsonl, tiny_lm: Path) -> None:
    corpus = write_jsonl([{"text": None if at % 3 else "the film was sad"} for at in range(30)])
    found = euds.estimate(corpus, measures=["generative"], lm=tiny_lm, sample_rows=30, shard_rows=1)
    assert found.seconds["generative"] > 0


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet", "csv"])
def test_a_sample_is_rows_of_the_corpus_each_as_likely(tmp_path: Path, suffix: str) -> None:
    import csv

    paths = []
    for file in range(2):
        rows = [{"text": f"{file}-{at}"} for at in range(30)]
        path = tmp_path / f"{file}.{suffix}"
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        if suffix == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        elif suffix == "csv":
            with path.open("w", newline="") as handle:
                writer = csv.DictWriter(handle, ["text"])
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_bytes(gzip.compress(lines.encode()) if suffix.endswith("gz") else lines.encode())
        paths.append(path)
    files = list_inputs(paths)
    every = [(row.file, row.position, row.fields) for row in read_rows(files)]
    taken = np.zeros(len(every))
    for seed in range(100):
        file_rows, slices = draw_sample(files, 12, seed)
        rows_taken = [(row.file, row.position, row.fields) for row in read_slices(slices, first_row_id=0)]
        places = [every.index(row) for row in rows_taken]
        assert file_rows == (30, 30)
        assert places == sorted(set(places))
        assert len(places) == 12
        taken[places] += 1
    assert draw_sample(files, 12, 3) == draw_sample(files, 12, 3)
    assert len(draw_sample(files, 100, 0)[1]) == 60
    # Each is expected 20 times, with a standard deviation of 4.
    assert taken.min() > 4
    assert taken.max() < 36


def test_nothing_is_written_beside_the_corpus(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    before = sorted(tmp_path.rglob("*"))
    euds.estimate(corpus, measures=["information"])
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_input_is_refused_as_by_score(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown field 'txt' \(did you mean 'text'\?\)"):
        euds.estimate(corpus, measures=["information"], text_field="txt")
    with pytest.raises(InputError, match="no such file"):
        euds.estimate(tmp_path / "none.jsonl", measures=["information"])
    with pytest.raises(InvalidArgument, match="lm: generative entropy needs"):
        euds.estimate(corpus, measures=["generative"])
    bad_numbers = (("sample_rows", 1, 2), ("workers", 0, 1), ("price_per_hour", -1.0, 0), ("price_per_hour", inf, 0))
    for name, value, least in bad_numbers:
        with pytest.raises(InvalidArgument, match=f"{name}: must be at least {least}.*, got {value}"):
            euds.estimate(corpus, measures=["information"], **{name: value})  # type: ignore[arg-type]


def test_a_corpus_of_bad_rows_and_one_of_a_single_row(write_jsonl: WriteJsonl, tiny_encoder: Path) -> None:
    bad = euds.estimate(write_jsonl([{"text": None}] * 5), measures=["semantic"], embedder=tiny_encoder)
    assert (bad.n_tokens, bad.quarantine_share, bad.seconds["embedding"]) == (0, 1.0, 0.0)
    one = euds.estimate(write_jsonl([{"text": "a sad film"}]), measures=["information"])
    assert (one.n_tokens, one.tokens_low, one.tokens_high) == (3, 3, 3)


def test_the_command_prints_it(corpus: Path) -> None:
    from euds.cli.app import app

    command = ["estimate", str(corpus), "--measures", "information", "--sample", "50", "--gpus", "2"]
    result = CliRunner().invoke(app, [*command, "--price-per-hour", "1.5"])
    assert result.exit_code == 0, result.output
    assert "50 of them were scored" in result.output
    assert "on 2 x cpu" in result.output
    assert "at 1.5 an hour" in result.output


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells the peak from now on")
def test_the_peak_is_that_of_the_sample_and_not_of_the_process(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"measures": ["information"], "sample_rows": 50}
    # Kernels are compiled and packages loaded.
    euds.estimate(corpus, **settings)
    ballast = np.ones(400 << 17)
    peak, before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, psutil.Process().memory_info().rss
    del ballast
    found = euds.estimate(corpus, **settings).peak_bytes
    assert peak - before < 300 << 20
    assert before - (500 << 20) < found < before - (200 << 20)
    monkeypatch.setattr("euds.engine.estimate_sample.CLEAR_REFS", corpus.parent / "none" / "clear_refs")
    monkeypatch.setattr("euds.engine.estimate_sample.STATUS", corpus.parent / "none" / "status")
    found = euds.estimate(corpus, **settings).peak_bytes
    assert 0 < found <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
