"""`euds finetune`."""

from pathlib import Path
from typing import Annotated

import typer


def finetune(
    train: Annotated[Path, typer.Option(help="Training rows: any corpus file, such as selected.parquet.")],
    test: Annotated[Path, typer.Option(help="Test rows.")],
    model: Annotated[str, typer.Option(help="BERT-like model: asset, folder or hub name.")],
    task: Annotated[str, typer.Option(help="classification or question_answering.")] = "classification",
    text_field: Annotated[list[str] | None, typer.Option(help="Field of the text; give two for pairs.")] = None,
    label_field: Annotated[str | None, typer.Option(help="Field of the label or of the answers.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the training rows.")] = 3.0,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a training batch.")] = 16,
    learning_rate: Annotated[float | None, typer.Option(help="1e-4, for question answering 2e-4.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens read of each text.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Training seed; repeat for several.")] = None,
    out: Annotated[Path | None, typer.Option(help="Results as JSON.")] = None,
    save_model: Annotated[Path | None, typer.Option(help="Folder for the model of the last seed.")] = None,
) -> None:
    """Fine-tune a small model on selected rows and measure it on the test rows."""
    from euds.study.command import finetune_seeds
    from euds.study.types import Task, TrainConfig

    qa = task == "question_answering"
    fields = text_field or (["question", "context"] if qa else ["text"])
    results = finetune_seeds(
        train,
        test,
        task=Task(task, tuple(fields), label_field or ("answers" if qa else "label")),
        config=TrainConfig(
            model=model,
            epochs=None if steps is not None else epochs,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            max_tokens=max_tokens,
        ),
        seeds=seed or [0],
        out=out,
        save_model=save_model,
    )
    typer.echo(results)
