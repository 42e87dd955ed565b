"""Network policies: nothing flows in the lab's namespace but what is named here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pulumi_kubernetes import meta, networking

from infra.pods import selector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.environments import Environment

# A node-local DNS cache answers on a link-local address of the node, which no pod selector finds.
NODE_LOCAL_DNS = "169.254.0.0/16"
EVERYWHERE = ("0.0.0.0/0", "::/0")
API_SERVER_PORTS = (443, 6443, 8443)


def pods(name: str) -> networking.v1.NetworkPolicyPeerArgs:
    """The pods of one part, in the same namespace."""
    return networking.v1.NetworkPolicyPeerArgs(pod_selector=_match(selector(name)))


def namespace(name: str) -> networking.v1.NetworkPolicyPeerArgs:
    """Every pod of another namespace."""
    return networking.v1.NetworkPolicyPeerArgs(namespace_selector=_match({"kubernetes.io/metadata.name": name}))


def pods_of(name: str, part: str) -> networking.v1.NetworkPolicyPeerArgs:
    """The pods of one part, in another namespace."""
    return networking.v1.NetworkPolicyPeerArgs(
        namespace_selector=_match({"kubernetes.io/metadata.name": name}), pod_selector=_match(selector(part))
    )


def any_namespace() -> networking.v1.NetworkPolicyPeerArgs:
    """Every pod of the cluster."""
    return networking.v1.NetworkPolicyPeerArgs(namespace_selector=meta.v1.LabelSelectorArgs())


def addresses(*blocks: str) -> list[networking.v1.NetworkPolicyPeerArgs]:
    """Addresses by CIDR: for peers that are no pods, such as nodes and the API server."""
    return [networking.v1.NetworkPolicyPeerArgs(ip_block=networking.v1.IPBlockArgs(cidr=block)) for block in blocks]


def everywhere() -> list[networking.v1.NetworkPolicyPeerArgs]:
    """Every address."""
    return addresses(*EVERYWHERE)


def nodes(networks: Sequence[str]) -> list[networking.v1.NetworkPolicyPeerArgs]:
    """The nodes and the API server, by their networks; empty: where they are is not known, so everywhere."""
    return addresses(*networks) if networks else everywhere()


def ports(*numbers: int, protocols: Sequence[str] = ("TCP",)) -> list[networking.v1.NetworkPolicyPortArgs]:
    """Ports by number: a policy's named port would be resolved against the peer's pods."""
    return [
        networking.v1.NetworkPolicyPortArgs(port=number, protocol=protocol)
        for number in numbers
        for protocol in protocols
    ]


def dns(environment: Environment) -> networking.v1.NetworkPolicyEgressRuleArgs:
    """Names, from the cluster's DNS."""
    return networking.v1.NetworkPolicyEgressRuleArgs(
        to=[namespace(environment.dns_namespace), *addresses(NODE_LOCAL_DNS)],
        ports=ports(*environment.dns_ports, protocols=("UDP", "TCP")),
    )


@dataclass(frozen=True)
class Flow:
    """Peers, and the ports by which they are reached."""

    peers: Sequence[networking.v1.NetworkPolicyPeerArgs]
    ports: Sequence[networking.v1.NetworkPolicyPortArgs]

    def incoming(self) -> networking.v1.NetworkPolicyIngressRuleArgs:
        """The flow as a rule on those who are reached."""
        return networking.v1.NetworkPolicyIngressRuleArgs(from_=list(self.peers), ports=list(self.ports))

    def outgoing(self) -> networking.v1.NetworkPolicyEgressRuleArgs:
        """The flow as a rule on those who reach."""
        return networking.v1.NetworkPolicyEgressRuleArgs(to=list(self.peers), ports=list(self.ports))


def policy_spec(
    name: str | None,
    incoming: Sequence[Flow] = (),
    outgoing: Sequence[Flow] = (),
    names: Environment | None = None,
) -> networking.v1.NetworkPolicySpecArgs:
    """What the pods of one part may receive and send; ``names``: they also ask this environment's DNS.

    ``name`` is the part's; None: every pod of the namespace.
    """
    allowed_out = [*([dns(names)] if names else []), *(flow.outgoing() for flow in outgoing)]
    return networking.v1.NetworkPolicySpecArgs(
        pod_selector=_match(selector(name)) if name else meta.v1.LabelSelectorArgs(),
        policy_types=["Ingress", "Egress"],
        # The API server stores no empty list: one that is declared is a difference for ever.
        ingress=[flow.incoming() for flow in incoming] or None,
        egress=allowed_out or None,
    )


def deny_all_spec() -> networking.v1.NetworkPolicySpecArgs:
    """Nothing in and nothing out, for every pod that no other policy names."""
    return networking.v1.NetworkPolicySpecArgs(
        pod_selector=meta.v1.LabelSelectorArgs(), policy_types=["Ingress", "Egress"]
    )


def _match(labelled: dict[str, str]) -> meta.v1.LabelSelectorArgs:
    return meta.v1.LabelSelectorArgs(match_labels=labelled)
