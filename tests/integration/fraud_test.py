"""Each fraud reason from outside: clicks go in, tags come out in counters and figures, never in spend; reload, restart, amendment, replay."""
import json
import pathlib
import signal
import subprocess
import sys
import time

from harness import PATIENCE, SMALL, event, findings, folder, node, now_ms, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import mmdb  # noqa: E402

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/119 Safari/537.36"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"
PARIS = {"country": {"iso_code": "FR"}, "location": {"latitude": 48.8566, "longitude": 2.3522, "accuracy_radius": 20}}
NEW_YORK = {"country": {"iso_code": "US"}, "location": {"latitude": 40.7128, "longitude": -74.006, "accuracy_radius": 20}}


def metrics(made):
    _, _, content = made.request("GET", "/metrics", at=made.api)
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in content.decode().splitlines()
            if line and not line.startswith("#") and " " in line}


def tagged(made, reason):
    """Clicks tagged with one reason, over all cores."""
    return sum(value for name, value in metrics(made).items() if name.split("{")[0] == f"turnpike_fraud_{reason}_total")


def figures(made, campaign, **wanted):
    """Waits until a campaign's totals are what is wanted."""
    def right():
        totals = made.totals("campaigns", campaign)
        return all(totals[key] == value for key, value in wanted.items())
    try:
        wait_until(f"{campaign}: {wanted}", right)
    except AssertionError:
        raise AssertionError(f"{campaign}: wanted {wanted}, got {made.totals('campaigns', campaign)}") from None


def hour_start():
    """A stamp of the last minutes with a minute of its clock hour behind it, and two before: all of a test lies in one hour."""
    stamp = now_ms() - 5000
    into = stamp % 3600000
    return stamp - into - 60000 if into < 120000 else min(stamp, stamp - into + 3540000)


def files(path):
    """Lists and databases of a test; the fraud section that names them, with every rule on."""
    path.mkdir(exist_ok=True)
    (path / "centres.txt").write_text("# data centres\n192.0.2.0/24\n2001:db8:1::/48\n")
    (path / "bots.txt").write_text("Googlebot\nHeadlessChrome\n")
    (path / "asns.txt").write_text("AS64496\n")
    (path / "geo.mmdb").write_bytes(mmdb.build("Test-City", [("198.51.100.0/25", PARIS), ("198.51.100.128/25", NEW_YORK), ("203.0.113.0/24", NEW_YORK)]))
    (path / "asn.mmdb").write_bytes(mmdb.build("Test-ASN", [("203.0.113.0/24", {"autonomous_system_number": 64496})]))
    trees = {"left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [0, 0, 0], "split_conditions": [500.0, -4.0, 4.0],
             "default_left": [1, 0, 0]}
    (path / "model.json").write_text(json.dumps({"learner": {
        "feature_names": ["referer_bytes"], "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": "1"},
        "objective": {"name": "binary:logistic"}, "gradient_booster": {"name": "gbtree", "model": {"trees": [trees]}}}}))
    return (f"fraud:\n  clicks_per_ip_hour: 4\n  clicks_per_device_hour: 5\n  no_impression: true\n  bot_user_agents: {path}/bots.txt\n"
            f"  bot_addresses: [{path}/centres.txt]\n  bot_asns: {path}/asns.txt\n  asn_database: {path}/asn.mmdb\n  geo_database: {path}/geo.mmdb\n"
            "  no_mouse: true\n  regular_timing_ms: 20\n  regular_timing_gaps: 3\n  addresses_per_device_hour: 2\n"
            "  user_agents_per_device_hour: 2\n  device_mismatch: true\n  geo_mismatch: true\n  travel_kmh: 1000\n"
            f"  model: {path}/model.json\n  model_threshold: 0.9\n  blocklist_over: 2\n")


def shown(at, campaign, **fields):
    """An impression and its click two seconds later."""
    both = [event(event_type=kind, timestamp=at + offset, campaign_id=campaign, **fields) for kind, offset in (("impression", 0), ("click", 2000))]
    for one, kind in zip(both, ("i", "c")):
        one["event_id"] = f"{kind}-{one['event_id']}"
    return both


