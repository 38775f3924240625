"""The way of one click over kernel sockets: beacon, durability, count, query. Contract sections 4, 5, 7, 8."""
import json
import socket
import subprocess
import time
import uuid

from harness import PATIENCE, event, node, now_ms, udp_send, wait_until


def test_click_counts_at_once(build):
    with node(build) as n:
        assert n.post(event()) == (204, None)
        totals = n.totals("campaigns", "camp_1")
        assert totals["clicks"] == 1 and totals["gross_clicks"] == 1 and totals["spend"] == "0.500000", totals
        assert totals["currency"] == "USD" and totals["ctr"] is None, totals
        for kind, identity in (("ads", "ad_1"), ("advertisers", "adv_1"), ("publishers", "pub_1")):
            assert n.totals(kind, identity)["clicks"] == 1
        assert n.totals("campaigns", "never_seen")["clicks"] == 0


def test_retry_is_a_duplicate_and_another_payload_a_conflict(build):
    with node(build, shard=(0,)) as n:
        first = event()
        assert n.post(first, report=True) == (200, {"accepted": 1, "duplicates": 0, "late": 0, "conflicts": 0, "rejected": []})
        assert n.post(first, report=True)[1]["duplicates"] == 1
        assert n.post(dict(first, bid_price="0.50"), report=True)[1]["duplicates"] == 1
        assert n.post(dict(first, bid_price=0.6), report=True)[1]["conflicts"] == 1
        assert n.post(dict(first, device_id="another"), report=True)[1]["conflicts"] == 1
        assert n.post(dict(first, device_id="another")) == (204, None)
        totals = n.totals("campaigns", "camp_1")
        assert totals["clicks"] == 1 and totals["spend"] == "0.500000", totals
        events = n.audit()["events"]
        assert (events["received"], events["accepted"], events["duplicates"], events["conflicts"]) == (6, 1, 2, 3), events


def test_batches_report_each_event(build):
    with node(build) as n:
        good, bad = event(), event(campaign_id=None)
        status, report = n.post([good, bad, dict(event(), timestamp=now_ms() + 3600_000)])
        assert status == 200 and report["accepted"] == 1, report
        assert [(r["index"], r["reason"]) for r in report["rejected"]] == [(1, "missing_field"), (2, "future")], report
        status, report = n.post("\n".join([json.dumps(event()), "{broken", json.dumps(good)]))
        assert status == 200 and (report["accepted"], report["duplicates"]) == (1, 1), report
        assert [(r["index"], r["reason"]) for r in report["rejected"]] == [(1, "malformed")], report
        assert n.post([]) == (204, None)
        assert n.post("[" + json.dumps(event()) + ",{]")[0] == 400
        assert n.post(bad)[0] == 400
        assert n.post("no json")[0] == 400
        assert n.totals("campaigns", "camp_1")["clicks"] == 2
        n.audit()


def test_late_events_are_counted_and_raise_the_revision(build):
    with node(build) as n:
        now = now_ms()
        assert n.post(event())[0] == 204
        before = n.get("/api/v1/analytics/campaigns/camp_1?window=24h")
        old = event(timestamp=now - 600_000)
        assert n.post(old, report=True)[1]["late"] == 1
        assert n.post(old, report=True)[1]["duplicates"] == 1
        ancient = event(timestamp=now - 5 * 3600_000)
        assert n.post(ancient, report=True)[1]["late"] == 1
        assert n.post(ancient, report=True)[1]["duplicates"] == 1
        after = n.get("/api/v1/analytics/campaigns/camp_1?window=24h")
        assert after["totals"]["clicks"] == 3 and after["revision"] > before["revision"], (before, after)
        assert n.audit()["events"]["late"] == 2


def test_udp_text_counts(build):
    with node(build) as n:
        udp_send(n.udp[0], json.dumps(event()).encode())
        udp_send(n.udp[0], b"\n".join(json.dumps(event()).encode() for _ in range(3)))
        udp_send(n.udp[0], b"{broken")
        udp_send(n.udp[0], b"")
        wait_until("four clicks", lambda: n.totals("campaigns", "camp_1")["clicks"] == 4)
        assert n.audit()["events"]["rejected"]["malformed"] == 1


