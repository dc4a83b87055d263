"""What a run may be asked for, and what the machine decides."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from ops.tuning.machine import choose_device, choose_dtype
from ops.tuning.plan import chosen_context, chosen_layers, chosen_matrix, chosen_rank
from ops.tuning.spool import STDIN, forget, on_disk
from shared.errors import ConfigError
from shared.model.bundle import Bundle


def test_all_exits_are_tuned_unless_some_are_named(bundle: Bundle) -> None:
    assert chosen_layers(bundle, None) == (2, 4)
    assert chosen_layers(bundle, (4,)) == (4,)
    with pytest.raises(ConfigError, match="no exit after layer 3; it has exits after layers 2, 4"):
        chosen_layers(bundle, (3,))


def test_a_rank_belongs_to_the_low_rank_form_alone() -> None:
    assert (chosen_rank("lora", None, 4096), chosen_rank("lora", None, 16)) == (32, 16)
    assert chosen_rank("mlp", None, 4096) is None
    with pytest.raises(ConfigError, match="--head norm has none"):
        chosen_rank("norm", 8, 4096)
    with pytest.raises(ConfigError, match="choose from 1 to the model's width, 48"):
        chosen_rank("lora", 49, 48)


def test_a_low_rank_head_has_no_matrix_of_its_own() -> None:
    assert (chosen_matrix("mlp", own=True), chosen_matrix("mlp", own=False)) == ("own", "shared")
    with pytest.raises(ConfigError, match="exclude each other"):
        chosen_matrix("lora", own=True)


def test_a_context_fits_the_models_positions(bundle: Bundle) -> None:
    assert chosen_context(bundle, None) == 512
    for wrong in (1, 513):
        with pytest.raises(ConfigError, match="choose from 2 to the model's 512 positions"):
            chosen_context(bundle, wrong)


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [("sse avx512_bf16 fma", "bfloat16"), ("avx amx_bf16", "bfloat16"), ("sse avx512f", "float32")],
)
def test_bf16_is_chosen_where_the_cpu_multiplies_it(tmp_path: Path, flags: str, dtype: str) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"flags\t\t: {flags}\n")
    assert choose_dtype("auto", "cpu", info) == dtype
    assert choose_dtype("float32", "cpu", info) == "float32"
    assert choose_dtype("auto", "cpu", tmp_path / "none") == "float32"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        choose_device("cuda")


def test_standard_input_is_kept_with_the_run_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on after a kill finds its text again, although the pipe is gone."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"one\n" * 10)))
    (path,) = on_disk([STDIN], tmp_path / "run", json_lines=False, tokens=1000)
    assert path.read_bytes() == b"one\n" * 10
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert on_disk([STDIN], tmp_path / "run", json_lines=False, tokens=1000) == [path]
    assert path.read_bytes() == b"one\n" * 10
    forget(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_no_more_of_an_endless_input_is_kept_than_the_run_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"word " * 9 + b"\n" + b"x\n" * 9999)))
    (path,) = on_disk([STDIN], tmp_path, json_lines=True, tokens=4)
    assert 64 <= path.stat().st_size < 64 + 46


def test_a_text_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        on_disk([tmp_path / "none.txt"], tmp_path, json_lines=False, tokens=10)
    with pytest.raises(ConfigError, match="stands there twice"):
        on_disk([STDIN, STDIN], tmp_path, json_lines=False, tokens=10)
