"""The processes of one machine: started again when they die, stopped in order and in time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from broker.embedded import BrokerSettings
from broker.mqtt import _FAREWELL_TIMEOUT_S
from broker.mqtt_settings import MqttSettings
from cloud_worker.worker import DRAIN_TIMEOUT_S
from edge_agent import gateway, link
from ops.stack import STOP_TIMEOUT_S, Stack
from shared.config import load
from shared.context.write_behind import CALL_TIMEOUT_S
from tests.servers import free_port
from tests.waiting import eventually

# What a forward that has begun, and leaving Python, may take.
LAST_BATCH_S = 2.0


def test_a_member_is_not_killed_before_it_could_have_left_in_order():
    connect_s = MqttSettings(host="", port=1, client_id="").connect_timeout_s
    farewell_s = 2 * _FAREWELL_TIMEOUT_S + connect_s
    worker_s = DRAIN_TIMEOUT_S + CALL_TIMEOUT_S + farewell_s
    hosted_bus_s = 2 * BrokerSettings().close_timeout_s
    edge_s = gateway.GRACE_S + gateway.LAST_WORDS_S + link.FAREWELL_TIMEOUT_S + 2 * farewell_s + hosted_bus_s
    assert max(worker_s, edge_s) + LAST_BATCH_S < STOP_TIMEOUT_S


async def test_a_member_started_by_hand_after_a_death_gets_its_pause_anew(tmp_path: Path):
    settings = load({"broker.port": free_port(), "general.log_level": "error"}, environ={}, folder=tmp_path)
    stack = Stack(settings, workers=0)
    del stack.members["edge"]
    broker = stack.members["broker"]
    stack.start("broker")
    watch = asyncio.create_task(stack.watch())
    try:
        for deaths in (1, 2):
            await eventually(lambda: broker.alive, 20.0, "the broker")
            broker.process.kill()
            await eventually(lambda: broker.restart_at_s > 0, 20.0, "its death seen")
            assert broker.failures == deaths
            stack.start("broker")
            assert broker.restart_at_s == 0.0
    finally:
        watch.cancel()
        await stack.stop()
    assert not broker.alive
