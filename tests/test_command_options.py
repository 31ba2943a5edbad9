"""Every option of a command reaches the function that does the work, and the help tells what may be given."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import euds
from euds.cli.app import VERBS, app
from euds.ops.semantic import EMBEDDING_ESTIMATORS, ESTIMATORS
from euds.selection.axes import AXES
from euds.selection.rules import COVERAGE_RULES, RULES, SEARCHED_RULES

Calls = list[dict[str, Any]]

SCORING = """
    a.jsonl b.parquet --text-field question --text-field context --id-field uid --label-field mood --source-field origin
    --measures semantic,information --lm some-lm --embedder some-encoder --tokenizer some-tokenizer --max-tokens 99
    --token-budget 2000 --shard-rows 64 --device cpu --dtype bfloat16 --seed 7 --workers 3
    --semantic samples,label_words --sampler vllm --n-generations 4 --max-new-tokens 8 --template question
    --labels yes,no --temperature 0.7 --top-p 0.8 --top-k 20 --grouping entailment --min-similarity 0.6
    --linkage connected_components --nli some-judge --estimators chao_shen
"""
SAMPLES: dict[str, Any] = {
    "sampler": "vllm",
    "n_generations": 4,
    "max_new_tokens": 8,
    "template": "question",
    "labels": ("yes", "no"),
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
    "grouping": "entailment",
    "min_similarity": 0.6,
    "linkage": "connected_components",
    "nli": "some-judge",
    "estimators": ("chao_shen",),
}
SCORED: dict[str, Any] = {
    "inputs": ["a.jsonl", "b.parquet"],
    "text_field": ["question", "context"],
    "id_field": "uid",
    "label_field": "mood",
    "source_field": "origin",
    "measures": ["semantic", "information"],
    "semantic": ["samples", "label_words"],
    "label_words": euds.LabelWordSettings(("yes", "no"), "question"),
    "lm": "some-lm",
    "embedder": "some-encoder",
    "tokenizer": "some-tokenizer",
    "max_tokens": 99,
    "token_budget": 2000,
    "shard_rows": 64,
    "device": "cpu",
    "dtype": "bfloat16",
    "seed": 7,
    "workers": 3,
}


NOTHING = euds.Estimate(
    *(0, 0, 0, 0, 0, 0, {}, 0.0, 0.0, {}),
    workers=1,
    largest_task=1.0,
    device="cpu",
    peak_bytes=0,
    part_bytes=0,
    work_bytes=0,
    price_per_hour=None,
    semantic={},
)


def parameters(verb: str) -> list[Any]:
    """Return the options and arguments of a command."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return list(commands[verb].params)


def invoke(verb: str, *lines: str) -> None:
    """Run command lines, which together must give every option of the command."""
    given = {word for line in lines for word in line.split()}
    options = [parameter for parameter in parameters(verb) if parameter.param_type_name == "option"]
    assert [option.name for option in options if not given & {*option.opts, *option.secondary_opts}] == []
    for line in lines:
        assert CliRunner().invoke(app, [verb, *line.split()], catch_exceptions=False).exit_code == 0


def recorded(monkeypatch: pytest.MonkeyPatch, home: str, function: Callable[..., Any], result: Any) -> Calls:
    """Put a function out of action; return the list of its calls to come, each its arguments by name."""
    calls: Calls = []

    def record(*arguments: Any, **named: Any) -> Any:
        calls.append(inspect.signature(function).bind(*arguments, **named).arguments)
        return result

    monkeypatch.setattr(f"{home}.{function.__name__}", record)
    return calls


def assert_all_differ(given: dict[str, Any], function: Callable[..., Any]) -> None:
    """A value like the default would reach a function that it was never handed to."""
    defaults = {name: value.default for name, value in inspect.signature(function).parameters.items()}
    assert given.keys() == defaults.keys()
    assert [name for name, value in given.items() if value == defaults[name]] == []


