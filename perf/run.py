#!/usr/bin/python3
"""make perf: measures each part and the whole path, prints a table, writes perf/result.json. run.py --help tells the rest.

Each row is the median of RUNS runs, its spread (largest minus smallest, over the median). Peers run in turn with ours, in the same
invocation, and the ratio is the median of the ratios pair by pair. What each number shows and does not show: docs/performance.md.
"""
import argparse
import atexit
import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "perf")]

import baseline  # noqa: E402
import harness  # noqa: E402  (the path is set just above)
import questions as asking  # noqa: E402
import whole_path  # noqa: E402
import ysb  # noqa: E402

RUNS = int(os.environ.get("RUNS", "5"))
SECONDS = float(os.environ.get("SECONDS_EACH", "4"))
# rx and shard have a CPU each; clients share them where the machine has only two, which the guide says beside each figure.
FREE = sorted(os.sched_getaffinity(0))[2:] or sorted(os.sched_getaffinity(0))


def pinned(argv, cpus):
    return ["taskset", "-c", ",".join(map(str, cpus)), *map(str, argv)]


def output(argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True, preexec_fn=harness.dies_with_us()).stdout


def first_number(text, unit):
    return float(re.search(rf"([\d.]+) {re.escape(unit)}", text).group(1))


# ---- parts on one core ----

def parse_ours(build):
    return first_number(output(pinned([build / "perf/bench_json", "--seconds", "0.5"], [0])), "events/s")


def parse_simdjson(build):
    return first_number(output(pinned([build / "perf/bench_simdjson", "--seconds", "0.5"], [0])), "events/s")


def dedup(mib, million=0, threads=1, mode="apart"):
    """Inserts per second of all threads together: bench_dedup says what the modes are."""
    def measured(build):
        cpus = sorted(os.sched_getaffinity(0))[:threads]
        if len(cpus) < threads:
            raise harness.Skip(f"needs {threads} CPUs")
        if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < (mib + 512) << 20:
            raise harness.Skip(f"needs {mib} MiB of free memory")
        return first_number(output(pinned([build / "perf/bench_dedup", mib, million, threads, mode], cpus)), "inserts/s")
    return measured


def shard(disk, unit):
    """Parsed events to durable; `shard-events/s` is by the time in the shard alone. Housekeeping, which makes log files, has the other CPUs."""
    def measured(build):
        with harness.folder() as folder:
            return first_number(output(pinned([build / "perf/bench_shard", folder / "data", "3", disk], [0, *FREE])), unit)
    return measured


def process_seconds(pid):
    """Processor time of a process, its own and the kernel's for it."""
    field = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(field[11]) + int(field[12])) / os.sysconf("SC_CLK_TCK")


