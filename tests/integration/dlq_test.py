"""Dead letters: what is rejected can be looked at, from every way in, over sealing and restart, and sent again. docs/dead-letters.md."""
import base64
import json
import pathlib
import socket
import subprocess
import time
import urllib.parse

from harness import SMALL, event, findings, node, now_ms, udp_send, wait_until
from udp_test import Client, pack_batch, pack_event

ROOM = "dlq: {per_second: 100000, bytes_per_second: 64MiB}\n" + SMALL
KEPT = 3904


def without(name):
    made = event()
    del made[name]
    return made


def text(**fields):
    return json.dumps(event(**fields)).encode()


def reasons():
    """One beacon of one event for each reason, and which field is to blame."""
    return {"malformed": (b'{"event_id": "x",', None), "missing_field": (json.dumps(without("ad_id")).encode(), "ad_id"), "bad_type": (text(ad_id=5), "ad_id"),
            "bad_value": (text(bid_price=-1), "bid_price"), "too_long": (text(campaign_id="c" * 65), "campaign_id"), "duplicate_key": (text()[:-1] + b', "ad_id": "b"}', "ad_id"),
            "bad_utf8": (text(ad_id="X").replace(b'"X"', b'"\xff"'), "ad_id"), "future": (text(timestamp=now_ms() + 10**8), "timestamp"), "too_large": (b"[" + b"1," * 16384 + b"1]", None)}


def letters(made, query="", count=None):
    """The items of all pages, newest first; waits until there are `count`."""
    def read():
        items, cursor = [], None
        while True:
            page = made.get("/api/v1/dlq?" + query + (f"&cursor={cursor}" if cursor else ""))
            items += page["items"]
            cursor = page["cursor"]
            if not cursor:
                return items
    return read() if count is None else wait_until(f"{count} dead letters for {query}", lambda: items if len(items := read()) == count else None)


def data(item):
    return base64.b64decode(item["data"]) if item["encoding"] == "base64" else item["data"].encode()


def sealed(made, count):
    """Seals, and waits for that many segments."""
    made.ctl("segments", "seal")
    wait_until(f"{count} segments", lambda: len(made.ctl("segments", "list", "--json")["items"]) >= count)


def replay(made, *words, status=0, to=None):
    got = subprocess.run([f"{made.build}/control/turnpikectl", "-c", str(made.config), "dlq", "replay", *words, "--json"] + (["--to", to] if to else []), capture_output=True, text=True)
    assert got.returncode == status, (words, got.returncode, got.stdout, got.stderr)
    return json.loads(got.stdout) if got.stdout else got.stderr


def test_every_reason_by_every_way(build):
    with node(build, extra=ROOM) as made, findings() as same:
        wanted = {}
        for reason, (body, field) in reasons().items():
            status, answer = made.post(body)
            same(reason, (status, answer["reason"]), (400, reason))
            udp_send(made.udp[0], body)
            wanted[reason] = body, field
        base = {"event_type": "click", "ad_id": "a", "campaign_id": "c", "advertiser_id": "v"}
        pixels = {"malformed": "event_type=click&ad_id=%zz", "missing_field": urllib.parse.urlencode(base | {"ad_id": ""}), "bad_type": urllib.parse.urlencode(base | {"timestamp": "soon"}),
                  "bad_value": urllib.parse.urlencode(base | {"bid_price": "-1"}), "too_long": urllib.parse.urlencode(base | {"ad_id": "a" * 65}), "duplicate_key": urllib.parse.urlencode(base) + "&ad_id=b",
                  "bad_utf8": urllib.parse.urlencode(base)[:-1] + "%ff", "future": urllib.parse.urlencode(base | {"timestamp": now_ms() + 10**8})}
        for reason, query in pixels.items():
            same(f"pixel {reason}", made.request("GET", "/api/v1/pixel.gif?" + query)[0], 400)
        batch = [pack_event({"ad_id": ""}), pack_event(), pack_event({"timestamp": now_ms() + 10**8}), pack_event({"ad_id": b"\xff"}), pack_event({"bid_price": -1})]
        Client(made).acknowledged(pack_batch(batch, 3, 4))

        items = letters(made, count=2 * 9 + 8 + 4)
        for way in ("http", "udp_text"):
            for reason, (body, field) in wanted.items():
                found = [item for item in items if item["way"] == way and item["reason"] == reason]
                same(f"{way} {reason}", len(found), 1)
                for item in found:
                    same(f"{way} {reason} bytes", (data(item) == body[:KEPT], item["bytes"], item["truncated"]), (True, len(body), len(body) > KEPT))
                    same(f"{way} {reason} field", item["field"], field)
                    same(f"{way} {reason} text", item["encoding"], "base64" if reason == "bad_utf8" else "text")
                    same(f"{way} {reason} part", item["part"], "body" if reason in ("malformed", "too_large") else "event")
                    same(f"{way} {reason} peer", (item["peer"], item["peer_port"] > 0, abs(item["received"] - now_ms()) < 60000), ("127.0.0.1", True, True))
        found = {item["reason"]: item["data"] for item in items if item["way"] == "pixel"}
        same("pixels", found, pixels)
        found = {item["index"]: (item["reason"], data(item)) for item in items if item["way"] == "udp_batch"}
        same("batch", found, {0: ("missing_field", batch[0]), 2: ("future", batch[2]), 3: ("bad_utf8", batch[3]), 4: ("bad_value", batch[4])})
        same("order", [item["received"] for item in items], sorted((item["received"] for item in items), reverse=True))
        same("names", len({item["id"] for item in items}), len(items))
        sheet = made.audit()
        same("books", (sheet["dead_letters"]["received"], sheet["dead_letters"]["accepted"], sum(sheet["events"]["rejected"].values()) >= 30), (30, 30, True))
        same("counted by nobody", made.totals("campaigns", "camp_1")["clicks"], 0)


