"""Sessions, distinct users, trends and cardinality bombs from outside, live and sealed. docs/queries.md."""
import json
import threading
import time
import uuid

from harness import event, node, now_ms, wait_until

MINUTE, HOUR = 60_000, 3_600_000


def view(**fields):
    return event(event_type="impression", **fields)


def send(made, events):
    for at in range(0, len(events), 500):
        status, answer = made.post(events[at:at + 500])
        assert status in (204, 200), (status, answer)
        assert not (answer or {}).get("rejected"), answer


def sessions(made, user, **more):
    query = "&".join(f"{key}={value}" for key, value in {"user": user, "window": "6h", **more}.items())
    return made.get(f"/api/v1/analytics/sessions?{query}")


def shape(items):
    return [(one["impressions"], one["clicks"], one["flagged_clicks"], one["conversions"], sorted(one["ads"]), sorted(one["publishers"]))
            for one in items]


def test_a_users_sessions_over_two_shards_a_seal_and_a_restart(build):
    with node(build, rx=(0,), shard=(0, 1)) as n:
        now = now_ms()
        old, new = now - 3 * HOUR, now - 5 * MINUTE
        who = dict(user_id="u/1 ä")
        # enough devices that both shards have some of the user's events
        send(n, [view(timestamp=old + i * 1000, device_id=f"d{i}", ad_id="ad_old", publisher_id="p_old", **who) for i in range(8)])
        send(n, [event(timestamp=now - MINUTE, device_id="elsewhere", user_id="another")])  # time goes on without the user
        expected_old = (8, 0, 0, 0, ["ad_old"], ["p_old"])
        name = "u%2F1%20%C3%A4"
        answer = sessions(n, name)
        assert answer["user"] == who["user_id"] and shape(answer["items"]) == [expected_old], answer
        wait_until("the session is over", lambda: sessions(n, name)["items"][0]["open"] is False)

        # half of a session is sealed, half is not
        send(n, [event(timestamp=new, device_id="phone", ad_id="ad_a", publisher_id="p_a", **who)])
        n.ctl("segments", "seal")
        listed = n.ctl("segments", "stats")
        assert "(sessions)" in listed and "(distinct users)" in listed, listed
        assert shape(sessions(n, name)["items"]) == [(0, 1, 0, 0, ["ad_a"], ["p_a"]), expected_old]
        send(n, [event(timestamp=new + MINUTE, device_id="tablet", ad_id="ad_b", publisher_id="p_a", **who),
                 event(timestamp=new + 2 * MINUTE, device_id="tablet", event_type="conversion", ad_id="ad_b", publisher_id="p_a", **who)])
        expected_new = (0, 2, 0, 1, ["ad_a", "ad_b"], ["p_a"])
        answer = sessions(n, name)
        assert shape(answer["items"]) == [expected_new, expected_old], answer
        assert answer["items"][0]["open"] is True, answer
        # a session that only touches the range is shown whole
        part = sessions(n, name, window="4m")
        assert shape(part["items"]) == [expected_new], part
        # … however far it reaches out of the range
        send(n, [view(timestamp=now - i * 20 * MINUTE, device_id=f"d{i % 3}", user_id="long") for i in range(13)])
        part = sessions(n, "long", window="4m")
        assert [one["impressions"] for one in part["items"]] == [13], part
        assert sessions(n, name, limit=1)["more"] is True
        assert sessions(n, "nobody")["items"] == []

        n.stop()
        n.start()
        assert shape(sessions(n, name)["items"]) == [expected_new, expected_old]
        n.kill()
        n.start(control=False)
        assert shape(sessions(n, name)["items"]) == [expected_new, expected_old]
        for bad in ("", "?user=", "?user=x&limit=0", "?user=x&limit=9999", "?user=x&step=1m", "?user=" + "x" * 65):
            assert n.get(f"/api/v1/analytics/sessions{bad}", 400)["type"].endswith("bad-parameter"), bad


def test_nothing_shows_twice_while_files_are_sealed(build):
    with node(build) as n:
        stop, wrong, seen = threading.Event(), [], []
        base = now_ms() - 10 * MINUTE

        def ask():
            least = 0
            while not stop.is_set():
                items = sessions(n, "steady")["items"]
                clicks = sum(one["impressions"] for one in items)
                if len(items) > 1 or clicks < least or clicks > sent[0]:
                    wrong.append((items, least, sent[0]))
                least = max(least, clicks)
                seen.append(clicks)

        sent = [0]
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            for i in range(60):
                sent[0] += 5
                send(n, [view(timestamp=base + (5 * i + k) * 1000, user_id="steady", device_id=f"d{k}") for k in range(5)])
                if i % 6 == 5:
                    n.ctl("segments", "seal")
        finally:
            stop.set()
            asking.join()
        assert not wrong and len(seen) > 5, wrong[:2]
        assert sum(one["impressions"] for one in sessions(n, "steady")["items"]) == 300