def redis(build):
    """Events per second of the server's processor time, without persistence: so neither the client nor anybody else on the core counts."""
    with harness.folder() as folder:
        argv = ["redis-server", "--port", "0", "--unixsocket", folder / "socket", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(pinned(argv, [0]), stdout=subprocess.DEVNULL, preexec_fn=harness.dies_with_us())
        try:
            harness.wait_until("redis-server has its socket", (folder / "socket").exists)
            began = process_seconds(process.pid)
            text = output(pinned([build / "perf/bench_redis", folder / "socket", "1"], FREE))
            return float(re.search(r"events=(\d+)", text).group(1)) / (process_seconds(process.pid) - began)
        finally:
            process.terminate()
            process.wait()


FRAUD_RULES = ["none", "the default rules", "ip_velocity", "device_velocity", "too_soon", "no_impression", "bot_user_agent", "bot_address",
               "blocklisted", "no_mouse", "regular_timing", "device_spread", "device_mismatch", "geo_mismatch", "impossible_travel",
               "publisher alerts", "model, 100 trees", "all of them"]


def rule_cost(rule):
    """Nanoseconds of processor time an event. One run of bench_fraud, in itself a median of five, tells them all: row by row the same runs."""
    def measured(build):
        run = rule_cost.asked[rule] = rule_cost.asked.get(rule, -1) + 1
        while len(rule_cost.text) <= run:
            rule_cost.text.append(output(pinned([build / "perf/bench_fraud", "1"], [0])))
        return float(re.search(rf"^{re.escape(rule)} +(-?[\d.]+) ns/event", rule_cost.text[run], re.M).group(1))
    return measured


rule_cost.asked, rule_cost.text = {}, []


def memory(what):
    return lambda build: first_number(output([build / "perf/bench_memory"]), f"MiB per million {what}")


def fold(build):
    """Sessions, distinct users and sources of a full log file, in ns per event."""
    return float(re.search(r"together (\d+) ns/event", output(pinned([build / "perf/bench_fold"], [0]))).group(1))


def stack(mode):
    """Frames in memory through stack, HTTP, JSON and intake, and the answers back: bench_stack's mode 0, 1 or 2."""
    def measured(build):
        text = output(pinned([build / "perf/bench_stack", "--profile", mode, "--seconds", "1"], [0]))
        return float(re.search(r": ([\d.]+) (?:requests|connections)/s", text).group(1))
    return measured


def disk(_):
    """Raw: 256 KiB O_DIRECT|O_DSYNC writes over an existing file, one at a time, in MB/s."""
    with harness.folder() as folder:
        base = ["dd", "if=/dev/zero", f"of={folder}/raw", "bs=256k", "count=1024", "oflag=direct,dsync"]
        subprocess.run(base, check=True, capture_output=True)
        began = time.monotonic()
        subprocess.run([*base, "conv=notrunc"], check=True, capture_output=True)
        return 256 / (time.monotonic() - began)


def acknowledgement(rate):
    """p99 of append to durable in the log alone, in µs; beside it a 4 KiB write of the raw disk in the same run."""
    def ours(build):
        with harness.folder() as folder:
            acknowledgement.text = output(pinned([build / "perf/bench_log", folder / "data", rate, 2], [0]))
            return float(re.search(r"acknowledgement .*p99 +(\d+) us", acknowledgement.text).group(1))
    return ours


def raw_write(_):
    return float(re.search(r"raw disk, same size .*p99 +(\d+) us", acknowledgement.text).group(1))


def recovery_sealed(build):
    """Milliseconds of recovery for each million sealed events that it reads again: for the ids of the horizon and the machines' last two hours."""
    with harness.node(build, control=False) as node:
        blast(build, "batch://%s:%d" % node.udp[0])
        node.stop()  # which seals
        count = sum(item["rows"] for item in node.ctl("segments", "list", "--json")["items"])
        node.start(control=False)
        done = re.findall(r"msg=\S*recovered\S* .*took_ms=(\d+)", (node.folder / "data.log").read_text())[-1]
        return float(done) / (count / 1e6)


def recovery(build):
    """Milliseconds of recovery for each GB of log that an earlier run left, killed under load before it could seal."""
    with harness.node(build, control=False, extra="memory: {dedup: 1GiB}\ndurability: {log_file: 512MiB}\n") as node:
        blast(build, "batch://%s:%d" % node.udp[0])
        node.kill()
        node.start(control=False)
        done = re.findall(r"msg=\S*recovered\S* .*log_bytes=(\d+) took_ms=(\d+)", (node.folder / "data.log").read_text())[-1]
        return float(done[1]) / (float(done[0]) / 1e9)


def start_with_tail(gib):
    """
    Milliseconds from the start of the process to the first acknowledgement, with so much log that nobody sealed: written past the page
    cache, so that it comes from the disk.
    """
    def measured(build):
        with harness.folder() as folder:
            node = harness.Node(build, folder, extra="memory: {dedup: 1GiB}\ndurability: {log_file: 1GiB}\n")
            output([build / "perf/make_tail", folder / "data", "1", str(gib << 30), str(1 << 30)])
            began = time.monotonic()
            try:
                node.start(control=False)
                assert node.post(harness.event())[0] == 204
                return (time.monotonic() - began) * 1000
            finally:
                if node.data:
                    node.kill()
    return measured


ROLLUPS = {
    "month": r"month by hours +p50 +[\d.]+ us +p99 +([\d.]+) us",
    "bytes": r"minute .* ([\d.]+) bytes a row",
    "merge": r"merging ([\d.]+) M rows/s",
}


def rollups(figure):
    """Of one run of bench_rollup: a month of 60,000 events a day, in memory."""
    def measured(build):
        if figure == "month":
            with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
                rollups.text = output(pinned([build / "perf/bench_rollup", "60000", "30", f"{folder}/files"], [0]))
        value = float(re.search(ROLLUPS[figure], rollups.text).group(1))
        return value * 1e6 if figure == "merge" else value
    return measured


# ---- bills: a node with one day of two advertisers, a thousand campaigns each ----

CAMPAIGNS = 1000


@functools.cache
def billed_node(build):
    """Three ads of each campaign in every hour of yesterday, four events each: 576,000 events, sealed and merged. And the day's start."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    node = stack.enter_context(harness.node(build, extra="fraud: {clicks_per_ip_hour: 0, clicks_per_device_hour: 0}\n"))
    day = harness.now_ms() // 86400000 * 86400000 - 86400000
    for hour in range(24):
        lines = []
        for i in range(CAMPAIGNS * 3 * 4 * 2):
            lines.append(f'{{"event_id":"{hour}-{i}","event_type":"{("click", "impression")[i % 2]}","timestamp":{day + hour * 3600000 + i * 149},'
                         f'"ad_id":"ad_{i % (3 * CAMPAIGNS)}","campaign_id":"camp_{i % CAMPAIGNS}","advertiser_id":"adv_{i // CAMPAIGNS % 2}",'
                         f'"publisher_id":"pub_{i % 7}","device_id":"d{i}","bid_price":"0.125"}}')
        for at in range(0, len(lines), 1000):
            status, answer = node.post("\n".join(lines[at:at + 1000]))
            assert status in (200, 204), (status, answer)
    node.post(harness.event())
    node.ctl("segments", "seal", status={0, 1})  # 1: it is at it, and was too busy to say so in time
    harness.wait_until("the sums are merged", lambda: list((node.data_dir / "rollups").glob("*")), 60)
    return node, day


def bill(zone):
    """ms, p99 of 200 questions for the day's bill of 1,000 campaigns, through HTTP and with JSON read."""
    def measured(build):
        node, day = billed_node(build)
        took = []
        for _ in range(200):
            noon = day + 12 * 3600000
            began = time.monotonic()
            items = node.get(f"/api/v1/billing/reports?advertiser=adv_1&period=daily&tz={zone}&from={noon}&to={noon + 1}")["items"]
            took.append(time.monotonic() - began)
            assert len(items) == CAMPAIGNS
        return sorted(took)[197] * 1e3
    return measured


# ---- questions to a control process over a month ----

MONTH_EVENTS, MONTH_ROWS = os.environ.get("MONTH_EVENTS", "1000000000"), os.environ.get("MONTH_ROWS", "500")


@functools.cache
def month(build):
    folder = tempfile.TemporaryDirectory()
    output([build / "perf/make_month", f"{folder.name}/data", MONTH_EVENTS, "30", MONTH_ROWS])
    return folder


def questions(rate, *targets):
    """p99 in us of such questions, each timed from when it was due; the control process has a core to itself."""
    def measured(build):
        folder = pathlib.Path(month(build).name)
        (folder / "q.yaml").write_text(f"node: {{name: q, data_dir: {folder}/data}}\n"
                                       f"control: {{listen: '127.0.0.1:0', state_dir: {folder}/state, auth: none}}\n")
        control = subprocess.Popen(pinned([build / "control/turnpike-control", "-c", folder / "q.yaml"], [0]), stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, preexec_fn=harness.dies_with_us())
        try:
            listen = control.stdout.readline().strip().removeprefix("ready listen=")
            today = time.time() // 86400 * 86400
            moment = {name: time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(today - days * 86400))
                      for name, days in (("today", 0), ("yesterday", 1), ("month", 29))}
            asked = ["/api/v1/analytics/" + target.format(**moment) for target in targets]
            for seconds in (5, SECONDS):  # the first run warms up
                text = output(pinned([build / "perf/bench_query", listen, rate, seconds, *asked], FREE))
            return float(re.search(r"p99 (\d+) us", text).group(1))
        finally:
            control.terminate()
            control.wait()
    return measured


