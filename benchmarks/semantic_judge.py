"""A small entailment judge for the real run of `semantic_samples.py`, trained on pairs that are made by rules.

No clean model of natural-language inference is among the assets, so this makes one that is good enough to look at the
plumbing with real text: MiniLM as a cross-encoder, fine-tuned on short verdicts about films. It is no MNLI model: it
has seen nothing but adjectives of one meaning or the opposite, their negation, and one verdict against two.

    entailment      a verdict and one of the same meaning; two verdicts and one of them
    contradiction   a verdict and one of the opposite meaning, or its negation
    neutral         a verdict and two; a verdict and one about something else
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import euds
from euds.files import read_json, write_json

MEANINGS = {
    "good": (("good", "great", "excellent", "wonderful", "superb", "fantastic", "masterful", "a masterpiece"),
             ("bad", "terrible", "awful", "poor", "dreadful", "a failure", "a disaster", "worthless")),
    "lively": (("exciting", "gripping", "thrilling", "compelling", "captivating", "engaging"),
               ("boring", "dull", "tedious", "tepid", "bland", "lifeless")),
    "funny": (("funny", "hilarious", "amusing", "witty"), ("unfunny", "humourless", "not funny at all")),
    "new": (("original", "fresh", "innovative", "inventive"), ("derivative", "unoriginal", "stale", "a cliché")),
    "clever": (("clever", "smart", "intelligent", "thoughtful"), ("stupid", "dumb", "silly", "mindless")),
    "moving": (("moving", "touching", "heartfelt", "emotional"), ("cold", "unmoving", "heartless")),
    "long": (("too long", "overlong", "far too slow"), ("short", "brisk", "fast")),
    "pretty": (("beautiful", "gorgeous", "stunning"), ("ugly", "hideous")),
    "honest": (("honest", "sincere", "truthful"), ("dishonest", "fake", "insincere")),
}  # fmt: skip
"""Verdicts by what they speak of: words of one meaning, words of the opposite one."""

FRAMES = (
    "{}",
    "{}.",
    "just {}",
    "a film that is {}",
    "the film is {}",
    "simply {}, I think",
    "so {} that it stays with you",
)
PASSES = 8
PAIRS = 900
"""Pairs of a pass; each pass draws new ones and goes on from the model that the pass before has left."""

TEST_PAIRS = 300


def train_judge(folder: Path, seed: int = 0) -> dict[str, float]:
    """Train the judge into `folder`, or go on with that, and return its accuracy and macro-F1 on newly drawn pairs."""
    before = "all-minilm-l6-v2"
    metrics: dict[str, float] = {}
    for number in range(PASSES):
        into = folder if number == PASSES - 1 else folder.with_name(f"{folder.name}-{number + 1}")
        if not (into / "metrics.json").exists():
            (result,) = euds.finetune(
                _rows(seed + 1 + number, PAIRS),
                _rows(seed, TEST_PAIRS),
                model=before,
                text_field=["premise", "hypothesis"],
                epochs=1.0,
                max_tokens=32,
                seeds=(seed,),
                save_model=into,
            )
            write_json(into / "metrics.json", {name: round(value, 4) for name, value in result.metrics.items()})
        before, metrics = str(into), read_json(into / "metrics.json")
    return metrics


def _rows(seed: int, n: int) -> list[dict[str, str]]:
    pairs = itertools.islice(_pairs(np.random.default_rng(seed)), n)
    return [{"premise": premise, "hypothesis": hypothesis, "label": label} for premise, hypothesis, label in pairs]


def _pairs(rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """Yield premise, hypothesis and label for ever, the labels in equal shares."""
    subjects = list(MEANINGS)
    while True:
        subject, other = rng.choice(subjects, 2, replace=False)
        side = int(rng.integers(2))
        same, opposite = MEANINGS[subject][side], MEANINGS[subject][1 - side]
        one, two = _framed(rng, str(rng.choice(same))), _framed(rng, str(rng.choice(same)))
        more = f"{one} and {rng.choice(MEANINGS[other][side])}"
        yield from (
            (one, two, "entailment"),
            (more, one, "entailment"),
            (one, _framed(rng, str(rng.choice(opposite))), "contradiction"),
            (one, _framed(rng, f"not {rng.choice(same)}"), "contradiction"),
            (one, more, "neutral"),
            (one, _framed(rng, str(rng.choice(MEANINGS[other][side]))), "neutral"),
        )


def _framed(rng: np.random.Generator, verdict: str) -> str:
    return str(rng.choice(FRAMES)).format(verdict)
