"""The home model's own byte-level BPE, cut so that JSON is a handful of tokens and words copy easily."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD: Final = "<pad>"
EOS: Final = "<eos>"

# Pieces that BPE may not merge across, first match first: line heads of the prompt, the fixed parts of
# an action, words with their space, and digits one by one, so that "21" is copied and not looked up.
_PIECES: Final = "|".join(
    (
        r"\n[a-z_]*[:=]",
        r"\[?\{\"(?:intent|error)\": \"",
        r"Hass[A-Za-z]+",
        r"\", \"slots\": \{",
        r"(?:\"?, )?\"[a-z_]+\":(?: \")?",
        r"\"?\}+(?:, |\])?",
        r" ?[\p{L}']+",
        r" ?\p{N}",
        r"[^\p{L}\p{N}\s]",
        r"\s",
    )
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1536) -> PreTrainedTokenizerFast:
    """Learn a vocabulary from `texts`; any other text still has an encoding, byte by byte."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=3,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, clean_up_tokenization_spaces=False
    )
