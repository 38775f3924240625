"""Starting after a crash: beacons are taken before old logs are sealed, a full disk holds nothing up, damage is refused by name."""
import collections
import os
import pathlib
import random
import shutil
import time
import uuid

from harness import CPUS, PATIENCE, SMALL, Node, Process, Skip, event, folder, loop_disk, run, wait_until


def logs(made):
    return sorted((made.data_dir / "log").glob("*.log"))


def close(made):
    for process in (made.control, made.data):
        if process:
            process.kill()
            process.popen.wait()


def test_log_show_names_blocks_and_damage(build):
    with folder() as path:
        made = Node(build, path)
        try:
            made.start(control=False)
            for i in range(5):
                assert made.post(event(device_id=f"d{i}", event_type="impression"))[0] == 204
            # A quiet log gets a witness behind its last block, so that even the last one's damage can be told.
            open_file = f"{next(one for one in made.ctl('log', 'show', '--json')['items'] if one['events'])['id']}"
            wait_until("the log bears witness", lambda: made.ctl("log", "show", open_file, "--json")["items"][-2]["kind"] == "witness")
            made.kill()
            file = next(one for one in made.ctl("log", "show", "--json")["items"] if one["events"])
            assert (file["state"], file["events"]) == ("open", 5), file
            blocks = made.ctl("log", "show", file["file"], "--json")["items"]
            good = [block for block in blocks if block["state"] == "good"]
            assert sum(block["records"] for block in good) == 5 and blocks[-1]["state"] == "missing", blocks
            last = [block for block in good if block["records"]][-1]
            whole = pathlib.Path(file["file"]).read_bytes()
            at = last["offset"] + 200
            pathlib.Path(file["file"]).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
            shown = made.ctl("log", "show", file["file"], "--json", status=1)
            assert shown["state"] == "damaged" and shown["unreadable_offset"] == last["offset"], shown
            assert shown["proven_sequence"] >= shown["unreadable_sequence"], shown
            faults = made.ctl("segments", "verify", "--json", status=1)["items"]
            assert [pathlib.Path(fault["file"]).name for fault in faults] == [pathlib.Path(file["file"]).name], faults
            # The node refuses to start, with status 1, and names the tool; nothing is changed by the attempt.
            refused = run(str(pathlib.Path(build) / "dataplane/turnpiked"), "-c", str(made.config), check=False, timeout=PATIENCE)
            assert refused.returncode == 1 and "turnpikectl log show" in refused.stderr, refused
            pathlib.Path(file["file"]).write_bytes(whole)
            made.start()
            assert made.totals("campaigns", "camp_1")["impressions"] == 5
            made.stop()
        finally:
            close(made)


def test_a_lost_folder_is_told(build):
    """Without the folder of the logs nobody knows what was in it: no start, unless a person says that it was empty."""
    with folder() as path:
        made = Node(build, path)
        try:
            made.start(control=False)
            assert made.post(event(event_type="impression"))[0] == 204
            made.kill()
            for name in ("log", "segments"):
                (made.data_dir / name).rename(path / name)
                refused = run(str(pathlib.Path(build) / "dataplane/turnpiked"), "-c", str(made.config), check=False, timeout=PATIENCE)
                assert refused.returncode == 1 and f"{made.data_dir}/{name}" in refused.stderr, refused
                faults = made.ctl("segments", "verify", "--json", status=1)["items"]
                assert [fault["file"] for fault in faults] == [f"{made.data_dir}/{name}"], faults
                assert not (made.data_dir / name).exists()
                (path / name).rename(made.data_dir / name)
            made.start(control=False)
            made.stop()
            shutil.rmtree(made.data_dir / "log")
            (made.data_dir / "log").mkdir()
            made.start()
            assert made.totals("campaigns", "camp_1")["impressions"] == 1
            made.stop()
        finally:
            close(made)


