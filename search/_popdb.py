"""PopDB (Sarah et al., 2022, section 5.3): values that the dense regions of a history never use leave the space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.search._strategy import checked_configuration
from archfront.spaces._choices import Choice
from archfront.spaces._condition import Scalar
from archfront.spaces._errors import ConfigurationError, UsageError
from archfront.spaces._numbers import Real
from archfront.spaces._parameter import Floats, Parameter
from archfront.spaces._search_space import Configuration, SearchSpace

__all__ = ["THRESHOLD", "Reduction", "carried", "reduce"]

THRESHOLD = 0.01
"""The paper's, for all parameters."""
MOST_VALUES = 50
"""A parameter with more values is a range, like a real: used evenly, each value would come near the threshold."""
LONE_MARGIN = 0.9
"""A lone region must be this much closer together than the densest of an even sample: two even samples differ by less
than a tenth (measured on six spaces, 100 to 1,000 configurations)."""

Frequencies = Mapping[str, Mapping[Scalar, float]]


@dataclass(frozen=True)
class Reduction:
    """A space without the values that the dense regions of a history never use.

    `space` is the reduced one (its `parent` is the id of the space before), `removed` are the values by parameter.
    `clustered` and `noise` count the history's configurations inside and outside of dense regions. `lost` are the
    members of the given front that are not legal any more.
    """

    space: SearchSpace
    removed: Mapping[str, tuple[Scalar, ...]]
    clustered: int
    noise: int
    lost: tuple[Configuration, ...] = ()


def reduce(
    space: SearchSpace,
    history: Sequence[Configuration],
    *,
    threshold: float = THRESHOLD,
    min_cluster_size: int = 50,
    min_samples: int = 10,
    front: Sequence[Configuration] = (),
    origin: SearchSpace | None = None,
) -> Reduction:
    """`space` without the values whose relative frequency in the history's dense regions is `threshold` or less.

    A region is a cluster of HDBSCAN over one row per configuration and one column per parameter: the position of its
    value, scaled to 0..1, an inactive parameter at its default. A value counts where its parameter is active; one that
    is active in fewer than `min_cluster_size` clustered configurations is left alone, and so are reals and parameters
    with more than 50 values. The last value of a parameter stays, however rare.

    `origin` is the space in which `history` and `front` were found, where it is another one derived from the same: what
    it did not have was never tried, and stays. Raises UsageError for a history that is too short or has no dense
    region, ConfigurationError for a member of it that is not legal.
    """
    _check(threshold, min_cluster_size, min_samples)
    origin = origin or space
    if len(history) < max(min_cluster_size, min_samples + 1):
        raise UsageError(
            f"PopDB needs a history of {max(min_cluster_size, min_samples + 1)} configurations, this one has "
            f"{len(history)}",
            "let the earlier study run for more trials",
        )
    codes = origin.encode([origin.canonicalise(config) for config in history])
    dense = _dense(origin, codes, min_cluster_size, min_samples)
    if not dense.any():
        raise UsageError(
            f"PopDB finds no dense region in {len(history)} configurations: all of them are noise",
            "let the earlier study run for more trials, by a strategy that converges (e.g. nsga2)",
        )
    frequencies = _frequencies(origin, codes[dense], min_cluster_size)
    rare = {p.name: _rare(p, frequencies[p.name], threshold) for p in space if p.name in frequencies}
    removed = {name: values for name, values in rare.items() if values}
    reduced = space.restrict(removed)
    lost = tuple(config for config in front if not _legal(config, origin, reduced))
    return Reduction(reduced, removed, int(dense.sum()), int((~dense).sum()), lost)


def carried(config: Mapping[str, Any], origin: SearchSpace, space: SearchSpace) -> Configuration:
    """A canonical configuration of `origin` as one of `space`, which derives from the same space.

    What decides nothing in it, or is unknown to `space` (another trainer's parameters), is left out; what `space` has
    beside takes its default. Raises ConfigurationError when it is not legal there.
    """
    whole = origin.canonicalise(config)
    kept = {name: whole[name] for name in origin.active_names(whole) if name in space}
    return checked_configuration(space, kept, "carried over")