def clicks_of_each_reason(at):
    """reason: (events, how many clicks of them are tagged, how many are not). Each under a campaign of its own, by devices of its own."""
    def many(campaign, count, **fields):
        return [one for n in range(count) for one in shown(at + 137 * n * n, campaign, **{key: value(n) if callable(value) else value for key, value in fields.items()})]

    return {
        "ip_velocity": (many("ip_velocity", 6, ip_address="9.9.9.1", user_id=lambda n: f"ipv{n}"), 2, 4),
        "device_velocity": (many("device_velocity", 7, device_id="dv"), 2, 5),
        "too_soon": ([event(event_type="impression", timestamp=at, campaign_id="too_soon", user_id="ts"),
                      event(timestamp=at + 499, campaign_id="too_soon", user_id="ts"),
                      event(timestamp=at + 500, campaign_id="too_soon", user_id="ts")], 1, 1),
        "no_impression": ([event(timestamp=at, campaign_id="no_impression", user_id="ni")] + shown(at, "no_impression", user_id="nj"), 1, 1),
        "bot_user_agent": (shown(at, "bot_user_agent", user_agent="x googleBOT/2.1", user_id="b1") + shown(at, "bot_user_agent", user_agent="curl/8", user_id="b2"), 1, 1),
        "bot_address": (shown(at, "bot_address", ip_address="192.0.2.200", user_id="a1") + shown(at, "bot_address", ip_address="2001:db8:1::5", user_id="a2")
                        + shown(at, "bot_address", ip_address="203.0.113.9", user_id="a3") + shown(at, "bot_address", ip_address="192.0.3.1", user_id="a4"), 3, 1),
        "blocklisted": (shown(at, "blocklisted", ip_address="9.8.7.6", user_id="l1") + shown(at, "blocklisted", ip_address="9.8.8.1", user_id="l2"), 1, 1),
        "no_mouse": (shown(at, "no_mouse", mouse_moves=0, user_agent=WINDOWS, user_id="m1") + shown(at, "no_mouse", mouse_moves=3, user_agent=WINDOWS, user_id="m2")
                     + shown(at, "no_mouse", mouse_moves=0, user_agent=PHONE, user_id="m3"), 1, 2),
        "regular_timing": ([event(event_type="impression", timestamp=at, campaign_id="regular_timing", user_id="rt")]
                           + [event(timestamp=at + 1000 + 900 * n, campaign_id="regular_timing", user_id="rt") for n in range(5)], 2, 3),
        "device_spread": (many("device_spread", 4, device_id="sp", ip_address=lambda n: f"9.7.{n}.1", user_agent=lambda n: f"agent {n}"), 2, 2),
        "device_mismatch": (shown(at, "device_mismatch", device_type="mobile", user_agent=WINDOWS, user_id="x1")
                            + shown(at, "device_mismatch", device_type="mobile", user_agent=PHONE, user_id="x2"), 1, 1),
        "geo_mismatch": (shown(at, "geo_mismatch", ip_address="198.51.100.1", geo={"country": "US"}, user_id="g1")
                         + shown(at, "geo_mismatch", ip_address="198.51.100.2", geo={"country": "fr"}, user_id="g2")
                         + shown(at, "geo_mismatch", geo={"country": "FR"}, timezone_offset_min=480, user_id="g3")
                         + shown(at, "geo_mismatch", geo={"country": "FR"}, timezone_offset_min=-60, user_id="g4"), 2, 2),
        "impossible_travel": (shown(at, "impossible_travel", ip_address="198.51.100.3", user_id="tr") + shown(at + 3111, "impossible_travel", ip_address="198.51.100.203", user_id="tr"), 1, 1),
        "model": (shown(at, "model", referer="r" * 600, user_id="o1") + shown(at, "model", referer="r" * 400, user_id="o2"), 1, 1),
    }


