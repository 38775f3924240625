"""The programs from outside: exit status, what --check says, signals, ready lines, one node per folder, the balance sheet. Contract sections 1, 3, 8."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from harness import CPUS, PATIENCE, SMALL, Node, Process, Skip, endpoint, event, findings, folder, node, now_ms, wait_until
from udp_test import Client, pack_batch, pack_event

COMPLETE = """
node:
  name: edge-1
  data_dir: /var/lib/turnpike
ingest:
  - driver: socket                      # kernel sockets through io_uring; no privilege, no hugepage
    http: 127.0.0.1:8080
    udp: 127.0.0.1:7771
  - driver: dpdk                        # any DPDK port
    device: net_af_xdp0,iface=tp0       # an EAL --vdev string or a PCI address
    address: [10.77.0.1/24, "fd00:77::1/64"]
    gateway: 10.77.0.2                  # optional
    http_port: 80
    udp_port: 7771
cores:
  rx: [0]
  shard: [1]
  background: [0, 1]
  idle: sleep
durability:
  commit_interval: 1ms
  preallocate: true
time:
  lateness: 60s
  horizon: 15m
  max_future: 60s
retention: { raw: 30d, minute: 45d, hour: 400d, day: 10y }
fraud: { clicks_per_ip_hour: 10, clicks_per_device_hour: 5, min_ms_since_impression: 500 }
control:
  listen: 127.0.0.1:8081
  state_dir: /var/lib/turnpike-control
  auth: tokens
