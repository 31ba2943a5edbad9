"""`euds select`."""

from pathlib import Path
from typing import Annotated

import typer

from euds.cli.as_json import Json, print_json
from euds.cli.options import names
from euds.errors import InvalidArgument
from euds.ops.interval import INTERVAL_RULES
from euds.selection.axes import AXES
from euds.selection.rules import AUTO_RULE, BOX_RULES, COVERAGE_RULES, RULES, VALIDATED

STREAMED = ", ".join((*BOX_RULES, *INTERVAL_RULES))
"""The rules that `--streaming` takes."""


def select(
    run_dir: Annotated[Path, typer.Argument(help="A scored run directory.")],
    keep: Annotated[str, typer.Option(help="Fraction such as 0.16 (1.0: all), a count such as 500 (1: one), or auto.")],
    rule: Annotated[
        str | None,
        typer.Option(help=f"{AUTO_RULE} (the default), {', '.join((*RULES, *COVERAGE_RULES))} or {VALIDATED}."),
    ] = None,
    axis: Annotated[
        list[str] | None, typer.Option(help=f"Score to look at; repeat for several: {', '.join(AXES)}.")
    ] = None,
    group_by: Annotated[str | None, typer.Option(help="label or source: the same rule inside each group.")] = None,
    adjust: Annotated[str | None, typer.Option(help="log_length: take the length out of each axis first.")] = None,
    bins: Annotated[
        int | None,
        typer.Option(
            help="Equal-mass bins an axis of the box search; 2 at least, default 64, at most 32 of validated."
        ),
    ] = None,
    stability: Annotated[
        int | None, typer.Option(help="Pools to resample; 0 for none. 100 by default, by group 0.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Loss of accuracy that counts as none, for --keep auto; 0.005 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of ties and trimming.")] = 0,
    out: Annotated[
        str | None,
        typer.Option(help="Selected rows: .parquet, .jsonl or .jsonl.gz; RUN_DIR/selected.parquet by default."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Corpus fields to copy, comma-separated; default all (--streaming: the scored).")
    ] = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help=f"For scores larger than memory, by one of these rules: {STREAMED}.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be kept, and write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Choose rows from the scores, without scoring again; rules on embeddings embed the texts."""
    from euds.selection.select import AUTO
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
            raise InvalidArgument(f"rule: --streaming has no default; name one of {STREAMED}")
        selection = select_streaming(
            run_dir, keep=keep, rule=rule, axes=axis, seed=seed, bins=bins, out=out, columns=fields, dry_run=dry_run
        )
    else:
        selection = select_rows(
            run_dir,
            keep=keep,
            rule=rule or AUTO_RULE,
            axes=axis,
            group_by=group_by,
            adjust=adjust,
            bins=bins,
            stability=stability,
            margin=margin,
            seed=seed,
            out=out,
            columns=fields,
            dry_run=dry_run,
        )
    if as_json:
        # The rows' ids, which may be millions, are in their file.
        print_json(selection, leave_out=("row_ids",), also=("n_kept",))
    else:
        typer.echo(summary(selection))
        if dry_run:
            typer.echo("  nothing was written")
