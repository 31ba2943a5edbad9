"""Selection: exact budgets, every rule against its definition, groups, records, and the files it writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

import euds
from euds.errors import EudsError, InputError, InvalidArgument
from euds.selection.choose import choose
from euds.selection.describe import epsilon_squared
from euds.selection.rules import RULES
from euds.selection.summary import summary

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]

ENTROPIES = ("information_entropy_nats", "generative_entropy_nats", "semantic_entropy_nats")
AXES = {
    **{rule: ["generative"] for rule in ("low", "middle", "high", "densest")},
    **{rule: ["information", "semantic"] for rule in ("box", "intersection")},
}


def scores_table(n: int = 200, seed: int = 0) -> pa.Table:
    """Scores with ties, a label, two sources, and some rows without one score."""
    rng = np.random.default_rng(seed)
    n_tokens = rng.integers(2, 60, n)
    entropy = np.round(rng.gamma(4, 1, n), 1)
    missing = rng.random(n) < 0.05
    return pa.table(
        {
            "row_id": np.arange(n) * 3,
            "label": [f"class {at % 3}" for at in range(n)],
            "source": ["synthetic" if at % 4 == 0 else "original" for at in range(n)],
            "n_tokens": pa.array(n_tokens, pa.int32()),
            "information_entropy_nats": pa.array(np.log(n_tokens), pa.float32()),
            "generative_entropy_nats": pa.array(entropy, pa.float32(), mask=missing),
            "nll_nats": pa.array(entropy + rng.normal(0, 0.5, n), pa.float32(), mask=missing),
            "semantic_entropy_nats": pa.array(np.round(rng.random(n), 2), pa.float32()),
        }
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("group_by", [None, "label"])
@pytest.mark.parametrize("keep", [0.16, 1, 17, 1.0])
def test_every_rule_keeps_exactly_the_budget_and_the_same_rows_again(
    rule: str, group_by: str | None, keep: float
) -> None:
    table = scores_table()
    first = choose(table, keep=keep, rule=rule, axes=AXES.get(rule), group_by=group_by, seed=5)
    again = choose(table, keep=keep, rule=rule, axes=AXES.get(rule), group_by=group_by, seed=5)
    expected = int(np.ceil(round(keep * first.n_rows, 6))) if isinstance(keep, float) else keep
    assert first.n_kept == expected == len(set(first.row_ids.tolist()))
    assert first.row_ids.tolist() == again.row_ids.tolist() == sorted(first.row_ids.tolist())
    region = first.record["n_in_region"]
    assert isinstance(region, int)
    assert region >= first.n_kept
    json.dumps(first.record, allow_nan=False)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_the_rows_does_not_matter(rule: str) -> None:
    table = scores_table()
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    first = choose(table, keep=0.2, rule=rule, axes=AXES.get(rule))
    other = choose(shuffled, keep=0.2, rule=rule, axes=AXES.get(rule))
    assert sorted(other.row_ids.tolist()) == first.row_ids.tolist()


def values(table: pa.Table, selection: euds.Selection, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the column's values of kept rows and of the others that could have been kept."""
    array = table.column(column).cast(pa.float64()).to_numpy(zero_copy_only=False)
    kept = np.isin(table.column("row_id").to_numpy(), selection.row_ids)
    return array[kept], array[~kept & np.isfinite(array)]


def test_low_high_longest_and_shortest_are_extremes() -> None:
    table = scores_table()
    for rule, axes, column, sign in (
        ("low", ["nll"], "nll_nats", 1),
        ("high", ["nll"], "nll_nats", -1),
        ("shortest", None, "n_tokens", 1),
        ("longest", None, "n_tokens", -1),
    ):
        kept, others = values(
            table.filter(table.column("nll_nats").is_valid()), choose(table, keep=0.3, rule=rule, axes=axes), column
        )
        assert (sign * kept).max() <= (sign * others).min()


def test_typical_keeps_the_smallest_gap_between_nll_and_entropy() -> None:
    table = scores_table()
    selection = choose(table, keep=0.3, rule="typical")
    nll, other_nll = values(table, selection, "nll_nats")
    entropy, other_entropy = values(table, selection, "generative_entropy_nats")
    assert np.abs(nll - entropy).max() <= np.abs(other_nll - other_entropy).min()


