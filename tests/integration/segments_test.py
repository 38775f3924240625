"""Segments from outside: what was sent is in them, by every verb of the tool, also after archiving. docs/segment-format.md."""
import csv
import hashlib
import io
import json
import pathlib
import random
import subprocess
import time
import uuid

from harness import PATIENCE, SMALL, event, node, now_ms, wait_until
from sight_test import stopped_thread

TEXTS = ("plain", "comma, inside", 'quote " inside', "München", "line\nbreak")


def some(random_of, number):
    """Events of many shapes: number n and seed decide."""
    base = event(event_id=str(uuid.UUID(int=random_of.getrandbits(128), version=4)) if number % 3 else f"event/{number}/{random_of.random()}",
                 event_type=("click", "impression", "conversion")[number % 3], timestamp=now_ms() - random_of.randrange(30_000),
                 campaign_id=f"camp_{number % 7}", ad_id=f"ad_{number % 21}", advertiser_id=f"adv_{number % 7 % 3}",
                 device_id=str(uuid.UUID(int=number % 40)) if number % 2 else f"device-{number % 40}", user_agent=f"Agent/{number % 9} (X11)",
                 ip_address=f"2001:db8::{number % 50 + 1:x}" if number % 5 == 0 else f"198.51.100.{number % 250}",
                 referer=random_of.choice(TEXTS), geo={"country": "DE", "region": "BY", "city": random_of.choice(TEXTS)},
                 bid_price=f"0.{number % 97:02}", click_position=number % 11 if number % 4 else None)
    return base


def dump(made, *arguments):
    return [json.loads(line) for line in made.ctl("segments", "dump", *arguments).splitlines()]


def same(sent, found):
    """Is this the event that was sent?"""
    for key in ("event_id", "event_type", "timestamp", "ad_id", "campaign_id", "advertiser_id", "publisher_id", "device_id", "ip_address",
                "user_agent", "referer"):
        assert sent[key] == found[key], (key, sent[key], found[key])
    assert sent["geo"] == found["geo"]
    assert float(sent["bid_price"]) == float(found["bid_price"])
    assert sent.get("click_position") == found.get("click_position")


def all_there(made, sent):
    found = {one["event_id"]: one for one in dump(made)}
    assert found.keys() == sent.keys()
    for name, one in sent.items():
        same(one, found[name])


def sealed(made, wanted):
    made.ctl("segments", "seal")
    wait_until("all is sealed", lambda: sum(one["rows"] for one in made.ctl("segments", "list", "--json")["items"]) == wanted)


def test_segments_hold_what_was_sent(build):
    random_of, sent = random.Random(7), {}
    with node(build, control=False) as made:
        for number in range(3):
            body = [some(random_of, number * 400 + i) for i in range(400)]
            status, answer = made.post(body)
            assert status == 204, (status, answer)
            sent.update((one["event_id"], one) for one in body)
            sealed(made, len(sent))
        all_there(made, sent)

        # Predicates, one by one and together.
        middle = sorted(one["timestamp"] for one in sent.values())[600]
        for arguments, wanted in (
                (("--campaign", "camp_3"), lambda one: one["campaign_id"] == "camp_3"),
                (("--ad", "ad_20", "--type", "conversion"), lambda one: one["ad_id"] == "ad_20" and one["event_type"] == "conversion"),
                (("--advertiser", "adv_1", "--from", str(middle)), lambda one: one["advertiser_id"] == "adv_1" and one["timestamp"] >= middle),
                (("--to", str(middle)), lambda one: one["timestamp"] < middle),
                (("--campaign", "nobody"), lambda one: False)):
            found = {one["event_id"] for one in dump(made, *arguments)}
            assert found == {name for name, one in sent.items() if wanted(one)}, arguments
        table = list(csv.DictReader(io.StringIO(made.ctl("segments", "dump", "--format", "csv"), newline="")))
        assert len(table) == len(sent)
        for row in table:
            assert row["referer"] == sent[row["event_id"]]["referer"] and row["city"] == sent[row["event_id"]]["geo"]["city"]

        # The facts of each, and the chain of the files.
        items, before = made.ctl("segments", "list", "--json")["items"], "0" * 64
        campaigns = {}
        for item in items:
            shown = made.ctl("segments", "show", str(item["sequence"]), "--json")
            file = next((pathlib.Path(made.data_dir) / "segments").glob(f"{item['sequence']:016x}*.seg")).read_bytes()
            assert hashlib.sha256(file).hexdigest() == item["sha256"] and len(file) == item["bytes"]
            assert shown["prev_sha256"] == item["prev_sha256"] == before
            before = item["sha256"]
            for one in shown["campaigns"]:
                campaigns[one["campaign"]] = campaigns.get(one["campaign"], 0) + one["impressions"]
        assert campaigns == {name: sum(one["campaign_id"] == name and one["event_type"] == "impression" for one in sent.values())
                             for name in campaigns} and len(campaigns) == 7
        stats = made.ctl("segments", "stats", "--json")
        assert stats["rows"] == len(sent) and stats["bytes"] == sum(one["bytes"] for one in items)
        assert {"timestamp", "ad_id", "(ids)"} <= {one["part"] for one in stats["items"]}
        assert made.ctl("segments", "show", str(items[0]["sequence"]))
        assert made.ctl("segments", "stats", str(items[0]["sequence"]))

        # Words that mean nothing, segments that are not there.
        made.ctl("segments", "show", "99999", status=1)
        made.ctl("segments", "show", "x", status=1)
        made.ctl("segments", "dump", "--type", "sale", status=2)
        made.ctl("segments", "dump", "--format", "xml", status=2)
        made.ctl("segments", "archive", status=1)  # a running node

        # Archived on a stopped node: smaller files, the same events, the same chain; and the node goes on with them.
        made.stop()
        done = made.ctl("segments", "archive", "--json")
        assert done["bytes_after"] <= done["bytes_before"], done
        assert made.ctl("segments", "verify", "--json")["ok"]
        assert [one["prev_sha256"] for one in made.ctl("segments", "list", "--json")["items"]] == [one["prev_sha256"] for one in items]
        all_there(made, sent)
        assert made.ctl("segments", "archive", "--json")["files"] <= len(items) - done["files"]
        made.start(False)
        one = next(iter(sent.values()))
        status, answer = made.post([one], report=True)
        assert answer["duplicates"] == 1, answer


def test_a_seal_may_take_its_time(build):
    """Longer than any other command is waited for: who asked waits, and everybody else is answered meanwhile."""
    with node(build, control=False, extra=SMALL) as made:
        assert made.post(event())[0] == 204
        tasks = pathlib.Path(f"/proc/{made.data.popen.pid}/task").iterdir()
        sealer = next(int(task.name) for task in tasks if (task / "comm").read_text() == "seal\n")
        ask = [str(made.build / "control/turnpikectl"), "-c", str(made.config), "segments", "seal"]
        with stopped_thread(sealer):
            waits = subprocess.Popen(ask)
            time.sleep(6)
            assert waits.poll() is None, "it did not wait"
            made.ctl("blocklist", "add", "192.0.2.0/24")
            assert [item["prefix"] for item in made.ctl("blocklist", "list", "--json")["items"]] == ["192.0.2.0/24"]
            assert made.post(event())[0] == 204
            gone = subprocess.Popen(ask)  # what it asked for goes on, and nobody is answered
            time.sleep(0.5)
            gone.kill()
            gone.wait()
        assert waits.wait(PATIENCE) == 0
        sealed(made, 2)
