"""A small entailment judge for the real run of `semantic_samples.py`, trained on pairs that are made by rules.

No clean model of natural-language inference is among the assets, so this makes one that is good enough to look at the
plumbing with real text: MiniLM as a cross-encoder, fine-tuned on pairs from movie snippets. It is no MNLI model. It has
seen three kinds of inference only: leaving words out, adjectives of one meaning or the opposite, and other snippets.

    entailment      a snippet and its first clause; a verdict and itself with words of the same meaning, or less of it
    contradiction   a verdict and one of the opposite meaning, or its negation
    neutral         the first clause and the whole snippet; a verdict and more; two snippets
"""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import euds
from euds.corpus import list_inputs

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
PAIRS = 2_000
TEST_SHARE = 0.15


def train_judge(folder: Path, seed: int = 0) -> dict[str, float]:
    """Train the judge into `folder` and return its accuracy and macro-F1 on held-out pairs."""
    rng = np.random.default_rng(seed)
    (file,) = list_inputs(["movie-snippets/train.jsonl"])
    snippets = [json.loads(line)["text"] for line in Path(file).read_text(encoding="utf-8").splitlines()[2000:]]
    pairs = list(itertools.islice(_pairs(snippets, rng), PAIRS))
    rows = [{"premise": premise, "hypothesis": hypothesis, "label": label} for premise, hypothesis, label in pairs]
    cut = round(TEST_SHARE * len(rows))
    (result,) = euds.finetune(
        rows[cut:],
        rows[:cut],
        model="all-minilm-l6-v2",
        text_field=["premise", "hypothesis"],
        epochs=2.0,
        max_tokens=64,
        seeds=(seed,),
        save_model=folder,
    )
    return {name: round(value, 4) for name, value in result.metrics.items()}


def _pairs(snippets: list[str], rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """Yield premise, hypothesis and label for ever, in the order of three labels with equal shares."""
    subjects = list(MEANINGS)
    clauses = [(text, first) for text in snippets if (first := _first_clause(text))]
    while True:
        subject, other = rng.choice(subjects, 2, replace=False)
        side = int(rng.integers(2))
        same, opposite = MEANINGS[subject][side], MEANINGS[subject][1 - side]
        one, two = _framed(rng, str(rng.choice(same))), _framed(rng, str(rng.choice(same)))
        more = f"{one} and {rng.choice(MEANINGS[other][side])}"
        against = _framed(rng, str(rng.choice(opposite)))
        whole, first = clauses[int(rng.integers(len(clauses)))]
        stranger = snippets[int(rng.integers(len(snippets)))]
        yield from (
            (one, two, "entailment"),
            (one, against, "contradiction"),
            (one, more, "neutral"),
            (more, one, "entailment"),
            (one, _framed(rng, f"not {rng.choice(same)}"), "contradiction"),
            (one, _framed(rng, str(rng.choice(MEANINGS[other][side]))), "neutral"),
            (whole, first, "entailment"),
            (more, against, "contradiction"),
            (first, whole if rng.integers(2) else stranger, "neutral"),
        )


def _framed(rng: np.random.Generator, verdict: str) -> str:
    return str(rng.choice(FRAMES)).format(verdict)


def _first_clause(text: str) -> str:
    """What stands before the first comma or conjunction, if it is a part of its own."""
    first = re.split(r",| and | but ", text, maxsplit=1)[0].strip()
    return first if len(first.split()) >= 3 and len(first) < len(text) - 10 else ""
