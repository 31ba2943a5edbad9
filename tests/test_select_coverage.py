"""Rules that cover the embeddings of a run's texts: `facility` and `k_center` of `euds.select`."""

import json
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
from euds.corpus import corpus_files, read_manifest, read_scores
from euds.errors import EudsError, InputError, InvalidArgument
from euds.measures.device import Precision, precision
from euds.pipeline.recipe import load_recipe
from euds.report import write_report
from euds.selection.choose import choose
from euds.selection.coverage import facility_location, k_center
from euds.selection.features import Embedded, RunTexts, _precision_of, embed_texts
from euds.selection.rules import COVERAGE_RULES
from euds.selection.select import check_coverage

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
N = 90


@pytest.fixture
def run_dir(tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, tiny_encoder: Path) -> Path:
    rows: list[object] = [{"text": text, "label": at % 3} for at, text in enumerate(make_texts(N, 6))]
    rows[7] = {"text": None, "label": 1}
    folder = tmp_path / "run"
    euds.score(write_jsonl(rows), out=folder, measures=["semantic"], embedder=tiny_encoder, n_clusters=4)
    return folder


@pytest.mark.parametrize("rule", COVERAGE_RULES)
def test_the_kept_rows_are_those_that_cover_the_embeddings(run_dir: Path, rule: str) -> None:
    selection = euds.select(run_dir, keep=0.2, rule=rule, seed=3)
    manifest, scores = read_manifest(run_dir), read_scores(run_dir)
    embedded = RunTexts(manifest, corpus_files(manifest), scores).embedded
    assert len(embedded.row_ids) == N - 1
    assert np.linalg.norm(embedded.vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    budget = int(np.ceil(0.2 * (N - 1)))
    direct = (
        k_center(embedded.vectors, budget, seed=3)
        if rule == "k_center"
        else facility_location(embedded.vectors, budget)
    )
    assert selection.row_ids.tolist() == embedded.row_ids[direct].tolist()
    assert 7 not in selection.row_ids
    record = json.loads((run_dir / "selection.json").read_text())
    assert (record["rule"], record["axes"], record["bounds"], record["stability"]) == (rule, [], [], None)
    assert record["uses_labels"] is False
    assert pq.read_table(run_dir / "selected.parquet").num_rows == budget
    assert "on the embeddings" in record["search"]
    assert rule in write_report(run_dir).read_text()


def test_a_long_k_center_shows_how_far_it_is(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 1e9)
    euds.select(run_dir, keep=5, rule="k_center")
    assert "k-center" not in capsys.readouterr().err
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 0)
    euds.select(run_dir, keep=5, rule="k_center")
    shown = capsys.readouterr().err
    assert "k-center, rows" in shown
    assert "5/5" in shown


@pytest.mark.parametrize(("n_most", "covers"), [(20_000, True), (10, False)])
def test_auto_covers_the_embeddings_of_pools_that_are_not_too_large(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, n_most: int, covers: bool
) -> None:
    monkeypatch.setattr("euds.selection.features.MAX_FACILITY_ROWS", n_most)
    manifest, scores = read_manifest(run_dir), read_scores(run_dir)
    values = np.random.default_rng(0).random(scores.num_rows, np.float32)
    scored = scores.append_column("generative_entropy_nats", pa.array(values))
    texts = RunTexts(manifest, corpus_files(manifest), scored)
    assert texts.covers("auto") is covers
    selection = choose(scored, keep=0.2, rule="auto", embedded=texts.embedded if covers else None)
    decided = selection.record["auto"]
    assert isinstance(decided, dict)
    assert decided["examined"] == []
    assert decided["rule"] == ("facility" if covers else "random")
    pairs = RunTexts({**manifest, "config": {"text_fields": ["question", "context"]}}, [], scored)
    assert pairs.pairs
    assert not pairs.covers("auto")
    assert pairs.covers("facility")


def test_auto_covers_the_embeddings_where_the_run_has_an_encoder_alone(run_dir: Path) -> None:
    selection = euds.select(run_dir, keep=0.2)
    decided = selection.record["auto"]
    assert isinstance(decided, dict)
    assert (decided["rule"], decided["axes"], decided["examined"]) == ("facility", [], [])
    assert selection.row_ids.tolist() == euds.select(run_dir, keep=0.2, rule="facility").row_ids.tolist()
    grouped = euds.select(run_dir, keep=0.2, rule="auto", group_by="label")
    assert grouped.n_kept == selection.n_kept
    assert (selection.record["uses_labels"], grouped.record["uses_labels"]) == (False, True)


def test_texts_are_embedded_as_the_run_was_or_as_this_machine_can() -> None:
    assert _precision_of({"dtype": "bfloat16"}, {"device": "cpu"}) == Precision("cpu", "bfloat16")
    # A run of a GPU that is not here.
    assert _precision_of({"dtype": "bfloat16"}, {"device": "cuda:9"}) == precision()


def test_texts_are_cut_where_the_run_cut_them(run_dir: Path) -> None:
    manifest = read_manifest(run_dir)
    facts, config = manifest["models"]["embedder"], manifest["config"]
    texts = ["the film was sad", "the film was very funny"]
    whole = embed_texts(texts, facts, config)
    # Three words are what both begin with.
    cut = embed_texts(texts, {**facts, "max_tokens": 3}, config)
    assert not np.allclose(whole[0], whole[1], atol=1e-3)
    assert cut[0] == pytest.approx(cut[1], abs=1e-6)
    # Without a limit on record the run's own holds.
    unknown = {name: value for name, value in facts.items() if name != "max_tokens"}
    assert embed_texts(texts, unknown, {**config, "max_tokens": 3}) == pytest.approx(cut, abs=1e-6)


