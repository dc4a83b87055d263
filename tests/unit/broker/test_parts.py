"""The small parts of the broker package: back-off, presence, passwords, rules, Mosquitto's configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.access import AccessPlan
from broker.acl import Access, AclRule, load_acl, parse_acl, pattern, render_acl
from broker.backoff import Backoff
from broker.changes import Changes
from broker.embedded.auth import AclAuthoriser, Client, Login, PasswordAuthenticator
from broker.mosquitto import Listener, MosquittoSettings, render_access, render_config
from broker.passwords import hash_password, load_password_file, render_password_file, verify_password
from broker.presence import Presence, Roster, Status, read_status
from shared.errors import ConfigError, WireError


def test_waits_double_up_to_their_bound_and_start_anew() -> None:
    backoff = Backoff(0.05, 0.3, draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(5)] == [0.05, 0.1, 0.2, 0.3, 0.3]
    backoff.reset()
    assert backoff.next_s() == 0.05


def test_waits_are_jittered_between_half_and_all() -> None:
    assert Backoff(0.1, 1.0, draw=lambda: 0.0).next_s() == 0.05
    waits = {Backoff(0.1, 1.0).next_s() for _ in range(50)}
    assert len(waits) > 1
    assert all(0.05 <= wait_s <= 0.1 for wait_s in waits)


async def test_a_change_wakes_every_waiter() -> None:
    changes, state = Changes(), {"done": False}
    waiters = [asyncio.create_task(changes.until(lambda: state["done"], 5)) for _ in range(3)]
    await asyncio.sleep(0)
    changes.notify()
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    state["done"] = True
    changes.notify()
    assert await asyncio.gather(*waiters) == [True, True, True]
    assert not await changes.until(lambda: False, 0.01)


# --- presence --------------------------------------------------------------------------------------


def test_births_grow_even_when_the_clock_does_not() -> None:
    presence = Presence("t", wall_clock_s=lambda: 100.0)
    births = []
    for _ in range(3):
        presence.next_birth()
        births.append(presence.birth)
    assert births == [100_000, 100_001, 100_002]


def test_birth_and_will_of_a_connection_share_their_number() -> None:
    presence = Presence("t")
    presence.next_birth()
    birth, will = (read_status(presence.payload(online=online)) for online in (True, False))
    assert birth.online
    assert not will.online
    assert birth.birth == will.birth


@pytest.mark.parametrize("payload", [b"", b"x", b"{}", b'{"online": 1, "birth": 2}', b" " * 2_000, b"\xff"])
def test_what_is_no_status_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        read_status(payload)


def test_a_later_version_may_add_fields_to_a_status() -> None:
    assert read_status(b'{"online": true, "birth": 5, "load": 0.5}') == Status(online=True, birth=5)


def test_a_late_will_of_an_older_connection_changes_nothing() -> None:
    roster = Roster()
    assert roster.hear("w", Status(online=True, birth=2))
    assert not roster.hear("w", Status(online=False, birth=1))
    assert roster.online("w")
    assert roster.hear("w", Status(online=False, birth=2))
    assert not roster.online("w")
    assert not roster.online("unknown")


def test_a_sender_whose_clock_was_set_back_is_there_all_the_same() -> None:
    roster = Roster()
    roster.hear("w", Status(online=False, birth=3_600_000, lost=True))
    assert roster.hear("w", Status(online=True, birth=5))
    assert roster.online("w")
    assert roster.hear("w", Status(online=False, birth=5, lost=True))
    assert not roster.online("w")


def test_a_full_roster_forgets_the_absent_first_and_then_whom_it_heard_longest_ago() -> None:
    roster = Roster(max_names=3)
    for name, online in (("a", True), ("b", False), ("c", True), ("d", True)):
        assert roster.hear(name, Status(online=online, birth=5))
    assert len(roster) == 3
    assert not roster.hear("a", Status(online=False, birth=4))
    assert roster.hear("b", Status(online=False, birth=4))  # forgotten, so its old word is news
    roster.hear("a", Status(online=True, birth=6))
    roster.hear("e", Status(online=True, birth=1))
    assert [name for name in "abcde" if roster.online(name)] == ["a", "d", "e"]


def test_workers_that_come_and_go_for_ever_take_no_more_memory() -> None:
    roster = Roster()
    for number in range(10_000):
        roster.hear(f"w-{number}", Status(online=True, birth=1))
        roster.hear(f"w-{number}", Status(online=False, birth=1))
    assert len(roster) == 4_096


# --- passwords ---------------------------------------------------------------------------------------


def test_a_password_is_verified_by_its_hash_alone() -> None:
    hashed = hash_password(b"secret")
    assert "secret" not in hashed
    assert verify_password(b"secret", hashed)
    assert not verify_password(b"Secret", hashed)
    assert hash_password(b"secret") != hashed


@pytest.mark.parametrize(
    "hashed", ["", "x", "$6$salt$hash", "$7$0$QQ==$QQ==", "$7$9999999999$QQ==$QQ==", "$7$1$!$!"]
)
def test_a_hash_of_another_kind_verifies_nothing(hashed: str) -> None:
    assert not verify_password(b"", hashed)


def test_a_password_file_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("# users\n\n" + render_password_file({"hub": "one", "w1": "two"}))
    login = PasswordAuthenticator(load_password_file(path)).authenticate
    assert login(Login("c", "hub", b"one"))
    assert not login(Login("c", "hub", b"two"))
    assert not login(Login("c", "nobody", b""))
    assert not login(Login("c", "hub"))
    assert "one" not in repr(Login("c", "hub", b"one"))


@pytest.mark.parametrize("text", ["hub", "hub:plain", "hub:$6$x$y"])
def test_a_bad_password_file_names_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "passwords"
    path.write_text("# first line\n" + text)
    with pytest.raises(ConfigError, match=r"passwords:2"):
        load_password_file(path)


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_password_file(tmp_path / "nowhere")


@pytest.mark.parametrize("user", ["", "a:b", "a\nb"])
def test_names_that_a_password_file_can_t_hold_are_refused(user: str) -> None:
    with pytest.raises(ConfigError):
        render_password_file({user: "x"})


# --- rules ---------------------------------------------------------------------------------------------

RULES = (
    AclRule(Access.READ, "public/#"),
    AclRule(Access.READWRITE, "hub/#", "hub"),
    AclRule(Access.DENY, "hub/secret", "hub"),
    pattern(Access.WRITE, "by/%u/%c"),
)
HUB, OTHER, NOBODY = Client("c1", "hub"), Client("c2", "other"), Client("c3", None)


def test_rules_survive_their_file() -> None:
    assert parse_acl(render_acl(RULES)) == RULES


def test_a_rule_without_an_access_word_is_both() -> None:
    assert parse_acl("user hub\ntopic a/b c\n") == (AclRule(Access.READWRITE, "a/b c", "hub"),)


@pytest.mark.parametrize("line", ["topics a", "user", "read a", "topic"])
def test_a_line_that_is_no_rule_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        parse_acl(f"# rules\n{line}\n")


def test_a_file_with_a_filter_that_matches_nothing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rules.acl"
    path.write_text("user hub\ntopic read a/#/b\n")
    with pytest.raises(ConfigError, match=r"rules\.acl: ACL line 2: # must be"):
        load_acl(path)


def test_rules_are_applied_as_mosquitto_applies_them() -> None:
    rules = AclAuthoriser(RULES)
    assert rules.may_publish(HUB, "hub/x")
    assert not rules.may_publish(HUB, "hub/secret")
    assert not rules.may_publish(OTHER, "hub/x")
    assert rules.may_publish(OTHER, "by/other/c2")
    assert not rules.may_publish(OTHER, "by/hub/c2")
    assert not rules.may_publish(NOBODY, "by//c3")
    assert rules.may_subscribe(NOBODY, "public/a")
    assert not rules.may_publish(NOBODY, "public/a")
    assert not rules.may_subscribe(HUB, "public/a")
    assert rules.may_subscribe(HUB, "hub/x/+")
    assert not rules.may_subscribe(HUB, "hub/#")


# --- Mosquitto's configuration ---------------------------------------------------------------------------


def test_a_configuration_says_what_was_set() -> None:
    listener = Listener(
        port=8883, address=None, certfile="s.pem", keyfile="s.key", cafile="ca.pem", require_certificate=True
    )
    text = render_config(
        MosquittoSettings(
            listeners=(listener,),
            password_file="p",
            acl_file="a",
            max_packet_bytes=5,
            persistence_location="/d/",
        )
    )
    lines = text.splitlines()
    for line in (
        "set_tcp_nodelay true",
        "max_packet_size 5",
        "persistence true",
        "persistence_location /d/",
        "allow_anonymous false",
        "password_file p",
        "acl_file a",
        "listener 8883",
        "certfile s.pem",
        "require_certificate true",
    ):
        assert line in lines


def test_with_per_listener_each_has_its_own_rules() -> None:
    listeners = (
        Listener(port=1883, allow_anonymous=True, acl_file="inside"),
        Listener(port=1884, password_file="p", acl_file="outside"),
    )
    text = render_config(MosquittoSettings(listeners=listeners, per_listener=True))
    first, second = text.split("listener 1883")[1].split("listener 1884")
    assert "allow_anonymous true" in first
    assert "acl_file inside" in first
    assert "allow_anonymous false" in second
    assert "password_file p" in second


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (MosquittoSettings(), "nobody could connect"),
        (MosquittoSettings(listeners=()), "at least one listener"),
        (MosquittoSettings(allow_anonymous=True, listeners=(Listener(port=0),)), "port"),
        (MosquittoSettings(allow_anonymous=True, listeners=(Listener(certfile="x"),)), "go together"),
        (MosquittoSettings(allow_anonymous=True, listeners=(Listener(require_certificate=True),)), "cafile"),
        (MosquittoSettings(allow_anonymous=True, listeners=(Listener(acl_file="x"),)), "per_listener"),
        (MosquittoSettings(password_file="a\nallow_anonymous true"), "newline"),
    ],
)
def test_settings_that_can_t_work_are_refused_in_words(settings: MosquittoSettings, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        render_config(settings)


def test_an_acl_holds_every_tenant_s_rules() -> None:
    text = render_access([AccessPlan(tenant="one", edges=("hub",)), AccessPlan(tenant="two", workers=("w",))])
    assert "topic write antiphon/v1/one/pool/+/open/hub/+" in text
    assert "topic read antiphon/v1/two/worker/w/steps/+/+" in text
    assert "pattern readwrite antiphon/v1/one/device/%u/#" in text
