"""Single events from outside: flagged clicks page by page while files are sealed and the node is killed, their sums, and `why` for each verdict."""
import json
import urllib.parse

from fraud_test import clicks_of_each_reason, files, hour_start
from harness import SMALL, event, findings, folder, node, now_ms, wait_until

QUOTE = urllib.parse.quote


def pages(made, query="", limit=7):
    """All items of the list, page by page."""
    items, cursor = [], None
    while True:
        answer = made.get(f"/api/v1/fraud/flagged?limit={limit}{query}" + (f"&cursor={cursor}" if cursor else ""))
        assert len(answer["items"]) <= limit
        items += answer["items"]
        cursor = answer["cursor"]
        if cursor is None:
            return items


def in_order(items):
    stamps = [one["timestamp"].replace("Z", "" if "." in one["timestamp"] else ".000") for one in items]  # a whole second has no fraction
    ids = [one["event_id"] for one in items]
    assert stamps == sorted(stamps, reverse=True) and len(set(ids)) == len(ids), (stamps, ids)
    return items


def test_every_reason_is_listed_with_its_evidence(build):
    with folder() as path, node(build, extra=SMALL + files(path / "rules")) as made, findings() as same:
        made.ctl("blocklist", "add", "9.8.7.0/24", "--reason", "test")
        at = hour_start()
        wanted = clicks_of_each_reason(at)
        for reason, (events, _, _) in wanted.items():
            assert made.post(events)[0] == 204, reason

        def look(when):
            for reason, (_, bad, _) in wanted.items():
                items = in_order(pages(made, f"&campaign={reason}"))
                same(f"{when} {reason}", len(items), bad)
                for one in items:
                    same(f"{when} {reason}: reasons", one["reasons"], [reason])
                    same(f"{when} {reason}: evidence", [evidence["reason"] for evidence in one["evidence"]], [reason])
                    same(f"{when} {reason}: judged", one["rule_version"] > 0, True)
                same(f"{when} by reason {reason}", sorted(one["event_id"] for one in pages(made, f"&reason={reason}")),
                     sorted(one["event_id"] for one in items))
            everything = in_order(pages(made))
            same(f"{when}: all", len(everything), sum(bad for _, bad, _ in wanted.values()))
            same(f"{when}: by class", sorted(one["event_id"] for name in ("GIVT", "SIVT") for one in pages(made, f"&class={name}")),
                 sorted(one["event_id"] for one in everything))
            summary = made.get("/api/v1/fraud/summary?window=3h&step=1m")
            same(f"{when}: sums", summary["totals"]["reasons"], {reason: bad for reason, (_, bad, _) in wanted.items()})
            same(f"{when}: classes", sum(summary["totals"]["classes"].values()), len(everything))
            same(f"{when}: series", sum(one["flagged_clicks"] for one in summary["series"]), len(everything))
            return everything

        before = look("unsealed")
        velocity = [one for one in before if one["reasons"] == ["device_velocity"]]
        same("the limit", sorted((one["evidence"][0]["limit"], one["evidence"][0]["seen"]) for one in velocity), [(5, 6), (5, 7)])
        made.ctl("segments", "seal")
        same("sealed", look("sealed"), before)
        made.kill()
        same("while the data process is dead", look("dead"), before)
        made.start()
        same("started again", look("again"), before)


def test_pages_hold_while_files_are_sealed_and_the_node_is_killed(build):
    """A walk in small pages, with new clicks, seals and kills between them: what was there at its beginning comes once, in order."""
    with node(build, extra=SMALL + "fraud: {clicks_per_device_hour: 1}\n") as made:
        at = hour_start() - 100000

        def flagged(first, count, stamp):
            many = [event(timestamp=stamp + n % 3, device_id="one", user_id="one") for n in range(first, first + count)]
            assert made.post(many)[0] == 204
            return {one["event_id"] for one in many}

        first = event(timestamp=at, device_id="one", user_id="one")
        assert made.post(first)[0] == 204
        there = flagged(0, 40, at + 1000)
        made.ctl("segments", "seal")
        there |= flagged(40, 40, at + 500)
        items, cursor, steps = [], None, 0
        while True:
            answer = made.get("/api/v1/fraud/flagged?limit=9" + (f"&cursor={cursor}" if cursor else ""))
            items += answer["items"]
            cursor = answer["cursor"]
            if cursor is None:
                break
            steps += 1
            flagged(100, 2, at + 5000 + steps)  # newer: not in a walk that is past them
            if steps % 3 == 0:
                made.ctl("segments", "seal")
            if steps == 4:
                made.kill()
                made.start()
        in_order(items)
        assert {one["event_id"] for one in items} == there, (len(items), len(there))
        # and from anew, all
        assert len(in_order(pages(made))) == 80 + 2 * steps
        # what is acknowledged shows at once, sealed or not
        for n in range(6):
            one = flagged(200, 1, at + 20000 + n)
            assert {made.get("/api/v1/fraud/flagged?limit=1")["items"][0]["event_id"]} == one
            if n % 2:
                made.ctl("segments", "seal")