def test_score_hands_every_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(
        monkeypatch, "euds.engine.score", euds.score, euds.ScoreResult(Path("run"), 0, 0, 0, 0, 0, {}, 0.0)
    )
    invoke(
        "score",
        SCORING
        + "--out run --n-clusters 5 --n-neighbors 3 --similarity-temperature 0.2 --generations-from other --ray "
        "--ray-address auto --split 0/2 --cache scores --cache-limit-gb 2.5 --force-new --dry-run --json",
    )
    (given,) = calls
    settings = {**SAMPLES, "generations_from": "other"}
    assert settings.keys() == {field.name for field in fields(euds.SampleSettings)}
    assert [field.name for field in fields(euds.SampleSettings) if settings[field.name] == field.default] == []
    assert given == {
        **SCORED,
        "samples": euds.SampleSettings(**settings),
        "out": "run",
        "n_clusters": 5,
        "n_neighbors": 3,
        "similarity_temperature": 0.2,
        "ray": True,
        "ray_address": "auto",
        "split": "0/2",
        "cache": "scores",
        "cache_limit_gb": 2.5,
        "force_new": True,
        "dry_run": True,
    }
    assert_all_differ(given, euds.score)


def test_estimate_hands_every_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch, "euds.engine.estimate", euds.estimate, NOTHING)
    invoke("estimate", SCORING + "--sample 50 --price-per-hour 2.5 --json")
    (given,) = calls
    samples = euds.SampleSettings(**SAMPLES)
    assert given == {**SCORED, "samples": samples, "sample_rows": 50, "price_per_hour": 2.5}
    assert_all_differ(given, euds.estimate)


@pytest.mark.parametrize(("verb", "function"), [("score", euds.score), ("estimate", euds.estimate)])
def test_what_is_not_given_is_left_to_the_function(
    monkeypatch: pytest.MonkeyPatch, verb: str, function: Callable[..., Any]
) -> None:
    result = euds.ScoreResult(Path("run"), 0, 0, 0, 0, 0, {}, 0.0)
    calls = recorded(monkeypatch, f"euds.engine.{verb}", function, result)
    command = [verb, "a.jsonl", *(["--out", "run"] if verb == "score" else [])]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    defaults = {name: value.default for name, value in inspect.signature(function).parameters.items()}
    (given,) = calls
    listed = {"measures": list(defaults["measures"]), "semantic": ["clusters"], "text_field": ["text"]}
    expected = {**defaults, **listed, "inputs": ["a.jsonl"], **({"out": "run"} if verb == "score" else {})}
    assert given == expected


def test_finetune_hands_every_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    result = SimpleNamespace(metrics={"accuracy": 0.5}, train_seconds=1.0, n_train=9)
    calls = recorded(monkeypatch, "euds.study.finetune", euds.finetune, [result])
    invoke(
        "finetune",
        "--train a.jsonl --test b.jsonl --model some-bert --task question_answering --text-field asked "
        "--text-field read --label-field found --epochs 1.5 --steps 70 --batch-size 4 --learning-rate 0.003 "
        "--max-tokens 99 --by-length --precision bfloat16 --seed 4 --seed 5 --save-model folder "
        "--out results.json",
    )
    (given,) = calls
    assert given == {
        "train": "a.jsonl",
        "test": "b.jsonl",
        "model": "some-bert",
        "task": "question_answering",
        "text_field": ["asked", "read"],
        "label_field": "found",
        "epochs": 1.5,
        "steps": 70,
        "batch_size": 4,
        "learning_rate": 0.003,
        "max_tokens": 99,
        "precision": "bfloat16",
        "by_length": True,
        "seeds": [4, 5],
        "out": "results.json",
        "save_model": "folder",
    }
    assert_all_differ(given, euds.finetune)