def test_intersection_is_one_central_quantile_on_every_axis() -> None:
    selection = choose(scores_table(), keep=0.2, rule="intersection", axes=["information", "semantic"])
    for side in selection.bounds:
        assert abs(side.low_rank + side.high_rank - 1) < 0.2
        assert side.low_rank < 0.5 < side.high_rank


def test_igse_is_the_box_over_the_three_entropies() -> None:
    table = scores_table()
    igse = choose(table, keep=0.16, rule="igse")
    box = choose(table, keep=0.16, rule="box", axes=["information", "generative", "semantic"])
    assert igse.row_ids.tolist() == box.row_ids.tolist()
    assert igse.axes == ENTROPIES
    for side in igse.bounds:
        kept, _ = values(table, igse, side.axis)
        assert side.low <= kept.min()
        assert kept.max() <= side.high
    assert igse.record["n_left_out"] == table.num_rows - igse.n_rows > 0


def test_random_depends_on_the_seed_alone() -> None:
    table = scores_table(3000)
    one, other = (set(choose(table, keep=0.1, rule="random", seed=seed).row_ids.tolist()) for seed in (1, 2))
    assert len(one & other) / len(one) < 0.25
    mirrored = table.set_column(table.column_names.index("nll_nats"), "nll_nats", pc.negate(table.column("nll_nats")))
    assert one == set(choose(mirrored, keep=0.1, rule="random", seed=1).row_ids.tolist())


def test_groups_share_the_budget_in_proportion() -> None:
    selection = choose(scores_table(), keep=0.2, rule="middle", axes=["semantic"], group_by="source")
    rates = selection.record["keep_rate_by_source"]
    assert isinstance(rates, dict)
    assert rates["original"]["kept"] == pytest.approx(0.2 * rates["original"]["rows"], abs=1)
    assert selection.bounds == ()
    groups = selection.record["groups"]
    assert isinstance(groups, dict)
    assert set(groups) == {"original", "synthetic"}
    assert len(groups["original"]["bounds"]) == 1


def test_regions_that_give_each_label_a_length_of_its_own_are_warned_of() -> None:
    rng = np.random.default_rng(0)
    n_tokens = rng.integers(2, 60, 400)
    labels = np.where(rng.random(400) < 0.5, "a", "b")
    # Each class is dense at another length, which tells less in the pool as a whole.
    centre = np.where(labels == "a", 10, 50)
    n_tokens[::2] = (centre + rng.integers(-2, 3, 400))[::2]
    rng.shuffle(n_tokens[1::2])
    table = scores_table(400)
    table = table.set_column(1, "label", pa.array(labels)).set_column(3, "n_tokens", pa.array(n_tokens, pa.int32()))
    table = table.set_column(4, "information_entropy_nats", pa.array(n_tokens, pa.float32()))
    each = choose(table, keep=0.16, rule="densest", axes=["information"], group_by="label")
    cues: Any = each.record["label_cues"]
    assert set(cues) == {"n_tokens", "information_entropy_nats"}
    assert cues["n_tokens"]["kept"] > 0.7 > 0.4 > cues["n_tokens"]["pool"]
    assert "warning: in the kept rows n_tokens tells the labels apart (epsilon squared" in summary(each)
    fair = choose(table, keep=0.16, rule="random")
    assert fair.record["label_cues"] == {}
    assert "warning" not in summary(fair)
    unlabelled = table.set_column(1, "label", pa.nulls(400, pa.string()))
    assert choose(unlabelled, keep=0.16, rule="random").record["label_cues"] is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=30))
def test_epsilon_squared_is_the_share_between_groups_beyond_chance(pairs: list[tuple[int, int]]) -> None:
    groups, values = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs], np.float64)
    ranks = rankdata(values)
    within = sum(
        ((ranks[groups == group] - ranks[groups == group].mean()) ** 2).sum() for group in set(groups.tolist())
    )
    total, n, k = ((ranks - ranks.mean()) ** 2).sum(), len(ranks), len(set(groups.tolist()))
    expected = max(0.0, 1 - within / (n - k) * (n - 1) / total) if total and n > k else 0.0
    assert epsilon_squared(values, groups) == pytest.approx(expected, abs=1e-9)
    # Rows without a value are none.
    assert epsilon_squared(np.append(values, [np.nan, np.inf]), np.append(groups, [0, 4])) == pytest.approx(expected)


