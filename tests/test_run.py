"""A whole recipe with tiny models: score, select, fine-tune, report, once and again; hostile and synthetic text."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds.cli.pipeline import show
from euds.corpus import corpus_files, read_manifest, read_scores
from euds.engine.status import run_status
from euds.errors import InputError, InvalidArgument
from euds.pipeline.data import take_data
from euds.pipeline.methods import fully_scored, method_rows
from euds.pipeline.recipe import load_recipe
from euds.pipeline.run import RunResult
from euds.report import write_report
from euds.selection.features import RunTexts
from euds.study.table import notes
from euds.study.types import StudyTable

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
HOSTILE = "<script>alert(1)</script> & $x_1$ the film was sad"


@pytest.fixture
def recipe(
    tmp_path: Path, tiny_lm: Path, tiny_encoder: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> dict[str, Any]:
    rows: list[dict[str, object]] = [
        {"text": text, "label": f"<b>{at % 2}</b>", "source": "synthetic" if at % 3 == 0 else "original"}
        for at, text in enumerate(make_texts(90, 5))
    ]
    rows[4] = {"text": HOSTILE, "label": "<b>0</b>", "source": "original"}
    rows[7] = {"text": None, "label": "<b>1</b>", "source": "original"}
    pool = write_jsonl(rows, "pool-in.jsonl")
    with pool.open("a") as handle:
        handle.write("not json\n")
    test = write_jsonl([{key: row[key] for key in ("text", "label")} for row in rows[10:30]], "test-in.jsonl")
    return {
        "out": str(tmp_path / "run"),
        "seeds": 2,
        "data": {"train": str(pool), "test": str(test), "source_field": "source"},
        "score": {"lm": str(tiny_lm), "embedder": str(tiny_encoder), "shard_rows": 32},
        "select": {"keep": 0.3},
        "train": {"model": str(tiny_encoder), "steps": 2},
    }


def test_a_recipe_ends_with_table_and_report_and_repeats_nothing(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = euds.run(recipe)
    assert isinstance(result, RunResult)
    show(result)
    shown = capsys.readouterr().out
    assert "89 rows scored, 2 quarantined" in shown
    assert "1 x field 'text' is null" in shown
    assert (result.scored.n_rows, result.scored.n_quarantined) == (91, 2)
    assert [row.name for row in result.table.methods] == [
        "full",
        "random",
        "information",
        "generative",
        "semantic",
        "igse",
    ]
    assert [row.rows for row in result.table.methods] == [89, 27, 27, 27, 27, 27]
    costs = {row.name: row.scoring_seconds for row in result.table.methods}
    assert costs["full"] == costs["random"] == 0.0
    assert costs["igse"] > costs["generative"] > 0
    assert result.selection is not None
    assert result.selection.rule == "igse"
    assert result.report is not None
    before = {path: path.read_bytes() for path in result.run_dir.rglob("*.parquet")}

    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("nothing is scored or trained twice")

    monkeypatch.setattr("euds.engine.run.run_plan", never)
    monkeypatch.setattr("euds.study.cell.train_and_test", never)
    again = euds.run(recipe)
    assert isinstance(again, RunResult)
    assert without_search_seconds(again.table) == without_search_seconds(result.table)
    assert {path: path.read_bytes() for path in before} == before


def without_search_seconds(table: StudyTable) -> StudyTable:
    """Rows are chosen anew each time."""
    return replace(table, methods=tuple(replace(row, search_seconds=0.0) for row in table.methods))


class Page(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and value and not value.startswith(("#", "data:")):
                self.loads.append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_the_report_is_one_file_that_runs_nothing(recipe: dict[str, Any]) -> None:
    result = euds.run(recipe)
    assert isinstance(result, RunResult)
    assert result.report is not None
    text = write_report(result.run_dir, examples=80).read_text()
    assert "an earlier state of the run" not in text
    page = Page(text)
    assert page.loads == []
    assert "script" not in page.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>0</b>" not in text
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("img") == 1 + 7 + 3 + 2
    assert "svg" not in page.tags
    for heading in (
        "What the selection bought",
        "How the scores go together",
        "Keep rate by label",
        "Keep rate by source",
        "Shift between sources",
        "Is it only length?",
        "Would another sample give the same region?",
        "Examples",
        "Cost of scoring",
        "Manifest",
    ):
        assert f">{heading}<" in text


def test_columns_that_json_lacks_go_through_a_recipe_as_text(recipe: dict[str, Any], tmp_path: Path) -> None:
    day = datetime(2026, 11, 26, tzinfo=UTC)
    rows = [{"text": f"the film was sad {at}", "label": f"<b>{at % 2}</b>", "day": day} for at in range(30)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "dated.parquet")
    data = take_data(
        load_recipe(
            {**recipe, "data": {**recipe["data"], "train": str(tmp_path / "dated.parquet"), "source_field": None}}
        )
    )
    assert json.loads(data.pool.read_text().splitlines()[0])["day"] == str(day)


def test_texts_and_labels_that_json_lacks_are_for_a_recipe_what_they_are_for_scoring(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    kinds: dict[str, Any] = {
        "bytes": b"the film",
        "datetime": datetime(2026, 11, 26, tzinfo=UTC),
        "Decimal": Decimal(3),
    }
    for kind, value in kinds.items():
        table = pa.table({"text": pa.array([value] * 4), "label": [b"good", b"bad"] * 2, "source": [b"a", b"\xff"] * 2})
        pq.write_table(table, tmp_path / f"{kind}.parquet")
        data = {**recipe["data"], "train": str(tmp_path / f"{kind}.parquet"), "source_field": None}
        taken = take_data(load_recipe({**recipe, "data": data, "out": str(tmp_path / kind)}))
        found = []
        for file in (tmp_path / f"{kind}.parquet", taken.pool):
            run = euds.score(file, out=tmp_path / f"{kind}-{file.name}", measures=["information"]).run_dir
            assert run_status(run).counts["scored"] == 0
            found.append(read_scores(run).select(["label", "source"]).to_pydict())
        assert found[0] == found[1] == {"label": ["good", "bad"] * 2, "source": ["a", None] * 2}
        assert run_status(run).quarantine == {"field 'text' is dict, not text": 4}
    rows = pa.table({"text": ["the film was sad", "a plot"], "label": [b"<b>0</b>", b"<b>1</b>"]})
    pq.write_table(rows, tmp_path / "labelled.parquet")
    data = {**recipe["data"], "train": str(tmp_path / "labelled.parquet"), "source_field": None}
    take_data(load_recipe({**recipe, "data": data}))
    pq.write_table(rows.set_column(1, "label", [[b"\xff", b"0"]]), tmp_path / "labelled.parquet")
    with pytest.raises(InputError, match=r"labelled.parquet, row 1: 'label' must be text or an integer"):
        take_data(load_recipe({**recipe, "data": data, "out": str(tmp_path / "other")}))


def test_sources_travel_to_selection_and_report(recipe: dict[str, Any]) -> None:
    result = euds.run(recipe, ["select.methods=[full, igse]", "seeds=1"])
    assert isinstance(result, RunResult)
    record = json.loads((result.run_dir / "selection.json").read_text())
    assert set(record["keep_rate_by_source"]) == {"original", "synthetic"}
    assert set(record["source_shift"]["generative_entropy_nats"]) == {"original", "synthetic"}
    rows = {name: sum(rate["rows"] for rate in record[f"keep_rate_by_{name}"].values()) for name in ("label", "source")}
    assert rows == {"label": 89, "source": 89}


def test_a_dry_run_only_says_what_would_be_done(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert euds.run(recipe, dry_run=True) is None
    said = capsys.readouterr().err
    assert "91 rows" in said
    assert "igse" in said
    assert not Path(recipe["out"]).exists()
    one = {"name": "one", "rule": "random", "keep": 1}
    methods = ["full", one, {**one, "name": "all", "keep": 1.0}, "igse"]
    euds.run({**recipe, "select": {"keep": 0.2, "methods": methods}}, dry_run=True)
    said = capsys.readouterr().err
    kept = "full (keep 91 rows), one (keep 1 row), all (keep 91 rows), igse (keep 19 rows)"
    assert f"then compare {kept} over seeds " in said
    assert said.count("warning: keep: 1 is a count and keeps one row; 1.0 keeps all") == 1


def test_other_rows_are_refused_before_those_of_a_run_are_written_over(recipe: dict[str, Any]) -> None:
    euds.run(recipe, ["select.methods=[random]", "seeds=1"])
    with pytest.raises(InputError, match="holds a run over other rows"):
        euds.run(recipe, ["data.limit=50"])
    assert euds.select(recipe["out"], keep=5, rule="random").n_kept == 5
    # Rows that were changed by hand come back.
    (Path(recipe["out"]) / "data" / "pool.jsonl").write_text("")
    euds.run(recipe, ["select.methods=[random]", "seeds=1"])
    assert euds.select(recipe["out"], keep=5, rule="random").n_kept == 5


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_row_without_a_label_is_named_before_anything_is_scored(
    recipe: dict[str, Any], tmp_path: Path, write_jsonl: WriteJsonl, side: str
) -> None:
    rows: list[dict[str, object]] = [{"text": "the film", "label": "<b>1</b>"}, {"text": "a plot", "label": None}]
    file = write_jsonl(rows, "unlabelled.jsonl")
    data = {"train": recipe["data"]["test"], "test": recipe["data"]["test"], side: str(file)}
    with pytest.raises(InputError, match=r"unlabelled.jsonl, row 2: 'label' must be text or an integer"):
        euds.run({**recipe, "data": data})
    data[side] = str(write_jsonl([{"text": "the film", "label": 1}], "numbers.jsonl"))
    with pytest.raises(InputError, match="no label of the test rows is one of the training rows"):
        euds.run({**recipe, "data": data})
    assert not (tmp_path / "run").exists()


def test_rows_that_repeat_a_test_row_are_counted_aloud(
    recipe: dict[str, Any], write_jsonl: WriteJsonl, capsys: pytest.CaptureFixture[str]
) -> None:
    euds.run(recipe, dry_run=True)
    assert "warning: 20 of 91 rows of the pool have the text of a test row" in capsys.readouterr().err
    test = [{"text": " The FILM\twas sad", "label": "<b>0</b>"}, {"text": "another text", "label": "<b>1</b>"}]
    pool = [{"text": "the film was sad", "label": "<b>0</b>", "source": "original"}, {**test[1], "text": None}]
    pool.append({"text": "a plot", "label": "<b>1</b>"})
    data = {"train": str(write_jsonl(pool, "pool.jsonl")), "test": str(write_jsonl(test, "test.jsonl"))}
    euds.run({**recipe, "data": data}, dry_run=True)
    assert "warning: 1 of 3 rows" in capsys.readouterr().err
    data["train"] = str(write_jsonl([{**row, "text": f"a third {row['label']}"} for row in test], "other.jsonl"))
    euds.run({**recipe, "data": data}, dry_run=True)
    assert "warning" not in capsys.readouterr().err


def test_a_folder_that_takes_no_file_is_named(recipe: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"pool-in.jsonl: is a file"):
        euds.run(recipe, [f"out={recipe['data']['train']}"])


def test_what_a_pool_is_too_small_or_large_for_is_named_before_it_is_scored(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidArgument, match=r"select.methods: random: keep: give a fraction .* in 1\.\.91, got 92"):
        euds.run(recipe, ["select.keep=92"], dry_run=True)
    monkeypatch.setattr("euds.selection.select.MAX_FACILITY_ROWS", 90)
    with pytest.raises(InvalidArgument, match=r"select.methods: facility: .* at most 90 rows, and the run has 91"):
        euds.run(recipe, ["select.methods=[facility]"])
    assert not (Path(recipe["out"]) / "manifest.json").exists()


def test_a_recipe_without_a_selection_leaves_none_of_an_earlier_one(recipe: dict[str, Any]) -> None:
    first = euds.run(recipe, ["seeds=1", "select.methods=[igse]"])
    assert first is not None
    files = [first.run_dir / name for name in ("selection.json", "selected.parquet")]
    assert all(file.exists() for file in files)
    second = euds.run(recipe, ["seeds=1", "select.methods=[random]"])
    assert second is not None
    assert second.selection is None
    assert not any(file.exists() for file in files)


def test_a_source_to_group_by_is_missed_before_anything_is_scored(recipe: dict[str, Any]) -> None:
    data = {"train": recipe["data"]["test"], "test": recipe["data"]["test"]}
    with pytest.raises(InputError, match="unknown field 'source'"):
        euds.run({**recipe, "data": data}, ["select.methods=[{name: a, rule: igse, group_by: source}]"])


def test_names_like_markup_and_long_ones_leave_the_numbers_whole(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "box [/of] a name that is much too long to stand beside the numbers"
    show(euds.run(recipe, [f"select.methods=[{{name: '{name}', rule: box, axes: [nll]}}]", "report=false"]))
    said, shown = capsys.readouterr()
    assert "[/of]" in said
    assert "macro-F1" in said
    assert "…" not in said
    assert f"{name}, seed 0" in shown


def test_every_method_with_a_seed_gets_its_own_random_rows(recipe: dict[str, Any]) -> None:
    result = euds.run(recipe, ["select.methods=[random]", "report=false"])
    assert isinstance(result, RunResult)
    assert result.report is None
    assert result.selection is None
    cells = list((result.run_dir / "study" / "cells").iterdir())
    assert sorted(json.loads(cell.read_text())["seed"] for cell in cells) == [0, 1]
    scores, manifest = read_scores(result.run_dir), read_manifest(result.run_dir)
    texts = RunTexts(manifest, corpus_files(manifest), scores)
    settings = load_recipe(recipe, ["select.methods=[random]"])
    (method,) = method_rows(settings, fully_scored(scores), manifest["seconds"], selection=None, texts=texts)
    assert set(method.rows_for(0).tolist()) != set(method.rows_for(1).tolist())


def test_a_recipe_compares_rules_that_cover_embeddings(recipe: dict[str, Any]) -> None:
    result = euds.run(recipe, ["select.methods=[random, facility, k_center, auto]", "seeds=1"])
    assert isinstance(result, RunResult)
    rows = {row.name: row for row in result.table.methods}
    assert [row.rows for row in rows.values()] == [27] * 4
    assert rows["random"].scoring_seconds == 0.0 < rows["facility"].scoring_seconds
    assert rows["k_center"].scoring_seconds == rows["facility"].scoring_seconds
    assert rows["auto"].axes == ()
    assert rows["auto"].scoring_seconds == rows["facility"].scoring_seconds
    assert result.selection is not None
    decided = result.selection.record["auto"]
    assert isinstance(decided, dict)
    assert decided["rule"] == "facility"


def test_methods_that_use_labels_say_what_they_found_and_see_no_test_row(
    recipe: dict[str, Any],
    tmp_path: Path,
    write_jsonl: WriteJsonl,
    make_texts: Texts,
) -> None:
    labelled = [{"text": text, "label": f"<b>{at % 2}</b>"} for at, text in enumerate(make_texts(240, 5))]
    pool = write_jsonl([*labelled], "pool.jsonl")
    recipe = {**recipe, "data": {"train": str(pool), "test": recipe["data"]["test"]}, "seeds": 1}
    half = "{name: half, rule: validated, keep: 0.5, axes: [information], bins: 8}"
    enough = "{name: enough, rule: middle, axes: [information], keep: auto}"
    methods = f"select.methods=[random, validated, {half}, {enough}]"
    result = euds.run(recipe, [methods, "select.margin=0.1"])
    assert isinstance(result, RunResult)
    rows = {row.name: row for row in result.table.methods}
    assert rows["random"].search is None
    assert (rows["validated"].rows, rows["half"].rows) == (72, 120)
    for name in ("validated", "half"):
        search = rows[name].search
        assert search is not None
        assert search["validated"]["n_validation"] == 48
        assert search["validated"]["n_trials"] > 10
        assert search["validated"]["luck"] > 0
    found = rows["enough"].search
    assert found is not None
    assert rows["enough"].keep == pytest.approx(found["keep_auto"]["keep"] or 1.0, abs=1 / 240)
    record = json.loads((result.run_dir / "selection.json").read_text())
    assert record["rule"] == "middle"
    assert record["keep_auto"]["curves"] == found["keep_auto"]["curves"]
    assert record["uses_labels"] is True
    said = " ".join(notes(asdict(row) for row in result.table.methods))
    assert "trials in" in said
    assert "enough: keep auto: within 10 points of full data" in said
    assert "validated: validated: " in (result.run_dir / "report.html").read_text()
    assert rows["half"].search_seconds >= rows["half"].search["validated"]["seconds"] - 0.01  # type: ignore[index]
    assert rows["enough"].search_seconds >= found["keep_auto"]["seconds"] - 0.01
    # Other test rows, the same choices: the searches carve their validation rows from the pool.
    other = write_jsonl([{"text": "the film", "label": "<b>1</b>"}] * 8, "other.jsonl")
    again = euds.run(recipe, [methods, "select.margin=0.1", f"data.test={other}", f"out={tmp_path / 'other'}"])
    assert isinstance(again, RunResult)
    for name, row in ((row.name, row) for row in again.table.methods):
        assert without_seconds(row.search) == without_seconds(rows[name].search)


def test_one_budget_found_by_labels_serves_every_method(
    recipe: dict[str, Any], write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    labelled = [{"text": text, "label": f"<b>{at % 2}</b>"} for at, text in enumerate(make_texts(240, 5))]
    pool = write_jsonl([*labelled], "pool.jsonl")
    recipe = {**recipe, "data": {"train": str(pool), "test": recipe["data"]["test"]}, "seeds": 1}
    settings = ["select.keep=auto", "select.margin=0.2", "select.methods=[full, random, information, nll]"]
    result = euds.run(recipe, settings)
    assert isinstance(result, RunResult)
    assert result.selection is not None
    keep: float = result.selection.record["keep"]
    assert [row.rows for row in result.table.methods] == [240, *[int(np.ceil(round(keep * 240, 6)))] * 3]
    assert [row.name for row in result.table.methods if row.search] == ["nll"]


def without_seconds(search: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        name: found and {key: value for key, value in found.items() if key != "seconds"}
        for name, found in (search or {}).items()
    }