def test_each_reason_from_outside(build):
    with folder() as path, node(build, extra=SMALL + files(path / "rules")) as made, findings() as same:
        made.ctl("blocklist", "add", "9.8.7.0/24", "--reason", "test")
        at = hour_start()
        wanted = clicks_of_each_reason(at)
        for reason, (events, _, _) in wanted.items():
            for one in events:
                assert made.post(one)[0] == 204, reason
        for reason, (_, bad, good) in wanted.items():
            try:
                figures(made, reason, flagged_clicks=bad, clicks=good, gross_clicks=bad + good, spend=f"{good / 2:.6f}")
            except AssertionError as error:
                same(reason, str(error), "")
        wait_until("metrics are published", lambda: tagged(made, "model") >= 1)
        for reason, (_, bad, _) in wanted.items():
            same(f"counter of {reason}", tagged(made, reason), bad)
        before = {reason: made.totals("campaigns", reason) for reason in wanted}
        # sealing and a restart change nothing
        made.ctl("segments", "seal")
        for reason in wanted:
            same(f"sealed {reason}", made.totals("campaigns", reason), before[reason])
        made.stop()
        made.start()
        for reason in wanted:
            same(f"restarted {reason}", made.totals("campaigns", reason), before[reason])
        # the state is there again: one more of the device is over its limit, one more address of the spread device too
        for one in shown(at + 9000, "device_velocity", device_id="dv"):
            made.post(one)
        figures(made, "device_velocity", flagged_clicks=3, clicks=5)
        made.audit()


def test_without_asking_only_the_contract_rules_tag(build):
    """What honest clients send, and what none of the three default rules is about: nobody is tagged."""
    with node(build, extra=SMALL) as made:
        at = hour_start()
        odd = [event(timestamp=at, user_agent=agent, user_id=f"u{n}", mouse_moves=0, device_type="mobile", geo={"country": "FR"}, timezone_offset_min=720,
                     ip_address=f"8.8.{n}.8") for n, agent in enumerate(["Googlebot/2.1", "curl/8.5", "python-requests/2", "Mozilla/5.0", WINDOWS, ""])]
        odd += [event(timestamp=at + 1000 * n, user_id="regular") for n in range(8)]
        odd += [event(timestamp=at, device_id="wide", ip_address=f"8.7.{n}.1", user_agent=f"agent {n}") for n in range(5)]
        assert made.post(odd)[0] == 204
        figures(made, "camp_1", clicks=len(odd), flagged_clicks=0, spend=f"{len(odd) / 2:.6f}")
        made.audit()


def test_a_late_impression_saves_its_click(build):
    with node(build, extra=SMALL + "fraud: {no_impression: true}\n") as made:
        at = now_ms()
        made.post(event(timestamp=at, user_id="u"))
        figures(made, "camp_1", clicks=0, flagged_clicks=1, spend="0.000000")
        revision = made.get("/api/v1/analytics/campaigns/camp_1?window=24h")["revision"]
        made.post(event(timestamp=at - 700, user_id="u", event_type="impression"))
        figures(made, "camp_1", clicks=1, flagged_clicks=0, impressions=1, spend="0.500000")
        assert made.get("/api/v1/analytics/campaigns/camp_1?window=24h")["revision"] > revision
        made.audit()
        # over sealing between the two, a restart, and a crash behind them
        made.post(event(timestamp=at, user_id="v"))
        made.ctl("segments", "seal")
        made.post(event(timestamp=at - 700, user_id="v", event_type="impression"))
        figures(made, "camp_1", clicks=2, flagged_clicks=0, impressions=2, spend="1.000000")
        made.kill()
        made.start(control=False)
        figures(made, "camp_1", clicks=2, flagged_clicks=0, impressions=2, spend="1.000000")
        made.ctl("segments", "seal")
        figures(made, "camp_1", clicks=2, flagged_clicks=0, impressions=2, spend="1.000000")
        made.stop()
        made.ctl("segments", "verify")
        made.start()
        figures(made, "camp_1", clicks=2, flagged_clicks=0, impressions=2, spend="1.000000")


