"""A folder of image files, one sub-folder per class, as arrays of one size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._errors import DataError
from archfront.spaces.vision._arrays import WHOLE, Rows

__all__ = ["read_image_folder"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_GREY = {"1", "L", "LA", "I", "I;16", "F"}
_SPLITS = ("train", "val", "test")


def read_image_folder(folder: Path, size: int | None = None) -> dict[str, Rows]:
    """The parts of `folder`: train/, val/ and test/ where it has train/, else one part "all"; below, class/file.

    Images are scaled and centre-cropped to `size` squared, or to the first one's size; they are grey where the first
    one is. Labels are the names of the class folders. Raises DataError that names the file or folder.
    """
    named = [folder / name for name in _SPLITS if (folder / name).is_dir()]
    if not (folder / "train").is_dir():
        parts = {WHOLE: _files(folder)}
    else:
        others = sorted(p.name for p in _folders(folder) if p not in named)
        if others:
            raise DataError(f"{str(folder)!r} has 'train' beside {others[0]!r}", "next to it only val and test may be")
        parts = {path.name: _files(path) for path in named}
    first = next(iter(parts.values()))[0][0]
    look = _Look(first, size)
    return {
        part: Rows(np.stack([look(path) for path, _ in files]), np.array([label for _, label in files]))
        for part, files in parts.items()
    }


def _folders(folder: Path) -> Iterator[Path]:
    yield from (p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[tuple[Path, str]]:
    """(image file, class) in the order of their names; every class has some."""
    found: list[tuple[Path, str]] = []
    for kind in _folders(folder):
        images = [p for p in sorted(kind.iterdir()) if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
        if not images:
            raise DataError(f"class folder {str(kind)!r} has no image", f"known are {', '.join(sorted(_SUFFIXES))}")
        found.extend((path, kind.name) for path in images)
    if not found:
        raise DataError(f"{str(folder)!r} has no class folder", "expected class/image files, e.g. cat/1.png")
    return found


class _Look:
    """Reads image files as (H, W) or (H, W, 3) uint8 of one size and one kind."""

    def __init__(self, first: Path, size: int | None) -> None:
        image = _opened(first)
        self.mode = "L" if image.mode in _GREY else "RGB"
        self.size = (size, size) if size is not None else image.size

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        from PIL import Image, ImageOps

        image = _opened(path)
        if image.mode.startswith("I"):  # 16 bits: convert() would clip at 255
            image = Image.fromarray((np.asarray(image, np.uint32) // 257).clip(0, 255).astype(np.uint8))
        image = image.convert(self.mode)
        if image.size != self.size:
            image = ImageOps.fit(image, self.size, Image.Resampling.BILINEAR)
        return np.asarray(image, np.uint8)


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{str(path)!r} is not a readable image", f"{type(error).__name__}: {error}") from error
