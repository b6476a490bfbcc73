"""The cluster files are what Ray reads: Ray's own schema for both, and KubeRay's shape as Ray's autoscaler takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_a_ray_cluster() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read("ray-cluster.yaml")))


def test_a_mistake_in_a_ray_cluster_is_found() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    given = read("ray-cluster.yaml") | {"max_worker": 2}
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(given))


def test_kuberay() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.util import validate_config

    resource = read("kuberay.yaml")
    assert (resource["apiVersion"], resource["kind"]) == ("ray.io/v1", "RayCluster")
    resource["metadata"]["namespace"] = "default"  # as the operator hands it on
    config = _derive_autoscaling_config_from_ray_cr(resource)
    validate_config(config)
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["trials"]["resources"]["CPU"] == 4
    assert (types["trials"]["min_workers"], types["trials"]["max_workers"]) == (1, 8)
