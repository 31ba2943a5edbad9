"""Groups of rows by label or source: their names, their rows, and what they cost."""

import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds.errors import InputError
from euds.selection.choose import choose
from euds.selection.describe import describe, groups_of, places_of
from euds.selection.summary import summary

NAMES = st.lists(st.sampled_from(["b", "a", "(none)", "", "é", None]), min_size=1, max_size=30)


def scores_of(labels: Sequence[str | None], sources: Sequence[str | None] | None = None) -> pa.Table:
    """Scores of as many rows."""
    n = len(labels)
    return pa.table(
        {
            "row_id": np.arange(n),
            "label": pa.array(labels, pa.string()),
            "source": pa.array(sources or [None] * n, pa.string()),
            "n_tokens": pa.array(np.arange(n) % 50 + 1, pa.int32()),
            "information_entropy_nats": pa.array(np.arange(n) % 997 / 100, pa.float32()),
        }
    )


@settings(deadline=None)
@given(NAMES, st.integers(1, 7))
def test_groups_are_those_of_the_names(labels: list[str | None], chunk: int) -> None:
    whole = scores_of(labels)
    table = pa.concat_tables([whole.slice(at, chunk) for at in range(0, len(labels), chunk)])
    names = ["(none)" if label is None else label for label in labels]
    groups = groups_of(table, "label")
    assert groups.names == sorted(set(names))
    assert [groups.names[code] for code in groups.codes] == names
    assert groups.counts() == Counter(names)
    odd = np.arange(1, len(names), 2)
    assert +groups.counts(odd) == Counter(names[1::2])
    for name, rows in zip(groups.names, groups.members(), strict=True):
        assert rows.tolist() == [at for at, own in enumerate(names) if own == name]
    places = places_of(np.where(np.arange(len(names)) % 2, np.nan, 1.0), groups)
    assert {name: place["rows"] for name, place in places.items()} == Counter(names[::2])


def test_one_long_name_takes_no_memory_for_every_row() -> None:
    names: list[str | None] = ["x" * 10_000, *["a", "b"] * 5_000]
    table = scores_of(names, names)
    tracemalloc.start()
    try:
        record = describe(table, ["information_entropy_nats"], np.arange(100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert record["keep_rate_by_label"]["x" * 10_000]["kept"] == 1
    # As an array of text it would be 400 MB.
    assert peak < 40e6


def test_long_names_are_cut_in_the_summary() -> None:
    found = choose(scores_of(["y" * 500, *["a"] * 9]), keep=1.0, rule="random")
    assert f"keep rate by label: a 100.0%, {'y' * 23}… 100.0%" in summary(found)
    assert found.record["keep_rate_by_label"].keys() == {"a", "y" * 500}


@pytest.mark.parametrize("group_by", [None, "label"])
def test_labels_that_keep_no_row_are_told(group_by: str | None) -> None:
    # Of 100 rows 60 are a, 36 b, 2 c and 2 without a label; the few have the highest scores.
    labels = [*["a", "b"] * 36, *"a" * 24, "c", "c", None, None]
    found = choose(scores_of(labels), keep=10, rule="low", axes=["information"], group_by=group_by)
    warned = "warning: no row is kept of 1 of 3 labels: c (2 rows); a model cannot learn what it never sees"
    assert warned in summary(found)
    everything = choose(scores_of(labels), keep=1.0, rule="low", axes=["information"], group_by=group_by)
    assert "no row is kept" not in summary(everything)


def test_sources_that_keep_no_row_are_told_where_they_are_grouped_by() -> None:
    table = scores_of([None] * 30, ["a"] * 24 + [f"b{at}" for at in range(6)])
    said = summary(choose(table, keep=5, rule="random", group_by="source"))
    warned = "warning: no row is kept of 5 of 7 sources: b1 (1 row), b2 (1 row), b3 (1 row), b4 (1 row), ..."
    assert warned in said
    assert "no row is kept" not in summary(choose(table, keep=2, rule="random"))


def test_a_group_too_small_for_a_row_is_in_the_record() -> None:
    found = choose(scores_of(["a"] * 97 + ["b"] * 3), keep=5, rule="low", axes=["information"], group_by="label")
    groups: Any = found.record["groups"]
    assert {name: (group["n_rows"], group["n_kept"]) for name, group in groups.items()} == {"a": (97, 5), "b": (3, 0)}
    nothing: dict[str, Any] = {"bounds": [], "volume": None, "lift": None, "stability": None}
    assert groups["b"] == {"n_rows": 3, "n_kept": 0, **nothing}
    assert found.record["n_in_region"] == 5


def test_rows_are_not_compared_with_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    plain = np.flatnonzero

    def counted(rows: np.ndarray) -> np.ndarray:
        passes.append(len(rows))
        return plain(rows)

    monkeypatch.setattr(np, "flatnonzero", counted)
    found = choose(scores_of([f"group {at % 1000}" for at in range(3000)]), keep=10, rule="random", group_by="label")
    assert found.n_kept == 10
    assert len(passes) < 10


@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}])
def test_a_field_that_gave_no_row_a_group_is_named(
    value: object, write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    corpus = write_jsonl([{"text": "the film was sad", "source": value}] * 4)
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    told = (
        "^group_by: no row has a source: the field 'source' is null, or a list or an object, in every row; score with "
        "another --source-field into a new directory$"
    )
    for rule in ("random", "k_center"):
        with pytest.raises(InputError, match=told):
            euds.select(tmp_path / "run", keep=1, rule=rule, group_by="source")
