"""Topic names, filters and the tree of filters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.filter_tree import FilterTree
from broker.topics import (
    TopicLimits,
    check_filter,
    check_topic,
    filter_covers,
    filters_overlap,
    split_shared,
    topic_matches,
)
from shared.errors import TopicError

LEVEL = st.sampled_from(["a", "b", "", "$x"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTER = st.builds(
    lambda levels, rest: "/".join(levels + ["#"] * rest),
    st.lists(LEVEL | st.just("+"), min_size=1, max_size=4),
    st.integers(0, 1),
).filter(bool)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("+", "a", True),
        ("+", "/a", False),
        ("/+", "/a", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/+/c", "a/b/d", False),
    ],
)
def test_matching_follows_the_standard(topic_filter: str, topic: str, matches: bool) -> None:
    """Source: MQTT 5 sections 4.7.1.2, 4.7.1.3, 4.7.2."""
    assert topic_matches(topic_filter, topic) is matches


@given(st.lists(FILTER, max_size=8, unique=True), TOPIC)
def test_the_tree_finds_what_matching_one_by_one_finds(filters: list[str], topic: str) -> None:
    tree: FilterTree[str] = FilterTree()
    for each in filters:
        tree.put(each, "key", each)
    assert sorted(tree.match(topic)) == sorted(each for each in filters if topic_matches(each, topic))


@given(st.lists(FILTER, min_size=1, max_size=8, unique=True), TOPIC)
def test_what_is_discarded_is_found_no_more(filters: list[str], topic: str) -> None:
    tree: FilterTree[str] = FilterTree()
    for each in filters:
        tree.put(each, "key", each)
    tree.match(topic)
    for each in filters:
        assert tree.discard(each, "key") == each
    assert tree.match(topic) == ()
    assert tree._root.empty


def test_one_filter_holds_a_value_for_each_key() -> None:
    tree: FilterTree[int] = FilterTree()
    tree.put("a/+", "one", 1)
    tree.put("a/+", "two", 2)
    tree.put("a/+", "one", 3)
    assert sorted(tree.match("a/b")) == [2, 3]
    assert tree.get("a/+", "one") == 3
    assert tree.discard("a/+", "three") is None
    assert tree.discard("b", "one") is None


@given(FILTER, FILTER, TOPIC)
def test_a_covering_pattern_matches_whatever_the_filter_matches(
    pattern: str, topic_filter: str, topic: str
) -> None:
    """This is what lets a subscription be authorised once instead of at each delivery."""
    if filter_covers(pattern, topic_filter) and topic_matches(topic_filter, topic):
        assert topic_matches(pattern, topic)


@given(FILTER, FILTER, TOPIC)
def test_filters_that_match_one_topic_overlap(left: str, right: str, topic: str) -> None:
    if topic_matches(left, topic) and topic_matches(right, topic):
        assert filters_overlap(left, right)


@pytest.mark.parametrize(
    ("pattern", "topic_filter", "covers"),
    [
        ("a/#", "a/+/c", True),
        ("a/+", "a/#", False),
        ("a/+/c", "a/b/c", True),
        ("a/b", "a/+", False),
        ("#", "$SYS/#", False),
        ("a/#", "a", True),
    ],
)
def test_covering_is_about_all_topics(pattern: str, topic_filter: str, covers: bool) -> None:
    assert filter_covers(pattern, topic_filter) is covers


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0b", "x" * 65_536])
def test_bad_topic_names_are_refused(topic: str) -> None:
    with pytest.raises(TopicError):
        check_topic(topic)


@pytest.mark.parametrize("topic_filter", ["", "a#", "#/a", "a+/b", "a/+b", "\0"])
def test_bad_filters_are_refused(topic_filter: str) -> None:
    with pytest.raises(TopicError):
        check_filter(topic_filter)


def test_limits_count_bytes_and_levels() -> None:
    limits = TopicLimits(max_bytes=8, max_levels=2)
    check_topic("ä/bcd", limits)
    with pytest.raises(TopicError, match="8 bytes"):
        check_topic("äääää", limits)
    with pytest.raises(TopicError, match="2 levels"):
        check_topic("a/b/c", limits)


def test_shared_filters_are_split() -> None:
    assert split_shared("$share/pool/a/+") == ("pool", "a/+")
    assert split_shared("a/b") == (None, "a/b")
    assert split_shared("$sharex/a") == (None, "$sharex/a")


@pytest.mark.parametrize("topic_filter", ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a"])
def test_broken_shared_filters_are_refused(topic_filter: str) -> None:
    with pytest.raises(TopicError):
        split_shared(topic_filter)
