"""Wrong questions, a data folder from which a file is gone, a state folder that cannot be used: what is said names what is wrong."""
import json
import os
import subprocess
import urllib.parse

from harness import PATIENCE, Skip, event, node, now_ms, wait_until

TIMES = ("abc", "", "-1", "1e3", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z", "2026-01-01T00:00:00", "99999999999999999999",
         "10000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1.5")
LIMITS = ("0", "-1", "abc", "", "1e3", "99999999999999999999", "4294967297", "+5", " 5")
WINDOWS = ("0", "0h", "1", "h", "-1h", "1H", "1.5h", "99999999999999999d", "1h1m", "")
ZONES = ("Mars/Phobos", "", "../../etc/passwd", "/etc/localtime", "Europe", "zone.tab", "a" * 300)
CURSORS = ("x", "", "a" * 1000)

# Of each resource: the parameters and what they do not take. Each is told with 400 and its name.
WRONG = {
    "/api/v1/analytics/campaigns/c1": {
        "window": WINDOWS, "from": TIMES, "to": TIMES, "tz": ZONES, "limit": LIMITS, "step": ("", "2m", "1w"), "slide": ("0", "7m", "-1m", "2h"),
        "group_by": ("x", "ad,", ",ad", "ad,ad", "AD"), "filter": ("x", "x:y", "country:USA", "device:z", "country:US,", ",", "ad:%"),
        "order": ("x", "-", "", "--clicks"), "compare": ("x", ""), "bogus": ("1",)},
    "/api/v1/analytics/trending": {"by": ("x", ""), "window": WINDOWS + ("2d",), "limit": LIMITS + ("101",), "from": TIMES, "bogus": ("1",)},
    "/api/v1/analytics/sessions?user=u": {"window": WINDOWS, "limit": LIMITS + ("1001",), "from": TIMES, "to": TIMES, "bogus": ("1",)},
    "/api/v1/billing/reports?advertiser=a": {"period": ("x", "", "Daily"), "from": TIMES, "to": TIMES, "tz": ZONES, "format": ("xml", ""),
                                             "bogus": ("1",)},
    "/api/v1/fraud/flagged": {"reason": ("x", "ip_velocity,x"), "limit": LIMITS + ("1001",), "cursor": CURSORS + ("f000",), "from": TIMES,
                              "class": ("x",), "bogus": ("1",)},
    "/api/v1/fraud/summary": {"step": ("2m",), "class": ("x",), "to": TIMES, "bogus": ("1",)},
    "/api/v1/reconcile/segments": {"after": ("x", "-1", "1.5", "9" * 23, ""), "limit": LIMITS, "bogus": ("1",)},
    "/api/v1/reconcile/totals": {"by": ("x", "", "ad"), "from": TIMES, "to": TIMES, "bogus": ("1",)},
    "/api/v1/reconcile/runs": {"limit": LIMITS, "from": TIMES, "to": TIMES, "bogus": ("1",)},
    "/api/v1/dlq": {"reason": ("x", "malformed,x"), "cursor": CURSORS + ("1-2-3-4",), "limit": LIMITS + ("1001",), "from": TIMES, "bogus": ("1",)},
    "/api/v1/live/refused": {"from": TIMES, "to": TIMES, "bogus": ("1",)},
    "/api/v1/blocklist": {"limit": LIMITS + ("10001",), "after": ("x", "", "1.2.3.4/33"), "bogus": ("1",)},
    "/api/v1/audit-log": {"limit": LIMITS, "cursor": CURSORS + ("-1",), "bogus": ("1",)},
    "/api/v1/events/e1": {"from": TIMES, "to": TIMES, "bogus": ("1",)},
}


def problem(made, path, parameter):
    status, headers, content = made.request("GET", path, at=made.api)
    assert status == 400, f"{path}: {status} {content[:300]!r}"
    assert headers["Content-Type"] == "application/problem+json", (path, headers)
    assert json.loads(content).get("parameter") == parameter, (path, content)


def test_a_wrong_parameter_is_named(build):
    with node(build) as made:
        for path, parameters in WRONG.items():
            joint = "&" if "?" in path else "?"
            for name, values in parameters.items():
                for value in values:
                    problem(made, f"{path}{joint}{name}={urllib.parse.quote(value, safe='')}", name)
                value = {"from": "1", "to": "1", "limit": "1"}.get(name, "x")
                problem(made, f"{path}{joint}{name}={value}&{name}={value}", name)
            if "from" in parameters:
                problem(made, f"{path}{joint}from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from")
        # and the node is as it was
        assert made.get("/api/v1/analytics/campaigns/c1")["totals"]["impressions"] == 0


def test_a_missing_segment_is_named_and_costs_only_who_needs_it(build):
    with node(build) as made:
        hour, stamp = 3_600_000, now_ms() - 3 * 3_600_000
        for number in range(3):
            assert made.post([event(timestamp=stamp + number * hour + i) for i in range(5)])[0] == 204
            made.ctl("segments", "seal")
            wait_until("sealed", lambda: len(made.ctl("segments", "list", "--json")["items"]) == number + 1)

        def asked(number, status=200):
            at = stamp + number * hour
            return made.get(f"/api/v1/analytics/campaigns/camp_1?from={at}&to={at + 1000}&step=1m", status)
        lost = made.data_dir / "segments" / "0000000000000002.seg"
        away = lost.rename(made.folder / "away.seg")
        made.control.kill()
        made.control.popen.wait()
        made.start_control()
        for number in (0, 2):
            assert asked(number)["totals"]["gross_clicks"] == 5
        for path in ("analytics/campaigns/camp_1?window=12h", "billing/reports?advertiser=adv_1",
                     f"reconcile/totals?from={stamp}&to={stamp + 3 * hour}"):
            told = made.get(f"/api/v1/{path}", 500)
            assert "segment 2 " in told["detail"], (path, told)
        assert asked(1, 500)["type"] == "urn:turnpike:problem:damaged-segment"
        listed = made.get("/api/v1/reconcile/segments")["items"]
        assert [one["sequence"] for one in listed] == [1, 2, 3]
        # put back, nothing has to be restarted
        away.rename(lost)
        assert asked(1)["totals"]["gross_clicks"] == 5


def test_a_state_folder_that_cannot_be_used_is_named(build):
    if os.geteuid():
        raise Skip("needs root, for a read-only mount")
    with node(build) as made:
        state, control = made.folder / "control", [str(made.build / "control/turnpike-control"), "-c", str(made.config)]
        made.control.stop()
        made.control = None
        read_only = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"', str(state)]
        said = subprocess.run(read_only + control, capture_output=True, text=True, timeout=PATIENCE)
        assert said.returncode == 1 and "control.state_dir has to be writable" in said.stderr and str(state) in said.stderr, said
        ledger = (state / "ledger.db").read_bytes()
        (state / "ledger.db").write_bytes(b"junk" * 1000)
        said = subprocess.run(control, capture_output=True, text=True, timeout=PATIENCE)
        assert said.returncode == 1 and "the ledger is damaged" in said.stderr and str(state) in said.stderr, said
        assert (state / "ledger.db").read_bytes() == b"junk" * 1000, "it was touched"
        (state / "ledger.db").write_bytes(ledger)
        made.start_control()
