"""The worker's engine on a real bundle: sessions share a forward and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cloud_worker.engine import CloudEngine
from cloud_worker.work import Work
from shared.errors import ContextGapError, EngineError, EvictedError, WireError
from shared.model.loading import load_cloud
from shared.model.prepacked import PrepackedLinear, can_prepack
from shared.tensors.codec import CODECS
from shared.wire.topics import SessionAddress
from tests.integration.conftest import Reference

FP32 = CODECS["fp32"]

MakeEngine = Callable[[], CloudEngine]


def address(name: str) -> SessionAddress:
    return SessionAddress("home", "hub", name)


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(seed))


def work(name: str, start: int, values: torch.Tensor, *, number: int = 1, codec: str = "fp32") -> Work:
    end = start + len(values)
    states = CODECS[codec].encode(values)
    return Work(address(name), 1, number, start, len(values), codec, states, wants=(end - 1,))


@pytest.fixture(params=["cpu", "cpu-prepacked", "cuda"])
def make_engine(request: pytest.FixtureRequest, tiny: Reference) -> MakeEngine:
    """Engines as workers have them: on each device, and with weights laid out for batches."""
    device = torch.device(request.param.partition("-")[0])
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    linear = None
    if request.param == "cpu-prepacked":
        if not can_prepack(device, torch.float32):
            pytest.skip("torch comes without oneDNN here")
        linear = PrepackedLinear.load
    model = load_cloud(tiny.bundle, device=str(device), linear=linear)
    return lambda: CloudEngine(model, tiny.bundle.hidden_size, tiny.bundle.vocab_size)


@pytest.fixture
def engine(make_engine: MakeEngine) -> CloudEngine:
    return make_engine()


def tokens(done) -> dict[str, tuple]:
    assert all(item.error is None for item in done)
    return {item.work.address.session: item.tokens for item in done}


def test_a_batch_of_sessions_gives_each_what_it_gets_alone(engine: CloudEngine, make_engine: MakeEngine):
    lengths = {"a": 1, "b": 7, "c": 20, "d": 3}
    works = [work(name, 0, rows(count, seed)) for seed, (name, count) in enumerate(lengths.items())]
    together = tokens(engine.run(works, 0.0))
    for each in works:
        alone = make_engine()
        (token,) = tokens(alone.run([each], 0.0))[each.address.session]
        (packed,) = together[each.address.session]
        assert (token.position, token.token) == (packed.position, packed.token)
        assert token.confidence == pytest.approx(packed.confidence, abs=1e-5)


def test_chunks_in_one_batch_or_in_two_are_the_same_context(engine: CloudEngine):
    values = rows(10, 1)
    whole = tokens(engine.run([work("whole", 0, values)], 0.0))["whole"]
    first, second = work("split", 0, values[:6]), work("split", 6, values[6:], number=2)
    done = engine.run([first, second], 0.0)
    assert done[1].tokens[0].token == whole[0].token


def test_a_rewrite_cuts_the_cache_back_first(engine: CloudEngine):
    values = rows(10, 1)
    engine.run([work("s", 0, values)], 0.0)
    engine.run([work("s", 4, rows(3, 9), number=2)], 0.0)
    again = tokens(engine.run([work("s", 4, values[4:], number=3)], 0.0))["s"]
    assert again[0].token == tokens(engine.run([work("t", 0, values)], 0.0))["t"][0].token


def test_a_work_in_parts_gives_what_it_gives_whole(engine: CloudEngine):
    values = rows(40, 1)
    whole = replace(work("whole", 0, values), wants=(3, 20, 39))
    parted = replace(whole, address=address("parted"))
    (expected,) = engine.run([whole], 0.0)
    drawn = [token for first in (0, 16, 32) for token in _part(engine, parted, first)]
    assert [(each.position, each.token) for each in drawn] == [
        (each.position, each.token) for each in expected.tokens
    ]


def _part(engine: CloudEngine, whole: Work, first: int) -> tuple:
    (done,) = engine.run([whole.part(first, min(16, whole.count - first))], 0.0)
    assert done.error is None
    return done.tokens


def test_works_of_several_codecs_share_a_batch(engine: CloudEngine):
    codecs = {"a": "fp32", "b": "fp16", "c": "int8", "d": "fp16"}
    works = [work(name, 0, rows(3, seed), codec=codec) for seed, (name, codec) in enumerate(codecs.items())]
    together = tokens(engine.run(works, 0.0))
    engine.drop([each.address for each in works])
    assert {name: drawn[0].token for name, drawn in together.items()} == {
        each.address.session: tokens(engine.run([each], 0.0))[each.address.session][0].token for each in works
    }


def test_states_that_are_too_long_do_not_reach_into_the_next_work_of_their_codec(engine: CloudEngine):
    good = work("good", 0, rows(3, 2))
    (expected,) = tokens(engine.run([good], 0.0))["good"]
    engine.drop([good.address])
    long = replace(work("long", 0, rows(2, 1)), states=FP32.encode(rows(3, 1)))
    done = {item.work.address.session: item for item in engine.run([long, good], 0.0)}
    assert "disagree" in str(done["long"].error)
    assert done["good"].tokens[0].token == expected.token


def test_malformed_states_fail_their_session_alone(engine: CloudEngine):
    bad = Work(address("bad"), 1, 1, 0, 2, "fp32", b"123", wants=(1,))
    nan = Work(address("nan"), 1, 1, 0, 1, "fp32", b"\xff" * 256, wants=(0,))
    done = {
        item.work.address.session: item for item in engine.run([bad, nan, work("good", 0, rows(3, 2))], 0.0)
    }
    assert "disagree" in str(done["bad"].error)
    assert "NaN" in str(done["nan"].error)
    assert done["good"].error is None
    assert len(done["good"].tokens) == 1


def test_rows_past_the_caches_end_are_answered_with_where_it_ends_and_nothing_is_lost(engine: CloudEngine):
    values = rows(8, 3)
    engine.run([work("s", 0, values[:4])], 0.0)
    gap = work("s", 6, values[6:], number=3)
    (done,) = engine.run([gap], 0.0)
    assert isinstance(done.error, ContextGapError)
    assert done.error.frontier == 4
    whole = tokens(engine.run([work("whole", 0, values)], 0.0))["whole"]
    assert tokens(engine.run([work("s", 4, values[4:], number=4)], 0.0))["s"][0].token == whole[0].token


def test_a_forward_that_breaks_is_run_session_by_session_and_no_row_is_doubled(
    engine: CloudEngine, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
):
    # Nothing that a peer can send is known to break a forward; one made to fail stands for it.
    forward = engine._model.stage.forward

    def failing(inputs, segments):
        if inputs.abs().max() > 1e5:
            raise RuntimeError("no such kernel")
        return forward(inputs, segments)

    monkeypatch.setattr(engine._model.stage, "forward", failing)
    values = rows(4, 3)
    batch = [work("good", 0, values), work("breaks", 0, rows(2, 4) * 1e7)]
    done = {item.work.address.session: item for item in engine.run(batch, 0.0)}
    assert isinstance(done["breaks"].error, RuntimeError)
    assert done["good"].error is None
    follow = tokens(engine.run([work("good", 4, rows(2, 5), number=2)], 0.0))["good"]
    alone = make_engine()
    alone.run([work("good", 0, values)], 0.0)
    assert follow[0].token == tokens(alone.run([work("good", 4, rows(2, 5), number=2)], 0.0))["good"][0].token


def test_the_works_behind_one_that_broke_its_session_are_gaps(
    engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
):
    forward = engine._model.stage.forward
    engine.run([work("s", 0, rows(3, 1))], 0.0)

    def failing(inputs, segments):
        if inputs.abs().max() > 1e5:
            raise RuntimeError("no such kernel")
        return forward(inputs, segments)

    monkeypatch.setattr(engine._model.stage, "forward", failing)
    batch = [work("s", 3, rows(2, 4) * 1e7), work("s", 5, rows(1, 5), number=2)]
    errors = [done.error for done in engine.run(batch, 0.0)]
    assert isinstance(errors[0], RuntimeError)
    assert isinstance(errors[1], ContextGapError)
    assert errors[1].frontier == 0
    assert engine.kv_bytes() == {}


def test_memory_that_is_short_is_nobodys_fault(engine: CloudEngine, monkeypatch: pytest.MonkeyPatch):
    forward = engine._model.stage.forward

    def greedy(inputs, segments):
        if len(inputs) > 4:
            torch.empty(1 << 46, dtype=torch.uint8)
        return forward(inputs, segments)

    monkeypatch.setattr(engine._model.stage, "forward", greedy)
    batch = [work("long", 0, rows(8, 1)), work("a", 0, rows(2, 2)), work("b", 0, rows(3, 3))]
    done = {item.work.address.session: item.error for item in engine.run(batch, 0.0)}
    assert isinstance(done["long"], EvictedError)
    assert done["a"] is done["b"] is None


def test_logits_that_are_not_finite_are_no_answer_and_spoil_no_other_session(
    engine: CloudEngine, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
):
    forward = engine._model.stage.forward

    def overflowing(inputs, segments):
        # A model in a narrow float, or one without norms, makes infinity of large rows.
        return forward(inputs, segments) * torch.where(inputs.abs() > 1e5, torch.inf, 1.0)

    monkeypatch.setattr(engine._model.stage, "forward", overflowing)
    batch = [work("wild", 0, rows(2, 4) * 1e7), work("calm", 0, rows(4, 3))]
    done = {item.work.address.session: item for item in engine.run(batch, 0.0)}
    assert isinstance(done["wild"].error, FloatingPointError)
    alone = make_engine()
    (expected,) = tokens(alone.run([work("calm", 0, rows(4, 3))], 0.0))["calm"]
    assert done["calm"].tokens[0].token == expected.token


@pytest.mark.parametrize("error", [RuntimeError("no such kernel"), MemoryError()], ids=repr)
def test_an_engine_that_cannot_run_its_own_row_is_broken(
    engine: CloudEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(engine._model.stage, "forward", broken)
    (done,) = engine.run([work("s", 0, rows(2, 4))], 0.0)
    assert isinstance(done.error, EngineError)


def test_many_wanted_tokens_are_drawn_like_few(engine: CloudEngine):
    values = rows(100, 3)
    many = replace(work("many", 0, values), wants=tuple(range(100)))
    (done,) = engine.run([many], 0.0)
    assert [drawn.position for drawn in done.tokens] == list(range(100))
    for end in (1, 64, 65, 100):
        few = tokens(engine.run([work(f"few-{end}", 0, values[:end])], 0.0))[f"few-{end}"]
        assert few[0].token == done.tokens[end - 1].token


def test_one_sessions_outlier_does_not_change_its_neighbours_int8_rows(
    engine: CloudEngine, make_engine: MakeEngine
):
    values, wild = rows(4, 3), rows(4, 6)
    wild[2, 5] = 1e6
    together = tokens(
        engine.run([work("calm", 0, values, codec="int8"), work("wild", 0, wild, codec="int8")], 0.0)
    )
    alone = make_engine()
    (expected,) = tokens(alone.run([work("calm", 0, values, codec="int8")], 0.0))["calm"]
    assert together["calm"][0].token == expected.token
    assert together["calm"][0].confidence == pytest.approx(expected.confidence, abs=1e-5)


def test_dropped_sessions_free_their_memory(engine: CloudEngine):
    engine.run([work("a", 0, rows(3, 1)), work("b", 0, rows(3, 2))], 0.0)
    assert set(engine.kv_bytes()) == {address("a"), address("b")}
    engine.drop([address("a")])
    assert set(engine.kv_bytes()) == {address("b")}


def test_a_wanted_token_is_one_of_those_allowed(engine: CloudEngine):
    (free,) = engine.run([work("free", 0, rows(5, 3))], 0.0)
    taken = free.tokens[0].token
    others = tuple(token for token in (3, 7, 11) if token != taken)
    bound = replace(work("bound", 0, rows(5, 3)), allowed=(others,))
    (done,) = engine.run([bound], 0.0)
    assert done.tokens[0].token in others


def test_an_allowed_token_that_the_model_lacks_fails_that_session_alone(engine: CloudEngine, tiny: Reference):
    bad = replace(work("bad", 0, rows(5, 3)), allowed=((tiny.bundle.vocab_size,),))
    failed, fine = sorted(
        engine.run([bad, work("good", 0, rows(5, 3))], 0.0), key=lambda done: done.error is None
    )
    assert isinstance(failed.error, WireError)
    assert fine.tokens