def test_rules_are_reloaded_whole_or_not_at_all(build):
    with folder() as path, node(build, extra=SMALL) as made:
        at = hour_start()
        version = made.ctl("status", "--json")["rule_version"]
        assert version
        made.post([event(timestamp=at, campaign_id="one", ip_address="9.9.9.9") for _ in range(3)])
        figures(made, "one", clicks=3, flagged_clicks=0)

        def reload(extra):
            made.extra = SMALL + extra
            made.write_config()
            made.data.kill(signal.SIGHUP)

        words = path / "bots.txt"
        words.write_text("evil\n")
        reload(f"fraud: {{clicks_per_ip_hour: 4, bot_user_agents: {words}}}\n")
        wait_until("new rules", lambda: made.ctl("status", "--json")["rule_version"] != version)
        second = made.ctl("status", "--json")["rule_version"]
        made.post([event(timestamp=at, campaign_id="one", ip_address="9.9.9.9") for _ in range(2)])
        made.post(event(timestamp=at, campaign_id="two", user_agent="Evil/1.0"))
        figures(made, "one", clicks=4, flagged_clicks=1)
        figures(made, "two", clicks=0, flagged_clicks=1)
        # a broken list: the former rules stay, the log says why
        words.write_text("evil\nx\n")
        made.data.kill(signal.SIGHUP)
        wait_until("the log says so", lambda: "not reloaded" in (made.folder / "data.log").read_text())
        assert "line=2" in (made.folder / "data.log").read_text()
        made.post(event(timestamp=at, campaign_id="two", user_agent="Evil/1.0"))
        figures(made, "two", clicks=0, flagged_clicks=2)
        assert made.ctl("status", "--json")["rule_version"] == second
        # the same content has the same version, another content another
        words.write_text("evil\n")
        reload("fraud: {clicks_per_ip_hour: 10}\n")
        wait_until("the first rules again", lambda: made.ctl("status", "--json")["rule_version"] == version)


def test_an_attacker_goes_on_the_blocklist(build):
    with node(build, extra=SMALL + "fraud: {clicks_per_ip_hour: 2, blocklist_over: 3, blocklist_ttl: 10m}\n") as made:
        at = hour_start()
        made.post([event(timestamp=at, ip_address="9.9.9.9") for _ in range(6)])
        time.sleep(1.2)  # twice the interval at which signals are heard
        assert not made.ctl("blocklist", "list", "--json")["items"]
        made.post(event(timestamp=at, ip_address="9.9.9.9"))
        items = wait_until("on the blocklist", lambda: made.ctl("blocklist", "list", "--json")["items"])
        assert items[0]["prefix"] == "9.9.9.9/32" and items[0]["count_only"] and "ip_velocity" in items[0]["reason"], items
        # an entry that counts tags nobody
        made.post(event(timestamp=at, ip_address="9.9.9.9", campaign_id="counted"))
        figures(made, "counted", flagged_clicks=1)
        assert tagged(made, "blocklisted") == 0
        wait_until("counted", lambda: tagged(made, "attackers") == 1)


def replayed(made, rules, *arguments):
    result = made.ctl("fraud", "replay", "--rules", str(rules), *arguments, "--json")
    return {row["reason"]: (row["tagged"], row["tagged_then"]) for row in result["reasons"]}, {row["campaign"]: row for row in result["campaigns"]}, result


