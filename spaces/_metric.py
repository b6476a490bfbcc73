"""The metrics archfront knows: direction, unit, where their values come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "Direction", "Metric", "MetricSource"]

Direction = Literal["min", "max"]
MetricSource = Literal["quality", "device", "analytic"]


@dataclass(frozen=True)
class Metric:
    """One number about a configuration. `reference` is the value of doing nothing useful, for the hypervolume."""

    name: str
    direction: Direction
    unit: str = ""
    source: MetricSource = "quality"
    reference: float | None = None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("error", "min", "fraction"),
        Metric("nll", "min", "nat"),
        Metric("mse", "min"),
        Metric("rmse", "min"),
        Metric("mae", "min"),
        Metric("perplexity", "min"),
        Metric("psnr_db", "max", "dB"),
        Metric("f1", "max"),
        Metric("auc", "max"),
        Metric("ndcg", "max"),
        Metric("latency_ms", "min", "ms", "device"),
        Metric("energy_mj", "min", "mJ", "device"),
        Metric("throughput_per_s", "max", "1/s", "device"),
        Metric("params_m", "min", "M", "analytic"),
        Metric("macs_m", "min", "M", "analytic"),
        Metric("memory_mb", "min", "MB", "analytic"),
    )
}
