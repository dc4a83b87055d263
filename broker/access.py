"""Who may publish and subscribe what: the topic tree's access rules, for either broker.

The sender's ids stand in the topic, and the user name is that id: so a broker can see to it that nobody
speaks for another. Devices may do as they like in their own subtree and nowhere else.
"""

from __future__ import annotations

import msgspec

from broker.acl import Access, AclRule, pattern
from shared.wire.topics import ROOT


class AccessPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The users of one tenant.

    Attributes:
        tenant: whose topics these are.
        edges: user names (= edge ids) of hubs; they also read every device's prompts and answer them.
        workers: user names (= worker ids) of the pools; they read opens and write every edge's replies.
        watchers: user names that may read everything of the tenant, and write nothing.
        devices: whether every other user is a device with a subtree of its own name.
    """

    tenant: str
    edges: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    watchers: tuple[str, ...] = ()
    devices: bool = True

    def rules(self) -> tuple[AclRule, ...]:
        """The ACL rules that say so."""
        root = f"{ROOT}/{self.tenant}"
        rules: list[AclRule] = []
        for edge in self.edges:
            rules += _edge_rules(root, edge)
        for worker in self.workers:
            rules += _worker_rules(root, worker)
        rules += (AclRule(Access.READ, f"{root}/#", watcher) for watcher in self.watchers)
        # Whoever looks for trouble may talk to itself: `antiphon doctor` measures the way there and back.
        rules.append(pattern(Access.READWRITE, f"{root}/doctor/%c"))
        if self.devices:
            rules.append(pattern(Access.READWRITE, f"{root}/device/%u/#"))
            rules.append(pattern(Access.READ, f"{root}/edge/+/status"))
        return tuple(rules)


def _edge_rules(root: str, edge: str) -> list[AclRule]:
    return [
        AclRule(Access.WRITE, f"{root}/pool/+/open/{edge}/+", edge),
        AclRule(Access.WRITE, f"{root}/worker/+/steps/{edge}/+", edge),
        AclRule(Access.WRITE, f"{root}/worker/+/steps/{edge}", edge),
        AclRule(Access.READ, f"{root}/edge/{edge}/session/+/reply", edge),
        AclRule(Access.READ, f"{root}/edge/{edge}/replies", edge),
        AclRule(Access.WRITE, f"{root}/edge/{edge}/status", edge),
        AclRule(Access.READ, f"{root}/worker/+/status", edge),
        AclRule(Access.READ, f"{root}/device/+/prompt", edge),
        # A device may name any topic of its own subtree for its answer.
        AclRule(Access.WRITE, f"{root}/device/+/#", edge),
    ]


def _worker_rules(root: str, worker: str) -> list[AclRule]:
    return [
        AclRule(Access.READ, f"{root}/pool/+/open/+/+", worker),
        AclRule(Access.READ, f"{root}/worker/{worker}/steps/+/+", worker),
        AclRule(Access.READ, f"{root}/worker/{worker}/steps/+", worker),
        AclRule(Access.WRITE, f"{root}/edge/+/session/+/reply", worker),
        AclRule(Access.WRITE, f"{root}/edge/+/replies", worker),
        AclRule(Access.WRITE, f"{root}/worker/{worker}/status", worker),
        AclRule(Access.READ, f"{root}/edge/+/status", worker),
    ]
