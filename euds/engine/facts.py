"""What the manifest records of models, machine and pool once a run has seen them."""

import os
import platform
from dataclasses import asdict
from typing import Any

import psutil

from euds.assets import given_folder
from euds.engine.generations_config import SampleSettings
from euds.engine.pool import Pool
from euds.engine.prepare import Plan
from euds.engine.read import Encoders
from euds.measures.device import Precision
from euds.measures.prompts import template_of
from euds.measures.tokens import ModelTokenizer

DRAWS = {
    "transformers": "inverse of the cumulated probabilities at SplitMix64 of seed, row, generation and step",
    "vllm": "vLLM's, of a generator for each generation, seeded by seed, row and generation",
}
"""How each sampler comes by a token."""


def model_facts(plan: Plan, encoders: Encoders, settled: Precision) -> dict[str, Any]:
    """Return each model's name, hashes, dtype and reading limit, by role; of a local one its folder, too."""
    models = {role: dict(facts) for role, facts in plan.fingerprint["models"].items()}
    for role, facts in models.items():
        if given_folder(facts["name"]) is not None:
            # Not in the fingerprint: the same model elsewhere gives the same scores.
            facts["folder"] = str(plan.folders[role].absolute())
    if "lm" in models:
        assert isinstance(encoders.tokens, ModelTokenizer)
        models["lm"] |= {"dtype": settled.dtype, "first_token_rule": _first_token_rule(encoders.tokens)}
    if isinstance(encoders.tokens, ModelTokenizer):
        models["lm" if "lm" in models else "tokenizer"]["max_tokens"] = encoders.tokens.max_tokens
    if "embedder" in models:
        from euds.measures.semantic import pools_first_token

        pooled = "first token" if pools_first_token(plan.folders["embedder"]) else "mean"
        models["embedder"] |= {"dtype": settled.dtype, "pooling": f"{pooled}, unit norm"}
    if encoders.embedder is not None:
        models["embedder"]["max_tokens"] = encoders.embedder.max_tokens
    if "nli" in models:
        models["nli"]["dtype"] = settled.dtype
    return models


def device_facts(settled: Precision, torch_threads: int | None) -> dict[str, Any]:
    """Return what the run ran on; `torch_threads`: of each worker, as `Runner` has them."""
    facts: dict[str, Any] = {
        "name": settled.device,
        "cpu": platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch_threads,
        "memory_bytes": psutil.virtual_memory().total,
    }
    if settled.kind == "cuda":
        import torch

        facts["gpu"] = torch.cuda.get_device_name(settled.torch_device)
    return facts


def pool_facts(plan: Plan, pool: Pool) -> dict[str, Any]:
    """Return what the scores took from the whole pool."""
    facts: dict[str, Any] = {}
    if pool.counts is not None:
        facts["unigram"] = {
            "tokens": int(pool.counts.sum()),
            "vocabulary_size": len(pool.counts),
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
    if plan.config.samples is not None:
        facts["samples"] = _generation_facts(plan, plan.config.samples)
    if plan.config.label_words is not None:
        facts["label_words"] = {
            "estimator": "label_words",
            "labels": list(plan.config.label_words.words),
            "template": template_of(plan.config.label_words.template, plan.config.text_fields),
            "logprobs": "of a word, the sum over its tokens after the prompt, at temperature 1; renormalised",
        }
    return facts


def _generation_facts(plan: Plan, settings: SampleSettings) -> dict[str, Any]:
    return {
        "estimator": "samples",
        "estimators": list(settings.estimators),
        "n_generations": settings.n_generations,
        "max_new_tokens": settings.max_new_tokens,
        "template": template_of(settings.template, plan.config.text_fields),
        "ends": "end tokens or a line break" if settings.stops_at_newline else "end tokens",
        "warping": {**asdict(settings.warping), "order": "temperature, top_k, top_p"},
        "logprobs": "of every drawn token, the ending one included, before warping, at temperature 1",
        "sampler": settings.sampler,
        "draws": DRAWS[settings.sampler],
        "seed": plan.config.seed,
        "grouping": settings.grouping,
        "question_in_front": settings.grouping == "entailment" and settings.template == "question",
        "repeated_texts": "rao_blackwell counts the probability of a text once, however often it was drawn",
    }


def _first_token_rule(tokenizer: ModelTokenizer) -> str:
    if tokenizer.bos_id is None:
        return "not scored: the tokenizer puts no BOS token before a text"
    return f"scored after the BOS token {tokenizer.bos_id}"