def test_pixel_mints_what_is_missing(build):
    with node(build) as n:
        status, headers, body = n.request("GET", "/api/v1/pixel.gif?event_type=impression&ad_id=ad_1&campaign_id=camp%5F1&advertiser_id=adv_1")
        assert status == 200 and body[:6] in (b"GIF89a", b"GIF87a") and headers["Cache-Control"] == "no-store", (status, headers)
        assert n.totals("campaigns", "camp_1")["impressions"] == 1
        assert n.request("GET", "/api/v1/pixel.gif?event_type=click")[0] == 400


def test_spend_is_exact_and_currencies_stay_apart(build):
    with node(build) as n:
        assert n.post([event(bid_price="0.1", device_id=f"d{i}") for i in range(10)])[0] == 204
        assert n.totals("campaigns", "camp_1")["spend"] == "1.000000"
        assert n.post(event(bid_price="2.000001", currency="EUR", campaign_id="camp_2", ad_id="x"))[0] == 204
        assert n.post(event(bid_price="1e-6", campaign_id="camp_2", ad_id="x"))[0] == 204
        totals = n.totals("campaigns", "camp_2")
        assert totals["spend"] is None and totals["currency"] is None, totals
        assert totals["spend_by_currency"] == {"EUR": "2.000001", "USD": "0.000001"}, totals