def test_rejected_alone_and_bodies_as_a_whole(build):
    with node(build, extra=ROOM) as made, findings() as same:
        good, bad = text(), json.dumps({"x": "ü"}, ensure_ascii=False).encode()
        same("lines", made.post(good + b"\n  {broken  \r\n" + bad + b"\n" + text())[1]["accepted"], 2)
        items = letters(made, count=2)
        same("lines", sorted((item["index"], data(item), item["part"]) for item in items), [(1, b"{broken", "event"), (2, bad, "event")])
        same("array", made.post(b"[" + bad + b" , " + text() + b"]")[1]["accepted"], 1)
        same("element", (letters(made, "limit=1", 3)[0]["index"], data(letters(made, count=3)[0])), (0, bad))
        whole = b"[" + bad + b"," + text() + b",{]"
        same("a syntax error in an array", made.post(whole)[0], 400)
        item = letters(made, count=4)[0]
        same("one letter, all of it", (data(item), item["part"], item["reason"], item["index"]), (whole, "body", "malformed", 2))
        same("no JSON", made.post("click me\nnow\n")[0], 400)
        same("one letter of all lines", (data(letters(made, count=5)[0]), letters(made, count=5)[0]["part"]), (b"click me\nnow", "body"))
        # none of these is a dead letter: no event was looked for
        same("debug", made.request("POST", "/api/v1/debug/clicks", bad)[0], 200)
        same("too long", made.request("POST", "/api/v1/clicks", b"x" * (1 << 20) + b"x")[0], 413)
        same("type", made.request("POST", "/api/v1/clicks", bad, {"Content-Type": "image/png"})[0], 415)
        with socket.create_connection(made.http[0]) as raw:
            raw.sendall(b"POST /api/v1/clicks HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}}")
            raw.recv(4096)
        udp_send(made.udp[0], pack_batch([pack_event()], spoil=1))
        made.audit()
        same("as before", len(letters(made)), 5)
        for query in ("reason=bad", "reason=", "limit=0", "limit=1001", "limit=x", "cursor=1", "cursor=1-2-3-4", "from=never", "from=2&to=1", "why=1", "limit=1&limit=2"):
            same(query, made.request("GET", "/api/v1/dlq?" + query, at=made.api)[0], 400)
        same("a range without any", letters(made, f"to={now_ms() - 10**7}"), [])
        same("since then", len(letters(made, f"from={now_ms() - 60000}&reason=malformed,future")), 3)