# ---- segments: one folder of them for all rows ----

EVENTS = os.environ.get("SEGMENT_EVENTS", "10000000")


@functools.cache
def segments(build):
    """The folder (removed at the end), and what making it printed."""
    folder = tempfile.TemporaryDirectory()
    return folder, output([build / "perf/bench_segment", "write", folder.name, EVENTS])


def bench_segment(build, *arguments):
    return output([build / "perf/bench_segment", arguments[0], segments(build)[0].name, *arguments[1:]])


@functools.cache
def clickhouse(build):
    if not shutil.which("clickhouse-server"):
        raise harness.Skip("no ClickHouse: devtools/setup perf")
    return output([ROOT / "perf/clickhouse_segments", build / "perf/bench_segment", EVENTS])


def sealed_bytes(build):
    return first_number(segments(build)[1], "bytes/event sealed")


def sealing(build):
    return first_number(segments(build)[1], "events/s sealed")


def verify(build):
    return first_number(bench_segment(build, "verify"), "MB/s bytes")


def scan(build):
    return first_number(bench_segment(build, "scan", "2"), "rows/s")


def beside_sealing(cpu, unit, nice):
    """How much less, in percent, the shard path does while log files are sealed on `cpu` without a pause; by turns, medians of three."""
    def measured(build):
        def once():
            with harness.folder() as folder:
                return first_number(output(pinned([build / "perf/bench_shard", folder / "data", "2", "null"], [0])), unit)
        alone, beside = [], []
        if cpu not in os.sched_getaffinity(0):
            raise harness.Skip("needs 2 CPUs")
        for _ in range(3):
            alone.append(once())
            with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
                seal = subprocess.Popen(["nice", "-n", str(nice), *pinned([build / "perf/bench_segment", "write", folder, "100000000"], [cpu])],
                                        stdout=subprocess.DEVNULL, preexec_fn=harness.dies_with_us())
                try:
                    time.sleep(0.5)
                    beside.append(once())
                finally:
                    seal.kill()
                    seal.wait()
        return 100 * (1 - statistics.median(beside) / statistics.median(alone))
    return measured


