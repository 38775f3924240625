"""What is counted stays counted, and once: horizon, floor and rotation of the id table, restarts, broken disks. Contract section 4."""
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

from crash_test import Clients, fixed_ports
from harness import CPUS, PATIENCE, SMALL, Node, Process, Skip, dies_with_us, event, folder, node, now_ms, run, unmount, wait_until

MINUTE = 60_000
# All stamps of these tests lie here: the node's event time follows the stamps, so a day takes no longer than its events.
LONG_AGO = (now_ms() - 40 * 86_400_000) // MINUTE * MINUTE


@contextlib.contextmanager
def restartable(build, **options):
    """A node that the test may kill and start again, also with other options."""
    with folder() as path:
        made = Node(build, path, **options)
        try:
            yield made
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()
                    process.popen.wait()


def verdict(made, one):
    status, report = made.post(one, report=True)
    assert status == 200, (status, report)
    return next(name for name in ("accepted", "duplicates", "late", "conflicts") if report[name])


def post_all(made, events, batch=400):
    """Posts and retries until all is acknowledged; the sums of the reports."""
    sums = {"accepted": 0, "duplicates": 0, "late": 0, "conflicts": 0}
    connection = http.client.HTTPConnection(*made.http[0], timeout=PATIENCE)
    for at in range(0, len(events), batch):
        body = json.dumps(events[at:at + batch])
        for _ in range(int(PATIENCE / 0.02)):
            connection.request("POST", "/api/v1/clicks?report=1", body)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200:
                break
            assert answer.status == 503, (answer.status, content)
            time.sleep(0.02)
        report = json.loads(content)
        assert not report["rejected"], report["rejected"][:3]
        for name in sums:
            sums[name] += report[name]
    connection.close()
    return sums


def counted(made, campaign="camp_1"):
    """Impressions over all time."""
    answer = made.get(f"/api/v1/analytics/campaigns/{campaign}?from={LONG_AGO - 86_400_000}&to={now_ms() + MINUTE}&step=1d")
    return answer["totals"]["impressions"]


def view(**fields):
    return event(event_type="impression", **fields)


# ---- the horizon ----

def horizon_walk(build, restart):
    """Inside the horizon the id alone decides, beyond it the id and the minute; whatever restarts lie between."""
    extra = "time: {horizon: 2m, lateness: 1s}\n" + SMALL
    with restartable(build, extra=extra, shard=(0,)) as n:
        n.start()

        def again(last=False):
            if restart == "last kill" and not last:  # so that all lies in one segment
                return
            if restart in ("kill", "last kill"):
                n.kill()
            elif restart == "stop":
                assert n.data.stop() == 0
            if restart:
                n.start(control=False)

        first = view(event_id="x", timestamp=LONG_AGO)
        assert verdict(n, first) == "accepted"
        assert verdict(n, first) == "duplicates"
        assert verdict(n, view(event_id="x", timestamp=LONG_AGO + MINUTE)) == "conflicts"
        again()
        assert verdict(n, first) == "duplicates"
        assert verdict(n, view(event_id="x", timestamp=LONG_AGO + MINUTE)) == "conflicts"
        assert verdict(n, view(timestamp=LONG_AGO + 10 * MINUTE)) == "accepted"
        again()
        assert verdict(n, first) == "duplicates"
        assert verdict(n, dict(first, ad_id="other")) == "conflicts"
        second = view(event_id="x", timestamp=LONG_AGO + 9 * MINUTE)
        assert verdict(n, second) in ("accepted", "late")
        again(True)
        for _ in range(2):
            assert verdict(n, second) == "duplicates"
            assert verdict(n, first) == "duplicates"
            assert verdict(n, dict(first, ad_id="other")) == "conflicts"
            assert verdict(n, dict(second, ad_id="other")) == "conflicts"
            assert verdict(n, view(event_id="x", timestamp=LONG_AGO + 10 * MINUTE)) == "conflicts"
        # Beyond the horizon twice: an id of three minutes, each an event of its own.
        assert verdict(n, view(timestamp=LONG_AGO + 30 * MINUTE)) == "accepted"
        third = view(event_id="x", timestamp=LONG_AGO + 5 * MINUTE)
        assert verdict(n, third) == "late"
        again()
        for known in (first, second, third):
            assert verdict(n, known) == "duplicates"
            assert verdict(n, dict(known, ad_id="other")) == "conflicts"
        wait_until("five are counted", lambda: counted(n) == 5)
        n.stop()


