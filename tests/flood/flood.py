#!/usr/bin/python3
"""Floods a node from another namespace while honest clients work: flood.py BUILD [SECONDS]. Prints the table of docs/performance.md.

Two CPUs have to do. The node has CPU 0 and goes before all else there (SCHED_FIFO), as on a core of its own. The honest clients and the generator share
CPU 1, where on a veth pair the XDP program runs too, for it runs on the sender's. The clients send at a fixed pace that they keep with ease alone, and go
before the generator (nice), which takes what is left. A generator still costs them something wherever its frames go, so each flood also goes to an
interface that nobody serves ("elsewhere"): that costs the clients about the same, and the node nothing. What is kept is the rate under the flood by the
rate beside it. Runs alternate; medians count.
"""
import contextlib
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))

from harness import DPDK_INGEST, Skip, network, node, run, wait_until  # noqa: E402  (the path is set just above)

HONEST = 64
PACE = 4000  # events a second of all honest connections together
SPOOFED = "198.18.0.0/15"  # RFC 2544: for such tests, and routed to nobody


def inside(namespace, *argv, first=False):
    return ["ip", "netns", "exec", namespace, "nice", "-n", "-20" if first else "0", "taskset", "-c", "1", *map(str, argv)]


@contextlib.contextmanager
def elsewhere(namespace):
    """A second veth pair out of the namespace, where frames end unread."""
    ours, theirs = "tpe" + namespace[6:], "tpf" + namespace[6:]
    run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", namespace)
    try:
        run("ip", "link", "set", ours, "up")
        run("ip", "netns", "exec", namespace, "ip", "link", "set", theirs, "up")
        yield theirs
    finally:
        run("ip", "link", "del", ours, check=False)


