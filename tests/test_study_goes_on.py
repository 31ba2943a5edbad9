"""What a study that goes on, elsewhere or with another file, keeps of its beginning, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from planted_grid import make_facts
from test_score_resume import digests
from tiny_study import WriteJsonl, changed, rows

from euds.assets import content_sha256, tokenizer_sha256
from euds.errors import InputError
from euds.study.grid import run
from euds.study.grid.cells import Cell, append_cell
from euds.study.grid.config import load_study, planned_cells
from euds.study.grid.facts import _cpu, _methods, continued, processor
from euds.study.grid.methods import METHODS
from euds.study.grid.run import Grid, run_study
from euds.study.grid.splits import take_splits
from euds.study.grid.task import MAY_BE

BUDGET = 22


def grid_of(study: dict[str, Any]) -> Grid:
    loaded = load_study(study)
    return Grid(loaded, take_splits(loaded))


def finish(study: dict[str, Any], first: int = 0) -> list[Cell]:
    """Write all cells of a study as if they had been trained, each on rows from `first` on."""
    grid = grid_of(study)
    found = []
    for planned in planned_cells(grid.study):
        job = grid.job(planned, np.arange(first, first + BUDGET))
        cell = Cell(
            cell=job.cell,
            method=planned.method,
            keep=planned.keep,
            schedule=planned.block.schedule,
            selection_seed=planned.selection_seed,
            seed=planned.seed,
            n_train=BUDGET,
            steps=3,
            metrics={"test": {"accuracy": 1.0}},
            test_scores=np.ones(25),
            selected=np.array(job.positions),
            train_seconds=1.0,
            test_seconds=1.0,
        )
        append_cell(grid.study.cells_path, cell)
        found.append(cell)
    return found


def write_facts_of(study: dict[str, Any], **scoring_model: Any) -> Path:
    path = Path(study["results"]) / "tiny.facts.json"
    path.parent.mkdir(exist_ok=True)
    scored = {**study["score"], "max_tokens": 256, **scoring_model}
    path.write_text(json.dumps({**make_facts("tiny"), "scoring_model": scored}))
    return path


def test_a_study_that_goes_on_elsewhere_keeps_what_was_measured_at_its_beginning() -> None:
    before = {
        "title": "old",
        "seconds": {"generative": 5.0},
        "search_seconds": {"facility": {"0.16": 1.0}},
        "validated": {"0.16": {"accuracy": 0.1}},
        "rows": {"label": ["a"], "scores": {"nll_nats": [1.0]}},
        "length_correlation": {"nll_nats": 0.1},
        "machine": {"cpu": "A"},
        "date": "2026-01-01",
    }
    now = {
        "title": "new",
        "seconds": {"generative": 9.0, "el2n": 2.0},
        "search_seconds": {"facility": {"0.16": 3.0, "0.5": 4.0}, "k_center": {"0.5": 6.0}},
        "validated": {"0.16": {"accuracy": 0.2}, "0.5": {"accuracy": 0.3}},
        "rows": {"label": ["a"], "scores": {"nll_nats": [1.1], "el2n": [0.5]}},
        "length_correlation": {"nll_nats": 0.2, "el2n": 0.3},
        "machine": {"cpu": "B"},
        "date": "2026-01-02",
    }
    found = continued(before, now)
    assert found == {
        "title": "new",
        "seconds": {"generative": 5.0, "el2n": 2.0},
        "search_seconds": {"facility": {"0.16": 1.0, "0.5": 4.0}, "k_center": {"0.5": 6.0}},
        "validated": {"0.16": {"accuracy": 0.1}, "0.5": {"accuracy": 0.3}},
        "rows": {"label": ["a"], "scores": {"nll_nats": [1.0], "el2n": [0.5]}},
        "length_correlation": {"nll_nats": 0.1, "el2n": 0.3},
        "machine": {"cpu": "A"},
        "date": "2026-01-01",
        "went_on": ["B, 2026-01-02"],
    }
    assert continued(found, now)["went_on"] == ["B, 2026-01-02"]
    assert continued(found, {**now, "machine": {"cpu": "A"}})["went_on"] == ["B, 2026-01-02", "A, 2026-01-02"]
    assert continued(before, {**now, **{name: before[name] for name in ("machine", "date")}})["went_on"] == []


def test_what_an_older_version_did_not_write_down_is_done_without(study: dict[str, Any]) -> None:
    now = make_facts("tiny") | {"machine": {"cpu": "B"}, "date": "2026-01-02", "validated": {}}
    lacking = {name: value for name, value in now.items() if name not in MAY_BE}
    lacking["rows"] = {name: value for name, value in now["rows"].items() if name != "scores"}
    found = continued(lacking, now)
    assert (found["search_seconds"], found["validated"]) == (now["search_seconds"], {})
    assert found["rows"] == now["rows"]
    # Where the seconds of the beginning were measured is not known: not here.
    assert "machine" not in found
    assert "date" not in found
    assert found["went_on"] == ["B, 2026-01-02"]
    assert continued(found, now)["went_on"] == ["B, 2026-01-02"]
    finish({**study, "grid": [{**study["grid"][0], "methods": ["random"]}]})
    path = write_facts_of(study)
    path.write_text(json.dumps(lacking))
    run_study(study, dry_run=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": None}, "'rows' must hold names and values"),
        ({"seconds": []}, "'seconds' must hold names and values"),
        ({"scoring_model": []}, "'scoring_model' must hold names and values"),
        ({"machine": "B"}, "'machine' must hold names and values"),
        ({"date": 1}, "'date' must hold text"),
        ({"went_on": "B"}, "'went_on' must hold a list"),
        ({"search_seconds": {"random": 1.0}}, "random must hold names and values"),
        ({"rows": {**make_facts()["rows"], "scores": []}}, "rows: 'scores' must hold names and values"),
    ],
)
def test_damaged_facts_end_a_study_before_anything_is_scored(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(run, "measure", lambda *_: pytest.fail("it was scored"))
    finish({**study, "grid": [{**study["grid"][0], "methods": ["random"]}]})
    path = write_facts_of(study)
    path.write_text(json.dumps({**make_facts("tiny"), **changes}))
    for dry_run in (True, False):
        with pytest.raises(InputError, match=rf"tiny\.facts\.json: facts of the task: {message}; take the file from"):
            run_study(study, dry_run=dry_run)
    path.write_text(json.dumps({name: value for name, value in make_facts("tiny").items() if name != "seconds"}))
    with pytest.raises(InputError, match="no field 'seconds'; take the file from a copy"):
        run_study(study)


def test_facts_without_a_finished_cell_are_written_anew(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # Those of a study that was stopped before its first cell, and may have had other rows.
    path = write_facts_of(study)
    monkeypatch.setattr(run, "measure", lambda *_: SimpleNamespace(pool=None))
    monkeypatch.setattr(run, "facts_of", lambda *_: {"new": True})
    monkeypatch.setattr(Grid, "train", lambda *_: None)
    run_study(study)
    assert json.loads(path.read_text()) == {"new": True}


def test_a_pool_that_was_scored_is_not_written_over(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "facts_of", lambda *_: {})
    monkeypatch.setattr(Grid, "train", lambda *_: None)
    study = changed(study, grid=[{**study["grid"][0], "methods": ["random"]}])
    out = Path(study["out"])
    run_study(study)
    before = digests(out)
    with pytest.raises(InputError, match=r"out: .*run has the scores of other rows than .*train\.jsonl gives now; cho"):
        run_study(changed(study, data={"seed": 1}))
    assert digests(out) == before
    # One of somebody's own neither.
    own = changed(study, out=str(out.with_name("own")))
    path = Path(own["out"]) / "data" / "pool.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"text": "mine"}\n')
    with pytest.raises(
        InputError, match=r"pool\.jsonl: holds other rows and is of no run; choose another out, or move"
    ):
        run_study(own)
    assert path.read_text() == '{"text": "mine"}\n'
    # The pool itself follows from the study's file.
    (out / "data" / "pool.jsonl").unlink()
    run_study(study)
    assert digests(out) == before


def test_a_rule_keeps_the_rows_that_a_finished_cell_recorded(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = {**study["grid"][0], "methods": ["facility", "random"]}
    finish({**study, "grid": [block]}, first=5)
    longer = {**study, "grid": [{**block, "seeds": 3}, {**block, "seeds": 1, "steps": 4}, {**block, "keep": [0.3]}]}

    def same(pool: Any, budget: int, seed: int) -> Any:
        return np.arange(budget)

    def by_seed(pool: Any, budget: int, seed: int) -> Any:
        return np.arange(40 + seed, 40 + seed + budget)

    # Here scores are others, and so is what they choose.
    for name, choose in {"facility": same, "random": by_seed}.items():
        monkeypatch.setitem(METHODS, name, replace(METHODS[name], choose=choose))
    grid = grid_of(longer)
    missing = [cell for cell in planned_cells(grid.study) if cell.key not in grid.finished]
    pool: Any = range(110)
    first = {
        (job.planned.method, job.planned.block.schedule, job.planned.keep, job.planned.seed): job.positions[0]
        for job in grid._jobs(missing, pool)
    }
    assert first == {
        ("facility", "3 steps", 0.2, 2): 5,
        # No cell has recorded what this seed draws.
        ("random", "3 steps", 0.2, 2): 42,
        ("facility", "4 steps", 0.2, 0): 5,
        ("random", "4 steps", 0.2, 0): 5,
        **{("facility", "3 steps", 0.3, seed): 0 for seed in (0, 1)},
        **{("random", "3 steps", 0.3, seed): 40 + seed for seed in (0, 1)},
    }


def test_cells_of_other_settings_are_refused_where_the_grid_no_longer_has_them(study: dict[str, Any]) -> None:
    block = {**study["grid"][0], "methods": ["random"]}
    cells = finish({**study, "grid": [block, {"keep": [0.2], "epochs": 1.5, "seeds": 1, "methods": ["random"]}]})
    # A smaller grid, or one of other schedules, mixes nothing.
    other = [{**block, "steps": 4, "keep": [0.4]}]
    assert len(grid_of({**study, "grid": other}).finished) == len(cells) == 3
    named = rf"tiny\.cells\.jsonl: cell {cells[0].cell} \(random, keep 0.2, 3 steps, seed 0\) was trained with other"
    for mixed in ({"train": {"learning_rate": 1e-3}}, {"data": {"seed": 1}}):
        with pytest.raises(InputError, match=named):
            grid_of(changed({**study, "grid": other}, **mixed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "igse_bux"}, r"tiny\.cells\.jsonl: cell \w+: there is no method 'igse_bux'; remove its line"),
        ({"schedule": "3 weeks"}, r"tiny\.cells\.jsonl: cell \w+: its schedule '3 weeks' must be as '3 epochs' or"),
        ({"schedule": "long"}, "its schedule 'long' must be"),
    ],
)
def test_cells_that_no_grid_has_are_named(study: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    cell = finish(changed(study, grid=[{**study["grid"][0], "methods": ["random"], "seeds": 1}]))[0]
    append_cell(Path(study["results"]) / "tiny.cells.jsonl", replace(cell, **changes))
    with pytest.raises(InputError, match=message):
        grid_of(study)


def test_other_models_of_the_same_name_are_refused(study: dict[str, Any]) -> None:
    finish({**study, "grid": [{**study["grid"][0], "methods": ["random"]}]})
    folders = {role: Path(study["score"][role]) for role in ("lm", "embedder")}
    known = {f"{role}_sha256": content_sha256(folder) for role, folder in folders.items()}
    known |= {f"{role}_tokenizer_sha256": tokenizer_sha256(folder) for role, folder in folders.items()}
    # Facts of an older version do not say.
    for said in ({}, known):
        write_facts_of(study, **said)
        run_study(study, dry_run=True)
    write_facts_of(study, **{**known, "lm_sha256": "0" * 64})
    with pytest.raises(InputError, match=r"chosen with other weights of score.lm \(000000000000, now \w{12}\)"):
        run_study(study, dry_run=True)
    write_facts_of(study, **{**known, "embedder_tokenizer_sha256": "0" * 64})
    with pytest.raises(InputError, match=r"chosen with another tokenizer of score.embedder \(000000000000, now"):
        run_study(study, dry_run=True)


def test_another_tokenizer_of_the_trained_model_is_refused(study: dict[str, Any]) -> None:
    finish({**study, "grid": [{**study["grid"][0], "methods": ["random"]}]})
    path = write_facts_of(study)
    facts = json.loads(path.read_text())
    now = tokenizer_sha256(Path(study["train"]["model"]))
    path.write_text(json.dumps({**facts, "train": {"tokenizer_sha256": now}}))
    assert grid_of(study).finished
    path.write_text(json.dumps({**facts, "train": {"tokenizer_sha256": "0" * 64}}))
    with pytest.raises(InputError, match=r"trained with another tokenizer of train.model \(000000000000, now \w{12}\)"):
        grid_of(study)


def test_facts_have_the_methods_that_the_task_can_have() -> None:
    assert METHODS.keys() - _methods(classes=True, sources=()).keys() == {"original_rows", "synthetic_rows"}
    assert METHODS.keys() - _methods(classes=True, sources=["synthetic"]).keys() == {"original_rows"}
    without = METHODS.keys() - _methods(classes=False, sources=["original", "synthetic"]).keys()
    assert without == {name for name, method in METHODS.items() if method.needs_classes} != set()


def test_a_class_of_the_pool_alone_has_a_place_in_every_head(study: dict[str, Any], write_jsonl: WriteJsonl) -> None:
    usual = grid_of(study)
    assert usual.bench.classes == {"0", "1"}
    rare = [{**row, "label": 2 if at % 4 == 0 else row["label"]} for at, row in enumerate(rows(200, 0))]
    study = changed(study, data={"train": str(write_jsonl(rare, "rare.jsonl")), "validation": 1})
    splits = take_splits(load_study(study))
    known = [row for row in splits.validation if row["label"] != 2] or list(splits.test[:1])
    grid = Grid(load_study(study), replace(splits, validation=known))
    assert grid.bench.classes == {"0", "1", "2"}
    # Their cells are none of those of a smaller head; all others keep their names.
    assert "classes" not in usual._shared
    assert grid._shared["classes"] == ["2"]


def test_a_machine_is_known_by_its_gpu_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone = processor.__wrapped__()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Some GPU")
    assert processor.__wrapped__() == f"{alone} + Some GPU"
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert _cpu(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    core = "processor : {}\ncpu family\t: 6\nmodel\t\t: {}\nmodel name\t: Some CPU\nstepping\t: 1\n\n"
    (tmp_path / "cpuinfo").write_text(core.format(0, 167) + core.format(1, 5))
    assert _cpu(tmp_path / "cpuinfo") == "Some CPU (family 6, model 167, stepping 1)"
    (tmp_path / "cpuinfo").write_text("processor : 0\nCPU part : 0xd40\n")
    assert _cpu(tmp_path / "cpuinfo") == _cpu(tmp_path / "nothing")
    assert _cpu(tmp_path / "nothing").startswith("unknown (")