def test_horizon(build):
    horizon_walk(build, None)


def test_horizon_over_kills(build):
    horizon_walk(build, "kill")


def test_horizon_over_one_kill(build):
    horizon_walk(build, "last kill")


def test_horizon_over_stops(build):
    horizon_walk(build, "stop")


def slow_replay(made, at, identity):
    """
    An id, five seconds of events of its time, and the id again: what is said to it. None if events came so slowly that event time went on by
    itself, as it does after a silence of `lateness`: that shows nothing.
    """
    sent, end, number = time.monotonic(), time.monotonic() + 5, 0
    while True:
        last = time.monotonic() > end
        before, sent = sent, time.monotonic()
        name = identity if last or not number else f"{identity} {number}"
        said = verdict(made, view(event_id=name, timestamp=at + 200 if last else at - 100))
        if time.monotonic() - before >= 0.9:
            return None
        if last:
            return said
        assert said == "accepted", number
        number += 1
        time.sleep(0.1)


def test_horizon_is_event_time(build):
    """An old log that is replayed slowly, and sealed all the time: seconds of the clock pass, and its ids are inside the horizon all the same."""
    with node(build, extra="time: {horizon: 1s, lateness: 1s}\n" + SMALL, shard=(0,)) as n:
        stop, turns = threading.Event(), itertools.count()

        def sealing():
            while not stop.is_set():
                n.ctl("segments", "seal")
                stop.wait(0.1)

        def replayed():
            turn = next(turns)
            return slow_replay(n, LONG_AGO + 10 * turn * MINUTE, f"x{turn}")

        thread = threading.Thread(target=sealing)
        thread.start()
        try:
            assert wait_until("no silence in five seconds", replayed) == "conflicts"
        finally:
            stop.set()
            thread.join()


# ---- the id table, full many times over ----

def churn(build, restart, spread):
    """A table for some 7,600 ids takes 40,000: nothing is lost, nothing counts twice, old ids are still known."""
    extra = "memory: {dedup: 1MiB, hop: 4MiB}\ndurability: {log_file: 16MiB}\ntime: {lateness: 1s}\n"
    dice = random.Random(7)
    sent = [view(event_id=f"id-{i}", device_id=f"d{i % 977}", timestamp=LONG_AGO + i * spread) for i in range(40_000)]
    with restartable(build, extra=extra) as n:
        n.start()
        half = len(sent) // 2
        sums = post_all(n, sent[:half])
        assert (sums["accepted"] + sums["late"], sums["conflicts"]) == (half, 0), sums
        if restart:
            n.kill()
            n.start(control=False)
        wait_until("all are counted", lambda: counted(n) == half)
        old = dice.sample(sent[:half], 2000)
        sums = post_all(n, old)
        assert sums["duplicates"] == len(old), sums
        mixed = sent[half:] + old
        dice.shuffle(mixed)
        sums = post_all(n, mixed)
        assert sums["conflicts"] == 0 and sums["duplicates"] >= len(old), sums
        assert counted(n) == len(sent)
        if restart:
            n.kill()
            n.start(control=False)
            wait_until("all are counted", lambda: counted(n) == len(sent))
        dice.shuffle(sent)
        sums = post_all(n, sent)
        assert sums["duplicates"] >= len(sent) and not sums["accepted"] and not sums["late"] and not sums["conflicts"], sums
        assert counted(n) == len(sent)
        n.audit()
        n.stop()


def test_full_id_table_within_one_minute(build):
    churn(build, False, 0)


def test_full_id_table_over_hours(build):
    churn(build, False, 500)


def test_full_id_table_and_kills(build):
    churn(build, True, 500)


# ---- restarts ----

