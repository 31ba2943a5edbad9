"""The entailment model on a tiny random cross-encoder: its labels, its batches, its questions."""

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from euds.errors import InputError, InvalidArgument
from euds.measures.device import precision
from euds.measures.entailment import (
    EntailmentModel,
    JudgmentNotFinite,
    entailment_label,
    entailment_meanings,
)
from euds.reference import grouping as reference
from euds.types import BoolArray


@pytest.fixture(scope="module")
def model(tiny_nli: Path) -> EntailmentModel:
    return EntailmentModel(tiny_nli, precision("cpu"), token_budget=50)


def texts(n: int) -> list[str]:
    words = ["film", "movie", "plot", "actor", "scene", "wonderful", "terrible", "dull", "bright", "funny"]
    rng = np.random.default_rng(5)
    return [" ".join(rng.choice(words, size=int(rng.integers(1, 9)))) for _ in range(n)]


def test_batches_answer_like_pairs_alone_and_like_the_model_itself(model: EntailmentModel) -> None:
    import torch

    premises, hypotheses = texts(60)[:30], texts(60)[30:]
    found = model.entails(premises, hypotheses)
    alone = [model.entails([left], [right])[0] for left, right in zip(premises, hypotheses, strict=True)]
    with torch.inference_mode():
        whole = model.model(**model.tokenizer(premises, hypotheses, padding=True, return_tensors="pt")).logits
    assert found.tolist() == alone == (whole.argmax(1) == 2).tolist()
    assert 0 < found.sum() < 30
    assert model.entails([], []).shape == (0,)


