"""The data folder from outside: sums that move into rollup files, backup, the restore drill, retention, damage. docs/storage.md."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

from harness import PATIENCE, SMALL, Node, event, folder, now_ms, wait_until

MINUTE, HOUR = 60_000, 3_600_000
SEALS = 34  # more than a merge waits for


def view(**fields):
    return event(event_type="impression", **fields)


def ctl(made, *arguments, status=0):
    """Like Node.ctl, but lets the caller see standard error."""
    got = subprocess.run([f"{made.build}/control/turnpikectl", "-c", str(made.config), *arguments], capture_output=True, text=True)
    assert got.returncode == status, (arguments, got.returncode, got.stdout, got.stderr)
    return got


BEGIN = now_ms() // HOUR * HOUR - 30 * HOUR  # the same range for all questions, whatever hour begins meanwhile


def answers(made):
    """What the node says about everything these tests send, by minutes, hours and days."""
    begin, end = BEGIN, BEGIN + 36 * HOUR
    found = []
    for campaign in ("camp_0", "camp_1", "camp_2", "nobody"):
        for step in ("1m", "1h", "1d"):
            answer = made.get(f"/api/v1/analytics/campaigns/{campaign}?from={begin}&to={end}&step={step}&group_by=ad,country")
            answer.pop("watermark")
            answer["series"] = [{key: value for key, value in bucket.items() if key != "final"}
                                for bucket in answer["series"] if bucket["impressions"] or bucket["gross_clicks"]]
            answer["groups"] = sorted(answer["groups"], key=json.dumps)
            found.append(answer)
    return found


def files_of(path):
    return {str(one.relative_to(path)): hashlib.sha256(one.read_bytes()).hexdigest()
            for one in pathlib.Path(path).rglob("*") if one.is_file() and one.name not in ("lock", "turnpike.sock")}


def fill(made, rounds):
    """Some events over the last day, then a segment: `rounds` times."""
    sent = 0
    for number in range(rounds):
        body = [event(campaign_id=f"camp_{i % 3}", ad_id=f"ad_{i % 5}", timestamp=now_ms() - (number * 40 % 1400) * MINUTE,
                      geo={"country": "DE" if i % 2 else "FR"}, event_type="impression" if i % 3 else "click", bid_price="0.25")
                for i in range(12)]
        status, answer = made.post(body)
        assert status == 204, (status, answer)
        sent += len(body)
        made.ctl("segments", "seal")
    return sent


def total(found):
    return sum(one["totals"]["impressions"] + one["totals"]["gross_clicks"] for one in found[2::3])


def rollups(made):
    return list((pathlib.Path(made.data_dir) / "rollups").glob("*.rol"))


def covered(made):
    """Whether the manifest has rollup files of each class: they are there with their names before it has."""
    classes = made.ctl("retention", "--dry-run", "--json")["classes"]
    return all(classes[name]["files"] for name in ("minute", "hour", "day"))


def other_node(build, path, data_dir):
    """A node on another folder, as somebody who restores would start it."""
    path.mkdir(exist_ok=True)
    made = Node(build, path, extra=SMALL)
    made.config.write_text(made.config.read_text().replace(str(made.data_dir), str(data_dir)))
    made.data_dir = data_dir
    return made


def test_sums_move_into_rollup_files(build):
    """The same answers before and after, after a kill, and with the segments' raw rows gone from the question's way."""
    with folder() as path:
        made = Node(build, path, extra=SMALL)
        made.start()
        try:
            sent = fill(made, SEALS // 2)
            before = answers(made)
            assert total(before) == sent, (total(before), sent)
            sent += fill(made, SEALS)
            wait_until("the sums are in rollup files", lambda: covered(made))
            after = answers(made)
            assert total(after) == sent, (total(after), sent)
            # A correction: an event of long ago goes on top, and its minute gets a new revision.
            late = view(campaign_id="camp_0", timestamp=now_ms() - 20 * HOUR)
            revision = after[0]["revision"]
            assert made.post(late)[0] == 204
            wait_until("the late event shows", lambda: total(answers(made)) == sent + 1)
            assert answers(made)[0]["revision"] > revision
            made.kill()
            made.start()
            wait_until("all is counted again", lambda: total(answers(made)) == sent + 1)
            made.stop()
            ctl(made, "segments", "verify")
            # Each rollup file that is spoiled is named, and a question that needs it is refused, not answered wrong.
            spoiled = rollups(made)[0]
            kept = spoiled.read_bytes()
            spoiled.write_bytes(kept[:100] + bytes([kept[100] ^ 1]) + kept[101:])
            assert spoiled.name in ctl(made, "segments", "verify", status=1).stdout
            spoiled.write_bytes(kept)
            ctl(made, "segments", "verify")
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()


def test_backup_and_restore_drill(build):
    """Of a running node, again with little new, of a stopped node with its unsealed log; restored, the bytes and answers are equal."""
    with folder() as path:
        made = Node(build, path, extra=SMALL)
        made.start()
        target, restored = pathlib.Path(path) / "backup", pathlib.Path(path) / "restored"
        again = None
        try:
            sent = fill(made, SEALS)
            wait_until("the sums are in rollup files", lambda: covered(made))
            assert made.post([view(campaign_id="camp_1") for _ in range(7)])[0] == 204
            first = json.loads(ctl(made, "backup", str(target), "--json").stdout)
            assert first["running"] and first["segments"] >= SEALS and first["rollups"] >= 3, first
            second = json.loads(ctl(made, "backup", str(target), "--json").stdout)
            assert second["new_bytes"] < first["new_bytes"] / 4, (first, second)
            assert second["files"] >= first["files"] - 24 and second["segments"] == first["segments"], (first, second)
            want = answers(made)
            assert total(want) == sent + 7
            # Copies that got damaged since, or cut short, are told and made anew: a backup that says yes can be restored.
            named = [line.split()[1] for line in (target / "backup").read_text().splitlines() if "segments/" in line]
            for name, spoil in ((named[0], lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]), (named[1], lambda data: data[:-1])):
                (target / "files" / name).write_bytes(spoil((target / "files" / name).read_bytes()))
                said = ctl(made, "backup", str(target))
                assert name in said.stderr and "damaged" in said.stderr, said
            done = json.loads(ctl(made, "restore", str(target), str(restored), "--json").stdout)
            assert done["files"] == second["files"]
            again = other_node(build, pathlib.Path(path) / "again", restored)
            again.start()
            assert answers(again) == want
            # It is the same node: an id that was counted before the backup is known after it.
            assert again.stop() is None
            again = None

            # Not inside the data folder nor around it, not even by way of a link; a restore not into the backup; and nothing was made.
            link = pathlib.Path(path) / "link"
            link.symlink_to(made.data_dir)
            for place in (made.data_dir, made.data_dir / "segments" / "new" / "copy", link / "copy", made.data_dir.parent):
                assert "lies in the other" in ctl(made, "backup", str(place), status=1).stderr, place
            for place in (target / "again", target / "files" / ".." / "again"):
                assert "lies in the other" in ctl(made, "restore", str(target), str(place), status=1).stderr, place
            assert not any((made.data_dir / name).exists() for name in ("backup", "files", "copy", "segments/new"))
            assert not (target / "again").exists() and not (made.data_dir.parent / "files").exists()

            # Not over something, not over another node's, not from a damaged one; and each says so.
            assert "not empty" in ctl(made, "restore", str(target), str(restored), status=1).stderr
            made.post([view(campaign_id="camp_2") for _ in range(5)])
            made.kill()  # an unsealed log
            third = json.loads(ctl(made, "backup", str(target), "--json").stdout)
            assert not third["running"] and third["logs"] >= 1, third
            shutil.rmtree(restored)
            ctl(made, "restore", str(target), str(restored))
            found, original = files_of(restored), files_of(made.data_dir)
            assert all(original[name] == digest for name, digest in found.items())
            # What stays behind are log files that are done with, kept to be written over.
            assert all(name.startswith("log/") for name in original.keys() - found.keys()), original.keys() - found.keys()
            victim = max((target / "files").iterdir(), key=lambda one: one.stat().st_size)
            kept = victim.read_bytes()
            victim.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
            missing = pathlib.Path(path) / "missing"
            assert "damaged" in ctl(made, "restore", str(target), str(missing), status=1).stderr
            assert not missing.exists() and not missing.with_name("missing.restoring").exists()
            victim.write_bytes(kept)
            again = other_node(build, pathlib.Path(path) / "again", restored)
            again.start()
            wait_until("with what was not sealed", lambda: total(answers(again)) == sent + 12)
        finally:
            for one in (made, again):
                for process in (one.control, one.data) if one else ():
                    if process:
                        process.kill()


def test_backup_while_the_node_works(build):
    """Files come and go under it; what it holds in the end is whole."""
    with folder() as path:
        made = Node(build, path, extra=SMALL)
        made.start()
        target = pathlib.Path(path) / "backup"
        try:
            for number in range(4):
                fill(made, 12)
                backup = subprocess.Popen([f"{build}/control/turnpikectl", "-c", str(made.config), "backup", str(target)])
                fill(made, 6)
                assert backup.wait(PATIENCE) == 0
                restored = pathlib.Path(path) / f"restored{number}"
                ctl(made, "restore", str(target), str(restored))
                shutil.rmtree(restored)
            listed = {line.split()[1] for line in (target / "backup").read_text().splitlines() if line.startswith("file ")}
            assert {one.name for one in (target / "files").iterdir()} == listed
            made.stop()
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()


def test_retention_dry_run(build):
    """It says what is there, what is due and when, and deletes nothing."""
    with folder() as path:
        made = Node(build, path, extra=SMALL)
        made.start()
        try:
            fill(made, SEALS)
            wait_until("the sums are in rollup files", lambda: covered(made))
            before = sorted(os.listdir(pathlib.Path(made.data_dir) / "segments"))
            plan = json.loads(ctl(made, "retention", "--dry-run", "--json").stdout)
            assert plan["classes"]["raw"]["files"] >= SEALS and plan["classes"]["raw"]["due_files"] == 0, plan["classes"]
            assert plan["classes"]["raw"]["next"] and plan["classes"]["day"]["kept_ms"] > plan["classes"]["raw"]["kept_ms"]
            assert all(item["bytes"] > 0 and not item["now"] for item in plan["items"])
            assert "CLASS" in ctl(made, "retention", "--dry-run").stdout
            ctl(made, "retention", status=2)
            assert sorted(os.listdir(pathlib.Path(made.data_dir) / "segments"))[:len(before)] == before
            # With another configuration everything covered is due at once, and still nothing goes.
            made.config.write_text(made.config.read_text() + "retention: {raw: 1s, minute: 1s, hour: 1s, day: 1s}\n")
            def due_now():
                plan.update(json.loads(ctl(made, "retention", "--dry-run", "--json").stdout))
                return [item for item in plan["items"] if item["now"]]

            wait_until("a second has passed since some raw segment", lambda: any(item["class"] == "raw" for item in due_now()))
            due = due_now()
            waiting = [item for item in plan["items"] if item["due"] is None]
            assert len(waiting) + len(due) <= len(plan["items"])
            assert all((pathlib.Path(made.data_dir) / item["file"]).exists() for item in due)
            made.stop()
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()
