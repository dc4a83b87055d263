"""For every family, the cheap ways to an exit's token give what all logits give."""

from __future__ import annotations

from shared.model.chooser import Chooser
from shared.model.head_screen import HeadScreen
from shared.model.sampling import GREEDY, draw
from tests.parity.cases import VOCAB
from tests.parity.prepared import Prepared
from tests.parity.staged import StagedSession

THRESHOLD = 0.02  # between the confidences of models that know nothing
ALLOWED = list(range(5, VOCAB, VOCAB // 12))[:12]


def test_cheap_draws_equal_draws_from_all_logits(prepared: Prepared) -> None:
    session = StagedSession(prepared.staged, list(range(3, 43)))
    session.catch_up(prepared.staged.last)
    used = set()
    for head, rows in zip(prepared.staged.heads, session.outputs, strict=True):
        chooser = Chooser(head, screen=HeadScreen(head.matrix))
        for position, row in enumerate(rows.split(1)):
            for allowed in (None, ALLOWED):
                expected = draw(head.logits(row)[0], GREEDY, position, allowed=allowed)
                drawn = chooser.draw(row, GREEDY, position, allowed=allowed, threshold=THRESHOLD)
                assert drawn.token == expected.token
                assert (drawn.confidence > THRESHOLD) == (expected.confidence > THRESHOLD)
        used |= set(chooser.ways)
    assert used >= {"screen", "few"}
