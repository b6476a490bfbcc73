"""The official releases of NATS-Bench (Dong et al., 2021) and HW-NAS-Bench (Li et al., 2021) as tidy files.

NATS-Bench: the "simple" release of the topology space, a folder of one file per cell and meta.pickle.pbz2.
HW-NAS-Bench: one file.
"""

from __future__ import annotations

import bz2
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archfront.spaces._errors import DataError, ExistsError
from archfront.spaces._unpickle import unpickle
from archfront.spaces.tables._cells import OPERATIONS
from archfront.spaces.tables.nasbench201 import ACCURACY, EDGES, LATENCY, parse_arch_string

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HW_NAS_BENCH", "NATS_BENCH", "convert"]

NATS_BENCH = "NATS-tss-v1_0-3ffb9-simple"
HW_NAS_BENCH = "HW-NAS-Bench-v1_0.pickle"
META = "meta.pickle.pbz2"
CELLS = 15_625

DATASETS = {"cifar10": "cifar10", "cifar100": "cifar100", "in16": "ImageNet16-120"}
"""Our tasks and the names that both releases have for them."""
VALUES = {
    **{f"test_acc_{task}_ep200": ("200", name, "x-test@199") for task, name in DATASETS.items()},
    "test_acc_cifar10_ep200": ("200", "cifar10", "ori-test@199"),
    **{f"val_acc_{task}_ep12": ("12", name, "x-valid@11") for task, name in DATASETS.items()},
    "val_acc_cifar10_ep12": ("12", "cifar10-valid", "x-valid@11"),
}
"""Column (percent) -> training, data set, evaluation. CIFAR-10 has no test split of its own but the original one, and
its validation split is held out only of the training "cifar10-valid"."""
COSTS = {"params_m": "params", "flops_m": "flop"}
"""Column, in millions -> entry."""
MEASURED_ON = "cifar100"
"""The data set whose latencies are taken: the tidy file has one column per device, whatever the task. Networks of the
two CIFARs differ in the classifier only; those of ImageNet16-120 see images of a quarter of the size."""


def convert(folder: Path, target: Path, *, cells: int | None = None) -> list[Path]:
    """Write the tidy files below `target` of the releases that are in `folder`: either or both.

    `folder` holds NATS-tss-v1_0-3ffb9-simple (or is it) and HW-NAS-Bench-v1_0.pickle; `cells` is how many a complete
    release has, 15,625. Both files are written, or none. Raises DataError for a release that is damaged or incomplete,
    with the number of what is missing, and ExistsError for a tidy file that is there.
    """
    cells = CELLS if cells is None else cells
    nats = next((path for path in (folder, folder / NATS_BENCH) if (path / META).is_file()), None)
    hardware = folder / HW_NAS_BENCH
    found = {ACCURACY: nats is not None, LATENCY: hardware.is_file()}
    if not any(found.values()):
        raise DataError(
            f"neither {META!r} nor {HW_NAS_BENCH!r} in {str(folder)!r}",
            f"give the folder with the unpacked {NATS_BENCH}, {HW_NAS_BENCH}, or both",
        )
    files = {name: target / Path(name).name for name, there in found.items() if there}
    for file in files.values():
        if file.exists():
            raise ExistsError(f"{str(file)!r} is there", "remove it first, or take its release out of the folder")
    frames: dict[str, pd.DataFrame] = {}
    if nats is not None:
        frames[ACCURACY] = _accuracies(nats, cells)
    if found[LATENCY]:
        frames[LATENCY] = _latencies(hardware, cells, frames.get(ACCURACY))
    _write({files[name]: frame for name, frame in frames.items()})
    return list(files.values())


def _write(frames: Mapping[Path, pd.DataFrame]) -> None:
    """All of them under their names, or none."""
    parts = {file: file.with_name(f".{file.name}.{os.getpid()}") for file in frames}
    try:
        for file, frame in frames.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            frame.to_parquet(parts[file], index=False)
        for file, part in parts.items():
            part.replace(file)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


# -- NATS-Bench


