"""Generations are sampled once: by a run that was killed, by another run, with a model that is loaded once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sampled_runs import Sample
from test_damaged_work import BOTH, flipped, killed_at
from test_score_bad_input import quarantine
from test_score_resume import digests

import euds
from euds.corpus import generations_path, read_parquet, read_scores
from euds.engine.generations import SCHEMA
from euds.engine.work import SOURCE_COST_FILE
from euds.errors import InputError

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


def test_a_killed_run_resumes_to_the_same_files(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample("whole")
    from euds.engine import generation_stages

    for step, stops in (("generate_shard", 2), ("meanings_shard", 1), ("write_parquet", 4)):
        real = getattr(generation_stages, step)
        calls: list[int] = []

        def killed(
            *arguments: Any, real: Callable[..., Any] = real, calls: list[int] = calls, stops: int = stops
        ) -> Any:
            calls.append(1)
            if len(calls) > stops:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(generation_stages, step, killed)
        with pytest.raises(KeyboardInterrupt):
            sample(step)
        monkeypatch.setattr(generation_stages, step, real)
        with pytest.raises(InputError, match=r"config\.samples\.n_generations: 5 -> 6"):
            sample(step, {"n_generations": 6})
        sample(step)
        assert digests(tmp_path / step) == digests(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_killed_while_it_samples_resumes_to_the_same_bytes(
    tmp_path: Path, tiny_lm: Path, tiny_encoder: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    rows: list[object] = [{"text": text} for text in make_texts(198, 11)]
    rows[5:5] = [{"text": None}, "not an object"]
    corpus = write_jsonl(rows)

    def start(run_dir: Path) -> "subprocess.Popen[bytes]":
        options = "--measures semantic --semantic samples --n-generations 5 --max-new-tokens 6 --shard-rows 8"
        arguments = [str(corpus), "--out", str(run_dir), "--lm", str(tiny_lm), "--embedder", str(tiny_encoder)]
        return subprocess.Popen(
            [sys.executable, "-m", "euds", "score", *arguments, *options.split()],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0
    # After the first part of scores, and later between the generations of a shard and its scores.
    for folder, goal in (("scores", 1), ("generations", 9), ("generations", 17)):
        process = start(killed)
        while process.poll() is None and len(list((killed / folder).glob("part-*.parquet"))) < goal:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert 1 <= len(list(killed.glob("scores/part-*.parquet"))) < 25
    # A part whose record was not yet written is written again.
    recorded = [killed / "scores" / f"{record.stem}.parquet" for record in killed.glob("work/records/part-*.json")]
    before = [part.stat().st_ino for part in recorded]
    assert start(killed).wait() == 0
    assert before
    assert [part.stat().st_ino for part in recorded] == before
    found = digests(killed)
    assert found == digests(whole)
    for folder in ("scores", "generations", "meanings"):
        assert sum(name.startswith(f"{folder}/part-") for name in found) == 25
    assert not (killed / "work").exists()


def test_another_estimate_takes_the_generations_over(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample("first", {"min_similarity": 0.9})
    sample("second", {"min_similarity": 0.5, "linkage": "connected_components"})

    def never(*arguments: object) -> None:
        raise AssertionError("generations must not be sampled again")

    monkeypatch.setattr("euds.measures.generate.Generator", never)
    again = {"generations_from": str(tmp_path / "first"), "min_similarity": 0.5, "linkage": "connected_components"}
    monkeypatch.setenv("HOME", str(tmp_path))
    sample("again", {**again, "generations_from": "~/first"})
    found, expected = digests(tmp_path / "again"), digests(tmp_path / "second")
    assert found == expected
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("first", "again")]
    paid, taken = (manifest["cost"]["samples"]["generation"] for manifest in manifests)
    assert taken == {**paid, "taken_from": str(tmp_path / "first")}
    for changed, message in (
        ({"n_generations": 6}, r"samples\.n_generations: 5 -> 6"),
        ({"top_p": 0.5}, r"samples\.top_p: 0\.9 -> 0\.5"),
    ):
        with pytest.raises(InputError, match=message):
            sample("refused", {**again, **changed})
    with pytest.raises(InputError, match=r"config\.seed: 0 -> 1"):
        sample("refused", again, seed=1)
    with pytest.raises(InputError, match="names the run directory itself"):
        sample("again2", {"generations_from": str(tmp_path / "again2")})
    with pytest.raises(InputError, match="nowhere: not a run directory"):
        sample("refused", {"generations_from": str(tmp_path / "nowhere")})
    part = generations_path(tmp_path / "first", 1)
    part.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"part-00001\.parquet: is unreadable; score without generations_from"):
        sample("damaged", again)
    generations_path(tmp_path / "first", 2).unlink()
    with pytest.raises(InputError, match=r"generations/part-00002\.parquet: is gone; .* score without it"):
        sample("refused", again)
    assert not (tmp_path / "refused").exists()


def test_generations_are_taken_over_by_a_run_of_other_measures(sample: Sample, tmp_path: Path) -> None:
    scores = sample("first")
    path = tmp_path / "first" / "manifest.json"
    manifest = json.loads(path.read_text())
    # On a GPU, only a run that measures generative entropy tells how its logits are rounded.
    manifest["fingerprint"]["precision"]["logits"] = "float32"
    path.write_text(json.dumps(manifest))
    taken = {"generations_from": str(tmp_path / "first")}
    assert sample("again", taken) == scores
    manifest["fingerprint"]["precision"]["dtype"] = "bfloat16"
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"precision\.dtype: bfloat16 -> float32"):
        sample("refused", taken)


def replaced(name: str, lists: list[Any]) -> Callable[[pa.Table], pa.Table]:
    """Put these lists in place of a column's."""

    def change(part: pa.Table) -> pa.Table:
        at = part.column_names.index(name)
        return part.set_column(at, name, pa.array(lists, part.schema.field(name).type))

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda part: part.set_column(0, "row_id", pa.array(range(8))), "does not fit the rows of this run"),
        (lambda part: part.slice(1), "does not fit the rows of this run"),
        (lambda part: pa.concat_tables([part, part.slice(7)]), "does not fit the rows of this run"),
        (replaced("mean_logprob", [[-1.0] * 4] * 8), "does not fit the rows of this run"),
        (replaced("n_tokens", [[1] * 5] * 7 + [None]), "does not fit the rows of this run"),
        (replaced("n_tokens", [[1] * 4 + [None]] * 8), "does not fit the rows of this run"),
        (lambda part: part.set_column(3, "text", pa.array(["a"] * 8)), "is unreadable"),
    ],
)
def test_generations_of_other_rows_are_not_taken_over(
    sample: Sample, tmp_path: Path, change: Callable[[pa.Table], pa.Table], told: str
) -> None:
    sample("first")
    path = generations_path(tmp_path / "first", 1)
    # Written as another tool would: columns in another order are no damage.
    part = pq.read_table(path)
    pq.write_table(part.select(part.column_names[::-1]), path)
    taken = {"generations_from": str(tmp_path / "first")}
    assert sample("taken", taken)
    pq.write_table(change(part), path)
    with pytest.raises(InputError, match=rf"part-00001\.parquet: {told}.*; score without generations_from"):
        sample("refused", taken)


