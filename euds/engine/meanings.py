"""Group a shard's generations into meanings, and give each row its semantic entropies."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from euds.engine.batches import OUT_OF_MEMORY, TokenBudget
from euds.engine.columns import nullable
from euds.engine.embed import embed_into
from euds.engine.generations_config import SampleSettings
from euds.measures.device import free_cached_memory, is_out_of_memory
from euds.measures.entailment import EntailmentModel, JudgmentNotFinite, entailment_meanings
from euds.measures.semantic import Embedder
from euds.measures.tokens import ModelTokenizer
from euds.ops.grouping import embedding_groups, label_groups, leading_labels, text_codes
from euds.ops.semantic import (
    EMBEDDING_ESTIMATORS,
    kernel_language_entropy,
    n_groups,
    nearest_neighbor_entropy,
    semantic_entropy,
)
from euds.types import Float32Array, Float64Array, Int64Array

JUDGE_NOT_FINITE = "the entailment model's logits are NaN or infinite"
NO_TOKENS = "a generation has no tokens to embed"


def column_of(estimator: str) -> str:
    """Return the score column of an estimator."""
    return f"semantic_samples_{estimator}_nats"


@dataclass(frozen=True, eq=False)
class Judges:
    """The models that tell meanings apart; None where the settings use none."""

    embedder: Embedder | None
    tokenizer: ModelTokenizer | None
    nli: EntailmentModel | None


@dataclass(eq=False)
class _Answers:
    """The generations of the rows that have them, one row after another."""

    texts: list[str]
    questions: list[str] | None
    offsets: Int64Array
    mean_logprobs: Float64Array
    codes: Int64Array = field(init=False)
    distinct: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.codes, self.distinct = text_codes(self.texts)

    def between(self, first: int, end: int) -> "_Answers":
        """Return those of rows first..end - 1."""
        start, stop = self.offsets[[first, end]].tolist()
        questions = None if self.questions is None else self.questions[first:end]
        offsets = self.offsets[first : end + 1] - start
        return _Answers(self.texts[start:stop], questions, offsets, self.mean_logprobs[start:stop])


@dataclass(frozen=True, eq=False)
class _Entailed:
    """Groups by entailment, how many pairs were judged for them, and why some rows have none."""

    groups: Int64Array
    n_judged: int
    given_up: dict[int, str]


def meanings_shard(
    generations: pa.Table, settings: SampleSettings, judges: Judges, budget: TokenBudget
) -> tuple[pa.Table, dict[str, Any]]:
    """Group one shard's generations, and estimate.

    Returns:
        One line a row: `row_id`, `group` (a list, one number a generation), `semantic_n_groups`, a column an estimator,
        null where there is none, and `reason` for a usable row that got none; and what it cost.
    """
    reasons: list[str | None] = generations.column("reason").to_pylist()
    rows = [at for at, texts in enumerate(generations.column("text").to_pylist()) if texts is not None]
    answers = _answers(generations, rows)
    cost: dict[str, Any] = {}
    embeddings, failed = _embed(answers, judges, budget, cost) if settings.needs_embeddings else (None, {})
    start = time.perf_counter()
    tokenless = {code for code, why in failed.items() if why == NO_TOKENS}
    groups, given_up = _group(answers, settings, embeddings, tokenless, judges, cost)
    if not set(EMBEDDING_ESTIMATORS) & set(settings.estimators):
        # They have a group, which is all that the others look at.
        failed = {code: why for code, why in failed.items() if code not in tokenless}
    cost["grouping"] |= {"seconds": time.perf_counter() - start}
    start = time.perf_counter()
    scores = {name: _estimate(name, groups, answers, embeddings) for name in settings.estimators}
    counts = n_groups(groups, answers.offsets)
    cost["estimation"] = {"seconds": time.perf_counter() - start}
    for row, (at, (first, last)) in enumerate(zip(rows, pairwise(answers.offsets.tolist()), strict=True)):
        bad = [failed[code] for code in answers.codes[first:last].tolist() if code in failed]
        bad += [given_up[row]] if row in given_up else []
        reasons[at] = bad[0] if bad else None
    return _table(generations, rows, reasons, groups, answers.offsets, counts, scores), cost


def _answers(generations: pa.Table, rows: Sequence[int]) -> _Answers:
    kept = generations.take(pa.array(rows, pa.int64()))
    lists: list[list[str]] = kept.column("text").to_pylist()
    questions = kept.column("question").to_pylist()
    return _Answers(
        texts=[text.strip() for texts in lists for text in texts],
        questions=None if None in questions or not questions else questions,
        offsets=np.cumsum([0, *map(len, lists)]),
        # Rounded to float32, so that they are what the file holds, whoever computes from it again.
        mean_logprobs=np.array(
            [value for values in kept.column("mean_logprob").to_pylist() for value in values], float
        ),
    )


def _embed(
    answers: _Answers, judges: Judges, budget: TokenBudget, cost: dict[str, Any]
) -> tuple[Float32Array, dict[int, str]]:
    """Embed every different text once; return the generations' embeddings, and why some texts have none."""
    assert judges.embedder is not None
    assert judges.tokenizer is not None
    embedder = judges.embedder
    start = time.perf_counter()
    ids = [encoded.ids for encoded in judges.tokenizer.encode(answers.distinct)]
    lengths = [len(one) + embedder.n_special for one in ids]
    vectors = np.full((len(ids), embedder.width), np.nan, np.float32)
    # Without special tokens, a text may have none at all.
    failed = {at: NO_TOKENS for at, length in enumerate(lengths) if length == 0}
    able = [at for at, length in enumerate(lengths) if length > 0]
    for _, lost in embed_into(vectors, able, [lengths[at] for at in able], ids.__getitem__, embedder, budget):
        failed |= lost
    cost["embedding"] = {"seconds": time.perf_counter() - start, "tokens": sum(lengths)}
    return vectors[answers.codes], failed


