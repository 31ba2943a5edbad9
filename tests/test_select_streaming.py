"""Selecting from part files in passes gives what selecting in memory gives, up to ranks within a bin."""

import json
import os
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import euds
from euds.cli.app import app
from euds.corpus import part_files
from euds.errors import EudsError, InputError
from euds.files import own_partials
from euds.selection import rows, streaming

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, make_texts: Texts, tiny_lm: Path, tiny_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("streaming")
    texts = make_texts(400, 6)
    lines = [json.dumps({"text": text, "label": "ab"[at % 3 == 0]}) for at, text in enumerate(texts)]
    lines[5:5] = ["no json", '{"text": null}']
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    euds.score(folder / "corpus.jsonl", out=folder / "run", lm=tiny_lm, embedder=tiny_encoder, shard_rows=64)
    return folder / "run"


@pytest.mark.parametrize("keep", [0.16, 37, 1.0])
@pytest.mark.parametrize("rule", ["igse", "box"])
def test_the_box_is_that_of_the_rows(run_dir: Path, tmp_path: Path, rule: str, keep: float) -> None:
    axes = ["generative", "information"] if rule == "box" else None
    whole = euds.select(run_dir, keep=keep, rule=rule, axes=axes, bins=8, stability=0, out=tmp_path / "whole.parquet")
    found = euds.select_streaming(run_dir, keep=keep, rule=rule, axes=axes, bins=8, out=tmp_path / "rows.parquet")
    assert found.n_kept == whole.n_kept
    assert found.n_rows == whole.n_rows == 400
    assert found.record["n_in_region"] == whole.record["n_in_region"]
    for own, other in zip(found.bounds, whole.bounds, strict=True):
        # Bounds here are edges of bins, there the extremes of the rows inside.
        assert own.low <= other.low <= other.high <= own.high
        assert (own.low_rank, own.high_rank) == pytest.approx((other.low_rank, other.high_rank), abs=1 / 8)
    common = np.intersect1d(found.row_ids, whole.row_ids)
    assert len(common) >= 0.9 * whole.n_kept
    assert found.record["keep_rate_by_label"].keys() == {"a", "b"}


