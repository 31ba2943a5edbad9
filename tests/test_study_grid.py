"""A study's grid: its file, its splits, and cells that are trained once."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_study import WriteJsonl, changed, rows
from typer.testing import CliRunner

from euds.assets import content_sha256
from euds.cli.app import app
from euds.errors import InputError, InvalidArgument, RunStopped
from euds.study.grid import execute
from euds.study.grid.cells import read_cells
from euds.study.grid.config import load_study, planned_cells
from euds.study.grid.methods import METHODS
from euds.study.grid.run import rerun_cell, run_study
from euds.study.grid.splits import take_splits
from euds.study.types import task_of


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"keep": [0.2], "seeds": 1, "steps": 5, "epochs": 1.0}, "give epochs or steps"),
        ({"keep": [0.2], "seeds": 1}, "grid.0: give epochs or steps"),
        ({"keep": [0.2], "seeds": 1, "epochs": float("inf")}, "grid.0.epochs: input should be a finite number"),
        ({"keep": [], "seeds": 1, "steps": 5}, "grid.0.keep: list should have at least 1 item"),
        ({"keep": [0.2], "seeds": 1, "steps": 5, "methods": []}, "grid.0.methods: list should have at least 1 item"),
        ({"keep": [0.0], "seeds": 1, "steps": 5}, r"fractions in \(0, 1\]"),
        ({"keep": [0.2], "seeds": 1, "steps": 5, "methods": ["igse_bux"]}, "did you mean 'igse_box'"),
        ({"keep": [0.2, 1.0], "seeds": 1, "steps": 5, "methods": ["full", "random"]}, r"full keeps .* keep: \[1.0\]"),
        (
            {"keep": [0.2], "seeds": 5, "steps": 5, "selections": 2, "methods": ["random"]},
            "selections: 2 and seeds: 5 trains random at keep 0.2 for 5 steps on too few draws; .* and without",
        ),
        ({"keep": [0.2], "seeds": 1, "step": 5}, "unknown key 'grid.0.step'.*did you mean 'steps'"),
    ],
)
def test_impossible_grids_are_refused(study: dict[str, Any], block: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        load_study({**study, "grid": [block]})


def test_settings_outside_the_blocks_are_named_by_their_keys(study: dict[str, Any]) -> None:
    for changes, message in (
        ({"grid": []}, "grid: list should have at least 1 item"),
        ({"train": {"max_tokens": 4}}, "train.max_tokens: must be at least 8, got 4"),
        ({"grid": study["grid"] * 2, "main_schedule": "9 steps"}, "known: 3 steps$"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            load_study(changed(study, **changes))


def test_few_draws_of_many_models_need_paired_ones_beside_them(study: dict[str, Any]) -> None:
    crossed = {"keep": [0.2], "seeds": 5, "steps": 5, "selections": 2, "methods": ["random"]}
    paired: dict[str, Any] = {"keep": [0.2, 0.3], "seeds": 5, "steps": 5}
    found = load_study({**study, "grid": [crossed, paired]})
    seeds = [(c.selection_seed, c.seed) for c in planned_cells(found) if (c.method, c.keep) == ("random", 0.2)]
    assert {(seed, seed) for seed in range(5)} <= set(seeds)
    for other in ({"seeds": 4}, {"steps": 6}, {"keep": [0.3]}, {"methods": ["igse_box"]}):
        with pytest.raises(InvalidArgument, match="on too few draws"):
            load_study({**study, "grid": [crossed, {**paired, **other}]})


def test_a_tilde_is_the_home_folder(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    found = load_study(study, ["out=~/run", "results=~/results", "repeats=~/first.yaml"])
    assert [found.out, found.results, found.repeats] == [
        "/home/somebody/run",
        "/home/somebody/results",
        "/home/somebody/first.yaml",
    ]


def test_a_main_schedule_is_one_of_the_grid(study: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"main_schedule: unknown value '4 steps'.*known: 3 steps"):
        load_study({**study, "main_schedule": "4 steps"})
    assert load_study({**study, "main_schedule": "3 steps"}).main_schedule == "3 steps"


def test_a_box_that_holds_the_whole_pool_is_not_planned(study: dict[str, Any]) -> None:
    block = {"keep": [0.16, 0.3], "seeds": 1, "steps": 3, "methods": ["box4_facility", "facility"]}
    found = planned_cells(load_study({**study, "grid": [block]}))
    places = {(cell.method, cell.keep) for cell in found}
    assert places == {("box4_facility", 0.16), ("facility", 0.16), ("facility", 0.3)}


def test_what_the_last_file_lacks_is_told_before_the_first_is_trained(
    study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("euds.study.grid.run.measure", lambda *_: pytest.fail("it was scored"))
    files = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    files[0].write_text(json.dumps(study))
    files[1].write_text(json.dumps(changed(study, data={"test": "nowhere.jsonl"}, name="two", out="two")))
    command = ["study", *map(str, files)]
    assert "nowhere.jsonl" in str(CliRunner().invoke(app, command).exception)
    taken = tmp_path / "file"
    taken.write_text("")
    assert "Not a directory" in str(CliRunner().invoke(app, [*command, "--page", str(taken / "page")]).exception)
    monkeypatch.setattr("euds.report.find_spec", lambda name: None)
    found = CliRunner().invoke(app, [*command, "--page", str(tmp_path / "page")]).exception
    assert "pip install '.[report]'" in str(found)


@pytest.mark.parametrize("option", ["--dry-run", "--page=page", "--workers=2", "--no-train"])
def test_a_cell_is_not_trained_again_by_the_way(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("euds.study.grid.run.rerun_cell", lambda *_: pytest.fail("it was"))
    found = CliRunner().invoke(app, ["study", "study.yaml", "--rerun", "random", option])
    assert isinstance(found.exception, InvalidArgument)
    assert "leave out --dry-run, --page, --workers and --no-train" in str(found.exception)


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        (
            "train",
            {"text": "the film was good", "label": None},
            r"train\.jsonl, row 201: 'label' must be text or an integer",
        ),
        ("train", {"text": None, "label": 1}, r"train\.jsonl, row 201: 'text' must be text"),
        ("test", {"text": "the film was good"}, r"test\.jsonl, row 31: no field 'label'"),
    ],
)
def test_a_row_that_does_not_suit_the_task_is_named_before_anything_is_scored(
    study: dict[str, Any], file: str, row: dict[str, object], message: str
) -> None:
    with Path(study["data"][file]).open("a") as handle:
        handle.write(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message):
        run_study(study, dry_run=True)


def test_labels_that_are_written_otherwise_in_the_test_file_are_named(
    study: dict[str, Any], write_jsonl: WriteJsonl
) -> None:
    test = write_jsonl([{**row, "label": f"class {row['label']}"} for row in rows(30, 1)], "words.jsonl")
    with pytest.raises(InputError, match="no label of the test rows is one of the training rows: 'class 0', 'class 1'"):
        take_splits(load_study(changed(study, data={"test": str(test)})))


def test_rows_of_other_classes_are_left_out(study: dict[str, Any], write_jsonl: WriteJsonl) -> None:
    three = [{**row, "label": at % 3} for at, row in enumerate(rows(300, 0))]
    study = changed(study, data={"train": str(write_jsonl(three, "three.jsonl")), "classes": ["0", "1"]})
    splits = take_splits(load_study(study))
    assert {row["label"] for part in (splits.pool, splits.validation, splits.test) for row in part} == {0, 1}
    assert splits.counts["raw_train"] == 200
    with pytest.raises(InvalidArgument, match=r"data.classes: .*three.jsonl: unknown value '3'"):
        take_splits(load_study(changed(study, data={"classes": ["0", "3"]})))
    with pytest.raises(InvalidArgument, match=r"data.classes: task question_answering has no classes"):
        load_study(changed(study, task="question_answering"))


def test_passages_are_cut_and_rows_whose_answer_lies_beyond_are_left_out(
    study: dict[str, Any], write_jsonl: WriteJsonl
) -> None:
    def asked(at: int, place: int) -> dict[str, Any]:
        words = [f"w{at}x{word}" for word in range(9)]
        passage = " ".join(words)
        return {
            "question": f"which word comes at {place} of {at}",
            "context": f"  {passage}",
            "answers": {"text": [words[place]], "answer_start": [2 + passage.index(words[place])]},
        }

    train = [asked(at, at % 9) for at in range(90)]
    data = {
        "train": str(write_jsonl(train, "q.jsonl")),
        "test": str(write_jsonl([asked(at, 4 + at % 2) for at in range(100, 110)], "t.jsonl")),
        "passage_words": 5,
        "text_field": None,
        "label_field": None,
        "pool": 30,
        "validation": 10,
        "test_rows": 5,
    }
    questions = changed(
        study, task="question_answering", data=data, grid=[{"keep": [1.0], "steps": 1, "seeds": 1, "methods": ["full"]}]
    )
    splits = take_splits(load_study(questions))
    assert (splits.counts["raw_train"], splits.counts["raw_test"]) == (50, 5)
    for row in [*splits.pool, *splits.validation, *splits.test]:
        answer, start = row["answers"]["text"][0], row["answers"]["answer_start"][0]
        assert len(row["context"].split()) == 5
        assert row["context"][start : start + len(answer)] == answer
    with pytest.raises(InvalidArgument, match=r"data.passage_words: task classification has no passages"):
        load_study(changed(study, data={"passage_words": 5}))


def test_questions_have_no_methods_with_classes(study: dict[str, Any]) -> None:
    asked = {"keep": [0.2], "seeds": 1, "steps": 5, "methods": ["label_surprisal_low"]}
    with pytest.raises(InvalidArgument, match="label_surprisal_low needs classes"):
        load_study({**study, "task": "question_answering", "grid": [asked]})
    every = load_study({**study, "task": "question_answering", "grid": [{"keep": [0.2], "seeds": 1, "steps": 5}]})
    assert {cell.method for cell in planned_cells(every)} == {
        name
        for name, method in METHODS.items()
        if name != "full" and not method.needs_classes and method.source is None
    }


def test_rows_of_one_source_need_sources(study: dict[str, Any]) -> None:
    asked = {"keep": [0.2], "seeds": 1, "steps": 5, "methods": ["original_rows"]}
    with pytest.raises(InvalidArgument, match=r"original_rows needs sources; name their field in data\.source_field"):
        load_study({**study, "grid": [asked]})


def test_cells_are_planned_once_and_in_turns(study: dict[str, Any]) -> None:
    few = {"keep": [0.2], "seeds": 2, "steps": 5, "methods": ["random", "igse_box"]}
    grid = [few, {**few, "seeds": 3}, {**few, "methods": ["random"], "seeds": 2, "selections": 2}]
    cells = [
        (cell.method, cell.selection_seed, cell.seed) for cell in planned_cells(load_study({**study, "grid": grid}))
    ]
    by_turns = [(name, seed, seed) for seed in range(3) for name in ("random", "igse_box")]
    assert cells == [*by_turns, ("random", 1, 0), ("random", 0, 1)]


def test_splits_share_no_text_and_are_seeded(study: dict[str, Any], write_jsonl: WriteJsonl) -> None:
    long = "one two three four five six seven eight nine"
    train = [{"text": f"{long} {at}", "label": 0} for at in range(10)]
    train += [{"text": f"{at} a{at} b{at} c{at}", "label": 1} for at in range(60)]
    test = [{"text": f"{long} ten", "label": 0}]
    data = {
        "train": str(write_jsonl(train, "a.jsonl")),
        "test": str(write_jsonl(test, "b.jsonl")),
        "pool": 30,
        "validation": 10,
        "test_rows": 1,
    }
    splits = take_splits(load_study(changed(study, data=data)))
    assert splits.counts["near_duplicates_of_test"] == 10
    assert splits.counts["near_duplicates_within_train"] == 9
    texts = [{row["text"] for row in part} for part in (splits.pool, splits.validation, splits.test)]
    assert [len(part) for part in texts] == [30, 10, 1]
    assert not any(long in text for text in texts[0] | texts[1])
    assert not texts[0] & texts[1]
    again = take_splits(load_study(changed(study, data=data)))
    assert (list(again.pool), list(again.validation)) == (list(splits.pool), list(splits.validation))
    other = take_splits(load_study(changed(study, data={**data, "seed": 1})))
    assert list(other.pool) != list(splits.pool)
    with pytest.raises(InputError, match=r"data\.pool: 80 rows are asked for, but only 50 are left"):
        take_splits(load_study(changed(study, data={**data, "pool": 80})))


def test_a_study_trains_each_cell_once_and_can_repeat_it(study: dict[str, Any], tmp_path: Path) -> None:
    done = run_study(study, workers=2)
    assert (done.n_cells, done.n_trained) == (8, 8)
    cells = read_cells(done.cells_path)
    assert {(cell.method, cell.seed) for cell in cells} == {
        (name, seed) for name in ("random", "igse_box", "el2n_low", "leaked") for seed in (0, 1)
    }
    for cell in cells:
        assert (cell.n_train, cell.steps, len(cell.test_scores)) == (22, 3, 25)
        assert cell.metrics["test"]["accuracy"] == pytest.approx(cell.test_scores.mean())
        assert len(cell.selected) == (0 if cell.method == "leaked" else 22)
    facts = json.loads(done.facts_path.read_text())
    assert {cell.processor for cell in cells} == {facts["machine"]["cpu"]}
    assert facts["methods"]["igse_box"]["uses_labels"] is False
    assert len(facts["rows"]["scores"]["el2n"]) == facts["rows"]["n_pool_positions"] == 110
    assert facts["seconds"]["generative"] > 0
    assert facts["scoring_model"]["lm_sha256"] == content_sha256(Path(study["score"]["lm"]))
    assert run_study(study).n_trained == 0
    assert json.loads(done.facts_path.read_text()) == facts
    assert run_study({**study, "grid": [{**study["grid"][0], "seeds": 3}]}, dry_run=True).n_cells == 12
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(study))
    for cell in (cells[0], next(cell for cell in cells if cell.method == "leaked")):
        again, tuned = rerun_cell(path, [], cell.cell)
        assert again.cell == cell.cell
        assert dict(tuned.judged["test"].metrics) == dict(cell.metrics["test"])
    with pytest.raises(InputError, match="no finished cell 'xyz'"):
        rerun_cell(path, [], "xyz")
    with pytest.raises(InputError, match="8 cells begin with ''; give more digits"):
        rerun_cell(path, [], "")
    with pytest.raises(InvalidArgument, match="workers: must be at least 1, got 0"):
        run_study(study, workers=0)
    without = run_study(
        {**study, "results": str(tmp_path / "few"), "grid": [{**study["grid"][0], "methods": ["random"]}]}
    )
    assert "el2n" not in json.loads(without.facts_path.read_text())["seconds"]
    with pytest.raises(InputError, match="trained with other data, settings or versions"):
        run_study(changed(study, train={"learning_rate": 1e-3}))
    with pytest.raises(InputError, match=r"chosen with score.max_tokens: 256, now it is 32; set `results`"):
        run_study(changed(study, score={"max_tokens": 32}))


@pytest.mark.parametrize(("folder", "lock"), [("out", "study.lock"), ("results", "tiny.cells.lock")])
def test_two_processes_do_not_train_one_study(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch, folder: str, lock: str
) -> None:
    monkeypatch.setattr("euds.study.grid.run.measure", lambda *_: pytest.fail("it was scored"))
    Path(study[folder]).mkdir()
    with (Path(study[folder]) / lock).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=f"{study[folder]}: another process is training this study"):
            run_study(study)
        assert run_study(study, dry_run=True).n_trained == 0


def test_a_lock_that_may_not_be_opened_is_named(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lock, whole = Path(study["results"]) / "tiny.cells.lock", Path.open

    def another_users(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if path == lock:
            raise PermissionError(errno.EACCES, "Permission denied")
        return whole(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", another_users)
    with pytest.raises(InputError, match=r"tiny\.cells\.lock: Permission denied"):
        run_study(study)


def test_a_file_system_without_locks_is_named(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(InputError, match=r"study\.lock: no lock can be had there \(No locks available\); .* flock"):
        run_study(study)


def test_what_cannot_be_trained_is_told_before_anything_is_scored(
    study: dict[str, Any], write_jsonl: WriteJsonl, tiny_lm: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_lm, tmp_path / "unpadded"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="has no padding token"):
        run_study(changed(study, train={"model": str(folder)}), dry_run=True)
    one = [write_jsonl([{**row, "label": 1} for row in rows(n, n)], f"{n}.jsonl") for n in (200, 30)]
    with pytest.raises(InputError, match="all rows have the label '1'; a classifier needs two"):
        run_study(changed(study, data={"train": str(one[0]), "test": str(one[1])}))
    asked = [
        {
            "question": "what is it " * (30 if at % 9 == 0 else 1),
            "context": f"a{at} of {at}",
            "answers": {"text": [f"a{at}"], "answer_start": [0]},
        }
        for at in range(300)
    ]
    data = {"train": str(write_jsonl(asked[:250], "q.jsonl")), "test": str(write_jsonl(asked[250:], "t.jsonl"))}
    grid = [{**study["grid"][0], "methods": ["random"]}]
    with pytest.raises(InputError, match="a question of 90 tokens leaves too few of 64 for its passage"):
        run_study(changed(study, task="question_answering", data=data, grid=grid))
    assert not Path(study["out"]).exists()


def test_what_others_finished_outlasts_a_worker_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    dead: Future[Any] = Future()
    dead.set_exception(BrokenProcessPool())
    done: Future[Any] = Future()
    done.set_result("tuned")
    futures = [dead, done]
    pool = SimpleNamespace(submit=lambda _, at: futures[at], shutdown=lambda **_: None)
    monkeypatch.setattr("euds.processes.ProcessPoolExecutor", lambda *_, **__: pool)
    monkeypatch.setattr("euds.processes.wait", lambda *_, **__: (futures, []))
    handed: list[tuple[Any, Any]] = []
    jobs: Any = [0, 1]
    bench = execute.Bench(task_of("classification"), {}, frozenset())
    with pytest.raises(RunStopped, match="a training process was killed"):
        execute.train_jobs(jobs, bench, workers=1, on_done=lambda job, tuned: handed.append((job, tuned)))
    assert handed == [(1, "tuned")]


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(study: dict[str, Any], tmp_path: Path) -> None:
    grid = [{"keep": [0.3], "steps": 12, "seeds": 6, "methods": ["random", "igse_box", "k_center"]}]
    whole = run_study({**study, "grid": grid, "results": str(tmp_path / "whole")}, workers=1)
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({**study, "grid": grid}))
    command = [sys.executable, "-m", "euds", "study", str(path), "--workers", "2"]
    cells_path = Path(study["results"]) / "tiny.cells.jsonl"
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not cells_path.exists() or cells_path.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    n_before = len(read_cells(cells_path))
    assert 3 <= n_before < 18
    assert run_study(path).n_trained == 18 - n_before

    def outcome(path: Path) -> dict[str, Any]:
        return {cell.cell: (cell.key, dict(cell.metrics["test"])) for cell in read_cells(path)}

    assert outcome(cells_path) == outcome(whole.cells_path)