def test_trends_and_distinct_users(build):
    with node(build, extra="fraud: {clicks_per_ip_hour: 0, clicks_per_device_hour: 0}\n") as n:
        now = now_ms()
        minute = now // MINUTE * MINUTE - MINUTE
        clicks = []
        for number in range(12):
            for i in range(12 - number):
                clicks.append(event(timestamp=minute + i, ad_id=f"ad_{number}", publisher_id=f"p_{number % 3}", ip_address=f"198.51.100.{number}",
                                    user_id=f"u{number}-{i}", device_id=f"d{number}-{i}", campaign_id="crowd"))
        send(n, clicks[:40])
        n.ctl("segments", "seal")
        send(n, clicks[40:])
        # out of the window
        send(n, [event(timestamp=minute - 30 * MINUTE, ad_id="ad_11", ip_address="198.51.100.200", campaign_id="crowd", user_id="u0-0")] * 1)
        for by, key in (("ad", "ad_{}"), ("source", "198.51.100.{}")):
            items = n.get(f"/api/v1/analytics/trending?by={by}&window=5m&limit=5")["items"]
            assert [one["key"] for one in items] == [key.format(i) for i in range(5)], (by, items)
            for number, one in enumerate(items):
                got = (one["gross_clicks"],) * 2 if by == "ad" else (one["gross_clicks_min"], one["gross_clicks_max"])
                assert got == (12 - number,) * 2, (by, one)
        items = n.get("/api/v1/analytics/trending?by=publisher&limit=2")["items"]
        assert [(one["key"], one["clicks"]) for one in items] == [("p_0", 12 + 9 + 6 + 3), ("p_1", 11 + 8 + 5 + 2)], items
        assert n.get("/api/v1/analytics/trending?by=campaign")["items"][0]["clicks"] == len(clicks)

        begin, end = now // HOUR * HOUR - 2 * HOUR, now // HOUR * HOUR + HOUR
        for _ in range(2):
            totals = n.get(f"/api/v1/analytics/campaigns/crowd?from={begin}&to={end}")["totals"]
            assert abs(totals["users"] - len(clicks)) <= 2, totals
            n.ctl("segments", "seal")
        assert n.get(f"/api/v1/analytics/campaigns/crowd?from={begin + MINUTE}&to={end}")["totals"]["users"] is None
        groups = n.get("/api/v1/analytics/campaigns/crowd?window=2h&group_by=currency")["groups"]
        assert [(one["currency"], one["clicks"]) for one in groups] == [("USD", len(clicks) + 1)], groups


def test_an_ad_id_bomb_keeps_campaigns_exact(build):
    with node(build, shard=(0,), extra="fraud: {clicks_per_ip_hour: 0, clicks_per_device_hour: 0}\n") as n:
        stamp, count, per_request = now_ms() // MINUTE * MINUTE, 200_000, 2000
        stop, slow, polite = threading.Event(), [], [0]

        def other_client():
            while not stop.is_set():
                status, _ = n.post(event(timestamp=stamp, campaign_id="polite", ad_id="mine"))
                if status != 204:
                    slow.append(status)
                polite[0] += 1
                time.sleep(0.02)

        client = threading.Thread(target=other_client)
        client.start()
        try:
            base = {"event_type": "click", "timestamp": stamp, "campaign_id": "bomb", "advertiser_id": "adv", "bid_price": "0.01"}
            for at in range(0, count, per_request):
                lines = "\n".join(json.dumps({**base, "event_id": str(uuid.uuid4()), "ad_id": f"x{i}"}, separators=(",", ":"))
                                  for i in range(at, at + per_request))
                status, answer = n.post(lines)
                assert status == 204, (status, answer)
        finally:
            stop.set()
            client.join()
        assert not slow and polite[0] > 10, (slow, polite)
        begin = stamp - 10 * MINUTE

        def check(where):
            window = f"from={begin}&to={stamp + MINUTE}"
            totals = n.get(f"/api/v1/analytics/campaigns/bomb?{window}")["totals"]
            assert (totals["clicks"], totals["spend"]) == (count, "2000.000000"), (where, totals)
            assert n.get(f"/api/v1/analytics/ads/mine?{window}")["totals"]["clicks"] == polite[0], where
            top = n.get(f"/api/v1/analytics/trending?by=ad&{window}")["items"]
            other = [one for one in top if one.get("overflow")]
            assert len(other) == 1 and other[0]["key"] == "(other)" and other[0]["clicks"] > 10_000, (where, top)
            return other[0]["clicks"]

        live = check("live")
        n.ctl("segments", "seal")
        wait_until("the log is sealed", lambda: n.ctl("segments", "list", "--json"))
        assert check("sealed") == live
        n.kill()
        n.start(control=False)
        assert check("restarted") == live
