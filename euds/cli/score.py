"""`euds score`."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MEASURES = "information,generative,semantic"
DEFAULT_ESTIMATORS = "discrete,rao_blackwell"


def score(
    inputs: Annotated[list[str], typer.Argument(help="JSONL, JSONL.gz, Parquet, CSV or Arrow files, or globs.")],
    out: Annotated[Path, typer.Option(help="Run directory.")],
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
    n_clusters: Annotated[int | None, typer.Option(help="Semantic clusters; by default from the rows.")] = None,
    n_neighbors: Annotated[int, typer.Option(help="Nearest clusters the entropy runs over.")] = 16,
    similarity_temperature: Annotated[float, typer.Option(help="Divisor of the cosine similarities.")] = 0.05,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the clustering and of the generations.")] = 0,
    semantic: Annotated[str, typer.Option(help="clusters, samples or both: clusters,samples.")] = "clusters",
    n_generations: Annotated[int, typer.Option(help="samples: generations of a row.")] = 10,
    max_new_tokens: Annotated[int, typer.Option(help="samples: most tokens of a generation.")] = 32,
    template: Annotated[
        str, typer.Option(help="samples: continuation, labels, question, or a template with {text}.")
    ] = "continuation",
    labels: Annotated[str, typer.Option(help="samples: label words, such as positive,negative.")] = "",
    temperature: Annotated[float, typer.Option(help="samples: divisor of the logits.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="samples: probability that is left to draw from.")] = 0.9,
    top_k: Annotated[int, typer.Option(help="samples: tokens left to draw from; 0: all, 1: greedy.")] = 50,
    grouping: Annotated[str, typer.Option(help="samples: similarity, entailment or labels.")] = "similarity",
    min_similarity: Annotated[float, typer.Option(help="samples: smallest cosine similarity of one meaning.")] = 0.7,
    linkage: Annotated[
        str, typer.Option(help="samples: first_representative or connected_components.")
    ] = "first_representative",
    nli: Annotated[str | None, typer.Option(help="samples: cross-encoder with a label entailment.")] = None,
    estimators: Annotated[
        str, typer.Option(help="samples: any of discrete,rao_blackwell,miller_madow,chao_shen,...")
    ] = DEFAULT_ESTIMATORS,
    generations_from: Annotated[str | None, typer.Option(help="samples: run whose generations are taken over.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one for each CUDA device.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Score by actors of Ray Data.")] = False,
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster; by default Ray's own rule.")] = None,
    split: Annotated[str | None, typer.Option(help="I/N: score this piece only; slurm: by the array.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of scores that runs share; none by default.")] = None,
    cache_limit_gb: Annotated[float, typer.Option(help="Size that the cache is kept within.")] = 10.0,
    force_new: Annotated[bool, typer.Option("--force-new", help="Delete what --out holds and start over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
) -> None:
    """Give every sample its entropies, in a table beside the corpus; the same command again resumes."""
    from euds.engine.samples_config import SampleSettings
    from euds.engine.score import score as score_corpus

    estimates = _names(semantic)
    samples = SampleSettings(
        n_generations=n_generations,
        max_new_tokens=max_new_tokens,
        template=template,
        labels=tuple(_names(labels)),
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        grouping=grouping,
        min_similarity=min_similarity,
        linkage=linkage,
        nli=nli,
        estimators=tuple(_names(estimators)),
        generations_from=generations_from,
    )
    result = score_corpus(
        inputs,
        out=out,
        text_field=text_field or ["text"],
        id_field=id_field,
        label_field=label_field,
        source_field=source_field,
        measures=_names(measures),
        semantic=estimates,
        samples=samples if "samples" in estimates or samples != SampleSettings() else None,
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
    if result.seconds:
        typer.echo(
            f"{result.n_rows:,} rows = {result.n_scored:,} scored + {result.n_quarantined:,} quarantined, "
            f"{result.n_truncated:,} truncated; {result.n_tokens:,} tokens in {result.seconds['total']:,.1f} s "
            f"({result.tokens_per_second:,.0f} tokens/s); scores in {result.run_dir}/scores"
        )


def status(run_dir: Annotated[Path, typer.Argument(help="Directory of a run, finished or not.")]) -> None:
    """Say how far a run has come: rows, rate, time left, quarantined rows by reason."""
    from euds.engine.status import run_status

    typer.echo(str(run_status(run_dir)))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
