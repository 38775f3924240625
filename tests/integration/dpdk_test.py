"""The kernel-bypass path: DPDK over net_af_xdp on a veth pair, clients are Linux's own in another namespace."""
import json
import os
import re
import subprocess
import time

from harness import DPDK_INGEST, SMALL, SOCKET_INGEST, event, network, node, now_ms, run, wait_until


def inside(namespace, *argv, check=True, **options):
    return run("ip", "netns", "exec", namespace, *argv, check=check, **options)


def curl(namespace, *arguments):
    return inside(namespace, "curl", "-sS", "-m", "90", *arguments).stdout


def bypass(ours, both=False):
    return DPDK_INGEST.format(ours) + (SOCKET_INGEST if both else "")


def post(namespace, body, address="10.77.0.1"):
    return curl(namespace, "-w", "%{http_code}", "-o", "/dev/null", "-H", "Content-Type: application/json", "-d", json.dumps(body),
                f"http://{address}/api/v1/clicks")


def test_curl_ping_and_both_families(build):
    with network() as (namespace, ours), node(build, ingest=bypass(ours)) as n:
        assert (n.http[0], n.udp[0]) == (("10.77.0.1", 80), ("10.77.0.1", 7771))
        assert "XDP" in n.ctl("status", "--json")["receive_path"]
        for address in ("10.77.0.1", "[fd00:77::1]"):
            inside(namespace, "ping", "-c", "3", "-i", "0.2", "-W", "90", address.strip("[]"))
            assert post(namespace, event(device_id=address), address) == "204"
            assert curl(namespace, "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}/healthz") == "200"
        assert n.totals("campaigns", "camp_1")["clicks"] == 2
        frames = n.audit()["frames"]
        assert frames["received"] > 10 and not frames["dropped"]["bad_l4_checksum"], frames


def test_linux_asks_with_an_address_off_the_link(build):
    """Linux puts the packet's own source into its ARP request, be it one that only its loopback has: it is told where we are, all the same."""
    with network() as (namespace, ours), node(build, control=False, ingest=DPDK_INGEST.format(ours), extra=SMALL) as n:
        inside = ("ip", "netns", "exec", namespace)
        time.sleep(3.5)  # we have announced ourselves twice: from here on it has to ask
        run(*inside, "ip", "addr", "add", "203.0.113.9/32", "dev", "lo")
        run(*inside, "ip", "neigh", "flush", "all")
        done = run(*inside, "curl", "-sS", "-m", "90", "--interface", "203.0.113.9", "http://10.77.0.1/healthz", check=False)
        assert done.stdout == "ok\n", (done, n.audit()["frames"])


def test_a_body_of_many_segments(build):
    with network() as (namespace, ours), node(build, ingest=bypass(ours)) as n:
        events = [event(device_id=f"d{i}", user_agent="x" * 300) for i in range(1500)]
        path = n.folder / "body.json"
        path.write_text(json.dumps(events))
        assert path.stat().st_size > 700_000
        answer = curl(namespace, "-H", "Expect:", "-H", "Content-Type: application/json", "--data-binary", f"@{path}", "http://10.77.0.1/api/v1/clicks?report=1")
        assert json.loads(answer)["accepted"] == 1500, answer[:300]
        assert n.totals("campaigns", "camp_1")["gross_clicks"] == 1500


def test_wrk_and_ab(build):
    with network() as (namespace, ours), node(build, ingest=bypass(ours)) as n:
        script = n.folder / "post.lua"
        script.write_text('wrk.method = "POST"\nlocal n = 0\nlocal tag = tostring({}):gsub("%W", "")\n'
                          'function request()\n n = n + 1\n return wrk.format("POST", "/api/v1/clicks", nil, '
                          f'\'{{"event_id":"\'..tag..\'-\'..n..\'","event_type":"impression","timestamp":{now_ms()},"ad_id":"a","campaign_id":"wrk","advertiser_id":"v"}}\')\nend\n')
        out = inside(namespace, "wrk", "-t1", "-c32", "-d3s", "--timeout", "90s", "-s", str(script), "http://10.77.0.1").stdout
        assert "Non-2xx" not in out and "Socket errors" not in out, out
        done = int(re.search(r"(\d+) requests in", out).group(1))
        body = n.folder / "one.json"
        body.write_text(json.dumps(event(event_type="impression", campaign_id="ab")))
        out = inside(namespace, "ab", "-q", "-s", "90", "-n", "2000", "-c", "20", "-k", "-p", str(body), "-T", "application/json", "http://10.77.0.1/api/v1/clicks").stdout
        assert re.search(r"Failed requests:\s+0\n", out) and "Non-2xx" not in out, out
        out = inside(namespace, "ab", "-q", "-s", "90", "-n", "500", "-c", "10", "-p", str(body), "-T", "application/json", "http://10.77.0.1/api/v1/clicks").stdout
        assert re.search(r"Failed requests:\s+0\n", out) and "Non-2xx" not in out, out
        counted = n.totals("campaigns", "wrk")["impressions"]
        assert done <= counted <= done + 64, (done, counted)  # wrk does not wait for the last answers
        assert n.totals("campaigns", "ab")["impressions"] == 1
        n.audit()


