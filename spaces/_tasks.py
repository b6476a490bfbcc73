"""The tasks most spaces share: classification, image to image, node classification."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from archfront.spaces._errors import UsageError
from archfront.spaces._metric import METRICS, Metric
from archfront.spaces._task import Task

__all__ = ["PSNR_POOLED", "Classification", "ImageToImage", "NodeClassification", "psnr"]

PSNR_POOLED = Metric("psnr_pooled_db", "max", "dB")
SMALLEST_MSE = 1e-10
"""An image that is reproduced exactly counts as 100 dB, so that means stay finite."""


class Classification(Task):
    """Logits (n, classes) against labels (n,). Metrics: error, nll."""

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        return functional.cross_entropy(output, target, label_smoothing=smoothing)

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        error = (output.argmax(dim=1) != target).double().mean()
        return {"error": float(error), "nll": float(functional.cross_entropy(output.double(), target))}

    def reference(self, metric: str) -> float | None:
        if metric != "error":
            return super().reference(metric)
        split = self.split("val")
        labels = split.target if split.rows is None else split.target[split.rows]
        return 1.0 - float(labels.bincount().max()) / len(labels)


class NodeClassification(Classification):
    """Logits (nodes, classes) of a whole graph; the split's rows say which nodes count."""

    @property
    def example_input(self) -> tuple[Tensor, ...]:
        return self.split("train").inputs


class ImageToImage(Task):
    """Flat images (n, outputs) in 0..1 against flat images. Metrics: psnr_db, psnr_pooled_db, mse."""

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        if smoothing:
            raise UsageError(
                f"label_smoothing={smoothing} on task {self.name!r}", "this task has no labels: leave it 0"
            )
        return functional.mse_loss(output, target)

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        mse = (output.double() - target.double()).square().mean()
        return {
            "psnr_db": psnr(output, target),
            "psnr_pooled_db": float(-10 * torch.log10(mse.clamp(min=SMALLEST_MSE))),
            "mse": float(mse),
        }


def psnr(output: Tensor, target: Tensor) -> float:
    """Mean over images (n, pixels) of 10 log10(1 / MSE of the image), in dB."""
    mse = (output.double() - target.double()).square().mean(dim=1).clamp(min=SMALLEST_MSE)
    return float((-10 * torch.log10(mse)).mean())


CLASSIFICATION_METRICS = (METRICS["error"], METRICS["nll"])
IMAGE_METRICS = (METRICS["psnr_db"], PSNR_POOLED, METRICS["mse"])
