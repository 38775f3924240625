"""What the node shows of itself: the metrics page and what Prometheus makes of it, the watchdog, log lines, what is installed."""
import contextlib
import ctypes
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

from harness import PATIENCE, ROOT, SMALL, Node, Skip, event, findings, folder, node, run, udp_send, wait_until

RULES = ROOT / "packaging/prometheus/turnpike.rules.yml"
DASHBOARD = ROOT / "packaging/grafana/turnpike.json"


def scrape(made):
    status, headers, content = made.request("GET", "/metrics", at=made.api)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4"), (status, headers)
    return content.decode()


def samples(page):
    """{name: [labels]} of a page."""
    found = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", page, re.M):
        found.setdefault(name, []).append(dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)))
    return found


def value(page, sample):
    return float(re.search(rf"^{re.escape(sample)} (\S+)$", page, re.M).group(1))


def table():
    """The rows of the counter table, from the header itself."""
    text = (ROOT / "common/include/turnpike/counter.h").read_text().replace("\\\n", " ")
    return re.findall(r'X\(([A-Z_0-9]+),\s*([A-Z_]+),\s*([A-Z_]+),\s*"([^"]*)",\s*"', text)


def busy(made):
    """A bit of everything that has a counter."""
    made.post([event() for _ in range(50)])
    made.post("[1]", report=True)
    udp_send(made.udp[0], b'{"event_id": "broken')
    made.totals("campaigns", "camp_1")
    made.request("GET", "/nothing/here/at/all", at=made.api)


def test_metrics_are_complete(build):
    with node(build, extra=SMALL) as made:
        busy(made)
        # the time-stamp counter's rate is measured between two pages, and counters are copies, some milliseconds old
        def counted():
            text = scrape(made)
            return text if "\nturnpike_tsc_frequency_hertz " in text and all(
                value(text, f"turnpike_{one}_latency_seconds_count") > 0 for one in ("ack", "commit")) else None
        page = wait_until("all has been counted", counted)
        done = run("promtool", "check", "metrics", input=page, check=False)
        assert done.returncode == 0 and not done.stderr, f"promtool: {done.stdout} {done.stderr}"
        shown = samples(page)
        rows = table()
        assert len(rows) > 100, "the counter table was not found"
        kinds = {"IN_FLIGHT": "in_flight"}
        with findings() as same:
            for name, layer, kind, label in rows:
                if kind == "OTHER":
                    found = any(labels.get("core") == "0" for labels in shown.get(f"turnpike_{label}", []))
                elif kind == "IN_FLIGHT":
                    found = f"turnpike_{layer.lower()}_{kinds[kind]}" in shown
                else:
                    wanted = {"state": kind.lower(), **({"reason": label} if label else {})}
                    found = wanted in shown.get(f"turnpike_{layer.lower()}_total", [])
                same(f"{name} is on the page", found, True)
            for histogram in ("ack_latency_seconds", "commit_latency_seconds"):
                same(f"{histogram} counted", value(page, f"turnpike_{histogram}_count") > 0, True)
            endpoints = {labels["endpoint"] for labels in shown["turnpike_query_latency_seconds_count"]}
            same("queries by endpoint", {"/api/v1/analytics/*/*", "/metrics", "none"} <= endpoints, True)
            same("events on the shard core", sum("shard" in labels["role"] or labels["role"] == "both"
                                                 for labels in shown["turnpike_core_events_total"]) > 0, True)
            same("cycles are known", value(page, "turnpike_tsc_frequency_hertz") > 1e8, True)
            same("both processes", sorted(labels["process"] for labels in shown["turnpike_process_resident_memory_bytes"]), ["control", "data"])
            page_text = (ROOT / "docs/metrics.md").read_text()
            layers = {f"turnpike_{layer.lower()}_total" for _, layer, *_ in rows}
            others = {f"turnpike_{label}" for _, _, kind, label in rows if kind == "OTHER"}
            for name in shown:
                base = re.sub(r"_(bucket|sum|count)$", "", name)
                same(f"{base} stands in docs/metrics.md", base in page_text or base in layers | others, True)