def lookup(build):
    return first_number(bench_segment(build, "lookup"), "ns absent")


def clickhouse_bytes(build):
    return first_number(clickhouse(build), "bytes/event sealed")


def clickhouse_scan(build):
    return first_number(clickhouse(build), "rows/s")


# ---- the whole path: wire to durable and acknowledged ----

def blast(build, target, *arguments, netns=None, cpus=None):
    """Acknowledged events per second. A seed of its own each time, or all would be copies."""
    blast.seed += 1
    argv = pinned([build / "perf/turnpike-blast", "--to", target, "--duration", str(SECONDS), "--seed", str(blast.seed), "--quiet", "--json",
                   *arguments], cpus or FREE)
    text = output(["ip", "netns", "exec", netns, *argv] if netns else argv)
    summary = json.loads(text.strip().splitlines()[-1])
    return (summary["acknowledged"] or 0) / summary["seconds"]  # None: nobody acknowledges UDP text


blast.seed = int(time.time()) % 100000 * 1000


def socket_node(build):
    return harness.node(build, control=False, extra="memory: {dedup: 1GiB}\n")


def recount(build):
    """Events per second of one core's own time, counted again from sealed segments by turnpikectl reconcile."""
    with harness.node(build, control=False, extra="memory: {dedup: 1GiB}\ntime: {lateness: 1s}\n") as node:
        blast(build, "batch://%s:%d" % node.udp[0])
        time.sleep(62 - time.time() % 60)  # the minute has to be final
        node.post(harness.event())
        node.ctl("segments", "seal")
        found = node.ctl("reconcile", "--json")
        assert found["equal"] and not found["unsealed_logs"], found
        return found["events"] / found["core_seconds"]


def batch(build):
    with socket_node(build) as node:
        return blast(build, "batch://%s:%d" % node.udp[0], "--duplicates", "0.01")


def http_batches(build):
    with socket_node(build) as node:
        return blast(build, "http://%s:%d" % node.http[0], "--batch", "100", "--connections", "32", "--duplicates", "0.01")


# A server has one CPU, all its threads on it, and its client the other: in that a node, whose rx and shard run in turn there, and nginx are alike. Closed
# loops of few connections wait for the node's disk, those of many cost both servers more: each is taken at the best of these. The client must not be the limit, or
# the ratio is that of its patience: turnpike-blast takes two thirds of the processor time that wrk with a script takes for a request, and asks both servers the same.
SERVER_CPU, CLIENT_CPU = sorted(os.sched_getaffinity(0))[0], FREE[-1]
CONNECTIONS = (64, 512, 1024)


def singles(build, target, netns=None):
    """Requests per second of single-event POSTs of about 490 bytes over keep-alive connections."""
    return max(blast(build, target, "--connections", str(connections), netns=netns, cpus=[CLIENT_CPU]) for connections in CONNECTIONS)


