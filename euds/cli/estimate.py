"""`euds estimate`."""

from typing import Annotated

import typer

from euds.cli import semantic_options as opt
from euds.cli.score import DEFAULT_MEASURES


def estimate(
    inputs: Annotated[list[str], typer.Argument(help="JSONL, JSONL.gz, Parquet, CSV or Arrow files, or globs.")],
    text_field: Annotated[list[str] | None, typer.Option(help="Field of the text; give two for pairs.")] = None,
    id_field: Annotated[str | None, typer.Option(help="Field carried along as id.")] = None,
    label_field: Annotated[str | None, typer.Option(help="Field carried along as label.")] = None,
    source_field: Annotated[str | None, typer.Option(help="Field carried along as source.")] = None,
    measures: Annotated[str, typer.Option(help="Any of information,generative,semantic.")] = DEFAULT_MEASURES,
    lm: Annotated[str | None, typer.Option(help="Causal LM: asset, folder or hub name.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Sentence encoder: asset, folder or hub name.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokens that information entropy counts; else words.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens read of each text.")] = None,
    token_budget: Annotated[int | None, typer.Option(help="Tokens of a batch, padding included.")] = None,
    shard_rows: Annotated[int | None, typer.Option(help="Rows of a part file; by default from the rows.")] = None,
    semantic: opt.Semantic = "clusters",
    sampler: opt.Sampler = "transformers",
    n_generations: opt.NGenerations = 10,
    max_new_tokens: opt.MaxNewTokens = 32,
    template: opt.Template = None,
    labels: opt.Labels = "",
    temperature: opt.Temperature = 1.0,
    top_p: opt.TopP = 0.9,
    top_k: opt.TopK = 50,
    grouping: opt.Grouping = "similarity",
    min_similarity: opt.MinSimilarity = 0.7,
    linkage: opt.Linkage = "first_representative",
    nli: opt.Nli = None,
    estimators: opt.Estimators = opt.DEFAULT_ESTIMATORS,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    sample: Annotated[int | None, typer.Option(help="Rows to score; by default 256, on a GPU 4,096.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample and of the generations.")] = 0,
    workers: Annotated[int, typer.Option("--workers", "--gpus", help="Workers of the run, one a GPU.")] = 1,
    price_per_hour: Annotated[float | None, typer.Option(help="Price of a worker for an hour.")] = None,
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
    typer.echo(str(found))