def test_kills_during_recovery(build):
    """A crash in recovery changes nothing, however often."""
    dice = random.Random(3)
    with restartable(build, extra=SMALL) as n:
        n.start()
        sent = [view(event_id=f"r{i}", device_id=f"d{i}", ad_id=f"ad{i % 500}") for i in range(20_000)]
        sums = post_all(n, sent)
        assert sums["accepted"] == len(sent), sums
        for _ in range(12):
            n.kill()
            n.data = Process([str(n.build / "dataplane/turnpiked"), "-c", str(n.config)], n.folder / "data.log")
            time.sleep(dice.uniform(0, 0.25))
        n.kill()
        n.start(control=False)
        wait_until("all are counted", lambda: counted(n) == len(sent))
        sums = post_all(n, dice.sample(sent, 2000))
        assert sums["duplicates"] == 2000, sums
        n.stop()


def test_event_time_does_not_fall_back(build):
    """A minute that was called final is final after a restart, and what comes for it is late and a new revision."""
    def asked(made):
        return made.get(f"/api/v1/analytics/campaigns/camp_1?from={LONG_AGO - MINUTE}&to={LONG_AGO + 10 * MINUTE}&step=1m")

    with restartable(build, extra="time: {horizon: 10m, lateness: 1s}\n" + SMALL) as n:
        n.start()
        assert verdict(n, view(timestamp=LONG_AGO + MINUTE - 2000)) == "accepted"
        # Then silence: the clock carries event time over the end of the minute.
        before = wait_until("the minute is final", lambda: (a := asked(n))["series"][1]["final"] and a)
        for how in ("kill", "stop"):
            n.kill() if how == "kill" else n.data.stop()
            n.start(control=False)
            assert verdict(n, view(timestamp=LONG_AGO + MINUTE - 1500)) == "late", how
            after = wait_until("a new revision", lambda: (a := asked(n))["revision"] > before["revision"] and a)
            assert after["watermark"] >= before["watermark"] and after["series"][1]["final"], (how, before, after)
            before = after
        n.stop()


def test_fraud_state_outlives_the_process(build):
    """With a limit N the (N+1)th click of the hour is tagged, whatever happened between."""
    hour = LONG_AGO // 3_600_000 * 3_600_000
    rules = "fraud: {clicks_per_ip_hour: 4, clicks_per_device_hour: 3, min_ms_since_impression: 500}\n"
    counts = [(0,), (0, 1), (1,)] if CPUS > 1 else [(0,)] * 3
    with restartable(build, extra=rules + SMALL) as n:
        def flagged(campaign):
            return n.get(f"/api/v1/analytics/campaigns/{campaign}?from={hour}&to={hour + 7_200_000}&step=1h")["totals"]["flagged_clicks"]

        number = 0

        def click(campaign, **fields):
            nonlocal number
            number += 1
            made = event(campaign_id=campaign, timestamp=hour + 10_000 + number, **fields)
            assert verdict(n, made) in ("accepted", "late")

        n.start()
        for turn, shard in enumerate(counts):
            if turn:
                n.kill() if turn == 1 else n.data.stop()
                n.shard = shard
                n.write_config()
                n.start(control=False)
            for i in range(2):
                click("by_ip", device_id=f"d{turn}-{i}", ip_address="203.0.113.1")
                click("by_device", device_id="one")
            wanted = max(0, 2 * (turn + 1) - 4), max(0, 2 * (turn + 1) - 3)
            wait_until(f"{wanted} are tagged in turn {turn}", lambda: (flagged("by_ip"), flagged("by_device")) == wanted)
        n.post(view(campaign_id="too_soon", user_id="u", ad_id="a", timestamp=hour + 60_000))
        n.kill()
        n.start(control=False)
        assert verdict(n, event(campaign_id="too_soon", user_id="u", ad_id="a", timestamp=hour + 60_400)) == "accepted"
        assert verdict(n, event(campaign_id="too_soon", user_id="u", ad_id="a", timestamp=hour + 60_600)) == "accepted"
        wait_until("one came too soon", lambda: flagged("too_soon") == 1)
        n.stop()


# ---- many at once ----