def test_a_missing_log_file_is_told(build):
    """Whoever deletes, empties or exchanges one log file is told its name, by every tool; only a person gives it up."""
    with folder() as path:
        made = Node(build, path, extra=SMALL)
        turnpiked = str(pathlib.Path(build) / "dataplane/turnpiked")
        try:
            made.start(control=False)
            assert made.post([event(event_type="impression", device_id=f"d{i}") for i in range(9)])[0] == 204
            made.ctl("backup", str(path / "running"))  # seals these: they are safe
            assert made.post([event(event_type="impression", device_id=f"d{i}") for i in range(5)])[0] == 204
            made.ctl("log", "show")  # of a running node: nothing is missing
            made.kill()
            file = pathlib.Path([one for one in made.ctl("log", "show", "--json")["items"] if one["events"]][-1]["file"])
            whole = file.read_bytes()
            cases = {"missing": file.unlink, "first block": lambda: file.write_bytes(b""),
                     "first block is not": lambda: file.write_bytes(bytes(4096) + whole[4096:])}
            for found, spoil in cases.items():
                spoil()
                refused = run(turnpiked, "-c", str(made.config), check=False, timeout=PATIENCE)
                assert refused.returncode == 1 and file.name in refused.stderr and "turnpikectl log show" in refused.stderr, (found, refused)
                shown = [one for one in made.ctl("log", "show", "--json", status=1)["items"] if one["state"] == "lost"]
                assert [pathlib.Path(one["file"]) for one in shown] == [file], (found, shown)
                faults = made.ctl("segments", "verify", "--json", status=1)["items"]
                assert file.name in {pathlib.Path(fault["file"]).name for fault in faults}, (found, faults)
                doctor = next(one for one in made.ctl("doctor", "--json", status={0, 1})["items"] if one["check"] == "log")
                assert doctor["status"] == "bad" and file.stem in doctor["found"], doctor
                refused = run(f"{build}/control/turnpikectl", "-c", str(made.config), "backup", str(path / "half"), check=False)
                assert refused.returncode == 1 and file.name in refused.stderr, (found, refused)
                file.write_bytes(whole)
            made.ctl("segments", "verify")
            made.ctl("log", "give-up", file.stem, status=1)  # it is there
            # A restore that forgets it is told as well.
            made.ctl("backup", str(path / "stopped"))
            copied = path / "stopped" / "files" / next(line.split()[1] for line in (path / "stopped/backup").read_text().splitlines()
                                                       if file.name in line)
            copied.unlink()
            assert run(f"{build}/control/turnpikectl", "-c", str(made.config), "restore", str(path / "stopped"), str(path / "not"),
                       check=False).returncode == 1
            # What a running node's backup has is whole without its open log.
            made.ctl("restore", str(path / "running"), str(path / "restored"))
            file.unlink()
            made.ctl("log", "give-up", file.stem)
            made.ctl("segments", "verify")
            made.start()
            assert made.totals("campaigns", "camp_1")["impressions"] == 9
            assert made.post(event(event_type="impression"))[0] == 204
            made.audit()
            made.stop()
            made.data_dir = path / "restored"
            made.write_config()
            made.start()
            assert made.totals("campaigns", "camp_1")["impressions"] == 9
            made.stop()
        finally:
            close(made)


def test_ports_open_before_old_logs_are_sealed(build):
    """On a disk without room for a segment the old log stays a log, and everything else goes on."""
    with folder() as path, loop_disk(path, 256) as mount:
        made = Node(build, path)
        made.data_dir = mount / "data"
        made.write_config()
        try:
            made.start()
            sent = [event(event_type="impression", event_id=str(uuid.UUID(int=i + 1))) for i in range(500)]
            assert made.post(sent, report=True)[1]["accepted"] == 500
            made.kill()
            with open(mount / "filler", "wb") as filler:
                try:
                    while True:
                        filler.write(b"\0" * (1 << 16))
                        filler.flush()
                except OSError:
                    pass
            made.start(control=False)  # does not wait for space
            assert made.post(sent[0])[0] == 503
            assert made.totals("campaigns", "camp_1")["impressions"] == 500  # from the live table of the old log
            status = made.ctl("status", "--json")
            assert status["state"] == "no_space" and status["recovery_bytes"] == status["recovery_bytes_all"] > 0, status
            (mount / "filler").unlink()
            wait_until("beacons are taken again", lambda: made.post(sent[0], report=True)[0] == 200)
            assert made.post(sent, report=True)[1]["duplicates"] == 500
            made.ctl("segments", "seal", "--json")
            wait_until("the old log is sealed", lambda: made.ctl("segments", "list", "--json")["items"])
            assert made.totals("campaigns", "camp_1")["impressions"] == 500
            made.audit()
            made.stop()
        finally:
            close(made)


def answered(answer):
    return answer if answer[0] == 200 else None


def more_tail_than_memory(build, batches, sealed_first):
    with folder() as path:
        made = Node(build, path, extra="memory: {dedup: 64MiB}\n")
        try:
            made.start(control=False)
            sent = [[event(event_type="impression", device_id=f"d{i}-{k}") for k in range(1000)] for i in range(batches)]
            for batch in sent:
                assert made.post(batch, report=True)[1]["accepted"] == 1000
            made.kill()
            made.extra = "memory: {dedup: 1MiB}\n"  # 7,600 ids a generation
            made.write_config()
            made.start()
            assert ("sealing the oldest files first" in (path / "data.log").read_text()) == sealed_first
            for batch in sent:
                assert made.post(batch, report=True)[1]["duplicates"] == 1000
            # What comes now wants the room of the ids that the tail has taken: those are forgotten only when their file is sealed, and
            # until then who sends more is told to send it again.
            more = [[event(event_type="impression", device_id=f"more{i}-{k}") for k in range(1000)] for i in range(6)]
            for batch in more:
                wait_until("there is room", lambda batch=batch: made.post(batch, report=True)[0] == 200)
            for batch in sent + more:
                _, report = wait_until("it is answered", lambda batch=batch: answered(made.post(batch, report=True)))
                assert report["duplicates"] == 1000, report
            assert made.totals("campaigns", "camp_1")["impressions"] == (batches + 6) * 1000
            made.audit()
            made.stop()
        finally:
            close(made)