def test_the_kept_rows_of_a_chunk_are_found_without_all_others(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROW_GROUP", 50)
    monkeypatch.setattr(np, "isin", lambda *_, **named: pytest.fail("every chunk was compared with every kept row"))
    found = euds.select_streaming(run_dir, keep=0.2, rule="low", axes=["nll"], out=tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").column("row_id").to_pylist() == found.row_ids.tolist()


@pytest.mark.parametrize("rule", ["low", "middle", "high"])
def test_one_axis_keeps_the_very_rows(run_dir: Path, tmp_path: Path, rule: str) -> None:
    # With a row a bin, nothing is interpolated.
    whole = euds.select(run_dir, keep=0.2, rule=rule, axes=["nll"], stability=0, out=tmp_path / "whole.parquet")
    found = euds.select_streaming(run_dir, keep=0.2, rule=rule, axes=["nll"], out=tmp_path / "rows.parquet")
    assert len(np.setdiff1d(found.row_ids, whole.row_ids)) <= 1
    written = pq.read_table(tmp_path / "rows.parquet")
    assert written.column("row_id").to_pylist() == found.row_ids.tolist()
    lines = (run_dir.parent / "corpus.jsonl").read_text().splitlines()
    texts = [json.loads(lines[at])["text"] for at in found.row_ids]
    assert written.column("text").to_pylist() == texts


def test_edges_from_a_sample_serve_as_well_and_are_those_of_the_seed(run_dir: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"keep": 0.3, "rule": "igse", "bins": 8}
    exact = euds.select_streaming(run_dir, **settings, out=tmp_path / "a.parquet")
    sampled, again = (
        euds.select_streaming(run_dir, **settings, out=tmp_path / name, quantile_limit=200)
        for name in ("b.parquet", "c.parquet")
    )
    assert exact.record["rank_error"] == 0
    assert 0 < sampled.record["rank_error"] < 0.2
    assert sampled.n_kept == exact.n_kept == 120
    assert len(np.intersect1d(exact.row_ids, sampled.row_ids)) > 60
    assert again.row_ids.tolist() == sampled.row_ids.tolist()
    assert again.bounds == sampled.bounds


def test_equal_scores_are_trimmed_by_the_seed(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}] * 50 + [{"text": "a very long and winding plot"}] * 50)
    euds.score(corpus, out=tmp_path / "run", measures=["information"], shard_rows=9)
    kept = [
        euds.select_streaming(tmp_path / "run", keep=10, rule="low", axes=["information"], seed=seed).row_ids.tolist()
        for seed in (0, 0, 1)
    ]
    assert kept[0] == kept[1] != kept[2]
    assert [len(ids) for ids in kept] == [10, 10, 10]
    assert max(kept[0] + kept[2]) < 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": "some"}, "keep: give a fraction"),
        ({"keep": 1.5}, "keep: give a fraction"),
        ({"keep": 403}, r"keep: give .* count in 1..402, got 403"),
        ({"columns": ["txt"]}, "unknown field 'txt'.*did you mean 'text'"),
        ({"quantile_limit": 1e6}, r"quantile_limit: must be an integer, got 1000000\.0"),
        ({"rule": None}, "rule: unknown value None; known: box"),
    ],
)
def test_what_is_wrong_about_arguments_is_named_before_the_scores_are_read(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(streaming, "_count", lambda *_: pytest.fail("the scores were read"))
    with pytest.raises(EudsError, match=message):
        euds.select_streaming(run_dir, **{"keep": 0.1, "rule": "igse", **arguments})


def test_what_it_cannot_do_is_named(run_dir: Path, tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    with pytest.raises(EudsError, match="rule: unknown value 'random'"):
        euds.select_streaming(run_dir, keep=0.1, rule="random")
    with pytest.raises(EudsError, match="bins: rule 'low' searches no box"):
        euds.select_streaming(run_dir, keep=0.1, rule="low", axes=["generative"], bins=8)
    with pytest.raises(EudsError, match="looks at one score; name it"):
        euds.select_streaming(run_dir, keep=0.1, rule="low", axes=["nll", "generative"])
    with pytest.raises(InputError, match="unknown field 'txt'"):
        euds.select_streaming(run_dir, keep=0.1, rule="igse", columns=["txt"])
    corpus = [{"text": "the film was sad", "n": at if at < 9000 else str(at)} for at in range(9100)]
    path = write_jsonl(corpus)
    euds.score(path, out=tmp_path / "mixed", measures=["information"])
    with pytest.raises(InputError, match="the run has no generative_entropy_nats"):
        euds.select_streaming(tmp_path / "mixed", keep=0.1, rule="igse")
    with pytest.raises(EudsError, match="looks at one to three scores"):
        euds.select_streaming(tmp_path / "mixed", keep=0.1, rule="box")
    with pytest.raises(InputError, match=r"field 'n' changes its type at row 9001, or holds"):
        euds.select_streaming(tmp_path / "mixed", keep=1.0, rule="box", axes=["information"], columns=["text", "n"])
    parts = part_files(tmp_path / "mixed")[::-1]
    with pytest.raises(InputError, match="are not those of the corpus"):
        rows.write_rows(
            rows.RowWriter(tmp_path / "kept"),
            [path],
            parts,
            np.array([0]),
            {"text": None},
            {},
            ["n_tokens"],
            lambda n_rows: None,
        )
    command = ["select", str(run_dir), "--keep", "0.1", "--streaming", "--out", str(tmp_path / "cli.parquet")]
    assert "--streaming has no default" in str(CliRunner().invoke(app, command).exception)
    outcome = CliRunner().invoke(app, [*command, "--rule", "igse"])
    assert "kept 40 of 400 rows by igse" in outcome.output


FIELDS: list[tuple[object, object]] = [
    (1, 1.5),
    (None, "late"),
    ({"a": 1}, {"a": 1, "b": "x"}),
    ([], [{"a": 1}]),
    ([{"a": None}], [{"a": 2.5}]),
    ("text", None),
]


@pytest.fixture
def mixed(tmp_path: Path, write_jsonl: WriteJsonl) -> Path:
    """A run whose fields have other types from row 40 on."""
    corpus: list[dict[str, object]] = [
        {"text": f"film {at}", **{f"f{n}": pair[at >= 40] for n, pair in enumerate(FIELDS)}, "big": at or 2**60 + 1}
        for at in range(50)
    ]
    corpus[45]["big"] = 0.5
    euds.score(write_jsonl(corpus), out=tmp_path / "run", measures=["information"], shard_rows=10)
    return tmp_path / "run"


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_fields_whose_type_widens_are_as_in_memory(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: float
) -> None:
    monkeypatch.setattr(rows, "ROW_GROUP", 7)
    names = ["text", *(f"f{n}" for n in range(len(FIELDS)))]
    arguments: dict[str, Any] = {"keep": keep, "rule": "middle", "axes": ["information"], "columns": names}
    found = euds.select_streaming(mixed, out=tmp_path / "streamed.parquet", **arguments)
    euds.select(mixed, out=tmp_path / "whole.parquet", stability=0, **arguments)
    streamed, whole = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("streamed", "whole"))
    if keep == 1.0:
        assert streamed.select(names).equals(whole.select(names))
    assert streamed.column("row_id").to_pylist() == found.row_ids.tolist()
    assert list(tmp_path.glob(".*")) == []


def test_numbers_that_the_wider_type_cannot_hold_are_named(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROW_GROUP", 7)
    with pytest.raises(InputError, match="field 'big' changes its type to double"):
        euds.select_streaming(mixed, keep=1.0, rule="low", axes=["information"], columns=["text", "big"])
    assert not (mixed / "selected.parquet").exists()
    assert list(mixed.glob(".*")) == []


@pytest.mark.parametrize("rule", ["low", "middle", "high", "densest"])
@pytest.mark.parametrize(
    ("sizes", "keeps"),
    [
        # Rows of entropy 0, ln 2, ln 3 and ln 4: the shortest interval of 350 rows is a single value, the lowest.
        ((400, 300, 200, 100), (350, 700)),
        # The shortest interval of 31 rows is 0 and ln 2, equally far from its centre, which is not that of its edges.
        ((4, 30, 0, 0, 0, 0, 0, 20), (31,)),
        # In float64, and only there, one of two is a little nearer to the centre between them.
        ((36, 18), (38,)),
    ],
)
def test_of_few_different_scores_the_same_rows_are_kept(
    rule: str, sizes: tuple[int, ...], keeps: tuple[int, ...], write_jsonl: WriteJsonl, tmp_path: Path
) -> None:
    texts = [" ".join("abcdefgh"[:n_words]) for n_words, size in enumerate(sizes, 1) for _ in range(size)]
    corpus = write_jsonl([{"text": text} for text in texts])
    run = tmp_path / "run"
    euds.score(corpus, out=run, measures=["information"])
    for keep in keeps:
        found = euds.select_streaming(run, keep=keep, rule=rule, axes=["information"])
        expected = euds.select(run, keep=keep, rule=rule, axes=["information"])
        np.testing.assert_array_equal(found.row_ids, expected.row_ids)
        assert found.bounds == expected.bounds


def test_what_a_killed_selection_left_is_swept_away_and_nothing_that_is_written(run_dir: Path, tmp_path: Path) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    left, others, written = (
        tmp_path / f"{own_partials(tmp_path / name, process)}0123abcd.partial"
        for name, process in (
            ("rows.parquet", killed.pid),
            ("others.parquet", killed.pid),
            ("rows.parquet", os.getppid()),
        )
    )
    foreign = tmp_path / f".rows.parquet.{killed.pid}-ab.partial"
    for path in (left, others, written, foreign):
        path.touch()
    euds.select_streaming(run_dir, keep=0.1, rule="igse", out=tmp_path / "rows.parquet")
    assert not left.exists()
    assert others.exists()
    assert written.exists()
    # A process of another host may have the number of a dead one here.
    assert foreign.exists()


def both(run_dir: Path, **arguments: Any) -> tuple[euds.Selection, euds.Selection]:
    """Select by the lowest surprisal in passes and in memory; the rows lie in streamed.parquet and whole.parquet."""
    arguments = {"keep": 0.5, "rule": "low", "axes": ["surprisal"], **arguments}
    found = euds.select_streaming(run_dir, out=run_dir / "streamed.parquet", **arguments)
    return found, euds.select(run_dir, out=run_dir / "whole.parquet", stability=0, **arguments)


@pytest.mark.parametrize("labels", [[None, "a"], [None, None], [None, "(none)"]])
def test_rows_without_a_label_count_however_they_lie(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, labels: list[str | None]
) -> None:
    # The rows of the first two parts have no label at all.
    corpus = [{"text": text, "label": labels[at >= 20 and at % 2]} for at, text in enumerate(make_texts(40, 1))]
    euds.score(write_jsonl(corpus), out=tmp_path / "run", measures=["information"], shard_rows=10)
    found, whole = both(tmp_path / "run")
    assert found.row_ids.tolist() == whole.row_ids.tolist()
    for kind in ("keep_rate_by_label", "keep_rate_by_source"):
        assert found.record[kind] == whole.record[kind]


def test_what_a_selection_in_passes_does_not_find_out_is_empty_in_its_record(run_dir: Path) -> None:
    found, whole = both(run_dir)
    assert found.record.keys() == {*whole.record, "rank_error"}
    assert whole.record["label_cues"] is not None
    assert found.record["label_cues"] is None
    written = json.loads((run_dir / "streamed.parquet.selection.json").read_text())
    assert (written.keys(), written["label_cues"]) == (found.record.keys(), None)


def test_fields_named_like_scores_keep_their_values(tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts) -> None:
    corpus = [
        {"text": text, "row_id": -at, "n_tokens": f"mine {at}", "euds_n_tokens": at, "label": at % 2, "class": "c"}
        for at, text in enumerate(make_texts(40, 1))
    ]
    run_dir = tmp_path / "run"
    euds.score(write_jsonl(corpus), out=run_dir, measures=["information"], label_field="class", shard_rows=10)
    found, whole = both(run_dir, columns=["text", "row_id", "n_tokens", "euds_n_tokens", "label"])
    streamed = pq.read_table(run_dir / "streamed.parquet")
    assert streamed.equals(pq.read_table(run_dir / "whole.parquet"))
    assert found.record["row_id_column"] == whole.record["row_id_column"] == "euds_row_id"
    assert streamed.column("euds_row_id").to_pylist() == found.row_ids.tolist()
    assert streamed.column("n_tokens").to_pylist() == [f"mine {at}" for at in found.row_ids]
    # The scores' label is that of the field `class`, whether or not the field `label` is copied.
    both(run_dir)
    for name in ("streamed", "whole"):
        table = pq.read_table(run_dir / f"{name}.parquet")
        assert table.column("euds_label").to_pylist() == table.column("class").to_pylist() == ["c"] * found.n_kept


def test_a_grid_too_large_to_search_is_refused_as_in_memory_and_one_of_few_scores_is_not(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("euds.ops.box.MAX_CELLS", 1000)
    few = [{"text": "the film"}, {"text": "a very sad film"}] * 50
    runs = {"many": [{"text": text} for text in make_texts(100, 3)], "few": few}
    for name, texts in runs.items():
        euds.score(write_jsonl(texts, f"{name}.jsonl"), out=tmp_path / name, measures=["information"])
    asked: dict[str, Any] = {"keep": 0.5, "rule": "box", "axes": ["information", "surprisal"], "bins": 64}
    for select in (euds.select, euds.select_streaming):
        with pytest.raises(EudsError, match=r"^bins: a grid of 64\^2 for 1 groups is too large; take fewer$"):
            select(tmp_path / "many", **asked)
    assert euds.select_streaming(tmp_path / "few", **asked).n_kept == 50


def test_rows_of_the_region_are_held_once(tmp_path: Path) -> None:
    n = 1_200_000
    rng = np.random.default_rng(0)
    part = tmp_path / "scores" / "part-00000.parquet"
    part.parent.mkdir()
    pq.write_table(pa.table({"row_id": np.arange(n), "surprisal_nats": rng.random(n)}), part)
    scores = streaming._Scores([part], ["surprisal_nats"], lambda n_rows: None)
    pool, _ = streaming._count(scores, 4096, n, 0)
    region = streaming._find(pool, "low", ["surprisal_nats"], n // 2 + 3)
    tracemalloc.start()
    try:
        kept = streaming._trimmed(scores, pool, region, "low", n // 2 + 3, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(kept) == n // 2 + 3 < region.n_inside
    # Beside the rows of the region, a batch of the part is held.
    assert peak < 25 * region.n_inside + 120 * 65536
