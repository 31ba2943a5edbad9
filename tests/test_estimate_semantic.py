"""An estimate knows every form of semantic entropy: it takes its options, and tells what its parts would cost."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import euds
from euds.cli.app import app
from euds.errors import EudsError, InvalidArgument

SAMPLES = euds.SampleSettings(n_generations=3, max_new_tokens=4, min_similarity=0.9)
WORDS = euds.LabelWordSettings(("good", "not bad"))


def test_a_sample_of_all_rows_is_the_run_itself(
    sample_corpus: Path, tiny_lm: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "measures": ["semantic"],
        "semantic": ["clusters", "samples", "label_words"],
        "samples": SAMPLES,
        "label_words": WORDS,
        "lm": tiny_lm,
        "embedder": tiny_encoder,
    }
    found = euds.estimate(sample_corpus, sample_rows=21, **settings)
    euds.score(sample_corpus, out=tmp_path / "run", **settings)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert found.seconds.keys() == manifest["seconds"].keys() - {"loading", "clustering", "total"}
    # All but seconds: the same rows have the same generations, and these the same cost.
    assert without_seconds(found.semantic) == without_seconds(manifest["cost"])
    assert {"generation", "embedding", "grouping", "estimation"} == found.semantic["samples"].keys()
    assert found.semantic["samples"]["generation"]["generations"] == 3 * 21
    assert found.semantic["samples"]["generation"]["seconds"] == pytest.approx(found.seconds["generation"], abs=1e-3)
    kept = [
        path for name in ("scores", "generations", "meanings") for path in (tmp_path / "run" / name).glob("*.parq*")
    ]
    # Cluster numbers compress as well as there are clusters.
    assert found.part_bytes == pytest.approx(sum(path.stat().st_size for path in kept), rel=0.02)


def test_a_smaller_sample_is_scaled_to_all_rows(sample_corpus: Path, tiny_lm: Path) -> None:
    settings: dict[str, Any] = {
        "measures": ["semantic"],
        "semantic": ["samples", "label_words"],
        "samples": euds.SampleSettings(n_generations=3, max_new_tokens=4, grouping="labels", labels=("good", "bad")),
        "label_words": WORDS,
        "lm": tiny_lm,
    }
    found = euds.estimate(sample_corpus, sample_rows=10, **settings)
    whole = euds.estimate(sample_corpus, sample_rows=21, **settings)
    assert found.n_sampled == 10
    for estimate, part, name in (
        ("samples", "generation", "generations"),
        ("samples", "grouping", "all_pairs"),
    ):
        assert found.semantic[estimate][part][name] == whole.semantic[estimate][part][name]
    for estimate, part, name in (
        ("samples", "generation", "new_tokens"),
        ("label_words", "scoring", "prompt_tokens"),
    ):
        assert found.semantic[estimate][part][name] == pytest.approx(whole.semantic[estimate][part][name], rel=0.5)
    assert found.semantic["samples"]["generation"]["seconds"] == pytest.approx(found.seconds["generation"], abs=1e-3)
    assert found.seconds["label_words"] > 0


def test_the_command_takes_the_options_and_prints_the_parts(sample_corpus: Path, tiny_lm: Path) -> None:
    options = (
        "--measures semantic --semantic samples,label_words --labels good,bad --template labels --grouping labels "
        "--n-generations 2 --max-new-tokens 3 --top-p 0.8 --top-k 20 --temperature 1.2 --estimators chao_shen"
    )
    command = ["estimate", str(sample_corpus), "--lm", str(tiny_lm), "--sample", "21", *options.split()]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = {line.split("  ")[0]: line for line in result.output.splitlines()}
    assert "42 generations" in lines["samples, generation"]
    assert "TFLOP" in lines["samples, generation"]
    assert "42 all pairs" in lines["samples, grouping"]
    assert " s" in lines["samples, estimation"]
    assert "prompt tokens" in lines["label_words, scoring"]
    assert "of scores, generations and meanings" in lines["disk"]
    assert not any(line.startswith("clusters") for line in lines)


def test_impossible_settings_are_refused_as_by_score(sample_corpus: Path, tiny_lm: Path) -> None:
    def estimate(**arguments: Any) -> None:
        euds.estimate(sample_corpus, measures=["semantic"], **{"lm": tiny_lm, **arguments})

    with pytest.raises(InvalidArgument, match="generations_from: an estimate samples generations of its own rows"):
        estimate(semantic="samples", samples=euds.SampleSettings(generations_from="run"))
    with pytest.raises(InvalidArgument, match="need semantic='samples'"):
        estimate(samples=SAMPLES)
    with pytest.raises(InvalidArgument, match="label_words: name the label words"):
        estimate(semantic="label_words")
    with pytest.raises(EudsError, match="needs an encoder"):
        estimate(semantic="samples", samples=SAMPLES)
    with pytest.raises(EudsError, match="leave none for a prompt"):
        estimate(
            semantic="samples", samples=euds.SampleSettings(max_new_tokens=300, grouping="labels", labels=("a", "b"))
        )


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(inner) for key, inner in value.items() if key != "seconds"}
    return value