def wrk_close(target, folder, netns):
    """Requests per second of single-event POSTs of about 490 bytes, a connection for each."""
    script = folder / "post.lua"
    script.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.headers["Connection"] = "close"\n'
        'local n = 0\nlocal tag = tostring({}):gsub("%W", "")..os.time()\n'
        'function request()\n n = n + 1\n return wrk.format(nil, nil, nil, '
        f'\'{{"event_id":"\'..tag..\'-\'..n..\'","event_type":"impression","timestamp":{harness.now_ms()},"ad_id":"ad_1","campaign_id":"camp_1",'
        '"advertiser_id":"adv_1","publisher_id":"pub_1","device_id":"device-\'..(n % 100000)..\'","ip_address":"203.0.113.7","user_agent":'
        '"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0 Safari/537.36",'
        '"geo":{"country":"US","region":"CA","city":"San Francisco"},"referer":"https://publisher.example/page","bid_price":0.50}\')\nend\n')
    best = 0
    for connections in CONNECTIONS[:2]:
        argv = pinned(["wrk", "-t1", f"-c{connections}", f"-d{SECONDS:.0f}s", "-s", script, target], [CLIENT_CPU])
        text = output(["ip", "netns", "exec", netns, *argv])
        assert "Non-2xx" not in text, text
        best = max(best, float(re.search(r"Requests/sec:\s*([\d.]+)", text).group(1)))
    return best


def one_core_node(build, ingest=None, extra="memory: {dedup: 1GiB}\n"):
    return harness.node(build, control=False, ingest=ingest, rx=(SERVER_CPU,), shard=(SERVER_CPU,), background=(SERVER_CPU,), extra=extra)


def http_single(build):
    with one_core_node(build) as node:
        return singles(build, "http://%s:%d" % node.http[0])


def over_veth(send):
    """What send(node, namespace, build) makes of a node on AF_XDP, its client in a namespace on the other side."""
    def measured(build):
        with harness.network() as (namespace, ours), one_core_node(build, harness.DPDK_INGEST.format(ours)) as node:
            return send(node, namespace, build)
    return measured


veth_http = over_veth(lambda node, namespace, build: singles(build, "http://10.77.0.1:80", namespace))
veth_http_close = over_veth(lambda node, namespace, build: wrk_close("http://10.77.0.1/api/v1/clicks", node.folder, namespace))


def veth_blast(target, *arguments):
    """Events acknowledged per second. Of UDP text, which nobody acknowledges, those that the node counted."""
    def send(node, namespace, build):
        found = blast(build, target, "--duplicates", "0.01", *arguments, netns=namespace, cpus=[CLIENT_CPU])
        if target.startswith("udp:"):
            found = sum(node.audit()["events"][verdict] for verdict in ("accepted", "duplicates")) / SECONDS
        return found
    return over_veth(send)


def memif(connections, events, apart=False):
    """Requests per second over shared memory from another process, which has the other CPU; or rx and shard have one each, and it shares them."""
    def measured(build):
        with harness.folder() as folder:
            device = f"net_memif0,role=server,id=0,socket={folder}/memif,socket-abstract=no,rsize=13,mac=02:00:00:00:00:01"
            ingest = f"  - {{driver: dpdk, device: '{device}', address: [10.77.0.1/8], http_port: 80, udp_port: 7771}}\n"
            extra = "memory: {dedup: 1GiB, connections: 16384}\n"
            with harness.node(build, control=False, ingest=ingest, extra=extra) if apart else one_core_node(build, ingest, extra):
                return first_number(output(pinned([build / "perf/bench_memif", folder / "memif", "http", "--events", int(events), "--clients",
                                                   connections], FREE if apart else [CLIENT_CPU])), "requests/s")
    return measured


@contextlib.contextmanager
def nginx(folder, listen):
    """One worker that answers 204 and writes an access log, on a CPU of its own."""
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; worker_cpu_affinity {1 << SERVER_CPU:b}; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events { worker_connections 4096; }\nhttp { client_body_temp_path " + str(folder) + "/body; keepalive_requests 100000000; access_log "
        + str(folder) + "/access.log;\n server { listen " + listen + "; location / { client_body_buffer_size 16k; return 204; } } }\n")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL, preexec_fn=harness.dies_with_us())
    try:
        time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait()


def nginx_loopback(build):
    with harness.folder() as folder, nginx(folder, "127.0.0.1:18479"):
        return singles(build, "http://127.0.0.1:18479")


@contextlib.contextmanager
def nginx_on_veth():
    with harness.network() as (namespace, ours), harness.folder() as folder:
        subprocess.run(["ip", "addr", "add", "10.77.0.1/24", "dev", ours], check=True)
        with nginx(folder, "10.77.0.1:80"):
            yield namespace, folder


def nginx_veth(build):
    with nginx_on_veth() as (namespace, _):
        return singles(build, "http://10.77.0.1:80", namespace)