def test_an_amended_click_leaves_the_list(build):
    rules = "fraud: {no_impression: true, impression_lookback: 10m}\n"
    with node(build, extra=SMALL + rules) as made:
        at = now_ms() - 3000
        click = event(timestamp=at, user_id="early", campaign_id="camp_a")
        never = event(timestamp=at, user_id="never", campaign_id="camp_a")
        assert made.post([click, never])[0] == 204
        assert {one["event_id"] for one in pages(made)} == {click["event_id"], never["event_id"]}
        before = made.get(f"/api/v1/events/{click['event_id']}")
        assert [one["not_billed_because"] for one in before["counted"]] == ["flagged"]
        made.ctl("segments", "seal")
        assert made.post(event(event_type="impression", timestamp=at - 100, user_id="early", campaign_id="camp_a"))[0] == 204

        def look():
            assert [one["event_id"] for one in pages(made)] == [never["event_id"]]
            assert made.get("/api/v1/fraud/summary?window=1h")["totals"]["flagged_clicks"] == 1
            answer = made.get(f"/api/v1/events/{click['event_id']}")
            assert [one["verdict"] for one in answer["records"]] == ["accepted", "amended"], answer
            (counted,) = answer["counted"]
            assert counted["billed"] and counted["amended"] and counted["amount"] == "0.500000", counted
        look()
        made.ctl("segments", "seal")
        look()
        made.kill()
        made.start()
        look()


