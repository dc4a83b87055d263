"""The home model: a small Llama whose early layers can answer too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import embedding, linear
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

EXITS: Final = (2, 4)
# Of the loss, at a run's beginning and at its end. Exits that weigh much at first shape the early layers for
# answering; later they leave the room to the full model (docs/adr/0012).
EXIT_WEIGHTS: Final = {2: (1.0, 0.2), 4: (1.0, 0.4)}


def exit_weight(layer: int, share: float) -> float:
    """The weight of a layer's loss when `share` of the run is done; the full model's is always 1."""
    first, last = EXIT_WEIGHTS.get(layer, (1.0, 1.0))
    return first + (last - first) * share


def home_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """About 6 M parameters: what one CPU core can train in an hour and a half and 16 MB can hold."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=672,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        attention_dropout=0.0,
    )


def causal_attention(
    module: nn.Module,  # noqa: ARG001 — the signature is transformers'
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """Plain matrix products: on a CPU, for rows of some dozens of tokens, 1.4 to 1.8 × torch's fused kernel.

    Args:
        module: the attention layer.
        query: `(rows, heads, width, head_size)`.
        key: `(rows, kv_heads, width, head_size)`.
        value: like `key`.
        attention_mask: unused; attention is causal.
        scaling: of the scores.

    Returns:
        `(rows, width, heads, head_size)`, and no attention weights.
    """
    rows, heads, width, size = query.shape
    groups = key.shape[1]
    folded = query.reshape(rows, groups, heads // groups * width, size)
    scores = torch.matmul(folded, key.transpose(2, 3)).view(rows, heads, width, width)
    future = torch.full((width, width), float("-inf"), dtype=scores.dtype, device=scores.device).triu(1)
    share = torch.softmax(torch.add(future, scores, alpha=scaling), -1, dtype=scores.dtype)
    mixed = torch.matmul(share.view(rows, groups, heads // groups * width, width), value)
    return mixed.view(rows, heads, width, size).transpose(1, 2).contiguous(), None


AttentionInterface.register("home_causal", causal_attention)


class ExitModel(nn.Module):
    """A causal LM with a norm of its own at each exit layer; all heads share the LM head.

    While it is trained, a token's embedding is a vector of its own plus a learned projection of what
    the word means (`senses.py`): a word that training seldom or never shows is moved along with those
    it resembles. Saved, the sum is the embedding.

    Args:
        config: a Llama configuration with tied embeddings.
        exits: exit `n` reads what layer `n` (counted from 1) puts out.
        senses: `(vocabulary, dimensions)` word vectors; None for a finished model.
    """

    def __init__(
        self, config: LlamaConfig, exits: tuple[int, ...] = EXITS, senses: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("senses", senses, persistent=False)
        width = 0 if senses is None else senses.shape[1]
        self.sense_map = nn.Parameter(torch.zeros(width, config.hidden_size))
        self.lm = LlamaForCausalLM(config)
        self.lm.set_attn_implementation("home_causal")
        self.exits = exits
        self.norms = nn.ModuleDict(
            {str(layer): nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps) for layer in exits}
        )

    def hidden(self, ids: Tensor, last: int | None = None) -> dict[int, Tensor]:
        """Normed states at each exit and at the end.

        Args:
            ids: `(rows, width)` token ids, padded on the right (causal attention never looks there).
            last: the exit to stop at; None to go to the end.

        Returns:
            exit layer → `(rows, width, hidden_size)`; the last layer's states under its own number.
        """
        core = self.lm.model
        states = embedding(ids, self.embeddings())
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        rotary = core.rotary_emb(states, positions)
        out: dict[int, Tensor] = {}
        for number, layer in enumerate(core.layers, start=1):
            states = layer(states, position_embeddings=rotary, attention_mask=None)
            if number in self.exits:
                out[number] = self.norms[str(number)](states)
            if number == last:
                return out
        out[len(core.layers)] = core.norm(states)
        return out

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self.lm.config.vocab_size)

    def embeddings(self) -> Tensor:
        """`(vocabulary, hidden_size)`, the LM head's too."""
        own: Tensor = self.lm.model.embed_tokens.weight
        senses = self.get_buffer("senses") if self.sense_map.shape[0] else None
        return own if senses is None else own + senses @ self.sense_map

    def logits(self, states: Tensor) -> Tensor:
        """`(..., hidden_size)` normed states → `(..., vocabulary)` logits."""
        return linear(states, self.embeddings())

    def save(self, out: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        """Write a Hugging Face checkpoint in bf16 with `exits.safetensors` beside it."""
        saved: Any = LlamaForCausalLM(self.lm.config)
        saved.load_state_dict(self._folded())
        saved.to(torch.bfloat16).save_pretrained(out)
        tokenizer.save_pretrained(out)
        norms = {
            f"exit.{layer}.norm.weight": norm.weight.detach().to(torch.bfloat16)
            for layer, norm in self._norms()
        }
        save_file(norms, out / "exits.safetensors")

    @staticmethod
    def load(folder: Path) -> ExitModel:
        """Read what `save` wrote, in fp32."""
        lm: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        norms: dict[str, Any] = load_file(folder / "exits.safetensors")
        exits = tuple(sorted(int(name.split(".")[1]) for name in norms))
        model = ExitModel(lm.config, exits)
        model.lm = lm
        for layer, norm in model._norms():
            norm.weight.data = norms[f"exit.{layer}.norm.weight"].float()
        return model.eval()

    def _folded(self) -> dict[str, Tensor]:
        """The language model's weights, with what words mean added to their embeddings."""
        weights: dict[str, Tensor] = dict(self.lm.state_dict())
        matrix = self.embeddings().detach().clone()
        return weights | dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), matrix)

    def _norms(self) -> list[tuple[int, nn.RMSNorm]]:
        return [(int(layer), norm) for layer, norm in self.norms.items() if isinstance(norm, nn.RMSNorm)]
