"""`euds.finetune`: fine-tune a small model on some rows and measure it on others."""

from collections.abc import Sequence
from pathlib import Path

from euds.corpus import list_inputs
from euds.corpus.location import leads_to, local_output
from euds.errors import InvalidArgument, InvalidType, check_seed, goes_by_columns
from euds.files import check_writable, permitted, write_json
from euds.measures.models import model_folder
from euds.study.examples import (
    Example,
    Rows,
    as_compared,
    check_learnable,
    examples_of,
    read_examples,
    warn_of_repeats,
)
from euds.study.types import CLASSIFICATION, CellResult, Task, TrainConfig, epochs_of, task_of
from euds.texts import joined


def finetune(
    train: str | Path | Rows,
    test: str | Path | Rows,
    *,
    model: str | Path,
    task: str = CLASSIFICATION,
    text_field: str | Sequence[str] | None = None,
    label_field: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int = 16,
    learning_rate: float | None = None,
    max_tokens: int | None = None,
    precision: str = "float32",
    by_length: bool = False,
    seeds: Sequence[int] = (0,),
    out: str | Path | None = None,
    save_model: str | Path | None = None,
) -> list[CellResult]:
    """Fine-tune a BERT-like model once per seed and measure it on the test rows.

    Args:
        train, test: a corpus file or glob, such as a selected.parquet, or rows as mappings.
        model: asset, folder or hub name; safetensors weights.
        task: "classification" (one text or a pair) or "question_answering" (extractive, answers as in SQuAD).
        text_field: field or two fields of the text; None: "text", for questions ("question", "context").
        label_field: field of the label or the answers; None: "label", for questions "answers".
        epochs: passes over the training rows; None: 3, unless `steps` is given.
        steps: optimizer steps, instead of `epochs`.
        batch_size: rows of a training batch.
        learning_rate: peak of the linear warm-up schedule; None: 1e-4, for questions 2e-4.
        max_tokens: tokens read of each text; None: 256, for questions windows of 384.
        precision: "float32", or "bfloat16" for products in bfloat16 (weights stay in float32).
        by_length: whether texts of about the same length share a batch, which saves padding.
        seeds: one model each.
        out: JSON file of the results, written anew after each seed and before the model is saved.
        save_model: folder for the last seed's model.

    Returns:
        One result a seed: accuracy and macro-F1, or F1 and exact match, in 0..1, and seconds of training.

    Raises:
        InvalidArgument: a setting is impossible, or results or model would be written over the rows or the model read,
            or over each other.
        InvalidType: seeds are no list, a field is no name, or rows are a table by columns, no mappings, or an iterator.
        InputError: a file, field or model is not there, a row does not suit the task or the model, the training rows
            have one label only or none of the test rows', or the folder of the results or for the model takes no file.
            All of that is told before anything is trained.
        RunStopped: the disk is full.
    """
    settled = task_of(task, text_field, label_field)
    if not isinstance(seeds, Sequence):
        raise InvalidType(f"seeds: must be a list of integers, got {seeds!r}")
    if not seeds:
        raise InvalidArgument("seeds: give at least one")
    for seed in seeds:
        check_seed("seeds", seed)
    if len(set(seeds)) < len(seeds):
        raise InvalidArgument(f"seeds: one is given twice, and would give the same model; got {list(seeds)}")
    config = TrainConfig(
        model=str(model),
        epochs=epochs_of(epochs, steps),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        precision=precision,
        by_length=by_length,
    )
    train_rows, learned = _examples(train, settled, "training")
    test_rows, judged = _examples(test, settled, "test")
    if task == CLASSIFICATION:
        check_learnable(learned, judged, source=f"train: {train}" if isinstance(train, str | Path) else "train")
    base = model_folder(config.model)
    with permitted(base):
        of_model = list(base.iterdir())
    if out is not None:
        specs = [source for source in (train, test) if isinstance(source, str | Path)]
        of_rows = [file for spec in specs for file in list_inputs([spec])]
        out = _results_file(local_output(out, "a file for the results"), [*of_rows, *of_model])
    if save_model is not None:
        save_model = _place_of_model(local_output(save_model, "a folder for the model", "save_model"), of_model)
        if out is not None:
            _check_apart(out, save_model, of_model)
    # Everything that can be wrong without a model has been checked; this import loads torch and transformers.
    from euds.measures.device import precision as settle
    from euds.measures.device import warn_of_emulated_bfloat16
    from euds.study.cell import check_trainable, train_and_test

    check_trainable(learned, judged, task=settled, config=config)
    warn_of_repeats(
        _texts(learned), _texts(judged), of=f"{len(learned):,} training rows", flattered="a model that has learned them"
    )
    warn_of_emulated_bfloat16("precision", config.precision, settle().device)
    results: list[CellResult] = []

    def on_result(result: CellResult) -> None:
        results.append(result)
        if out is not None:
            with permitted(out):
                write_json(out, [result.to_json() for result in results])

    for seed in seeds:
        keep = save_model if seed == seeds[-1] else None
        train_and_test(
            train_rows,
            test_rows,
            task=settled,
            config=config,
            seed=seed,
            title=f"fine-tuning, seed {seed}",
            on_result=on_result,
            save_model=keep,
        )
    return results


def _results_file(path: Path, read: Sequence[Path]) -> Path:
    """Return where results go; refuse a place that takes none, or a file that is read, before training."""
    if path.is_dir():
        raise InvalidArgument(f"out: {path} is a folder; name a file for the results, such as {path / 'results.json'}")
    with permitted(path):
        if any(leads_to(path, file) for file in read):
            raise InvalidArgument(f"out: {path} is a file of the rows or the model; name another for the results")
    check_writable(path.parent)
    return path


def _place_of_model(folder: Path, of_base: Sequence[Path]) -> Path:
    """Return where the model goes; refuse a place that takes none, or has files of the base model, before training."""
    with permitted(folder):
        # Either folder may hold links to files of the other.
        if any(leads_to(folder / file.name, file) for file in of_base):
            raise InvalidArgument(f"save_model: {folder} has files of the base model; name another folder")
    check_writable(folder)
    return folder


def _check_apart(out: Path, folder: Path, of_base: Sequence[Path]) -> None:
    """Refuse results in the place of the model or of one of its files, or a model in the place of the results."""
    results, of_model = out.resolve(), folder.resolve()
    # A model is saved under the names that the files of the base model have.
    if results in (of_model, *of_model.parents, *(of_model / file.name for file in of_base)):
        raise InvalidArgument(f"save_model: {folder} and the results, {out}, would be written over one another")


def _texts(examples: Sequence[Example]) -> list[str]:
    return [as_compared(joined(example.texts)) for example in examples]


def _examples(source: str | Path | Rows, task: Task, what: str) -> tuple[Rows, list[Example]]:
    if isinstance(source, str | Path):
        return read_examples(source, task)
    if goes_by_columns(source):
        raise InvalidType(f"{what} rows: must be a file or rows as mappings, got {type(source).__name__}")
    return source, examples_of(source, task, what)
