"""Reconciliation and pull: the recount against the reported figures, segments pulled and verified. docs/reconciliation.md."""
import base64
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time

from harness import PATIENCE, ROOT, SMALL, event, folder, node, now_ms, wait_until

MINUTE, HOUR = 60_000, 3_600_000
KINDS = ("click", "impression", "conversion")


PRESENT = now_ms() // HOUR * HOUR  # the hour in which this began, whatever hour begins meanwhile


def mixed(count, hours_ago=2, **fields):
    """Events over the minutes of an hour that has passed: clicks with a price, impressions, conversions; several campaigns, two currencies."""
    begin = PRESENT - hours_ago * HOUR
    return [event(**({"event_type": KINDS[i % 3], "campaign_id": f"camp_{i % 4}", "ad_id": f"ad_{i % 7}",
                      "advertiser_id": f"adv_{i % 2}", "timestamp": begin + i * 7000 % HOUR, "bid_price": "0.125",
                      "currency": "EUR" if i % 5 == 0 else "USD", "device_id": f"device_{i}"} | fields)) for i in range(count)]


def sums(events):
    """What a campaign's figures must be, by the slow way."""
    found = {}
    for one in {one["event_id"]: one for one in events}.values():
        campaign = found.setdefault(one["campaign_id"], {"impressions": 0, "clicks": 0, "conversions": 0})
        campaign[one["event_type"] + "s"] += 1
    return found


def bring(made, events, seal=True):
    assert made.post(events)[0] in (200, 204)
    if seal:
        made.ctl("segments", "seal")


def pass_time(made):
    """An event of now: the watermark follows."""
    assert made.post(event(event_type="impression", campaign_id="clock", advertiser_id="clock"))[0] == 204


def totals(made, **parameters):
    return made.get("/api/v1/reconcile/totals?" + "&".join(f"{key}={value}" for key, value in parameters.items()))


def segments(made, after=0, limit=100):
    return made.get(f"/api/v1/reconcile/segments?after={after}&limit={limit}")


def fetch(made, identity, method="GET", **headers):
    return made.request(method, f"/api/v1/reconcile/segments/{identity}", headers={key.replace("_", "-"): value for key, value in headers.items()},
                        at=made.api)


def test_recount_is_equal(build):
    """Sealed and unsealed, repeated beacons, late ones; through the tool and the API; on a running node and a stopped one."""
    with node(build, extra=SMALL) as made:
        events = mixed(400)
        bring(made, events[:200])
        bring(made, events[200:] + events[:50], seal=False)
        begin = PRESENT - 3 * HOUR
        wanted = sums(events)
        answer = totals(made, **{"from": begin, "to": now_ms() + HOUR, "by": "campaign"})
        assert answer["equal"] and answer["events"] == 400 and not answer["differences"], answer
        assert {item["campaign"]: {key: item["raw"][key] for key in ("impressions", "clicks", "conversions")}
                for item in answer["items"]} == wanted, answer
        assert all(item["raw"] == item["reported"] and item["equal"] and not item["moving"] for item in answer["items"]), answer
        assert all(item["raw"]["spend"] is None and set(item["raw"]["spend_by_currency"]) == {"EUR", "USD"} for item in answer["items"])
        pass_time(made)
        late = mixed(20, hours_ago=3)
        bring(made, late)
        found = made.ctl("reconcile", "--json")
        assert found["equal"] and found["events"] == 420 and found["duplicates"] == 0 and not found["moving"], found
        part = made.ctl("reconcile", "--json", "--from", str(begin), "--to", str(begin + HOUR))
        assert part["equal"] and part["events"] == 20, part
        own = made.ctl("reconcile", "--json", "--advertiser", "adv_0")
        assert own["equal"] and own["events"] == 210, own
        made.stop()
        # what lies in the log of a stopped node is on neither side
        found = made.ctl("reconcile", "--json")
        assert found["equal"] and found["events"] == 420, found
        made.start()


