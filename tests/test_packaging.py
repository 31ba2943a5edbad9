"""The wheel and the sdist hold what they must, and both install into a bare environment."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a wheel and an sdist, the wheel built from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return out


def test_the_sdist_has_sources_and_the_wheel_has_what_runs(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    for path in (ROOT / "csrc").rglob("*.?pp"):
        assert str(path.relative_to(ROOT)) in sources
    assert {"CMakeLists.txt", "pyproject.toml", "constraints.txt", "LICENSE", "Makefile", "docs/method.md"} <= sources
    needed = [ROOT / "tests" / "vllm-requirements.txt", *(ROOT / "tests").rglob("*.py")]
    # The tests of the study read its data, and mypy the benchmarks; environments of peers lie in ".venvs".
    needed += (
        path for suffix in ("py", "yaml", "json", "jsonl") for path in (ROOT / "benchmarks").rglob(f"*.{suffix}")
    )
    for path in needed:
        assert str(path.relative_to(ROOT)) in sources or ".venvs" in path.parts
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        members = set(archive.namelist())
    assert {"euds/py.typed", "euds/_core.pyi", "euds/report/templates/report.html"} <= members
    assert any(name.startswith("euds/_core.") and name.endswith(".so") for name in members)
    assert not any(name.startswith(("tests/", "benchmarks/", "csrc/")) for name in members)


def test_the_wheel_runs_in_another_environment(built: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, cwd=tmp_path)
    # The compiled part needs NumPy only; the environment that runs this test has it.
    program = (
        f"import sys; sys.path.append({str(Path(pytest.__file__).parents[1])!r})\n"
        "import numpy as np, euds\n"
        f"assert euds.__file__.startswith({str(tmp_path)!r})\n"
        "print(euds.find_box(np.random.default_rng(0).normal(size=(99, 3)), keep=0.2).n_kept)\n"
    )
    finished = subprocess.run([python, "-c", program], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert finished.stdout == "20\n"