"""


def call(build, program, *arguments):
    done = subprocess.run([os.path.join(build, program), *arguments], capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


def test_usage(build):
    with findings() as same, folder() as path:
        good = path / "good.yaml"
        good.write_text(f"node: {{data_dir: {path}/data}}\ningest: [{{driver: socket, http: '127.0.0.1:0'}}]\ncores: {{rx: [0], shard: [0]}}\n")
        for program in ("dataplane/turnpiked", "control/turnpike-control", "control/turnpikectl"):
            for arguments in ((), ("-c",), ("-x",), ("--nonsense",), ("-c", str(path / "not-there.yaml"), "status"), ("-c", str(good), "one", "two")):
                code, out, err = call(build, program, *arguments)
                same(f"{program} {arguments}: status", code, 2)
                same(f"{program} {arguments}: says it on standard error only", (out, err != ""), ("", True))
            code, out, err = call(build, program, "--help")
            same(f"{program} --help", (code, "usage" in out + err), (0, True))
        code, out, err = call(build, "control/turnpikectl", "segments", "--help")
        same("a verb's help tells that verb alone", (code, "segments dump" in out, "billing" in out, err), (0, True, False, ""))
        for arguments in (("audit",), ("status",), ("blocklist", "list")):
            code, out, err = call(build, "control/turnpikectl", "-c", str(good), *arguments)
            same(f"turnpikectl {arguments} without a node", (code, err != ""), (1, True))
        for arguments in (("blocklist", "add", "nonsense"), ("blocklist", "add"), ("blocklist", "frobnicate"), ("audit", "--frobnicate")):
            same(f"turnpikectl {arguments}", call(build, "control/turnpikectl", "-c", str(good), *arguments)[0], {1, 2})
        same("--check leaves nothing behind", call(build, "dataplane/turnpiked", "-c", str(good), "--check")[0], 0)
        same("folder", sorted(p.name for p in path.iterdir()), ["good.yaml"])


def test_check_names_file_line_key_and_what_was_expected(build):
    rows = [  # text, line, what the message must hold
        ("node: {nam: x}", 1, "nam", "name"),
        ("nodes: {}", 1, "nodes", "node"),
        ("node:\n  name: a\n  datadir: /x", 3, "datadir", "data_dir"),
        ("time:\n  lateness: 60", 2, "time.lateness", "60s"),
        ("time: {horizon: -1s}", 1, "time.horizon", "expected"),
        ("time: {max_future: 1 fortnight}", 1, "time.max_future", "duration"),
        ("time: {max_future: [1s]}", 1, "max_future", "expected"),
        ("durability: {preallocate: perhaps}", 1, "durability.preallocate", "true"),
        ("durability:\n  commit_interval: 1kg", 2, "durability.commit_interval", "expected"),
        ("fraud: {clicks_per_ip_hour: many}", 1, "fraud.clicks_per_ip_hour", "number"),
        ("fraud: {clicks_per_ip_hour: -1}", 1, "fraud.clicks_per_ip_hour", "expected"),
        ("cores:\n  idle: busy", 2, "cores.idle", "poll"),
        ("cores: {rx: [4096]}", 1, "cores.rx", "expected"),
        ("cores: {rx: x}", 1, "rx", "expected"),
        ("cores: {rx: [0, 0]}", 1, "cores.rx", "expected"),
        ("ingest:\n  - driver: pigeon\n    http: 127.0.0.1:1", 2, "driver", "dpdk"),
        ("ingest:\n  - {driver: socket, http: 1.2.3}", 2, "http", "address"),
        ("ingest:\n  - {driver: socket, http: '127.0.0.1:70000'}", 2, "http", "expected"),
        ("ingest:\n  - {driver: socket, http: 'localhost'}", 2, "http", "expected"),
        ("ingest:\n  - {driver: socket}", 2, "ingest[0]", "expected"),
        ("ingest:\n  - {driver: socket, http: '127.0.0.1:0', port: 80}", 2, "port", "expected"),
        ("ingest:\n  - {driver: socket, http: '127.0.0.1:0', trusted: [10.0.0.0/33]}", 2, "trusted", "expected"),
        ("ingest:\n  - {driver: socket, http: '127.0.0.1:0', auth: maybe}", 2, "auth", "tokens"),
        ("ingest:\n  - {driver: socket, http: '127.0.0.1:0', rate_limit: fast}", 2, "rate_limit", "expected"),
        ("ingest:\n  - {driver: dpdk, http_port: 80}", 2, "device", "expected"),
        ("ingest:\n  - {driver: dpdk, device: x, address: [10.0.0.1]}", 2, "address", "expected"),
        ("ingest:\n  - {driver: dpdk, device: 'net_af_xdp0,iface=a', address: [10.0.0.1/24], gateway: here}", 2, "gateway", "expected"),
        ("ingest:\n  - {driver: dpdk, device: x, address: [10.0.0.1/8], http_port: 0, udp_port: 0}", 2, "ingest[0]", "expected"),
        ("ingest: {driver: socket}", 1, "ingest", "expected"),
        ("retention: { raw: 30 }", 1, "retention.raw", "expected"),
        ("retention: 30d", 1, "retention", "expected"),
        ("control: {listen: '0.0.0.0:8081', auth: none}", 1, "control", "loopback"),
        ("control: {auth: sometimes}", 1, "control.auth", "tokens"),
        ("control: {listen: 8081}", 1, "control.listen", "expected"),
        ("node: {name: a}\nnode: {name: b}", 2, "node", "expected"),
        ("node: {name: a, name: b}", 1, "name", "expected"),
        ("node: [", None, "expected", "YAML"),
        ("node: {name: \"a}", None, "expected", "YAML"),
        ("- a", 1, "expected", "expected"),
        ("\tnode: x", 1, "YAML", "expected"),
        ("just text", 1, "expected", "expected"),
    ]
    with findings() as same, folder() as path:
        file = path / "turnpike.yaml"
        for number, (text, line, *parts) in enumerate(rows):
            file.write_text(text + "\n")
            for program in ("dataplane/turnpiked",) + (("control/turnpike-control",) if number % 8 == 0 else ()):
                code, out, err = call(build, program, "-c", str(file), "--check")
                same(f"{text!r}: status", code, 2)
                place = f"{file}:{line}:" if line else f"{file}:"
                if not any(message.startswith(place) and all(part in message for part in parts) for message in err.splitlines()):
                    same(f"{text!r}: message", err, f"{place} … {parts}")
        file.write_text("node: {nam: x}\ntime: {lateness: 1}\ncores: {idle: busy}\n")
        same("several faults at once", len(call(build, "dataplane/turnpiked", "-c", str(file), "--check")[2].splitlines()) >= 2, True)
        for what, text in {"the contract's": COMPLETE, "empty mapping": "{}\n", "only a node": "node: {name: x}\n"}.items():
            if CPUS < 2:
                text = text.replace("shard: [1]", "shard: [0]").replace("[0, 1]", "[0]")
            file.write_text(text)
            for program in ("dataplane/turnpiked", "control/turnpike-control"):
                code, out, err = call(build, program, "-c", str(file), "--check")
                same(f"{what} {program}", (code, err), (0, ""))


def test_ready_lines_and_free_ports(build):
    ingest = "  - {driver: socket, http: '127.0.0.1:0', udp: '127.0.0.1:0'}\n  - {driver: socket, http: '[::1]:0', udp: '[::1]:0'}\n"
    with folder() as path:
        made = Node(build, path, ingest=ingest, extra=SMALL)
        try:
            made.start()
            ports = [port for _, port in made.http]
            assert len(made.http) == len(made.udp) == 2 and all(ports) and all(port for _, port in made.udp), (made.http, made.udp)
            assert made.http[1][0] == "::1", made.http
            for at in made.http:
                assert made.request("POST", "/api/v1/clicks", json.dumps(event()), at=at)[0] == 204
            for target in made.udp:
                family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
                with socket.socket(family, socket.SOCK_DGRAM) as sender:
                    sender.settimeout(PATIENCE)
                    sender.sendto(pack_batch([pack_event()]), target)
                    assert len(sender.recv(1000)) == 48
            assert made.audit()["events"]["accepted"] == 4
            assert made.request("GET", "/healthz", at=made.api)[0] == 200
            # One line and no more, until the end.
            made.data.kill(signal.SIGTERM)
            assert made.data.popen.wait(PATIENCE) == 0 and made.data.popen.stdout.read() == b""
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()
                    process.popen.wait()


def test_port_that_is_taken(build):
    with socket.socket() as taken, folder() as path:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        made = Node(build, path, ingest=f"  - {{driver: socket, http: '127.0.0.1:{port}'}}\n", extra=SMALL)
        process = Process([str(made.build / "dataplane/turnpiked"), "-c", str(made.config)], path / "data.log")
        assert process.popen.wait(PATIENCE) == 1 and process.popen.stdout.read() == b"", process.tail()
        assert str(port) in process.tail() and "in use" in process.tail(), process.tail()


def test_folder_that_cannot_be(build):
    with folder() as path, findings() as same:
        (path / "file").write_text("")
        for data_dir in (path / "file", path / "file/data", "/proc/turnpike"):
            made = Node(build, path, extra=SMALL)
            made.data_dir = data_dir
            made.write_config()
            code, out, err = call(build, "dataplane/turnpiked", "-c", str(made.config))
            same(f"{data_dir}", (code, out, str(data_dir) in err), (1, "", True))


def test_logs_are_pairs_of_level_and_message(build):
    with node(build, extra=SMALL) as n:
        n.post(event())
        n.post("{")
        n.ctl("segments", "seal")
        whole = n.config.read_text()
        n.config.write_text(whole + 'fraud: {clicks_per_ip_hour: "a\\nb"}\nrubbish: 1\n')
        n.data.kill(signal.SIGHUP)
        wait_until("the broken file is told", lambda: "not reloaded" in (n.folder / "data.log").read_text())
        assert "clicks_per_ip_hour" in (n.folder / "data.log").read_text()
        n.config.write_text(whole)
        logs = [n.folder / "data.log", n.folder / "control.log"]
        n.stop()
        for log in logs:
            for line in log.read_text().splitlines():
                assert re.match(r'level=(error|warning|warn|notice|info|debug) msg=("(\\.|[^"\\])*"|[^ "]+)( [a-z_0-9]+=("(\\.|[^"\\])*"|[^ "]*))*$', line), f"{log.name}: {line!r}"


def test_one_node_per_folder(build):
    with node(build, control=False, extra=SMALL) as n:
        for attempt in range(2):
            code, out, err = call(build, "dataplane/turnpiked", "-c", str(n.config))
            assert (code, out) == (1, "") and "data" in err, (code, out, err)
            assert n.post(event())[0] == 204
        n.kill()
        n.start(control=False)  # a lock of a killed one is no lock
        assert n.post(event())[0] == 204
        n.audit()


def test_sigterm_under_load_keeps_what_was_acknowledged(build):
    """Clients send until they are refused; each id that was acknowledged is a duplicate afterwards, and each answer came whole."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with node(build, control=False, extra=SMALL) as n:
            acknowledged, lock, problems, started = [], threading.Lock(), [], threading.Barrier(5)

            def over_http(seed):
                connection = http.client.HTTPConnection(*n.http[0], timeout=PATIENCE)
                started.wait()
                for turn in range(100_000):
                    events = [event(event_id=f"h{seed}-{turn}-{i}", device_id=f"d{i}") for i in range(5)]
                    try:
                        connection.request("POST", "/api/v1/clicks", json.dumps(events))
                        status = connection.getresponse().status
                    except (OSError, http.client.HTTPException):
                        return
                    if status == 204:
                        with lock:
                            acknowledged.extend(events)
                    elif status != 503:
                        problems.append(status)

            def over_udp():
                client = Client(n)
                started.wait()
                for turn in range(100_000):
                    fields = [{"event_id": f"u{turn}-{i}", "timestamp": now_ms()} for i in range(5)]
                    try:
                        client.send(pack_batch([pack_event(f) for f in fields], 1, turn))
                        answer = client.receive(0.5)
                    except OSError:
                        return
                    if answer is None:
                        return
                    with lock:
                        acknowledged.extend({"event_id": f["event_id"], "event_type": "click", "timestamp": f["timestamp"], "ad_id": "a", "campaign_id": "c", "advertiser_id": "v"} for f in fields)
                client.close()

            threads = [threading.Thread(target=over_http, args=(seed,)) for seed in range(3)] + [threading.Thread(target=over_udp)]
            for thread in threads:
                thread.start()
            started.wait()
            wait_until("load", lambda: len(acknowledged) > 300)
            n.data.kill(number)
            assert n.data.popen.wait(PATIENCE) == 0, n.data.tail()
            for thread in threads:
                thread.join(PATIENCE)
            assert not problems, problems
            assert not list((n.data_dir / "log").iterdir()), "a clean stop seals the open log"
            n.data.popen.stdout.close()
            n.start(control=False)
            for at in range(0, len(acknowledged), 1000):
                part = acknowledged[at:at + 1000]
                report = n.post(part, report=True)[1]
                assert report["duplicates"] == len(part), {key: report[key] for key in ("accepted", "duplicates", "late", "conflicts")}
            n.audit()


