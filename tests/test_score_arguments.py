"""Arguments of scoring and of estimates in NumPy's types, or of none that will do."""

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import euds
from euds.engine.config import score_config
from euds.errors import InvalidArgument, InvalidType
from euds.files import json_content, read_json

Call = Callable[..., object]


def score(corpus: Path, **arguments: Any) -> object:
    """Score by words, beside the corpus."""
    return euds.score(corpus, out=corpus.parent / "run", **{"measures": "information", **arguments})


def estimate(corpus: Path, **arguments: Any) -> object:
    """Estimate scoring by words."""
    return euds.estimate(corpus, **{"measures": "information", "sample_rows": 16, **arguments})


BOTH = pytest.mark.parametrize("call", [score, estimate])


def test_numbers_of_numpy_are_as_pythons(corpus: Path, tmp_path: Path) -> None:
    whole = {"seed": 3, "shard_rows": 20, "max_tokens": 12, "token_budget": 300, "n_clusters": 4, "n_neighbors": 2}
    plain: dict[str, Any] = {**whole, "similarity_temperature": 0.5, "workers": 1}
    given: dict[str, Any] = {name: np.int64(value) for name, value in whole.items()}
    given |= {"similarity_temperature": np.float32(0.5), "workers": np.int32(1)}
    for out, numbers in (("plain", plain), ("numpy", given)):
        euds.score(corpus, out=tmp_path / out, measures="information", **numbers)
    found, expected = (read_json(tmp_path / out / "manifest.json") for out in ("numpy", "plain"))
    assert found["fingerprint"] == expected["fingerprint"]
    assert found["config_sha256"] == expected["config_sha256"]
    again = euds.score(corpus, out=tmp_path / "plain", measures="information", **given)
    assert again.n_rows == found["counts"]["rows"]


def test_an_estimate_takes_numpys_numbers(corpus: Path) -> None:
    plain: dict[str, Any] = {"sample_rows": 16, "workers": 2, "seed": 1, "shard_rows": 20}
    numbers: dict[str, Any] = {name: np.int64(value) for name, value in plain.items()}
    found, expected = (euds.estimate(corpus, measures="information", **given) for given in (numbers, plain))
    assert (found.n_sampled, found.workers, found.n_tokens) == (16, 2, expected.n_tokens)


def test_other_numbers_are_kept_as_pythons() -> None:
    samples = euds.SampleSettings(
        n_generations=np.int64(4),  # type: ignore[arg-type]
        max_new_tokens=np.int8(8),  # type: ignore[arg-type]
        top_k=np.int16(0),  # type: ignore[arg-type]
        temperature=np.float32(0.5),  # type: ignore[arg-type]
        top_p=np.float32(1),  # type: ignore[arg-type]
        min_similarity=0,
    )
    assert samples == euds.SampleSettings(
        n_generations=4, max_new_tokens=8, top_k=0, temperature=0.5, top_p=1.0, min_similarity=0.0
    )
    config = score_config(
        "a.jsonl",
        measures="semantic",
        semantic=["clusters", "samples"],
        samples=samples,
        lm="lm",
        embedder="encoder",
        similarity_temperature=np.float32(0.5),  # type: ignore[arg-type]
    )
    assert b'"similarity_temperature": 0.5' in json_content(config.to_json())


def test_one_measure_may_stand_alone(corpus: Path) -> None:
    assert score_config(corpus, measures="information") == score_config(corpus, measures=["information"])
    with pytest.raises(InvalidArgument, match=r"unknown value 'informatio' \(did you mean 'information'"):
        score_config(corpus, measures="informatio")