def _check(threshold: float, min_cluster_size: int, min_samples: int) -> None:
    if not 0 <= threshold < 1:
        raise UsageError(f"threshold={threshold} must lie in [0, 1)", "the paper's is 0.01")
    if min_cluster_size < 2 or min_samples < 1:
        raise UsageError(
            f"min_cluster_size={min_cluster_size} must be at least 2, min_samples={min_samples} at least 1"
        )


def _dense(space: SearchSpace, codes: Floats, min_cluster_size: int, min_samples: int) -> NDArray[np.bool_]:
    """Which of the configurations (n, parameters) lie in dense regions.

    HDBSCAN as the paper sets it never answers with a single cluster, so a search that converged to one region would be
    all noise; the authors' code allows one. Here a single one counts when it is denser than chance makes it.
    """
    from sklearn.cluster import HDBSCAN

    columns = _columns(space, codes)

    def clustered(single: bool) -> NDArray[np.bool_]:
        model = HDBSCAN(min_cluster_size, min_samples, allow_single_cluster=single, copy=True)
        return np.asarray(model.fit_predict(columns) >= 0)

    if (several := clustered(single=False)).any():
        return several
    lone = clustered(single=True)
    even = _columns(space, space.encode(space.sample(np.random.default_rng(0), len(codes), distinct=True)))
    of_chance = np.sort(_core_distances(even, min_samples))[: int(lone.sum())]
    closer = np.median(_core_distances(columns, min_samples)[lone]) < LONE_MARGIN * np.median(of_chance)
    return lone if closer else np.zeros(len(codes), bool)


def _columns(space: SearchSpace, codes: Floats) -> Floats:
    """Positions scaled to 0..1: unscaled, a parameter of many values would drown the others. Where all have equally
    many it is the paper's clustering."""
    return np.stack([_unit(p, codes[:, i]) for i, p in enumerate(space)], axis=1)


def _unit(parameter: Parameter, codes: Floats) -> Floats:
    if isinstance(parameter, Choice):
        return codes / max(1, len(parameter.options) - 1)
    return parameter.features(codes)[:, 0]


def _core_distances(columns: Floats, min_samples: int) -> Floats:
    """From each row to its `min_samples`-th nearest neighbour."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=min(min_samples, len(columns) - 1)).fit(columns)
    return np.asarray(neighbours.kneighbors()[0][:, -1])


def _frequencies(space: SearchSpace, codes: Floats, least: int) -> Frequencies:
    """How often each value of a parameter is taken where the parameter is active; of those that can lose values."""
    active = space.active(codes)
    found: dict[str, dict[Scalar, float]] = {}
    for i, parameter in enumerate(space):
        if isinstance(parameter, Real) or not 1 < parameter.size <= MOST_VALUES:
            continue
        here = codes[active[:, i], i]
        if len(here) >= least:
            counts = np.bincount(parameter.to_ints(here), minlength=parameter.cardinality)
            found[parameter.name] = dict(zip(_values(parameter), (counts / len(here)).tolist(), strict=True))
    return found


def _values(parameter: Parameter) -> list[Scalar]:
    return parameter.decode(parameter.enumerate())


def _rare(parameter: Parameter, frequency: Mapping[Scalar, float], threshold: float) -> tuple[Scalar, ...]:
    """The parameter's values to remove; where that would be all, the most frequent one stays."""
    values = _values(parameter)
    rare = [value for value in values if value in frequency and frequency[value] <= threshold]
    if len(rare) == len(values):
        rare.remove(max(rare, key=lambda value: frequency[value]))
    return tuple(rare)


def _legal(config: Mapping[str, Any], origin: SearchSpace, space: SearchSpace) -> bool:
    try:
        carried(config, origin, space)
    except ConfigurationError:
        return False
    return True
