"""The blocklist from outside: tool, API, list files, restarts, the XDP program."""
import json
import os
import re
import signal
import socket
import time
import urllib.parse

from harness import DPDK_INGEST, PATIENCE, SMALL, event, folder, network, node, run, wait_until, Node, Process


def blocked(n):
    """Whether this machine's HTTP clients are refused."""
    try:
        n.post(event())
        return False
    except OSError:
        return True


def api(n, method, path, body=None, headers=None):
    headers = {"Content-Type": "application/json"} | (headers or {})
    status, _, content = n.request(method, "/api/v1/blocklist" + path, json.dumps(body) if body is not None else None, headers, at=n.api)
    return status, json.loads(content) if content else None


def prefixes(n):
    return {item["prefix"]: item for item in n.ctl("blocklist", "list", "--json")["items"]}


def replace(path, text):
    other = path.with_suffix(".next")
    other.write_text(text)
    other.rename(path)


def test_api_adds_lists_and_deletes(build):
    with node(build, extra=SMALL) as n:
        assert api(n, "GET", "") == (200, {"items": [], "next": None, "total": 0, "files": []})
        assert api(n, "POST", "", {"prefix": "198.51.100.77/24", "reason": "two words", "ttl": "1h"})[0] == 204
        assert api(n, "POST", "", {"prefix": "2001:db8::/32", "count_only": True})[0] == 204
        status, page = api(n, "GET", "?limit=1")
        assert status == 200 and page["total"] == 2 and [i["prefix"] for i in page["items"]] == ["198.51.100.0/24"], page
        assert page["items"][0]["reason"] == "two words" and page["items"][0]["expires_ms"] > time.time() * 1000
        status, page = api(n, "GET", "?limit=5&after=" + urllib.parse.quote(page["next"], safe=""))
        assert [(i["prefix"], i["count_only"]) for i in page["items"]] == [("2001:db8::/32", True)] and page["next"] is None
        assert set(prefixes(n)) == {"198.51.100.0/24", "2001:db8::/32"}
        assert api(n, "DELETE", "?prefix=2001:db8::/32")[0] == 204
        assert api(n, "DELETE", "?prefix=2001:db8::/32")[0] == 404
        for body in ({}, {"prefix": "nonsense"}, {"prefix": "192.0.2.0/24", "ttl": 5}, {"prefix": "192.0.2.0/24", "ttl": "soon"},
                     {"prefix": "192.0.2.0/24", "count_only": "yes"}, {"prefix": "192.0.2.0/24", "reason": "x" * 128},
                     {"prefix": "192.0.2.0/24", "reason": "a\nb"}, {"prefix": "192.0.2.0/24", "colour": "red"}, []):
            status, problem = api(n, "POST", "", body)
            assert status == 400 and problem["type"].startswith("urn:turnpike:problem:"), (body, status, problem)
        for target in ("?limit=0", "?limit=x", "?limit=100000", "?after=x"):
            assert api(n, "GET", target)[0] == 400, target
        assert api(n, "DELETE", "")[0] == 400
        assert api(n, "PUT", "", {})[0] == 405
        assert api(n, "POST", "", {"prefix": "192.0.2.0/24", "reason": "x" * 20000})[0] == 413
        # what a stranger's page can make a browser send
        assert api(n, "POST", "", {"prefix": "192.0.2.0/24"}, {"Content-Type": "text/plain"})[0] == 415
        assert api(n, "POST", "", {"prefix": "192.0.2.0/24"}, {"Origin": "http://evil.example"})[0] == 403
        assert api(n, "DELETE", "?prefix=198.51.100.0/24", None, {"Origin": "null"})[0] == 403
        assert api(n, "POST", "", {"prefix": "192.0.2.0/24"}, {"Origin": "http://%s:%d" % n.api})[0] == 204
        assert set(prefixes(n)) == {"198.51.100.0/24", "192.0.2.0/24"}
        # a data process that is away is said so
        n.kill()
        assert api(n, "GET", "")[0] == 503
        n.start(control=False)
        assert set(prefixes(n)) == {"198.51.100.0/24", "192.0.2.0/24"}


