"""Bills from outside: periods of any zone against Python's zoneinfo, exact money, CSV. docs/billing.md."""
import csv
import datetime
import io
import json
import random
import re
import urllib.parse
import zoneinfo
from decimal import Decimal

from harness import Process, endpoint, event, node, now_ms, wait_until

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
QUIET = "fraud: {clicks_per_ip_hour: 0, clicks_per_device_hour: 0, min_ms_since_impression: 0}\n"
UTC = datetime.timezone.utc


def bills(made, advertiser, status=200, **more):
    return made.get("/api/v1/billing/reports?" + urllib.parse.urlencode({"advertiser": advertiser, **more}), status)


def send(made, events):
    for at in range(0, len(events), 500):
        status, answer = made.post(events[at:at + 500])
        assert status in (204, 200), (status, answer)
        assert not (answer or {}).get("rejected"), answer


def start_control_in(made, zone):
    """The control process in a machine whose own zone is another one: it must not matter."""
    made.control = Process(["env", f"TZ={zone}", str(made.build / "control/turnpike-control"), "-c", str(made.config)],
                           made.folder / "control.log")
    made.api = endpoint(made.control.line().removeprefix("ready listen="))


def ms(text):
    return round(datetime.datetime.fromisoformat(text).timestamp() * 1000)


# ---- the independent computation: Python's own tzdata reader and calendar ----

def local(stamp, zone):
    return datetime.datetime.fromtimestamp(stamp / 1000, UTC).astimezone(zone)


def period_of(stamp, period, zone):
    """What a person would call the period: the local date, or the local date, hour and offset."""
    at = local(stamp, zone)
    if period == "monthly":
        return at.year, at.month
    if period == "daily":
        return at.year, at.month, at.day
    return at.year, at.month, at.day, at.hour, at.utcoffset()


def model_of(events, period, zone):
    rows = {}
    for one in events:
        key = period_of(one["timestamp"], period, zone), one["campaign_id"]
        row = rows.setdefault(key, {"impressions": 0, "clicks": 0, "spend": {}})
        if one["event_type"] == "click":
            row["clicks"] += 1
            row["spend"][one["currency"]] = row["spend"].get(one["currency"], 0) + Decimal(one["bid_price"])
        else:
            row["impressions"] += 1
    return rows


def money_of(row):
    """What a row says was spent, by currency."""
    if row["spend"] is None:
        assert row["currency"] is None and len(row["spend_by_currency"]) > 1, row
        return {currency: Decimal(spend) for currency, spend in row["spend_by_currency"].items()}
    assert "spend_by_currency" not in row, row
    return {row["currency"]: Decimal(row["spend"])} if Decimal(row["spend"]) else {}


def check_rows(items, events, period, zone):
    """Every row is the model's, and begins and ends where the zone says."""
    model = model_of(events, period, zone)
    got = {}
    for row in items:
        start, end = ms(row["start"]), ms(row["end"])
        assert start < end, row
        # the offset shown is the zone's at that instant
        assert local(start, zone).isoformat() == row["start"].replace("Z", "+00:00"), (row, zone)
        assert local(end, zone).isoformat() == row["end"].replace("Z", "+00:00"), (row, zone)
        # the first instant is of the period, as is the last; the ones beside are not
        name = period_of(start, period, zone)
        assert period_of(end - 1, period, zone) == name, (row, zone)
        assert period_of(start - 1, period, zone) != name != period_of(end, period, zone), (row, zone)
        got[name, row["campaign_id"]] = {"impressions": row["impressions"], "clicks": row["clicks"], "spend": money_of(row)}
        assert row["flagged_clicks"] == 0, row
    want = {key: {**row, "spend": {k: v for k, v in row["spend"].items() if v}} for key, row in model.items()}
    assert len(got) == len(items), "a period and campaign stands in two rows"
    assert got == want, (period, zone, {k: (got.get(k), want.get(k)) for k in set(got) ^ set(want) or want if got.get(k) != want.get(k)})


def sum_of(items):
    total = {"impressions": 0, "clicks": 0, "spend": {}}
    for row in items:
        total["impressions"] += row["impressions"]
        total["clicks"] += row["clicks"]
        for currency, spend in money_of(row).items():
            total["spend"][currency] = total["spend"].get(currency, 0) + spend
    return total