def test_one_id_on_two_shards(build):
    """Copies of an id with other devices land on other shards at the same moment: one counts, all others are conflicts."""
    if CPUS < 2:
        raise Skip("needs two CPUs")
    with node(build, rx=(0, 1), shard=(0, 1), extra=SMALL) as n:
        reports, lock = [], threading.Lock()

        def work(number):
            for turn in range(40):
                events = [view(event_id=f"same-{turn}-{i}", device_id=f"d{number}", timestamp=LONG_AGO) for i in range(50)]
                sums = post_all(n, events)
                with lock:
                    reports.append(sums)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE)
        total = {name: sum(report[name] for report in reports) for name in reports[0]}
        assert total == {"accepted": 2000, "duplicates": 0, "late": 0, "conflicts": 6000}, total
        assert counted(n) == 2000
        events = n.audit()["events"]
        assert (events["received"], events["accepted"], events["conflicts"]) == (8000, 2000, 6000), events


def test_figures_never_fall(build):
    """While files are sealed all the time, each answer has at least what was acknowledged before it, and no less than the last one."""
    with node(build, extra="durability: {seal_after: 1s, log_file: 16MiB}\nmemory: {hop: 4MiB, dedup: 1MiB}\n") as n:
        stop, acknowledged, errors = threading.Event(), [0], []

        def sealing():
            while not stop.is_set():
                n.ctl("segments", "seal")

        def sending():
            connection = http.client.HTTPConnection(*n.http[0], timeout=PATIENCE)
            while not stop.is_set():
                body = json.dumps([view(device_id=f"d{i}") for i in range(20)])
                while True:
                    connection.request("POST", "/api/v1/clicks", body)
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status == 204:
                        break
                    if answer.status != 503:
                        errors.append(answer.status)
                        return
                acknowledged[0] += 20
            connection.close()

        threads = [threading.Thread(target=sealing), threading.Thread(target=sending)]
        for thread in threads:
            thread.start()
        last, end = 0, time.monotonic() + 6
        try:
            while time.monotonic() < end:
                least = acknowledged[0]
                got = n.totals("campaigns", "camp_1")["impressions"]
                assert got >= max(last, least), (got, last, least)
                last = got
        finally:
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
        assert not errors and counted(n) == acknowledged[0] > 0, (errors, acknowledged)


def test_stop_under_load(build):
    """SIGTERM while clients send: status 0, nothing unsealed, and what was answered 204 is counted, once."""
    with restartable(build, extra=SMALL) as n:
        n.start()
        fixed_ports(n)
        with Clients(n, threads=4, batch=30) as clients:
            for _ in range(4):
                time.sleep(0.5)
                assert n.data.stop() == 0
                assert not list((n.data_dir / "log").iterdir())
                n.start(control=False)
            time.sleep(0.3)
            clients.finish()
        clients.check()
        n.audit()
        n.stop()


# ---- stamps ----

def test_stamps_of_long_ago(build):
    """The first minute of 1970, and the order of times that no clock has: all counted, each minute closed by what came after."""
    with node(build, extra="time: {horizon: 2m, lateness: 0s}\n" + SMALL, shard=(0,)) as n:
        zero = view(event_id="zero", timestamp=0)
        assert verdict(n, zero) == "accepted"
        assert verdict(n, zero) == "duplicates"
        assert verdict(n, view(timestamp=59_999)) == "accepted"
        assert verdict(n, view(timestamp=LONG_AGO)) == "accepted"
        assert verdict(n, view(timestamp=1)) == "late"
        assert verdict(n, zero) == "duplicates"
        path = f"/api/v1/analytics/campaigns/camp_1?from=0&to={3 * MINUTE}&step=1m"
        answer = wait_until("the minutes are final", lambda: (a := n.get(path))["series"][2]["final"] and a)
        assert [(bucket["impressions"], bucket["final"]) for bucket in answer["series"]] == [(3, True), (0, True), (0, True)], answer
        assert answer["revision"] == 2, answer
        answer = n.get(f"/api/v1/analytics/campaigns/camp_1?from={LONG_AGO}&to={LONG_AGO + 10 * 1440 * MINUTE}&step=1d")
        assert answer["totals"]["impressions"] == 1 and not answer["series"][-1]["final"], answer
        events = n.audit()["events"]
        assert (events["accepted"], events["late"], events["duplicates"]) == (3, 1, 2), events


