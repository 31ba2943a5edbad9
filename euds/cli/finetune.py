"""`euds finetune`."""

from typing import Annotated

import typer


def finetune(
    train: Annotated[str, typer.Option(help="Training rows: any corpus file, such as selected.parquet.")],
    test: Annotated[str, typer.Option(help="Test rows.")],
    model: Annotated[str, typer.Option(help="BERT-like model: asset, folder or hub name.")],
    task: Annotated[str, typer.Option(help="classification or question_answering.")] = "classification",
    text_field: Annotated[
        list[str] | None,
        typer.Option(help="Field of the text, text by default, or two for pairs; of questions, question and context."),
    ] = None,
    label_field: Annotated[
        str | None,
        typer.Option(help="Field of the label, label by default; of questions that of the answers, answers."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training rows; 3 by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a training batch.")] = 16,
    learning_rate: Annotated[float | None, typer.Option(help="1e-4, for question answering 2e-4.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens read of each text; 256, of questions 384.")] = None,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 for the products.")] = "float32",
    by_length: Annotated[bool, typer.Option("--by-length", help="Batch texts of about the same length.")] = False,
    seed: Annotated[list[int] | None, typer.Option(help="Training seed; repeat for several.")] = None,
    out: Annotated[str | None, typer.Option(help="Results as JSON.")] = None,
    save_model: Annotated[str | None, typer.Option(help="Folder for the model of the last seed.")] = None,
) -> None:
    """Fine-tune a small model on selected rows and measure it on the test rows."""
    from euds.study.finetune import finetune as finetune_rows
    from euds.study.types import spread

    seeds = seed or [0]
    results = finetune_rows(
        train,
        test,
        model=model,
        task=task,
        text_field=text_field or None,
        label_field=label_field,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        precision=precision,
        by_length=by_length,
        seeds=seeds,
        out=out,
        save_model=save_model,
    )
    for name in results[0].metrics:
        over = spread([result.metrics[name] for result in results])
        spread_text = "" if over.sd is None else f" ± {over.sd:.4f}"
        typer.echo(f"{name}: {over.mean:.4f}{spread_text} over {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
    typer.echo(f"training: {sum(result.train_seconds for result in results):.0f} s on {results[0].n_train:,} rows")
