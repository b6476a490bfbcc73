"""The rules of the house: links resolve, imports point one way, names are found without importing, help is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import archfront
from archfront import search, spaces, trainers
from archfront.cluster.store import Store
from archfront.spaces._errors import ArchfrontError, UnknownNameError
from archfront.spaces._registry import registered_name
from tests.cluster.large import device_study, fill

ROOT = Path(__file__).parents[1]
LAYERS = ("spaces", "trainers", "predictors", "search", "cluster")
"""Lowest first: a folder may import itself and those before it."""


@pytest.mark.parametrize("folder", LAYERS)
def test_links_resolve(folder: str) -> None:
    link = ROOT / "src" / "archfront" / folder
    assert link.is_symlink()
    assert link.resolve() == ROOT / folder


def _imported(path: Path) -> set[str]:
    """The archfront folders a file imports, at module level or inside functions, type-checking blocks included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "archfront"
                else [node.module or ""]
            )
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("archfront.")}
    return found


@pytest.mark.parametrize("folder", LAYERS)
def test_imports_point_one_way(folder: str) -> None:
    allowed = set(LAYERS[: LAYERS.index(folder) + 1])
    for path in sorted((ROOT / folder).rglob("*.py")):
        assert _imported(path) <= allowed, f"{path.relative_to(ROOT)} imports upwards"


def test_strategies_know_no_ray_and_no_sql() -> None:
    for path in sorted((ROOT / "search").rglob("*.py")):
        text = path.read_text()
        assert "import ray" not in text
        assert "sqlalchemy" not in text


def _loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_names_are_found_without_importing() -> None:
    modules = _loaded_by(
        "from archfront import spaces, search, trainers\nspaces.names(), search.names(), trainers.names()"
    )
    assert "torch" not in modules
    assert not {"archfront.spaces.vision.pflayer", "archfront.search.nsga2"} & modules


def test_help_imports_nothing_heavy() -> None:
    modules = _loaded_by("sys.argv = ['archfront', '--help']\nfrom archfront.cluster.cli import _run\n_run()")
    assert not {"torch", "ray", "sqlalchemy", "numpy", "pandas", "matplotlib"} & modules


def test_a_front_is_shown_without_torch(tmp_path: Path) -> None:
    with Store(str(tmp_path / "archfront.db")) as store:
        fill(store, 100, 1)
        command = ["archfront", "front", "--study", device_study(0), "--store", store.url]
        modules = _loaded_by(f"sys.argv = {command!r}\nfrom archfront.cluster.cli import _run\nassert _run() == 0")
    assert not {"torch", "ray", "matplotlib", "sklearn"} & modules


def test_public_names_are_there() -> None:
    for name in archfront.__all__:
        assert getattr(archfront, name) is not None
    for module in (spaces, search, trainers):
        for name in module.__all__:
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Stuty'"):
        _ = archfront.Stuty


@pytest.mark.parametrize("folder", [spaces, search, trainers], ids=lambda folder: folder.__name__)
def test_file_name_is_registered_name(folder: object) -> None:
    for name in folder.names():  # type: ignore[attr-defined]
        cls = folder.registry.load(name)  # type: ignore[attr-defined]
        assert registered_name(cls) == name
        assert cls.__doc__, f"{name} says nothing about itself"


def test_every_public_class_and_function_is_documented() -> None:
    for folder in LAYERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" in path.parts:
                continue  # Alembic prescribes their functions
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree) or path.name == "__init__.py", path
            for node in tree.body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                    assert ast.get_docstring(node), f"{path.relative_to(ROOT)}: {node.name} has no docstring"


def test_errors_survive_a_trip_between_processes() -> None:
    import pickle

    error = UnknownNameError.of("space", "pflayr", ["pflayer", "mlp"])
    back = pickle.loads(pickle.dumps(error))
    assert isinstance(back, UnknownNameError)
    assert str(back) == str(error) == "unknown space 'pflayr': did you mean 'pflayer'? known: mlp, pflayer"
    assert issubclass(UnknownNameError, ArchfrontError)


def test_entry_points_and_dotted_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from archfront.spaces import _registry

    point = EntryPoint("greedy", "tests.cluster.toys:Greedy", "archfront.strategies")
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [point] if group == "archfront.strategies" else []
    )
    _registry._entry_point_names.cache_clear()
    fresh: _registry.Registry[search.Strategy] = _registry.Registry(
        "archfront.search", "archfront.search._strategy:Strategy", "strategy"
    )
    assert "greedy" in fresh.names()
    assert fresh.load("greedy") is fresh.load("tests.cluster.toys:Greedy")
    assert _registry.registered_name(fresh.load("greedy")) == "greedy", "however it was loaded"
    monkeypatch.undo()
    _registry._entry_point_names.cache_clear()
    assert _registry.registered_name(fresh.load("greedy")) == "tests.cluster.toys:Greedy"
