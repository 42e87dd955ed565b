from __future__ import annotations

from service.crowd import Crowd


def test_a_full_table_drops_the_least_recently_active_for_each_newcomer() -> None:
    crowd: Crowd[int] = Crowd(most=3, most_of_one=3)
    assert [crowd.add(number, f"peer {number}") for number in range(3)] == [None, None, None]
    crowd.touch(0)
    assert crowd.add(3, "peer 3") == 1
    assert crowd.add(4, "peer 4") == 2
    assert crowd.add(5, "peer 5") == 0
    assert list(crowd) == [3, 4, 5]


def test_a_peer_that_fills_the_table_displaces_itself() -> None:
    crowd: Crowd[int] = Crowd(most=10, most_of_one=8)
    crowd.add(100, "kubelet")
    assert [crowd.add(number, "flood") for number in range(8)] == [None] * 8
    assert crowd.add(8, "flood") == 0, "of one peer there are eight"
    assert crowd.add(101, "other") is None
    assert crowd.add(9, "flood") == 1
    assert crowd.add(102, "kubelet") == 100, "the oldest of all, since the newcomer's peer has less than its share"
    assert crowd.add(103, "other") == 2
    assert len(crowd) == 10


def test_many_peers_that_fill_the_table_displace_their_own() -> None:
    crowd: Crowd[int] = Crowd(most=100, most_of_one=75)
    for number in range(100):
        crowd.add(number, f"peer {number % 10}")
    assert crowd.add(1000, "peer 3") == 3
    assert crowd.add(1001, "kubelet") == 0, "the newcomer gets in"
    for number in range(2000, 2090):
        assert crowd.add(number, f"peer {number % 10}") != 1001


def test_who_has_left_is_not_dropped_again() -> None:
    crowd: Crowd[str] = Crowd(most=2, most_of_one=2)
    crowd.add("a", "peer")
    crowd.discard("a")
    crowd.discard("a")
    crowd.touch("a")
    assert len(crowd) == 0
    assert crowd.pop_oldest() is None
    crowd.add("b", "peer")
    assert crowd.add("c", "peer") is None
    assert crowd.pop_oldest() == "b"
