"""Rows of perf/run.py about the whole node: frames from memory through perf/bench_path, its peer ClickHouse, and the cost of idling.

Everything that the product promises is on: duplicates found, fraud rules by default, a log on the real disk, answers after durability. The
clients are a part of the rx core's round (perf/replay.h); their share of its time is told by bench_path and not taken off.
"""
import functools
import os
import re
import subprocess
import time

import harness

# 490-byte events, 1 in 100 a copy, 1 in 10 a click, ads as Zipf has them: bench_path's defaults.
LOADS = ("udp-batch", "udp-text", "http", "http-batch", "http-close")
# Single requests wait for the disk: it takes many connections to fill a core.
CONNECTIONS = {"http": 2048, "http-close": 2048, "http-batch": 64}
# So much on its way that the node is the limit, not the wait for the disk: of UDP batches as many as an rx core has places for.
FULL = {"udp-batch": ("--window", 4096), "udp-text": ("--window", 16384), "http": ("--clients", 8192), "http-batch": ("--clients", 512),
        "http-close": ("--clients", 4096)}


def cpus():
    return len(os.sched_getaffinity(0))


def bench_path(build, load, events, *arguments):
    """What a run prints, as a dictionary."""
    with harness.folder() as folder:
        argv = [str(build / "perf/bench_path"), str(folder), load, "--events", str(int(events))]
        if load in CONNECTIONS and "--clients" not in arguments:
            argv += ["--clients", str(CONNECTIONS[load])]
        done = subprocess.run([*argv, *map(str, arguments)], capture_output=True, text=True, preexec_fn=harness.dies_with_us())
    if done.returncode:
        raise RuntimeError(f"bench_path {load}: status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    found = {key: float(value) for key, value in re.findall(r"(\S+)=([\d.]+)", done.stdout)}
    found["events/s"] = float(re.search(r"([\d.]+) events/s", done.stdout).group(1))
    found["requests/s"] = float(re.search(r"([\d.]+) requests/s", done.stdout).group(1))
    return found


def throughput(load, events, unit="events/s"):
    """Closed loop: as fast as answers come."""
    return lambda build: bench_path(build, load, events, *FULL[load])[unit]


def per_core(load, events):
    """Events per second of processor time: of rx core, shard core and all background threads, sealing with them."""
    def measured(build):
        run = bench_path(build, load, events, *FULL[load])
        return run["events"] / run["processor"]
    return measured


def latency(rate, quantile, seconds=2):
    """Open loop: each batch is timed from when it was due. One run tells all quantiles: row by row the same runs."""
    def measured(build):
        run = latency.asked[rate, quantile] = latency.asked.get((rate, quantile), -1) + 1
        runs = latency.runs.setdefault(rate, [])
        while len(runs) <= run:
            runs.append(bench_path(build, "udp-batch", rate * seconds, "--rate", rate))
        return runs[run][quantile]
    return measured


latency.asked, latency.runs = {}, {}


def raw_disk(rate, quantile):
    """ms that writes of the same size take on the raw disk, by bench_log."""
    def measured(build):
        with harness.folder() as folder:
            done = subprocess.run([build / "perf/bench_log", folder / "data", str(rate), "1"], check=True, capture_output=True, text=True)
        return float(re.search(rf"raw disk, same size .*{re.escape(quantile)} +(\d+) us", done.stdout).group(1)) / 1e3
    return measured


def clickhouse(build):
    done = subprocess.run([harness.ROOT / "perf/clickhouse_events", build / "perf/bench_json", "500000", "0"], capture_output=True, text=True)
    if done.returncode:
        raise harness.Skip(f"no ClickHouse (devtools/setup perf): {done.stderr.strip()[-200:]}")
    return float(re.search(r"([\d.]+) events/s", done.stdout).group(1))


# ---- a node that has nothing to do ----

def processor_seconds(pid):
    field = open(f"/proc/{pid}/stat", encoding="ascii").read().rpartition(")")[2].split()
    return (int(field[11]) + int(field[12])) / os.sysconf("SC_CLK_TCK")


def idle_node(build):
    return harness.node(build, control=False, extra=harness.SMALL)


def idle_share(build):
    """Per cent of a core that a node without traffic takes, `idle: sleep`, all its threads."""
    with idle_node(build) as node:
        time.sleep(2)
        began, at = processor_seconds(node.data.popen.pid), time.monotonic()
        time.sleep(10)
        return 100 * (processor_seconds(node.data.popen.pid) - began) / (time.monotonic() - at)


@functools.cache
def first_beacons(build, run):
    """Quantiles in ms of 100 beacons on an open connection, each after 20 to 200 ms in which nothing came."""
    with idle_node(build) as node:
        text = subprocess.run([build / "perf/bench_first", "%s:%d" % node.http[0], "100", "20", "200"], check=True, capture_output=True, text=True,
                              preexec_fn=harness.dies_with_us()).stdout
        return {key: float(value) for key, value in re.findall(r"(\S+)=([\d.]+)", text)}


def first_beacon(quantile):
    """One run tells all quantiles: row by row the same runs."""
    def measured(build):
        run = first_beacon.asked[quantile] = first_beacon.asked.get(quantile, -1) + 1
        return first_beacons(build, run)[quantile]
    return measured


first_beacon.asked = {}


def rows(redis):
    """ROWS of run.py."""
    found = [
        ("whole path: UDP batch, rx and shard on a core each", "events/s", throughput("udp-batch", 4e6), None, None, 4e6, "median"),
        ("whole path: UDP text, rx and shard on a core each", "events/s", throughput("udp-text", 2e6), None, None, 2e6, "median"),
        ("whole path: HTTP batches of 100, rx and shard on a core each", "events/s", throughput("http-batch", 2e6), None, None, 2e6, "median"),
        ("whole path: HTTP single events, keep-alive, 8,192 connections", "requests/s", throughput("http", 1e6, "requests/s"), None, None, 1e6,
         "median"),
        ("whole path: HTTP, a connection a request", "requests/s", throughput("http-close", 3e5, "requests/s"), None, None, None, None),
        ("whole path: HTTP batches of JSON, per core", "events/s", per_core("http-batch", 2e6), "ClickHouse 18.16, the same JSON", clickhouse, 8,
         "ratio"),
        ("whole path: UDP batch, per core, against Redis", "events/s", per_core("udp-batch", 4e6), "Redis 7, SET NX EX + HINCRBY", redis, 10,
         "ratio"),
    ]
    for rate, aims in ((100000, (2, 5, 25)), (1000000, (2, 5, 25))):
        for quantile, aim in zip(("p50", "p99", "p99.9"), aims):
            found.append((f"whole path: acknowledgement at {rate:,} events/s, {quantile}", "ms", latency(rate, quantile),
                          "raw disk, such writes", raw_disk(rate, quantile), aim, "most"))
    found += [
        ("idle: sleep, no traffic, of one core", "%", idle_share, None, None, 3, "most"),
        *[(f"idle: sleep, the first beacon after a pause, {quantile}", "ms", first_beacon(quantile), None, None, 2 if quantile == "p50" else None,
           "most" if quantile == "p50" else None) for quantile in ("p50", "p99")],
    ]
    return found
