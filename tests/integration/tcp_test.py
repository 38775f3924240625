"""Our TCP against Linux's over a wire that loses, doubles, delays, cuts and corrupts frames each way (tests/tamper), by seed.

TURNPIKE_TAMPER_REQUESTS sets the requests of each row (100 in `make test`; 10,000 is the proof) and prints the table.
"""
import contextlib
import json
import os
import re

from harness import ROOT, Process, DPDK_INGEST, network, node, run, wait_until

ROWS = (("clean", {}), ("1% loss", {"loss": 100}), ("5% loss", {"loss": 500}), ("20% loss", {"loss": 2000}),
        ("everything", {"loss": 200, "twice": 200, "late": 500, "cut": 200, "flip": 200, "delay": 5}))


@contextlib.contextmanager
def wire(build, log, namespace, ours, options):
    """Puts the bad wire between the two ends of a veth pair: its own namespace with the far ends of two pairs in it. Yields the
    client's interface's namespace and, at the end, fills the list with what was done to the frames."""
    middle, near, far = f"w{ours}"[:15], f"n{ours}"[:15], f"f{ours}"[:15]
    run("ip", "netns", "add", middle)
    said = []
    try:
        # The client's end of the pair moves into the middle, and the client gets a new pair that ends there too.
        theirs = re.search(r"^\d+: (tpb\w+)@", run("ip", "netns", "exec", namespace, "ip", "-o", "link").stdout, re.M).group(1)
        run("ip", "-n", namespace, "link", "set", theirs, "netns", middle)
        run("ip", "link", "add", near, "numtxqueues", "1", "numrxqueues", "1", "netns", namespace, "type", "veth", "peer", "name", far,
            "netns", middle, "numtxqueues", "1", "numrxqueues", "1")
        for where, name in ((namespace, near), (middle, far), (middle, theirs)):
            run("ip", "netns", "exec", where, "ethtool", "-K", name, "tx", "off", "gso", "off", "tso", "off", "gro", "off")
            run("ip", "netns", "exec", where, "sysctl", "-q", "-w", f"net.ipv6.conf.{name}.disable_ipv6=1", check=False)
            run("ip", "-n", where, "link", "set", name, "up")
        run("ip", "netns", "exec", namespace, "sysctl", "-q", "-w", f"net.ipv6.conf.{near}.disable_ipv6=0")
        run("ip", "-n", namespace, "addr", "add", "10.77.0.2/24", "dev", near)
        run("ip", "-n", namespace, "addr", "add", "fd00:77::2/64", "dev", near, "nodad")
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        process = Process([f"{build}/tests/tamper_wire", *arguments, far, theirs], log, netns=middle)
        assert process.line() == "ready"
        try:
            yield said
            process.kill(15)
            said.append(json.loads(process.line()))
        finally:
            process.stop()
    finally:
        run("ip", "netns", "del", middle, check=False)