# Days on which something happens to a clock, one of them in each of the zones below.
ZONES = {"UTC": "2026-02-28", "Europe/Berlin": "2026-03-29", "America/New_York": "2025-11-02", "Asia/Kolkata": "2026-03-29",
         "Australia/Lord_Howe": "2026-04-05", "America/Havana": "2026-03-08", "Asia/Kathmandu": "2025-12-31",
         "Pacific/Chatham": "2026-04-05", "Africa/Cairo": "2026-04-24", "America/St_Johns": "2026-03-08"}


def test_rows_are_those_of_zoneinfo(build):
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    print(f"seed {seed}")
    with node(build, control=False, extra=QUIET) as n:
        events = []
        for name, day in ZONES.items():
            zone = zoneinfo.ZoneInfo(name)
            noon = datetime.datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=zone).timestamp() * 1000
            for _ in range(60):
                # around the day, and often right at its borders
                stamp = int(noon + rng.choice((rng.uniform(-30 * HOUR, 30 * HOUR), rng.choice((-12, -11, 12, 13)) * HOUR + rng.randrange(-3, 3) * 60_000)))
                kind = rng.choice(("click", "impression"))
                events.append(event(event_type=kind, timestamp=stamp, advertiser_id="adv", campaign_id=f"c{rng.randrange(3)}",
                                    currency=rng.choice(("EUR", "USD", "JPY")), bid_price=f"{rng.randrange(10**9) / 1000:.6f}"))
        events.sort(key=lambda one: one["timestamp"])
        half = len(events) // 2
        send(n, events[:half])
        n.ctl("segments", "seal")
        send(n, events[half:])
        send(n, [event(advertiser_id="another", campaign_id="c1")])
        start_control_in(n, rng.choice(list(ZONES) + ["America/Los_Angeles", "Asia/Tokyo", "Pacific/Apia"]))
        first, last = events[0]["timestamp"], events[-1]["timestamp"] + 1
        want = None
        for name in ZONES:
            zone = zoneinfo.ZoneInfo(name)
            daily = bills(n, "adv", period="daily", tz=name, **{"from": first, "to": last})["items"]
            check_rows(daily, events, "daily", zone)
            monthly = bills(n, "adv", period="monthly", tz=name, **{"from": first, "to": last})["items"]
            check_rows(monthly, events, "monthly", zone)
            # hours: 32 days at a time, around each of the days
            hourly = []
            start = first
            while start < last:
                end = min(start + 31 * DAY, last)
                hourly += [row for row in bills(n, "adv", period="hourly", tz=name, **{"from": start, "to": end})["items"]
                           if row["start"] not in {one["start"] for one in hourly}]
                start = end
            check_rows(hourly, events, "hourly", zone)
            want = want or sum_of(daily)
            assert sum_of(daily) == sum_of(monthly) == sum_of(hourly) == want, name
        totals = n.get(f"/api/v1/analytics/advertisers/adv?from={first}&to={last}&step=1d")["totals"]
        assert {"impressions": totals["impressions"], "clicks": totals["clicks"], "spend": money_of(totals)} == want
        # nobody else's
        assert [row["clicks"] for row in bills(n, "another")["items"]] == [1]
        assert bills(n, "nobody")["items"] == []