def test_pull_answers(build):
    """The list with its cursor, and the file by RFC 9110: ranges, conditions, digests, tricks with paths."""
    with node(build, extra=SMALL) as made:
        for n in range(3):
            bring(made, mixed(60))
        page = segments(made)
        items = page["items"]
        assert [item["sequence"] for item in items] == [1, 2, 3] and page["cursor"] == 3, page
        assert segments(made, after=3) == {"items": [], "cursor": 3}
        first, cursor = segments(made, limit=2), segments(made, limit=2)["cursor"]
        assert first["items"] + segments(made, after=cursor)["items"] == items
        chain = "0" * 64
        for item in items:
            assert item["prev_sha256"] == chain and item["rows"] == 60, item
            chain = item["chain_sha256"]
            status, headers, whole = fetch(made, item["id"])
            digest = hashlib.sha256(whole)
            assert status == 200 and digest.hexdigest() == item["sha256"] == item["chain_sha256"] and len(whole) == item["bytes"]
            assert whole[64:96].hex() == item["prev_sha256"]
            assert headers["ETag"] == f'"{item["sha256"]}"' and headers["Accept-Ranges"] == "bytes"
            assert headers["Repr-Digest"] == "sha-256=:" + base64.b64encode(digest.digest()).decode() + ":"
        size, tag, identity = len(whole), headers["ETag"], items[-1]["id"]
        for asked, wanted in {"bytes=0-0": (0, 0), "bytes=10-": (10, size - 1), "bytes=-5": (size - 5, size - 1),
                              f"bytes={size - 1}-{size + 99}": (size - 1, size - 1), f"bytes=-{size + 1}": (0, size - 1),
                              "BYTES=1-2 ": (1, 2)}.items():
            status, headers, part = fetch(made, identity, Range=asked)
            assert (status, part) == (206, whole[wanted[0]:wanted[1] + 1]), (asked, status)
            assert headers["Content-Range"] == f"bytes {wanted[0]}-{wanted[1]}/{size}" and headers["Repr-Digest"], headers
        for asked in ("bytes=5-1", "bytes=", "bytes=-", "lines=1-2", "bytes=1-2,4-5", "bytes=x-2", "bytes 1-2"):
            assert fetch(made, identity, Range=asked)[::2] == (200, whole), asked
        for asked in (f"bytes={size}-", "bytes=-0", "bytes=99999999999999999999-"):
            status, headers, _ = fetch(made, identity, Range=asked)
            assert status == 416 and headers["Content-Range"] == f"bytes */{size}", (asked, status, headers)
        assert fetch(made, identity, Range="bytes=0-3", If_Range=tag)[::2] == (206, whole[:4])
        for other in ('"other"', "W/" + tag, "Sat, 21 Nov 2026 00:00:00 GMT"):
            assert fetch(made, identity, Range="bytes=0-3", If_Range=other)[::2] == (200, whole), other
        for tags in (tag, "*", "W/" + tag, '"a,b", ' + tag):
            status, headers, body = fetch(made, identity, If_None_Match=tags)
            assert (status, headers["ETag"], body) == (304, tag, b""), tags
        assert fetch(made, identity, If_None_Match='"other"')[0] == 200
        status, headers, body = fetch(made, identity, method="HEAD", Range="bytes=0-3")
        assert (status, headers["Content-Length"], body) == (200, str(size), b"")
        for trick in ("0000000000000009", "1", "000000000000000A", "00000000000000010", "..%2f..%2fnode", "%2e%2e%2fmanifest",
                      "0000000000000001.seg", "..%2fsegments%2f0000000000000001", "000000000000000%00"):
            assert fetch(made, trick)[0] in (400, 404), trick
        for query, name in (("after=-1", "after"), ("after=x", "after"), ("limit=1001", "limit"), ("limit=", "limit"), ("x=1", "x"),
                            ("after=1&after=2", "after"), ("after=99999999999999999999", "after")):
            problem = made.get(f"/api/v1/reconcile/segments?{query}", status=400)
            assert problem["parameter"] == name, problem
        for query, name in (("from=yesterday", "from"), ("by=ad", "by"), ("from=2&to=1", "from"), ("window=1h", "window")):
            assert made.get(f"/api/v1/reconcile/totals?{query}", status=400)["parameter"] == name
        # a file that is shorter than it was published is not passed off as the segment
        path = made.data_dir / "segments" / f"{identity}.seg"
        path.write_bytes(whole[:-1])
        assert fetch(made, identity)[0] == 500
        path.unlink()
        assert fetch(made, identity)[0] in (404, 503)
        path.write_bytes(whole)


def script(path):
    """The client of the documentation, as it stands there."""
    text = (ROOT / "docs/reconciliation.md").read_text()
    found = re.search(r"<!-- pull.sh -->\n```sh\n(.*?)```", text, re.S)
    assert found, "docs/reconciliation.md lost its client"
    (path / "pull.sh").write_text(found.group(1))
    return path / "pull.sh"