def expressions():
    """Each query of the dashboard and of the rules: (where, expression)."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [(f"panel {panel['title']}", target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    found += [(f"annotation {one['name']}", one["expr"]) for one in dashboard["annotations"]["list"]]
    text, name = RULES.read_text().splitlines(), None
    for number, line in enumerate(text):
        if match := re.match(r"\s+- (?:alert|record): (\S+)", line):
            name = match.group(1)
        if match := re.match(r"(\s+)expr: (.*)", line):
            body = match.group(2)
            if body == ">":
                body = " ".join(row.strip() for row in text[number + 1:number + 1 + next(
                    i for i, row in enumerate(text[number + 1:]) if len(row) - len(row.lstrip()) <= len(match.group(1)))])
            found.append((f"rule {name}", body))
    return found


@contextlib.contextmanager
def prometheus(made, path):
    """Debian's, with our rules, scraping the node five times a second. Yields a function that asks it."""
    (path / "turnpike.rules.yml").write_text(RULES.read_text())
    (path / "prometheus.yml").write_text(
        "global: {scrape_interval: 200ms, evaluation_interval: 1s}\nrule_files: [turnpike.rules.yml]\nscrape_configs:\n"
        f"  - {{job_name: turnpike, static_configs: [{{targets: ['{made.api[0]}:{made.api[1]}']}}]}}\n")
    log, server, port = path / "prometheus.log", None, 0

    def start():
        """It cannot pick a free port by itself: who else binds the one that was free a moment ago is in its way."""
        nonlocal server, port
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with open(log, "wb") as said:
            server = subprocess.Popen(["prometheus", f"--config.file={path}/prometheus.yml", f"--storage.tsdb.path={path}/tsdb",
                                       f"--web.listen-address=127.0.0.1:{port}"], stdout=said, stderr=said, start_new_session=True)

    def ask(path_and_query):
        status, _, content = made.request("GET", path_and_query, at=("127.0.0.1", port))
        return status, json.loads(content) if content.startswith(b"{") else {}

    def serves():
        if server.poll() is not None:
            assert "address already in use" in log.read_text(), log.read_text()[-2000:]
            start()
        with contextlib.suppress(OSError):
            return ask("/api/v1/query?query=1")[0] == 200

    start()
    try:
        wait_until("prometheus serves", serves)
        yield ask
    finally:
        server.kill()
        server.wait()


