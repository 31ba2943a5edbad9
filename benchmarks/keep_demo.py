"""Keep what README quotes of the demo: its table, and that of batches of random texts, with machine and versions.

make demo
euds demo train.by_length=false out=runs/random-batches
python benchmarks/keep_demo.py        # writes benchmarks/demo.json
"""

import json
from pathlib import Path
from typing import Any

from environment import environment

from euds.files import read_json

RUNS = Path(__file__).parents[1] / "runs"
PACKAGES = ("euds", "torch", "transformers", "tokenizers", "faiss-cpu", "numba", "numpy", "pyarrow")
SECONDS = ("train_seconds", "scoring_seconds", "search_seconds")


def main() -> None:
    """Write the tables of both runs."""
    content = {
        "environment": environment(PACKAGES),
        "scoring_seconds": read_json(RUNS / "sentiment" / "manifest.json")["seconds"],
        "table": table_of("sentiment"),
        # README quotes no seconds of it.
        "random_batches": without_seconds(table_of("random-batches")),
    }
    path = Path(__file__).parent / "demo.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"wrote {path}")


def table_of(run: str) -> dict[str, Any]:
    """Return the table of a run, as `euds run` has written it."""
    table: dict[str, Any] = read_json(RUNS / run / "study" / "table.json")
    return table


def without_seconds(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table without what its methods cost."""
    methods = [{name: row[name] for name in row if name not in SECONDS} for row in table["methods"]]
    return {**table, "methods": methods}


if __name__ == "__main__":
    main()
