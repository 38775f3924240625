#!/usr/bin/python3
"""make perf-plots: measures the curves of docs/performance.md, writes docs/plots/NAME.json and draws docs/plots/NAME.svg from it.

plot.py BUILD [NAME…] [--runs N] [--scale F] [--draw]. --scale shrinks the number of events of each run; --draw draws anew from the JSON files
alone. The measuring is perf/bench_path: the whole node, everything on. Throughput is closed loop, medians with the range of the runs as a
bar; latency is open loop, each batch timed from when it was due, up to the rate that the node no longer keeps.
"""
import argparse
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "perf")]

import whole_path  # noqa: E402

FOLDER = ROOT / "docs/plots"


# ---- curves: name, title, x axis, y axis, and how a point is measured ----

def closed(load, events, unit, option):
    """A point of a closed loop: `option` gives bench_path's arguments for an x."""
    def measured(build, x, scale):
        return {unit: whole_path.bench_path(build, load, max(events * scale, 20000), *option(x))[unit]}
    return measured


def cores_of(x):
    """x cores: one runs both roles, two have a role each, beyond that halves."""
    if x == 1:
        return ["--rx", 1, "--shards", 1, "--same-core"]
    return ["--rx", x // 2, "--shards", x - x // 2]


def open_loop(build, x, scale):
    """Ends as saturated where answers come at less than 95% of the rate asked."""
    run = whole_path.bench_path(build, "udp-batch", max(2 * x * scale, 20000), "--rate", x)
    return {"p50": run["p50"], "p99": run["p99"], "p99.9": run["p99.9"], "saturated": run["events/s"] < 0.95 * x}


def dedup(build, x, _):
    done = subprocess.run([build / "perf/bench_dedup", "1024", str(x)], check=True, capture_output=True, text=True)
    return {"inserts/s": float(re.search(r"([\d.]+) inserts/s", done.stdout).group(1))}


RATES = [10000, 20000, 50000, 100000, 200000, 400000, 700000, 1000000, 1400000, 2000000, 2800000, 4000000]
CPUS = len(os.sched_getaffinity(0))

CURVES = {
    "cores": {"title": "Throughput against cores", "x": "cores", "y": "events/s", "log": "", "points": [x for x in (1, 2, 4, 8, 16) if x <= CPUS],
              "series": {"UDP batch": closed("udp-batch", 2e6, "events/s", cores_of), "UDP text": closed("udp-text", 1e6, "events/s", cores_of),
                         "HTTP batches of 100": closed("http-batch", 1e6, "events/s", cores_of)}},
    "event-size": {"title": "Throughput against event size", "x": "bytes of a JSON event", "y": "events/s", "log": "",
                   "points": [500, 700, 900, 1100, 1400],
                   "series": {"UDP text": closed("udp-text", 1e6, "events/s", lambda x: ["--event-bytes", x]),
                              "HTTP batches of 100": closed("http-batch", 1e6, "events/s", lambda x: ["--event-bytes", x])}},
    "devices": {"title": "Throughput against distinct devices", "x": "distinct devices, each a user and an address", "y": "events/s", "log": "x",
                "points": [1000, 10000, 100000, 1000000, 10000000],
                "series": {"UDP batch": closed("udp-batch", 2e6, "events/s", lambda x: ["--devices", x])}},
    "ids": {"title": "Id table: inserts against ids held, 1 GiB, one core", "x": "million distinct event ids", "y": "inserts/s", "log": "",
            "points": [1, 2, 3, 4], "series": {"inserts": dedup}},
    "connections": {"title": "Throughput against connections", "x": "keep-alive connections, one request at a time on each", "y": "requests/s", "log": "x",
                    "points": [16, 64, 256, 1024, 4096],
                    "series": {"HTTP single events": closed("http", 4e5, "requests/s", lambda x: ["--clients", x]),
                               "HTTP batches of 100": closed("http-batch", 1e6, "requests/s", lambda x: ["--clients", x])}},
    "latency": {"title": "Acknowledgement against load, open loop", "x": "events/s asked", "y": "ms", "log": "xy", "points": RATES,
                "series": {"UDP batch": open_loop}},
}


def measure(build, name, runs, scale):
    """{"title", "x", "y", "series": {name: [{"x", "median", "low", "high"}]}}: a series for each unit of what a point tells."""
    curve, series = CURVES[name], {}
    print(name, flush=True)
    for label, point in curve["series"].items():
        for x in curve["points"]:
            found = [point(build, x, scale) for _ in range(runs)]
            print(f"  {label} {x}: {found}", flush=True)
            for unit in found[0]:
                if unit == "saturated":
                    continue
                key = label if len(found[0]) == 1 else f"{label}, {unit}"
                values = [one[unit] for one in found]
                series.setdefault(key, []).append({"x": x, "median": statistics.median(values), "low": min(values), "high": max(values)})
                if any(one.get("saturated") for one in found):
                    series[key][-1]["saturated"] = True
            if all(one.get("saturated") for one in found):
                break
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {"title": curve["title"], "x": curve["x"], "y": curve["y"], "log": curve["log"], "machine": f"{os.cpu_count()} x {model.group(1) if model else '?'}",
            "commit": commit, "runs": runs, "load_average": round(os.getloadavg()[0], 1), "series": series}


# ---- drawing ----

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 70, 24, 48, 72
COLOURS = ["#1f6f8b", "#c8553d", "#588157", "#7b2d8b", "#b07d2b"]


def short(value):
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def ticks(low, high, log):
    if log:
        found = [m * 10.0 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)]
        found = [t for t in found if low * 0.999 <= t <= high * 1.001]
        return [t for t in found if f"{t:e}"[0] == "1"] if len(found) > 8 else found
    step = 10.0 ** math.floor(math.log10(high / 4))
    step = next(step * m for m in (1, 2, 5, 10) if high / (step * m) <= 6)
    return [i * step for i in range(int(high / step) + 1)]


