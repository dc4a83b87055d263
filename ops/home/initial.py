"""A start that already knows how to copy.

An action repeats names of the request and the home, so the model must learn "after the word that I just
wrote, what came next before?": an induction head, which reads what another head has noted about each
token's predecessor. Chance finds this circuit late, after more text than an hour on one core can hold.
So it is laid out beforehand, and training begins from there:

* Embeddings carry a constant in their first dimension and nothing in the last `_NOTES`.
* In layer 1, heads of which RoPE itself is the content look one token back and write what they see
  into the empty dimensions. A query and a key that are the same for every token, but for a phase of
  one step, match best at distance one.
* In later layers, heads look for the token whose predecessor is the current one, in slow dimensions
  that RoPE hardly turns, and add that token's embedding to the output.

Source: Trockman & Kolter, Mimetic Initialization of Self-Attention Layers (2023), for the idea; Olsson
et al., In-context Learning and Induction Heads (2022), for the circuit.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

_QUIET: Final = 0.3  # of every other part's first output, so that it does not drown the circuit
_EMBEDDING_SCALE: Final = 0.05
_CONSTANT: Final = 4.0  # of the first dimension, in embedding scales
_NOTES: Final = 64  # dimensions for what is noted about the predecessor
_BACK_GAIN: Final = 6.0
_MATCH_GAIN: Final = 2.6
_COPY_GAIN: Final = 6.0
_INDUCTION_LAYERS: Final = (1, 3, 4)  # counted from 0


def lay_out_senses(sense_map: Tensor) -> None:
    """`(dimensions, hidden_size)`: directions of their own for each dimension, as long as an embedding."""
    with torch.no_grad():
        plain = torch.empty(sense_map.shape[1] - 1 - _NOTES, sense_map.shape[0])
        torch.nn.init.orthogonal_(plain)
        sense_map[:, 1:-_NOTES] = plain.T * _EMBEDDING_SCALE * plain.shape[0] ** 0.5


def lay_out_copying(model: LlamaForCausalLM) -> None:
    """Overwrite a fresh model's weights with the circuit described above; needs 32 wide heads."""
    core: Any = model.model
    with torch.no_grad():
        for layer in core.layers:
            layer.self_attn.o_proj.weight.mul_(_QUIET)
            layer.mlp.down_proj.weight.mul_(_QUIET)
        _embeddings(core.embed_tokens.weight)
        signatures = _signatures(core.embed_tokens.weight.shape[1])
        _look_back(core.layers[0].self_attn, signatures, model.config)
        for layer in _INDUCTION_LAYERS:
            _induce(core.layers[layer].self_attn, signatures)


def _embeddings(weight: Tensor) -> None:
    weight.normal_(0.0, _EMBEDDING_SCALE)
    weight[:, 0] = _CONSTANT * _EMBEDDING_SCALE
    weight[:, -_NOTES:] = 0.0


def _signatures(width: int) -> Tensor:
    """`(_NOTES, width)` orthonormal directions by which tokens are known."""
    plain = torch.empty(width - 1 - _NOTES, _NOTES)
    torch.nn.init.orthogonal_(plain)
    signatures = torch.zeros(_NOTES, width)
    signatures[:, 1:-_NOTES] = plain.T
    return signatures


def _look_back(attention: Any, signatures: Tensor, config: Any) -> None:
    """Heads 0 and 2 (of key heads 0 and 1) note their predecessor's signature, a half each."""
    size = attention.head_dim
    share = config.num_attention_heads // config.num_key_value_heads
    turns = config.rope_parameters["rope_theta"] ** (-torch.arange(size // 2) / (size // 2))
    for key_head in range(_NOTES // size):
        head = key_head * share
        query = attention.q_proj.weight[head * size : (head + 1) * size]
        key = attention.k_proj.weight[key_head * size : (key_head + 1) * size]
        query.zero_()
        key.zero_()
        fast = slice(0, 6)
        query[fast, 0] = _BACK_GAIN / _CONSTANT
        key[fast, 0] = _BACK_GAIN / _CONSTANT * turns[fast].cos()
        key[size // 2 : size // 2 + 6, 0] = _BACK_GAIN / _CONSTANT * turns[fast].sin()
        notes = slice(key_head * size, (key_head + 1) * size)
        attention.v_proj.weight[notes] = signatures[notes]
        out = attention.o_proj.weight[:, head * size : (head + 1) * size]
        out.zero_()
        first = out.shape[0] - _NOTES + key_head * size
        out[first : first + size] = torch.eye(size) * _EMBEDDING_SCALE


def _induce(attention: Any, signatures: Tensor) -> None:
    """Each key head matches a quarter of the signature and copies an eighth of the embedding."""
    size = attention.head_dim
    width = signatures.shape[1]
    slow = [*range(size // 4, size // 2), *range(size // 2 + size // 4, size)]
    key_heads = attention.k_proj.weight.shape[0] // size
    share = attention.q_proj.weight.shape[0] // attention.k_proj.weight.shape[0]
    directions = torch.empty(width, width)
    torch.nn.init.orthogonal_(directions)
    for key_head in range(key_heads):
        head = key_head * share
        notes = torch.arange(key_head * len(slow), (key_head + 1) * len(slow))
        query = attention.q_proj.weight[head * size : (head + 1) * size]
        key = attention.k_proj.weight[key_head * size : (key_head + 1) * size]
        query.zero_()
        key.zero_()
        query[slow] = _MATCH_GAIN * signatures[notes]
        key[slow, width - _NOTES + notes] = _MATCH_GAIN
        copied = directions[key_head * size : (key_head + 1) * size]
        attention.v_proj.weight[key_head * size : (key_head + 1) * size] = copied
        attention.o_proj.weight[:, head * size : (head + 1) * size] = _COPY_GAIN * _EMBEDDING_SCALE * copied.T