def test_sigterm_with_idle_and_half_sent_connections(build):
    """Connections that say nothing, or half of something, keep nobody from ending."""
    with node(build, control=False, extra=SMALL) as n:
        assert n.post(event(event_id="kept"))[0] == 204
        held = []
        for data in (b"", b"POST", b"POST /api/v1/clicks HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"):
            connection = socket.create_connection(n.http[0])
            connection.sendall(data)
            held.append(connection)
        time.sleep(0.05)
        code = n.data.stop()
        assert code == 0, code
        for connection in held:
            connection.close()
        n.start(control=False)
        n.audit()


def test_signals_while_nothing_goes_on(build):
    with node(build, control=False, extra=SMALL) as n:
        for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGHUP):
            n.data.kill(number)
            time.sleep(0.05)
            assert n.post(event())[0] == 204
        n.config.write_text("nonsense: [")
        n.data.kill(signal.SIGHUP)
        wait_until("the file is refused", lambda: "nonsense" in n.data.tail() or "YAML" in n.data.tail())
        assert n.post(event())[0] == 204
        n.write_config()
        n.audit()


def test_sighup_reloads_the_fraud_limits(build):
    with node(build, extra=SMALL + "fraud: {clicks_per_device_hour: 1000}\n") as n:
        stamp = now_ms()

        def flagged(campaign, count):
            for _ in range(count):
                assert n.post(event(campaign_id=campaign, device_id="dev-" + campaign, timestamp=stamp))[0] == 204
            return n.totals("campaigns", campaign)["flagged_clicks"]

        assert flagged("before", 10) == 0
        n.extra = SMALL + "fraud: {clicks_per_device_hour: 3}\n"
        n.write_config()
        n.data.kill(signal.SIGHUP)
        turn = iter(range(1000))
        wait_until("the new limit holds", lambda: flagged(f"after{next(turn)}", 5) == 2)
        n.audit()


