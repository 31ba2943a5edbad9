"""The demo: it fetches what its recipe names, and runs it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from euds.assets import ASSETS
from euds.cli.app import app
from euds.files import read_json
from euds.pipeline.demo import SENTIMENT
from euds.study.table import header, lines
from euds.study.types import Spread, StudyRow, StudyTable

ROOT = Path(__file__).parent.parent


def test_the_demo_fetches_what_its_recipe_names_and_runs_it(
    tmp_path: Path,
    tiny_lm: Path,
    tiny_encoder: Path,
    write_jsonl: Callable[..., Path],
    make_texts: Callable[[int, int], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr("euds.pipeline.demo.fetch", fetched.append)
    rows = [{"text": text, "label": at % 2} for at, text in enumerate(make_texts(60, 3))]
    out = tmp_path / "run"
    overrides = [
        f"out={out}",
        f"data.train={write_jsonl(rows[:40], 'train.jsonl')}",
        f"data.test={write_jsonl(rows[40:], 'test.jsonl')}",
        f"score.lm={tiny_lm}",
        f"score.embedder={tiny_encoder}",
        f"train.model={tiny_encoder}",
        "train.epochs=1",
        "select.methods=[random, igse]",
        "seeds=1",
    ]
    done = CliRunner().invoke(app, ["demo", *overrides])
    assert done.exit_code == 0, done.output
    data = {Path(SENTIMENT["data"][part]).parts[0] for part in ("train", "test")}
    assert set(fetched) == data | set(SENTIMENT["score"].values()) | {SENTIMENT["train"]["model"]}
    assert set(fetched) <= set(ASSETS)
    assert [row["name"] for row in read_json(out / "study" / "table.json")["methods"]] == ["random", "igse"]
    assert f"40 rows scored, 0 quarantined; run directory {out}" in " ".join(done.output.split())
    assert (out / "report.html").exists()


def test_readme_has_the_table_of_the_committed_run() -> None:
    runs = read_json(ROOT / "benchmarks" / "demo.json")
    saved = runs["table"]
    rows = []
    for row in saved["methods"]:
        metrics = {name: Spread(**spread) for name, spread in row["metrics"].items()}
        rows.append(StudyRow(**{**row, "metrics": metrics, "train_seconds": Spread(**row["train_seconds"])}))
    table = StudyTable(**{**saved, "methods": tuple(rows)})
    wanted = [f"| {' | '.join(cells)} |" for cells in (header(table), *lines(table))]
    readme = (ROOT / "README.md").read_text().splitlines()
    start = readme.index(wanted[0])
    assert readme[start + 2 : start + 2 + len(rows)] == wanted[1:]
    best, worst = (100 * of(row.metrics["accuracy"].mean for row in rows[2:]) for of in (max, min))
    full = 100 * rows[0].metrics["accuracy"].mean
    assert (
        f"costs {full - best:.1f} points with the best of the rules and {full - worst:.1f} with the worst"
        in " ".join(readme)
    )
    others = {row["name"]: 100 * row["metrics"]["accuracy"]["mean"] for row in runs["random_batches"]["methods"]}
    told = f"gave `information` {others['information']:.1f} and `random` {others['random']:.1f}"
    assert told in " ".join(readme)