def test_replay_under_other_rules(build):
    """The rules in force change nothing; others change what they would have changed live; the folder stays as it is."""
    with folder() as path:
        section = files(path / "rules")
        with node(build, extra=SMALL + section) as made, findings() as same:
            at = hour_start()
            wanted = clicks_of_each_reason(at)
            del wanted["blocklisted"]  # what was on the blocklist then is not replayed
            for events, _, _ in wanted.values():
                for one in events:
                    made.post(one)
                    time.sleep(0.003)  # a replay does not know the order of what was received in the same millisecond
            # a click that its impression saved: tagged at once, amended later
            made.post(event(timestamp=at, campaign_id="saved", user_id="sv"))
            time.sleep(0.003)
            made.post(event(timestamp=at - 100, campaign_id="saved", user_id="sv", event_type="impression"))
            figures(made, "saved", clicks=1, flagged_clicks=0)
            made.ctl("segments", "seal")
            rules = path / "same.yaml"
            rules.write_text(section)
            before = {file: file.read_bytes() for file in sorted(made.data_dir.rglob("*.seg")) + [made.data_dir / "manifest"]}

            reasons, campaigns, result = replayed(made, rules)
            for reason, (_, bad, _) in wanted.items():
                same(f"the same rules, {reason}", reasons.get(reason), (bad, bad))
            same("no campaign changes", campaigns, {})
            same("the same version", result["rule_version"], made.ctl("status", "--json")["rule_version"])

            rules.write_text("fraud: {clicks_per_ip_hour: 5, clicks_per_device_hour: 0, min_ms_since_impression: 501}\n")
            reasons, campaigns, _ = replayed(made, rules)
            same("one click fewer of the address", reasons["ip_velocity"], (2, 1))
            same("no limit for devices", reasons["device_velocity"], (2, 0))
            same("one millisecond more", reasons["too_soon"], (1, 2))
            same("off", reasons["no_mouse"], (1, 0))
            same("money", [campaigns["device_velocity"][key] for key in ("clicks", "clicks_then", "spend", "spend_then", "change", "currency")],
                 [5, 7, "2.500000", "3.500000", "1.000000", "USD"])
            same("money back", campaigns["too_soon"]["change"], "-0.500000")
            same("a saved click is clean", "saved" in campaigns, False)
            # a range without clicks
            reasons, campaigns, result = replayed(made, rules, "--from", str(at + 3600000))
            same("an empty range", (reasons, campaigns, result["clicks"]), ({}, {}, 0))
            # the node itself may append to its manifest at any time
            same("untouched", [file.name for file, whole in before.items() if not (file.read_bytes() == whole or file.name == "manifest" and
                                                                                    file.read_bytes().startswith(whole))], [])
            made.ctl("fraud", "replay", "--rules", str(rules), "--memory", "4KiB", status=1)
            made.ctl("fraud", "replay", status=2)


def test_a_model_is_trained_from_segments_and_used(build):
    with folder() as path, node(build, extra=SMALL + "fraud: {clicks_per_ip_hour: 0, clicks_per_device_hour: 0}\n") as made:
        at = hour_start()
        labels = []
        for n in range(400):
            bad = n % 4 == 0
            one = event(event_id=f"click-{n}", timestamp=at + n, user_id=f"u{n}", mouse_moves=n % 2 if bad else 20 + n % 50, referer="r" * (n % 30))
            labels.append(f"{one['event_id']},{int(bad)}\n")
            made.post(one)
        made.ctl("segments", "seal")
        (path / "labels.csv").write_text("".join(labels))
        table = made.ctl("fraud", "features", "--labels", str(path / "labels.csv"))
        assert len(table.splitlines()) == 401 and table.startswith("label,ip_clicks,")
        assert len(made.ctl("fraud", "features").splitlines()) == 401  # without labels: tagged or not
        (path / "clicks.csv").write_text(table)
        model = path / "model.json"
        done = subprocess.run([f"{build}/rules/turnpike-fraud-train", "--rounds", "20", str(path / "clicks.csv"), str(model)],
                              capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert "fraud found" in done.stdout
        (path / "rules.yaml").write_text(f"fraud: {{model: {model}, model_threshold: 0.5, clicks_per_ip_hour: 0, clicks_per_device_hour: 0}}\n")
        reasons, campaigns, _ = replayed(made, path / "rules.yaml")
        assert reasons == {"model": (0, 100)}, reasons
        assert campaigns["camp_1"]["change"] == "-50.000000", campaigns
        for broken in ("", "label\n2\n", "label,bid\n1\n", "ip_clicks\n1\n"):
            (path / "clicks.csv").write_text(broken)
            assert subprocess.run([f"{build}/rules/turnpike-fraud-train", str(path / "clicks.csv"), str(path / "x.json")], capture_output=True,
                                  timeout=PATIENCE).returncode == 1, broken