def test_a_score_that_no_row_has_lies_nowhere() -> None:
    table = scores_table(60)
    nowhere = table.set_column(table.column_names.index("nll_nats"), "nll_nats", pa.nulls(60, pa.float32()))
    shift: Any = choose(nowhere, keep=0.2, rule="middle", axes=["semantic"]).record["source_shift"]
    assert shift["nll_nats"] == {}
    assert set(shift["semantic_entropy_nats"]) == {"original", "synthetic"}


def test_many_labels_of_few_rows_are_no_cue_by_chance() -> None:
    rng = np.random.default_rng(0)
    chance = [epsilon_squared(rng.normal(size=30), rng.integers(0, 10, 30)) for _ in range(300)]
    # The share itself is 0.31 on average.
    assert np.mean(chance) < 0.1


def test_taking_the_length_out_removes_its_correlation() -> None:
    table = scores_table()
    plain = choose(table, keep=0.2, rule="high", axes=["information"])
    adjusted = choose(table, keep=0.2, rule="high", axes=["information"], adjust="log_length")
    correlation = plain.record["length_correlation"]
    assert isinstance(correlation, dict)
    assert correlation["information_entropy_nats"] == pytest.approx(1.0)
    lengths, _ = values(table, plain, "n_tokens")
    adjusted_lengths, _ = values(table, adjusted, "n_tokens")
    assert adjusted_lengths.mean() < lengths.mean() - 5
    assert "information_entropy_nats (residuals on ln tokens): " in summary(adjusted)
    assert "residuals" not in summary(plain)


def test_sources_are_set_against_each_other() -> None:
    shift = choose(scores_table(), keep=0.2, rule="igse").record["source_shift"]
    assert isinstance(shift, dict)
    assert set(shift["semantic_entropy_nats"]) == {"original", "synthetic"}
    weighted = sum(place["rows"] * place["mean_rank"] for place in shift["semantic_entropy_nats"].values())
    assert weighted / sum(place["rows"] for place in shift["semantic_entropy_nats"].values()) == pytest.approx(
        0.5, abs=1e-3
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "densest"}, "^axes: rule 'densest' looks at one score; name it, such as --axis generative"),
        ({"rule": "intersection"}, "^axes: .* looks at one score or more; name each, such as --axis generative --axis"),
        ({"rule": "low", "axes": ["nl"]}, r"^axes: unknown score 'nl' \(did you mean 'nll'\?\)"),
        ({"rule": "igse", "axes": ["nll"]}, "^axes: .* always looks at"),
        ({"rule": "random", "axes": ["nll"]}, "always looks at no score"),
        ({"rule": "box"}, "one to three scores"),
        ({"rule": "midle", "axes": ["nll"]}, "did you mean 'middle'"),
        ({"rule": "low", "axes": ["nlll"]}, "did you mean 'nll'"),
        ({"rule": "low", "axes": ["varentropy"]}, "the run has no varentropy_nats2"),
        ({"rule": "box", "axes": ["nll", "nll_nats"]}, "named twice"),
        ({"group_by": "labels"}, "did you mean 'label'"),
        ({"adjust": "length"}, "known: log_length"),
        ({"rule": "random", "adjust": "log_length"}, "no score that could be adjusted"),
        ({"rule": "auto", "adjust": "log_length"}, "'auto' settles itself what it looks at"),
        ({"rule": "validated"}, "not on scores alone"),
        ({"rule": "validated", "group_by": "label"}, "leave group_by out"),
        ({"rule": "validated", "axes": ["nll", "generative", "semantic", "information"]}, "one to three scores"),
        ({"stability": -1}, "stability: must be at least 0, got -1"),
        ({"rule": "random", "bins": 8}, "bins: rule 'random' searches no box"),
        ({"rule": "auto", "bins": 8}, "bins: rule 'auto' searches no box"),
        ({"bins": 0}, "bins: must be at least 2, got 0"),
        # All rows would lie in the one box.
        ({"bins": 1}, "bins: must be at least 2, got 1"),
        ({"keep": 10_000}, "count in 1"),
        ({"keep": 0}, "keep: give a fraction"),
    ],
)
def test_impossible_choices_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(EudsError, match=message):
        choose(scores_table(), **{"keep": 0.2, "rule": "igse", **arguments})  # type: ignore[arg-type]  # Wrong on purpose.