def test_control_process_alone(build):
    """It starts before the data process has ever run, keeps serving when that dies, and refuses nonsense."""
    with node(build, extra=SMALL) as n:
        assert n.post(event())[0] == 204
        assert n.totals("campaigns", "camp_1")["clicks"] == 1
        # the data process's own: the file that it writes and its spare, which it makes after it is ready
        wait_until("both log files are there", lambda: len(list((n.data_dir / "log").iterdir())) == 2)
        before = sorted(str(p.relative_to(n.data_dir)) for p in n.data_dir.rglob("*"))
        n.control.kill(signal.SIGTERM)
        assert n.control.popen.wait(PATIENCE) == 0
        n.start_control()
        assert sorted(str(p.relative_to(n.data_dir)) for p in n.data_dir.rglob("*")) == before, "it never writes into the data folder"
        n.data.kill(signal.SIGTERM)
        assert n.data.popen.wait(PATIENCE) == 0
        assert n.request("GET", "/healthz", at=n.api)[0] in (200, 503)
        wait_until("the sealed click", lambda: n.totals("campaigns", "camp_1")["clicks"] == 1)
        n.data.popen.stdout.close()
        n.start(control=False)
        wait_until("the new data process is found", lambda: n.post(event())[0] == 204 and n.totals("campaigns", "camp_1")["clicks"] >= 2)
        n.audit()


