"""What a tuning run is: two runs of equal plans on equal machines end with equal weights."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.model.manifest import EXITS_FILE, ExitEntry, HeadForm, HeadMatrix

Loss = Literal["distill", "next-token"]

DEFAULT_RANK: Final = 32
DEFAULT_CONTEXT: Final = 512
NEVER: Final = 1.0  # as a threshold: the exit answers nothing before it is calibrated


class TextFile(msgspec.Struct, frozen=True):
    """A file of the text, by what tells it apart from a changed one without reading it."""

    path: str
    size_bytes: int


class Plan(msgspec.Struct, frozen=True):
    """Everything that decides a run's weights.

    Attributes:
        digest: the bundle's.
        exits_sha256: of the exit heads that the run starts from.
        layers: the exits to tune, ascending.
        head: form of their heads.
        lm_head: whether each has an LM head of its own.
        rank: of the form lora.
        loss: distillation from the model's own final distribution, or the text's next token.
        text: its files.
        field: of JSON lines.
        prompt_field: of JSON lines.
        tokens: to read in all.
        batch_tokens: to read for a step.
        context: tokens of one piece.
        rate: peak learning rate of matrices.
        dtype: of the backbone and of matrix products.
        device: "cpu" or "cuda".
        threads: torch's; sums over rows are ordered by them.
        seed: of new weights and of the order.
    """

    digest: str
    exits_sha256: str
    layers: tuple[int, ...]
    head: HeadForm
    lm_head: HeadMatrix
    rank: int | None
    loss: Loss
    text: tuple[TextFile, ...]
    field: str | None
    prompt_field: str | None
    tokens: int
    batch_tokens: int
    context: int
    rate: float
    dtype: str
    device: str
    threads: int
    seed: int

    def entry(self, layer: int) -> ExitEntry:
        """The tuned exit in the manifest. What was calibrated for another head says nothing about it."""
        return ExitEntry(layer, head=self.head, lm_head=self.lm_head, rank=self.rank, threshold=NEVER)

    def difference(self, other: Plan) -> str | None:
        """The first setting in which `other` differs, or None."""
        for name in self.__struct_fields__:
            if getattr(self, name) != getattr(other, name):
                return name
        return None


def exits_sha256(bundle: Bundle) -> str:
    """SHA-256 (hex) of the exit heads that a bundle has now."""
    return bundle.manifest.files[EXITS_FILE].sha256


def chosen_layers(bundle: Bundle, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """The exits to tune, ascending; all of them if None.

    Raises:
        ConfigError: one is not in the ladder.
    """
    ladder = bundle.partition.exits
    if wanted is None:
        return ladder
    if unknown := sorted(set(wanted) - set(ladder)):
        raise ConfigError(
            f"{bundle.name} has no exit after layer {unknown[0]}; it has exits after layers "
            f"{', '.join(map(str, ladder))}. Choose among them, or prepare the bundle with other exits."
        )
    return tuple(sorted(set(wanted)))


def chosen_rank(head: HeadForm, rank: int | None, hidden_size: int) -> int | None:
    """The rank that a head of this form has, or None if it has none.

    Raises:
        ConfigError: a rank was given to a form without one, or it is no rank for this width.
    """
    if head != "lora":
        if rank is not None:
            raise ConfigError(f"--rank is for --head lora; --head {head} has none. Leave it out.")
        return None
    chosen = min(DEFAULT_RANK, hidden_size) if rank is None else rank
    if not 1 <= chosen <= hidden_size:
        raise ConfigError(f"--rank {chosen}: choose from 1 to the model's width, {hidden_size}.")
    return chosen


def chosen_matrix(head: HeadForm, *, own: bool) -> HeadMatrix:
    """Whose LM head an exit uses.

    Raises:
        ConfigError: a low-rank head has its own by definition.
    """
    if own and head == "lora":
        raise ConfigError(
            "--own-lm-head and --head lora exclude each other: a low-rank head is an addition to the shared "
            "one. Leave one of them out."
        )
    return "own" if own else "shared"


def chosen_context(bundle: Bundle, context: int | None) -> int:
    """Tokens of one piece.

    Raises:
        ConfigError: the model has fewer positions, or there would be nothing to foretell.
    """
    if context is None:
        return min(DEFAULT_CONTEXT, bundle.max_positions)
    if not 2 <= context <= bundle.max_positions:
        raise ConfigError(
            f"--context {context}: choose from 2 to the model's {bundle.max_positions} positions."
        )
    return context
