"""`euds score`."""

from pathlib import Path
from typing import Annotated

import typer

from euds.cli import options as opt
from euds.cli.as_json import Json, print_json
from euds.ops.cluster import DEFAULT_NEIGHBORS, DEFAULT_TEMPERATURE

SHOWN_REASONS = 3


def score(
    inputs: opt.Inputs,
    out: Annotated[str, typer.Option(help="Run directory.")],
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
    n_clusters: Annotated[
        int | None, typer.Option(help="Semantic clusters; by default about the square root of the rows.")
    ] = None,
    n_neighbors: Annotated[int, typer.Option(help="Nearest clusters the entropy runs over.")] = DEFAULT_NEIGHBORS,
    similarity_temperature: Annotated[float, typer.Option(help="Divisor of the cosine similarities.")] = (
        DEFAULT_TEMPERATURE
    ),
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the clustering and of the generations.")] = 0,
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
    generations_from: Annotated[str | None, typer.Option(help="samples: run whose generations are taken over.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes, one a GPU by default, or one without GPU or model; of --ray the most actors, one a GPU by "
            "default, or one a CPU without GPU or model."
        ),
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Score by actors of Ray Data.")] = False,
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster; by default Ray's own rule.")] = None,
    split: Annotated[
        str | None, typer.Option(help="I/N, I from 0: score this piece only; slurm: by the array.")
    ] = None,
    cache: Annotated[str | None, typer.Option(help="Folder of scores that runs share; none by default.")] = None,
    cache_limit_gb: Annotated[
        float | None, typer.Option(help="Size that the cache is kept within; 10 by default.")
    ] = None,
    force_new: Annotated[
        bool, typer.Option("--force-new", help="Delete what an earlier scoring left in --out and start over.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Give every sample its entropies, in a table beside the corpus; the same command again resumes."""
    from euds.engine.score import score as score_corpus

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
        generations_from=generations_from,
    )
    result = score_corpus(
        inputs,
        out=out,
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
        n_clusters=n_clusters,
        n_neighbors=n_neighbors,
        similarity_temperature=similarity_temperature,
        device=device,
        dtype=dtype,
        seed=seed,
        workers=workers,
        ray=ray,
        ray_address=ray_address,
        split=split,
        cache=cache,
        cache_limit_gb=cache_limit_gb,
        force_new=force_new,
        dry_run=dry_run,
    )
    if as_json:
        print_json(result)
    elif result.seconds:
        before = "already finished; nothing was computed; " if result.already_finished else ""
        typer.echo(
            f"{before}{result.n_rows:,} rows = {result.n_scored:,} scored + {result.n_quarantined:,} quarantined, "
            f"{result.n_truncated:,} truncated; {result.n_tokens:,} tokens in {result.seconds['total']:,.1f} s "
            f"({result.tokens_per_second:,.0f} tokens/s); scores in {result.run_dir}/scores"
        )
        if result.n_quarantined:
            say_why(result.run_dir)
    # A dry run has no seconds, nor has a piece that leaves shards to others.
    if result.seconds and not result.n_scored:
        raise typer.Exit(opt.BAD_INPUT)


def say_why(run_dir: Path) -> None:
    """Print the most frequent reasons of quarantined rows, as `euds status` prints all of them."""
    from euds.engine.status import quarantine_reasons, reason_lines

    lines = reason_lines(quarantine_reasons(run_dir))
    more = [f"  and {len(lines) - SHOWN_REASONS:,} more: euds status {run_dir}"] if len(lines) > SHOWN_REASONS else []
    typer.echo("\n".join(lines[:SHOWN_REASONS] + more))


def status(
    run_dir: Annotated[Path, typer.Argument(help="Directory of a run, finished or not.")], as_json: Json = False
) -> None:
    """Say how far a run has come: rows, rate, time left, quarantined rows by reason."""
    from euds.engine.status import run_status

    found = run_status(run_dir)
    if as_json:
        print_json(found)
    else:
        typer.echo(str(found))