def test_prometheus_scrapes_and_every_query_has_an_answer(build):
    if not shutil.which("prometheus"):
        raise AssertionError("prometheus is not installed: devtools/setup test")
    done = run("promtool", "check", "rules", str(RULES), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with folder() as path, node(build, extra=SMALL) as made, prometheus(made, path) as ask:
        busy(made)

        def scraped():
            _, answer = ask("/api/v1/query?query=" + urllib.parse.quote('count_over_time(turnpike_tsc_frequency_hertz[1m]) > 3'))
            return answer["data"]["result"]

        wait_until("prometheus scrapes", scraped)
        busy(made)  # again, so that there are rates
        wait_until("the rates are seen", lambda: ask("/api/v1/query?query=" + urllib.parse.quote(
            'sum(rate(turnpike_query_latency_seconds_count{endpoint=~"/api/.*"}[1m])) > 0'))[1]["data"]["result"])
        time.sleep(0.5)
        shown = samples(scrape(made))
        recorded = set(re.findall(r"record: (\S+)", RULES.read_text()))
        with findings() as same:
            checked = expressions()
            end = time.monotonic() + PATIENCE
            same("expressions were found", len(checked) > 60, True)
            for where, expression in checked:
                # what is asked for exists, with labels that exist
                for name, matchers in re.findall(r"\b(turnpike_\w+)(?:\{([^}]*)\})?", expression):
                    same(f"{where}: {name} is on the page", name in shown, True)
                    for label, operator, wanted in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', matchers):
                        if label == "instance" or name not in shown:
                            continue
                        values = {labels.get(label, "") for labels in shown[name]}
                        fits = wanted in values if operator in ("=", "!=") else any(re.fullmatch(wanted, one) for one in values)
                        same(f"{where}: {name} has {label}{operator}{wanted}", fits, True)
                # and Prometheus answers; without the comparison that makes an alert of it, there is something in the answer
                plain = re.sub(r"\s*(==|!=|>|<) [\d.]+(?=\s*$|\s+and )", "", expression)
                plain = plain.replace("$__rate_interval", "1m").replace("$instance", ".*")
                plain = re.sub(r"\[(5m|15m|1h|6h)\]", "[1m]", plain)
                while True:  # a rate needs two scrapes, a recorded name an evaluation
                    status, answer = ask("/api/v1/query?query=" + urllib.parse.quote(plain))
                    found = bool(answer.get("data", {}).get("result"))
                    if found or status != 200 or time.monotonic() > end:
                        break
                    time.sleep(0.1)
                same(f"{where}: {plain}: status", status, 200)
                same(f"{where}: {plain}: answers", found, True)
        # the rules run as they stand: recorded names exist, and a healthy node raises no alarm
        _, rules = ask("/api/v1/rules")
        every = [rule for group in rules["data"]["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in every if rule["type"] == "recording"} == recorded
        broken = [(rule["name"], rule.get("lastError")) for rule in every if rule["health"] == "err"]
        assert not broken, broken
        firing = [rule["name"] for rule in every if rule["type"] == "alerting" and rule["state"] == "firing"]
        assert set(firing) <= {"TurnpikeDiskLow"}, firing


class Notify:
    """The service manager's socket; read all the time, as it holds few datagrams."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.path, self.states = path, []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while state := self.socket.recv(4096).decode():
            self.states.append(state)

    def said(self, state, seconds):
        """How often a state is told within the time from now."""
        before = self.states.count(state)
        time.sleep(seconds)
        return self.states.count(state) - before


@contextlib.contextmanager
def stopped_thread(tid):
    """One thread of a process stands still, the others go on: ptrace(2), PTRACE_SEIZE and PTRACE_INTERRUPT."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    seize, interrupt, detach, wall = 0x4206, 0x4207, 17, 0x40000000
    if libc.ptrace(seize, tid, None, None):
        raise Skip(f"may not trace: {os.strerror(ctypes.get_errno())}")
    try:
        assert libc.ptrace(interrupt, tid, None, None) == 0, os.strerror(ctypes.get_errno())
        os.waitpid(tid, wall)
        yield
    finally:
        libc.ptrace(detach, tid, None, None)


def test_the_watchdog_is_told_only_while_cores_go_round(build):
    with folder() as path:
        manager = Notify(path / "notify")
        os.environ.update(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="300000")
        try:
            with node(build, extra=SMALL, control=False) as made:
                wait_until("READY=1", lambda: "READY=1" in manager.states)
                wait_until("it tells again and again", lambda: manager.states.count("WATCHDOG=1") > 3)
                tasks = pathlib.Path(f"/proc/{made.data.popen.pid}/task")
                shard = next(int(task.name) for task in tasks.iterdir() if "shard" in (task / "comm").read_text())
                with stopped_thread(shard):  # one more is due for what went on before, and one may be on its way; else it were ten
                    assert manager.said("WATCHDOG=1", 1.5) <= 2, "a hung shard core is taken for a live one"
                wait_until("it goes on", lambda: manager.said("WATCHDOG=1", 0.3))
                made.start_control()
                wait_until("READY=1 of both", lambda: manager.states.count("READY=1") == 2)
                made.data.kill(signal.SIGSTOP)  # what is told from now on is the control process'
                time.sleep(0.3)
                wait_until("the control process tells", lambda: manager.said("WATCHDOG=1", 0.5))
                made.data.kill(signal.SIGCONT)
            wait_until("STOPPING=1 of both", lambda: manager.states.count("STOPPING=1") == 2)
        finally:
            del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]


PAIR = r'[A-Za-z_][A-Za-z0-9_.]*=(?:"(?:[^"\\]|\\.)*"|[^\s"=\\][^\s"\\]*)'
LINE = re.compile(rf'level=(?:debug|info|warn|error) msg="(?:[^"\\]|\\.)*" program=[a-z-]+(?: {PAIR})*')


def check_lines(path):
    lines = path.read_bytes().decode("utf-8", "surrogateescape").splitlines()
    bad = [line for line in lines if not LINE.fullmatch(line)]
    assert lines and not bad, f"{path.name}: {len(bad)} of {len(lines)} lines are no pairs, such as {bad[:3]!r}"
    return lines


def test_log_lines_are_pairs_whatever_comes_in(build):
    hostile = ['" level=error msg="forged', "a\nlevel=error msg=b", "\\", '\\"', "=", "x=y z", "%s%n", "\u2028", "\x7f\x1b[31m", "'" * 64]
    extra = SMALL + "fraud: {ctr_deviations: 3, clicks_per_ip_hour: 3, blocklist_over: 2, blocklist_count_only: true}\n"
    with folder() as path:
        made = Node(build, path, extra=extra)
        made.data_dir = path / 'da"ta level=error msg="forged\\'
        made.write_config()
        try:
            made.start()
            for text in hostile:
                made.post([event(event_id=f"{text[:40]}-{n}", ad_id=text, campaign_id=text, advertiser_id=text, publisher_id=text,
                                 user_agent=text, ip_address="198.51.100.7") for n in range(9)], report=True)
                quoted = urllib.parse.quote(text, safe="")
                made.request("POST", "/api/v1/clicks?" + quoted, b'{"', {"User-Agent": repr(text)})
                made.request("GET", "/api/v1/analytics/campaigns/" + quoted, at=made.api)
                made.request("GET", f"/{quoted}?{quoted}", at=made.api)
            made.data.kill(signal.SIGHUP)  # what it says about a reload
            made.ctl("segments", "seal")
            made.stop()
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()
                    process.popen.wait()
        lines = check_lines(path / "data.log") + check_lines(path / "control.log")
        assert any("forged" in line for line in lines), "nothing hostile reached the log: the test shows nothing"


def test_installation_is_whole(build):
    build = pathlib.Path(build).resolve()
    with folder() as path:
        run("meson", "install", "-C", str(build), "--no-rebuild", "--quiet", "--destdir", str(path))
        wanted = {"sbin/turnpiked", "sbin/turnpike-control", "bin/turnpike-fraud-train", "bin/turnpikectl", "bin/turnpike-blast", "lib/systemd/system/turnpiked.service",
                  "lib/systemd/system/turnpike-control.service", "lib/sysusers.d/turnpike.conf", "share/man/man8/turnpiked.8",
                  "share/man/man8/turnpike-control.8", "share/man/man1/turnpikectl.1", "share/man/man1/turnpike-blast.1",
                  "share/man/man5/turnpike.yaml.5", "share/bash-completion/completions/turnpikectl", "share/turnpike/grafana/turnpike.json",
                  "share/turnpike/prometheus/turnpike.rules.yml", "share/turnpike/prometheus/prometheus.yml",
                  "share/turnpike/turnpike.yaml.example"}
        prefix = path / "usr/local"
        found = {str(one.relative_to(prefix)) for one in prefix.rglob("*") if one.is_file()}
        assert found == wanted, f"missing {wanted - found}, not expected {found - wanted}"
        with findings() as same:
            for program in ("sbin/turnpiked", "sbin/turnpike-control", "bin/turnpikectl", "bin/turnpike-blast"):
                said = run(str(prefix / program), "--version").stdout
                same(f"{program} --version", bool(re.fullmatch(rf"{pathlib.Path(program).name} \d+\.\d+\.\d+ \([0-9a-z.-]+\)\n", said)), True)
            for page in prefix.glob("share/man/*/*"):
                said = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page), env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
                same(f"warnings of {page.name}", said.stderr, "")
            manual = (prefix / "share/man/man1/turnpikectl.1").read_text()
            for verb in verbs(prefix / "bin/turnpikectl"):
                same(f"turnpikectl(1) has {verb}", f"\\fB{verb}" in manual.replace("\\-", "-"), True)
            keys = set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", (ROOT / "docs/tuning.md").read_text(), re.M))
            manual = (prefix / "share/man/man5/turnpike.yaml.5").read_text()
            same("keys in turnpike.yaml(5)", [key for key in sorted(keys) if f"\\fB{key}\\fR" not in manual], [])
            for unit in prefix.glob("lib/systemd/system/*.service"):
                text = unit.read_text()
                same(f"{unit.name}: no placeholder", "@" in text, False)
                same(f"{unit.name}: watchdog", "WatchdogSec=" in text and "Type=notify" in text, True)
                for program in re.findall(r"^Exec\w+=(/usr/local\S+)", text, re.M):
                    same(f"{unit.name}: {program} is there", (path / program[1:]).exists(), True)
            example = path / "example.yaml"
            example.write_text((prefix / "share/turnpike/turnpike.yaml.example").read_text())
            same("the example is valid", subprocess.run([str(prefix / "sbin/turnpiked"), "--check", "-c", str(example)], check=False).returncode, 0)
            complete(prefix, same)


def verbs(program):
    return sorted(set(re.findall(r"^  ([a-z-]+)", run(str(program), "--help").stdout, re.M)))


def complete(prefix, same):
    script = prefix / "share/bash-completion/completions/turnpikectl"
    program = prefix / "bin/turnpikectl"

    def words(*typed):
        said = run("bash", "-c", 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _turnpikectl; printf "%s\\n" "${COMPREPLY[@]}"',
                   "bash", str(script), str(program), *typed).stdout
        return sorted(said.split())

    same("completion of the verb", words(""), verbs(program))
    same("completion behind -c FILE", words("-c", "/etc/turnpike.yaml", "doc"), ["doctor"])
    same("completion of the second word", words("blocklist", ""), ["add", "del", "list"])
    same("completion of options", words("blocklist", "add", "--"), ["--count-only", "--json", "--reason", "--ttl"])
    same("completion of global options", words("--v"), ["--version"])
    same("completion of a file", words("-c", "/etc/hostn"), ["/etc/hostname"])


def test_the_doctor_looks_with_and_without_a_node(build):
    program = str(pathlib.Path(build).resolve() / "control/turnpikectl")
    with node(build, extra=SMALL, control=False) as made:
        running = made.ctl("doctor", "--json", status={0, 1})
        script = made.ctl("doctor", "--fix-script")
        config = made.folder / "copy.yaml"
        config.write_text(made.config.read_text())
        # nobody runs, and nobody in particular asks
        config.write_text(config.read_text().replace(str(made.data_dir), "/nonexistent/data"))
        os.chmod(made.folder, 0o755)
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        done = subprocess.run([*drop, program, "-c", str(config), "doctor", "--json"], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        alone = json.loads(done.stdout)
    for answer in (running, alone):
        checks = {item["check"] for item in answer["items"]}
        assert {"kernel", "cpus", "governor", "numa", "hugepages", "thp", "swap", "nofile", "memlock", "cache", "sync", "clocksource",
                "clock", "isolated"} <= checks, checks
        for item in answer["items"]:
            assert item["status"] in ("ok", "warn", "bad", "unknown") and item["found"], item
            assert bool(item["fix"]) == bool(item["undo"]), item
            assert bool(item["cost"]) == (item["status"] in ("warn", "bad")), item
    sync = next(item for item in running["items"] if item["check"] == "sync")
    assert "median" in sync["found"], sync
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0, script


class Collector:
    """An OTLP/HTTP collector: keeps the spans, and whatever about a message is not as the specification says."""

    def __init__(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.take(self.path, self.headers, body)
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.spans, self.faults, self.status, self.messages = [], [], 200, 0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, headers, body):
        self.messages += 1
        if self.status != 200:
            return
        try:
            assert path == "/v1/traces" and headers["Content-Type"] == "application/json", (path, headers["Content-Type"])
            message = json.loads(body)
            assert set(message) == {"resourceSpans"}, message.keys()
            for of_resource in message["resourceSpans"]:
                names = {one["key"]: one["value"]["stringValue"] for one in of_resource["resource"]["attributes"]}
                assert names["service.name"] == "turnpike" and names["service.instance.id"] == "test" and names["service.version"], names
                for of_scope in of_resource["scopeSpans"]:
                    assert of_scope["scope"]["name"] == "turnpike"
                    for span in of_scope["spans"]:
                        self.check(span)
                        self.spans.append(span)
        except (AssertionError, KeyError, ValueError, TypeError) as fault:
            self.faults.append(repr(fault))

    @staticmethod
    def check(span):
        """The fields of opentelemetry.proto.trace.v1.Span in their JSON encoding: ids in hex, 64-bit numbers as strings."""
        assert set(span) == {"traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes",
                             "status"}, span
        assert re.fullmatch("[0-9a-f]{32}", span["traceId"]) and re.fullmatch("[0-9a-f]{16}", span["spanId"]), span
        assert re.fullmatch("[0-9a-f]{16}", span["parentSpanId"]) and isinstance(span["kind"], int) and 1 <= span["kind"] <= 5, span
        start, end = span["startTimeUnixNano"], span["endTimeUnixNano"]
        assert isinstance(start, str) and isinstance(end, str) and int(start) <= int(end), span
        assert abs(int(end) / 1e9 - time.time()) < 120, span
        for attribute in span["attributes"]:
            assert set(attribute) == {"key", "value"} and set(attribute["value"]) <= {"stringValue", "intValue"}, span
            assert all(isinstance(value, str) for value in attribute["value"].values()), span

    def trace(self, trace_id):
        return [span for span in self.spans if span["traceId"] == trace_id]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def context(sampled=True):
    """A trace context of a client: its id, its span, the header."""
    trace_id, span_id = os.urandom(16).hex(), os.urandom(8).hex()
    return trace_id, span_id, f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


STEPS = ["receive", "parse", "shard", "durable", "answer"]


def check_event(spans, parent, verdict):
    root = next(span for span in spans if span["name"] == "event" and span["parentSpanId"] == parent)
    attributes = {one["key"]: next(iter(one["value"].values())) for one in root["attributes"]}
    assert attributes["turnpike.verdict"] == verdict, attributes
    below = sorted((span for span in spans if span["parentSpanId"] == root["spanId"]), key=lambda span: STEPS.index(span["name"]))
    assert [span["name"] for span in below] == STEPS, below
    at = root["startTimeUnixNano"]
    for span in below:
        assert span["startTimeUnixNano"] == at, below
        at = span["endTimeUnixNano"]
    assert at == root["endTimeUnixNano"]


def test_sampled_events_become_spans(build):
    collector = Collector()
    try:
        with node(build, extra=SMALL + f"tracing: {{collector: '{collector.url}'}}\n") as made:
            in_event, in_header, in_pixel, not_sampled, bad, asked = (context(), context(), context(), context(False), context(), context())
            first = event(trace=in_event[2])
            assert made.post(first)[0] == 204
            assert made.post(first)[0] == 204  # the same again: a duplicate with its own spans
            assert made.post([event(), event(trace=in_event[2])], headers={"traceparent": in_header[2]})[0] == 204
            query = urllib.parse.urlencode(event(event_id=None, timestamp=None, bid_price=None))
            assert made.request("GET", "/api/v1/pixel.gif?" + query, headers={"TraceParent": in_pixel[2]})[0] == 200
            assert made.post(event(), headers={"traceparent": not_sampled[2]})[0] == 204
            assert made.post(event(trace=not_sampled[2]))[0] == 204
            assert made.post(event(), headers={"traceparent": bad[2].upper()})[0] == 204  # ignored: the event counts all the same
            assert made.request("GET", "/api/v1/analytics/campaigns/camp_1?window=1h", headers={"traceparent": asked[2]}, at=made.api)[0] == 200
            wait_until("all spans", lambda: len(collector.trace(in_event[0])) == 18 and len(collector.trace(in_header[0])) == 6 and
                       len(collector.trace(in_pixel[0])) == 6 and len(collector.trace(asked[0])) == 1)
            assert not collector.faults, collector.faults[:3]
            check_event(collector.trace(in_event[0]), in_event[1], "accepted")
            assert sorted(one["value"]["stringValue"] for span in collector.trace(in_event[0]) for one in span["attributes"]
                          if one["key"] == "turnpike.verdict") == ["accepted", "accepted", "duplicate"]
            check_event(collector.trace(in_header[0]), in_header[1], "accepted")
            check_event(collector.trace(in_pixel[0]), in_pixel[1], "accepted")
            (answer,) = collector.trace(asked[0])
            assert answer["name"] == "GET /api/v1/analytics/*/*" and answer["parentSpanId"] == asked[1], answer
            # they are counted once the collector has answered; what is not to be exported has had its turn by then
            wait_until("the spans are counted", lambda: value(scrape(made), 'turnpike_spans_total{state="exported"}') == 31)
            assert not collector.trace(not_sampled[0]) and not collector.trace(bad[0])
            assert made.audit()["events"]["accepted"] == 7
            # the collector refuses, then is gone: nothing waits for it, what is lost is counted
            collector.status = 500
            for _ in range(20):
                assert made.post(event(trace=context()[2]))[0] == 204
            wait_until("refusals are counted", lambda: value(scrape(made), 'turnpike_spans_total{state="dropped",reason="collector"}') == 120)
            collector.close()
            big = [event(trace=context()[2]) for _ in range(2000)]
            assert made.post(big)[0] == 204

            def lost():
                after = scrape(made)
                return sum(value(after, f'turnpike_spans_total{{state="dropped",reason="{why}"}}') for why in ("collector", "overtaken")) == 120 + 12000
            wait_until("every span of 2,000 events is in the books", lost)
            assert made.audit()["events"]["accepted"] == 2027
    finally:
        with contextlib.suppress(OSError):
            collector.server.server_close()