def test_select_writes_rows_that_fine_tuning_can_read(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    rows: list[dict[str, object]] = [
        {"text": text, "label": at % 2, "n_tokens": "mine", "euds_n_tokens": -1, "mixed": at if at % 2 else "word"}
        for at, text in enumerate(make_texts(40, 3))
    ]
    rows.insert(7, {"text": None, "label": 0})
    run_dir = tmp_path / "run"
    corpus = write_jsonl(rows)
    euds.score(corpus, out=run_dir, measures=["information"])
    selection = euds.select(run_dir, keep=10, rule="middle", axes=["surprisal"])
    table = pq.read_table(run_dir / "selected.parquet")
    assert table.column("row_id").to_pylist() == selection.row_ids.tolist()
    assert 7 not in selection.row_ids
    for line in table.to_pylist():
        assert line["text"] == rows[line["row_id"]]["text"]
        assert line["label"] == rows[line["row_id"]]["label"]
        assert line["n_tokens"] == "mine"
        assert line["euds_n_tokens"] == -1
        assert line["euds_euds_n_tokens"] == len(line["text"].split())
    record = json.loads((run_dir / "selection.json").read_text())
    assert record == json.loads(json.dumps(selection.record))
    assert record["n_rows"] == 40
    assert "kept 10 of 40 rows by middle" in summary(selection)
    other = tmp_path / "other.parquet"
    assert euds.select(run_dir, keep="5", rule="random", out=other, columns=["text"]).record["keep"] == 5
    assert "mixed" not in pq.read_table(other).column_names


def test_fields_that_parquet_cannot_hold_are_kept_as_json(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    fields = {"title": "\ud83d", "uid": 18446744073709551615, "meta": {}, "nested": [{"deep": {}}]}
    mixed: list[dict[str, object]] = [{"n": 1}, {"n": "one"}]
    corpus = write_jsonl([{"text": "the film was sad", **fields, **own} for own in mixed])
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    selection = euds.select(tmp_path / "run", keep=2, rule="random")
    kept = pq.read_table(tmp_path / "run" / "selected.parquet").to_pylist()
    assert [json.loads(row["title"]) for row in kept] == ["\ud83d"] * 2
    assert [row["uid"] for row in kept] == [18446744073709551615] * 2
    assert [row["meta"] for row in kept] == ["{}"] * 2
    assert [json.loads(row["nested"]) for row in kept] == [[{"deep": {}}]] * 2
    assert [row["n"] for row in kept] == ["1", "one"]
    lines = summary(selection).splitlines()
    assert "  written as JSON, as no type holds all their values: title, meta, nested" in lines
    assert "  written as text, as no type holds all their values: n" in lines


def test_select_refuses_what_it_cannot_trust(
    tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        euds.select(tmp_path, keep=0.5, rule="random")
    corpus = write_jsonl([{"text": "the film was sad"}, {"text": "not so"}])
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    with pytest.raises(InputError, match=r"unknown field 'txt'.*did you mean 'text'"):
        euds.select(tmp_path / "run", keep=1, rule="random", columns=["txt"])
    with pytest.raises(InputError, match="the scores have no label"):
        euds.select(tmp_path / "run", keep=1, rule="random", group_by="label")
    with pytest.raises(InvalidArgument, match="keep"):
        euds.select(tmp_path / "run", keep=3, rule="random")
    with pytest.raises(InvalidArgument, match=r"seed: must be in 0\.\.2147483647, got -1"):
        euds.select(tmp_path / "run", keep=1, rule="random", seed=-1)
    for choose_rows in (euds.select, euds.select_streaming):
        with pytest.raises(InvalidArgument, match=r"out: .* is a file of the scored corpus"):
            choose_rows(tmp_path / "run", keep=1, rule="high", axes=["surprisal"], out=corpus)
        with pytest.raises(InvalidArgument, match=r"out: .* is a folder; name a file"):
            choose_rows(tmp_path / "run", keep=1, rule="high", axes=["surprisal"], out=tmp_path)
        with pytest.raises(InputError, match="Not a directory"):
            choose_rows(tmp_path / "run", keep=1, rule="high", axes=["surprisal"], out=corpus / "kept.parquet")
        with monkeypatch.context() as patched:
            patched.setattr("os.access", lambda place, mode: place != tmp_path / "run")
            with pytest.raises(InputError, match="run: Permission denied"):
                choose_rows(tmp_path / "run", keep=1, rule="high", axes=["surprisal"])
    (tmp_path / "run" / "selection.json").mkdir()
    with pytest.raises(InputError, match=r"selection.json: Is a directory"):
        euds.select(tmp_path / "run", keep=1, rule="random", out=tmp_path / "kept.parquet")
    corpus.write_text('{"text": "another"}\n')
    with pytest.raises(InputError, match="has changed since it was scored"):
        euds.select(tmp_path / "run", keep=1, rule="random")


@pytest.mark.parametrize("rule", [*RULES, "auto"])
def test_stability_is_recorded_for_every_rule_with_a_region(rule: str) -> None:
    table = scores_table()
    plain = choose(table, keep=0.2, rule=rule, axes=AXES.get(rule), pairs=True)
    stable = choose(table, keep=0.2, rule=rule, axes=AXES.get(rule), stability=5, pairs=True)
    assert plain.record["stability"] is None
    assert plain.row_ids.tolist() == stable.row_ids.tolist()
    found = stable.record["stability"]
    if rule == "random":
        assert found is None
        return
    assert isinstance(found, dict)
    assert [side["axis"] for side in found["sides"]] == [side.axis for side in stable.bounds]
    assert 0 < found["overlap"] <= 1
    assert "resampled pools share" in summary(stable)
    json.dumps(stable.record, allow_nan=False)


def test_auto_takes_the_middle_of_generative_entropy_of_pairs_unless_that_is_length() -> None:
    table = scores_table()
    lengths = table.column("n_tokens").to_numpy().astype(float)
    for own, pairs, rule, axes in (
        (table, True, "middle", ["generative_entropy_nats"]),
        (table, False, "random", []),
        (table.set_column(5, "generative_entropy_nats", pa.array(-np.log(lengths), pa.float32())), True, "random", []),
        (table.drop_columns(["generative_entropy_nats"]), True, "random", []),
    ):
        selection = choose(own, keep=0.2, rule="auto", pairs=pairs)
        decided = selection.record["auto"]
        assert isinstance(decided, dict)
        assert (decided["rule"], decided["axes"]) == (rule, axes), decided["reason"]
        assert selection.axes == tuple(axes)
        assert decided["reason"] in summary(selection)
        if rule == "middle":
            again = choose(own, keep=0.2, rule=rule, axes=axes)
            assert again.row_ids.tolist() == selection.row_ids.tolist()
    with pytest.raises(InvalidArgument, match="rule 'auto' chooses its score itself; name none"):
        choose(table, keep=0.2, rule="auto", axes=["nll"])


def test_auto_decides_once_for_all_groups() -> None:
    selection = choose(scores_table(), keep=0.2, rule="auto", group_by="label", pairs=True)
    decided = selection.record["auto"]
    assert isinstance(decided, dict)
    assert decided["examined"] == ["generative_entropy_nats"]
    groups = selection.record["groups"]
    assert isinstance(groups, dict)
    assert len(groups) == 3


def test_the_grid_of_the_stability_is_no_finer_than_that_of_the_search() -> None:
    found = choose(scores_table(), keep=0.2, rule="igse", bins=2, stability=5).record["stability"]
    assert isinstance(found, dict)
    assert found["bins"] == 2
