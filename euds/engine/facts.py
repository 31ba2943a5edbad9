"""What the manifest records of models, machine and pool once a run has seen them."""

import os
import platform
from typing import Any

import psutil
import torch

from euds.engine.pool import Pool
from euds.engine.prepare import Plan
from euds.engine.read import Encoders
from euds.measures.device import Precision
from euds.measures.tokens import ModelTokenizer


def model_facts(plan: Plan, encoders: Encoders, settled: Precision) -> dict[str, Any]:
    """Return each model's name, hashes, dtype and reading limit, by role."""
    models = {role: dict(facts) for role, facts in plan.fingerprint["models"].items()}
    if "lm" in models:
        assert isinstance(encoders.tokens, ModelTokenizer)
        models["lm"] |= {"dtype": settled.dtype, "first_token_rule": _first_token_rule(encoders.tokens)}
    if isinstance(encoders.tokens, ModelTokenizer):
        models["lm" if "lm" in models else "tokenizer"]["max_tokens"] = encoders.tokens.max_tokens
    if encoders.embedder is not None:
        models["embedder"] |= {
            "dtype": settled.dtype,
            "pooling": "mean, unit norm",
            "max_tokens": encoders.embedder.max_tokens,
        }
    return models


def device_facts(settled: Precision) -> dict[str, Any]:
    """Return what the models ran on."""
    facts: dict[str, Any] = {
        "name": settled.device,
        "cpu": platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
    }
    if settled.torch_device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(settled.torch_device)
    return facts


def pool_facts(plan: Plan, pool: Pool) -> dict[str, Any]:
    """Return what the scores took from the whole pool."""
    facts: dict[str, Any] = {}
    if pool.unigram is not None:
        facts["unigram"] = {
            "tokens": int(pool.unigram.counts.sum()),
            "vocabulary_size": len(pool.unigram.counts),
            "unit": "word" if plan.config.token_model is None else "token",
            "smoothing": "add one",
        }
    if pool.centroids is not None:
        facts["clusters"] = {
            "estimator": "clusters",
            "n_clusters": len(pool.centroids),
            "n_neighbors": min(plan.config.n_neighbors, len(pool.centroids)),
            "similarity_temperature": plan.config.similarity_temperature,
            "seed": plan.config.seed,
        }
    return facts


def _first_token_rule(tokenizer: ModelTokenizer) -> str:
    if tokenizer.bos_id is None:
        return "not scored: the tokenizer puts no BOS token before a text"
    return f"scored after the BOS token {tokenizer.bos_id}"