def test_ready_is_told_to_systemd(build):
    with folder() as path, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path / "notify"))
        notify.settimeout(PATIENCE)
        made = Node(build, path, extra=SMALL)
        os.environ["NOTIFY_SOCKET"] = str(path / "notify")
        try:
            made.start(control=False)
            assert b"READY=1" in notify.recv(1000).split(b"\n")
            made.start_control()
            assert b"READY=1" in notify.recv(1000).split(b"\n")
        finally:
            del os.environ["NOTIFY_SOCKET"]
        made.stop()


def test_audit_balances_layer_by_layer_while_load_runs(build):
    """Whatever moment is looked at, no layer claims more than it received, and at rest all sums are exact."""
    with node(build, control=False, extra=SMALL) as n:
        stop = threading.Event()

        def work():
            connection = http.client.HTTPConnection(*n.http[0], timeout=PATIENCE)
            client = Client(n)
            while not stop.is_set():
                connection.request("POST", "/api/v1/clicks", json.dumps([event(), event(ad_id=None), event(timestamp=now_ms() + 10**8)]))
                connection.getresponse().read()
                client.send(pack_batch([pack_event(), pack_event({"ad_id": ""})]))
                client.receive(1)
            connection.close()
            client.close()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(15):
                sheet = n.ctl("audit", "--json")
                assert [layer["layer"] for layer in sheet["layers"]] == ["xdp", "frames", "datagrams", "requests", "batches", "events", "dead_letters"], sheet
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        sheet = n.audit()
        for layer in sheet.values():
            kept = sum(layer[key] for key in ("accepted", "duplicates", "late", "conflicts", "in_flight")) + sum(layer["rejected"].values()) + sum(layer["dropped"].values())
            assert layer["received"] == kept, layer
        events, requests, batches = sheet["events"], sheet["requests"], sheet["batches"]
        assert events["received"] == 3 * requests["received"] + 2 * batches["received"], (events, requests, batches)
        assert events["accepted"] == requests["received"] + batches["received"] and events["rejected"]["future"] == requests["received"], events
        assert "balances" in n.ctl("audit")