@BOTH
@pytest.mark.parametrize("name", ["max_tokens", "token_budget", "shard_rows", "seed", "workers"])
@pytest.mark.parametrize("value", [2.5, "3", True])
def test_other_types_are_named(corpus: Path, call: Call, name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: must be an integer, got {value!r}$"):
        call(corpus, **{name: value})
    assert not (corpus.parent / "run").exists()


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        (score, {"n_clusters": 2.5}, "n_clusters: must be an integer, got 2.5"),
        (score, {"n_neighbors": True}, "n_neighbors: must be an integer, got True"),
        (score, {"n_neighbors": 0}, "n_neighbors: must be at least 1, got 0"),
        (score, {"similarity_temperature": "0.1"}, "similarity_temperature: must be a number, got '0.1'"),
        (score, {"similarity_temperature": True}, "similarity_temperature: must be a number, got True"),
        (
            score,
            {"similarity_temperature": float("nan")},
            "similarity_temperature: must be finite and above 0, got nan",
        ),
        (score, {"cache": "cache", "cache_limit_gb": "10"}, "cache_limit_gb: must be a number, got '10'"),
        (estimate, {"sample_rows": 2.5}, "sample_rows: must be an integer, got 2.5"),
        (estimate, {"sample_rows": 1}, "sample_rows: must be at least 2, got 1"),
        (estimate, {"price_per_hour": "3"}, "price_per_hour: must be a number, got '3'"),
        (estimate, {"price_per_hour": float("nan")}, "price_per_hour: must be at least 0 and finite, got nan"),
    ],
)
def test_other_types_of_one_call_are_named(corpus: Path, call: Call, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        call(corpus, **arguments)
    assert str(refused.value) == message


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measures": None}, "measures: must be a name or a list of names, got None"),
        ({"semantic": 3}, "semantic: must be a name or a list of names, got 3"),
        ({"text_field": None}, "text_field: must be a name or a list of names, got None"),
        ({"text_field": ["text", 3]}, "text_field: must be a name or a list of names, got 3 among them"),
        ({"label_field": 3}, "label_field: must be the name of a field, got int"),
        ({"id_field": b"id"}, "id_field: must be the name of a field, got bytes"),
        ({"device": None}, "device: must be a name such as 'cpu', got NoneType"),
        ({"lm": 3}, "lm: must be the name or folder of a model, got int"),
        ({"samples": {"n_generations": 3}}, "samples: must be euds.SampleSettings, got dict"),
        ({"label_words": ["a", "b"]}, "label_words: must be euds.LabelWordSettings, got list"),
    ],
)
def test_what_is_no_name_or_settings_is_named(
    corpus: Path, call: Call, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidType) as refused:
        call(corpus, **arguments)
    assert str(refused.value) == message


class Frame:
    """A table as pandas has it, which gives its columns' names."""

    columns = ("text",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize("inputs", [{"text": ["a"]}, Frame(), [3], None])
def test_rows_are_no_names_of_files(inputs: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidType, match=r"inputs: must be names of files, got \w+; write rows to a file first"):
        euds.score(inputs, out=tmp_path / "run", measures="information")


def test_an_empty_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="inputs: a name is empty"):
        euds.score("", out=tmp_path / "run", measures="information")


def test_what_is_no_path_is_refused(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    wrong: Any = None
    for call in (
        lambda: euds.score(corpus, out=wrong, measures="information"),
        lambda: euds.score(corpus, out="run", measures="information", cache=3),  # type: ignore[arg-type]
        lambda: euds.status(wrong),
        lambda: euds.read_scores(wrong),
        lambda: euds.write_report(wrong),
        lambda: euds.select(wrong, keep=1),
        lambda: euds.select_streaming(wrong, keep=1, rule="low", axes="surprisal"),
    ):
        with pytest.raises(InvalidType, match=r"must be a path, got (NoneType|int)|None: is no path"):
            call()
    assert sorted(tmp_path.iterdir()) == before


def test_a_daemonic_process_is_told_that_it_may_start_no_workers(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgument, match=r"workers: this process is daemonic, .* give workers=1"):
        euds.score(corpus, out=tmp_path / "run", measures="information", workers=2)
    assert euds.score(corpus, out=tmp_path / "run", measures="information").n_rows > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_generations": 2.5}, "n_generations: must be an integer, got 2.5"),
        ({"max_new_tokens": True}, "max_new_tokens: must be an integer, got True"),
        ({"top_k": "5"}, "top_k: must be an integer, got '5'"),
        ({"temperature": "1"}, "temperature: must be a number, got '1'"),
        ({"top_p": True}, "top_p: must be a number, got True"),
        ({"min_similarity": None}, "min_similarity: must be a number, got None"),
        ({"labels": (0, 1)}, "labels: position 0 is no string but 0"),
    ],
)
def test_settings_of_generations_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        euds.SampleSettings(**settings)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("ab", "labels: give a list of words, got the string 'ab'"),
        ((1, 0), "labels: position 0 is no string but 1"),
        ({"ab"}, "labels: give a list of words, got the set {'ab'}"),
        (7, "labels: must be a list of strings, got 7"),
    ],
)
def test_label_words_are_words(labels: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        euds.LabelWordSettings(labels=labels)
    assert str(refused.value) == message


def test_label_words_and_models_of_other_kinds_are_those_of_a_list_and_a_name() -> None:
    words = ("good", "bad")
    for labels in (list(words), (word for word in words), np.array(words), dict.fromkeys(words)):
        assert euds.LabelWordSettings(labels=labels).labels == words  # type: ignore[arg-type]
    assert euds.SampleSettings(labels=[]) == euds.SampleSettings()  # type: ignore[arg-type]
    assert euds.SampleSettings(grouping="entailment", nli=Path("a/b")).nli == "a/b"  # type: ignore[arg-type]
    with pytest.raises(InvalidType, match="nli: must be the name or folder of a model, got int"):
        euds.SampleSettings(grouping="entailment", nli=5)  # type: ignore[arg-type]
