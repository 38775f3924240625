"""DPDK ports of several rx cores, the tap to the kernel, and what the tool shows of ports and packets."""
import collections
import contextlib
import json
import os
import socket
import subprocess
import threading

from harness import CPUS, DPDK_INGEST, SMALL, Node, Process, Skip, event, folder, network, node, run, wait_until


def inside(namespace, *argv, check=True, **options):
    return run("ip", "netns", "exec", namespace, *argv, check=check, **options)


def curl(namespace, *arguments):
    return inside(namespace, "curl", "-sS", "-m", "20", *arguments).stdout


def post(namespace, body, address="10.77.0.1"):
    return curl(namespace, "-w", "%{http_code}", "-o", "/dev/null", "-H", "Content-Type: application/json", "-d", json.dumps(body),
                f"http://{address}/api/v1/clicks")


def blast(n, namespace, *arguments):
    return inside(namespace, str(n.build / "perf/turnpike-blast"), "--quiet", "--json", "--retry", *arguments).stdout


def per_core(n, metric):
    text = n.request("GET", "/metrics", at=n.api)[2].decode()
    return {line.split('core="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines() if line.startswith(f"turnpike_{metric}{{")}


def test_one_queue_serves_two_cores(build):
    """A veth pair with one queue, two rx cores: each connection lives on one of them, both get some, none is lost."""
    if CPUS < 2:
        raise Skip("needs two CPUs")
    with network() as (namespace, ours), node(build, ingest=DPDK_INGEST.format(ours), extra=SMALL, rx=(0, 1)) as n:
        blast(n, namespace, "--to", "http://10.77.0.1:80", "--events", "3000", "--connections", "32", "--batch", "1", "--seed", "1")
        blast(n, namespace, "--to", "batch://10.77.0.1:7771", "--events", "3000", "--seed", "2")
        for address in ("10.77.0.1", "[fd00:77::1]"):
            for number in range(8):
                assert post(namespace, event(device_id=f"{address}{number}"), address) == "204"
        opened = per_core(n, "connections_opened_total")
        assert all(opened[core] >= 2 for core in ("0", "1")), opened
        assert sum(per_core(n, "frames_spread_total").values()) > 100
        books = n.audit()
        assert books["events"]["accepted"] + books["events"]["late"] == 6016, books["events"]
        assert not books["frames"]["dropped"]["spread_full"] and not books["frames"]["dropped"]["bad_tcp"], books["frames"]