def nginx_veth_close(_):
    with nginx_on_veth() as (namespace, folder):
        return wrk_close("http://10.77.0.1/api/v1/clicks", folder, namespace)


def nginx_connections(_):
    """New connections a second with one request each, of nginx on the kernel: ab without keep-alive."""
    with harness.folder() as folder, nginx(folder, "127.0.0.1:18479"):
        body = folder / "event.json"
        body.write_text(json.dumps(harness.event(user_agent="Mozilla/5.0 (Windows NT 10.0; Win64; x64)", referer="https://publisher.example/")))
        text = output(pinned(["ab", "-q", "-n", "20000", "-c", "64", "-p", body, "-T", "application/json",
                              "http://127.0.0.1:18479/api/v1/clicks"], FREE))
        return float(re.search(r"Requests per second:\s*([\d.]+)", text).group(1))


# name, unit, ours, peer's name, peer, aim, what the aim is compared with: "median" or "ratio"
ROWS = [
    ("JSON event parse, one core", "events/s", parse_ours, "simdjson 3.0 DOM", parse_simdjson, 1.5, "ratio"),
    ("id table insert, 1 GiB, one core", "inserts/s", dedup(1024), None, None, 20e6, "median"),
    ("id table insert, 1 GiB, one core, previous generation full", "inserts/s", dedup(1024, mode="life"), None, None, None, None),
    ("id table insert, 1 GiB, one core, 1 million ids", "inserts/s", dedup(1024, 1), None, None, None, None),
    ("id table insert, 7 GiB, one core, 1 million ids", "inserts/s", dedup(7168, 1), None, None, None, None),
    ("id table insert, 7 GiB, one core, 50 million ids", "inserts/s", dedup(7168, 50), None, None, None, None),
    ("id table insert, 1 GiB, two cores", "inserts/s", dedup(1024, threads=2), "one core", dedup(1024), None, None),
    ("id table insert, 1 GiB, two cores, the same ids at once", "inserts/s", dedup(1024, threads=2, mode="same"), "one core", dedup(1024),
     None, None),
    ("shard path, parsed event to a null disk, rx role included", "events/s", shard("null", "events/s"), None, None, None, None),
    ("shard path, parsed event to a null disk, the shard alone", "events/s", shard("null", "shard-events/s"), "Redis 7, SET NX EX + HINCRBY",
     redis, 5e6, "median"),
    ("shard path, parsed event to durable, rx role included", "events/s", shard("disk", "events/s"), None, None, 4e6, "median"),
    *[(f"fraud rule: {rule}", "ns/event", rule_cost(rule), None, None, None, None) for rule in FRAUD_RULES],
    *[(f"memory of a million {what}", "MiB", memory(what), None, None, None, None) for what in ("ids", "open keys", "devices", "addresses")],
    ("sealing: sessions and sketches of a log file, one core", "ns/event", fold, None, None, None, None),
    ("HTTP beacons through stack and parsers, in memory, one core", "requests/s", stack(0), "nginx 204 with access log, loopback",
     nginx_loopback, 1.5e6, "median"),
    ("TCP connections opened and closed, in memory, one core", "connections/s", stack(1), None, None, 5e5, "median"),
    ("TCP connections with a beacon each, in memory, one core", "connections/s", stack(2), "nginx 204, a connection each, loopback",
     nginx_connections, 5e5, "median"),
    ("log: p99 of an acknowledgement at 1,000 events/s", "us", acknowledgement(1000), "raw disk, p99 of such a write", raw_write, 5000, "most"),
    ("log: p99 of an acknowledgement at 100,000 events/s", "us", acknowledgement(100000), "raw disk, p99 of such a write", raw_write, 5000, "most"),
    ("log: p99 of an acknowledgement at 1,000,000 events/s", "us", acknowledgement(1000000), "raw disk, p99 of such a write", raw_write, 5000, "most"),
    ("recovery, of each GB of log", "ms/GB", recovery, None, None, 1500, "most"),
    ("start to first acknowledgement, 1 GiB of log", "ms", start_with_tail(1), None, None, 1000 + 1500 * 1.074, "most"),
    ("start to first acknowledgement, 2 GiB of log", "ms", start_with_tail(2), None, None, 1000 + 3000 * 1.074, "most"),
    ("start to first acknowledgement, 4 GiB of log", "ms", start_with_tail(4), None, None, 1000 + 6000 * 1.074, "most"),
    ("recovery, of each million sealed events of the last two hours", "ms/million", recovery_sealed, None, None, None, None),
    ("shard path beside sealing on another CPU, slower by", "%", beside_sealing(1, "shard-events/s", 10), None, None, 5, "most"),
    ("shard path beside sealing on the same CPU, slower by", "%", beside_sealing(0, "events/s of both roles", 19), None, None, 5, "most"),
    ("one campaign's month by hours, p99 inside the reader", "us", rollups("month"), None, None, 1000, "most"),
    ("rollup file of minutes, sparse rows", "bytes/row", rollups("bytes"), None, None, None, None),
    ("merging rollup files, one core", "rows/s", rollups("merge"), None, None, None, None),
    ("daily bill of 1,000 campaigns, days of UTC, p99 through HTTP", "ms", bill("UTC"), None, None, 100, "most"),
    ("daily bill of 1,000 campaigns, days of Berlin, p99 through HTTP", "ms", bill("Europe/Berlin"), None, None, 100, "most"),
    ("daily bill of 1,000 campaigns, days of Kolkata, p99 through HTTP", "ms", bill("Asia/Kolkata"), None, None, 100, "most"),
    ("campaign total and minute series of a day, 1,000 questions/s, p99", "us",
     questions(1000, "campaigns/%c?from={yesterday}&to={today}&step=1h", "campaigns/%c?from={yesterday}&to={today}&step=1m"),
     "ClickHouse 18.16, the same, one after the other", asking.clickhouse("day", MONTH_EVENTS, MONTH_ROWS), 5000, "most"),
    ("an advertiser's month by three dimensions, p99", "us",
     questions(5, "advertisers/%a?from={month}&to={today}&step=1d&group_by=campaign,country,device&limit=100"),
     "ClickHouse 18.16, the same, one after the other", asking.clickhouse("three", MONTH_EVENTS, MONTH_ROWS), 50000, "most"),
    *asking.rows(),
    ("segment: bytes of a sealed event", "bytes/event", sealed_bytes, "ClickHouse 18.16, the same columns", clickhouse_bytes, 30, "most"),
    ("segment: sealing, one core's own time", "events/s", sealing, None, None, None, None),
    ("segment: checking every byte, one core's own time", "MB/s", verify, None, None, 2000, "median"),
    ("segment: sum of spend by campaign, 2 threads", "rows/s", scan, "ClickHouse 18.16, 2 threads", clickhouse_scan, 3, "ratio"),
    ("segment: saying that an id is not there", "ns", lookup, None, None, None, None),
    ("reconciliation: counting again from raw segments, one core's own time", "events/s", recount, None, None, None, None),
    ("raw disk, 256 KiB O_DIRECT+O_DSYNC, depth 1", "MB/s", disk, None, None, None, None),
    *whole_path.rows(redis),
    ("UDP batch to durable and acknowledged, sockets", "events/s", batch, None, None, 4e6, "median"),
    ("HTTP batches of 100, sockets", "events/s", http_batches, None, None, 2e6, "median"),
    ("HTTP single events, sockets, one CPU", "requests/s", http_single, "nginx 204 with access log, loopback", nginx_loopback, 1, "ratio"),
    ("HTTP single events, AF_XDP on veth, one CPU", "requests/s", veth_http, "nginx 204 with access log, veth", nginx_veth, 1, "ratio"),
    ("HTTP, a connection a request, AF_XDP on veth, one CPU", "requests/s", veth_http_close, "nginx 204 with access log, veth",
     nginx_veth_close, None, None),
    ("HTTP batches of 100, AF_XDP on veth, one CPU", "events/s", veth_blast("http://10.77.0.1:80", "--batch", "100", "--connections", "32"), None,
     None, None, None),
    ("UDP text, AF_XDP on veth, one CPU", "events/s", veth_blast("udp://10.77.0.1:7771"), None, None, None, None),
    ("UDP batch, AF_XDP on veth, one CPU", "events/s", veth_blast("batch://10.77.0.1:7771"), None, None, None, None),
    ("HTTP single events, net_memif from another process, one CPU, 64 connections", "requests/s", memif(64, 2e5), None, None, None, None),
    ("HTTP single events, net_memif from another process, one CPU, 2,048 connections", "requests/s", memif(2048, 1e6), None, None, 8e5, "median"),
    ("HTTP single events, net_memif, a CPU each for rx and shard, 2,048 connections", "requests/s", memif(2048, 1e6, apart=True), None, None, 8e5,
     "median"),
    *ysb.rows(),
]