def test_more_tail_than_memory(build):
    """More ids in the tail than the id table is sure to hold: the oldest files are sealed first, and every copy is still known."""
    more_tail_than_memory(build, 20, sealed_first=True)


def test_a_tail_in_two_generations(build):
    """More ids in the tail than one generation holds: nothing is sealed first, and every copy is still known, before and after."""
    more_tail_than_memory(build, 12, sealed_first=False)



def mix(z):
    """As perf/make_tail.c makes its events from their numbers."""
    z = (z + 0x9e3779b97f4a7c15) % 2**64
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 % 2**64
    z = (z ^ z >> 27) * 0x94d049bb133111eb % 2**64
    return z ^ z >> 31


def killed_in_mid_recovery(made, dice, files):
    """Starts the node and kills it when some of the files have been read. Whether that was before it had recovered."""
    log = made.folder / "data.log"
    before = log.stat().st_size if log.exists() else 0
    process = Process([str(made.build / "dataplane/turnpiked"), "-c", str(made.config)], log)
    wanted, moment = dice.randrange(files), dice.uniform(0, 0.02)
    try:
        def read():
            assert process.popen.poll() is None, process.tail()
            return log.read_bytes()[before:]
        wait_until("files are being read", lambda: b'msg="memory fixed"' in read())
        while read().count(b'msg="log file recovered"') < wanted and b'msg="recovered"' not in read():
            time.sleep(0.001)
        time.sleep(moment)
        return b'msg="recovered"' not in read()
    finally:
        process.kill()
        process.popen.wait()
        process.popen.stdout.close()
        process.log.close()


def test_killed_again_and_again_while_it_recovers(build):
    """Several threads read a log of several files and are killed at any moment, time after time: then nothing is lost, and nothing there twice."""
    if CPUS < 2:
        raise Skip("needs two CPUs: one thread a CPU recovers")
    kills, mib = int(os.environ.get("TURNPIKE_RECOVERY_KILLS", "3")), 208
    with folder() as path:
        made = Node(build, path, rx=(0, 1), shard=(0, 1), extra="durability: {log_file: 16MiB}\nmemory: {dedup: 64MiB, hop: 4MiB}\n")
        try:
            written = run(str(pathlib.Path(build) / "perf/make_tail"), str(made.data_dir), "2", str(mib << 20), str(16 << 20), timeout=PATIENCE)
            numbers = range(int(written.stdout.split()[0]))
            files = len(logs(made))
            assert files >= mib // 16, files
            ledger = collections.Counter((f"camp_{mix(n) % 50}", n % 8 != 0) for n in numbers)
            dice, middle = random.Random(os.environ.get("TURNPIKE_SEED", "1")), 0
            for _ in range(kills):
                middle += killed_in_mid_recovery(made, dice, files)
            # On a crowded machine the moment may be missed, once or twice.
            for _ in range(10):
                middle = middle or killed_in_mid_recovery(made, dice, 2)
            assert middle, "never killed before it had recovered"

            def check():
                for campaign in {name for name, _ in ledger}:
                    totals = made.totals("campaigns", campaign)
                    got = (totals["impressions"], totals["gross_clicks"])
                    assert got == (ledger[campaign, True], ledger[campaign, False]), (campaign, got, ledger[campaign, True], ledger[campaign, False])

            made.start()
            check()
            # Every id is known: other payloads of some of them are conflicts, whichever shard they come to.
            sample = [uuid.UUID(bytes=mix(n).to_bytes(8, "little") + mix(2**64 - 1 - n).to_bytes(8, "little")) for n in dice.sample(numbers, 400)]
            report = made.post([event(event_id=str(one), device_id=f"d{i}") for i, one in enumerate(sample)], report=True)[1]
            assert report["conflicts"] == len(sample), report
            made.kill()  # while it seals
            made.start()
            check()
            made.audit()
            made.stop()
            assert made.ctl("segments", "verify", "--json") == {"ok": True, "items": []}
            made.start()
            check()
            made.stop()
        finally:
            close(made)