def test_errors_of_http(build):
    with node(build) as n:
        assert n.request("GET", "/healthz")[0] == 200
        assert n.request("GET", "/nothing")[0] == 404
        status, headers, body = n.request("DELETE", "/api/v1/clicks")
        assert status == 405 and "POST" in headers["Allow"] and json.loads(body)["type"], (status, headers, body)
        assert n.request("POST", "/api/v1/clicks", b"x" * (1 << 20 | 1))[0] == 413
        assert n.request("POST", "/api/v1/clicks", "{}", {"Content-Type": "image/png"})[0] == 415
        assert n.request("OPTIONS", "/api/v1/clicks", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"})[0] in (200, 204)
        for raw in (b"POST /api/v1/clicks HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                    b"POST /api/v1/clicks HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
                    b"POST /api/v1/clicks HTTP/1.1\r\nHost : a\r\nContent-Length: 2\r\n\r\n{}"):
            with socket.create_connection(n.http[0], timeout=PATIENCE) as connection:
                connection.sendall(raw)
                answer = b""
                while chunk := connection.recv(4096):
                    answer += chunk
                assert answer.startswith(b"HTTP/1.1 400 "), answer
        n.audit()


def test_pipelined_answers_keep_their_order(build):
    with node(build) as n:
        with socket.create_connection(n.http[0], timeout=PATIENCE) as connection:
            requests = b""
            for i in range(100):
                body = json.dumps(event(event_id=f"p-{i % 50}", timestamp=1_700_000_000_000)).encode()
                requests += b"POST /api/v1/clicks?report=1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            connection.sendall(requests)
            answer = b""
            while answer.count(b'"rejected":[]}') < 100:
                chunk = connection.recv(65536)
                assert chunk, answer[-500:]
                answer += chunk
        reports = [json.loads(part[:part.index(b"}") + 1]) for part in answer.split(b"\r\n\r\n")[1:]]
        assert [r["accepted"] for r in reports] == [1] * 50 + [0] * 50, reports
        assert [r["duplicates"] for r in reports] == [0] * 50 + [1] * 50, reports


def test_control_process_dies_and_returns(build):
    with node(build) as n:
        for i in range(20):
            assert n.post(event(device_id=f"d{i}"))[0] == 204
        before = n.totals("campaigns", "camp_1")
        n.control.kill()
        n.control.popen.wait()
        assert n.post(event(device_id="x"))[0] == 204
        n.start_control()
        after = n.totals("campaigns", "camp_1")
        assert after["clicks"] == before["clicks"] + 1 == 21, (before, after)


def test_control_process_dies_under_load(build):
    """kill -9 of the control process: not one beacon is refused, sent again or lost, and the answers come back the same."""
    with node(build) as n:
        blast = subprocess.Popen([str(n.build / "perf/turnpike-blast"), "--to", "http://%s:%d" % n.http[0], "--rate", "2000", "--batch", "5",
                                  "--duration", "6", "--campaigns", "1", "--json", "--quiet", "--ledger", str(n.folder / "ledger")],
                                 stdout=subprocess.PIPE, text=True)
        for _ in range(4):
            time.sleep(0.7)
            n.control.kill()
            n.control.popen.wait()
            time.sleep(0.3)
            n.start_control()
        out, _ = blast.communicate(timeout=PATIENCE)
        assert blast.returncode == 0, out
        summary = json.loads(out.strip().splitlines()[-1])
        assert summary["unacknowledged"] == 0 and summary["failed"] == 0, summary
        assert summary["retries"] == 0 and summary["lost"] == 0 and set(summary["statuses"]) == {"204"}, summary
        lines = [line.split() for line in open(n.folder / "ledger")]
        totals = n.totals("campaigns", lines[0][2])
        assert totals["gross_clicks"] == sum(line[1] == "click" for line in lines), totals
        assert totals["impressions"] == sum(line[1] == "impression" for line in lines), totals


def test_second_process_on_the_folder_is_refused(build):
    from harness import Process
    with node(build, control=False) as n:
        second = Process([str(n.build / "dataplane/turnpiked"), "-c", str(n.config)], n.folder / "second.log")
        assert second.popen.wait(PATIENCE) == 1, second.tail()
        assert "another process" in second.tail()


def test_live_to_sealed_hands_over_exactly(build):
    with node(build) as n:
        for i in range(30):
            assert n.post(event(device_id=f"d{i}", event_type="impression"))[0] == 204
        sealed = n.totals("campaigns", "camp_1")
        n.ctl("segments", "seal")
        assert n.totals("campaigns", "camp_1") == sealed
        assert n.post(event(event_type="impression"))[0] == 204
        assert n.totals("campaigns", "camp_1")["impressions"] == 31


def test_address_of_a_trusted_peer_is_unknown(build):
    """Loopback is trusted: without X-Forwarded-For no address rule may tag anybody."""
    with node(build) as n:
        stamp = now_ms()  # one clock hour for all
        for i in range(30):
            assert n.post(event(device_id=f"d{i}", timestamp=stamp))[0] == 204
        assert n.totals("campaigns", "camp_1")["flagged_clicks"] == 0
        for i in range(12):
            assert n.post(event(device_id=f"e{i}", campaign_id="camp_2", timestamp=stamp), headers={"X-Forwarded-For": "203.0.113.9, 10.0.0.1"})[0] == 204
        assert n.totals("campaigns", "camp_2")["flagged_clicks"] == 2


def test_blocklist_on_sockets(build):
    with node(build) as n:
        assert n.post(event())[0] == 204
        n.ctl("blocklist", "add", "127.0.0.0/8", "--reason", "test")
        def refused():
            try:
                n.post(event())
                return False
            except OSError:
                return True
        wait_until("the peer is refused", refused)
        items = n.ctl("blocklist", "list", "--json")["items"]
        assert [(i["prefix"], i["reason"]) for i in items] == [("127.0.0.0/8", "test")], items
        n.ctl("blocklist", "del", "127.0.0.0/8")
        wait_until("the peer is let in again", lambda: not refused())


def test_ids_of_any_length_and_case(build):
    with node(build) as n:
        upper = str(uuid.uuid4()).upper()
        for identity in ("a", "x" * 64, upper, upper.lower(), "00000000-0000-0000-0000-000000000000", "ü" * 32):
            assert n.post(event(event_id=identity, device_id=identity[:8]), report=True)[1]["accepted"] == 1, identity
        assert n.post(event(event_id="x" * 65))[0] == 400
        assert n.post(event(event_id=""))[0] == 400
