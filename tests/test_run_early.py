"""What a recipe's training would refuse is told before its pool is scored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import euds
from euds.errors import EudsError, InputError, InvalidArgument
from euds.files import file_sha256
from euds.pipeline.data import take_data
from euds.pipeline.recipe import load_recipe

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


@pytest.fixture
def recipe(write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, tiny_encoder: Path) -> dict[str, Any]:
    rows = [{"text": text, "label": at % 2} for at, text in enumerate(make_texts(60, 3))]
    return {
        "out": str(tmp_path / "run"),
        "seeds": 1,
        "data": {"train": str(write_jsonl(rows, "pool.jsonl")), "test": str(write_jsonl(rows[:9], "test.jsonl"))},
        "score": {"measures": ["information"]},
        "select": {"keep": 0.5, "methods": ["random", "information"]},
        "train": {"model": str(tiny_encoder), "steps": 1},
        "report": False,
    }


@pytest.fixture
def question_recipe(recipe: dict[str, Any], write_jsonl: WriteJsonl) -> dict[str, Any]:
    def row(question: str) -> dict[str, Any]:
        return {"question": question, "context": "the film was sad", "answers": {"text": ["sad"], "answer_start": [13]}}

    pool, test = ([row("what was the film"), row("who was it " * times)] for times in (1, 2))
    data = {"train": str(write_jsonl(pool, "asked.jsonl")), "test": str(write_jsonl(test, "tested.jsonl"))}
    return {**recipe, "task": "question_answering", "data": data, "select": {"keep": 1, "methods": ["random"]}}


@pytest.fixture(autouse=True)
def never_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("nothing is scored")

    monkeypatch.setattr("euds.engine.run.run_plan", never)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_model_that_cannot_be_trained_is_refused(
    recipe: dict[str, Any], tmp_path: Path, tiny_encoder: Path, *, dry_run: bool
) -> None:
    model = Path(shutil.copytree(tiny_encoder, tmp_path / "model"))
    recipe = {**recipe, "train": {"model": str(model), "steps": 1}}
    settings = json.loads((model / "tokenizer_config.json").read_text())
    _write(model / "tokenizer_config.json", {**settings, "pad_token": None})
    with pytest.raises(InputError, match="has no padding token"):
        euds.run(recipe, dry_run=dry_run)
    _write(model / "tokenizer_config.json", settings)
    _write(model / "config.json", {"model_type": "unheard-of"})
    with pytest.raises(InputError, match="not a configuration that transformers knows"):
        euds.run(recipe, dry_run=dry_run)
    for path in model.glob("*token*"):
        path.unlink()
    with pytest.raises(InputError, match="tokenizer"):
        euds.run(recipe, dry_run=dry_run)
    assert not Path(recipe["out"]).exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_question_without_room_for_its_passage_is_refused(question_recipe: dict[str, Any], *, dry_run: bool) -> None:
    # The longest is one of the test rows.
    with pytest.raises(InputError, match="max_tokens: a question of 6 tokens leaves too few of 12"):
        euds.run(question_recipe, ["train.max_tokens=12"], dry_run=dry_run)
    assert not Path(question_recipe["out"]).exists()
    assert euds.run(question_recipe, ["train.max_tokens=16"], dry_run=True) is None


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("select", "message"),
    [
        (["select.methods=[random, validated]"], r"select.methods: validated: .* the 60 labelled rows gives 12"),
        (["select.keep=auto"], "select.methods: information: keep: 60 rows are too few for learning curves"),
        (
            ["select.methods=[{name: own, rule: middle, axes: [information], keep: auto}]"],
            "select.methods: own: keep: 60 rows are too few",
        ),
    ],
)
def test_labels_too_few_for_a_split_are_refused(
    recipe: dict[str, Any], select: list[str], message: str, *, dry_run: bool
) -> None:
    axes = "{name: validated, rule: validated, axes: [information]}"
    with pytest.raises(InputError, match=message):
        euds.run(recipe, [line.replace("validated]", f"{axes}]") for line in select], dry_run=dry_run)
    assert not Path(recipe["out"]).exists()


def test_a_pool_of_one_class_is_refused(recipe: dict[str, Any], write_jsonl: WriteJsonl) -> None:
    same = str(write_jsonl([{"text": f"the film {at}", "label": 1} for at in range(300)], "same.jsonl"))
    data = {"train": same, "test": same}
    two = {**data, "test": recipe["data"]["test"]}
    for given in (data, two):
        with pytest.raises(InputError, match=r"data\.train: .*same\.jsonl: all rows have the label '1'; a classifier"):
            euds.run({**recipe, "data": given}, dry_run=True)
    with pytest.raises(InputError, match=r"data\.train: .*same\.jsonl: all rows of the sample that data\.limit takes"):
        euds.run({**recipe, "data": data}, ["data.limit=20"], dry_run=True)
    rare = str(write_jsonl([{"text": f"the film {at}", "label": int(at > 0)} for at in range(300)], "rare.jsonl"))
    with pytest.raises(InputError, match=r"select.methods: information: a validation split needs"):
        euds.run({**recipe, "data": {"train": rare, "test": same}}, ["select.keep=auto"], dry_run=True)


def test_test_rows_of_a_label_that_cannot_be_learned_are_counted_aloud(
    recipe: dict[str, Any], write_jsonl: WriteJsonl, capsys: pytest.CaptureFixture[str]
) -> None:
    euds.run(recipe, dry_run=True)
    assert "label that no training row has" not in capsys.readouterr().err
    test = [{"text": f"a plot {at}", "label": label} for at, label in enumerate((0, "other", "new", 1, "new"))]
    data = {**recipe["data"], "test": str(write_jsonl(test, "more.jsonl"))}
    euds.run({**recipe, "data": data}, dry_run=True)
    said = capsys.readouterr().err
    assert "warning: 3 of 5 test rows have a label that no training row has: 'new', 'other'; no model gets" in said


def test_a_dry_run_passes_what_can_be_trained(recipe: dict[str, Any]) -> None:
    assert euds.run(recipe, dry_run=True) is None


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("out=''", "out: is empty"),
        ("out=s3://bucket/run", "out: must be a local path"),
        ("score.measures=[infomation]", r"unknown value 'infomation' \(did you mean 'information'\?\)"),
        ("score.measures=[]", "measures: name at least one"),
        ("score={measures: [generative], lm: nomodel}", "model 'nomodel': no such folder"),
        ("score={measures: [information], cache: s3://bucket}", "cache: must be a local path"),
    ],
)
def test_what_scoring_would_refuse_leaves_no_file(
    recipe: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    message: str,
    *,
    dry_run: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(EudsError, match=message):
        euds.run(recipe, [override, "select.methods=[random]"], dry_run=dry_run)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("name", ["pool.jsonl", "test.jsonl"])
def test_no_file_of_somebodys_own_is_written_over(
    recipe: dict[str, Any], tmp_path: Path, name: str, *, dry_run: bool
) -> None:
    own = tmp_path / "run" / "data" / name
    own.parent.mkdir(parents=True)
    limits = ["data.limit=20", "data.test_limit=5"]
    # Either split may be read from there, also by another name of the same file.
    for split in ("train", "test"):
        shutil.copy(recipe["data"][split], own)
        content = own.read_bytes()
        link = tmp_path / f"{split}-link.jsonl"
        link.symlink_to(own)
        for file in (own, link):
            data = {**recipe["data"], split: str(file)}
            with pytest.raises(InputError, match=f"{name}: is an input, and the run would write over it"):
                euds.run({**recipe, "data": data}, limits, dry_run=dry_run)
        assert own.read_bytes() == content
    # A run of other rows beside it does not make it one of its files.
    for _ in range(2):
        own.write_text('{"text": "my own", "label": 1}\n')
        with pytest.raises(InputError, match=f"{name}: holds other rows and is of no run"):
            euds.run(recipe, dry_run=dry_run)
        assert own.read_text() == '{"text": "my own", "label": 1}\n'
        assert [path.name for path in own.parent.iterdir()] == [name]
        entry = {"path": "/elsewhere/pool.jsonl", "sha256": file_sha256(Path(recipe["data"]["train"])), "rows": 1}
        config = {"shard_rows": 1024}
        manifest = {"format": 1, "config": config, "fingerprint": {}, "inputs": [entry], "finished": False}
        _write(tmp_path / "run" / "manifest.json", manifest)


@pytest.mark.parametrize("way", ["moved", "copied", "linked"])
def test_a_run_knows_its_test_rows_wherever_it_lies(recipe: dict[str, Any], tmp_path: Path, way: str) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    data = take_data(load_recipe(recipe))
    entry = {"path": str(data.pool.absolute()), "sha256": file_sha256(data.pool), "rows": 60}
    manifest = {"format": 1, "config": {"shard_rows": 1024}, "fingerprint": {}, "inputs": [entry], "finished": False}
    _write(run / "manifest.json", manifest)
    if way == "moved":
        run.rename(elsewhere)
    elif way == "copied":
        shutil.copytree(run, elsewhere)
    else:
        elsewhere.symlink_to(run)
    fewer = load_recipe({**recipe, "out": str(elsewhere)}, ["data.test_limit=5"])
    taken = take_data(fewer)
    assert taken.test == elsewhere / "data" / "test.jsonl"
    assert len(taken.test.read_text().splitlines()) == 5
    # Without its pool there is nothing to know it by.
    taken.pool.unlink()
    with pytest.raises(InputError, match=r"test\.jsonl: holds other rows and is of no run"):
        take_data(load_recipe({**recipe, "out": str(elsewhere)}))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


def test_a_budget_beyond_the_pool_leaves_nothing_that_the_mended_recipe_meets(recipe: dict[str, Any]) -> None:
    recipe["select"] = {"keep": 40, "methods": ["random"]}
    recipe["data"]["limit"] = 30
    with pytest.raises(
        InvalidArgument, match=r"random: keep: give a fraction in \(0, 1\] or a count in 1\.\.30, got 40"
    ):
        euds.run(recipe)
    assert not Path(recipe["out"], "data").exists()
    recipe["data"]["limit"] = 50
    with pytest.raises(AssertionError, match="nothing is scored"):
        euds.run(recipe)