def test_why_of_each_verdict(build):
    with node(build, extra=SMALL + "fraud: {clicks_per_device_hour: 1}\n") as made:
        at = hour_start()
        valid = event(timestamp=at, device_id="d1", trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ip_address="9.1.2.3")
        flagged = event(event_id="text id/1", timestamp=at + 1, device_id="d1")
        impression = event(event_type="impression", timestamp=at)
        conflict = dict(valid, ad_id="another")
        assert made.post([valid, flagged, impression])[0] == 204
        assert made.post(valid)[0] == 204  # a duplicate leaves no record
        assert made.post(conflict)[0] == 204

        def look(sealed):
            place = "segment" if sealed else "log"
            answer = made.get(f"/api/v1/events/{valid['event_id']}")
            assert [one["verdict"] for one in answer["records"]] == ["accepted", "conflict"], answer
            assert answer["conflicts"] == 1 and answer["records"][1]["event"]["ad_id"] == "another"
            record = answer["records"][0]
            assert record["source"] == {"ip_address": "9.1.2.3", "ip_from": "payload", "device_type_from": "user_agent",
                                        "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}, record
            assert list(record["place"]) == [place], record
            (counted,) = answer["counted"]
            assert counted["billed"] and counted["amount"] == "0.500000" and counted["line"]["campaign_id"] == "camp_1", counted
            if sealed:
                listed = {one["sequence"]: one for one in made.ctl("segments", "list", "--json")["items"]}
                segment = record["place"]["segment"]
                assert listed[segment["sequence"]]["sha256"] == segment["sha256"], (segment, listed)
            answer = made.get(f"/api/v1/events/{QUOTE('text id/1', safe='')}")
            (counted,) = answer["counted"]
            assert (counted["billed"], counted["not_billed_because"], counted["reasons"]) == (False, "flagged", ["device_velocity"])
            assert answer["records"][0]["fraud"]["evidence"] == [{"reason": "device_velocity", "seen": 2, "limit": 1}]
            answer = made.get(f"/api/v1/events/{impression['event_id']}")
            assert answer["counted"][0]["not_billed_because"] == "impression"
            assert made.get("/api/v1/events/never", 404)["type"] == "urn:turnpike:problem:unknown-event"
            assert made.get(f"/api/v1/events/{'x' * 65}", 404)
            # the tool says the same
            for name in (valid["event_id"], "text id/1", impression["event_id"]):
                assert made.ctl("why", name, "--json") == made.get(f"/api/v1/events/{QUOTE(name, safe='')}")
            assert "billed, 0.500000 USD" in made.ctl("why", valid["event_id"]) and "device_velocity" in made.ctl("why", "text id/1")
            made.ctl("why", "never", status=1)
            made.ctl("why", status=2)
        look(False)
        made.ctl("segments", "seal")
        look(True)
        told = made.ctl("why", "text id/1", "--json")
        late = event(event_id="late", timestamp=at - 20 * 60000)
        assert made.post(late)[0] == 204
        wait_until("the late event is found", lambda: made.request("GET", "/api/v1/events/late", at=made.api)[0] == 200)
        assert made.get("/api/v1/events/late")["counted"][0]["verdict"] == "late"
        made.kill()
        assert made.ctl("why", "text id/1", "--json") == told
        assert made.ctl("why", "late", "--json")["records"][0]["verdict"] == "late"
        made.start()
        assert made.ctl("why", "text id/1", "--json") == told


def test_bad_parameters_say_which(build):
    with node(build, extra=SMALL) as made, findings() as same:
        for resource, query, name in [
                ("flagged", "limit=0", "limit"), ("flagged", "limit=1001", "limit"), ("flagged", "limit=x", "limit"), ("flagged", "reason=none", "reason"),
                ("flagged", "reason=", "reason"), ("flagged", "reason=model,,no_mouse", "reason"), ("flagged", "class=givt", "class"),
                ("flagged", "from=yesterday", "from"), ("flagged", "to=1e9", "to"), ("flagged", "from=2&to=1", "from"), ("flagged", "window=1h&to=1", "window"),
                ("flagged", "cursor=", "cursor"), ("flagged", "cursor=f00", "cursor"), ("flagged", "campaign=", "campaign"), ("flagged", "campaign=%ff", "campaign"),
                ("flagged", "campaign=" + "x" * 65, "campaign"), ("flagged", "colour=red", "colour"), ("flagged", "limit=1&limit=2", "limit"),
                ("summary", "limit=1", "limit"), ("summary", "step=5m", "step"), ("summary", "from=5&to=4", "from"), ("summary", "cursor=f", "cursor")]:
            status, _, content = made.request("GET", f"/api/v1/fraud/{resource}?{query}", at=made.api)
            same(f"{resource}?{query}", (status, json.loads(content).get("parameter")), (400, name))
        same("empty", made.get("/api/v1/fraud/flagged"), {"items": [], "cursor": None})
        same("to=0", made.get("/api/v1/fraud/flagged?to=0"), {"items": [], "cursor": None})
        same("too many buckets", made.request("GET", "/api/v1/fraud/summary?from=0&step=1m", at=made.api)[0], 422)
        same("long ago", made.get("/api/v1/fraud/summary?from=0&to=60000")["totals"]["flagged_clicks"], 0)


def test_an_advertiser_sees_its_own_events_alone(build):
    with node(build, extra=SMALL + "fraud: {clicks_per_device_hour: 1}\n", control_auth="tokens") as made:
        tokens = {scope: made.ctl("token", "create", "--scope", scope, "--json")["token"] for scope in ("read", "read:advertiser:adv_1")}
        at = hour_start()
        events = [event(timestamp=at + n, device_id="d1", advertiser_id=f"adv_{n % 2 + 1}") for n in range(9)]
        assert made.post(events)[0] == 204
        mine = {one["event_id"] for one in events[1:] if one["advertiser_id"] == "adv_1"}

        def ask(path, scope):
            status, _, content = made.request("GET", path, at=made.api, headers={"Authorization": f"Bearer {tokens[scope]}"})
            return status, json.loads(content)
        for _ in range(2):
            assert len(ask("/api/v1/fraud/flagged", "read")[1]["items"]) == 8
            assert {one["event_id"] for one in ask("/api/v1/fraud/flagged", "read:advertiser:adv_1")[1]["items"]} == mine
            assert ask("/api/v1/fraud/summary", "read")[1]["totals"]["flagged_clicks"] == 8
            assert ask("/api/v1/fraud/summary", "read:advertiser:adv_1")[1]["totals"]["flagged_clicks"] == len(mine)
            for resource in ("flagged", "summary"):
                assert ask(f"/api/v1/fraud/{resource}?advertiser=adv_2", "read:advertiser:adv_1")[0] == 403
                assert ask(f"/api/v1/fraud/{resource}?advertiser=adv_1", "read:advertiser:adv_1")[0] == 200
                assert made.request("GET", f"/api/v1/fraud/{resource}", at=made.api)[0] == 401
            for one in events:
                status = ask(f"/api/v1/events/{one['event_id']}", "read:advertiser:adv_1")[0]
                assert status == (200 if one["advertiser_id"] == "adv_1" else 404), one
                assert ask(f"/api/v1/events/{one['event_id']}", "read")[0] == 200
            made.ctl("segments", "seal")