def test_xdp_drops_the_blocklisted(build):
    with network() as (namespace, ours), node(build, ingest=bypass(ours)) as n:
        assert post(namespace, event()) == "204"
        n.ctl("blocklist", "add", "10.77.0.2", "--reason", "test")
        n.ctl("blocklist", "add", "fd00:77::/64")
        def gone(address):
            return inside(namespace, "ping", "-c", "1", "-W", "1", address, check=False).returncode != 0
        wait_until("IPv4 is dropped", lambda: gone("10.77.0.1"))
        wait_until("IPv6 is dropped", lambda: gone("fd00:77::1"))
        def dropped():
            text = n.request("GET", "/metrics", at=n.api)[2].decode()
            return sum(float(value) for value in re.findall(r'^turnpike_xdp_total\{state="dropped",reason="blocklisted"\} (\S+)$', text, re.M)) >= 2
        wait_until("the drops are counted", dropped)
        n.ctl("blocklist", "del", "10.77.0.2")
        wait_until("IPv4 is back", lambda: not gone("10.77.0.1"))
        assert post(namespace, event(device_id="again")) == "204"


def test_nothing_is_left_behind(build):
    hugepages = "/proc/sys/vm/nr_hugepages"
    before = open(hugepages).read()
    with network() as (_, ours):
        with node(build, control=False, ingest=bypass(ours)):
            assert "xdp" in run("ip", "link", "show", ours).stdout
        assert "xdp" not in run("ip", "link", "show", ours).stdout
        assert open(hugepages).read() == before


def test_kill_and_start_again_on_the_same_port(build):
    with network() as (namespace, ours), node(build, ingest=bypass(ours)) as n:
        first = event()
        assert post(namespace, first) == "204"
        for _ in range(2):
            n.kill()
            n.start(control=False)
            wait_until("the port answers", lambda: post(namespace, first) == "204")
        assert n.totals("campaigns", "camp_1")["clicks"] == 1


def test_both_drivers_at_once_equal_the_ledger(build):
    """Distinct events by HTTP and UDP batch, with retries, over AF_XDP and kernel sockets together."""
    count = int(os.environ.get("TURNPIKE_EVENTS", "20000"))
    with network() as (namespace, ours), node(build, ingest=bypass(ours, both=True)) as n:
        blast = str(n.build / "perf/turnpike-blast")
        (_, _), (host, port) = n.http[0], n.http[-1]
        jobs = [
            (namespace, ["--to", "http://10.77.0.1:80", "--batch", "20", "--seed", "1"]),
            (namespace, ["--to", "batch://10.77.0.1:7771", "--seed", "2"]),
            (None, ["--to", f"http://{host}:{port}", "--batch", "1", "--seed", "3"]),
            (None, ["--to", f"batch://{n.udp[-1][0]}:{n.udp[-1][1]}", "--seed", "4"]),
        ]
        running = []
        for number, (where, arguments) in enumerate(jobs):
            argv = [blast, "--events", str(count), "--duplicates", "0.1", "--retry", "--ledger", str(n.folder / f"ledger{number}"), *arguments]
            if where:
                argv = ["ip", "netns", "exec", where, *argv]
            running.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        for process in running:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors[-2000:]
        ledger = {}
        for number in range(len(jobs)):
            for line in open(n.folder / f"ledger{number}"):
                identity, kind, campaign, _, micros = line.split()
                ledger[identity] = (kind, campaign, int(micros))
        copies = len(jobs) * count - len(ledger)  # of --events, a tenth are retries of what is acknowledged
        assert 0.05 < copies / (len(jobs) * count) < 0.15, copies
        for campaign in {campaign for _, campaign, _ in ledger.values()}:
            mine = [(kind, micros) for kind, c, micros in ledger.values() if c == campaign]
            totals = n.totals("campaigns", campaign)
            assert totals["impressions"] == sum(kind == "impression" for kind, _ in mine), (campaign, totals)
            assert totals["gross_clicks"] == sum(kind == "click" for kind, _ in mine), (campaign, totals)
        events = n.audit()["events"]
        assert events["accepted"] + events["late"] == len(ledger) and not events["conflicts"], events
        assert events["duplicates"] >= copies, events
