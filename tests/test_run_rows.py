"""Which rows the methods of a recipe train on, and what finding them costs, where scores are missing."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import euds
from euds.corpus import read_scores
from euds.errors import InputError
from euds.pipeline.run import RunResult
from euds.selection.summary import summary
from euds.study.compare import compare
from euds.types import Float32Array

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


@pytest.fixture
def recipe(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, tiny_lm: Path, tiny_encoder: Path
) -> dict[str, Any]:
    words = ("wonderful", "terrible")
    texts = [f"{text} {words[at % 2]}" for at, text in enumerate(make_texts(60, 3))]
    rows = [{"text": text, "label": words[at % 2]} for at, text in enumerate(texts)]
    return {
        "out": str(tmp_path / "run"),
        "seeds": 1,
        "data": {"train": str(write_jsonl(rows, "pool.jsonl")), "test": str(write_jsonl(rows[:9], "test.jsonl"))},
        "score": {"measures": ["information", "generative"], "lm": str(tiny_lm)},
        "select": {"keep": 0.2, "methods": ["random", "information"]},
        "train": {"model": str(tiny_encoder), "steps": 1},
        "report": False,
    }


def test_the_selection_is_what_was_trained_on(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before = euds.run(recipe)
    assert isinstance(before, RunResult)
    assert before.selection is not None
    lost = before.selection.row_ids[:4]

    def some_without_a_score(run_dir: Path) -> pa.Table:
        scores = read_scores(run_dir)
        place = scores.column_names.index("generative_entropy_nats")
        column = scores.column(place).to_numpy()
        mask = np.isin(scores.column("row_id").to_numpy(), lost)
        return scores.set_column(place, scores.field(place), pa.array(column, pa.float32(), mask=mask))

    trained: dict[str, list[int]] = {}

    def watched(pool: Any, test: Any, methods: Any, **named: Any) -> Any:
        trained.update({method.name: method.rows_for(0).tolist() for method in methods})
        return compare(pool, test, methods, **named)

    monkeypatch.setattr("euds.pipeline.run.read_scores", some_without_a_score)
    monkeypatch.setattr("euds.pipeline.run.compare", watched)
    after = euds.run(recipe)
    assert isinstance(after, RunResult)
    assert after.selection is not None
    assert trained["information"] == after.selection.row_ids.tolist()
    assert not set(after.selection.row_ids) & set(lost)
    assert after.selection.record["n_left_out"] == 4


@pytest.mark.parametrize("methods", [["full", "random"], ["information"]])
def test_a_pool_of_which_no_row_could_be_scored_ends_there(
    recipe: dict[str, Any], write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch, methods: list[str]
) -> None:
    # One token has no generative entropy; as text it can be trained on.
    rows = [{"text": "the", "label": word} for word in ("wonderful", "terrible")]
    monkeypatch.setattr("euds.study.cell.train_and_test", lambda *arguments, **named: pytest.fail("trained"))
    data = {**recipe["data"], "train": str(write_jsonl(rows, "short.jsonl"))}
    said = (
        r"run: no row has every score, so that there is nothing to select from; its quarantine\.jsonl has the reasons"
    )
    for _ in range(2):
        with pytest.raises(InputError, match=said):
            euds.run({**recipe, "data": data, "select": {"keep": 0.5, "methods": methods}})


def test_embeddings_that_scoring_did_not_make_cost_their_time(
    recipe: dict[str, Any], tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["score"] |= {
        "measures": ["semantic"],
        "semantic": ["samples"],
        "embedder": str(tiny_encoder),
        "samples": {"n_generations": 2, "max_new_tokens": 3},
    }
    recipe["select"]["methods"] = ["random", "k_center"]

    def slow(texts: Any, facts: Any, config: Any) -> Float32Array:
        time.sleep(1)
        return np.random.default_rng(0).normal(size=(len(texts), 4)).astype(np.float32)

    monkeypatch.setattr("euds.selection.features.embed_texts", slow)
    result = euds.run(recipe)
    assert isinstance(result, RunResult)
    costs = {row.name: row.search_seconds for row in result.table.methods}
    assert costs["random"] < 1 <= costs["k_center"]


def test_labels_that_a_method_leaves_without_a_row_are_told_before_it_is_trained(
    recipe: dict[str, Any], write_jsonl: WriteJsonl, make_texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Texts that repeat one word have the least information.
    rows = [{"text": text, "label": ("a", "b")[at % 2]} for at, text in enumerate(make_texts(60, 3))]
    rows += [{"text": "film film", "label": "rare"}] * 2
    high = {"name": "high", "rule": "high", "axes": ["information"]}
    methods = [
        "full",
        {"name": "pair", "rule": "random", "keep": 2},
        {**high, "group_by": "label", "name": "each"},
        high,
    ]
    recipe["data"]["train"] = str(write_jsonl(rows, "rare.jsonl"))
    recipe["data"]["test"] = str(write_jsonl(rows[:9], "common.jsonl"))
    recipe |= {"score": {"measures": ["information"]}, "select": {"keep": 0.5, "methods": methods}, "seeds": 2}

    def train(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("euds.pipeline.run.compare", train)
    said: list[str] = []
    with (
        euds.listen(lambda event: said.append(event.text) if isinstance(event, euds.Message) else None),
        pytest.raises(KeyboardInterrupt),
    ):
        euds.run(recipe)
    selection = euds.select(recipe["out"], keep=0.5, rule="high", axes=["information"], dry_run=True)
    words = "no row is kept of 1 of 3 labels: rare (2 rows); a model cannot learn what it never sees"
    assert f"  warning: {words}" in summary(selection)
    warned = [line for line in said if "no row is kept" in line]
    assert warned[-1] == f"warning: high: {words}"
    # Two rows have two labels at most, and each seed draws others.
    draws = [line.partition(": no row")[0] for line in warned[:-1]]
    assert draws == ["warning: pair, seed 0", "warning: pair, seed 1"]


def test_half_a_surrogate_pair_in_a_field_that_is_not_read_costs_no_row(recipe: dict[str, Any]) -> None:
    pool = Path(recipe["data"]["train"])
    lines = pool.read_text().splitlines()
    lines[3] = lines[3].replace("{", r'{"note": "a\ud800b", ', 1)
    lines[5] = lines[5].replace('"text": "', r'"text": "\ud800', 1)
    pool.write_text("\n".join(lines) + "\n")
    recipe["score"] = {"measures": ["information"]}
    result = euds.run(recipe)
    assert isinstance(result, RunResult)
    assert result.scored.n_scored == len(lines) - 1
    (bad,) = (Path(recipe["out"]) / "quarantine.jsonl").read_text().splitlines()
    assert "field 'text' holds lone surrogates" in bad