def test_csv_says_what_json_says(build):
    with node(build, extra=QUIET) as n:
        now = now_ms()
        odd = 'a,"b"\r\n=1'
        send(n, [event(timestamp=now - i, advertiser_id="adv", campaign_id=name, currency=money, bid_price="0.1")
                 for i, (name, money) in enumerate([("c", "USD"), ("c", "USD"), ("c", "EUR"), (odd, "EUR"), ("=evil()", "EUR")])])
        items = bills(n, "adv", period="monthly", tz="Europe/Berlin")["items"]
        status, headers, body = n.request("GET", "/api/v1/billing/reports?advertiser=adv&period=monthly&tz=Europe/Berlin", at=n.api,
                                          headers={"Accept": "text/csv"})
        assert status == 200 and headers["Content-Type"].startswith("text/csv") and headers["Vary"] == "Accept", headers
        assert "attachment" in headers["Content-Disposition"], headers
        assert body.endswith(b"\r\n"), body
        rows = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
        assert [row["campaign_id"].removeprefix("'") for row in rows] == [item["campaign_id"] for item in items] == ["=evil()", odd, "c"], rows
        for row, item in zip(rows, items):
            for name in ("start", "end"):
                assert row[name] == item[name]
            for name in ("impressions", "clicks", "flagged_clicks", "revision"):
                assert int(row[name]) == item[name]
            for name in ("final", "reconciled"):
                assert row[name] == json.dumps(item[name])
            assert (row["spend"] or None, row["currency"] or None) == (item["spend"], item["currency"])
        assert rows[2]["spend_by_currency"] == "EUR=0.100000 USD=0.200000", rows[2]
        assert items[2]["spend_by_currency"] == {"EUR": "0.100000", "USD": "0.200000"}, items[2]
        # the same by its parameter
        assert n.request("GET", "/api/v1/billing/reports?advertiser=adv&period=monthly&tz=Europe/Berlin&format=csv", at=n.api)[2] == body
        for bad in ({"tz": "Mars/Olympus"}, {"period": "weekly"}, {"from": "x"}, {"format": "xls"}):
            assert bills(n, "adv", 400, **bad)["parameter"] == list(bad)[0]
        assert bills(n, "adv", 422, period="hourly", **{"from": 0})["type"].endswith("too-many-periods")
        assert n.get("/api/v1/billing/reports", 400)["parameter"] == "advertiser"


# ---- what was issued ----

ISSUE = QUIET + "billing: {interval: 1s, issue: [hourly, daily, monthly], zones: ['adv=Europe/Berlin']}\n"


def report(made, identity, status=200):
    return made.get(f"/api/v1/billing/reports/{identity}", status)


def figures(row):
    return row["campaign_id"], row["impressions"], row["clicks"], row["flagged_clicks"], tuple(sorted(money_of(row).items()))


def added(*sets_of_lines):
    """Lines added up by campaign."""
    total = {}
    for lines in sets_of_lines:
        for line in lines:
            one = total.setdefault(line["campaign_id"], [0, 0, 0, {}])
            for at, name in enumerate(("impressions", "clicks", "flagged_clicks")):
                one[at] += line[name]
            for currency, spend in money_of(line).items():
                one[3][currency] = one[3].get(currency, 0) + spend
    return sorted((name, one[0], one[1], one[2], tuple(sorted((c, s) for c, s in one[3].items() if s))) for name, one in total.items())


def kill_control(made):
    made.control.kill()
    made.control.popen.wait()
    made.control.popen.stdout.close()
    made.control.log.close()