def test_count_only_expiry_and_restart_on_sockets(build):
    with node(build, extra=SMALL) as n:
        n.ctl("blocklist", "add", "127.0.0.1", "--count-only", "--reason", "watch")
        n.ctl("blocklist", "add", "127.0.0.0/8")  # the host inside is an exception
        assert not blocked(n)
        wait_until("the hit is counted", lambda: prefixes(n)["127.0.0.1/32"]["hits"] > 0)
        assert prefixes(n)["127.0.0.0/8"]["hits"] == 0
        n.ctl("blocklist", "del", "127.0.0.1")
        wait_until("the host is dropped", lambda: blocked(n))
        assert prefixes(n)["127.0.0.0/8"]["hits"] > 0
        n.kill()
        n.start(control=False)
        assert blocked(n), "kept over a kill"
        n.ctl("blocklist", "add", "127.0.0.0/8", "--ttl", "1s")
        wait_until("it expires", lambda: not blocked(n))
        assert prefixes(n) == {}


def test_list_files_are_loaded_and_reloaded(build):
    with folder() as place:
        drop, watch = place / "drop.txt", place / "watch.txt"
        drop.write_text("# nobody yet\n127.9.0.0/16 ; SBL1\nnonsense\n10.0.0.0/99\n")
        watch.write_text("127.0.0.0/8\n")
        extra = SMALL + f"blocklist: {{files: [{drop}], count_only_files: [{watch}]}}\n"
        with node(build, extra=extra) as n:
            said = n.data.tail()
            assert f"file={drop} line=3" in said and f"file={drop} line=4" in said, said
            assert not blocked(n)
            items = prefixes(n)
            assert (items["127.9.0.0/16"]["reason"], items["127.9.0.0/16"]["file"]) == ("SBL1", str(drop)), items
            wait_until("counted", lambda: prefixes(n)["127.0.0.0/8"]["hits"] > 0)
            assert api(n, "DELETE", "?prefix=127.9.0.0/16")[0] == 409
            replace(drop, "127.0.0.1\n")
            wait_until("the changed file is in force", lambda: blocked(n))
            drop.unlink()

            def files():
                return {f["file"]: f for f in n.ctl("blocklist", "list", "--json")["files"]}
            wait_until("it is noticed that a file is gone", lambda: files()[str(drop)]["error"])
            assert blocked(n), "a file that is gone lets nobody in"
            assert not files()[str(watch)]["error"], files()
            replace(drop, "127.9.0.0/16\n")
            wait_until("the file is back", lambda: not blocked(n))
            # SIGHUP takes over other files, or keeps what is there when one cannot be read
            n.extra = SMALL + "blocklist: {files: [/nowhere]}\n"
            n.write_config()
            n.data.kill(signal.SIGHUP)
            wait_until("it is told", lambda: "file=/nowhere" in n.data.tail())
            assert set(prefixes(n)) == {"127.9.0.0/16", "127.0.0.0/8"}
            n.extra = SMALL
            n.write_config()
            n.data.kill(signal.SIGHUP)
            wait_until("no files any more", lambda: prefixes(n) == {})
            text = n.request("GET", "/metrics", at=n.api)[2].decode()
            assert re.search(r'^turnpike_blocklist_bad_lines_total\{core="background"\} 2$', text, re.M), text