def pull(client, *words, status=0, **environment):
    done = subprocess.run(["sh", str(client), *map(str, words)], capture_output=True, text=True, timeout=PATIENCE,
                          env=os.environ | environment)
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_the_documented_client_pulls_and_verifies(build):
    """Killed in the middle again and again it goes on; then lies about what it has: each is found."""
    with node(build, extra=SMALL) as made:
        for _ in range(6):
            bring(made, mixed(300))
        client, copy, url = script(made.folder), made.folder / "copy", f"http://{made.api[0]}:{made.api[1]}"
        for delay in (0.02, 0.05, 0.1, 0.15):
            process = subprocess.Popen(["sh", str(client), url, str(copy)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)
            time.sleep(delay)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        # half a file, and half a line, as a kill may leave them
        items = segments(made)["items"]
        last = items[-1]["id"]
        copy.mkdir(exist_ok=True)
        (copy / f"{last}.seg").unlink(missing_ok=True)
        index = copy / "index"
        lines = [line for line in (index.read_text() if index.exists() else "").splitlines(True) if last not in line]
        index.write_text("".join(lines) + f"6 {last} 00")
        (copy / f"{last}.part").write_bytes((made.data_dir / "segments" / f"{last}.seg").read_bytes()[:1000])
        assert "verified 6 segments" in pull(client, url, copy)
        for item in items:
            assert hashlib.sha256((copy / f"{item['id']}.seg").read_bytes()).hexdigest() == item["sha256"]
        assert [int(line.split()[0]) for line in index.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
        bring(made, mixed(50))
        assert "verified 7 segments" in pull(client, url, copy)
        assert "verified 7 segments" in pull(client, "verify", copy)
        # lies
        spoiled = copy / f"{items[2]['id']}.seg"
        kept = spoiled.read_bytes()
        spoiled.write_bytes(kept[:500] + bytes([kept[500] ^ 1]) + kept[501:])
        assert "segment 3" in pull(client, "verify", copy, status=1)
        # … and the index made to agree with it: the next one names the file as it was
        forged = index.read_text().replace(items[2]["sha256"], hashlib.sha256(spoiled.read_bytes()).hexdigest())
        honest = index.read_text()
        index.write_text(forged)
        assert "segment 4" in pull(client, "verify", copy, status=1)
        spoiled.write_bytes(kept)
        index.write_text("".join(line for line in honest.splitlines(True) if items[2]["id"] not in line))
        assert "chain" in pull(client, "verify", copy, status=1)
        index.write_text(honest)
        spoiled.unlink()
        assert "missing" in pull(client, "verify", copy, status=1)
        # a half that is not of this file is thrown away
        (copy / "index").write_text("".join(honest.splitlines(True)[:2]))
        (copy / f"{items[2]['id']}.part").write_bytes(b"x" * 700)
        assert "verified 7 segments" in pull(client, url, copy)


def test_what_tokens_may(build):
    """Segments hold everybody's rows: not for an advertiser. Totals: its own."""
    with node(build, extra=SMALL, control_auth="tokens") as made:
        bring(made, mixed(100))
        token = {scope: made.ctl("token", "create", "--scope", scope, "--json")["token"]
                 for scope in ("read", "admin", "ingest", "read:advertiser:adv_1")}

        def ask(path, scope):
            headers = {"Authorization": f"Bearer {token[scope]}"} if scope else {}
            status, _, body = made.request("GET", path, headers=headers, at=made.api)
            return status, body

        base = "/api/v1/reconcile/"
        for path in ("segments", "segments/0000000000000001", "runs"):
            got = {scope: ask(base + path, scope)[0] for scope in (None, *token)}
            assert got == {None: 401, "read": 200, "admin": 200, "ingest": 403, "read:advertiser:adv_1": 403}, (path, got)
        whole = f"totals?from={now_ms() - 4 * HOUR}&to={now_ms()}"
        assert ask(base + whole, None)[0] == 401 and ask(base + whole, "ingest")[0] == 403
        everything, own = (json.loads(ask(base + whole, scope)[1]) for scope in ("read", "read:advertiser:adv_1"))
        assert everything["events"] == 100 and own["events"] == 50 and own["equal"], own
        assert {item["campaign"] for item in own["items"]} == {"camp_1", "camp_3"}, own
        assert "verified 1 segments" in pull(script(made.folder), f"http://{made.api[0]}:{made.api[1]}", made.folder / "copy",
                                             TOKEN=token["read"])
        assert "401" in pull(script(made.folder), f"http://{made.api[0]}:{made.api[1]}", made.folder / "none", status=22)


def test_hours_are_reconciled_by_themselves(build):
    """A closed and sealed hour is counted in the background, and again when a late event came."""
    with node(build, extra=SMALL) as made:
        events = mixed(200)
        bring(made, events)
        pass_time(made)
        made.ctl("segments", "seal")
        hour = PRESENT - 2 * HOUR

        def runs():
            items = made.get(f"/api/v1/reconcile/runs?from={hour}&to={hour + HOUR}")["items"]
            return items if items and items[0]["events"] == 200 else None
        found = wait_until("the hour is counted", runs)
        assert found[0]["equal"] and found[0]["differences"] == [], found
        chain = segments(made)["items"][found[0]["sequence"] - 1]["chain_sha256"]
        assert found[0]["chain_sha256"] == chain
        def page():
            return made.request("GET", "/metrics", at=made.api)[2]
        # a run is in the ledger before it is counted
        wait_until("the run is counted", lambda: re.search(rb'turnpike_control_reconcile_runs_total\{period="hour"\} [1-9]', page()))
        assert b'turnpike_control_reconcile_differing_keys{period="hour"} 0' in page()
        assert made.get("/api/v1/reconcile/runs?limit=0", status=400)["parameter"] == "limit"


def partner_file(made, head, rows):
    path = made.folder / "partner.csv"
    path.write_text(head + "\r\n" + "".join(",".join(map(str, row)) + "\r\n" for row in rows))
    return str(path)


def test_discrepancy_is_explained(build):
    """A partner that counts in another zone, or tagged clicks, or repeated beacons; and one that is simply wrong."""
    with node(build, extra=SMALL + "fraud: {clicks_per_device_hour: 2, min_ms_since_impression: 0}\n") as made:
        day = now_ms() // (24 * HOUR) * 24 * HOUR - 72 * HOUR
        events = [event(campaign_id=f"camp_{i % 2}", device_id=f"device_{i % 5}", timestamp=day + (i * 577 % 2880) * MINUTE)
                  for i in range(600)]
        events.sort(key=lambda one: one["timestamp"])
        bring(made, events[:400])
        bring(made, events[400:], seal=False)

        def days(shift_ms=0, extra=0):
            counted = {}
            for one in events:
                start = (one["timestamp"] + shift_ms) // (24 * HOUR) * 24 * HOUR
                counted[one["campaign_id"], start] = counted.get((one["campaign_id"], start), 0) + 1
            return [(campaign, time.strftime("%Y-%m-%d", time.gmtime(start / 1000)), count + extra)
                    for (campaign, start), count in sorted(counted.items())]

        def tell(rows, status, *more):
            return made.ctl("discrepancy", "--partner", partner_file(made, "campaign_id,date,clicks", rows), "--json", *more,
                            status=status)
        valid, flagged = (sum(made.get(f"/api/v1/analytics/campaigns/camp_{c}?from={day}&to={day + 48 * HOUR}&step=1d")["totals"][what]
                              for c in (0, 1)) for what in ("clicks", "flagged_clicks"))
        assert valid + flagged == 600 and flagged > 0, (valid, flagged)
        gross = tell(days(), 0)
        assert gross["explained"] and gross["partner_seems_to"] == {"shift_minutes": 0, "count_by_arrival": False, "count_flagged": True,
                                                                    "count_conflicts": False}, gross
        assert sum(item["explained"]["fraud"] for item in gross["items"]) == flagged
        assert all(item["left"] == 0 for item in gross["items"]), gross
        zone = tell(days(shift_ms=2 * HOUR), 0)  # its days begin two hours before those of UTC
        assert zone["explained"] and zone["partner_seems_to"]["shift_minutes"] == -120, zone
        # the same file under its zone: no shift
        assert tell(days(shift_ms=2 * HOUR), 0, "--tz", "Africa/Johannesburg")["partner_seems_to"]["shift_minutes"] == 0
        lost = days()
        lost[0] = (*lost[0][:2], lost[0][2] - 40)  # no way of counting makes one day of one campaign smaller
        wrong = tell(lost, 1)
        assert not wrong["explained"] and wrong["unexplained"] == 40 and wrong["items"][0]["left"] == -40, wrong
        more = tell(days(extra=1), 1)
        assert more["unexplained"] == len(more["items"]), more
        assert made.post(events[:10])[0] == 204  # repeated beacons: as many as a partner may have counted more
        made.audit()
        repeated = tell(days(extra=1), 0)
        assert repeated["explained"] and repeated["duplicates_or_drops"] == len(repeated["items"]), repeated
        for head, rows in (("campaign_id,clicks", [("camp_0", 1)]), ("campaign_id,date,clicks", [("camp_0", "2026-13-01", 1)]),
                           ("campaign_id,date,clicks", [("camp_0", "2026-01-01", -1)]), ("campaign_id,date,clicks", []),
                           ("campaign_id,start,clicks", [("camp_0", "yesterday", 1)]), ("campaign_id,date,clicks", [("camp_0",)])):
            made.ctl("discrepancy", "--partner", partner_file(made, head, rows), status=2)
        made.ctl("discrepancy", "--partner", partner_file(made, "campaign_id,date,clicks", days()), "--tz", "Mars/Olympus", status=2)
        made.ctl("discrepancy", "--partner", "/nowhere.csv", status=1)
        hour = [("camp_0", "2026-01-01T00:00:00Z", 0, 0)]
        assert made.ctl("discrepancy", "--partner", partner_file(made, "campaign_id,start,clicks,impressions", hour), "--json")["explained"]
