"""The model starts able to copy, learns, repeats itself and goes on where it stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ops.home.dataset import MAX_TOKENS, Dataset, batches, build
from ops.home.initial import lay_out_copying, lay_out_senses
from ops.home.model import ExitModel, home_config
from ops.home.senses import token_senses
from ops.home.train import Progress, Run, train
from shared.errors import ConfigError

SAMPLES = 1_200
BATCH_TOKENS = 512


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made() -> tuple[PreTrainedTokenizerFast, Dataset]:
    return build(SAMPLES, seed=3)


@pytest.fixture(scope="module")
def model(made: tuple[PreTrainedTokenizerFast, Dataset]) -> ExitModel:
    torch.manual_seed(0)
    return ExitModel(home_config(made[0])).eval()


def run(out: Path, steps: int, progress: list[Progress] | None = None) -> dict[str, torch.Tensor]:
    train(
        out,
        steps=steps,
        seed=3,
        samples=SAMPLES,
        batch_tokens=BATCH_TOKENS,
        progress=None if progress is None else progress.append,
    )
    return ExitModel.load(out).state_dict()


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = TOKENIZER
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


TOKENIZER, _ = build(400, seed=1)


def test_an_action_is_a_handful_of_tokens_and_words_are_copied_as_they_stand() -> None:
    answer = '{"intent": "HassTurnOn", "slots": {"area": " kitchen", "domain": "light"}}'
    assert len(TOKENIZER.tokenize(answer)) <= 10
    kitchen = TOKENIZER.tokenize(" kitchen")
    for text in (" turn on the kitchen", "\narea: kitchen", answer):
        assert "|".join(kitchen) in "|".join(TOKENIZER.tokenize(text))
    assert [TOKENIZER.decode([token]) for token in TOKENIZER(" 21")["input_ids"]] == [" 2", "1"]


def test_rows_hold_prompt_answer_and_end(made: tuple[PreTrainedTokenizerFast, Dataset]) -> None:
    tokenizer, data = made
    row = data.row(7)
    prompt, answer = row[: data.answers[7]], row[data.answers[7] : -1]
    assert tokenizer.decode(prompt).endswith("\n=")
    assert tokenizer.decode(answer)[0] in "[{"
    assert row[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row[data.homes[7] :]).startswith("\n")


def test_an_epoch_shows_each_row_at_most_once_in_full_batches(
    made: tuple[PreTrainedTokenizerFast, Dataset],
) -> None:
    _, data = made
    shown = 0
    for batch in batches(data, BATCH_TOKENS, seed=0, pad=0):
        if shown + len(batch.answers) > len(data) - 200:
            break
        shown += len(batch.answers)
        assert batch.ids.shape[1] <= MAX_TOKENS
        assert BATCH_TOKENS - MAX_TOKENS < batch.ids.size <= BATCH_TOKENS
        assert (batch.ids[np.arange(len(batch.lengths)), batch.lengths - 1] == 1).all()


def test_skipping_batches_goes_on_in_the_same_order(made: tuple[PreTrainedTokenizerFast, Dataset]) -> None:
    _, data = made
    straight = batches(data, BATCH_TOKENS, seed=0, pad=0)
    for _ in range(9):
        next(straight)
    later = batches(data, BATCH_TOKENS, seed=0, pad=0, skip=9)
    assert (next(straight).ids == next(later).ids).all()


def test_plain_attention_equals_torchs(model: ExitModel) -> None:
    ids = torch.randint(2, 300, (3, 21))
    reference = LlamaForCausalLM(model.lm.config).eval()
    reference.load_state_dict(model.lm.state_dict())
    reference.set_attn_implementation("sdpa")
    with torch.inference_mode():
        expected = reference(input_ids=ids).logits
        states = model.hidden(ids)[model.lm.config.num_hidden_layers]
        assert torch.allclose(model.logits(states), expected, atol=1e-4)


def test_a_saved_model_has_what_words_mean_in_its_embeddings(
    made: tuple[PreTrainedTokenizerFast, Dataset], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    taught = ExitModel(home_config(made[0]), senses=token_senses(made[0])).eval()
    lay_out_senses(taught.sense_map)
    taught.save(tmp_path, made[0])
    ids = torch.randint(2, 300, (2, 17))
    with torch.inference_mode():
        states, saved = taught.hidden(ids), ExitModel.load(tmp_path)
        again = saved.hidden(ids)
        for layer in states:
            close = torch.nn.functional.cosine_similarity(
                taught.logits(states[layer]), saved.logits(again[layer]), dim=-1
            )
            assert close.min() > 0.999  # bf16


def test_words_that_mean_alike_start_alike(made: tuple[PreTrainedTokenizerFast, Dataset]) -> None:
    tokenizer, senses = made[0], token_senses(made[0])

    def sense(word: str) -> torch.Tensor:
        (token,) = tokenizer(f" {word}")["input_ids"]
        return senses[token]

    assert sense("lamp") @ sense("light") > 0.4 > sense("lamp") @ sense("vacuum")


def test_the_start_copies_what_it_has_never_seen(made: tuple[PreTrainedTokenizerFast, Dataset]) -> None:
    """In random text that repeats, the untrained model foretells most of the repetition."""
    torch.manual_seed(0)
    model = ExitModel(home_config(made[0])).eval()
    once = torch.randint(2, len(made[0]), (16, 24))
    twice = torch.cat([once, once], 1)
    with torch.inference_mode():
        chance = model.logits(model.hidden(twice)[2])[:, 24:-1].argmax(-1) == twice[:, 25:]
        lay_out_copying(model.lm)
        copied = model.logits(model.hidden(twice)[2])[:, 24:-1].argmax(-1) == twice[:, 25:]
    assert chance.float().mean() < 0.05
    assert copied.float().mean() > 0.6


def test_training_lowers_every_exits_loss(tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(tmp_path, steps=20, seed=3, samples=SAMPLES, batch_tokens=BATCH_TOKENS, progress=seen.append)
    assert set(seen[-1].losses) == {2, 4, 6}
    assert max(seen[-1].losses.values()) < 6.8  # a guess among 1,536 tokens costs 7.3
    assert {"config.json", "model.safetensors", "tokenizer.json", "exits.safetensors"} <= {
        file.name for file in tmp_path.iterdir()
    }


def test_the_same_seed_and_steps_give_the_same_model(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", 3), run(tmp_path / "b", 3)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_stopped_run_goes_on_to_the_same_model(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 4)

    learned = 0
    original = Run._learn

    def learn_twice(self: Run, batch: object) -> object:
        nonlocal learned
        learned += 1
        if learned == 3:
            self._save()
            raise InterruptedError
        return original(self, batch)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_learn", learn_twice)
        with pytest.raises(InterruptedError):
            run(tmp_path / "broken", 4)
    resumed = run(tmp_path / "broken", 4)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_folder_with_another_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path, 2)
    with pytest.raises(ConfigError, match="other settings"):
        run(tmp_path, 5)


def test_ctrl_c_saves_the_run_and_the_same_call_goes_on_to_the_same_model(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 4)

    original = Run._learn

    def interrupted(self: Run, batch: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_learn", interrupted)
        stopped = train(tmp_path / "stopped", steps=4, seed=3, samples=SAMPLES, batch_tokens=BATCH_TOKENS)
    assert stopped.step == 1
    resumed = run(tmp_path / "stopped", 4)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_data_of_another_run_are_not_taken_even_where_nothing_was_learned_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "go", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 2)
    with pytest.raises(ConfigError, match="other settings"):
        train(tmp_path, steps=2, seed=4, samples=SAMPLES, batch_tokens=BATCH_TOKENS)


def test_a_run_without_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seconds"):
        train(tmp_path, seconds=None)
