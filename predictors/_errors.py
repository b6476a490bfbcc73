"""What a predictor refuses beside the errors of the house (`archfront.spaces._errors` draws the tree).

UsageError
└── TooFewPointsError      a fit on fewer configurations than the predictor needs
"""

from __future__ import annotations

from archfront.spaces._errors import UsageError

__all__ = ["TooFewPointsError"]


class TooFewPointsError(UsageError):
    """A fit on fewer configurations than the predictor's `minimum`: propose without it, or take the mean."""

    code = "too_few_points"
