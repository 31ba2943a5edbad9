"""Fine-tune one model with one seed and test it, with transformers' own training loop."""

import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from euds.errors import InputError
from euds.files import needs_room
from euds.measures.device import precision
from euds.measures.models import load_model, model_folder, positions_of
from euds.measures.tokens import load_tokenizer
from euds.progress import Bar, bar, quiet, say
from euds.scratch import scratch_folder
from euds.study.examples import Example, Rows, examples_of
from euds.study.heads import Features, Head, head_for
from euds.study.types import LEARNING_RATE, MAX_TOKENS, CellResult, FineTuned, Task, TrainConfig
from euds.types import Float64Array

TEST_BATCH = 64


def train_and_test(
    train: Rows,
    test: Rows,
    *,
    task: Task,
    config: TrainConfig,
    seed: int,
    title: str,
    classes: frozenset[str] = frozenset(),
    on_result: Callable[[CellResult], None] = lambda result: None,
    save_model: Path | None = None,
) -> CellResult:
    """Fine-tune a model on `train` and measure it on `test`; see `fine_tune`.

    Args:
        train, test, task, config, seed, title, classes: as of `fine_tune`.
        on_result: told of the result before the model is saved, for which there may be no room.
        save_model: folder to keep the fine-tuned model in.

    Raises:
        InputError: a row or the model does not suit the task.
        RunStopped: there is no room for the model.
    """
    tuned, model = fine_tune(train, {"test": test}, task=task, config=config, seed=seed, title=title, classes=classes)
    result = CellResult(
        tuned.judged["test"].metrics, round(tuned.train_seconds, 2), len(train), len(test), tuned.steps, seed
    )
    on_result(result)
    if save_model is not None:
        with quiet(), needs_room(save_model):
            model.model.save_pretrained(save_model)
            model.tokenizer.save_pretrained(save_model)
    return result


def fine_tune(
    train: Rows,
    tests: Mapping[str, Rows],
    *,
    task: Task,
    config: TrainConfig,
    seed: int,
    title: str,
    classes: frozenset[str] = frozenset(),
) -> tuple[FineTuned, "TunedModel"]:
    """Fine-tune a model on `train` and judge it on every set of rows in `tests`; return the model, too.

    The model's weights and tokenizer come from `config.model`; the head is new, as the seed has it. Runs on whatever
    device there is.

    Args:
        train: fields by name.
        tests: rows by the name of their set, such as "test".
        task: what is learned.
        config: how.
        seed: of the new head, the order of the rows and dropout.
        title: shown beside the progress bar.
        classes: of the rows that `train` was chosen from; one that neither it nor the tests have keeps its place in the
            head, so that a seed draws the same head whatever was chosen.

    Raises:
        InputError: a row or the model does not suit the task.
    """
    examples = {name: examples_of(rows, task, name) for name, rows in tests.items()}
    with quiet():
        known = classes.union(*map(_classes, examples.values()))
        model = _fit(train, known, task=task, config=config, seed=seed, title=title)
        start = time.perf_counter()
        judged = {
            name: model.head.judge(rows, model.outputs(model.head.test_features(rows)))
            for name, rows in examples.items()
        }
        test_seconds = time.perf_counter() - start
    return FineTuned(judged, model.steps, model.train_seconds, test_seconds), model


def check_trainable(train: Sequence[Example], test: Sequence[Example], *, task: Task, config: TrainConfig) -> None:
    """Refuse what `fine_tune` would refuse of a model and of rows for it; loads no weights.

    Raises:
        InputError: the model has no configuration, tokenizer or padding token that will do, all rows have one label, or
            a question leaves no room for its passage.
    """
    with quiet():
        examples = [*train, *test]
        _, head = _head(model_folder(config.model), _classes(examples), task=task, config=config)
        head.check(examples)


def class_probabilities(train: Rows, *, task: Task, config: TrainConfig, seed: int, title: str) -> Float64Array:
    """Fine-tune a classifier on `train` and return what it says of the same rows.

    Returns:
        (n, classes) probabilities, classes in the order of their sorted names.

    Raises:
        InputError: a row or the model does not suit the task.
    """
    with quiet():
        model = _fit(train, frozenset(), task=task, config=config, seed=seed, title=title)
        outputs = model.outputs(model.head.test_features(examples_of(train, task, "training")))
    logits = torch.stack([output["logits"] for output in outputs]).double()
    probabilities: Float64Array = logits.softmax(-1).numpy()
    return probabilities


