"""The dashboard in real Chromium: every view, dark and light, wide and narrow, under load, over restarts; and nothing that axe-core finds.

tests/browser/dashboard.mjs drives it. Its screenshots lie in build/browser/shots, to be looked at. The browser's driver and axe-core come
from npm, pinned in tests/browser/package-lock.json; devtools/setup test installs them into build/browser.
"""
import json
import os
import pathlib
import re
import subprocess

from harness import PATIENCE, ROOT, SMALL, Skip, event, node, now_ms, wait_until

MODULES = ROOT / "build/browser"
RULES = "fraud: {no_impression: true}\n"


def shots(name):
    folder = MODULES / "shots" / f"{name}-{os.getpid()}" if os.environ.get("TURNPIKE_SHOTS_APART") else MODULES / "shots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def once(build):
    """The page is the same under a sanitizer, and the browser is not ours: one run is enough. A missing package is a failure."""
    if "ASAN_OPTIONS" in os.environ:
        raise Skip("the page is driven once, on the release build")
    assert (MODULES / "node_modules/playwright-core").is_dir(), "playwright-core is not installed: devtools/setup test"


def traffic(made, build, seeds=1):
    """Live traffic by two ways in, until it is ended. The same seeds make the same events."""
    blast = str(pathlib.Path(build).resolve() / "perf/turnpike-blast")
    (host, port), (udp_host, udp_port) = made.http[0], made.udp[0]
    common = ["--advertisers", "5", "--campaigns", "20", "--ads", "60", "--duration", "600", "--retry"]
    log = open(made.folder / "blast.log", "ab")
    return [subprocess.Popen([blast, "--to", to, "--seed", str(seed), *rate, *common], stdout=log, stderr=log, start_new_session=True)
            for seed, (to, *rate) in enumerate([(f"http://{host}:{port}", "--rate", "200", "--batch", "5"), (f"batch://{udp_host}:{udp_port}", "--rate", "200")], seeds)]


def end(processes):
    for process in processes:
        process.kill()  # --retry would wait for a node that is gone
    for process in processes:
        process.wait(PATIENCE)


def odd_events(made):
    """Flagged clicks, and what is rejected: views are not to be looked at empty."""
    stamp = now_ms()
    clicks = [event(event_id=f"dash-{i}", timestamp=stamp - 1000 * i, device_id=f"device-{i % 3}", campaign_id="camp_0001", advertiser_id="adv_000",
                    ip_address=f"198.51.100.{i % 2}", geo={"country": "NP"}) for i in range(40)]
    status, _ = made.post(clicks)
    assert status in (200, 204), status
    for i in range(12):
        made.post("\n".join([json.dumps(event(timestamp=stamp + 3600000 + i)), '{"event_id": "broken', json.dumps(event(ad_id=None))]))


def drive(made, part, name, wants=None, secret=""):
    host, port = made.api
    process = subprocess.Popen(["node", str(ROOT / "tests/browser/dashboard.mjs"), str(MODULES), f"http://{host}:{port}", str(shots(name)), part,
                                *([secret] if secret else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True)
    said = []
    try:
        for line in process.stdout:
            if match := re.fullmatch(r"want (\S+)\n", line):
                wants[match.group(1)]()
                process.stdin.write("done\n")
                process.stdin.flush()
            else:
                said.append(line)
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
        process.stdin.close()
        process.stdout.close()
    assert process.returncode == 0, "".join(said)
    assert re.fullmatch(r"\d+ checks, 0 failed\n", said[-1]), "".join(said)


def test_dashboard_views(build):
    once(build)
    with node(build, extra=SMALL + RULES) as made:
        blasts = traffic(made, build)
        try:
            odd_events(made)
            drive(made, "views", "views")
            live = made.get("/api/v1/live/history")
            assert live["samples"] and live["ways"], live.keys()
        finally:
            end(blasts)
        # every event that was received came by some port and way
        sheet = wait_until("nothing in flight", lambda: made.audit())
        received = sum(value if isinstance(value, int) else sum(value.values()) for key, value in sheet["events"].items()
                       if key in ("accepted", "duplicates", "late", "conflicts", "rejected", "dropped"))
        message = wait_until("the live message has all", lambda: (lambda now: now if now["totals"]["received"] == received else None)(live_message(made)))
        by_way = sum(way["total"] for port in message["ports"] for way in port["ways"].values())
        assert by_way == received, (by_way, received)


def live_message(made):
    """One message of the live stream."""
    import http.client
    connection = http.client.HTTPConnection(*made.api, timeout=PATIENCE)
    try:
        connection.request("GET", "/api/v1/live")
        answer = connection.getresponse()
        while True:
            line = answer.fp.readline()
            if b"data: " in line:
                return json.loads(line.split(b"data: ", 1)[1])
    finally:
        connection.close()


def test_dashboard_survives_restarts(build):
    once(build)
    with node(build, extra=SMALL) as made:
        # the control process comes back where the page looks for it
        made.config.write_text(made.config.read_text().replace("listen: '127.0.0.1:0'", f"listen: '{made.api[0]}:{made.api[1]}'"))
        blasts = traffic(made, build)

        def control_down():
            made.control.kill()
            made.control.popen.wait()

        def data_up():
            made.start(control=False)
            end(blasts)
            blasts[:] = traffic(made, build, 3)

        try:
            drive(made, "restart", "restart", {"control-down": control_down, "control-up": made.start_control, "data-down": made.kill, "data-up": data_up})
        finally:
            end(blasts)


def test_dashboard_for_an_advertiser(build):
    once(build)
    with node(build, extra=SMALL, control_auth="tokens") as made:
        odd_events(made)
        token = made.ctl("token", "create", "--scope", "read:advertiser:adv_000", "--json")
        drive(made, "advertiser", "advertiser", secret=token["token"])