def test_pages_over_sealing_and_restarts(build):
    """The same names in the same order, whether a log file, a segment or a backup holds them; a cursor goes on where it was."""
    with node(build, extra=ROOM) as made, findings() as same:
        def names():
            return [(item["id"], item["reason"], item["data"], item.get("copies")) for item in letters(made, "limit=7")]
        first = event(event_id="one", advertiser_id="adv_a", geo={"country": "DE", "city": "Köln"}, ip_address="2001:db8::1", mouse_moves=3, user_agent="ü")
        made.post(first)
        other = dict(first, click_position=9, bid_price="1.500000", currency="EUR")
        same("conflicts", made.post([other] * 5 + [dict(other, advertiser_id="adv_b")], report=True)[1]["conflicts"], 6)
        for i in range(12):
            made.post(b"[" + b",".join(b'{"n":%d}' % (100 * i + k) for k in range(3)) + b"]")
        wait_until("all of them", lambda: len(names()) == 36 + 2)
        before = names()
        same("copies", sorted(copies for _, reason, _, copies in before if reason == "conflict"), [1, 5])
        same("a conflict says what was sent", any(json.loads(said) == other for _, reason, said, _ in before if reason == "conflict"), True)
        page = made.get("/api/v1/dlq?limit=10")
        sealed(made, 1)
        same("sealed", names(), before)
        made.post("junk")
        wait_until("the new one", lambda: names()[1:] == before)
        rest = made.get("/api/v1/dlq?limit=1000&cursor=" + page["cursor"])["items"]
        same("the cursor goes on", [item["id"] for item in page["items"] + rest], [name[0] for name in before])
        now = names()
        made.kill()
        made.start()
        same("killed and started", names(), now)
        sealed(made, 2)  # a segment of a dead letter and nothing else
        same("sealed without an event", names(), now)
        same("counts", (made.totals("advertisers", "adv_a")["clicks"], made.totals("advertisers", "adv_b")["clicks"]), (1, 0))
        same("again a duplicate", made.post(first, report=True)[1]["duplicates"], 1)
        same("and a conflict", made.post(other, report=True)[1]["conflicts"], 1)
        same("only conflicts", [item["reason"] for item in letters(made, "reason=conflict", 3)], ["conflict"] * 3)
        same("of an advertiser", len(letters(made, "advertiser=adv_b", 1)), 1)
        made.stop()

        listed = made.ctl("dlq", "list", "--limit", "1000", "--json")
        same("stopped", [item["id"] for item in listed["items"]][1:], [name[0] for name in now])
        for name, reason, said, _ in (now[0], before[-1]):
            shown = made.ctl("dlq", "show", name, "--json")
            same(f"show {name}", (shown["id"], shown["reason"], shown["data"]), (name, reason, said))
            same(f"raw {name}", made.ctl("dlq", "show", name, "--raw"), said)
        same("a list for people", "missing_field" in made.ctl("dlq", "list", "--reason", "missing_field"), True)
        for words, status in ((("show", "1-999"), 1), (("show", "x"), 2), (("show",), 2), (("list", "--reason", "x"), 2), (("list", "1-1"), 2), (("show", "ffff-c0123456789abcdef"), 1)):
            made.ctl("dlq", *words, status=status)
        same("verify", "no damage" in made.ctl("segments", "verify"), True)
        made.ctl("segments", "archive")
        made.ctl("backup", str(made.folder / "copy"))
        made.ctl("restore", str(made.folder / "copy"), str(made.folder / "again"))
        made.config.write_text(made.config.read_text().replace(f"data_dir: {made.data_dir}", f"data_dir: {made.folder}/again"))
        same("archived, backed up, restored", made.ctl("dlq", "list", "--limit", "1000", "--json"), listed)


def test_replay(build):
    with node(build, extra=ROOM) as made, findings() as same:
        late = now_ms() + 66_000  # too far ahead now, not in six seconds
        made.post(event(event_id="soon", timestamp=late))
        made.request("GET", f"/api/v1/pixel.gif?event_type=click&ad_id=a&campaign_id=camp_px&advertiser_id=v&timestamp={late}")
        made.post(b"[" + b",".join(json.dumps(without("ad_id") | {"event_id": f"r{i}"}).encode() for i in range(3)) + b"]")
        made.post(b'{"event_id": "' + b"x" * 5000 + b'"}')
        Client(made).acknowledged(pack_batch([pack_event({"ad_id": "", "publisher_id": "p"}), pack_event()], 3, 4))
        items = letters(made, count=7)
        future = [item["id"] for item in letters(made, "reason=future", 2)]
        same("still wrong", [line["taken"] for line in replay(made, "--reason", "missing_field", status=1)], [False] * 4)
        wait_until("the future", lambda: now_ms() + 60_000 > late)
        same("taken now", [line["taken"] for line in replay(made, *future)], [True, True])
        sheet = made.audit()
        accepted = sheet["events"]["accepted"]
        same("and again", [line["taken"] for line in replay(made, *future)], [True, True])
        sheet = made.audit()
        same("counted once", (sheet["events"]["accepted"], sheet["events"]["duplicates"]), (accepted, 2))
        same("the pixel's, too", made.get(f"/api/v1/analytics/campaigns/camp_px?from={late - 60000}&to={late + 60000}")["totals"]["gross_clicks"], 1)
        truncated = [item["id"] for item in items if item["truncated"]]
        same("only its beginning", ["first bytes" in line["verdict"] for line in replay(made, *truncated, status=1)], [True])
        binary = [item["id"] for item in items if item["way"] == "udp_batch"]
        same("binary", ["binary" in line["verdict"] for line in replay(made, *binary, status=1)], [True])
        edited = made.folder / "edited"
        edited.write_text("".join(json.dumps(event(event_id=f"r{i}", campaign_id="camp_fix")) + "\n" for i in range(3)))
        url = "http://%s:%d" % made.http[0]
        for said in ("3 accepted", "3 duplicates"):
            same(said, [line["verdict"] for line in replay(made, "--file", str(edited), to=url)], [said])
        same("mended", made.totals("campaigns", "camp_fix")["gross_clicks"], 3)
        same("nobody there", "turnpikectl: http://127.0.0.1:1: " in made_error(made, "--file", str(edited), "--to", "http://127.0.0.1:1"), True)
        for words in ((), ("1-1", "--reason", "future"), ("--file", "x", "--reason", "future"), ("--file", str(edited), "--to", "ftp://x")):
            replay(made, *words, status=2)
        replay(made, "77-1", status=1)


