"""The state dictionaries in which fairseq, and HAT after it, publish translation networks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from archfront.spaces._errors import DataError
from archfront.spaces.supernets._encoder_decoder import TransformerShape

__all__ = ["bank_tensors"]

_EMBEDDING = (
    r"(?:encoder|decoder)\.embed_tokens\.weight|decoder\.embed_out(?:\.weight)?|decoder\.output_projection\.weight"
)
_IGNORED = r"(?:encoder|decoder)\.(?:version|embed_positions\._float_tensor)"
_LAYER = r"(encoder|decoder)\.layers\.(\d+)\.(\w+)\.(\w+(?:\.\w+)?)"
_PROJECTED = {"encoder": {"self_attn": "attention"}}
_PROJECTED["decoder"] = {**_PROJECTED["encoder"], "encoder_attn": "cross_attention"}
_PLAIN = {
    "encoder": {
        "self_attn_layer_norm": "attention_norm",
        "fc1": "feed_forward.widen",
        "fc2": "feed_forward.narrow",
        "final_layer_norm": "final_norm",
    }
}
_PLAIN["decoder"] = {**_PLAIN["encoder"], "encoder_attn_layer_norm": "cross_norm"}
_PACKED = ("q_proj", "k_proj", "v_proj")
"""The blocks of in_proj_weight and in_proj_bias, in this order."""


def bank_tensors(state: Mapping[str, Tensor], shape: TransformerShape) -> dict[str, Tensor]:
    """The bank's tensors by our names. Queries, keys and values may be packed into one tensor or not; all the tables
    of tokens must be one. Raises DataError for a name that is none of this architecture's, and for tables that differ.
    """
    found: dict[str, Tensor] = {}
    source: dict[str, str] = {}
    for name, tensor in state.items():
        for ours, part in _ours(name, tensor, shape):
            if ours in found and not torch.equal(found[ours], part):
                raise DataError(
                    f"tensors {source[ours]!r} and {name!r} differ",
                    "archfront's transformer has one of them: languages share one table of tokens, also for the output",
                )
            found[ours], source[ours] = part, name
    return found


def _ours(name: str, tensor: Tensor, shape: TransformerShape) -> Iterator[tuple[str, Tensor]]:
    """(our name, tensor) of what an official tensor holds; nothing for what we compute."""
    plain = name.removeprefix("module.")
    if re.fullmatch(_EMBEDDING, plain):
        yield "embedding.weight", tensor
        return
    if re.fullmatch(_IGNORED, plain):
        return
    match = re.fullmatch(_LAYER, plain)
    number = {"encoder": shape.encoder_layers, "decoder": shape.decoder_layers}
    if match is None or int(match[2]) >= number[match[1]]:
        raise _unknown(name)
    side, layer, part, leaf = match.groups()
    place = f"{side}.{layer}"
    if part in _PLAIN[side] and leaf in ("weight", "bias"):
        yield f"{place}.{_PLAIN[side][part]}.{leaf}", tensor
    elif part in _PROJECTED[side] and (packed := re.fullmatch(r"in_proj_(weight|bias)", leaf)):
        if tensor.dim() == 0 or len(tensor) % len(_PACKED):
            raise DataError(f"tensor {name!r} has shape {tuple(tensor.shape)}", "expected queries, keys and values")
        for projection, block in zip(_PACKED, tensor.chunk(len(_PACKED)), strict=True):
            yield f"{place}.{_PROJECTED[side][part]}.{projection}.{packed[1]}", block
    elif part in _PROJECTED[side] and (one := re.fullmatch(r"([qkv]_proj|out_proj)[._](weight|bias)", leaf)):
        yield f"{place}.{_PROJECTED[side][part]}.{one[1]}.{one[2]}", tensor
    else:
        raise _unknown(name)


def _unknown(name: str) -> DataError:
    return DataError(
        f"tensor {name!r} is not one of a HAT transformer",
        "give a checkpoint of HAT, or one that archfront has written",
    )
