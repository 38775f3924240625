"""Rows of perf/run.py about questions to a control process: ClickHouse beside it, and how fresh an answer is.

perf/clickhouse_questions says what ClickHouse is given and asked. It answers one question after the other, as fast as it can; ours come at a
fixed rate and are timed from when they were due, which is harder on ours.
"""
import functools
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import time

import harness

RATE = os.environ.get("FRESHNESS_RATE", "20000")  # events/s of live traffic beside
EVENTS = int(os.environ.get("FRESHNESS_EVENTS", "200"))


# ---- ClickHouse ----

PEERS = {}  # which program each peer needs; run.py leaves a peer out where it is not installed

@functools.cache
def clickhouse_text(build, events, rows_a_minute):
    if not shutil.which("clickhouse-server"):
        raise harness.Skip("no ClickHouse: devtools/setup perf")
    argv = [harness.ROOT / "perf/clickhouse_questions", build / "perf/make_month", events, "30", rows_a_minute, "0"]
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def clickhouse(name, events, rows_a_minute):
    """p99 in us of such a question; one server for all rows and runs, for loading the month takes minutes."""
    def measured(build):
        return float(re.search(rf"^{name}: .*p99 (\d+) us", clickhouse_text(build, events, rows_a_minute), re.M).group(1))
    PEERS[measured] = "clickhouse-server"
    return measured


# ---- event to answer ----

def impressions(connection, campaign):
    connection.request("GET", f"/api/v1/analytics/campaigns/{campaign}?window=1h&step=1h")
    return json.loads(connection.getresponse().read())["totals"]["impressions"]


def freshness_of(node, which):
    """ms from the first byte of a beacon until an answer over HTTP shows it, asked again and again; and until it was acknowledged."""
    beacon, control = http.client.HTTPConnection(*node.http[0], timeout=30), http.client.HTTPConnection(*node.api, timeout=30)
    shown, acknowledged = [], []
    for number in range(EVENTS):
        campaign = f"fresh_{which}_{number}"
        body = json.dumps(harness.event(event_type="impression", campaign_id=campaign, device_id=f"fresh-{number}"))
        began = time.monotonic()
        beacon.request("POST", "/api/v1/clicks", body)
        answer = beacon.getresponse()
        answer.read()
        assert answer.status == 204, answer.status
        acknowledged.append(time.monotonic() - began)
        while impressions(control, campaign) != 1:
            assert time.monotonic() - began < 60, f"{campaign} does not show"
        shown.append(time.monotonic() - began)
        time.sleep(0.01)
    beacon.close()
    control.close()
    return shown, acknowledged


def freshness(build):
    """p99 in ms, under live traffic of RATE events/s from turnpike-blast, files being sealed meanwhile."""
    freshness.runs += 1
    with harness.node(build, extra="memory: {dedup: 1GiB}\ndurability: {log_file: 32MiB}\n") as node:
        blast = subprocess.Popen([build / "perf/turnpike-blast", "--to", "batch://%s:%d" % node.udp[0], "--rate", RATE, "--duration", "600s",
                                  "--seed", str(freshness.runs), "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(3)
            before, at = live(node), time.monotonic()
            shown, acknowledged = freshness_of(node, freshness.runs)
            rate = (live(node) - before) / (time.monotonic() - at)
        finally:
            blast.terminate()
            blast.wait()
        print(f"  freshness: p50 {statistics.median(shown) * 1e3:.1f} ms, p99 {quantile(shown, 0.99) * 1e3:.1f} ms, acknowledged p50 "
              f"{statistics.median(acknowledged) * 1e3:.1f} ms, p99 {quantile(acknowledged, 0.99) * 1e3:.1f} ms, {rate:.0f} events/s beside")
        return quantile(shown, 0.99) * 1e3


freshness.runs = int(time.time()) % 1000000


def quantile(took, share):
    return sorted(took)[min(int(len(took) * share), len(took) - 1)]


def live(node):
    """Events that the node has received."""
    layers = node.ctl("audit", "--json", status={0, 1})["layers"]
    return next(layer["received"] for layer in layers if layer["layer"] == "events")


# ---- distinct users over many segments ----

SEGMENTS = int(os.environ.get("USERS_SEGMENTS", "300"))


@functools.cache
def users_text(build):
    """A node whose last hours lie in SEGMENTS segments of 2,000 events; ms of a question for the users of one campaign among them."""
    with harness.node(build, extra="fraud: {clicks_per_ip_hour: 0, clicks_per_device_hour: 0}\n") as node:
        hour = harness.now_ms() // 3600000 * 3600000
        for number in range(SEGMENTS):
            lines = [json.dumps(harness.event(event_type="impression", timestamp=hour - 3600000 + (number * 2000 + i) * 5, campaign_id=f"camp_{i % 100}",
                                              user_id=f"u{number}-{i // 2}", device_id=f"d{number}-{i}")) for i in range(2000)]
            for at in range(0, 2000, 1000):
                status, answer = node.post("\n".join(lines[at:at + 1000]))
                assert status in (200, 204), (status, answer)
            node.ctl("segments", "seal", status={0, 1})
        path = "/api/v1/analytics/campaigns/camp_{}?step=1h&from=%d&to=%d" % (hour - 3 * 3600000, hour + 3600000)
        first, again = [], []
        for took in (first, again):
            for campaign in range(60):
                began = time.monotonic()
                users = node.get(path.format(campaign))["totals"]["users"]
                took.append((time.monotonic() - began) * 1e3)
                assert abs(users / (SEGMENTS * 20) - 1) < 0.08, users  # 20 a segment and campaign; 1.6% is one standard error
            time.sleep(0.6)  # longer than an answer is told again as it is
        return {"first": first, "again": again}


def users(which):
    return lambda build: statistics.median(users_text(build)[which])


def rows():
    """ROWS of run.py."""
    return [
        (f"event to answer through HTTP, {int(RATE):,} events/s beside, p99", "ms", freshness, None, None, 1000, "most"),
        (f"distinct users of a campaign, {SEGMENTS} segments, asked first", "ms", users("first"), None, None, None, None),
        (f"distinct users of a campaign, {SEGMENTS} segments, asked again", "ms", users("again"), None, None, None, None),
    ]