def figure(value):
    return round(value, 2 if value < 100 else None)


def measure(build, row):
    name, unit, ours, peer_name, peer, aim, of = row
    mine, theirs = [], []
    for _ in range(RUNS):
        mine.append(ours(build))
        if peer:
            theirs.append(peer(build))
    median = statistics.median(mine)
    ratio = statistics.median(a / b for a, b in zip(mine, theirs)) if theirs else None
    value = {"median": median, "ratio": ratio, "most": median, None: None}[of]
    return {"name": name, "unit": unit, "median": figure(median), "spread": round((max(mine) - min(mine)) / median, 3) if median else 0, "aim": aim,
            "met": None if aim is None else value <= aim if of == "most" else value >= aim, "peer": peer_name and f"{peer_name}: {figure(statistics.median(theirs)):,}",
            "ratio": None if ratio is None else round(ratio, 2)}


def arguments():
    parser = argparse.ArgumentParser(description="Measures rows, prints a table, writes perf/result.json. What each shows: docs/performance.md.")
    parser.add_argument("build", type=pathlib.Path, help="build folder, build/main")
    parser.add_argument("name", nargs="*", help="only rows whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and measure nothing")
    parser.add_argument("--baseline", metavar="FILE", help="an earlier result.json: a row that is slower than the noise allows is an error (status 1)")
    parser.add_argument("--result", metavar="FILE", default=ROOT / "perf/result.json", help="where the result goes (default perf/result.json)")
    parser.epilog = "Environment: RUNS (5) for each row, SECONDS_EACH (4) of the rows over sockets, SEGMENT_EVENTS (10000000)."
    return parser.parse_intermixed_args()  # `run.py BUILD --list NAME` as well


