"""Fine-tuning: tasks that can be learned are learned, metrics follow their definitions, cells are trained once."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import euds
from euds.cli.finetune import finetune as command
from euds.errors import EudsError, InputError, InvalidArgument, RunStopped
from euds.measures.models import load_model
from euds.study.compare import compare
from euds.study.examples import examples_of
from euds.study.heads import AnswerHead
from euds.study.metrics import answer_metrics, classification_metrics, normalise, token_f1
from euds.study.table import caption, keep_name, lines
from euds.study.types import MethodRows, Task, TrainConfig, spread

WriteJsonl = Callable[..., Path]
TASK = Task("classification", ("text",), "label")
QA = Task("question_answering", ("question", "context"), "answers")


def sentiment(n: int, seed: int) -> list[dict[str, object]]:
    """Texts whose label one word decides."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for _ in range(n):
        good = bool(rng.integers(2))
        word = "wonderful" if good else "terrible"
        others = rng.choice(["the", "film", "plot", "was", "story", "it", "scene"], size=int(rng.integers(1, 6)))
        rows.append({"text": " ".join([*others, word]), "label": int(good)})
    return rows


def question(context: str, answer: str) -> dict[str, object]:
    return {
        "question": "what was it",
        "context": context,
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }


ONE_CLASS = [{"text": "a good film", "label": "good"}, {"text": "a fine film", "label": "good"}]
TWO_CLASSES = [*ONE_CLASS, {"text": "a bad film", "label": "bad"}]
LONG_QUESTION = {**question("a b c", "b"), "question": "what " * 50}


def test_a_single_text_task_is_learned_and_seeded(tiny_encoder: Path) -> None:
    arguments = {"model": tiny_encoder, "steps": 150, "learning_rate": 3e-3}
    train, test = sentiment(120, 0), sentiment(60, 1)
    first, second = euds.finetune(train, test, seeds=[0, 1], **arguments)  # type: ignore[arg-type]  # Mixed types.
    again = euds.finetune(train, test, seeds=[0], **arguments)[0]  # type: ignore[arg-type]  # Mixed types.
    assert first.metrics["accuracy"] > 0.9
    assert first.metrics == again.metrics
    assert (first.n_train, first.n_test, first.steps, first.seed, second.seed) == (120, 60, 150, 0, 1)


def test_bfloat16_and_batches_by_length_learn_as_much(tiny_encoder: Path) -> None:
    train, test = sentiment(120, 0), sentiment(60, 1)
    (found,) = euds.finetune(
        train, test, model=tiny_encoder, steps=150, learning_rate=3e-3, precision="bfloat16", by_length=True
    )
    assert found.metrics["accuracy"] > 0.9
    with pytest.raises(InvalidArgument, match="precision: unknown value 'half'"):
        euds.finetune(train, test, model=tiny_encoder, precision="half")


@pytest.mark.parametrize(("emulated", "precision"), [(True, "bfloat16"), (True, "float32"), (False, "bfloat16")])
def test_emulated_bfloat16_is_warned_of(
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    emulated: bool,
    precision: str,
) -> None:
    monkeypatch.setattr("euds.measures.device.emulates_bfloat16", lambda device: emulated)
    euds.finetune(sentiment(8, 0), sentiment(8, 1), model=tiny_encoder, steps=1, precision=precision)
    warned = "warning: precision: this processor has no instructions for bfloat16" in capsys.readouterr().err
    assert warned == (emulated and precision == "bfloat16")


def test_pairs_are_classified_by_both_texts(tiny_encoder: Path) -> None:
    rng = np.random.default_rng(0)
    words = np.array(["wonderful", "terrible"])
    rows = []
    for _ in range(200):
        text, aspect = rng.choice(words), "film"
        rows.append({"a": str(aspect), "b": f"the film was {text}", "label": str(text)})
    result = euds.finetune(
        rows[:150], rows[150:], model=tiny_encoder, text_field=["a", "b"], steps=60, learning_rate=3e-3
    )[0]
    assert result.metrics["accuracy"] > 0.9


