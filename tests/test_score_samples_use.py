"""What is asked of generations and made of them: settings, mistakes, report, selection."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sampled_runs import Sample, table

import euds
from euds.corpus import read_scores
from euds.engine.generations_config import SampleSettings
from euds.errors import EudsError

WriteJsonl = Callable[..., Path]


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"n_generations": 1}, {}, "n_generations: must be at least 2"),
        ({"max_new_tokens": 0}, {}, "max_new_tokens"),
        ({"template": "continuatoin"}, {}, "not one of continuation, labels, question"),
        ({"template": "{txt}"}, {}, r"unknown place \{txt\} \(did you mean 'text'\?\)"),
        ({"grouping": "entailment"}, {}, "needs a cross-encoder"),
        ({"nli": "x"}, {}, "others use none"),
        ({"grouping": "labels"}, {}, "two or more"),
        ({"template": "{text}: {labels}?"}, {}, "two or more"),
        ({"labels": ("Good", "good ")}, {}, "a word of its own"),
        ({"estimators": ()}, {}, "at least one"),
        ({"estimators": ("discret",)}, {}, "did you mean 'discrete'"),
        ({"min_similarity": 1.5}, {}, "min_similarity"),
        ({"linkage": "single"}, {}, "linkage"),
        ({}, {"lm": None}, "needs a causal language model"),
        ({}, {"embedder": None}, "needs an encoder"),
        ({}, {"semantic": "sample"}, "did you mean 'samples'|settings of generations"),
        (
            {},
            {"semantic": "clusters"},
            r"given \(n_generations, .*\), which need semantic='samples'$",
        ),
        ({"grouping": "entailment", "nli": "./nowhere"}, {}, "nowhere"),
    ],
)
def test_a_bad_request_ends_before_any_work(
    sample: Sample, tmp_path: Path, settings: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(EudsError, match=message):
        sample("run", settings, **arguments)
    assert not (tmp_path / "run").exists()


def test_the_report_shows_groups_and_cost(sample: Sample, tmp_path: Path) -> None:
    from euds.report import write_report
    from euds.report.meanings import gather_meanings

    sample("run", {"min_similarity": 0.9}, semantic=["clusters", "samples"], n_clusters=3)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    page = write_report(tmp_path / "run").read_text()
    for wanted in ("Meanings of the generations", "Cost of semantic entropy", "samples: generation", "an epoch of"):
        assert wanted in page
    meanings = gather_meanings(tmp_path / "run", manifest)
    assert meanings is not None
    assert sum(size * count for size, count in meanings.sizes.items()) == 5 * 21
    assert sum(meanings.numbers.values()) == 21
    (groups,) = meanings.groups_of(np.array([0]))
    made, meant = (table(tmp_path / "run", folder)[0] for folder in ("generations", "meanings"))
    assert [group.size for group in groups] == sorted(np.bincount(meant["group"]).tolist(), reverse=True)
    assert sum(times for group in groups for _, times in group.texts) == len(made["text"])


def test_a_run_without_generations_reports_none(write_jsonl: WriteJsonl, tmp_path: Path) -> None:
    from euds.report import write_report

    euds.score(write_jsonl([{"text": "the film was sad"}]), out=tmp_path / "run", measures=["information"])
    page = write_report(tmp_path / "run").read_text()
    assert "Meanings of the generations" not in page
    assert "Cost of semantic entropy" not in page


def test_generations_can_be_selected_by(sample: Sample, tmp_path: Path) -> None:
    sample("run", {"min_similarity": 0.9})
    selection = euds.select(tmp_path / "run", keep=7, rule="high", axes=["samples_rao_blackwell"])
    rows = read_scores(tmp_path / "run").to_pylist()
    values = {row["row_id"]: row["semantic_samples_rao_blackwell_nats"] for row in rows}
    kept = [values[row] for row in selection.row_ids.tolist()]
    assert min(kept) >= sorted(values.values())[-7]
    with pytest.raises(EudsError, match="the run has no semantic_entropy_nats"):
        euds.select(tmp_path / "run", keep=7, rule="high", axes=["semantic"])
    # The encoder embedded generations only; the texts are embedded now.
    assert euds.select(tmp_path / "run", keep=7).record["auto"]["rule"] == "facility"


def test_the_command_line_takes_every_setting(
    sample_corpus: Path, tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from euds.cli.app import app

    options = (
        "--measures semantic --semantic samples --n-generations 3 --max-new-tokens 2 --template labels "
        "--labels good,bad --temperature 1.2 --top-p 0.8 --top-k 20 --grouping labels "
        "--estimators discrete,chao_shen --seed 4"
    )
    command = ["score", str(sample_corpus), "--out", str(tmp_path / "run"), "--lm", str(tiny_lm), *options.split()]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    settings = SampleSettings(
        n_generations=3,
        max_new_tokens=2,
        template="labels",
        labels=("good", "bad"),
        temperature=1.2,
        top_p=0.8,
        top_k=20,
        grouping="labels",
        estimators=("discrete", "chao_shen"),
    )
    assert manifest["config"]["samples"] == json.loads(json.dumps(asdict(settings)))
    assert manifest["pool"]["samples"]["seed"] == 4
    with pytest.raises(EudsError, match="need semantic='samples'"):
        CliRunner().invoke(app, [*command[:6], "--top-k", "5"], catch_exceptions=False)
