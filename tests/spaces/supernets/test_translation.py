"""Translation tasks: the made-up languages, and a user's own sentences."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archfront import spaces
from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces.supernets.transformer import Transformer
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space
from archfront.trainers.backprop import Backprop
from archfront.trainers.supernet import SupernetTrainer

# -- the made-up languages


def translated(source: list[int]) -> list[int]:
    """The translation by the rules of the grammar, from the tokens alone."""
    tokens = iter(source)
    here = next(tokens)

    def phrase() -> tuple[list[int], bool]:
        nonlocal here
        adjectives: list[int] = []
        while here in range(24, 32):
            adjectives.insert(0, here)
            here = next(tokens)
        assert here in range(4, 16)
        noun, here = here, next(tokens)
        plural = here == 3
        if plural:
            here = next(tokens)
        agreeing = [t for a in adjectives for t in (a + 32, 69 + 2 * (noun % 2) + int(plural))]
        return [noun + 32] + [68] * plural + agreeing, plural

    subject, plural = phrase()
    assert here in range(16, 24)
    verb, here = here, next(tokens)
    thing = phrase()[0] if here in range(4, 16) or here in range(24, 32) else []
    adverb = [here + 32] if here in range(32, 36) else []
    assert (next(tokens) if adverb else here) == 2
    return [*adverb, *subject, *thing, verb + 32, 73 + int(plural), 2]


class TestToyTranslation:
    @pytest.fixture
    def task(self) -> Any:
        return spaces.load("transformer").task()

    def test_every_sentence_is_translated_by_the_grammar(self, task: Any) -> None:
        assert {name: len(split) for name, split in task.splits.items()} == {"train": 2000, "val": 400, "test": 400}
        for split in task.splits.values():
            assert split.inputs[0].shape[1] == split.inputs[1].shape[1] == split.target.shape[1] == 16
            for source, previous, target in zip(*split.inputs, split.target, strict=True):
                wanted = translated(source.tolist())
                assert target.tolist() == wanted + [0] * (16 - len(wanted))
                assert previous.tolist() == [1, *target.tolist()[:-1]]

    def test_no_sentence_is_in_two_splits(self, task: Any) -> None:
        sources = [tuple(row.tolist()) for split in task.splits.values() for row in split.inputs[0]]
        assert len(set(sources)) == len(sources) == 2800
        assert max(int(split.target.max()) for split in task.splits.values()) == task.signature.outputs - 1 < 127

    def test_the_seed_decides(self, task: Any) -> None:
        again, other = (Transformer.bind(seed=seed).task() for seed in (0, 1))
        assert again.identity == task.identity
        assert other.identity != task.identity

    def test_padding_does_not_count(self, task: Any) -> None:
        target = torch.tensor([[5, 2, 0, 0], [6, 7, 2, 0]])
        logits = torch.randn(2, 4, 75, generator=torch.Generator().manual_seed(0))
        logits[0, 0, 5] = logits[1, 2, 2] = 9.0
        logits[0, 1, 2] = logits[1, 0, 6] = logits[1, 1, 7] = -9.0
        scores = task.score(logits, target)
        assert scores["error"] == pytest.approx(3 / 5)
        places = [(0, 0, 5), (0, 1, 2), (1, 0, 6), (1, 1, 7), (1, 2, 2)]
        probabilities = logits.double().softmax(dim=2)
        nll = -sum(math.log(probabilities[place]) for place in places) / 5
        assert scores["nll"] == pytest.approx(nll, rel=1e-5)
        assert scores["perplexity"] == pytest.approx(math.exp(nll), rel=1e-4)
        assert float(task.loss(logits, target)) == pytest.approx(nll, rel=1e-5)
        spread = -sum(float(probabilities[n, t].log().mean()) for n, t, _ in places) / 5
        assert float(task.loss(logits, target, smoothing=0.1)) == pytest.approx(0.9 * nll + 0.1 * spread, rel=1e-5)
        logits[target == 0] = 7.0 * torch.arange(75)
        assert task.score(logits, target) == scores

    def test_the_reference_is_the_commonest_token(self, task: Any) -> None:
        tokens = [t for row in task.split("val").target.tolist() for t in row if t]
        commonest = max(tokens.count(t) for t in set(tokens))
        assert task.reference("error") == pytest.approx(1 - commonest / len(tokens))

    def test_it_is_learned_from_the_source(self) -> None:
        space = spaces.load("transformer")
        trainer = Backprop(space, searched_space(space, Backprop).default, budget=Budget(4))
        *_, last = trainer.run()
        majority = space.task().reference("error")
        assert majority is not None
        assert last.metrics["error"] < 0.4 < majority
        split = space.task().split("val")
        with torch.no_grad():
            blind = trainer.export()(split.inputs[0].roll(1, dims=0), split.inputs[1])
        assert space.task().score(blind, split.target)["error"] > 2 * last.metrics["error"], (
            "it must look at the source"
        )

    def test_a_bank_learns_it(self) -> None:
        space = spaces.load("transformer")
        config = {**searched_space(space, SupernetTrainer).default, "trainer.random_subnets": 1}
        trainer = SupernetTrainer(space, config, budget=Budget(1))
        (report,) = trainer.run()
        for nll in (report.metrics["nll"], report.attributes["smallest.nll"]):
            assert nll < math.log(space.signature.outputs), "no better than guessing evenly"


# -- a user's sentences


def sentences(rows: int, length: int, largest: int = 40, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, largest + 1, (rows, length))
    tokens[np.arange(length)[None] >= rng.integers(1, length + 1, (rows, 1))] = 0
    tokens[0] = largest
    return tokens


class TestOwnData:
    def write(self, folder: Path, **arrays: Any) -> Path:
        np.savez(folder / "pairs.npz", **arrays)
        return folder / "pairs.npz"

    def test_missing_splits_are_cut(self, tmp_path: Path) -> None:
        source, target = sentences(50, 9), sentences(50, 7, seed=1)
        path = self.write(tmp_path, source=source.astype(np.uint16), target=target.astype(np.int32), who=[{}])
        space = spaces.load("transformer", variant="wmt14_en_de", data=path)
        task = space.task()
        assert space.signature.outputs == 32_768
        assert [spec.shape for spec in space.signature.inputs] == [(9,), (7,)]
        assert {name: len(split) for name, split in task.splits.items()} == {"train": 30, "val": 10, "test": 10}
        pairs = {(tuple(s), tuple(t)) for s, t in zip(source.tolist(), target.tolist(), strict=True)}
        found = set()
        for split in task.splits.values():
            assert split.inputs[1][:, 0].eq(2).all(), "the decoder begins with the end token, as fairseq's do"
            assert torch.equal(split.inputs[1][:, 1:], split.target[:, :-1])
            found |= {
                (tuple(s), tuple(t)) for s, t in zip(split.inputs[0].tolist(), split.target.tolist(), strict=True)
            }
        assert found == pairs

    def test_given_splits_are_kept_and_brought_to_one_length(self, tmp_path: Path) -> None:
        parts = {"train": (20, 6, 5), "val": (8, 9, 4), "test": (7, 5, 8)}
        arrays: dict[str, Any] = {}
        for name, (rows, source, target) in parts.items():
            arrays |= {f"source_{name}": sentences(rows, source), f"target_{name}": sentences(rows, target, 90)}
        space = spaces.load("transformer", data=self.write(tmp_path, **arrays))
        assert space.signature.outputs == 91
        for name, (rows, source, target) in parts.items():
            split = space.task().split(name)  # type: ignore[arg-type]
            assert split.inputs[0].shape == (rows, 9)
            assert split.inputs[1].shape == split.target.shape == (rows, 8)
            assert np.array_equal(split.inputs[0][:, :source], arrays[f"source_{name}"])
            assert np.array_equal(split.target[:, :target], arrays[f"target_{name}"])
            assert not split.target[:, target:].any()
        net = space.build(space.search_space.default).eval()
        assert net(*space.task().split("val").inputs).shape == (8, 8, 91)

    def test_the_file_may_say_the_vocabulary(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, source=sentences(9, 4), target=sentences(9, 4), vocabulary=500)
        assert spaces.load("transformer", variant="wmt14_en_de", data=path).signature.outputs == 500

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"source": np.ones((9, 4))}, r"'source' has shape \(9, 4\) and dtype float64"),
            ({"target": np.ones(9, int)}, r"'target' has shape \(9,\) and dtype int64"),
            ({"target": np.ones((0, 4), int)}, r"'target' has shape \(0, 4\)"),
            ({"source": np.ones((9, 4), bool)}, "dtype bool"),
            ({"target": np.ones((8, 4), int)}, "'source' has 9 rows and 'target' has 8"),
            ({"source": np.full((9, 4), -3)}, "'source' has the id -3"),
            ({"source": np.eye(9, 4, dtype=int)}, r"'source': row 1 has padding before a token: \[0, 1, 0, 0\]"),
            ({"target": np.array([[3, 4, 0]] * 8 + [[3, 0, 4]])}, r"'target': row 8 has padding before .* \[3, 0, 4\]"),
            ({"target": np.vstack([np.ones((8, 4), int), np.zeros((1, 4), int)])}, "'target': row 8 has no token"),
            ({"target": None}, "no array 'target': it has source"),
            ({"source": None}, "no array 'source': it has target"),
            ({"source": None, "source_val": np.ones((9, 4), int)}, "no array 'source_train'"),
            ({"vocabulary": 40}, "'vocabulary' is 40 and the largest id 40"),
            ({"vocabulary": 40.5}, r"'vocabulary' has shape \(\) and dtype float64"),
            ({"source": np.array([{}], dtype=object)}, "array 'source' cannot be read"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        arrays = {"source": sentences(9, 4), "target": sentences(9, 4), **change}
        path = self.write(tmp_path, **{name: array for name, array in arrays.items() if array is not None})
        with pytest.raises(DataError, match=message) as error:
            spaces.load("transformer", data=path)
        assert "pairs.npz" in str(error.value)

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "text.npz").write_text("source target")
        np.save(tmp_path / "one.npy", sentences(9, 4))
        for path, message in (
            (tmp_path / "text.npz", "text.npz is not an .npz file"),
            (tmp_path / "one.npy", "one array without a name"),
            (tmp_path, "is a folder"),
        ):
            with pytest.raises(DataError, match=message):
                spaces.load("transformer", data=path)

    def test_wmt_has_no_data_of_its_own(self) -> None:
        space = spaces.load("transformer/wmt14_en_de")
        assert space.signature.outputs == 32_768
        with pytest.raises(DataError, match=r"'wmt14_en_de' has no data of its own.*--data"):
            space.task().split("train")
        with pytest.raises(UnknownNameError, match="toy_translation"):
            spaces.load("transformer", task="wmt14_en_de")
