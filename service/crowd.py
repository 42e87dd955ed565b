"""Who is connected: a table that is bounded in all and for each peer, and says who has to leave for a newcomer."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["Crowd"]

Member = TypeVar("Member", bound="Hashable")


class Crowd(Generic[Member]):
    """Members in the order of their last activity, ``most`` at once and ``most_of_one`` of one peer.

    A full table drops one member for each that comes, and never refuses the newcomer: a probe is always a newcomer.
    The one that leaves is the newcomer's own peer's least recently active where that peer holds its even share or more,
    and otherwise the least recently active of all. So a peer that fills the table displaces itself.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._peers: OrderedDict[Member, str] = OrderedDict()
        self._members: dict[str, OrderedDict[Member, None]] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._peers))

    def add(self, member: Member, peer: str) -> Member | None:
        """Take a member in: the one that is out for it, if any. It is no member any more."""
        own = self._members.get(peer, ())
        leaves = None
        if len(own) >= self._most_of_one:
            leaves = next(iter(own))
        elif len(self._peers) >= self._most:
            share = self._most / (len(self._members) + (not own))
            leaves = next(iter(own)) if own and len(own) >= share else next(iter(self._peers))
        if leaves is not None:
            self.discard(leaves)
        self._peers[member] = peer
        self._members.setdefault(peer, OrderedDict())[member] = None
        return leaves

    def touch(self, member: Member) -> None:
        """The member is active now."""
        if member in self._peers:
            self._peers.move_to_end(member)
            self._members[self._peers[member]].move_to_end(member)

    def discard(self, member: Member) -> None:
        """The member leaves, if it is one."""
        peer = self._peers.pop(member, None)
        if peer is not None:
            own = self._members[peer]
            del own[member]
            if not own:
                del self._members[peer]

    def pop_oldest(self) -> Member | None:
        """The least recently active leaves; None from an empty table."""
        oldest = next(iter(self._peers), None)
        if oldest is not None:
            self.discard(oldest)
        return oldest