@dataclass(frozen=True, eq=False)
class TunedModel:
    """A fine-tuned model with what it takes to use it."""

    model: Any
    tokenizer: Any
    head: Head
    collate: DataCollatorWithPadding
    precision: str
    steps: int
    train_seconds: float

    @torch.inference_mode()
    def outputs(self, features: Features) -> list[dict[str, torch.Tensor]]:
        """Run the model over all features, sorted by length to save padding; results in the features' order."""
        self.model.eval()
        order = sorted(range(len(features)), key=lambda at: -len(features[at]["input_ids"]))
        found: list[dict[str, torch.Tensor]] = [{}] * len(features)
        device = self.model.device
        with (
            bar("test", len(features)) as progress,
            torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
        ):
            for start in range(0, len(order), TEST_BATCH):
                batch = order[start : start + TEST_BATCH]
                inputs = {
                    name: value.to(device) for name, value in self.collate([features[at] for at in batch]).items()
                }
                # Some models give what they remember, too.
                given = self.model(**inputs).items()
                result = {name: value.float().cpu() for name, value in given if name.endswith("logits")}
                for line, at in enumerate(batch):
                    found[at] = {name: value[line] for name, value in result.items()}
                progress.advance(len(batch))
        if not all(value.isfinite().all() for output in found for value in output.values()):
            say("warning: the training has diverged: outputs of the model are not finite; lower learning_rate")
        return found


def _fit(train: Rows, others: Set[str], *, task: Task, config: TrainConfig, seed: int, title: str) -> TunedModel:
    """Fine-tune on `train`; `others` are classes that the head has a place for beside those of `train`."""
    folder = model_folder(config.model)
    examples = examples_of(train, task, "training")
    tokenizer, head = _head(folder, _classes(examples) | others, task=task, config=config)
    set_seed(seed)
    kind = f"model for {task.kind.replace('_', ' ')}"
    # Weights stay in float32; autocast makes the products of bfloat16 where that is asked for.
    model = load_model(head.auto_class, folder, precision(dtype="float32"), kind, new_head=True, **head.model_arguments)
    if model.config.pad_token_id is None:
        # Causal models ask for it where texts share a batch.
        model.config.pad_token_id = tokenizer.pad_token_id
    features = head.training_features(examples)
    if not features:
        raise InputError("no answer fits into a window of max_tokens; raise it")
    collate = DataCollatorWithPadding(tokenizer)
    steps = config.n_steps(len(features))
    start = time.perf_counter()
    _train(model, features, collate, steps=steps, task=task, config=config, seed=seed, title=title)
    return TunedModel(model, tokenizer, head, collate, config.precision, steps, time.perf_counter() - start)


def _classes(examples: Sequence[Example]) -> set[str]:
    return {example.label for example in examples}


def _head(folder: Path, classes: Set[str], *, task: Task, config: TrainConfig) -> tuple[Any, Head]:
    """Return the tokenizer of a model and its head for these classes."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.pad_token_id is None:
        raise InputError(f"model {config.model!r} has no padding token; fine-tune a BERT-like model")
    return tokenizer, head_for(task, tokenizer, _limit(tokenizer, folder, task, config), classes)


class _Progress(TrainerCallback):
    def __init__(self, progress: Bar, batch_size: int) -> None:
        self._progress = progress
        self._batch_size = batch_size
        self._start = time.perf_counter()
        self._steps = 0

    def on_step_end(self, *arguments: Any, **kwargs: Any) -> None:
        """Move the bar by one optimizer step."""
        self._steps += 1
        rate = self._steps * self._batch_size / (time.perf_counter() - self._start)
        self._progress.advance(1, f"{rate:.0f} examples/s")


def _train(
    model: Any,
    features: Features,
    collate: DataCollatorWithPadding,
    *,
    steps: int,
    task: Task,
    config: TrainConfig,
    seed: int,
    title: str,
) -> None:
    with scratch_folder() as scratch, bar(title, steps) as progress:
        arguments = TrainingArguments(
            output_dir=str(scratch),
            max_steps=steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate or LEARNING_RATE[task.kind],
            lr_scheduler_type="linear",
            # The first step of a rise is of rate 0: a single step has none.
            warmup_steps=min(math.ceil(config.warmup * steps), steps - 1),
            weight_decay=config.weight_decay,
            optim="adamw_torch_fused",
            seed=seed,
            use_cpu=not torch.cuda.is_available(),
            bf16=config.precision == "bfloat16",
            train_sampling_strategy="group_by_length" if config.by_length else "random",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            remove_unused_columns=False,
        )
        # Trainer would share each batch out to all GPUs, and take as many times more rows a batch.
        _ = arguments.device
        arguments._n_gpu = min(arguments.n_gpu, 1)
        trainer = Trainer(
            model,
            arguments,
            data_collator=collate,
            train_dataset=features,
            callbacks=[_Progress(progress, config.batch_size)],
        )
        for printing in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printing)
        trainer.train()


def _limit(tokenizer: Any, folder: Path, task: Task, config: TrainConfig) -> int:
    return int(min(config.max_tokens or MAX_TOKENS[task.kind], tokenizer.model_max_length, positions_of(folder)))
