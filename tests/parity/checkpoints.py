"""Checkpoint folders as people download them, made on the spot with a small real tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.parity.cases import VOCAB

CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<assistant>"
)
_TEXT = ["turn on the kitchen lights", "what is the temperature in the bedroom", "close the garage door"]


def save_tokenizer(folder: Path) -> None:
    """Train a byte-level BPE of at most `VOCAB` tokens and save it with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def save_checkpoint(model: Any, folder: Path, *, shard_size: str = "5GB") -> Path:
    """Save model and tokenizer as a Hugging Face checkpoint folder."""
    model.save_pretrained(folder, max_shard_size=shard_size)
    save_tokenizer(folder)
    return folder