def test_a_run_needs_the_other_one_only_until_it_has_its_generations(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine import generation_stages
    from euds.engine.worker import Worker

    first, moved = tmp_path / "first", tmp_path / "moved"
    sample("first")
    taken = {"generations_from": str(first)}
    sample("whole", taken, **BOTH)
    paid = json.loads((tmp_path / "whole" / "manifest.json").read_text())["cost"]["samples"]["generation"]
    with killed_at(Worker, "finish", 1, monkeypatch):
        sample("copied", taken, **BOTH)
    with killed_at(generation_stages, "generation_stage", 1, monkeypatch):
        sample("begun", taken, **BOTH)
    shutil.copytree(tmp_path / "copied", tmp_path / "damaged")
    part = generations_path(tmp_path / "damaged", 1)
    part.write_bytes(flipped(part.read_bytes()))
    cost = tmp_path / "damaged" / "work" / SOURCE_COST_FILE
    cost.write_text("{}")
    first.rename(moved)
    sample("copied", taken, **BOTH)
    for name in ("begun", "damaged"):
        with pytest.raises(InputError, match="first: not a run directory"):
            sample(name, taken, **BOTH)
    # Another run in its place is none to take the rest from.
    sample("first", seed=1)
    for name in ("begun", "damaged"):
        with pytest.raises(InputError, match=r"sampled otherwise than this run would:\n.*seed: 1 -> 0"):
            sample(name, taken, **BOTH)
    shutil.rmtree(first)
    moved.rename(first)
    for name in ("begun", "damaged"):
        sample(name, taken, **BOTH)
    for name in ("copied", "begun", "damaged"):
        assert digests(tmp_path / name) == digests(tmp_path / "whole")
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["cost"]["samples"]["generation"] == paid


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        (("models", "lm", "sha256"), "other", r"lm\.sha256: other -> "),
        (("config", "max_tokens"), 7, r"config\.max_tokens: 7 -> "),
        (("models",), {}, r"manifest\.json: is no run's manifest; score without generations_from"),
        (("precision",), None, r"manifest\.json: is no run's manifest"),
        (("config", "samples"), {"template": 3}, r"manifest\.json: is no run's manifest"),
    ],
)
def test_generations_of_another_model_or_of_prompts_cut_elsewhere_are_not_taken_over(
    sample: Sample, tmp_path: Path, keys: tuple[str, ...], value: object, told: str
) -> None:
    sample("first")
    path = tmp_path / "first" / "manifest.json"
    manifest = json.loads(path.read_text())
    place = manifest["fingerprint"]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=told):
        sample("refused", {"generations_from": str(tmp_path / "first")})