def _accuracies(folder: Path, cells: int) -> pd.DataFrame:
    """arch_index, arch_str, the operations' codes, accuracies (%), parameters and MACs (millions); a row per cell."""
    import pandas as pd

    names = list(_entry(_compressed(folder / META), "meta_archs", folder / META))
    _check_cells(names, cells, META)
    files = [folder / f"{index:06d}.pickle.pbz2" for index in range(cells)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise DataError(
            f"{str(folder)!r} lacks {len(missing):,} of {cells:,} cells, {missing[0]} first", "unpack the release again"
        )
    rows, gaps = [], []
    for index, (file, name) in enumerate(zip(files, names, strict=True)):
        row, lacks = _cell(file, index, name)
        rows.append(row)
        gaps += [f"{column} of {file.name}" for column in lacks]
    if gaps:
        raise DataError(
            f"{str(folder)!r} lacks {len(gaps):,} of {cells * len(rows[0]):,} values, {gaps[0]} first",
            "the release is incomplete: get it again",
        )
    codes = {edge: np.array([OPERATIONS.index(parse_arch_string(n)[edge]) for n in names], np.int8) for edge in EDGES}
    numbers = {"arch_index": np.arange(cells, dtype=np.int32), "arch_str": names}
    return pd.DataFrame({**numbers, **codes, **{column: [row[column] for row in rows] for column in rows[0]}})


def _cell(file: Path, index: int, name: str) -> tuple[dict[str, float], list[str]]:
    """The values of a cell, means over seeds, and the columns that it has no value for."""
    content = _compressed(file)
    trained = {epochs: _entry(content, epochs, file) for epochs in ("12", "200")}
    row: dict[str, float] = {}
    for epochs, state in trained.items():
        for key, expected in (("arch_index", index), ("arch_str", name)):
            if (found := _entry(state, key, file)) != expected:
                raise DataError(f"{str(file)!r}: {key} is {found!r} in {epochs!r}, {expected!r} in {META}")
    runs = {epochs: _entry(state, "all_results", file) for epochs, state in trained.items()}
    for column, (epochs, data, evaluation) in VALUES.items():
        row[column] = _mean(run.get("eval_acc1es", {}).get(evaluation) for run in _of(runs[epochs], data, file))
    for task, data in DATASETS.items():
        for column, entry in COSTS.items():
            row[f"{column}_{task}"] = _mean(run.get(entry) for run in _of(runs["200"], data, file))
    for column, value in row.items():
        if not (np.isnan(value) or 0 <= value <= (100 if "acc" in column else np.inf)):
            raise DataError(f"{str(file)!r}: {column} is {value}", "an accuracy in percent, a size in millions")
    return row, [column for column, value in row.items() if np.isnan(value)]


def _of(runs: Any, data: str, file: Path) -> list[Mapping[str, Any]]:
    """The runs on a data set, one per seed."""
    try:
        found = [run for (name, _), run in runs.items() if name == data]
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{str(file)!r}: all_results does not map (data set, seed) to results") from error
    if not all(isinstance(run, Mapping) and isinstance(run.get("eval_acc1es", {}), Mapping) for run in found):
        raise DataError(f"{str(file)!r}: a result of {data!r} is no mapping with eval_acc1es")
    return found


def _mean(values: Iterable[Any]) -> float:
    """The mean, NaN where there is none or one of them is no number."""
    numbers = [float(v) if isinstance(v, int | float | np.number) else float("nan") for v in values]
    return sum(numbers) / len(numbers) if numbers else float("nan")


# -- HW-NAS-Bench


def _latencies(file: Path, cells: int, accuracy: pd.DataFrame | None) -> pd.DataFrame:
    """arch_index and lat_ms_<device> (ms) of every device that the release has; NaN where it marks a failure by -1."""
    import pandas as pd

    release = _entry(_entry(unpickle(file), "nasbench201", file), MEASURED_ON, file)
    configs = _listed(_entry(release, "config", file))
    names = [str(_entry(config, "arch_str", file)) for config in configs]
    _check_cells(names, cells, file.name)
    if accuracy is not None and names != list(accuracy["arch_str"]):
        raise DataError(f"{str(file)!r} lists other cells than {META}, or in another order")
    columns: dict[str, Any] = {"arch_index": np.arange(cells, dtype=np.int32)}
    for key in sorted(key for key in release if str(key).endswith("_latency")):
        try:
            values = np.asarray(_listed(release[key]), np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{str(file)!r}: {key} is not a list of numbers") from error
        if values.shape != (cells,):
            raise DataError(f"{str(file)!r}: {key} has {len(values):,} of {cells:,} values", "get the release again")
        columns[f"lat_ms_{key.removesuffix('_latency')}"] = np.where(values >= 0, values, np.nan)
    if len(columns) == 1:
        raise DataError(f"{str(file)!r} has no latency on {MEASURED_ON!r}", f"it has {', '.join(map(str, release))}")
    return pd.DataFrame(columns)


def _listed(values: Any) -> Sequence[Any]:
    """A list that is perhaps written as a mapping from its positions."""
    return [values[i] for i in sorted(values)] if isinstance(values, Mapping) else list(values)


# -- both


def _check_cells(names: Sequence[str], cells: int, where: str) -> None:
    """Every cell once."""
    for name in names:
        parse_arch_string(name)
    if len(set(names)) != cells or len(names) != cells:
        raise DataError(f"{where} lists {len(set(names)):,} different cells of {cells:,}", "get the release again")


def _entry(content: Any, key: str, file: Path) -> Any:
    if not isinstance(content, Mapping) or key not in content:
        raise DataError(f"{str(file)!r} has no {key!r} where its format has one", "get the file again")
    return content[key]


def _compressed(file: Path) -> Any:
    """The object in a pickle that is packed by bzip2. Raises DataError that names the file."""
    try:
        stream = io.BytesIO(bz2.decompress(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise DataError(f"{str(file)!r} is not a whole bzip2 file: {error}", "get the file again") from error
    try:
        return unpickle(stream)
    except DataError as error:
        raise DataError(f"{str(file)!r}: {error.message}", error.hint) from error
