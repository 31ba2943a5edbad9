"""`euds estimate`."""

from typing import Annotated

import typer

from euds.cli import options as opt
from euds.cli.as_json import Json, print_json


def estimate(
    inputs: opt.Inputs,
    text_field: opt.TextField = None,
    id_field: opt.IdField = None,
    label_field: opt.LabelField = None,
    source_field: opt.SourceField = None,
    measures: opt.Measures = opt.DEFAULT_MEASURES,
    lm: opt.Lm = None,
    embedder: opt.Embedder = None,
    tokenizer: opt.Tokenizer = None,
    max_tokens: opt.MaxTokens = None,
    token_budget: opt.TokenBudget = None,
    shard_rows: opt.ShardRows = None,
    semantic: opt.Semantic = "clusters",
    sampler: opt.Sampler = opt.SAMPLES.sampler,
    n_generations: opt.NGenerations = opt.SAMPLES.n_generations,
    max_new_tokens: opt.MaxNewTokens = opt.SAMPLES.max_new_tokens,
    template: opt.Template = None,
    labels: opt.Labels = "",
    temperature: opt.Temperature = opt.SAMPLES.temperature,
    top_p: opt.TopP = opt.SAMPLES.top_p,
    top_k: opt.TopK = opt.SAMPLES.top_k,
    grouping: opt.Grouping = opt.SAMPLES.grouping,
    min_similarity: opt.MinSimilarity = opt.SAMPLES.min_similarity,
    linkage: opt.Linkage = opt.SAMPLES.linkage,
    nli: opt.Nli = None,
    estimators: opt.Estimators = opt.DEFAULT_ESTIMATORS,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    sample: Annotated[
        int | None, typer.Option(help="Rows to score; by default 256, on a GPU or without a model 4,096.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample and of the generations.")] = 0,
    workers: Annotated[int, typer.Option("--workers", "--gpus", help="Workers of the run, one a GPU.")] = 1,
    price_per_hour: Annotated[float | None, typer.Option(help="Price of a worker for an hour.")] = None,
    as_json: Json = False,
) -> None:
    """Score a random sample and say what tokens, time, memory, disk and money the corpus would take."""
    from euds.engine.estimate import estimate as estimate_run

    estimates, samples, label_words = opt.semantic_settings(
        semantic,
        template=template,
        labels=labels,
        estimators=estimators,
        sampler=sampler,
        n_generations=n_generations,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        grouping=grouping,
        min_similarity=min_similarity,
        linkage=linkage,
        nli=nli,
    )
    found = estimate_run(
        inputs,
        text_field=text_field or ["text"],
        id_field=id_field,
        label_field=label_field,
        source_field=source_field,
        measures=opt.names(measures),
        semantic=estimates,
        samples=samples,
        label_words=label_words,
        lm=lm,
        embedder=embedder,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        token_budget=token_budget,
        shard_rows=shard_rows,
        device=device,
        dtype=dtype,
        sample_rows=sample,
        seed=seed,
        workers=workers,
        price_per_hour=price_per_hour,
    )
    if as_json:
        print_json(found, also=("total_seconds", "worker_hours", "cost"))
    else:
        typer.echo(str(found))
