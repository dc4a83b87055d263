"""One prepared bundle and its unsplit reference for each tiny model, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.parity.cases import CASES
from tests.parity.prepared import Prepared


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", params=CASES, ids=lambda case: case.name)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared.make(request.param, tmp_path_factory.mktemp(request.param.name))
