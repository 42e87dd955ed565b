"""The network: every flow that the lab needs is let through, and no other.

The policies are evaluated here as Kubernetes defines them: traffic passes if no policy selects the source for egress or
one of those that do allows it, and likewise for the destination and ingress.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.infra.conftest import Record
    from tests.support.recording import Recording

LAB, GADGET, DNS, ELSEWHERE = "memleak-demo", "gadget", "kube-system", "shop"


@dataclass(frozen=True)
class Peer:
    """A pod, by namespace and label, or an address that is no pod's."""

    name: str
    namespace: str = ""
    address: str = "10.1.2.3"

    @property
    def labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": self.name}


PARTS = {name: Peer(name, LAB) for name in ("leaker", "visitors", "prometheus", "grafana")}
OUTSIDE = {
    "dns": Peer("coredns", DNS),
    "gadget": Peer("gadget", GADGET),
    "stranger": Peer("cart", ELSEWHERE),
    "node": Peer("node", address="192.0.2.10"),
    "node-local dns": Peer("cache", address="169.254.20.10"),
}
EVERYONE = PARTS | OUTSIDE

NEEDED = {
    ("visitors", "leaker", 8080),
    ("prometheus", "leaker", 9090),
    ("grafana", "prometheus", 9090),
    ("prometheus", "gadget", 2224),
    ("prometheus", "node", 10250),
    ("prometheus", "node", 6443),
    ("prometheus", "node", 443),
    ("prometheus", "node", 8443),
    *((name, "dns", 53) for name in ("visitors", "prometheus", "grafana")),
    *((name, "node-local dns", 53) for name in ("visitors", "prometheus", "grafana")),
}
PORTS = (22, 53, 80, 443, 2224, 3000, 5000, 6443, 8080, 8443, 9090, 9091, 10250)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _meets(peer: Mapping[str, Any], other: Peer) -> bool:
    if "ipBlock" in peer:
        network = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        # A pod's address is in a block as well as any other.
        return network.version == 4 and ipaddress.ip_address(other.address) in network
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        found = _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    else:
        found = other.namespace == LAB
    return found and _selects(peer.get("podSelector", {}), other.labels)


def _passes(recording: Recording, source: Peer, target: Peer, port: int) -> bool:
    directions = (("Egress", "egress", "to", source, target), ("Ingress", "ingress", "from", target, source))
    for kind, rules, peers, subject, other in directions:
        policies = [
            one.inputs["spec"]
            for one in recording.of_kind("NetworkPolicy")
            if subject.namespace == one.namespace
            and kind in one.inputs["spec"]["policyTypes"]
            and _selects(one.inputs["spec"]["podSelector"], subject.labels)
        ]
        allowed = any(
            any(_meets(peer, other) for peer in rule[peers]) and port in {allowed["port"] for allowed in rule["ports"]}
            for policy in policies
            for rule in policy.get(rules, [])
        )
        if policies and not allowed:
            return False
    return True


def _flows(recording: Recording) -> set[tuple[str, str, int]]:
    return {
        (source, target, port)
        for source, target, port in product(EVERYONE, EVERYONE, PORTS)
        if source != target
        and (source in PARTS or target in PARTS)
        and _passes(recording, EVERYONE[source], EVERYONE[target], port)
    }


def test_what_is_needed_passes_and_nothing_else_in_the_namespace(recorded: Record) -> None:
    flows = _flows(recorded("kind"))
    assert flows >= NEEDED
    # Nodes and the API server have no selector, so Prometheus may reach these ports wherever they are.
    wide = {flow for flow in flows - NEEDED if flow[0] == "prometheus" and flow[2] in {443, 6443, 8443, 10250}}
    assert flows - NEEDED - wide == set()
    assert not {flow for flow in wide if flow[1] in PARTS}, "the parts' own fences hold in any case"