def test_extractive_questions_are_learned(tiny_encoder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fillers = ["the", "a", "story", "scene", "is", "very", "long"]
    rows = []
    for _ in range(220):
        before, after = (" ".join(rng.choice(fillers, size=int(rng.integers(1, 8)))) for _ in range(2))
        rows.append(question(f"{before} wonderful {after}", "wonderful"))
    result = euds.finetune(
        rows[:180],
        rows[180:],
        model=tiny_encoder,
        task="question_answering",
        steps=120,
        learning_rate=3e-3,
        save_model=tmp_path / "model",
    )[0]
    assert result.metrics["exact_match"] > 0.8
    assert result.metrics["f1"] >= result.metrics["exact_match"]
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_answers_are_learned_by_a_tokenizer_that_pads_on_the_left(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "left"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    rows = [question("the film " * (at % 5) + "was sad", "sad") for at in range(20)]
    left, right = (
        euds.finetune(rows, rows, model=model, task="question_answering", steps=4)[0]
        for model in (folder, tiny_encoder)
    )
    assert left.metrics == right.metrics


def test_windows_cover_a_long_passage_and_spans_come_back_as_its_characters(tiny_encoder: Path) -> None:
    context = "the film was long " * 30 + "but wonderful in the ending " + "and sad " * 30
    example = examples_of([question(context, "wonderful in the ending")], QA, "training")
    head = AnswerHead(AutoTokenizer.from_pretrained(tiny_encoder), 40)
    training = head.training_features(example)
    assert 1 <= len(training) <= 3
    features = head.test_features(example)
    assert len(features) > 3
    found = []
    for feature in features:
        length = len(feature["input_ids"])
        target = next((t for t in training if t["input_ids"] == feature["input_ids"]), None)
        start, end = torch.zeros(length), torch.zeros(length)
        if target is not None:
            start[target["start_positions"]] = 9.0
            end[target["end_positions"]] = 9.0
        found.append({"start_logits": start, "end_logits": end})
    assert head.judge(example, found).metrics == {"f1": 1.0, "exact_match": 1.0}


def test_metrics_follow_their_definitions() -> None:
    assert classification_metrics([0, 0, 1, 1], [0, 0, 0, 1]) == pytest.approx(
        {"accuracy": 0.75, "macro_f1": (0.8 + 2 / 3) / 2}
    )
    # A class that the test rows lack does not count.
    assert classification_metrics([2, 0], [0, 0])["macro_f1"] == pytest.approx(2 / 3)
    assert normalise("The  Eiffel-Tower, a landmark!") == "eiffeltower landmark"
    assert token_f1("the big dog", "a dog") == pytest.approx(2 / 3)
    assert token_f1("", "") == 1.0
    assert token_f1("cat", "dog") == 0.0
    found = answer_metrics(["dog", "x"], [["the dog", "cat"], ["y z", "x z"]])
    assert found == {"f1": pytest.approx((1 + 2 / 3) / 2), "exact_match": 0.5}


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        ({"text": "a"}, TASK, "training row 2: no field 'label'"),
        ({"txt": "a", "label": 1}, TASK, r"no field 'text' \(did you mean 'txt'\?\)"),
        ({"text": " ", "label": 1}, TASK, "'text' must be text that is not empty"),
        ({"text": "a", "label": None}, TASK, "'label' must be text or an integer, got NoneType"),
        ({"text": "a", "label": 0.5}, TASK, "got float"),
        ({"question": "q", "context": "c", "answers": "c"}, QA, "'answers' must be"),
        ({"question": "q", "context": "c", "answers": {"text": [], "answer_start": []}}, QA, "at least one answer"),
        ({"question": "q", "context": "ab", "answers": {"text": ["b"], "answer_start": [0]}}, QA, "does not stand at"),
        ({"question": "q", "context": "ab", "answers": {"text": "ab", "answer_start": [0]}}, QA, "'answers' must be"),
        ({"question": "q", "context": "ab", "answers": {"text": ["ab"], "answer_start": 0}}, QA, "'answers' must be"),
        ({"question": "q", "context": "ab", "answers": {"text": ["b"], "answer_start": [-1]}}, QA, "'answers' must be"),
        ({"question": "q", "context": "ab", "answers": {"text": [None], "answer_start": [0]}}, QA, "'answers' must be"),
        ({"text": "\ud83d", "label": 1}, TASK, "half of a surrogate pair"),
    ],
)
def test_a_row_that_does_not_suit_the_task_is_named(row: dict[str, object], task: Task, message: str) -> None:
    good = {"text": "a", "label": 1, **question("b c", "c")}
    with pytest.raises(InputError, match=message):
        examples_of([good, row], task, "training")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "classify"}, "did you mean 'classification'"),
        ({"epochs": 0.0}, "epochs: must be finite and above 0"),
        ({"epochs": 5, "steps": 10}, "epochs, steps: give one of them; leave the other out"),
        ({"batch_size": 0}, "batch_size: must be at least 1"),
        ({"batch_size": True}, "batch_size: must be an integer, got True"),
        ({"steps": 2.5}, "steps: must be an integer, got 2.5"),
        ({"max_tokens": 64.0}, "max_tokens: must be an integer"),
        ({"learning_rate": "2e-4"}, "learning_rate: must be a number, got '2e-4'"),
        ({"max_tokens": 2}, "max_tokens: must be at least 8"),
        ({"task": "question_answering", "text_field": "text"}, "reads two fields"),
        ({"model": "no-such-model"}, "no such folder, and no asset"),
        ({"train": "nothing.jsonl"}, "no such file"),
        ({"train": []}, "there are no training rows"),
        ({"seeds": [-1]}, "seeds: must be in 0"),
        ({"seeds": []}, "seeds: give at least one"),
        (
            {"test": [{"text": "a", "label": "good"}]},
            "no label of the test rows is one of the training rows: 'good' against '0', '1'; write them alike",
        ),
        ({"train": ONE_CLASS, "test": ONE_CLASS}, "^train: all rows have the label 'good'; a classifier needs two"),
        ({"train": ONE_CLASS, "test": TWO_CLASSES}, "^train: all rows have the label 'good'; a classifier needs two"),
        ({"task": "question_answering", "train": [LONG_QUESTION], "test": [LONG_QUESTION]}, "leaves too few of 64"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, object], message: str, tiny_encoder: Path) -> None:
    arguments = {"train": sentiment(4, 0), "test": sentiment(4, 1), "model": tiny_encoder, **change}
    with pytest.raises(EudsError, match=message):
        euds.finetune(**arguments)  # type: ignore[arg-type]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match="give one of them"):
        TrainConfig("m", epochs=1.0, steps=1)