class Bed:
    """A node on a veth pair, the namespace that floods it, and what is measured."""

    def __init__(self, n, namespace, ours, away):
        self.node, self.namespace, self.away = n, namespace, away
        self.mac = pathlib.Path(f"/sys/class/net/{ours}/address").read_text().strip()
        names = run("ip", "netns", "exec", namespace, "ip", "-br", "link").stdout
        for task in pathlib.Path(f"/proc/{n.data.popen.pid}/task").iterdir():
            if (task / "comm").read_text().startswith("rx"):
                try:
                    os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(1))
                except PermissionError:
                    raise Skip("needs SCHED_FIFO for the node, and may not have it") from None
        self.theirs = next(line.split("@")[0] for line in names.splitlines() if line.startswith("tpb"))

    def flood(self, kind, seconds, away=False, rate=0):
        argv = [self.node.build / "tests/flood", kind, "--to", "10.77.0.1:80", "--interface", self.away if away else self.theirs, "--mac", self.mac,
                "--from", SPOOFED, "--seconds", seconds, "--rate", rate]
        return subprocess.Popen(inside(self.namespace, *argv), stdout=subprocess.PIPE, text=True)

    def connections(self, kind, count, seconds, sources=range(10, 18)):
        argv = [self.node.build / "tests/flood", kind, "--to", "10.77.0.1:80", "--source", ",".join(f"10.77.0.{i}" for i in sources),
                "--connections", count, "--seconds", seconds]
        return subprocess.Popen(inside(self.namespace, *argv), stdout=subprocess.PIPE, text=True)

    def hold(self, count, seconds):
        """As many processes as the limit of open files asks for, each with source addresses of its own. Returns once all are open."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100
        parts = -(-count // min(files, 16000))
        each = [count // parts + (i < count % parts) for i in range(parts)]
        processes = [self.connections("hold", n, seconds, range(10 + 2 * i, 12 + 2 * i)) for i, n in enumerate(each)]
        for process in processes:
            process.stdout.readline()
        return processes

    def honest_begin(self, seconds):
        """HONEST keep-alive connections, one event a request, PACE a second wanted. Returns once they work."""
        argv = [self.node.build / "perf/turnpike-blast", "--to", "http://10.77.0.1:80", "--connections", HONEST, "--duration", f"{int(seconds * 1000)}ms", "--rate", PACE,
                "--json", "--quiet", "--seed", time.monotonic_ns() % 1000000]
        before = self.answered()
        process = subprocess.Popen(inside(self.namespace, *argv, first=True), stdout=subprocess.PIPE, text=True)
        wait_until("the honest clients work", lambda: self.answered() > before + HONEST)
        return process

    def honest(self, seconds, beside=None):
        """What they get in so many seconds, beside what `beside` starts once they work."""
        process = self.honest_begin(seconds + 1.5)
        flood = beside() if beside else None
        time.sleep(0.3)
        answers, began = self.answered(), time.monotonic()
        time.sleep(seconds)
        answers, took = self.answered() - answers, time.monotonic() - began
        got = output(process) | {"rate": answers / took}
        return got, output(flood) if flood else None

    def answered(self):
        return self.counters()['requests_total{state="accepted"}']

    def counters(self):
        text = self.node.request("GET", "/metrics", at=self.node.api)[2].decode()
        found = {}
        for name, value in re.findall(r"^turnpike_(\w+(?:\{(?!core)[^}]*\})?)(?:\{core=[^}]*\})? (\S+)$", text, re.M):
            found[name] = found.get(name, 0) + float(value)
        return found

    def open_connections(self):
        counters = self.counters()
        return int(counters["connections_opened_total"] - counters["connections_closed_total"])

    def memory_kib(self):
        status = pathlib.Path(f"/proc/{self.node.data.popen.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def calm(self):
        """What is there when nobody connects: connection count and memory."""
        wait_until("all connections are gone", lambda: self.open_connections() == 0, 90)
        return self.open_connections(), self.memory_kib()


@contextlib.contextmanager
def bed(build, connections=16384, extra=""):
    if not {0, 1} <= os.sched_getaffinity(0):
        raise Skip("needs CPUs 0 and 1: one for the node, one for clients and flood")
    with network() as (namespace, ours), elsewhere(namespace) as away:
        for host in range(10, 34):
            run("ip", "netns", "exec", namespace, "ip", "addr", "add", f"10.77.0.{host}/24", "dev", "tpb" + namespace[6:])
        ingest = DPDK_INGEST.format(ours).replace("http_port", "gateway: 10.77.0.2, http_port")
        memory = f"memory: {{connections: {connections}}}\n" if connections != 16384 else ""
        with node(build, ingest=ingest, rx=(0,), shard=(0,), extra=memory + extra) as n:
            made = Bed(n, namespace, ours, away)
            made.honest(1)
            yield made


def output(process):
    text, _ = process.communicate(timeout=300)
    return json.loads(text.splitlines()[-1])


def row(made, kind, seconds, rounds=3, alone_too=True):
    """One row of the table: medians of alternating rounds."""
    alone, beside, kept, latency, sent = [], [], [], [], []
    before = made.counters()
    for _ in range(rounds):
        alone.append(made.honest(seconds)[0]["rate"] if alone_too else 0)
        honest, _ = made.honest(seconds, lambda: made.flood(kind, seconds + 1, away=True))
        beside.append(honest["rate"])
        honest, flood = made.honest(seconds, lambda: made.flood(kind, seconds + 1))
        assert not honest["rejected"], honest
        kept.append(honest["rate"])
        latency.append(honest["latency_us"]["p99"])
        sent.append(flood["per_second"])
    after = made.counters()
    dropped = {re.sub(r".*?(\w+)_total.*reason=\"(\w+)\".*", r"\1 \2", name): int(value - before.get(name, 0)) for name, value in after.items()
               if 'state="dropped"' in name and value > before.get(name, 0)}
    here, elsewhere = statistics.median(kept), statistics.median(beside)
    # nobody served beside a flood that goes elsewhere: the machine was somebody else's, and the row shows nothing
    return {"flood": kind, "per_second": statistics.median(sent), "alone": statistics.median(alone), "elsewhere": elsewhere, "here": here,
            "kept": here / elsewhere if elsewhere else 0.0, "p99_us": statistics.median(latency), "dropped": dropped}


def main():
    build, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4
    with bed(build) as made:
        began = made.calm()
        print(f"{HONEST} honest keep-alive connections, one event a request, {PACE} a second wanted; medians of 3")
        print("| flood | frames/s | alone | beside a flood elsewhere | under it | kept | p99 |\n|---|---|---|---|---|---|---|")
        for kind in ("syn", "malformed", "udp"):
            got = row(made, kind, seconds)
            print(f"| {kind} | {got['per_second']:,.0f} | {got['alone']:,.0f} | {got['elsewhere']:,.0f} | {got['here']:,.0f} | {got['kept']:.0%} | {got['p99_us'] / 1000:.1f} ms |", flush=True)
            print("  dropped:", got["dropped"])
        alone = made.honest(seconds)[0]["rate"]
        process = made.connections("loris", 1000, 30)
        time.sleep(20)
        honest = made.honest(seconds)[0]["rate"]
        loris = output(process)
        print(f"| loris, 1,000 connections | {loris['opened']} opened, {loris['ended_by_node']} ended by the node | {alone:,.0f} | | {honest:,.0f} | {honest / alone:.0%} |")
        ended = made.calm()
        print(f"before: {began[0]} connections, {began[1]} KiB; after: {ended[0]} connections, {ended[1]} KiB")
        made.node.audit()
    with bed(build, connections=131072) as made:
        before = made.calm()
        processes = made.hold(100000, 40)
        held, memory = made.open_connections(), made.memory_kib()
        honest = made.honest(seconds)[0]["rate"]
        parts = [output(process) for process in processes]
        got = {key: sum(part[key] for part in parts) for key in ("opened", "held", "answered", "failed", "ended_by_node")}
        after = made.calm()
        print(f"hold: {got}; the node counts {held}, {memory} KiB, beside them {honest:,.0f} honest answers/s; before {before}, after {after}")


if __name__ == "__main__":
    main()
