"""data: list the official data sets archfront can read, and import their files."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from archfront.cluster.cli._options import AsJson
from archfront.cluster.cli._output import console, document, table
from archfront.spaces._errors import DataError, UnknownNameError, UsageError

__all__ = ["OFFICIAL", "register"]

ACTIONS = ("list", "import")


@dataclass(frozen=True)
class Official:
    """A data set's official files: glob pattern, folder under the data folder, and a space and task that read it.

    Where the space reads another format, `convert` ("module:function") writes it, `kept` is the pattern of what it
    writes: a function of the official files' folder and the folder to write to, which returns the files it wrote.
    """

    pattern: str
    folder: str
    space: str
    task: str
    convert: str = ""
    kept: str = ""

    def there(self, data: Path) -> bool:
        """Whether the data folder has it."""
        return any((data / self.folder).glob(self.kept or self.pattern))


OFFICIAL = {
    "mnist": Official("*-ubyte*", "mnist", "mlp", "mnist"),
    "fashion_mnist": Official("*-ubyte*", "fashion_mnist", "mlp", "fashion_mnist"),
    "cifar10": Official("*_batch*", "cifar-10-batches-py", "mlp", "cifar10"),
    "cifar100": Official("t*", "cifar-100-python", "mlp", "cifar100"),
    "imagenet32": Official("*_data*", "imagenet32", "hourglass_mlp", "sr2_imagenet32"),
    **{name: Official(f"ind.{name}.*", "planetoid", "dagnn", name) for name in ("cora", "citeseer", "pubmed")},
    "coauthor_cs": Official("ms_academic_cs.npz", "gnn_benchmark", "dagnn", "coauthor_cs"),
    "coauthor_physics": Official("ms_academic_phy.npz", "gnn_benchmark", "dagnn", "coauthor_physics"),
    "amazon_computers": Official("amazon_electronics_computers.npz", "gnn_benchmark", "dagnn", "amazon_computers"),
    "amazon_photo": Official("amazon_electronics_photo.npz", "gnn_benchmark", "dagnn", "amazon_photo"),
    "nasbench201": Official(
        "*NA[ST]*-v1_0*",
        "nas",
        "nasbench201",
        "cifar100",
        convert="archfront.spaces.tables._nats_bench:convert",
        kept="nb201_accuracy.parquet",
    ),
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Official data sets: `data`, `data import NAME FOLDER`.")(data)


def data(
    action: Annotated[str, typer.Argument(help="list or import")] = "list",
    name: Annotated[str | None, typer.Argument(help="import: the data set")] = None,
    folder: Annotated[Path | None, typer.Argument(help="import: where its unpacked official files are")] = None,
    as_json: AsJson = False,
) -> None:
    """List or import."""
    if action not in ACTIONS:
        raise UnknownNameError.of("action", action, ACTIONS)
    if action == "list":
        _list(as_json)
        return
    if name is None or folder is None:
        raise UsageError("which data set, from where?", "archfront data import NAME FOLDER")
    if name not in OFFICIAL:
        raise UnknownNameError.of("data set", name, OFFICIAL)
    copied = import_files(name, folder)
    if as_json:
        document({"name": name, "files": [str(path) for path in copied]})
    else:
        console().print(f"{name}: {len(copied)} files in {copied[0].parent}")
        console().print(f"  archfront search {OFFICIAL[name].space} --task {OFFICIAL[name].task}")


def import_files(name: str, folder: Path) -> list[Path]:
    """Copy a data set's official files into the data folder and read them, or convert them; nothing stays when they
    cannot be read.

    Raises DataError; ExistsError for a converted file that is there.
    """
    from archfront import spaces
    from archfront.spaces._data import data_folder

    official = OFFICIAL[name]
    if official.convert:
        module, _, function = official.convert.partition(":")
        converted: list[Path] = getattr(importlib.import_module(module), function)(
            folder, data_folder() / official.folder
        )
        return converted
    found = sorted(path for path in folder.glob(official.pattern) if path.is_file()) if folder.is_dir() else []
    if not found:
        raise DataError(
            f"no file {official.pattern!r} in {str(folder)!r}", f"give the folder of {name}'s unpacked files"
        )
    target = data_folder() / official.folder
    target.mkdir(parents=True, exist_ok=True)
    new = [target / path.name for path in found if not (target / path.name).exists()]
    for path in found:
        if target / path.name in new:
            shutil.copyfile(path, target / path.name)
    try:
        spaces.load(official.space, task=official.task).task().splits  # noqa: B018 - reading is the check
    except DataError:
        for path in new:
            path.unlink()
        raise
    return [target / path.name for path in found]


def _list(as_json: bool) -> None:
    from archfront.spaces._data import data_folder

    rows = [
        {
            "name": name,
            "space": official.space,
            "files": official.pattern,
            "folder": str(data_folder() / official.folder),
            "there": official.there(data_folder()),
        }
        for name, official in OFFICIAL.items()
    ]
    if as_json:
        document(rows)
    else:
        table(list(rows[0]), [[str(value) for value in row.values()] for row in rows])
