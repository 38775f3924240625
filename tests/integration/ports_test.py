"""DPDK ports of several rx cores, the tap to the kernel, and what the tool shows of ports and packets."""
import collections
import contextlib
import json
import os
import re
import socket
import subprocess
import threading

from harness import CPUS, DPDK_INGEST, PATIENCE, SMALL, Node, Process, Skip, event, folder, network, node, run, wait_until


def inside(namespace, *argv, check=True, **options):
    return run("ip", "netns", "exec", namespace, *argv, check=check, **options)


def curl(namespace, *arguments):
    return inside(namespace, "curl", "-sS", "-m", "90", *arguments).stdout


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


        port = n.ctl("ports", "--json")["items"][0]
        assert (port["queues"], port["rx_cores"], port["spread"]) == (1, 2, "software"), port


@contextlib.contextmanager
def two_namespaces():
    """A veth pair between two namespaces, for a node whose kernel takes part: (the node's, the clients', the node's interface)."""
    with network() as (clients, ours):
        own = f"{clients}n"
        run("ip", "netns", "add", own)
        try:
            run("ip", "link", "set", ours, "netns", own)
            inside(own, "ip", "link", "set", ours, "up")
            inside(own, "ip", "link", "set", "lo", "up")
            yield own, clients, ours
        finally:
            run("ip", "netns", "exec", own, "ip", "link", "set", ours, "netns", "1", check=False)
            run("ip", "netns", "del", own, check=False)


@contextlib.contextmanager
def node_in(build, namespace, ingest, **options):
    """A data process inside a namespace; what talks to it by files and sockets of the file system works from outside."""
    with folder() as path:
        made = Node(build, path, ingest=ingest, extra=SMALL, **options)
        made.data = Process([str(made.build / "dataplane/turnpiked"), "-c", str(made.config)], path / "data.log", namespace)
        try:
            made.data.line()
            yield made
            code = made.data.stop()
            assert code == 0, (code, made.data.tail())
        finally:
            made.data.kill()
            made.data.popen.wait()


ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 2222), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as server:
    print("listening", flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)