def _group(
    answers: _Answers,
    settings: SampleSettings,
    embeddings: Float32Array | None,
    tokenless: set[int],
    judges: Judges,
    cost: dict[str, Any],
) -> tuple[Int64Array, dict[int, str]]:
    """Return the groups, and why some rows could not be grouped."""
    sizes = np.diff(answers.offsets)
    cost["grouping"] = {"all_pairs": int((sizes * (sizes - 1)).sum())}
    if settings.grouping == "labels":
        return label_groups(leading_labels(answers.texts, settings.labels), labels=settings.labels), {}
    if settings.grouping == "entailment":
        assert judges.nli is not None
        nli = judges.nli
        tokens, cut = nli.n_tokens, nli.n_truncated
        found = _entailed(answers, nli)
        cost["grouping"] |= {
            "judged_pairs": found.n_judged,
            "truncated_pairs": nli.n_truncated - cut,
            "tokens": nli.n_tokens - tokens,
        }
        return found.groups, found.given_up
    assert embeddings is not None
    # At most: a generation that has found its group is held against no other.
    cost["grouping"]["flops"] = cost["grouping"]["all_pairs"] * embeddings.shape[1]
    codes = answers.codes.tolist()
    empty = np.array([not text or code in tokenless for text, code in zip(answers.texts, codes, strict=True)], np.bool_)
    groups = embedding_groups(
        embeddings, answers.offsets, min_similarity=settings.min_similarity, linkage=settings.linkage, empty=empty
    )
    return groups, {}


def _entailed(answers: _Answers, nli: EntailmentModel) -> _Entailed:
    """Group by entailment, with ever smaller batches where memory runs out.

    A row that never fits is given up, and so is one with a pair that the model cannot judge.
    """
    reason = OUT_OF_MEMORY
    while True:
        try:
            found = entailment_meanings(answers.texts, answers.offsets, nli, questions=answers.questions)
        except JudgmentNotFinite:
            reason = JUDGE_NOT_FINITE
            break
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if nli.n_together <= 1 or nli.token_budget == 1:
                break
        else:
            return _Entailed(found.groups, found.n_evaluated, {})
        free_cached_memory()
        nli.token_budget //= 2
    n = len(answers.offsets) - 1
    if n <= 1:
        return _Entailed(np.zeros(len(answers.texts), np.int64), 0, dict.fromkeys(range(n), reason))
    # The other half of the rows need not suffer for that one.
    first, second = (_entailed(half, nli) for half in (answers.between(0, n // 2), answers.between(n // 2, n)))
    return _Entailed(
        groups=np.concatenate([first.groups, second.groups]),
        n_judged=first.n_judged + second.n_judged,
        given_up=first.given_up | {n // 2 + at: why for at, why in second.given_up.items()},
    )


def _estimate(estimator: str, groups: Int64Array, answers: _Answers, embeddings: Float32Array | None) -> Float64Array:
    if estimator in EMBEDDING_ESTIMATORS:
        assert embeddings is not None
        function = nearest_neighbor_entropy if estimator == "nearest_neighbor" else kernel_language_entropy
        return function(embeddings, answers.offsets)
    if estimator == "rao_blackwell":
        # A text drawn twice has its probability once.
        return semantic_entropy(
            groups,
            logprobs=answers.mean_logprobs,
            offsets=answers.offsets,
            estimator=estimator,
            text_ids=answers.codes,
        )
    return semantic_entropy(groups, offsets=answers.offsets, estimator=estimator)


def _table(
    generations: pa.Table,
    rows: Sequence[int],
    reasons: Sequence[str | None],
    groups: Int64Array,
    offsets: Int64Array,
    counts: Int64Array,
    scores: dict[str, Float64Array],
) -> pa.Table:
    n = generations.num_rows
    good = np.zeros(n, np.bool_)
    good[rows] = [reasons[at] is None for at in rows]
    lists: list[list[int] | None] = [None] * n
    for at, (first, last) in zip(rows, pairwise(offsets.tolist()), strict=True):
        lists[at] = groups[first:last].tolist() if good[at] else None
    columns = {
        "row_id": generations.column("row_id"),
        "group": pa.array(lists, pa.list_(pa.int32())),
        "semantic_n_groups": pa.array(_spread(counts, rows, n, np.int32), mask=~good),
    }
    for name, values in scores.items():
        columns[column_of(name)] = nullable(_spread(values, rows, n, np.float64), good)
    return pa.table({**columns, "reason": pa.array(reasons, pa.string())})


def _spread(values: np.ndarray, rows: Sequence[int], n: int, dtype: Any) -> np.ndarray:
    whole = np.zeros(n, dtype)
    whole[list(rows)] = values
    return whole
