"""Write a pool of original and synthetic movie snippets, the synthetic half by SmolLM2 from three examples each.

euds fetch movie-snippets smollm2-135m
python examples/make_synthetic.py [ROWS]      # runs/synthetic-pool.jsonl, some minutes on 2 cores
euds run examples/synthetic.yaml
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from euds.corpus import list_inputs, read_rows
from euds.files import write_atomic
from euds.measures.models import model_folder
from euds.progress import bar, quiet

OUT = Path("runs/synthetic-pool.jsonl")
ROWS = 300
"""Of each source, by default."""

BATCH = 20
SHOTS = 3
SEED = 0


def main(n_rows: int) -> None:
    """Sample original rows, generate as many synthetic ones with the same labels, and write both."""
    rows = [dict(row.fields or {}) for row in read_rows(list_inputs(["movie-snippets/train.jsonl"]))]
    rng = np.random.default_rng(SEED)
    picked = [rows[int(at)] for at in rng.permutation(len(rows))[:n_rows]]
    original = [{"text": row["text"], "label": row["label"], "source": "original"} for row in picked]
    by_label = {label: [row for row in rows if row["label"] == label] for label in ("positive", "negative")}
    labels = ["positive", "negative"] * (n_rows // 2)
    synthetic = [
        {"text": text, "label": label, "source": "synthetic"}
        for label, text in zip(labels, generate(labels, by_label, rng), strict=True)
        if text
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in original + synthetic)
    write_atomic(OUT, lambda handle: handle.write(lines.encode()))
    print(f"{OUT}: {len(original)} original, {len(synthetic)} synthetic rows")


def generate(
    labels: list[str], by_label: dict[str, list[dict[str, object]]], rng: np.random.Generator
) -> Iterator[str]:
    """Continue a list of snippets of each label by one more, sampled at temperature 1 and top-p 0.9."""
    folder = model_folder("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(SEED)
    with bar("generate", len(labels)) as progress:
        for start in range(0, len(labels), BATCH):
            batch = labels[start : start + BATCH]
            prompts = [prompt(label, by_label[label], rng) for label in batch]
            inputs = tokenizer(prompts, return_tensors="pt", padding=True)
            with torch.inference_mode(), quiet():
                found = model.generate(**inputs, do_sample=True, top_p=0.9, top_k=0, max_new_tokens=40)
            for ids in found[:, inputs["input_ids"].shape[1] :]:
                yield tokenizer.decode(ids, skip_special_tokens=True).split("\n")[0].strip(' "')
            progress.advance(len(batch))


def prompt(label: str, rows: list[dict[str, object]], rng: np.random.Generator) -> str:
    """A list of real snippets that asks for its next entry."""
    shots = [str(rows[int(at)]["text"]) for at in rng.permutation(len(rows))[:SHOTS]]
    return f"One-sentence {label} movie reviews:\n" + "".join(f"- {shot}\n" for shot in shots) + "-"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=int, default=ROWS, help="of each source")
    main(parser.parse_args().rows)
