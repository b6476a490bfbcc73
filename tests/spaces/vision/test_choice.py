"""Choices keep their names; a cover names every option."""

from __future__ import annotations

import torch
from torch import nn

from archfront.spaces import Categorical, Equals, IndexBelow, Integer, Repeated, SearchSpace
from archfront.spaces.vision._choice import Chosen, cover_one_at_a_time

SPACE = SearchSpace(
    Categorical("family", ("a", "b")),
    Integer("depth", 1, 3, default=1),
    Repeated(Categorical("op", ("conv", "pool", "none")), 3, when=IndexBelow("depth")),
    Categorical("norm", ("none", "BN")),
    Categorical("extra", (1, 2), when=(Equals("family", "b"),)),
)


def test_a_choice_is_its_operation_under_its_name() -> None:
    chosen = Chosen("conv", nn.Linear(2, 3))
    x = torch.ones(1, 2)
    assert list(chosen.state_dict()) == ["conv.weight", "conv.bias"]
    assert torch.equal(chosen(x), chosen.operation(x))


def test_every_option_appears_with_every_product_option() -> None:
    cover = cover_one_at_a_time(SPACE, product=("family",), inert=("norm",), anchors={"norm": "BN"})
    assert all(config["depth"] == 3 and config["norm"] == "BN" for config in cover)
    seen = {(config["family"], config["op[0]"], config["op[2]"]) for config in cover}
    assert seen == {(family, op, op) for family in "ab" for op in ("conv", "pool", "none")}
    assert {config["extra"] for config in cover if config["family"] == "b"} == {1, 2}
    assert len({SPACE.key(config) for config in cover}) == len(cover)


def test_members_held_at_different_values_are_respected() -> None:
    held = SPACE.fix({"family": "a", "op[0]": "conv", "op[1]": "pool", "norm": "none"})
    cover = cover_one_at_a_time(held, product=("family",), anchors={"norm": "BN"})
    assert {(c["op[0]"], c["op[1]"], c["norm"]) for c in cover} == {("conv", "pool", "none")}
    assert {c["op[2]"] for c in cover} == {"conv", "pool", "none"}
