"""`euds select`."""

from pathlib import Path
from typing import Annotated

import typer

from euds.cli.semantic_options import names
from euds.errors import InvalidArgument


def select(
    run_dir: Annotated[Path, typer.Argument(help="A scored run directory.")],
    keep: Annotated[str, typer.Option(help="Fraction such as 0.16, a count such as 500, or auto.")],
    rule: Annotated[
        str | None,
        typer.Option(help="auto (the default), igse, low, middle, high, densest, typical, random, facility, ..."),
    ] = None,
    axis: Annotated[list[str] | None, typer.Option(help="Score to look at; repeat for several.")] = None,
    group_by: Annotated[str | None, typer.Option(help="label or source: the same rule inside each group.")] = None,
    adjust: Annotated[str | None, typer.Option(help="log_length: take the length out of each axis first.")] = None,
    bins: Annotated[int | None, typer.Option(help="Equal-mass bins an axis of the box search; 64 by default.")] = None,
    stability: Annotated[int | None, typer.Option(help="Pools to resample; 0 for none, 100 by default.")] = None,
    margin: Annotated[
        float | None, typer.Option(help="Loss of accuracy that counts as none, for --keep auto; 0.005 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of ties and trimming.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Selected rows; RUN_DIR/selected.parquet by default.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Corpus fields to copy, comma-separated; default all (--streaming: the scored).")
    ] = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="For scores larger than memory: igse, box, low, middle, high, densest.")
    ] = False,
) -> None:
    """Choose rows from the scores, without scoring again; rules on embeddings embed the texts."""
    from euds.selection.rules import AUTO_RULE
    from euds.selection.select import AUTO, DEFAULT_MARGIN
    from euds.selection.select import select as select_rows
    from euds.selection.streaming import select_streaming
    from euds.selection.summary import summary

    fields = None if columns is None else names(columns)
    if margin is not None and keep != AUTO:
        raise InvalidArgument("margin: is of --keep auto; leave it out")
    if streaming:
        if keep == AUTO or group_by or adjust or stability:
            raise InvalidArgument("streaming: takes no --keep auto, --group-by, --adjust or --stability")
        if rule is None:
            raise InvalidArgument("rule: --streaming has no default; name igse, box, low, middle, high or densest")
        chosen = select_streaming(
            run_dir, keep=keep, rule=rule, axes=axis, seed=seed, bins=bins, out=out, columns=fields
        )
        typer.echo(summary(chosen))
        return
    selection = select_rows(
        run_dir,
        keep=keep,
        rule=rule or AUTO_RULE,
        axes=axis,
        group_by=group_by,
        adjust=adjust,
        bins=bins,
        stability=stability,
        margin=DEFAULT_MARGIN if margin is None else margin,
        seed=seed,
        out=out,
        columns=fields,
    )
    typer.echo(summary(selection))
