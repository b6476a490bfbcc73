"""Studies that tests run."""

from __future__ import annotations

from typing import Any

from archfront.cluster.store import Store
from archfront.cluster.study import Study
from tests.cluster import toys

__all__ = ["own"]


def own(store: Store, name: str = "own", **options: Any) -> Study:
    """A study of a function with two conflicting objectives, by nsga2 unless asked otherwise."""
    given = {"objectives": ["error:min", "cost:min"], "evaluate": "tests.cluster.toys:two", "strategy": "nsga2"}
    given |= options
    return Study(name, store=store, **{"space": toys.SPACE, **given})
