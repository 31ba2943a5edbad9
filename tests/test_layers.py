"""Imports go downward only, and `import euds` stays light."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest

import euds

PACKAGE = Path(euds.__file__).parent
LAYERS = {
    **dict.fromkeys(("errors", "types", "backends", "files", "processes", "progress", "scratch", "texts"), 0),
    **dict.fromkeys(("kernels", "_core", "reference"), 1),
    **dict.fromkeys(("ops", "assets"), 2),
    "measures": 3,
    **dict.fromkeys(("corpus", "engine", "selection"), 4),
    **dict.fromkeys(("study", "report", "pipeline"), 5),
    **dict.fromkeys(("cli", "__main__"), 6),
}
HEAVY = ("torch", "triton", "faiss", "transformers", "ray", "numba", "pyarrow", "matplotlib", "sklearn")


def imports(path: Path) -> Iterator[str]:
    """Yield the euds modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("euds"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "euds":
                yield from (f"euds.{alias.name}" for alias in node.names)
            elif node.module is not None and node.module.startswith("euds."):
                yield node.module


def test_imports_go_downward() -> None:
    upward = []
    n_imports = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for module in imports(path):
            n_imports += 1
            target = module.split(".")[1]
            if LAYERS[target] > LAYERS[part]:
                upward.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert n_imports > 100
    assert upward == []


def test_kernels_know_no_errors_of_the_user() -> None:
    for path in (PACKAGE / "kernels").glob("*.py"):
        assert "euds.errors" not in set(imports(path)), path


def test_every_package_has_a_layer() -> None:
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert parts - {"__init__"} <= LAYERS.keys()


def test_import_euds_is_light() -> None:
    program = f"import sys, euds, euds.cli.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in euds.__all__:
        assert getattr(euds, name) is not None
    assert set(euds.__all__) == {*euds._HOME, "__version__"} == set(dir(euds))


def test_what_public_names_give_is_public() -> None:
    def kinds(annotation: Any) -> Iterator[Any]:
        yield annotation
        for inner in get_args(annotation):
            yield from kinds(inner)

    given: set[Any] = set()
    for value in (getattr(euds, name) for name in euds.__all__):
        if inspect.isfunction(value):
            given.update(kinds(inspect.signature(value).return_annotation))
        elif is_dataclass(value):
            given.update(chain.from_iterable(kinds(field.type) for field in fields(value)))
    ours = {kind.__name__ for kind in given if inspect.isclass(kind) and kind.__module__.startswith("euds.")}
    assert {"Stability", "BoundSpread", "EntailmentGroups"} <= ours <= set(euds.__all__)


def test_no_public_name_asks_for_an_extra() -> None:
    hidden = "for name in ('jinja2', 'matplotlib', 'ray'): sys.modules[name] = None"
    program = f"import sys\n{hidden}\nimport euds\nprint(len([getattr(euds, name) for name in euds.__all__]))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == str(len(euds.__all__))
    with pytest.raises(euds.InputError, match="not a run directory"):
        euds.status("/nowhere")
    with pytest.raises(euds.InputError, match="not a run directory"):
        euds.write_report("/nowhere")


def test_only_the_command_line_prints() -> None:
    printing = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "progress.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "console.print", "typer.echo", "warnings.warn")
    ]
    assert printing == []