def test_questions_stand_in_front_of_both_sides(model: EntailmentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def entails(premises: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        pairs.update(zip(premises, hypotheses, strict=True))
        return np.array([left[-1] == right[-1] for left, right in zip(premises, hypotheses, strict=True)])

    pairs: set[tuple[str, str]] = set()
    monkeypatch.setattr(model, "entails", entails)
    answers, offsets = ["an a", "a b", "the a", " ", "", "an a", "a b"], [0, 5, 7]
    found = entailment_meanings(answers, offsets, model, questions=["Who?", "What?"])
    assert found.groups.tolist() == [0, 1, 0, 2, 2, 0, 1]
    assert pairs == {
        ("Who? an a", "Who? a b"),
        ("Who? an a", "Who? the a"),
        ("Who? the a", "Who? an a"),
        ("What? an a", "What? a b"),
    }
    # Without questions, the second sample's only pair has been asked in the first.
    assert entailment_meanings(answers, offsets, model).n_evaluated == 3


def test_a_question_that_leaves_no_room_is_cut_and_the_answers_are_judged_whole(
    model: EntailmentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entails(premises: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        pairs.update(zip(premises, hypotheses, strict=True))
        return np.array([left[-4:] == right[-4:] for left, right in zip(premises, hypotheses, strict=True)])

    pairs: set[tuple[str, str]] = set()
    monkeypatch.setattr(model, "entails", entails)
    answers = ["wonderful film", "terrible plot", "bright film"]
    found = entailment_meanings([*answers, *answers], [0, 3, 6], model, questions=["was it the movie " * 40, "why"])
    assert found.groups.tolist() == [0, 1, 0] * 2
    for pair in pairs:
        assert len(model.tokenizer(*pair)["input_ids"]) <= model.max_tokens == 64
        assert all(text.endswith(tuple(answers)) for text in pair)
        assert all(text.startswith(("why ", "was it the movie was it the movie was")) for text in pair)


@pytest.mark.parametrize(("family", "reads"), [("roberta", 62), ("camembert", 62), ("mpnet", 62), ("bert", 64)])
def test_pairs_are_cut_where_the_positions_of_a_family_end(
    family: str, reads: int, tmp_path: Path, tiny_nli: Path
) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig

    given = BertConfig.from_pretrained(tiny_nli).to_diff_dict()
    shape = {name: value for name, value in given.items() if name not in ("model_type", "architectures")}
    config = AutoConfig.for_model(family, **{**shape, "pad_token_id": 1 if reads == 62 else 0})
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    shutil.copy(tiny_nli / "tokenizer.json", tmp_path)
    settings = json.loads((tiny_nli / "tokenizer_config.json").read_text())
    del settings["model_max_length"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    model = EntailmentModel(tmp_path, precision("cpu"))
    assert model.max_tokens == reads
    model.entails(["film " * 100], ["plot " * 100])
    assert model.n_truncated == 1


def test_a_decoder_judges_in_batches_as_it_judges_alone(tmp_path: Path, tiny_lm: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig.from_pretrained(tiny_lm, id2label={0: "entailment", 1: "neutral"}, pad_token_id=None)
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    for file in tiny_lm.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    model = EntailmentModel(tmp_path, precision("cpu"))
    premises, hypotheses = texts(40)[:20], texts(40)[20:]
    alone = [model.entails([left], [right])[0] for left, right in zip(premises, hypotheses, strict=True)]
    assert model.entails(premises, hypotheses).tolist() == alone
    assert 0 < sum(alone) < 20


def test_a_model_without_a_padding_token_is_refused(tmp_path: Path, tiny_nli: Path) -> None:
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(tiny_nli, tmp_path / "nli"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="nli: its tokenizer has no padding token"):
        EntailmentModel(folder, precision("cpu"))


def test_meanings_of_a_model_equal_the_definition(model: EntailmentModel) -> None:
    answers, offsets = texts(10), [0, 4, 10]
    found = entailment_meanings(answers, offsets, model)
    oracle = []
    for start, stop in pairwise(offsets):
        same = reference.mutual(answers[start:stop], lambda left, right: bool(model.entails([left], [right])[0]))
        oracle += reference.by_first_member(stop - start, same)
    assert found.groups.tolist() == oracle
    assert 0 < found.n_evaluated < found.n_all_pairs


def test_pairs_that_are_too_long_are_cut_and_counted(tiny_nli: Path) -> None:
    model = EntailmentModel(tiny_nli, precision("cpu"))
    assert model.max_tokens == 64
    model.entails(["film " * 100, "film", "film " * 31], ["plot", "plot", "plot " * 30])
    assert model.n_truncated == 1


def test_pairs_of_a_grouping_that_failed_do_not_count(model: EntailmentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, offsets = texts(10), [0, 4, 10]
    n_tokens = model.n_tokens
    entailment_meanings(answers, offsets, model)
    of_one = model.n_tokens - n_tokens
    judge = model._judge
    seen: list[int] = []

    def fails_late(batch: dict[str, list[list[int]]]) -> BoolArray:
        seen.append(len(batch["input_ids"]))
        if len(seen) == 8:
            raise JudgmentNotFinite
        return judge(batch)

    monkeypatch.setattr(model, "_judge", fails_late)
    n_tokens = model.n_tokens
    with pytest.raises(JudgmentNotFinite):
        entailment_meanings(answers, offsets, model)
    assert model.n_tokens == n_tokens
    entailment_meanings(answers, offsets, model)
    assert model.n_tokens - n_tokens == of_one


def test_a_model_without_an_entailment_label_is_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    labels = {0: "negative", 1: "positive", 2: "not_entailment"}
    BertForSequenceClassification(BertConfig.from_pretrained(tiny_encoder, id2label=labels)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="its labels are: negative, positive, not_entailment"):
        EntailmentModel(tmp_path, precision("cpu"))
    with pytest.raises(InputError, match="its labels are: LABEL_0, LABEL_1"):
        entailment_label(tmp_path, {0: "LABEL_0", 1: "LABEL_1"})
    assert entailment_label(tmp_path, {0: "ENTAILMENT", 1: "NEUTRAL", 2: "CONTRADICTION"}) == 0
    assert entailment_label(tmp_path, {0: "not_entailment", 1: "entailment"}) == 1


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path, tiny_nli: Path) -> None:
    import torch

    for path in tiny_nli.iterdir():
        if path.suffix == ".json":
            shutil.copy(path, tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no entailment model could be loaded: .*no file named model.safetensors"):
        EntailmentModel(tmp_path, precision("cpu"))


def test_bad_arguments_are_named(model: EntailmentModel, tiny_nli: Path) -> None:
    with pytest.raises(InvalidArgument, match="token_budget: must be at least 1, got 0"):
        EntailmentModel(tiny_nli, precision("cpu"), token_budget=0)
    with pytest.raises(InvalidArgument, match="questions: must be 2, one a sample; got 1"):
        entailment_meanings(["a", "b"], [0, 1, 2], model, questions=["q"])
