"""Functional ANOVA of a random forest (Hutter et al., 2014): how much of a loss's variance each parameter explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._errors import TooFewPointsError
from archfront.spaces import SearchSpace
from archfront.spaces._choices import Categorical, Choice
from archfront.spaces._numbers import ZERO_SHARE, Integer, Real
from archfront.spaces._parameter import Floats, Parameter

__all__ = ["MINIMUM", "Importance", "Share", "importance", "shares_of_tree"]

MINIMUM = 20
"""Fewest evaluations whose forest says anything (our choice)."""
TREES = 64
LEAVES = 512
"""Most leaves of a tree: the exact shares of all pairs cost parameters² × leaves² (our choice)."""
FEATURES = 5 / 6
"""Share of the columns tried at a split (SMAC's default)."""
LISTED = 256
"""Integers with more values than this are cut into intervals like reals."""
ZERO_AT = -0.5
"""Where the 0 of a "log or zero" parameter lies beside its unit range."""
BLOCK = 4_000_000
"""Numbers held at once."""


@dataclass(frozen=True)
class Share:
    """The share of the variance (0..1) that parameters explain together and no fewer of them do: mean and standard
    deviation over the trees."""

    parameters: tuple[str, ...]
    share: float
    std: float


@dataclass(frozen=True)
class Importance:
    """Largest first: the main effect of every parameter with more than one value, the interaction of every pair, and
    the summed main effects of each repeated group."""

    parameters: tuple[Share, ...]
    pairs: tuple[Share, ...]
    groups: tuple[Share, ...]


def importance(
    space: SearchSpace, configs: Sequence[Mapping[str, Any]], losses: Sequence[float] | Floats, seed: int
) -> Importance:
    """The fANOVA of `losses` (finite) over complete legal configurations, exact for the forest that is fitted to them.

    A parameter is weighted as the space samples it: options evenly, numbers over their unit range. An inactive value is
    what canonical configurations hold, the default: the forest sees it as a value like any other, and the shares are
    over the product of all ranges, as if every parameter were active. Raises TooFewPointsError.
    """
    y = np.asarray(losses, np.float64)
    if len(y) < MINIMUM:
        raise TooFewPointsError(f"{len(y)} told evaluations are too few", f"importance needs at least {MINIMUM}")
    if not np.isfinite(y).all():
        raise ValueError("a loss is not finite")
    codes = space.encode(configs)
    varied = [(p, codes[:, i]) for i, p in enumerate(space) if p.size > 1]
    parameters = [p for p, _ in varied]
    if not parameters:
        return Importance((), (), ())
    trees = _trees([_columns(p, column) for p, column in varied], y, seed)
    effects = np.stack([shares_of_tree(tree, parameters) for tree in trees])
    names = [p.name for p in parameters]
    at = {
        group: [i for i, p in enumerate(parameters) if p.group == group]
        for group in dict.fromkeys(p.group for p in parameters if p.group)
    }
    return Importance(
        _sorted(((name,), effects[:, i, i]) for i, name in enumerate(names)),
        _sorted(((names[i], names[j]), effects[:, i, j]) for i, j in combinations(range(len(names)), 2)),
        _sorted(((f"{group}[*]",), effects[:, i, i].sum(axis=1)) for group, i in at.items()),
    )


def _trees(columns: Sequence[Floats], y: Floats, seed: int) -> list[Any]:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        TREES, max_features=FEATURES, max_leaf_nodes=LEAVES, random_state=seed % 2**32, n_jobs=1
    )
    forest.fit(np.concatenate(columns, axis=1), y)
    return [estimator.tree_ for estimator in forest.estimators_]


def _sorted(effects: Iterator[tuple[tuple[str, ...], Floats]]) -> tuple[Share, ...]:
    found = [Share(names, float(shares.mean()), float(shares.std())) for names, shares in effects]
    return tuple(sorted(found, key=lambda share: -share.share))