"""


def test_the_kernel_behind_the_tap(build):
    """What is not ours goes to the kernel: another address on the wire, and another port of our own; the beacons stay ours."""
    with two_namespaces() as (own, clients, ours):
        ingest = DPDK_INGEST.format(ours).replace("http_port", "tap: tp-tap0, http_port")
        with node_in(build, own, ingest) as n:
            assert "tp-tap0" in inside(own, "ip", "-br", "link").stdout
            for address in ("10.77.0.1/24", "10.77.0.9/24"):
                inside(own, "ip", "addr", "add", address, "dev", "tp-tap0")
            inside(own, "ip", "addr", "add", "fd00:77::9/64", "dev", "tp-tap0", "nodad")
            servers = [Process(["/usr/bin/python3", "-c", ECHO, address], n.folder / "server.log", own)
                       for address in ("10.77.0.1", "10.77.0.9", "fd00:77::9")]
            try:
                for server in servers:
                    server.line()
                inside(clients, "ping", "-c", "2", "-i", "0.2", "-W", "90", "10.77.0.9")
                inside(clients, "ping", "-c", "2", "-i", "0.2", "-W", "90", "fd00:77::9")
                inside(own, "ping", "-c", "2", "-i", "0.2", "-W", "90", "-I", "10.77.0.9", "10.77.0.2")  # and outwards
                code = ("import socket, sys\ns = socket.create_connection((sys.argv[1], 2222), 90)\nd = b'x' * 200000\n"
                        "import threading\nthreading.Thread(target=s.sendall, args=(d,)).start()\n"
                        "n = 0\nwhile n < len(d): n += len(s.recv(65536))\nprint(n)")
                for address in ("10.77.0.1", "10.77.0.9", "fd00:77::9"):
                    assert inside(clients, "/usr/bin/python3", "-c", code, address).stdout.strip() == "200000"
            finally:
                for server in servers:
                    server.kill()
                    server.popen.wait()
            assert post(clients, event()) == "204"
            refused = inside(clients, "curl", "-sS", "-m", "90", "http://10.77.0.1:99/", check=False)
            assert refused.returncode == 7, refused  # refused by the kernel, where nothing listens; silence would be 28
            frames = n.audit()["frames"]
            assert frames["accepted"] >= 3 * 200000 // 1460 and not frames["dropped"]["tap_full"], frames
            port = n.ctl("ports", "--json")["items"][0]
            assert port["tap"] == "tp-tap0" and port["traffic"]["to_tap"] > 300, port
        assert "tp-tap0" not in inside(own, "ip", "-br", "link").stdout
        # a name that is taken is an error, not somebody else's interface
        inside(own, "ip", "tuntap", "add", "tp-tap0", "mode", "tap")
        try:
            with node_in(build, own, ingest):
                raise AssertionError("started over an interface of another")
        except AssertionError as error:
            assert "ended with 1" in str(error) and "tp-tap0" in str(error), error


def test_ports_and_connections(build):
    with network() as (namespace, ours), node(build, ingest=DPDK_INGEST.format(ours) + "  - {driver: socket, http: '127.0.0.1:0'}\n",
                                              extra=SMALL) as n:
        port, other = n.ctl("ports", "--json")["items"]
        assert (port["driver"], port["interface"], port["link"], port["xdp"]) == ("net_af_xdp", ours, True, "native"), port
        assert other["driver"] == "socket", other
        before = port["traffic"]["frames_received"]
        assert post(namespace, event()) == "204"
        inside(namespace, "curl", "-sS", "-m", "90", "http://10.77.0.1:99/", check=False)
        port = n.ctl("ports", "--json")["items"][0]
        assert port["traffic"]["frames_received"] > before and port["traffic"]["dropped"]["unknown_port"] >= 1, port
        text = n.ctl("ports", "--interval", "0.2")
        assert "drop unknown_port" in text and "XDP native" in text and "kernel sockets" in text, text

        hold = ("import socket, sys, time\n"
                "s = [socket.create_connection((sys.argv[1], int(sys.argv[2])), 90) for _ in range(int(sys.argv[3]))]\n"
                "[x.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n') for x in s]\n[x.recv(4096) for x in s]\n"
                "print('held', flush=True)\ntime.sleep(600)")
        held = [Process(["/usr/bin/python3", "-c", hold, "10.77.0.1", "80", "5"], n.folder / "held.log", namespace),
                Process(["/usr/bin/python3", "-c", hold, *map(str, n.http[-1]), "3"], n.folder / "held.log")]
        try:
            for process in held:
                process.line()
            answer = n.ctl("connections", "--json")
            assert answer["whole"] and answer["states"]["established"] == 8 == answer["matched"], answer
            answer = n.ctl("connections", "--peer", "10.77.0.0/24", "--json")
            assert answer["matched"] == 5 and all(row["peer"].startswith("10.77.0.2:") for row in answer["items"]), answer
            assert all(row["in_bytes"] == 34 and row["out_bytes"] > 50 and row["unacknowledged"] == 0 for row in answer["items"]), answer
            answer = n.ctl("connections", "--limit", "2", "--json")
            assert (answer["matched"], len(answer["items"])) == (8, 2), answer
            assert n.ctl("connections", "--state", "fin_wait_2", "--json")["matched"] == 0
            assert "established  8" in n.ctl("connections")
            for wrong in (("--limit", "5000"), ("--peer", "x"), ("--state", "estalbished"), ("--nonsense",)):
                n.ctl("connections", *wrong, status=2)
        finally:
            for process in held:
                process.kill()
                process.popen.wait()
        wait_until("they are gone", lambda: n.ctl("connections", "--json")["matched"] == 0)


@contextlib.contextmanager
def looking(n, *arguments):
    """turnpikectl trace or capture beside something; yields a function that gives what it printed."""
    process = subprocess.Popen([str(n.build / "control/turnpikectl"), "-c", str(n.config), *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    def output():
        out, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, (process.returncode, out, errors)
        return out
    try:
        line = process.stderr.readline()
        assert "looking" in line, line
        yield output
    finally:
        process.kill()
        process.wait()


def test_trace_shows_each_step(build):
    with network() as (namespace, ours), node(build, ingest=DPDK_INGEST.format(ours), extra=SMALL) as n:
        with looking(n, "trace", "--requests", "--count", "4", "--seconds", "90", "--json") as output:
            first = event()
            for body in (first, first, event(bid_price="x")):
                post(namespace, body)
            curl(namespace, "-o", "/dev/null", "http://10.77.0.1/nowhere")
            records = [json.loads(line) for line in output().splitlines()]
        steps = [{step["step"]: step["verdict"] for step in record["steps"]} for record in records]
        assert [record["status"] for record in records] == [204, 204, 400, 404], records
        assert "accepted 1," in steps[0]["shard"] and "ms" in steps[0]["durable"] and steps[0]["parse"] == "ok", steps
        assert "duplicates 1," in steps[1]["shard"], steps
        assert steps[2]["parse"].startswith("bad_") and "bid_price" in steps[2]["parse"] and "shard" not in steps[2], steps
        assert records[0]["subject"].endswith("POST /api/v1/clicks") and records[3]["subject"].endswith("GET /nowhere"), records
        # by path, by port, by type
        with looking(n, "trace", "--requests", "--path", "/api/v1/pixel", "--count", "1", "--seconds", "90") as output:
            post(namespace, event())
            curl(namespace, "-o", "/dev/null", "http://10.77.0.1/api/v1/pixel.gif?event_type=click&ad_id=a&campaign_id=c&advertiser_id=d")
            text = output()
            assert text.count("request") == 1 and "pixel.gif" in text and "http: 200" in text, text
        with looking(n, "trace", "--packets", "--port", "99", "--count", "2", "--seconds", "90", "--json") as output:
            post(namespace, event())
            inside(namespace, "curl", "-sS", "-m", "90", "http://10.77.0.1:99/", check=False)
            records = [json.loads(line) for line in output().splitlines()]
            assert [(record["kind"], record["verdict"]) for record in records] == [("in", "unknown_port"), ("out", "sent")], records
            assert [step["step"] for step in records[0]["steps"]] == ["link", "ip", "blocklist", "tcp"], records
        # a datagram's events are judged at once
        with looking(n, "trace", "--requests", "--type", "udp", "--count", "3", "--seconds", "90", "--json") as output:
            for body in ("not JSON", json.dumps(event()), json.dumps([event(), event(bid_price="x"), event(ad_id=None)])):
                inside(namespace, "bash", "-c", "printf %s \"$1\" > /dev/udp/10.77.0.1/7771", "send", body)
            records = [json.loads(line) for line in output().splitlines()]
        steps = [{step["step"]: step["verdict"] for step in record["steps"]} for record in records]
        assert [s["datagram"] for s in steps] == ["accepted"] * 3, steps
        assert [s["parse"] for s in steps] == ["malformed", "ok", "missing_field, one of 2 rejected"], steps
        with looking(n, "trace", "--type", "arp", "--count", "1", "--seconds", "90") as output:
            inside(namespace, "ip", "neigh", "flush", "dev", ours.replace("tpa", "tpb"))
            post(namespace, event())
            assert "arp" in output()
        # while nobody looks nothing is recorded, and who asks nonsense is told
        for wrong in (("--type", "smoke"), ("--port", "70000"), ("--prefix", "x"), ("--count", "0")):
            n.ctl("trace", *wrong, status=2)


def test_a_trace_that_is_killed_ends(build):
    """The session belongs to its connection: another one is refused while it lives, and not after it died."""
    with network() as (namespace, ours), node(build, ingest=DPDK_INGEST.format(ours), extra=SMALL) as n:
        path = str(n.data_dir / "turnpike.sock")
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(path)

            def ask(asker):
                asker.sendall(b"sight start records=1000000 seconds=600\n")
                data, descriptors, _, _ = socket.recv_fds(asker, 4096, 1)
                for descriptor in descriptors:
                    os.close(descriptor)
                return json.loads(data)

            with socket.socket(socket.AF_UNIX) as first:
                first.connect(path)
                assert ask(first)["ok"]
                refused = ask(other)
                assert not refused["ok"] and "somebody else" in refused["error"], refused
            wait_until("the session is over", lambda: ask(other)["ok"])
        assert post(namespace, event()) == "204"


def test_capture_opens_in_tshark(build):
    with network() as (namespace, ours), node(build, ingest=DPDK_INGEST.format(ours), extra=SMALL) as n:
        path = n.folder / "frames.pcapng"
        with looking(n, "capture", str(path), "--seconds", "90", "--count", "60") as output:
            for _ in range(10):
                post(namespace, event())
                inside(namespace, "curl", "-sS", "-m", "90", "http://10.77.0.1:99/", check=False)
            assert "60 packets" in output()
        def tshark(*arguments):
            return subprocess.run(["tshark", "-r", str(path), *arguments], check=True, capture_output=True, text=True).stdout
        rows = [line.split("\t") for line in tshark("-T", "fields", "-e", "frame.packet_flags_direction", "-e", "frame.comment", "-e", "tcp.dstport",
                                                    "-e", "frame.len").splitlines()]
        assert len(rows) == 60, len(rows)
        directions = collections.Counter(row[0] for row in rows)
        assert len(directions) == 2 and min(directions.values()) > 10, directions
        assert any("tcp: unknown_port" in row[1] for row in rows) and any("tcp: accepted" in row[1] for row in rows), rows[:5]
        assert "204" in tshark("-Y", "http.response", "-T", "fields", "-e", "http.response.code")
        assert not tshark("-Y", "_ws.malformed").strip()
        # a machine that is busy elsewhere for a while makes Linux send again; who did is known, and nothing else may look so
        again = int(re.search(r"^TcpRetransSegs\s+(\d+)", inside(namespace, "nstat", "-asz").stdout, re.M).group(1)) + sum(per_core(n, "tcp_retransmits_total").values())
        assert len(tshark("-Y", "tcp.analysis.retransmission").splitlines()) <= again


def telemetry_instance(n):
    """Each DPDK process of a prefix has a socket; its number is found by asking who is behind it."""
    base = "/var/run/dpdk/turnpike"
    for name in os.listdir(base):
        if name.startswith("dpdk_telemetry.v2"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
                with contextlib.suppress(ConnectionRefusedError):
                    asker.connect(f"{base}/{name}")
                    asker.settimeout(PATIENCE)
                    if json.loads(asker.recv(16384))["pid"] == n.data.popen.pid:
                        return (name.split(":") + ["0"])[1]
    raise AssertionError(f"no telemetry socket of ours in {base}")


def test_telemetry_has_our_commands(build):
    """Asked by dpdk-telemetry.py itself."""
    with network() as (namespace, ours), node(build, ingest=DPDK_INGEST.format(ours), extra=SMALL) as n:
        assert post(namespace, event()) == "204"
        asked = subprocess.run(["dpdk-telemetry.py", "-f", "turnpike", "-i", telemetry_instance(n)], input="/\n/turnpike/ports\n/turnpike/port,net_af_xdp0\n", capture_output=True,
                               text=True, timeout=PATIENCE, check=True)
        answers = [json.loads(line) for line in asked.stdout.splitlines()]
        assert len(answers) == 3, answers
        assert "/turnpike/port" in answers[0]["/"], answers[0]
        assert answers[1]["/turnpike/ports"] == ["net_af_xdp0"], answers[1]
        port = answers[2]["/turnpike/port"]
        assert port["accepted"] >= 5 and port["queues"] == 1 and "dropped_not_ours" in port, port