def made_error(made, *words):
    got = subprocess.run([f"{made.build}/control/turnpikectl", "-c", str(made.config), "dlq", "replay", *words], capture_output=True, text=True)
    assert got.returncode == 1, got
    return got.stderr


def test_a_flood_of_junk_is_kept_in_bounds(build):
    """Beyond the rate bytes are counted, not kept; honest events beside it all get their answer, and the books balance."""
    with node(build, extra="dlq: {per_second: 20, bytes_per_second: 64KiB}\n" + SMALL) as made, findings() as same:
        junk = b"[" + b",".join(b'{"n":%d}' % i for i in range(1000)) + b"]"
        began = time.monotonic()
        for i in range(5):
            same("honest", made.post(event(campaign_id="camp_ok"), report=True)[1]["accepted"], 1)
            same("junk", len(made.post(junk)[1]["rejected"]), 1000)
        took = time.monotonic() - began
        sheet = made.audit()["dead_letters"]
        same("received", sheet["received"], 5000)
        assert 20 <= sheet["accepted"] <= 20 * (took + 2), (sheet, took)
        same("by why", sheet["dropped"]["over_rate"], 5000 - sheet["accepted"])
        same("listed", len(letters(made, "limit=1000")), sheet["accepted"])
        same("counted", made.totals("campaigns", "camp_ok")["gross_clicks"], 5)
        kept = sheet["accepted"]
        wait_until("the budget again", lambda: made.post("x" * 3000) and made.audit()["dead_letters"]["accepted"] > kept)
    with node(build, extra="dlq: {per_second: 100000, bytes_per_second: 8KiB}\n" + SMALL) as made, findings() as same:
        same("junk", made.post(b"\n".join([text()] + [b"y" * 3000] * 20))[1]["accepted"], 1)
        sheet = made.audit()["dead_letters"]
        same("bytes", (sheet["received"], sheet["accepted"], sheet["dropped"]["over_bytes"]), (20, 2, 18))
    with node(build, extra="dlq: {per_second: 0}\n" + SMALL, control=False) as made, findings() as same:
        made.post("junk")
        same("off", made.audit()["dead_letters"]["dropped"]["over_rate"], 1)


def test_who_sees_dead_letters(build):
    with node(build, extra=ROOM, control_auth="tokens") as made, findings() as same:
        made.post("junk")
        for advertiser in ("adv_a", "adv_b"):
            made.post(event(event_id=advertiser, advertiser_id=advertiser))
            made.post(event(event_id=advertiser, advertiser_id=advertiser, click_position=1))
        made.audit()

        def ask(scope, query=""):
            token = made.ctl("token", "create", "--scope", scope, "--json")["token"]
            status, _, body = made.request("GET", "/api/v1/dlq?" + query, headers={"Authorization": f"Bearer {token}"}, at=made.api)
            return status, sorted(item["reason"] + item.get("data", "").count("adv_a") * "a" for item in json.loads(body).get("items", []))
        wait_until("all", lambda: len(ask("read")[1]) == 3)
        same("admin", ask("admin"), (200, sorted(["malformed", "conflictaa", "conflict"])))
        same("own", ask("read:advertiser:adv_a"), (200, ["conflictaa"]))
        same("own, by name", ask("read:advertiser:adv_a", "advertiser=adv_a"), (200, ["conflictaa"]))
        same("nobody's bytes", ask("read:advertiser:adv_a", "reason=malformed"), (200, []))
        same("another's", ask("read:advertiser:adv_a", "advertiser=adv_b")[0], 403)
        same("ingest", ask("ingest")[0], 403)
        same("none", made.request("GET", "/api/v1/dlq", at=made.api)[0], 401)