def shares_of_tree(tree: Any, parameters: Sequence[Parameter]) -> Floats:
    """Main effects (diagonal) and pairwise interactions (parameters, parameters) as shares of one fitted tree's
    variance; zeros for a tree that is constant.

    `tree` is scikit-learn's, over the columns of `parameters` (see `_columns`) in order. A leaf is a box with the value
    y and the volume V, the product of the shares s_j of each parameter's values in it. With c = V (y - mean), the
    second moment of the marginal prediction over a set U of parameters (in the paper's algorithm 2 a sum over values)
    is the sum over pairs of leaves of c c' prod_{j in U} o_j / (s_j s'_j), o_j the share of values in both.
    """
    lower, upper, value = _leaves(tree)
    inside: list[Floats] = []
    weights: list[Floats] = []
    at = 0
    for parameter in parameters:
        columns = _columns(parameter, parameter.encode([parameter.default])).shape[1]
        below, above = (bound[:, None, at : at + columns] for bound in (lower, upper))
        atoms, weight = _atoms(parameter, lower[:, at : at + columns])  # each threshold is some leaf's lower bound
        inside.append(np.asarray(np.all((below < atoms) & (atoms <= above), axis=2), np.float64))
        weights.append(weight)
        at += columns
    side = np.stack([box @ weight for box, weight in zip(inside, weights, strict=True)])
    volume = side.prod(axis=0)
    real = volume > 0  # a box between two neighbouring values holds nothing
    inside, side, volume, value = [box[real] for box in inside], side[:, real], volume[real], value[real]
    value = value - float(volume @ value)
    total = float(volume @ value**2)
    if total <= 1e-24:
        return np.zeros((len(parameters), len(parameters)))
    moments = _moments(inside, weights, side, volume * value)
    main = np.diag(moments).copy()
    effects = moments - main[:, None] - main[None, :]
    np.fill_diagonal(effects, main)
    return np.asarray(np.maximum(effects, 0) / total)


def _leaves(tree: Any) -> tuple[Floats, Floats, Floats]:
    """lower < column <= upper of each leaf (leaves, columns), and its prediction."""
    bounds = np.array([-np.inf, np.inf])[:, None].repeat(tree.n_features, axis=1)
    found, open_ = [], [(0, bounds)]
    while open_:
        node, box = open_.pop()
        if tree.children_left[node] < 0:
            found.append((box, float(tree.value[node, 0, 0])))
            continue
        for end, child in ((1, tree.children_left[node]), (0, tree.children_right[node])):
            part = box.copy()
            part[end, tree.feature[node]] = tree.threshold[node]
            open_.append((child, part))
    boxes = np.stack([box for box, _ in found])
    return boxes[:, 0], boxes[:, 1], np.array([value for _, value in found])


def _columns(parameter: Parameter, codes: Floats) -> Floats:
    """What the forest sees of a parameter (n, columns): one-hot options, else one number in order."""
    if isinstance(parameter, Categorical):
        columns: Floats = parameter.features(codes)
    elif isinstance(parameter, Real) and parameter.zero:
        columns = np.where(codes[:, None] == 0, ZERO_AT, parameter.features(codes)[:, :1])
    else:
        columns = parameter.features(codes)[:, -1:]
    return columns.astype(np.float32).astype(np.float64)  # as scikit-learn compares


def _atoms(parameter: Parameter, thresholds: Floats) -> tuple[Floats, Floats]:
    """Columns (atoms, columns) and weights (atoms,) of values between which no leaf can tell: the listed ones, or the
    centres of the intervals between the thresholds."""
    if isinstance(parameter, Choice) or (isinstance(parameter, Integer) and parameter.size <= LISTED):
        codes = parameter.enumerate()
        weights: Floats = np.ones(len(codes))
        if isinstance(parameter, Integer) and parameter.log:
            weights = np.diff(np.log([*codes, parameter.high + parameter.step]))
        return _columns(parameter, codes), weights / weights.sum()
    cuts = np.unique(thresholds[(thresholds > 0) & (thresholds < 1)])
    edges = np.concatenate([[0.0], cuts, [1.0]])
    atoms, weights = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    if isinstance(parameter, Real) and parameter.zero:
        atoms, weights = np.append(atoms, ZERO_AT), np.append(weights * (1 - ZERO_SHARE), ZERO_SHARE)
    return atoms[:, None], weights


def _moments(inside: Sequence[Floats], weights: Sequence[Floats], side: Floats, c: Floats) -> Floats:
    """Second moments of the centred marginals: of one parameter on the diagonal, of two elsewhere."""
    count, leaves = side.shape
    pairs, single = np.zeros((count, count)), np.zeros(count)
    rows = max(1, BLOCK // (count * leaves))
    for start in range(0, leaves, rows):
        part = slice(start, start + rows)
        overlap = np.stack(
            [(box[part] * w) @ box.T / np.outer(s[part], s) for box, w, s in zip(inside, weights, side, strict=True)]
        ).reshape(count, -1)
        both: NDArray[np.float64] = np.outer(c[part], c).ravel()
        single += overlap @ both
        pairs += (overlap * both) @ overlap.T
    np.fill_diagonal(pairs, single)
    return pairs
