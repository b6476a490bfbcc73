"""One torch thread everywhere, an own home for the data folder's default, one Ray cluster for the tests that ask."""

from __future__ import annotations

import os

os.environ["RAY_AUTH_MODE"] = "disabled"  # read when ray is first imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
# a busy machine is no failure; in CI the same examples are tried every time
settings.register_profile(
    "archfront", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("archfront")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in its own hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `-n 2 --dist loadgroup`: a file stays on one worker, and all that need the Ray cluster share one."""
    for item in items:
        shares_ray = "ray_cluster" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if shares_ray else item.nodeid.partition("::")[0]))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups are part of a test's id (pytest-xdist); a pytest that takes no other id would scatter them silently."""
    if getattr(session.config.option, "loadgroup", False) and any("@" not in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest and this pytest-xdist do not group tests: install by constraints.txt")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests train and keep does not meet the user's."""
    os.environ["ARCHFRONT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A local Ray of two slots for the whole test run; the number of slots."""
    from archfront.cluster.engine import RayOptions, ray_cluster

    with ray_cluster(RayOptions(workers=2)) as slots:
        yield slots
