"""Selections among scores that a caller gives, of names that come one by one, and of several callers at once."""

import json
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import euds
from euds.errors import InvalidArgument, InvalidType
from euds.files import file_sha256, read_json


@pytest.mark.parametrize("rule", ["high", "longest"])
def test_the_order_of_given_scores_does_not_matter(whole: Path, rule: str) -> None:
    scores = euds.read_scores(whole)
    chosen: dict[str, Any] = {"keep": 20, "rule": rule, "axes": ["surprisal"] if rule == "high" else None}
    plain = euds.select(whole, **chosen, dry_run=True)
    for order in ("ascending", "descending"):
        mixed = scores.sort_by([("surprisal_nats", order)])
        found = euds.select(whole, **chosen, scores=mixed)
        assert found.row_ids.tolist() == plain.row_ids.tolist()
        assert read_json(whole / "selection.json") == found.record
    some = euds.select(whole, **chosen, scores=scores.filter(pa.array(np.arange(scores.num_rows) % 2 == 0)))
    assert set(some.row_ids.tolist()) <= set(range(0, scores.num_rows, 2))


def test_what_is_no_part_of_the_runs_scores_is_named(whole: Path) -> None:
    scores = euds.read_scores(whole)
    n = scores.num_rows

    def numbered(row_ids: pa.Array) -> pa.Table:
        return scores.set_column(scores.column_names.index("row_id"), "row_id", row_ids)

    def choose(given: Any) -> None:
        euds.select(whole, keep=5, rule="high", axes="surprisal", scores=given)

    with pytest.raises(InvalidArgument, match=r"^scores: have row 0 twice"):
        choose(pa.concat_tables([scores, scores]))
    with pytest.raises(InvalidArgument, match=r"^scores: have no column n_tokens; give rows of euds.read_scores with"):
        choose(scores.select(["row_id", "label", "source", "surprisal_nats"]))
    with pytest.raises(
        InvalidArgument, match=rf"^scores: have row ids 9 to {n + 8}, and the run has rows 0 to {n - 1}"
    ):
        choose(numbered(pa.array(np.arange(n) + 9)))
    with pytest.raises(InvalidArgument, match=r"^scores: a row_id is no integer"):
        choose(numbered(pa.array([None, *range(n - 1)])))
    with pytest.raises(InvalidType, match=r"^scores: must be a pyarrow.Table, as euds.read_scores gives it, got list"):
        choose(scores.to_pylist())
    assert not (whole / "selected.parquet").exists()


def test_names_may_come_one_by_one(whole: Path) -> None:
    for select in (euds.select, euds.select_streaming):
        for names in (["information"], ["information", "surprisal"]):
            plain = select(whole, keep=20, rule="box", axes=names)
            found = select(whole, keep=20, rule="box", axes=iter(names))  # type: ignore[arg-type]  # No sequence.
            assert (found.axes, found.row_ids.tolist()) == (plain.axes, plain.row_ids.tolist())


def test_a_record_is_what_its_file_holds(whole: Path) -> None:
    for dry_run in (False, True):
        record = euds.select(whole, keep=20, rule="low", axes="surprisal", stability=3, dry_run=dry_run).record
        assert json.loads(json.dumps(record)) == record


def test_rows_and_record_are_of_one_selection(whole: Path) -> None:
    for _ in range(8):
        start = Barrier(2)

        def choose(keep: float, rule: str, start: Barrier = start) -> None:
            start.wait()
            euds.select(whole, keep=keep, rule=rule, axes="surprisal", stability=0)

        threads = [Thread(target=choose, args=each) for each in ((0.1, "low"), (0.5, "high"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read_json(whole / "selection.json")["selected_sha256"] == file_sha256(whole / "selected.parquet")


def test_without_lengths_that_differ_residuals_are_about_the_mean(tmp_path: Path, write_jsonl: Any) -> None:
    words = ["bad", "sad", "good", "film", "plot"]
    corpus = write_jsonl([{"text": f"the {words[at % 5]} {words[at // 5 % 5]}"} for at in range(25)])
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    plain = euds.read_scores(tmp_path / "run").column("surprisal_nats").to_numpy()
    found = euds.select(tmp_path / "run", keep=1.0, rule="low", axes="surprisal", adjust="log_length", stability=0)
    (side,) = found.bounds
    assert (side.low, side.high) == pytest.approx((plain.min() - plain.mean(), plain.max() - plain.mean()))
