"""Floods from another namespace, in short: tests/flood/flood.py prints the long table."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "flood"))

import flood  # noqa: E402  (the path is set just above)
from harness import PATIENCE, SMALL, wait_until  # noqa: E402

SANITIZED = "asan"  # such a build is several times slower: then only that all goes well counts
SMALL_MEMORY_KIB = 64 * 1024  # what may be touched for the first time in a flood: pages of rings and tables set aside at start


def best_row(made, kind):
    """The first short round that was a flood and in which honest clients kept what they should: a busy machine may spoil some, not all."""
    rows, end = [], time.monotonic() + PATIENCE
    while time.monotonic() < end:
        rows.append(flood.row(made, kind, 1, rounds=1, alone_too=False))
        if rows[-1]["kept"] >= 0.8 and rows[-1]["per_second"] > 5 * flood.PACE or SANITIZED in str(made.node.build):
            return rows[-1]
    raise AssertionError(f"honest clients keep too little: {rows[-5:]}")


def test_syn_and_malformed_floods_cost_honest_clients_little(build):
    with flood.bed(build, extra=SMALL) as made:
        connections, memory = made.calm()
        best_row(made, "syn")
        row = best_row(made, "malformed")
        for reason in ("truncated", "bad_ipv4", "bad_ipv6", "bad_source", "bad_tcp", "bad_udp"):
            assert row["dropped"][f"xdp {reason}"] > 100, row
        for reason in ("bad_ip_checksum", "bad_l4_checksum", "unknown_ethertype"):
            assert row["dropped"][f"frames {reason}"] > 100, row
        after, memory_after = made.calm()
        assert (connections, after) == (0, 0) and (memory_after - memory < SMALL_MEMORY_KIB or SANITIZED in str(build)), (memory, memory_after)
        made.node.audit()


def test_slow_loris_is_ended_and_idle_connections_are_held(build):
    with flood.bed(build, extra=SMALL) as made:
        made.calm()
        process = made.connections("hold", 5000, 2)
        process.stdout.readline()
        assert made.open_connections() >= 5000
        got = flood.output(process)
        assert (got["held"], got["answered"], got["failed"], got["ended_by_node"]) == (5000, 5000, 0, 0), got
        process = made.connections("loris", 1000, 2)
        wait_until("they are there", lambda: made.open_connections() >= 1000)
        honest, _ = made.honest(1)
        assert not honest["failed"] and not honest["lost"] and honest["rate"] > flood.PACE / 2, honest
        flood.output(process)
        assert made.calm()[0] == 0
        made.node.audit()
