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

from harness import ROOT, SMALL, event, folder, node, now_ms, wait_until

MINUTE, HOUR = 60_000, 3_600_000
KINDS = ("click", "impression", "conversion")


def mixed(count, hours_ago=2, **fields):
    """Events over the minutes of an hour that has passed: clicks with a price, impressions, conversions; several campaigns, two currencies."""
    begin = now_ms() // HOUR * HOUR - hours_ago * HOUR
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
        begin = now_ms() // HOUR * HOUR - 3 * HOUR
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