def row(build, options, requests, connections, address, seed):
    with network() as (namespace, ours), node(build, ingest=DPDK_INGEST.format(ours)) as n:
        with wire(build, n.folder / "wire.log", namespace, ours, {"seed": seed, **options}) as said:
            done = run("ip", "netns", "exec", namespace, str(ROOT / "tests/tamper/tamper_client.py"), address, "80", str(requests),
                       str(connections), str(seed), timeout=1800, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
        result = json.loads(done.stdout)
        assert not result["wrong"], result["wrong"][:3]
        assert result["answered"] == requests, result
        counted = n.totals("campaigns", "tamper")["impressions"]
        assert counted == result["events"], (counted, result)  # each once: nothing lost, nothing twice
        sheet = n.audit()
        text = n.request("GET", "/metrics", at=n.api)[2].decode()
        again = sum(float(value) for value in re.findall(r"^turnpike_tcp_retransmits_total(?:\{[^}]*\})? (\S+)$", text, re.M))
        dropped = sum(direction[what] for direction in said[0].values() if isinstance(direction, dict) for what in ("loss",))
        if options.get("flip"):
            assert sheet["frames"]["dropped"]["bad_l4_checksum"] > 0, sheet["frames"]
        return result, said[0], dropped, int(again)


def test_linux_over_a_bad_wire(build):
    requests = int(os.environ.get("TURNPIKE_TAMPER_REQUESTS", "100"))
    connections = 32 if requests <= 1000 else 64
    bad = {}
    for i, (name, options) in enumerate(ROWS):
        address = ("10.77.0.1", "fd00:77::1")[i % 2]
        result, wire_did, dropped, again = row(build, options, requests, connections, address, i + 1)
        bad[name] = dropped, again
        if requests > 1000:
            lost = sum(side["loss"] for side in wire_did.values() if isinstance(side, dict))
            seen = sum(side["frames"] for side in wire_did.values() if isinstance(side, dict))
            print(f"{name:11} {address:12} {result['answered']} answered, {result['events']} events counted once, {len(result['wrong'])} "
                  f"wrong, {result['sent_again']} sent again {result['why']}, {seen} frames, {lost} lost, {again} retransmitted by us, "
                  f"{result['connections']} connections, {result['seconds']} s", flush=True)
    # Of a hundred requests 1% loss may well hit no frame that we have to send again; which ones it hits depends on how fast both sides are.
    assert bad["clean"][0] == 0 and all(bad[name][0] for name in bad if name != "clean") and bad["20% loss"][1] > 0, bad


# Says when an advertisement of an IPv6 address is seen that nobody asked for: RFC 4861 section 4.4, not solicited.
ANNOUNCED = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd)) as wire:
    wire.bind((sys.argv[1], 0))
    print("listening", flush=True)
    target, frame = socket.inet_pton(socket.AF_INET6, sys.argv[2]), b""
    while frame[54:55] != bytes([136]) or frame[62:78] != target or frame[58] & 0x40:
        frame = wire.recv(2000)
    print("announced", flush=True)
"""


@contextlib.contextmanager
def announcements(namespace, interface, address):
    """Yields a function that waits until somebody has announced the address on the wire, since we came in here."""
    process = Process(["/usr/bin/python3", "-c", ANNOUNCED, interface, address], os.devnull, namespace)
    try:
        assert process.line() == "listening"
        yield process.line
    finally:
        process.kill()
        process.stop()


def test_an_address_that_another_has(build):
    """Linux has our IPv4 address when we start: we leave it to it, say so, and serve the other. Later Linux tries to take our IPv6
    address, and its duplicate address detection finds us."""
    with network() as (namespace, ours):
        theirs = re.search(r"^\d+: (tpb\w+)@", run("ip", "netns", "exec", namespace, "ip", "-o", "link").stdout, re.M).group(1)
        run("ip", "-n", namespace, "addr", "add", "10.77.0.1/32", "dev", theirs)
        with announcements(namespace, theirs, "fd00:77::1") as announced, node(build, ingest=DPDK_INGEST.format(ours)) as n:
            log = n.folder / "data.log"
            wait_until("the conflict is told", lambda: "another host uses an address of ours" in log.read_text())
            assert "address=10.77.0.1" in log.read_text(), log.read_text()
            text = n.request("GET", "/metrics", at=n.api)[2].decode()
            assert sum(float(value) for value in re.findall(r"^turnpike_address_conflicts_total(?:\{[^}]*\})? (\S+)$", text, re.M)) >= 1
            answer = run("ip", "netns", "exec", namespace, "curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}",
                         "http://[fd00:77::1]/healthz")
            assert answer.stdout == "200", answer
            announced()  # our own second of probing is over: before, two that probe at once both give way (RFC 4862 5.4.3)
            run("ip", "netns", "exec", namespace, "sysctl", "-q", "-w", f"net.ipv6.conf.{theirs}.accept_dad=1")
            run("ip", "-n", namespace, "addr", "add", "fd00:77::1/64", "dev", theirs)
            wait_until("Linux finds that the address is taken",
                       lambda: "dadfailed" in run("ip", "-n", namespace, "-6", "addr", "show", "dev", theirs).stdout)
