"""The demo: it fetches what its recipe names, and runs it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from euds.assets import ASSETS
from euds.cli.app import app
from euds.files import read_json
from euds.pipeline.demo import SENTIMENT


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
