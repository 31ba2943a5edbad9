"""What the cheap trainee sees of a run's rows: embeddings by the run's own encoder, or else TF-IDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from euds.corpus import Row, extract_text, take_rows
from euds.errors import InputError
from euds.progress import bar
from euds.selection.axes import values_of
from euds.selection.trainee import Trainee
from euds.types import Float32Array

MAX_WORDS = 50_000


def make_trainee(manifest: Mapping[str, Any], files: Sequence[Path], scores: pa.Table) -> Trainee:
    """Read the texts of all rows with tokens, and turn them into features.

    Raises:
        InputError: the scores have no labels, or the run's encoder is gone or has changed.
    """
    if scores.column("label").null_count == scores.num_rows:
        raise InputError("rule 'validated' and keep 'auto' need labels, and the scores have none; use --label-field")
    table = scores.filter(pa.array(np.isfinite(values_of(scores, "n_tokens"))))
    row_ids = table.column("row_id").to_numpy()
    texts = _texts(files, row_ids.tolist(), manifest["config"]["text_fields"])
    names = table.column("label").to_pylist()
    codes = {name: code for code, name in enumerate(sorted({str(name) for name in names if name is not None}))}
    labels = np.array([-1 if name is None else codes[str(name)] for name in names], np.int64)
    facts = manifest["models"].get("embedder")
    if facts is None:
        return Trainee(row_ids, _tf_idf(texts), labels, "TF-IDF of words and pairs of words")
    features = embed_texts(texts, facts, manifest["config"])
    return Trainee(row_ids, features, labels, f"embeddings by {facts['name']}")


def _texts(files: Sequence[Path], row_ids: Sequence[int], fields: Sequence[str]) -> list[str]:
    rows = take_rows(files, row_ids)
    texts = [extract_text(Row(at, "", 0, row), fields)[0] for at, row in zip(row_ids, rows, strict=True)]
    return [text or "" for text in texts]


def _tf_idf(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_WORDS, token_pattern=r"\w+"
    ).fit_transform(texts)


def embed_texts(texts: Sequence[str], facts: Mapping[str, Any], config: Mapping[str, Any]) -> Float32Array:
    """Return the embeddings of texts by a run's own encoder, (n, H), zero where a text has none.

    Args:
        texts: to embed.
        facts: of the encoder, as the run's manifest has them.
        config: of the run.

    Raises:
        InputError: the encoder is gone or has changed.
    """
    from euds.assets import content_sha256
    from euds.engine.batches import TokenBudget, run_batches
    from euds.engine.worker import TOKEN_BUDGET
    from euds.measures.device import is_out_of_memory, precision
    from euds.measures.models import model_folder
    from euds.measures.semantic import Embedder
    from euds.measures.tokens import ModelTokenizer

    folder = model_folder(facts["name"])
    if content_sha256(folder) != facts["sha256"]:
        raise InputError(f"{folder}: the encoder has changed since the run was scored; score into a new directory")
    settled = precision()
    embedder = Embedder(folder, settled)
    ids = [encoded.ids for encoded in ModelTokenizer(folder, facts["max_tokens"]).encode(texts)]
    budget = TokenBudget(config["token_budget"] or TOKEN_BUDGET[settled.torch_device.type])
    found = np.zeros((len(texts), embedder.width), np.float32)
    batches = run_batches(
        [len(own) for own in ids],
        budget,
        lambda batch: embedder.embed([ids[at] for at in batch]),
        out_of_memory=is_out_of_memory,
    )
    with bar("embed for the probe", len(texts)) as progress:
        for batch, vectors in batches:
            if vectors is not None:
                # A row without an embedding stays at zero, the probe's "no idea".
                found[batch] = np.nan_to_num(vectors)
            progress.advance(len(batch))
    return found