def test_a_bad_row_is_named_by_its_own_file_and_line(write_jsonl: WriteJsonl, tmp_path: Path) -> None:
    write_jsonl(sentiment(3, 0), "part-1.jsonl")
    second = write_jsonl(sentiment(1, 1), "part-2.jsonl")
    for line, message in (
        (
            '\n{"text": "a film", "label": null}\n',
            "part-2.jsonl, row 3: 'label' must be text or an integer, got NoneType",
        ),
        ("no row\n", "part-2.jsonl, row 2: .*; rows to train or test on must all be readable"),
    ):
        second.write_text(json.dumps(sentiment(1, 1)[0]) + "\n" + line)
        with pytest.raises(InputError, match=message):
            euds.finetune(sentiment(4, 0), tmp_path / "part-*.jsonl", model="not looked for yet")


def test_a_test_row_that_no_model_can_read_is_named_before_training(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("euds.study.cell.train_and_test", lambda *arguments, **named: pytest.fail("trained"))
    rows = [question("a b c", "b")]
    with pytest.raises(InputError, match=r"a question of .* leaves too few of 64 for its passage"):
        euds.finetune(rows, [*rows, LONG_QUESTION], model=tiny_encoder, task="question_answering")


def test_a_causal_model_is_fine_tuned_where_it_can_pad(tiny_lm: Path, tmp_path: Path) -> None:
    (result,) = euds.finetune(sentiment(8, 0), sentiment(8, 1), model=tiny_lm, steps=1)
    assert result.n_test == 8
    folder = Path(shutil.copytree(tiny_lm, tmp_path / "unpadded"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="has no padding token; fine-tune a BERT-like model"):
        euds.finetune(sentiment(8, 0), sentiment(8, 1), model=folder, steps=1)


def test_a_place_that_takes_no_result_is_named_before_training(
    tiny_encoder: Path, tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("nothing is trained")

    monkeypatch.setattr("euds.study.cell.train_and_test", never)
    rows = write_jsonl(sentiment(4, 0))
    with pytest.raises(InputError, match="File exists"):
        euds.finetune(rows, rows, model=tiny_encoder, save_model=rows)
    with pytest.raises(InputError, match="File exists"):
        command(str(rows), str(rows), str(tiny_encoder), out=str(rows / "results.json"))
    for out, said in ((str(tmp_path), r"out: .* is a folder; name a file"), ("s3://b/r", "out: must be a local path")):
        with pytest.raises(InvalidArgument, match=said):
            command(str(rows), str(rows), str(tiny_encoder), out=out)
    monkeypatch.setattr("os.access", lambda *arguments: False)
    with pytest.raises(InputError, match="model: Permission denied"):
        euds.finetune(rows, rows, model=tiny_encoder, save_model=tmp_path / "model")


def test_a_disk_too_full_for_the_model_leaves_the_results(
    tiny_encoder: Path, tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    rows, out, model = write_jsonl(sentiment(8, 0)), tmp_path / "results.json", tmp_path / "model"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(RunStopped, match="model: cannot be written: File too large; make room"):
            command(str(rows), str(rows), str(tiny_encoder), steps=1, seed=[3, 4], out=str(out), save_model=str(model))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [result["seed"] for result in json.loads(out.read_text())] == [3, 4]


def test_epochs_and_steps() -> None:
    assert TrainConfig("m").n_steps(240) == 45
    assert TrainConfig("m", epochs=0.5).n_steps(17) == 1
    assert TrainConfig("m", epochs=None, steps=7).n_steps(10**6) == 7


def test_small_budgets_are_not_shown_as_nothing() -> None:
    assert [keep_name(keep) for keep in (1.0, 0.16, 1 / 3, 0.0033, 5e-6)] == [
        "100 %",
        "16 %",
        "33.3 %",
        "0.33 %",
        "0.0005 %",
    ]


def test_spread() -> None:
    assert spread([1.0, 3.0]).sd == pytest.approx(2**0.5)
    assert spread([2.0]).sd is None


def test_a_comparison_trains_each_cell_once(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, test = sentiment(60, 0), sentiment(30, 1)
    methods = [
        MethodRows("full", None, (), np.arange(60), 0.0),
        MethodRows("random", "random", (), {0: np.arange(10), 1: np.arange(10, 20)}, 0.0),
        MethodRows("nll", "middle", ("nll_nats",), np.arange(10), 12.3, 4.56),
    ]
    arguments = {
        "task": TASK,
        "config": TrainConfig(str(tiny_encoder), epochs=None, steps=5),
        "seeds": [0, 1],
        "full_rows": 60,
        "folder": tmp_path,
    }
    table = compare(pool, test, methods, **arguments)  # type: ignore[arg-type]  # Mixed types.
    # Seed 0 of random and of nll train on the same rows: one cell.
    assert len(list((tmp_path / "cells").iterdir())) == 5

    def never(*positional: object, **named: object) -> None:
        raise AssertionError("a finished cell must not be trained again")

    monkeypatch.setattr("euds.study.cell.train_and_test", never)
    again = compare(pool, test, methods, **arguments)  # type: ignore[arg-type]  # Mixed types.
    assert again == table
    assert json.loads((tmp_path / "table.json").read_text()) == json.loads(json.dumps(table.to_json()))
    assert [(row.name, row.rows, row.keep) for row in table.methods] == [
        ("full", 60, 1.0),
        ("random", 10, 1 / 6),
        ("nll", 10, 1 / 6),
    ]
    assert len(table.methods[0].metrics["accuracy"].values) == 2
    nll = list(lines(table))[-1]
    assert (nll[:3], nll[-1]) == (["nll", "10", "16.7 %"], "17")
    assert "2 training seeds, 30 test rows, 5 steps" in caption(table)
    with pytest.raises(AssertionError, match="must not be trained again"):
        compare(pool, test[:29], methods, **arguments)  # type: ignore[arg-type]  # Mixed types.
    cell = next((tmp_path / "cells").iterdir())
    cell.write_text('{"metrics": {}}')
    with pytest.raises(InputError, match=f"{cell.name}: not a finished cell; remove it"):
        compare(pool, test, methods, **arguments)  # type: ignore[arg-type]  # Mixed types.


def test_texts_are_cut_at_the_models_positions_where_the_tokenizer_has_no_limit(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "unlimited"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["model_max_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    rows = [{"text": "film " * 100, "label": at % 2} for at in range(4)]
    (result,) = euds.finetune(rows, rows, model=folder, steps=1, max_tokens=512)
    assert result.steps == 1


def test_a_starved_class_keeps_its_place(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sentiment(20, 0)
    heads = []

    def counted(*arguments: Any, **named: Any) -> Any:
        heads.append(named["num_labels"])
        return load_model(*arguments, **named)

    monkeypatch.setattr("euds.study.cell.load_model", counted)
    euds.finetune(rows, [*rows, {"text": "the film", "label": 2}], model=tiny_encoder, steps=1)
    # Rows of one class from a pool of two, as a method may keep them.
    only = np.flatnonzero([row["label"] == 1 for row in rows])
    one = MethodRows("one", None, (), only, 0.0)
    config = TrainConfig(str(tiny_encoder), epochs=None, steps=1)
    arguments: dict[str, Any] = {"task": TASK, "config": config, "seeds": [0], "folder": tmp_path}
    (row,) = compare(rows, rows, [one], full_rows=20, **arguments).methods
    assert row.rows == len(only)
    # A class that the pool alone has.
    pool = [*rows, {"text": "the film", "label": 2}]
    methods = [MethodRows(str(n), None, (), np.arange(n), 0.0) for n in (21, 20)]
    for few in (pool, rows):
        compare(few, rows, methods[len(pool) - len(few) :], full_rows=len(few), **arguments)
    # The same rows with a smaller head are another cell.
    assert heads == [3, 2, 3, 3, 2]
