"""Fine-tune one model with one seed and test it, with transformers' own training loop."""

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from euds.errors import InputError
from euds.measures.device import precision
from euds.measures.models import load_model, model_folder
from euds.progress import Bar, bar, quiet
from euds.study.examples import Rows, examples_of
from euds.study.heads import Features, head_for
from euds.study.types import LEARNING_RATE, MAX_TOKENS, CellResult, Task, TrainConfig

TEST_BATCH = 64


def train_and_test(
    train: Rows, test: Rows, *, task: Task, config: TrainConfig, seed: int, title: str, save_model: Path | None = None
) -> CellResult:
    """Fine-tune a model on `train` and measure it on `test`.

    The model's weights and tokenizer come from `config.model`; the head is new, as the seed has it. Training is in
    float32 on whatever device there is.

    Args:
        train, test: fields by name.
        task: what is learned.
        config: how.
        seed: of the new head, the order of the rows and dropout.
        title: shown beside the progress bar.
        save_model: folder to keep the fine-tuned model in.

    Raises:
        InputError: a row or the model does not suit the task.
    """
    folder = model_folder(config.model)
    train_examples, test_examples = examples_of(train, task, "training"), examples_of(test, task, "test")
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        head = head_for(task, tokenizer, _limit(tokenizer, task, config), train_examples, test_examples)
        set_seed(seed)
        settled = precision(dtype="float32")
        kind = f"model for {task.kind.replace('_', ' ')}"
        model = load_model(head.auto_class, folder, settled, kind, **head.model_arguments)
        features = head.training_features(train_examples)
        if not features:
            raise InputError("no answer fits into a window of max_tokens; raise it")
        collate = DataCollatorWithPadding(tokenizer)
        steps = config.n_steps(len(features))
        start = time.perf_counter()
        _train(model, features, collate, steps=steps, task=task, config=config, seed=seed, title=title)
        train_seconds = time.perf_counter() - start
        metrics = head.metrics(test_examples, _outputs(model, head.test_features(test_examples), collate))
        if save_model is not None:
            model.save_pretrained(save_model)
            tokenizer.save_pretrained(save_model)
    return CellResult(metrics, round(train_seconds, 2), len(train), len(test), steps, seed)


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
    with tempfile.TemporaryDirectory() as scratch, bar(title, steps) as progress:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate or LEARNING_RATE[task.kind],
            lr_scheduler_type="linear",
            warmup_steps=math.ceil(config.warmup * steps),
            weight_decay=config.weight_decay,
            optim="adamw_torch_fused",
            seed=seed,
            use_cpu=not torch.cuda.is_available(),
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            remove_unused_columns=False,
        )
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


@torch.inference_mode()
def _outputs(model: Any, features: Features, collate: DataCollatorWithPadding) -> list[dict[str, torch.Tensor]]:
    """Run the model over all features, sorted by length to save padding; results in the features' order."""
    model.eval()
    order = sorted(range(len(features)), key=lambda at: -len(features[at]["input_ids"]))
    outputs: list[dict[str, torch.Tensor]] = [{}] * len(features)
    with bar("test", len(features)) as progress:
        for start in range(0, len(order), TEST_BATCH):
            batch = order[start : start + TEST_BATCH]
            padded = collate([features[at] for at in batch])
            inputs = {name: value.to(model.device) for name, value in padded.items()}
            result = {name: value.float().cpu() for name, value in model(**inputs).items()}
            for line, at in enumerate(batch):
                outputs[at] = {name: value[line] for name, value in result.items()}
            progress.advance(len(batch))
    return outputs


def _limit(tokenizer: Any, task: Task, config: TrainConfig) -> int:
    return int(min(config.max_tokens or MAX_TOKENS[task.kind], tokenizer.model_max_length))