class Axis:
    """From a value to a pixel."""

    def __init__(self, values, log, begin, end):
        self.log, self.begin, self.end = log, begin, end
        if log:
            self.low, self.high = min(values) / 1.15, max(values) * 1.15
        else:
            self.low, self.high = 0, max(values) * 1.08

    def at(self, value):
        share = math.log(value / self.low) / math.log(self.high / self.low) if self.log else (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self):
        return ticks(self.low, self.high, self.log)


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def draw(curve):
    points = [point for line in curve["series"].values() for point in line]
    x = Axis([p["x"] for p in points], "x" in curve["log"], LEFT, WIDTH - RIGHT)
    y = Axis([p["high"] for p in points] + ([p["low"] for p in points] if "y" in curve["log"] else []), "y" in curve["log"], HEIGHT - BOTTOM, TOP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#222">',
           f'<title>{escaped(curve["title"])}</title>', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escaped(curve["title"])}</text>']
    for value in y.ticks():
        at = y.at(value)
        out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/><text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for value in (sorted({p["x"] for p in points}) if len({p["x"] for p in points}) <= 8 and not x.log else x.ticks()):
        at = x.at(value)
        out.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/><text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(value)}</text>')
    out.append(f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#222"/>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - BOTTOM + 36}" text-anchor="middle">{escaped(curve["x"])}</text>')
    out.append(f'<text x="{LEFT}" y="{TOP - 8}">{escaped(curve["y"])}</text>')
    for number, (label, line) in enumerate(curve["series"].items()):
        colour = COLOURS[number % len(COLOURS)]
        path = "L".join(f"{x.at(p['x']):.1f} {y.at(p['median']):.1f}" for p in line)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for p in line:
            px, py = x.at(p["x"]), y.at(p["median"])
            if p["low"] != p["high"]:
                out.append(f'<path d="M{px:.1f} {y.at(p["low"]):.1f}V{y.at(p["high"]):.1f}" stroke="{colour}" stroke-opacity="0.45" stroke-width="5"/>')
            fill = "#fff" if p.get("saturated") else colour  # hollow: the node did not keep the rate in every run
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{fill}" stroke="{colour}" stroke-width="2"><title>{escaped(label)}: {p["median"]:,.6g} at {p["x"]:,}</title></circle>')
        place = LEFT + number * (WIDTH - LEFT - RIGHT) / max(3, len(curve["series"]))
        out.append(f'<rect x="{place:.0f}" y="{HEIGHT - 24}" width="14" height="4" fill="{colour}"/><text x="{place + 20:.0f}" y="{HEIGHT - 18}">{escaped(label)}</text>')
    out.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end" font-size="9" fill="#777">commit {curve["commit"]}, {escaped(curve["machine"])}, '
               f'median of {curve["runs"]}, load average {curve["load_average"]}</text></svg>')
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Measures curves and draws them into docs/plots.")
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(CURVES)}; default: all of them")
    parser.add_argument("--runs", type=int, default=5, help="of each point (default 5)")
    parser.add_argument("--scale", type=float, default=1, help="share of the usual number of events (default 1)")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw from docs/plots/NAME.json")
    options = parser.parse_intermixed_args()
    unknown = [name for name in options.name if name not in CURVES]
    if unknown or options.runs < 1 or options.scale <= 0:
        parser.error(f"no curve {', '.join(unknown)}: {', '.join(CURVES)}" if unknown else "--runs and --scale have to be above 0")
    FOLDER.mkdir(exist_ok=True)
    for name in options.name or CURVES:
        file = FOLDER / f"{name}.json"
        if not options.draw:
            file.write_text(json.dumps(measure(options.build.resolve(), name, options.runs, options.scale), indent=1) + "\n")
        (FOLDER / f"{name}.svg").write_text(draw(json.loads(file.read_text())))
        print(f"docs/plots/{name}.svg")


main()