def test_events_below_the_floor(build):
    """After a restart the table starts at the horizon: what is older is looked up, and is right in a burst of copies as well."""
    with restartable(build, extra="time: {horizon: 2m, lateness: 1s}\n" + SMALL, shard=(0,)) as n:
        n.start()
        assert verdict(n, view(event_id="old", timestamp=LONG_AGO)) == "accepted"
        assert verdict(n, view(timestamp=LONG_AGO + 60 * MINUTE)) == "accepted"
        n.kill()
        n.start(control=False)
        older = [view(event_id=f"o{i % 100}", timestamp=LONG_AGO - MINUTE, bid_price=0.25) for i in range(300)]
        report = n.post(older + [view(event_id="old", timestamp=LONG_AGO, bid_price=0.75)], report=True)[1]
        assert (report["accepted"], report["late"], report["duplicates"], report["conflicts"]) == (0, 100, 200, 1), report
        n.data.stop()
        n.start(control=False)
        sums = post_all(n, older)
        assert sums == {"accepted": 0, "late": 0, "duplicates": 300, "conflicts": 0}, sums
        wait_until("all are counted", lambda: counted(n) == 102)
        n.stop()


# ---- disks ----

@contextlib.contextmanager
def disk(path, backing_mib, disk_mib):
    """
    A file system on a loop device in a file on a small tmpfs. Yields (its folder, the tmpfs, repair): fill the tmpfs, and it gets EIO.
    """
    if os.geteuid() != 0:
        raise Skip("needs root: loop-mounted file systems")
    backing, mount = path / "backing", path / "mount"
    backing.mkdir()
    mount.mkdir()
    if run("mount", "-t", "tmpfs", "-o", f"size={backing_mib}m", "tmpfs", str(backing), check=False).returncode:
        raise Skip("cannot mount a tmpfs")
    try:
        with open(backing / "disk.img", "wb") as image:
            image.truncate(disk_mib << 20)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-J", "size=8", str(backing / "disk.img"))

        def attach():
            return run("mount", "-o", "loop,errors=continue", str(backing / "disk.img"), str(mount), check=False)

        def repair():
            unmount(mount)
            (backing / "filler").unlink()
            run("e2fsck", "-fy", str(backing / "disk.img"), check=False)
            assert attach().returncode == 0

        mounted = attach()
        if mounted.returncode:
            raise Skip(f"cannot mount a loop device: {mounted.stderr.strip()}")
        try:
            yield mount, backing, repair
        finally:
            unmount(mount)
    finally:
        unmount(backing)


def fill(path):
    with open(path, "wb", buffering=0) as filler:
        for bytes_ in (1 << 20, 4096):
            try:
                while True:
                    filler.write(b"\0" * bytes_)
            except OSError:
                pass


def test_failed_disk_ends_the_process(build):
    """EIO: status 1, and nothing that was not written is acknowledged; what was acknowledged is there once the disk is well again."""
    with folder() as path, disk(path, 700, 900) as (mount, backing, repair):
        made = Node(build, path, extra="durability: {log_file: 16MiB}\nmemory: {dedup: 16MiB, hop: 4MiB}\n")
        made.data_dir = mount / "data"
        made.write_config()
        try:
            made.start(control=False)
            acknowledged = []
            for i in range(20):
                one = view(event_id=f"before-{i}")
                assert made.post(one)[0] == 204
                acknowledged.append(one)
            fill(backing / "filler")
            unknown, number = [], 0
            while made.data.popen.poll() is None and number < 20_000:
                batch = [view(event_id=f"during-{number + i}", user_agent="x" * 1000) for i in range(100)]
                number += 100
                try:
                    status = made.post(batch)[0]
                except (OSError, http.client.HTTPException):
                    status = 0
                if status == 204:
                    acknowledged += batch
                else:
                    unknown += batch
            assert made.data.popen.wait(PATIENCE) == 1, made.data.tail()
            assert "error" in made.data.tail().lower()
            made.data.stop()
            repair()
            made.start()
            sums = post_all(made, acknowledged)
            assert sums["duplicates"] == len(acknowledged), (sums, len(acknowledged))
            assert len(acknowledged) <= counted(made) <= len(acknowledged) + len(unknown)
            made.stop()
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()
                    process.popen.wait()


