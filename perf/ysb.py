"""Rows of perf/run.py about the Yahoo streaming benchmark. The mode is a part of each name: perf/ysb.h, docs/performance.md."""
import os
import re
import subprocess

import harness

# What bench_ysb takes beside four times the last-level cache.
ROOM_MIB = 1024


def cache_mib():
    found = []
    for index in range(8):
        try:
            with open(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size", encoding="ascii") as file:
                found.append(int(file.read().strip().removesuffix("K")) / 1024)
        except OSError:
            break
    return max(found, default=512)


def bench(mode):
    """Events per second of processor time on CPU 0, the median of three rounds; each is checked against a naive count, or the run fails."""
    def measured(build):
        needed = (0 if mode == "cache" else 4 * cache_mib()) + ROOM_MIB
        if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < needed * (1 << 20):
            raise harness.Skip(f"needs {needed:.0f} MiB of free memory")
        done = subprocess.run(["taskset", "-c", "0", build / "perf/bench_ysb", mode], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"bench_ysb {mode}: {done.stderr.strip()}")
        return float(re.search(r"([\d.]+) events/s", done.stdout).group(1))
    return measured


def node(unit, *arguments):
    def measured(build):
        done = subprocess.run([harness.ROOT / "perf/ysb_node", build, "0.5", *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ysb_node: {done.stderr.strip()[-300:]}")
        return float(re.search(rf"([\d.]+) {unit}", done.stdout).group(1))
    return measured


def rows():
    """ROWS of run.py."""
    return [
        ("Yahoo benchmark A: tuples replayed from cache, one core", "events/s", bench("cache"), None, None, None, None),
        ("Yahoo benchmark B: tuples of 4 times the last-level cache, one core", "events/s", bench("memory"), None, None, 50e6, "median"),
        ("Yahoo benchmark C: the original's JSON, one core", "events/s", bench("json"), None, None, 3e6, "median"),
        ("Yahoo benchmark D: UDP batches through a node, loss and retries", "events/s", node("events/s"), None, None, None, None),
        ("Yahoo benchmark D: the same, of the node's processor time", "events/s", node("events/core-s"), None, None, None, None),
        ("Yahoo benchmark D: HTTP batches of 100 through a node", "events/s", node("events/s", "--http"), None, None, None, None),
    ]
