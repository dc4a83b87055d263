"""The home model's own vocabulary, cut so that JSON is a handful of tokens and words copy easily."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# With tied embeddings of 256 in bf16, on both sides: 3 MB each.
VOCABULARY: Final = 6_144
_LEARNED_PIECES: Final = 3_200
_SPACE: Final = "Ġ"  # how the byte level spells a space

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


def train_tokenizer(
    texts: Iterable[str], words: Sequence[str] = (), vocab_size: int = VOCABULARY
) -> PreTrainedTokenizerFast:
    """Learn a vocabulary; any other text still has an encoding, byte by byte.

    Merges are learned by BPE from `texts`, then whole words are added, as many as there is room for; text is
    cut into as few of these pieces as possible. (BPE alone spends most of its merges on parts of words.)

    Args:
        texts: what the model will read and write.
        words: what it may have to read as well, most important first.
        vocab_size: of all.
    """
    pieces = _learned(texts, min(_LEARNED_PIECES, vocab_size))
    for word in words:
        if len(pieces) == vocab_size:
            break
        pieces.setdefault(_SPACE + word)
    tokenizer = _tokenizer(models.Unigram(_scored([PAD, EOS, *pieces][:vocab_size]), unk_id=0))
    tokenizer.add_special_tokens([PAD, EOS])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, clean_up_tokenization_spaces=False
    )


def _learned(texts: Iterable[str], count: int) -> dict[str, None]:
    """The `count` pieces that BPE finds, all bytes among them."""
    tokenizer = _tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=count,
        min_frequency=3,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids: dict[str, int] = tokenizer.get_vocab()
    return dict.fromkeys(sorted(ids, key=ids.__getitem__))


def _scored(pieces: Sequence[str]) -> list[tuple[str, float]]:
    """Nearly equal scores: the fewest pieces win, and among as few the more frequent ones."""
    return [(piece, -1.0 - 0.1 * index / len(pieces)) for index, piece in enumerate(pieces)]


def _tokenizer(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