def test_study_hands_every_option_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from euds.study.grid import checks, publish, run

    monkeypatch.chdir(tmp_path)
    home = "euds.study.grid.run"
    cell = SimpleNamespace(cell="c", method="m", keep=1, schedule="s", seed=0, metrics={"test": {}})
    tuned = SimpleNamespace(judged={"test": SimpleNamespace(metrics={})})
    trained = recorded(monkeypatch, home, run.run_study, SimpleNamespace(n_cells=1, n_trained=1, cells_path="cells"))
    apart = recorded(monkeypatch, "euds.study.grid.checks", checks.check_apart, None)
    checked = recorded(monkeypatch, "euds.study.grid.publish", publish.check_page, None)
    pages = recorded(monkeypatch, "euds.study.grid.publish", publish.make_page, "page/README.md")
    again = recorded(monkeypatch, home, run.rerun_cell, (cell, tuned))
    invoke(
        "study",
        "a.yaml b.yaml --set keeps=[0.1] --set seeds=2 --workers 3 --page page",
        "a.yaml --no-train --page page",
        "a.yaml --set seeds=2 --dry-run",
        "a.yaml --set seeds=2 --rerun 4f2",
    )
    files, settings = [Path("a.yaml"), Path("b.yaml")], ["keeps=[0.1]", "seeds=2"]
    assert trained == [
        *({"source": file, "overrides": settings, "workers": 3, "dry_run": True} for file in files),
        *({"source": file, "overrides": settings, "workers": 3, "dry_run": False} for file in files),
        {"source": files[0], "overrides": ["seeds=2"], "workers": None, "dry_run": True},
    ]
    assert (
        pages
        == checked
        == [
            {"sources": files, "overrides": settings, "folder": Path("page")},
            {"sources": files[:1], "overrides": [], "folder": Path("page")},
        ]
    )
    assert apart == [{"sources": files, "overrides": settings}]
    assert again == [{"source": files[0], "overrides": ["seeds=2"], "name": "4f2"}]


def test_run_report_and_demo_hand_every_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from euds import report
    from euds.pipeline import demo

    ran = recorded(monkeypatch, "euds.pipeline.run", euds.run, None)
    shown = recorded(monkeypatch, "euds.report", report.write_report, "run/report.html")
    tried = recorded(monkeypatch, "euds.pipeline.demo", demo.demo, None)
    invoke("run", "r.yaml seeds=3 select.keep=0.2 --dry-run")
    invoke("report", "run --examples 3")
    invoke("demo", "out=elsewhere")
    assert list(ran[0].values()) == [Path("r.yaml"), ["seeds=3", "select.keep=0.2"], True]
    assert shown == [{"run_dir": Path("run"), "examples": 3}]
    assert tried == [{"overrides": ["out=elsewhere"]}]


@pytest.mark.parametrize(
    ("verb", "option", "names"),
    [
        ("select", "rule", (*RULES, *COVERAGE_RULES, *SEARCHED_RULES)),
        ("select", "axis", tuple(AXES)),
        ("score", "estimators", (*ESTIMATORS, *EMBEDDING_ESTIMATORS)),
        ("estimate", "text_field", ("text by default",)),
        ("estimate", "label_field", ("label by default", "if there is one (JSONL: ")),
        ("score", "inputs", (".zst", "CSV", "URLs", "fetched assets")),
        ("score", "workers", ("one a GPU", "one a CPU", "--ray")),
        ("finetune", "text_field", ("text by default", "question and context")),
        ("finetune", "label_field", ("label by default", "answers")),
    ],
)
def test_the_help_of_an_option_leaves_nothing_out(verb: str, option: str, names: tuple[str, ...]) -> None:
    (text,) = (parameter.help for parameter in parameters(verb) if parameter.name == option)
    assert [name for name in names if name not in text] == []


def test_the_list_of_verbs_is_not_cut() -> None:
    listed = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout.partition("Commands:")[2]
    assert len(listed.strip().splitlines()) == len(VERBS)
    assert "..." not in listed


def test_the_version_is_told() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout) == (0, f"euds {euds.__version__}\n")


def test_the_docstring_of_select_leaves_nothing_out() -> None:
    text = inspect.getdoc(euds.select) or ""
    named = [*RULES, *COVERAGE_RULES, *SEARCHED_RULES, *(axis for axis in AXES if not axis.startswith("samples_"))]
    assert [name for name in [*named, "samples_NAME"] if f'"{name}"' not in text] == []