def test_where_the_nodes_are_known_prometheus_reaches_these_and_no_other_address(recorded: Record) -> None:
    assert _flows(recorded("kind", nodeNetworks="192.0.2.0/24, 2001:db8::/64")) == NEEDED


def _of_the_gadget(recording: Recording) -> set[tuple[str, str, int]]:
    return {
        (source, target, port)
        for source, target, port in product(EVERYONE, EVERYONE, PORTS)
        if source != target
        and "gadget" in {source, target}
        and _passes(recording, EVERYONE[source], EVERYONE[target], port)
    }


def test_the_gadgets_metrics_are_read_by_prometheus_and_nothing_else_of_it_by_anybody(recorded: Record) -> None:
    reached = {flow for flow in _of_the_gadget(recorded("kind")) if flow[1] == "gadget"}
    assert reached == {("prometheus", "gadget", 2224)}
    without = {
        flow for flow in _of_the_gadget(recorded("kind", prometheus=False, grafana=False)) if flow[1] == "gadget"
    }
    assert without == {
        (source, "gadget", 2224) for source in OUTSIDE if source not in {"gadget", "node", "node-local dns"}
    }


@pytest.mark.parametrize(
    ("settings", "registry"),
    [
        ({}, 443),
        ({"gadget": "memleak"}, 5000),
        ({"gadget": "memleak", "gadgetImage": "registry.example.com:8080/memleak:v1"}, 8080),
    ],
)
def test_the_gadget_reaches_the_api_server_names_and_its_registry(
    settings: dict[str, object], registry: int, recorded: Record
) -> None:
    flows = _of_the_gadget(recorded("kind", nodeNetworks="192.0.2.10/32", **settings))
    out = {(target, port) for source, target, port in flows if source == "gadget"}
    assert out >= {("node", 443), ("node", 6443), ("node", 8443), ("dns", 53), ("node", registry)}
    assert {port for target, port in out if target == "stranger"} == {registry}
    assert not {target for target, _ in out} & set(PARTS)


def test_the_leaker_speaks_to_nobody(recorded: Record) -> None:
    assert not {flow for flow in _flows(recorded("kind")) if flow[0] == "leaker"}


def test_the_ledger_is_reached_by_port_forward_only(recorded: Record) -> None:
    assert not {flow for flow in _flows(recorded("kind")) if flow[2] == 9091}


def test_a_prometheus_of_the_cluster_may_scrape_where_the_lab_has_none(recorded: Record) -> None:
    flows = _flows(recorded("kind", prometheus=False, grafana=False))
    assert ("stranger", "leaker", 9090) in flows
    assert ("stranger", "leaker", 8080) not in flows


def test_grafana_reaches_a_prometheus_elsewhere_on_its_port_only(recorded: Record) -> None:
    flows = _flows(recorded("kind", prometheus=False, prometheusUrl="https://prometheus.example.com/"))
    reached = {(target, port) for source, target, port in flows if source == "grafana"}
    assert {("node", 443), ("stranger", 443)} <= reached
    assert {port for _, port in reached} == {53, 443}


def test_openshift_resolves_names_at_its_own_dns(recorded: Record) -> None:
    recording = recorded("openshift", registry="registry.example.com/team")
    resolver = Peer("dns", "openshift-dns")
    assert _passes(recording, PARTS["visitors"], resolver, 5353)
    assert not _passes(recorded("kind"), PARTS["visitors"], resolver, 5353)


@pytest.mark.parametrize("flow", sorted(NEEDED), ids=str)
def test_the_evaluation_notices_a_missing_rule(flow: tuple[str, str, int], recorded: Record) -> None:
    source, target, port = flow
    recording = recorded("kind")
    of_the_source = [one for one in recording.declared if one.kind != "NetworkPolicy" or one.object_name != source]
    without = type(recording)(declared=of_the_source)
    assert not _passes(without, EVERYONE[source], EVERYONE[target], port), "only deny-all is left for the source"