def test_groups_are_covered_each(run_dir: Path) -> None:
    selection = euds.select(run_dir, keep=18, rule="facility", group_by="label")
    groups = selection.record["groups"]
    assert isinstance(groups, dict)
    assert {name: group["n_kept"] for name, group in groups.items()} == {"0": 6, "1": 6, "2": 6}
    manifest, scores = read_manifest(run_dir), read_scores(run_dir)
    embedded = RunTexts(manifest, corpus_files(manifest), scores).embedded
    zero = np.flatnonzero(embedded.row_ids % 3 == 0)
    kept = embedded.row_ids[zero[facility_location(embedded.vectors[zero], 6)]]
    assert selection.row_ids[selection.row_ids % 3 == 0].tolist() == kept.tolist()


def test_rows_without_an_embedding_are_left_out(run_dir: Path) -> None:
    scores = read_scores(run_dir)
    vectors = np.full((40, 4), 0.5, np.float32)
    vectors[5] = 0
    selection = choose(scores, keep=1.0, rule="k_center", embedded=Embedded(np.arange(40), vectors))
    assert selection.row_ids.tolist() == [at for at in range(40) if at not in (5, 7)]
    with pytest.raises(InputError, match="no row has an embedding"):
        choose(scores, keep=0.5, rule="k_center", embedded=Embedded(np.arange(3), np.zeros((3, 4), np.float32)))


def test_the_command_line_and_keep_auto_know_the_rules(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, tiny_encoder: Path
) -> None:
    words = ("wonderful", "terrible")
    rows = [{"text": f"{text} {words[at % 2]}", "label": at % 2} for at, text in enumerate(make_texts(240, 6))]
    folder = tmp_path / "run"
    euds.score(
        write_jsonl(rows),
        out=folder,
        measures=["semantic"],
        embedder=tiny_encoder,
        label_field="label",
        n_clusters=4,
    )
    finished = CliRunner().invoke(app, ["select", str(folder), "--keep", "auto", "--rule", "facility"])
    assert finished.exit_code == 0, finished.output
    assert "facility" in finished.stdout
    record = json.loads((folder / "selection.json").read_text())
    assert [curve["rule"] for curve in record["keep_auto"]["curves"]] == ["facility", "random"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": N + 1}, f"keep: give a fraction .* or a count in 1..{N}, got {N + 1}"),
        (
            {"keep": N + 1, "rule": "validated", "axes": ["semantic"]},
            f"keep: give .* or a count in 1..{N}, got {N + 1}",
        ),
        ({"rule": "validated", "axes": ["nll"]}, "axes: the run has no nll_nats; take another score"),
        ({"keep": "auto", "rule": "low", "axes": ["nll"]}, "axes: the run has no nll_nats; take another score"),
        ({"group_by": "source"}, "group_by: the scores have no source; score with --source-field"),
        ({"group_by": "label"}, "'facility' .* at most 29 rows, and the largest label has 30; take 'k_center'$"),
        ({}, f"'facility' .* at most 29 rows, and the run has {N}; take 'k_center', or --group-by smaller parts"),
    ],
)
def test_no_text_is_embedded_for_what_no_pool_could_satisfy(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("euds.selection.select.MAX_FACILITY_ROWS", 29)
    monkeypatch.setattr("euds.selection.features.embed_texts", lambda *_: pytest.fail("texts were embedded"))
    with pytest.raises(EudsError, match=message):
        euds.select(run_dir, **{"keep": 0.2, "rule": "facility", **arguments})


def test_what_cannot_be_covered_is_refused(tmp_path: Path, write_jsonl: WriteJsonl, run_dir: Path) -> None:
    words = tmp_path / "words"
    euds.score(
        write_jsonl([{"text": "a film"}, {"text": "a plot"}], "words.jsonl"), out=words, measures=["information"]
    )
    with pytest.raises(InputError, match=r"cover the embeddings of texts, and the run has no encoder; score with"):
        euds.select(words, keep=1, rule="facility")
    with pytest.raises(InvalidArgument, match="'facility' covers the embeddings of texts, not scores alone"):
        choose(read_scores(run_dir), keep=0.5, rule="facility")
    with pytest.raises(InvalidArgument, match=r"at most 20,000 rows, and the run has 20,001; take 'k_center'"):
        check_coverage("facility", 20_001, None)
    with pytest.raises(InvalidArgument, match=r"rule 'k_center' always looks at no score"):
        euds.select(run_dir, keep=0.5, rule="k_center", axes=["semantic"])


LABEL_WORDS = {"measures": ["semantic"], "semantic": ["label_words"], "lm": "m", "label_words": {"labels": ["a", "b"]}}


@pytest.mark.parametrize(
    ("method", "score", "message"),
    [
        ("facility", {"measures": ["information"]}, "facility covers embeddings, but score.measures lacks semantic"),
        ("facility", LABEL_WORDS, "facility covers embeddings, but score.semantic has neither clusters nor samples"),
        ("validated", LABEL_WORDS, "validated looks at the three entropies, of which score has none"),
    ],
)
def test_recipes_that_lack_what_a_rule_looks_at_are_refused(method: str, score: dict[str, Any], message: str) -> None:
    recipe = {
        "out": "out",
        "data": {"train": "a.jsonl", "test": "b.jsonl"},
        "score": score,
        "select": {"keep": 0.2, "methods": ["random", method]},
        "train": {"model": "m"},
    }
    with pytest.raises(InvalidArgument, match=f"methods: {message}"):
        load_recipe(recipe)
    entropies = {"measures": ["semantic"], "semantic": ["clusters"], "embedder": "e"}
    assert load_recipe({**recipe, "score": entropies}).select.methods == ("random", method)