def test_full_disk_under_load_and_kills(build):
    """The disk runs full while clients send, and the process is killed in that state: it starts again, and nothing is lost."""
    with folder() as path, disk(path, 300, 256) as (mount, _, _):
        made = Node(build, path, extra="durability: {log_file: 16MiB, seal_after: 1s}\nmemory: {dedup: 16MiB, hop: 4MiB}\n")
        made.data_dir = mount / "data"
        made.write_config()
        clients = None
        try:
            made.start()
            fixed_ports(made)
            clients = Clients(made, threads=2)
            for _ in range(2):
                time.sleep(0.5)
                fill(mount / "filler")
                time.sleep(0.7)
                made.kill()
                # It may wait for room to recover, or serve with 503.
                made.data = Process([str(made.build / "dataplane/turnpiked"), "-c", str(made.config)], path / "data.log")
                time.sleep(0.5)
                assert made.data.popen.poll() is None, made.data.tail()
                made.kill()
                (mount / "filler").unlink()
                made.start(control=False)
            wait_until("beacons are taken again", lambda: made.request("GET", "/healthz")[0] == 200)
            clients.finish()
            clients.check()
            made.audit()
            made.stop()
        finally:
            if clients:
                clients.stop.set()
            for process in (made.control, made.data):
                if process:
                    process.kill()
                    process.popen.wait()


# ---- giving way ----

def test_background_work_gives_way(build):
    """With CPUs of its own sealing stays on them; where it must share with a core, it is as nice as can be."""
    for shard in (0, CPUS - 1):
        with node(build, control=False, extra=SMALL, rx=(0,), shard=(shard,)) as n:
            task, own = pathlib.Path(f"/proc/{n.data.popen.pid}/task"), set(range(CPUS)) - {0, shard}

            def ways():
                found = {(one / "comm").read_text().strip(): int(one.name) for one in task.iterdir()}
                return {name: (os.getpriority(os.PRIO_PROCESS, found[name]), os.sched_getaffinity(found[name]))
                        for name in ("seal", "merge") if name in found}

            def given():
                return sorted(ways()) == ["merge", "seal"] and all(
                    cpus == (own or set(range(CPUS))) and (0 < nice < 19 if own else nice == 19) for nice, cpus in ways().values())
            # each thread sets its own way as it starts
            wait_until(f"sealing and merging give way with a shard on CPU {shard}", given)


@contextlib.contextmanager
def restless():
    """On each CPU a program that never sleeps."""
    programs = [subprocess.Popen(["taskset", "-c", str(cpu), "sh", "-c", "while :; do :; done"], preexec_fn=dies_with_us())
                for cpu in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def test_sealing_gets_its_share_beside_programs_that_never_sleep(build):
    """It is a small one, but a small file is sealed: by a command, and at the end."""
    with node(build, control=False, extra=SMALL) as n:
        with restless():
            for _ in range(2):
                assert n.post([view(device_id=f"d{i}", ad_id=f"ad{i % 50}") for i in range(500)])[0] == 204
                n.ctl("segments", "seal")
            assert n.post(view())[0] == 204
            assert n.data.stop() == 0
        assert not list((n.data_dir / "log").iterdir()), "it was not sealed"
        n.start(control=False)


# ---- starting ----

def test_what_stands_in_the_way_is_named(build):
    with node(build, control=False, extra=SMALL) as n:
        with folder() as path:
            def refused(word, **options):
                other = Node(build, path, extra=SMALL, **options)
                if "data_dir" in word:
                    other.data_dir = path / "turnpike.yaml" / "data"
                    other.write_config()
                done = subprocess.run([str(other.build / "dataplane/turnpiked"), "-c", str(other.config)], capture_output=True, text=True, timeout=PATIENCE)
                assert done.returncode == 1 and not done.stdout, done
                assert word in done.stderr, done.stderr
                assert not (path / "data/turnpike.sock").exists()

            taken = n.http[0][1]
            refused("in use", ingest=f"  - {{driver: socket, http: '127.0.0.1:{taken}'}}\n")
            refused("data_dir")