def test_bills_are_issued_corrected_and_kept(build):
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    with node(build, extra=ISSUE) as n:
        now = now_ms()
        noon = round(local(now, berlin).replace(hour=12, minute=0, second=0, microsecond=0).timestamp() * 1000) - 3 * DAY
        old = [event(timestamp=noon + i * 1000, advertiser_id=owner, campaign_id=f"c{i % 3}", currency=("EUR", "USD")[i % 2], bid_price="0.000001")
               for i in range(30) for owner in ("adv", "utc")]
        send(n, old + [event(timestamp=now, advertiser_id="adv")])
        day = {"period": "daily", "tz": "Europe/Berlin", "from": noon, "to": noon + 1}

        def rows(owner="adv", **more):
            return bills(n, owner, **{**day, **more})["items"]

        wait_until("the day is final", lambda: all(row["final"] for row in rows()))
        assert [row["report"] for row in rows()] == [None] * 3, "what is not sealed yet cannot be issued"
        n.ctl("segments", "seal")
        identity = wait_until("the bill is issued", lambda: rows()[0]["report"])
        first = report(n, identity)
        assert {row["report"] for row in rows()} == {identity}
        assert (first["revision"], first["corrections"], first["advertiser"], first["tz"]) == (1, [], "adv", "Europe/Berlin"), first
        assert first["start"] == rows()[0]["start"] and first["end"] == rows()[0]["end"], first
        assert [figures(line) for line in first["report"]["lines"]] == [figures(line) for line in first["items"]] == [figures(row) for row in rows()]
        # its segments are those that were published, by number and hash
        published = {one["sequence"]: one["sha256"] for one in n.get("/api/v1/reconcile/segments")["items"]}
        assert first["report"]["segments"] and all(published[one["sequence"]] == one["sha256"] for one in first["report"]["segments"]), first
        # hours and months too, and everybody in the own zone
        hour = wait_until("the hour", lambda: rows(period="hourly")[0]["report"])
        assert hour != identity and report(n, hour)["period"] == "hourly"
        utc = wait_until("the other's", lambda: rows("utc", tz="UTC")[0]["report"])
        assert report(n, utc)["tz"] == "UTC" and rows("utc", tz="Asia/Tokyo")[0]["report"] is None
        report(n, "0" * 20, 404)
        report(n, "x", 404)

        # a late click: the row moves at once, the bill gets a correction, and what was said stays
        late = [event(timestamp=noon + 5000, advertiser_id="adv", campaign_id=name, currency="EUR", bid_price="2") for name in ("c1", "new")]
        send(n, late)
        wait_until("the late clicks count", lambda: len(rows()) == 4)
        assert {row["campaign_id"]: row["revision"] for row in rows()} == {"c0": 1, "c1": 2, "c2": 1, "new": 2}, rows()
        # somebody who had no bill of that day gets one
        send(n, [event(timestamp=noon, advertiser_id="tardy", campaign_id="t")])
        wait_until("the tardy click counts", lambda: rows("tardy", tz="UTC"))
        n.ctl("segments", "seal")
        second = wait_until("the correction", lambda: (lambda got: got if got["revision"] == 2 else None)(report(n, identity)))
        assert second["report"] == first["report"], "what was issued is never changed"
        assert added(second["corrections"][0]["lines"]) == [("c1", 0, 1, 0, (("EUR", Decimal(2)),)), ("new", 0, 1, 0, (("EUR", Decimal(2)),))]
        assert [one["sequence"] for one in second["corrections"][0]["segments"]] == [max(published) + 1], second
        assert added(rows()) == added(second["items"]) == added(second["report"]["lines"], second["corrections"][0]["lines"])
        tardy = wait_until("the tardy bill", lambda: rows("tardy", tz="UTC")[0]["report"])
        assert report(n, tardy)["revision"] == 1 and added(report(n, tardy)["items"]) == added(rows("tardy", tz="UTC"))
        status, _, body = n.request("GET", f"/api/v1/billing/reports/{identity}?format=csv", at=n.api)
        lines = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
        assert status == 200 and [line["kind"] for line in lines] == ["report"] * 3 + ["correction"] * 2, lines
        assert sum(int(line["clicks"]) for line in lines) == sum(row["clicks"] for row in rows()), lines

        # killed and started again: the same; and no second correction of the same segments
        kill_control(n)
        n.start_control()
        assert report(n, identity) == second
        # the ledger is gone: so is what was issued, and no figure
        before = [{**row, "report": None} for row in rows()]
        kill_control(n)
        for path in (n.folder / "control").glob("ledger.db*"):
            path.unlink()
        n.start_control()
        assert [{**row, "report": None} for row in rows()] == before
        wait_until("it is issued again", lambda: rows()[0]["report"] == identity)
        again = report(n, identity)
        assert again["revision"] == 1 and added(again["report"]["lines"]) == added(second["items"]), again


