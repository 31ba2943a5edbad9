"""Bad rows are quarantined with a reason and a null score; bad requests end before a model loads."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from upath import UPath

import euds
from euds.assets import content_sha256
from euds.corpus import check_fields, field_names, jsonl, read_scores
from euds.corpus.raw import RawRow
from euds.errors import InputError, InvalidType
from euds.measures.device import precision
from euds.measures.semantic import Embedder

WriteJsonl = Callable[..., Path]

SCORES = (
    "information_entropy_nats",
    "surprisal_nats",
    "generative_entropy_nats",
    "nll_nats",
    "varentropy_nats2",
    "semantic_entropy_nats",
)


def quarantine(run_dir: Path) -> dict[int, str]:
    lines = (run_dir / "quarantine.jsonl").read_text().splitlines()
    return {entry["row_id"]: entry["reason"] for entry in map(json.loads, lines)}


def test_every_kind_of_bad_row_is_quarantined_and_the_rest_is_scored(
    tmp_path: Path, tiny_lm: Path, tiny_encoder: Path
) -> None:
    lines = [
        b'{"text": "the film was very sad"}',
        b'{"text": "the film',
        b'{"text": "the \xff film"}',
        b'{"other": "the film was sad"}',
        b'{"text": null}',
        b'{"text": 7}',
        b'{"text": "  "}',
        b'{"text": "the\\u0000film"}',
        b'["the film"]',
        json.dumps({"text": "the film was sad " * 60_000}).encode(),
        b'{"text": "a wonderful script"}',
    ]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_bytes(b"\n".join(lines))
    result = euds.score(corpus, out=tmp_path / "run", lm=tiny_lm, embedder=tiny_encoder, n_clusters=2)
    table = read_scores(tmp_path / "run").to_pylist()
    reasons = quarantine(tmp_path / "run")
    assert [row["row_id"] for row in table] == list(range(len(lines)))
    assert set(reasons) == set(range(1, 9))
    assert result.n_rows == len(lines) == result.n_scored + result.n_quarantined
    assert result.n_truncated == 1
    assert table[9]["truncated"] is True
    assert table[9]["n_bytes"] == len("the film was sad " * 60_000)
    for row in table:
        for column in SCORES:
            assert (row[column] is None) == (row["row_id"] in reasons)
    assert "null" in reasons[4]
    assert "missing" in reasons[3]


def test_one_token_without_bos_keeps_its_other_scores(tmp_path: Path, tiny_lm: Path, write_jsonl: WriteJsonl) -> None:
    corpus = write_jsonl([{"text": "a"}, {"text": "the film was sad"}])
    result = euds.score(corpus, out=tmp_path / "run", measures=["information", "generative"], lm=tiny_lm)
    first = read_scores(tmp_path / "run").to_pylist()[0]
    assert first["generative_entropy_nats"] is None
    assert first["n_scored_tokens"] is None
    assert first["surprisal_nats"] is not None
    assert quarantine(tmp_path / "run") == {0: "one token and no BOS: nothing to predict"}
    assert (result.n_scored, result.n_quarantined) == (1, 1)


def test_rows_whose_logits_are_nan_are_quarantined_alone(
    tmp_path: Path, tiny_lm: Path, write_jsonl: WriteJsonl
) -> None:
    broken = Path(copytree(tiny_lm, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    token = token_id(broken, " terrible")
    name = "model.embed_tokens.weight"
    weights[name][token] = torch.nan
    weights["lm_head.weight"] = load_file(tiny_lm / "model.safetensors")["lm_head.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    corpus = write_jsonl([{"text": "the film was terrible indeed"}, {"text": "the film was sad"}])
    euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=broken)
    good = read_scores(tmp_path / "run").to_pylist()
    assert list(quarantine(tmp_path / "run").items()) == [(0, "the model's logits are NaN or infinite")]
    assert good[0]["generative_entropy_nats"] is None
    assert good[1]["generative_entropy_nats"] > 0


def token_id(folder: Path, text: str) -> int:
    from transformers import AutoTokenizer

    ids: list[int] = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == 1
    return ids[0]


def test_a_corpus_of_bad_rows_only_ends_with_everything_quarantined(
    tmp_path: Path, tiny_lm: Path, tiny_encoder: Path, write_jsonl: WriteJsonl
) -> None:
    corpus = write_jsonl([{"text": ""}] * 3)
    result = euds.score(corpus, out=tmp_path / "run", lm=tiny_lm, embedder=tiny_encoder)
    assert (result.n_scored, result.n_quarantined, result.n_tokens) == (0, 3, 0)


def test_a_field_that_is_named_may_appear_as_late_as_it_likes(
    tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[object] = [{"text": f"the film {at}"} for at in range(1000)]
    late = {"text": "a plot", "kind": "a", "label": "b", "source": "c"}
    corpus = write_jsonl([*rows, "bad", late, *rows])
    named = euds.score(corpus, out=tmp_path / "a", measures=["information"], label_field="kind")
    assert read_scores(named.run_dir)["label"].to_pylist() == [None] * 1001 + ["a"] + [None] * 1000
    assert field_names([corpus]) == ("text",)
    assert jsonl.field_names(corpus, ("kind",)) == ("text", "kind")
    alone = euds.score(corpus, out=tmp_path / "b", measures=["information"])
    assert set(read_scores(alone.run_dir)["label"].to_pylist()) == {None}
    with pytest.raises(euds.EudsError, match=r"unknown field 'kin' \(did you mean 'kind'\?\)"):
        check_fields([corpus], ["kind", "kin"])
    # Nothing is read behind the row that has the last of the fields.
    parsed: list[int] = []
    parse = jsonl._parse

    def counted(number: int, line: bytes) -> RawRow:
        parsed.append(number)
        return parse(number, line)

    monkeypatch.setattr(jsonl, "_parse", counted)
    check_fields([corpus], ["kind", "text"])
    assert parsed[-1] == 1002


def test_a_part_without_a_single_good_row_joins_the_others(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    corpus = write_jsonl([{"text": "", "label": "a"}, {"text": "the film", "label": "\ud800"}])
    euds.score(corpus, out=tmp_path / "run", measures=["information"], shard_rows=1)
    scores = read_scores(tmp_path / "run")
    assert scores.column("truncated").to_pylist() == [None, False]
    assert scores.column("label").to_pylist() == ["a", None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measures": ["generativ"]}, r"did you mean 'generative'"),
        ({"measures": []}, "name at least one"),
        ({"text_field": ["a", "b", "c"]}, "one field, or two"),
        ({"text_field": "txt"}, "did you mean 'text'"),
        ({"label_field": "lable"}, "did you mean 'label'"),
        ({"measures": ["generative"], "lm": None}, "needs a causal language model"),
        ({"measures": ["semantic"], "embedder": None}, "needs an encoder"),
        ({"measures": ["semantic"], "tokenizer": "x"}, "tokenizer: only information entropy counts its tokens"),
        ({"measures": ["information", "generative"], "tokenizer": "x"}, "tokenizer: where the LM runs"),
        ({"shard_rows": 0}, "shard_rows: must be at least 1"),
        ({"similarity_temperature": 0.0}, "similarity_temperature"),
        ({"lm": "./nowhere"}, "nowhere"),
        ({"inputs": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_a_bad_request_is_one_clear_error(
    tmp_path: Path,
    tiny_lm: Path,
    tiny_encoder: Path,
    write_jsonl: WriteJsonl,
    arguments: dict[str, object],
    message: str,
) -> None:
    corpus = write_jsonl([{"text": "the film was sad", "label": 1}])
    settings = {"inputs": corpus, "lm": tiny_lm, "embedder": tiny_encoder, **arguments}
    with pytest.raises(euds.EudsError, match=message):
        euds.score(out=tmp_path / "run", **settings)  # type: ignore[arg-type]  # The cases are wrong on purpose.
    assert not (tmp_path / "run").exists()


def test_what_is_known_without_reading_the_corpus_comes_before_it(
    tmp_path: Path, tiny_lm: Path, tiny_encoder: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("too early")

    corpus = write_jsonl([{"text": "the film was sad", "label": 1}])
    monkeypatch.setattr("euds.engine.prepare.identities", never)
    settings: dict[str, Any] = {"lm": tiny_lm, "embedder": tiny_encoder}
    for arguments, message in (
        ({"out": corpus / "run"}, "corpus.jsonl: Not a directory"),
        ({"dtype": "fp16"}, "dtype: unknown value 'fp16'"),
        ({"device": "cuda:7"}, "device: "),
        ({"semantic": "samples", "samples": euds.SampleSettings(max_new_tokens=10**6)}, "leave none for a prompt"),
        (
            {"semantic": "samples", "samples": euds.SampleSettings(grouping="entailment", nli=str(tiny_encoder))},
            "needs one label named entailment to judge entailment; its labels are: LABEL_0, LABEL_1",
        ),
    ):
        with pytest.raises(euds.EudsError, match=message):
            euds.score(corpus, **{"out": tmp_path / "run", **settings, **arguments})
    monkeypatch.setattr("euds.engine.prepare.model_folder", never)
    for arguments, message in (({"inputs": "no.jsonl"}, "no.jsonl"), ({"text_field": "txt"}, "did you mean 'text'")):
        with pytest.raises(euds.EudsError, match=message):
            euds.score(**{"inputs": corpus, "out": tmp_path / "run", **settings, **arguments})
    assert not (tmp_path / "run").exists()


def test_settings_that_no_measure_looks_at_are_named(
    tmp_path: Path, tiny_lm: Path, tiny_encoder: Path, write_jsonl: WriteJsonl, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}] * 3)
    everything: dict[str, Any] = {"lm": tiny_lm, "embedder": tiny_encoder, "token_budget": 64, "n_neighbors": 2}
    everything |= {"n_clusters": 2, "similarity_temperature": 0.1, "cache": tmp_path / "cache"}
    everything |= {"dtype": "float32", "seed": 1}
    for measures, names in (
        (["information", "generative", "semantic"], None),
        (["information", "generative"], "embedder, n_clusters, n_neighbors, similarity_temperature, seed"),
        (["semantic"], "lm"),
        (
            ["information"],
            "embedder, token_budget, n_clusters, n_neighbors, similarity_temperature, dtype, seed, cache",
        ),
    ):
        euds.score(corpus, out=tmp_path / "run", measures=measures, dry_run=True, **everything)
        said = capsys.readouterr().err
        assert (f"no measure of this run uses: {names}\n" in said) if names else ("no measure" not in said)


def test_a_model_without_its_tokenizer_is_refused(tmp_path: Path, tiny_encoder: Path, write_jsonl: WriteJsonl) -> None:
    corpus = write_jsonl([{"text": "the film was sad", "label": at} for at in range(2)])
    bare = copytree(tiny_encoder, tmp_path / "bare", ignore=ignore_patterns("tokenizer*"))
    for role, measure in (("embedder", "semantic"), ("lm", "information")):
        # transformers makes a BERT tokenizer of nothing, to which every word is unknown.
        with pytest.raises(euds.EudsError, match=r"bare: its tokenizer knows no word; are tokenizer.json"):
            euds.score(corpus, out=tmp_path / role, measures=[measure], **{role: bare})  # type: ignore[arg-type]
    with pytest.raises(euds.EudsError, match="bare: its tokenizer knows no word"):
        euds.finetune(corpus, corpus, model=bare, steps=1)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{", "broken: no encoder could be loaded: "),
        ("tokenizer.json", b"[]", "broken: no tokenizer could be loaded: "),
        ("sentence_bert_config.json", b"{", "sentence_bert_config.json: not a JSON file"),
        ("sentence_bert_config.json", b"[]", "sentence_bert_config.json: must hold keys and values"),
        ("config.json", b"{", "config.json: not a configuration that transformers knows"),
        ("1_Pooling/config.json", b"[]", "1_Pooling/config.json: must hold keys and values"),
    ],
)
def test_a_damaged_file_of_a_model_is_named(
    file: str, content: bytes, message: str, tmp_path: Path, tiny_encoder: Path, write_jsonl: WriteJsonl
) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}, {"text": "a dull plot"}])
    broken = copytree(tiny_encoder, tmp_path / "broken")
    (broken / file).parent.mkdir(exist_ok=True)
    (broken / file).write_bytes(content)
    with pytest.raises(euds.EudsError, match=message) as raised:
        euds.score(corpus, out=tmp_path / "run", embedder=broken, measures=["semantic"])
    assert "\n" not in str(raised.value)


def test_a_damaged_configuration_of_a_language_model_is_named(
    tmp_path: Path, tiny_lm: Path, write_jsonl: WriteJsonl
) -> None:
    broken = copytree(tiny_lm, tmp_path / "broken")
    (broken / "config.json").write_text("[]")
    with pytest.raises(euds.EudsError, match=r"config.json: must hold keys and values"):
        euds.score(write_jsonl([{"text": "a"}]), out=tmp_path / "run", lm=broken, measures=["generative"])


@pytest.mark.parametrize(
    ("pooling", "taken"),
    [
        (None, "mean"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode": "cls"}, "first"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
        ({"pooling_mode_lasttoken": True}, None),
    ],
)
def test_texts_are_embedded_as_the_encoder_says(
    pooling: dict[str, object] | None, taken: str | None, tmp_path: Path, tiny_encoder: Path
) -> None:
    folder = copytree(tiny_encoder, tmp_path / "encoder")
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"include_prompt": True, **pooling}))
    # A run with other pooling must not go on from this one.
    assert (content_sha256(folder) == content_sha256(tiny_encoder)) == (pooling is None)
    if taken is None:
        with pytest.raises(euds.EudsError, match=r"1_Pooling/config.json: pools by .*only the mean .* and the first"):
            Embedder(folder, precision("cpu"))
        return
    samples = [[9, 10, 11], [12, 13]]
    found = Embedder(folder, precision("cpu")).embed(samples)
    model = AutoModel.from_pretrained(tiny_encoder)
    for ids, vector in zip(samples, found, strict=True):
        hidden = model(torch.tensor([[2, *ids, 3]])).last_hidden_state[0].detach()
        expected = hidden[0] if taken == "first" else hidden.mean(0)
        np.testing.assert_allclose(vector, expected / expected.norm(), atol=1e-5)


def test_the_manifest_says_how_texts_are_embedded(tmp_path: Path, tiny_encoder: Path, write_jsonl: WriteJsonl) -> None:
    first = copytree(tiny_encoder, tmp_path / "first")
    (first / "1_Pooling").mkdir()
    (first / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    corpus = write_jsonl([{"text": "the film was sad"}, {"text": "dull"}])
    for folder, pooling in ((tiny_encoder, "mean, unit norm"), (first, "first token, unit norm")):
        run_dir = tmp_path / f"run-{folder.name}"
        euds.score(corpus, out=run_dir, measures=["semantic"], embedder=folder, n_clusters=1)
        assert json.loads((run_dir / "manifest.json").read_text())["models"]["embedder"]["pooling"] == pooling


def test_a_changed_configuration_or_input_is_refused_with_a_diff(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}])
    run_dir = tmp_path / "run"
    euds.score(corpus, out=run_dir, measures=["information"])
    with pytest.raises(euds.EudsError, match=r"config\.max_tokens: None -> 2"):
        euds.score(corpus, out=run_dir, measures=["information"], max_tokens=2)
    write_jsonl([{"text": "the film was sad"}, {"text": "more"}])
    with pytest.raises(euds.EudsError, match=r"inputs\[0\]\.rows: 1 -> 2"):
        euds.score(corpus, out=run_dir, measures=["information"])


def test_a_dry_run_writes_nothing(tmp_path: Path, write_jsonl: WriteJsonl, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}])
    result = euds.score(corpus, out=tmp_path / "run", measures=["information"], dry_run=True)
    assert result.n_rows == 1
    assert not (tmp_path / "run").exists()


def test_memory_that_runs_out_halves_the_batches_and_gives_up_a_row_that_never_fits(
    tmp_path: Path, tiny_lm: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.measures.generative import GenerativeScorer, GenerativeScores

    real = GenerativeScorer.begin

    def small_memory(
        self: GenerativeScorer, samples: Sequence[npt.NDArray[np.int64]]
    ) -> Callable[[], GenerativeScores]:
        if sum(map(len, samples)) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, samples)

    monkeypatch.setattr(GenerativeScorer, "begin", small_memory)
    corpus = write_jsonl([{"text": "the film was sad"}] * 20 + [{"text": "the film was sad " * 20}])
    result = euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=tiny_lm)
    assert quarantine(tmp_path / "run") == {20: "out of memory on this row alone"}
    assert result.n_scored == 20


def test_what_is_no_name_of_a_file_is_refused(tmp_path: Path) -> None:
    wrong: list[Any] = [pa.table({"text": ["a"]}), None, [b"a.jsonl"], 7]
    for inputs in wrong:
        with pytest.raises(InvalidType, match=r"inputs: must be names of files, got \w+; write rows to a file first"):
            euds.score(inputs, out=tmp_path / "run", measures="information")


def test_names_of_files_may_come_one_by_one_or_be_remote(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl([{"text": "a film"}])
    remote = UPath("memory://named/b.jsonl")
    remote.write_text('{"text": "a plot"}\n')
    names: list[Any] = [tmp_path.glob("*.jsonl"), remote, [remote], {str(remote)}]
    for at, inputs in enumerate(names):
        assert euds.score(inputs, out=tmp_path / f"run-{at}", measures="information").n_scored == 1


def test_a_run_without_a_score_warns(
    tmp_path: Path, write_jsonl: WriteJsonl, capfd: pytest.CaptureFixture[str]
) -> None:
    result = euds.score(write_jsonl([{"text": ["a"]}] * 3), out=tmp_path / "run", measures="information")
    assert (result.n_scored, result.n_quarantined) == (0, 3)
    assert "warning: no row could be scored; quarantine.jsonl has the reasons" in capfd.readouterr().err


def test_fewer_clusters_than_asked_for_are_told(
    tmp_path: Path, write_jsonl: WriteJsonl, tiny_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    corpus = write_jsonl([{"text": text} for text in ("the film", "a sad plot", "was it good")])
    euds.score(corpus, out=tmp_path / "run", measures="semantic", embedder=tiny_encoder, n_clusters=9)
    assert "warning: n_clusters: 9 asked for, 3 taken, as many as embeddings" in capfd.readouterr().err


def test_a_header_without_commas_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;text\n1;a\n")
    with pytest.raises(InputError, match="fields: id;text; the header is one field with ';' in it: separate"):
        euds.score(tmp_path / "a.csv", out=tmp_path / "run", measures="information")
