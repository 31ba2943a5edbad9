"""What a study would be refused for is told before anything is scored or written."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_score_resume import digests
from tiny_study import WriteJsonl, changed, rows
from typer.testing import CliRunner

from euds.cli.app import app
from euds.errors import EudsError, InputError, InvalidArgument
from euds.study.grid.config import load_study
from euds.study.grid.run import run_study

BOTH = pytest.mark.parametrize("dry_run", [False, True])


@pytest.fixture(autouse=True)
def never_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("nothing is scored")

    monkeypatch.setattr("euds.engine.run.run_plan", never)


def of_methods(study: dict[str, Any], *methods: str) -> dict[str, Any]:
    return {**study, "grid": [{**study["grid"][0], "methods": list(methods)}]}


@pytest.mark.parametrize("key", ["out", "results", "repeated_in"])
def test_folders_are_of_this_machine(study: dict[str, Any], key: str) -> None:
    for value, message in (("s3://bucket/x", "must be a local path, got s3://bucket/x"), ("", "is empty; name")):
        with pytest.raises(InvalidArgument, match=f"^study: {key}: {message}"):
            load_study({**study, key: value})


def test_names_of_fields_are_not_empty(study: dict[str, Any]) -> None:
    for changes, message in (({"label_field": ""}, "label_field: a name is empty"), ({"text_field": []}, "got 0")):
        with pytest.raises(InvalidArgument, match=f"^study: data\\..*{message}"):
            load_study(changed(study, data=changes))


def test_settings_of_the_scores_are_looked_at(study: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"^study: score.max_tokens: generative entropy needs at least 2"):
        load_study(changed(study, score={"max_tokens": 1}))
    with pytest.raises(InvalidArgument, match=r"^study: data.text_field: 'text' is named twice"):
        load_study(changed(study, data={"text_field": ["text", "text"]}))


def test_a_dry_run_writes_nothing(study: dict[str, Any], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run_study(study, dry_run=True).n_trained == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_sees_what_cannot_be_scored(study: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EudsError, match="causal"):
        run_study(changed(study, score={"lm": study["score"]["embedder"]}), dry_run=True)
    (tmp_path / "file").write_text("")
    for key in ("out", "results"):
        with pytest.raises(InputError, match="file: Not a directory"):
            run_study({**study, key: str(tmp_path / "file" / "below")}, dry_run=True)


@BOTH
def test_a_pool_that_was_scored_is_not_written_over(study: dict[str, Any], *, dry_run: bool) -> None:
    out = Path(study["out"])
    (out / "scores").mkdir(parents=True)
    entry = {"path": "pool.jsonl", "sha256": "0" * 64, "rows": 110}
    manifest = {"format": 1, "config": {"shard_rows": 1}, "fingerprint": {}, "inputs": [entry], "finished": False}
    (out / "scores" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"out: .*run has the scores of other rows than .*train\.jsonl gives now; ch"):
        run_study(study, dry_run=dry_run)
    assert not (out / "data").exists()


@BOTH
def test_rows_that_cannot_be_chosen_are_told(
    study: dict[str, Any], write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch, *, dry_run: bool
) -> None:
    sourced = [{**row, "source": "synthetic" if at % 20 == 0 else "original"} for at, row in enumerate(rows(200, 0))]
    data = {"train": str(write_jsonl(sourced, "sourced.jsonl")), "source_field": "source"}
    mixed = changed(study, data=data)
    message = r"^grid: synthetic_rows: the pool has [1-9] rows of synthetic, to keep 22"
    with pytest.raises(InvalidArgument, match=message):
        run_study(of_methods(mixed, "original_rows", "synthetic_rows"), dry_run=dry_run)
    alone = changed(of_methods(study, "validated"), data={"pool": 90})
    with pytest.raises(InputError, match=r"^grid: validated: a validation split needs 20 rows of at least two classes"):
        run_study(alone, dry_run=dry_run)
    monkeypatch.setattr("euds.selection.select.MAX_FACILITY_ROWS", 100)
    with pytest.raises(InvalidArgument, match=r"^grid: facility: rule: 'facility' compares all pairs of at most 100"):
        run_study(of_methods(study, "facility"), dry_run=dry_run)
    assert not Path(study["out"]).exists()
    assert run_study(of_methods(mixed, "original_rows", "box2_facility"), dry_run=True).n_cells == 4


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"name": "two", "data": {"seed": 1}}, r"^out: .*run is of the studies 'tiny' and 'two', whose data or scores"),
        ({"name": "two", "score": {"max_tokens": 9}}, "^out: .*whose data or scores differ; give each its own"),
        ({"out": "other", "data": {"seed": 1}}, r"^results: .*tiny\.cells\.jsonl is of the studies 'tiny' and 'tiny'"),
        ({"out": "other", "train": {"learning_rate": 1e-3}}, "^results: .*whose data, scores or training differ"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_studies_of_one_call_do_not_share_what_differs(
    study: dict[str, Any], tmp_path: Path, other: dict[str, Any], message: str, options: list[str]
) -> None:
    files = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    files[0].write_text(json.dumps(study))
    files[1].write_text(json.dumps(changed(study, **other)))
    before = digests(tmp_path)
    with pytest.raises(InvalidArgument, match=message):
        CliRunner().invoke(app, ["study", *map(str, files), *options], catch_exceptions=False)
    assert digests(tmp_path) == before


def test_studies_of_one_call_may_share_scores(study: dict[str, Any], tmp_path: Path) -> None:
    files = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    files[0].write_text(json.dumps(study))
    files[1].write_text(json.dumps(changed(study, name="two", train={"learning_rate": 1e-3})))
    found = CliRunner().invoke(app, ["study", *map(str, files), "--dry-run"], catch_exceptions=False)
    assert found.exit_code == 0