def test_a_ledger_that_goes_is_noticed(build):
    """Its files are moved away under a running node: no bill is shown or issued as if nothing were, and everything else goes on."""
    with node(build, extra=ISSUE) as n:
        noon = (now_ms() // DAY - 2) * DAY + DAY // 2
        send(n, [event(timestamp=noon, advertiser_id="adv"), event(timestamp=now_ms(), advertiser_id="adv")])
        n.ctl("segments", "seal")
        day = {"period": "daily", "tz": "Europe/Berlin", "from": noon, "to": noon + 1}
        identity = wait_until("the bill is issued", lambda: bills(n, "adv", **day)["items"][0]["report"])
        assert n.get("/readyz")["ledger"]

        def there():
            return re.search(r"^turnpike_control_ledger_there (\d)$", n.request("GET", "/metrics", at=n.api)[2].decode(), re.M).group(1)

        assert there() == "1"
        away = n.folder / "away"
        away.mkdir()
        for path in (n.folder / "control").glob("ledger.db*"):
            path.rename(away / path.name)
        ready = n.get("/readyz", 503)
        assert (ready["ready"], ready["ledger"], ready["live_view"]) == (False, False, True), ready
        assert there() == "0"
        for answer in (bills(n, "adv", 503, **day), report(n, identity, 503)):
            assert answer["type"] == "urn:turnpike:problem:no-ledger" and "deleted, moved or replaced" in answer["detail"], answer
        send(n, [event(timestamp=noon, advertiser_id="late")])
        n.ctl("segments", "seal")
        said = wait_until("it is said", lambda: [line for line in (n.folder / "control.log").read_text().splitlines() if "the ledger was deleted" in line])
        assert len(said) == 1 and said[0].startswith("level=error"), said
        assert n.totals("advertisers", "late", window="7d")["clicks"] == 1
        # put back: all of it, and what was to be said meanwhile
        for path in away.iterdir():
            path.rename(n.folder / "control" / path.name)
        assert n.get("/readyz")["ready"] and there() == "1"
        assert report(n, identity)["revision"] == 1
        wait_until("the bill of the late one", lambda: bills(n, "late", **day | {"tz": "UTC"})["items"][0]["report"])
        assert "the ledger is back" in (n.folder / "control.log").read_text()


def test_the_tool_says_what_the_api_says(build):
    """turnpikectl billing: of a running node and a stopped one, without a token; and it issues what is due."""
    with node(build, extra=ISSUE.replace("interval: 1s", "interval: 1h"), control_auth="tokens") as n:
        noon = (now_ms() // DAY - 2) * DAY + DAY // 2
        token = n.ctl("token", "create", "--scope", "read", "--json")["token"]

        def api(path, accept="application/json"):
            status, _, body = n.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": accept}, at=n.api)
            assert status == 200, body
            return json.loads(body) if accept.endswith("json") else body.decode()

        send(n, [event(timestamp=noon + i, advertiser_id="a&v=é", campaign_id=f"c{i % 2}", currency=("EUR", "USD")[i % 3 % 2]) for i in range(6)]
             + [event(timestamp=now_ms(), advertiser_id="a&v=é")])
        day = {"advertiser": "a&v=é", "period": "daily", "tz": "Asia/Tokyo", "from": str(noon), "to": str(noon + 1)}
        words = [word for key, value in day.items() for word in (f"--{key}", value)]
        path = "/api/v1/billing/reports?" + urllib.parse.urlencode(day)
        wait_until("the day is final", lambda: api(path)["items"][0]["final"])

        def same():
            mine, its = n.ctl("billing", "list", *words, "--json"), api(path)
            assert len(mine["items"]) == 2 and mine["items"] == its["items"], (mine, its)
            csv_text = api(path, "text/csv").replace("\r\n", "\n")  # text mode reads them so
            assert n.ctl("billing", "export", *words) == n.ctl("billing", "list", *words, "--csv") == csv_text

        same()
        assert n.ctl("billing", "issue", "--json") == {"bills": 0, "corrections": 0}, "what is not sealed yet cannot be issued"
        n.ctl("segments", "seal")
        day["tz"] = words[words.index("--tz") + 1] = "UTC"
        path = "/api/v1/billing/reports?" + urllib.parse.urlencode(day)
        issued = n.ctl("billing", "issue", "--json")
        assert issued["bills"] >= 2 and issued["corrections"] == 0, issued  # the day's and the hour's
        assert n.ctl("billing", "issue", "--json") == {"bills": 0, "corrections": 0}
        same()
        identity = api(path)["items"][0]["report"]
        assert n.ctl("billing", "show", identity, "--json") == api(f"/api/v1/billing/reports/{identity}")
        send(n, [event(event_id="tardy", timestamp=noon, advertiser_id="a&v=é", campaign_id="late")])
        wait_until("the late click counts", lambda: len(api(path)["items"]) == 3)
        # why names the bills of its periods, by both ways
        of_event = api("/api/v1/events/tardy")["counted"][0]["line"]["reports"]
        assert [one for one in of_event if one["period"] == "daily"] == [
            {"id": identity, "period": "daily", "tz": "UTC", "start": api(path)["items"][0]["start"], "end": api(path)["items"][0]["end"], "revision": 1}], of_event
        assert n.ctl("why", "tardy", "--json")["counted"][0]["line"]["reports"] == of_event
        assert identity in n.ctl("why", "tardy")
        n.ctl("segments", "seal")
        wait_until("the correction", lambda: n.ctl("billing", "issue", "--json")["corrections"])
        bill = n.ctl("billing", "show", identity, "--json")
        assert bill["revision"] == 2 and bill == api(f"/api/v1/billing/reports/{identity}"), bill
        shown = n.ctl("billing", "show", identity)
        assert shown.count("correction, revision 2") == 1 and "late" in shown and "1.000000 EUR, 0.500000 USD" in shown, shown
        assert "c0" in n.ctl("billing", "list", *words)
        acts = [(item["act"], item["result"]) for item in n.ctl("audit-log", "--json")["items"]]
        assert acts.count(("billing issue", "done")) >= 4, acts
        # what is wrong is said, with the exit status that says whose fault it is
        n.ctl("billing", "list", status=2)
        n.ctl("billing", "list", "--advertiser", "x", "--period", "yearly", status=2)
        n.ctl("billing", "list", "--advertiser", "x", "--from", status=2)
        n.ctl("billing", "show", "../x", status=2)
        n.ctl("billing", "show", "0" * 20, status=1)
        n.ctl("billing", "issue", "now", status=2)
        n.stop()
        assert n.ctl("billing", "show", identity, "--json") == bill
        assert len(n.ctl("billing", "list", *words, "--json")["items"]) == 3
        n.start()
    with node(build, control=False) as n:  # nobody has made a ledger: the tool makes none either
        n.ctl("billing", "issue", status=1)
        assert not (n.folder / "control/ledger.db").exists()


def test_whose_bills_a_token_sees(build):
    with node(build, extra=ISSUE, control_auth="tokens") as n:
        now = now_ms()
        send(n, [event(timestamp=now - 3 * DAY, advertiser_id=owner) for owner in ("adv", "other")] + [event(advertiser_id="adv")])
        n.ctl("segments", "seal")
        token = {scope: n.ctl("token", "create", "--scope", scope, "--json")["token"] for scope in ("read", "read:advertiser:adv", "ingest")}

        def ask(path, scope):
            headers = {"Authorization": f"Bearer {token[scope]}"} if scope else {}
            status, _, body = n.request("GET", f"/api/v1/billing/reports{path}", headers=headers, at=n.api)
            return status, json.loads(body)

        def issued(owner, zone):
            return ask(f"?advertiser={owner}&tz={zone}", "read")[1]["items"][0]["report"]

        theirs = wait_until("a bill", lambda: issued("other", "UTC"))
        ours = wait_until("a bill", lambda: issued("adv", "Europe/Berlin"))
        for path, scope, status in (
                ("?advertiser=other", "read", 200), ("?advertiser=other", "read:advertiser:adv", 403), ("?advertiser=adv", "read:advertiser:adv", 200),
                ("", "read:advertiser:adv", 200), ("", "read", 400), ("?advertiser=adv", "ingest", 403), ("?advertiser=adv", None, 401),
                (f"/{theirs}", "read", 200), (f"/{theirs}", "read:advertiser:adv", 404), (f"/{ours}", "read:advertiser:adv", 200),
                (f"/{ours}", "ingest", 403), (f"/{ours}", None, 401)):
            assert ask(path, scope)[0] == status, (path, scope, ask(path, scope))
        assert ask("", "read:advertiser:adv")[1] == ask("?advertiser=adv", "read:advertiser:adv")[1]


def test_a_row_is_reconciled_until_something_new_comes(build):
    with node(build, extra=ISSUE) as n:
        hour = now_ms() // HOUR * HOUR - 2 * HOUR
        send(n, [event(timestamp=hour + i * 1000, advertiser_id="adv", campaign_id=f"c{i % 2}") for i in range(20)] + [event(advertiser_id="adv")])
        ask = {"period": "hourly", "from": hour, "to": hour + 1}
        assert not any(row["reconciled"] for row in bills(n, "adv", **ask)["items"])
        n.ctl("segments", "seal")
        wait_until("the hour was counted again", lambda: all(row["reconciled"] for row in bills(n, "adv", **ask)["items"]))
        # a late click of one campaign, not even sealed: no row of the hour is what was counted any more
        send(n, [event(timestamp=hour + 500, advertiser_id="adv", campaign_id="c1")])
        wait_until("it is not any more", lambda: [row["reconciled"] for row in bills(n, "adv", **ask)["items"]] == [False, False])
