"""The parameters of trainer self_tuning."""

from __future__ import annotations

from typing import Any

from archfront.spaces._choices import Categorical
from archfront.spaces._condition import Equals
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Parameter
from archfront.trainers._augment import AUGMENTATION_PARAMETERS
from archfront.trainers._critical_start import INIT

__all__ = ["SELF_TUNING_PARAMETERS"]

_how: dict[str, Any] = {"role": "hyperparameter"}
_rate: dict[str, Any] = {"log": True, "bins": 48, **_how}

SELF_TUNING_PARAMETERS: tuple[Parameter, ...] = (
    Categorical("mode", ("stn", "delta", "hypernetwork"), **_how),
    Categorical("linearisation", ("reverse", "forward"), when=(Equals("mode", "delta"),), **_how),
    Categorical("optimizer", ("sgd", "adam", "adamw"), **_how),
    Real("lr", 1e-5, 100.0, default=0.03, **_rate),
    Real("momentum", 0.0, 0.999, default=0.9, bins=10, when=(Equals("optimizer", "sgd"),), **_how),
    Real("weight_decay", 1e-8, 1.0, default=0.0, log=True, zero=True, bins=24, **_how),
    Integer("batch_size", 1, 8192, default=64, log=True, **_how),
    Integer("train_steps", 1, 1000, default=2, unit="updates", **_how),
    Integer("valid_steps", 1, 1000, default=1, unit="updates", **_how),
    Integer("warmup_epochs", 0, 1000, default=5, unit="epochs", **_how),
    Real("entropy_weight", 1e-8, 1.0, default=1e-3, log=True, zero=True, bins=16, **_how),
    Real("sigma0", 0.01, 10.0, default=1.0, log=True, bins=12, **_how),
    Real("hyper_lr", 1e-5, 1.0, default=0.03, **_rate),
    Real("scale_lr", 1e-5, 1.0, default=0.01, **_rate),
    Categorical("tune_scale", (True, False), **_how),
    Categorical("schedule", ("plateau", "step", "constant"), **_how),
    Integer("plateau_epochs", 1, 1000, default=60, unit="epochs", **_how),
    Real("lr_decay", 1e-3, 0.99, default=0.1, bins=10, **_how),
    Real("gradient_clip", 1e-3, 1e3, default=0.0, log=True, zero=True, bins=12, **_how),
    Categorical("select", ("last", "best"), **_how),
    Integer("early_stopping", 0, 10_000, default=0, unit="epochs", **_how),
    INIT,
    *AUGMENTATION_PARAMETERS,
)
"""`sigma0` multiplies every parameter's own; `early_stopping` w > 0 ends after w epochs without a new lowest validation
loss; `select` best keeps that epoch's collapsed network; `init` is that of backprop, for the weights at the first
values; `linearisation` differentiates the response by two reverse passes or by one in forward mode: the same numbers,
in another time."""