def test_label_words_that_no_prompt_holds_do_not_keep_generations_from_being_taken_over(
    sample: Sample, tmp_path: Path
) -> None:
    sample("first")
    labels = {"grouping": "labels", "labels": ("the", "film")}
    again = sample("again", {**labels, "generations_from": str(tmp_path / "first")}, embedder=None)
    assert again == sample("own", labels, embedder=None)
    named = {**labels, "template": "labels", "generations_from": str(tmp_path / "own")}
    with pytest.raises(InputError, match=r"samples\.labels\[0\]: \(absent\) -> the"):
        sample("refused", named, embedder=None)


def test_generations_that_are_taken_over_are_those_of_the_rows_that_a_run_can_use(
    sample: Sample, write_jsonl: WriteJsonl, tmp_path: Path
) -> None:
    # The encoder's tokenizer drops the characters of the second, the language model's does not.
    corpus = write_jsonl([{"text": "the film was sad"}, {"text": "\u200b\ufffd"}, {"text": "dull"}], "odd.jsonl")
    clusters = {"semantic": ["clusters", "samples"], "n_clusters": 2}
    sample("both", inputs=corpus, **clusters)
    sample("one", inputs=corpus)
    assert quarantine(tmp_path / "both") == {1: "text has no tokens"}
    taken = {"generations_from": str(tmp_path / "both")}
    scores = sample("taken", taken, inputs=corpus)
    assert quarantine(tmp_path / "taken") == {1: "the run that generations are taken over from could not use this row"}
    assert [row["semantic_samples_discrete_nats"] is None for row in scores] == [False, True, False]
    more = {"generations_from": str(tmp_path / "one")}
    assert sample("more", more, inputs=corpus, **clusters) == read_scores(tmp_path / "both").to_pylist()
    assert quarantine(tmp_path / "more") == {1: "text has no tokens"}


def test_models_that_two_measures_need_are_loaded_once(
    sample: Sample, sample_corpus: Path, tiny_lm: Path, tmp_path: Path, loaded: list[str]
) -> None:
    together = sample("together", measures=["generative", "semantic"], semantic=["clusters", "samples"], n_clusters=3)
    assert sorted(loaded) == ["causal language model", "encoder"]
    euds.score(sample_corpus, out=tmp_path / "read", measures=["generative"], lm=tiny_lm, shard_rows=8)
    for row, read, drawn in zip(together, read_scores(tmp_path / "read").to_pylist(), sample("drawn"), strict=True):
        assert {**read, **drawn}.items() <= row.items()
    for name in ("generations", "meanings"):
        assert digests(tmp_path / "together" / name) == digests(tmp_path / "drawn" / name)


def test_a_wrong_bit_in_generations_is_found_or_changes_nothing(sample: Sample, tmp_path: Path) -> None:
    sample("first")
    part = generations_path(tmp_path / "first", 1)
    content, expected = part.read_bytes(), read_parquet(part)
    found = []
    for at in range(len(content)):
        part.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        try:
            read = read_parquet(part, expected.column_names).cast(SCHEMA)
        except (pa.ArrowException, OSError):
            found.append(at)
        else:
            assert read.equals(expected), f"byte {at}"
    assert len(found) > len(content) / 4
    at = found[len(found) // 2]
    part.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    with pytest.raises(InputError, match=r"part-00001\.parquet: is unreadable; score without generations_from"):
        sample("taken", {"generations_from": str(tmp_path / "first")})