def test_a_list_that_cannot_be_read_stops_the_start(build):
    def refused(n):
        process = Process([str(n.build / "dataplane/turnpiked"), "-c", str(n.config)], n.folder / "refused.log")
        code = process.popen.wait(PATIENCE)
        process.popen.stdout.close()
        process.log.close()
        return code, (n.folder / "refused.log").read_text()

    with folder() as place:
        n = Node(build, place, extra=SMALL + "blocklist: {files: [/nowhere]}\n")
        code, said = refused(n)
        assert code == 1 and "file=/nowhere" in said, (code, said)
        n.extra = SMALL
        n.write_config()
        with node(build, control=False, extra=SMALL) as other:
            other.ctl("blocklist", "add", "192.0.2.0/24", "--reason", "x")
            other.data.stop()
            store = other.data_dir / "blocklist"
            whole = store.read_text()
            store.write_text(whole.replace("192.0.2.0", "192.0.3.0"))
            code, said = refused(other)
            assert code == 1 and "damaged" in said and str(store) in said, (code, said)
            store.write_text(whole)
            other.start(control=False)
            assert set(prefixes(other)) == {"192.0.2.0/24"}


def test_a_hundred_thousand_prefixes(build):
    with folder() as place:
        drop = place / "drop.txt"
        lines = [f"{11 + (i >> 16)}.{i >> 8 & 255}.{i & 255}.0/24\n" for i in range(99_000)]
        lines += [f"2001:db8:{i:x}::/48\n" for i in range(1000)]
        drop.write_text("".join(lines))
        with node(build, control=False, extra=SMALL + f"blocklist: {{files: [{drop}]}}\n") as n:
            assert len(prefixes(n)) == 100_000
            assert not blocked(n)
            replace(drop, "".join(lines) + "127.0.0.0/8\n")
            wait_until("one more", lambda: blocked(n))
            n.ctl("blocklist", "add", "127.0.0.0/8", "--count-only")
            assert not blocked(n)


def xdp_layer(n):
    return n.audit()["xdp"]


def test_xdp_counts_hits_and_reasons(build):
    with network() as (namespace, ours), node(build, ingest=DPDK_INGEST.format(ours), extra=SMALL) as n:
        def ping(address="10.77.0.1", seconds=90):
            return run("ip", "netns", "exec", namespace, "ping", "-c", "1", "-W", f"{seconds}", address, check=False).returncode == 0
        assert ping() and ping("fd00:77::1")
        n.ctl("blocklist", "add", "10.77.0.2", "--count-only")
        n.ctl("blocklist", "add", "10.77.0.0/24")
        assert ping()
        items = prefixes(n)
        assert items["10.77.0.2/32"]["hits"] > 0 and items["10.77.0.0/24"]["hits"] == 0, items
        n.ctl("blocklist", "del", "10.77.0.2")
        assert not ping(seconds=1)
        wait_until("the hit is counted", lambda: prefixes(n)["10.77.0.0/24"]["hits"] > 0)
        assert ping("fd00:77::1")
        layer = wait_until("counted", lambda: (lambda l: l if l["dropped"]["blocklisted"] > 0 else None)(xdp_layer(n)))
        assert layer["accepted"] > 0 and layer["received"] == layer["accepted"] + sum(layer["dropped"].values()), layer


def test_xdp_limits_the_packets_of_a_source(build):
    with network() as (namespace, ours):
        ingest = DPDK_INGEST.format(ours).replace("http_port", "packet_rate_limit: 50, http_port")
        with node(build, ingest=ingest, extra=SMALL) as n:
            def flood():  # by turns, until the machine sends faster than 50 a second
                out = run("ip", "netns", "exec", namespace, "ping", "-q", "-c", "300", "-i", "0.002", "-W", "1", "10.77.0.1", check=False).stdout
                got = int(re.search(r"(\d+) received", out).group(1))
                assert got >= 1, out
                return xdp_layer(n)["dropped"]["rate_limited"] >= 40 and got < 250
            wait_until("it is limited", flood)
            # a reload takes it away
            n.ingest = DPDK_INGEST.format(ours)
            n.write_config()
            n.data.kill(signal.SIGHUP)
            def free():
                out = run("ip", "netns", "exec", namespace, "ping", "-q", "-c", "100", "-i", "0.002", "-W", "1", "10.77.0.1", check=False).stdout
                return " 0% packet loss" in out
            wait_until("no limit any more", free)