PEER_PROGRAM = {nginx_loopback: "nginx", nginx_veth: "nginx", nginx_veth_close: "nginx", nginx_connections: "nginx", redis: "redis-server", whole_path.clickhouse: "clickhouse-server",
                **asking.PEERS}


def without_missing_peer(row):
    """The row alone where its peer is not installed; an aim that is a ratio is then not judged."""
    program = PEER_PROGRAM.get(row[4])
    if program is None or shutil.which(program):
        return row
    return (*row[:3], None, None, *(row[5:] if row[6] != "ratio" else (None, None)))


def ended(number, _):
    """As from a timeout: folders, namespaces and nodes are cleared away. After SIGKILL at least no process is left (harness.dies_with_us)."""
    sys.exit(128 + number)


def main():
    signal.signal(signal.SIGTERM, ended)
    options = arguments()
    wanted, earlier = options.name, None
    chosen = [row for row in ROWS if not wanted or any(word.lower() in row[0].lower() for word in wanted)]
    if options.list:
        print("\n".join(row[0] for row in chosen))
        return 0
    try:
        earlier = options.baseline and baseline.load(options.baseline)  # now, and not after an hour of measuring
    except (OSError, ValueError) as error:
        print(f"run.py: --baseline: {error}", file=sys.stderr)
        return 2
    if not chosen:
        print(f"run.py: no row is called {' or '.join(wanted)}; --list shows them", file=sys.stderr)
        return 2
    rows, failed = [], 0
    print(f"{'':64} {'median':>12} {'spread':>7} {'ratio':>6}  peer")
    for row in chosen:
        try:
            result = measure(options.build.resolve(), without_missing_peer(row))
        except harness.Skip as reason:
            print(f"{row[0]:64} skipped: {reason}")
            continue
        except (RuntimeError, subprocess.CalledProcessError) as error:
            failed += 1
            print(f"{row[0]:64} FAILED: {error}", flush=True)
            continue
        rows.append(result)
        print(f"{result['name']:64} {result['median']:>12,} {result['spread']:>7.0%} {result['ratio'] or '':>6}  {result['peer'] or ''}", flush=True)
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    result = {"machine": f"{os.cpu_count()} x {model.group(1) if model else os.uname().machine}, Linux {os.uname().release}",
              "commit": output(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]).strip(), "rows": rows}
    pathlib.Path(options.result).write_text(json.dumps(result, indent=1) + "\n")
    print(f"{options.result} written")
    slower = 0
    if earlier:
        lines, slower = baseline.compare(earlier, result)
        print("\n".join([f"against {options.baseline}, commit {earlier['commit']}:", *lines, f"{slower} rows slower than the noise allows"]))
    return 1 if slower or failed else 0


sys.exit(main())
