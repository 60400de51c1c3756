"""The house's rules: who may know whom, what imports may cost, how long files may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("hsnn_compiler", "frontends", "passes", "backends") for path in (ROOT / folder).rglob("*.py")
)
HEAVY = ("torch", "lava", "nir", "h5py", "networkx", "numba", "onnx", "onnxruntime", "scipy", "sklearn", "matplotlib")

# Who may import whom, by the part of `hsnn_compiler` a file belongs to.
FORBIDDEN = {
    "frontends": ("backends", "passes", "driver", "cli", "bundle", "program"),
    "backends": ("frontends", "passes", "driver", "cli", "bundle", "program"),
    "passes": ("frontends", "backends", "driver", "cli", "bundle", "program"),
    "ir": ("frontends", "backends", "passes", "reference", "driver", "cli", "bundle", "program", "targets", "nn"),
    "reference": ("frontends", "backends", "passes", "driver", "cli", "bundle", "program"),
    "training": ("frontends", "backends", "passes", "driver", "cli", "bundle", "program"),
    "nn": ("frontends", "backends", "passes", "driver", "cli", "bundle", "program", "ir", "reference"),
}


def part_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "hsnn_compiler" and len(parts) > 2 else parts[0]


def imports_of(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def test_there_is_something_to_check():
    assert len(SOURCES) > 60


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_respect_the_house(path):
    wrong = []
    for line, name in imports_of(path):
        if name.split(".")[0] in ("passes", "frontends", "backends"):
            wrong.append(f"line {line}: {name} (write hsnn_compiler.{name})")
        for part in FORBIDDEN.get(part_of(path), ()):
            if name == f"hsnn_compiler.{part}" or name.startswith(f"hsnn_compiler.{part}."):
                wrong.append(f"line {line}: {name}")
    assert not wrong


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 320


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light():
    loaded = run("import sys, hsnn_compiler; print(*{name.split('.')[0] for name in sys.modules})").split()
    assert not set(HEAVY) & set(loaded)


def test_help_loads_nothing_heavy():
    code = "import sys; from hsnn_compiler.cli.main import group\ntry: group(['--help'])\nexcept SystemExit: pass\n"
    printed = run(code + "print(*{name.split('.')[0] for name in sys.modules})")
    assert "simulate" in printed
    assert not {*HEAVY, "numpy", "rich"} & set(printed.splitlines()[-1].split())


def test_codes_have_pages_and_pages_have_codes():
    used = {code for path in SOURCES for code in re.findall(r"\b[EWI]0\d{3}\b", path.read_text("utf-8"))}
    pages = {path.stem for path in (ROOT / "hsnn_compiler" / "codes").glob("*.md")}
    assert used - pages == set(), "codes without a page"
    assert pages - used == set(), "pages without a code"


def test_every_package_is_in_what_is_installed():
    """An editable install finds folders that pyproject.toml does not list; any other does not."""
    listed = set(re.findall(r'"(hsnn_compiler[\w.]*)"', (ROOT / "pyproject.toml").read_text("utf-8")))
    folders = {path.parent.relative_to(ROOT).parts for path in SOURCES if path.name == "__init__.py"}
    packages = {".".join(parts if parts[0] == "hsnn_compiler" else ("hsnn_compiler", *parts)) for parts in folders}
    assert packages <= listed
