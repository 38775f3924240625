"""Nothing acknowledged is lost or counted twice: kill -9 under load, other shard counts, full disks. Invariants 1, 2, 7."""
import http.client
import json
import os
import random
import socket
import threading
import time
import uuid

from harness import CPUS, PATIENCE, SMALL, Node, Skip, event, folder, loop_disk, node, now_ms, wait_until


class Clients:
    """Threads that send batches and retry each, byte for byte, until it is acknowledged. The ledger is what was acknowledged."""

    def __init__(self, made, threads=3, batch=20):
        self.node, self.batch = made, batch
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.acknowledged, self.seen = {}, {}
        self.threads = [threading.Thread(target=self.work, args=(i,), daemon=True) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def work(self, number):
        dice = random.Random(number)
        while not self.stop.is_set():
            events = [event(device_id=f"d{dice.randrange(10**9)}", campaign_id=f"camp_{dice.randrange(3)}", event_type="impression")
                      for _ in range(self.batch)]
            with self.lock:
                if self.acknowledged and dice.random() < 0.3:  # a retry of what is long acknowledged
                    events.append(self.acknowledged[dice.choice(list(self.acknowledged))])
                for one in events:
                    self.seen[one["event_id"]] = one
            body = json.dumps(events)
            while True:
                try:
                    host, port = self.node.http[0]
                    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
                    connection.request("POST", "/api/v1/clicks", body)
                    status = connection.getresponse().status
                    connection.close()
                except (OSError, http.client.HTTPException):
                    status = 0
                if status == 204:
                    break
                assert status in (0, 503), status
                time.sleep(0.02)
            with self.lock:
                self.acknowledged.update((one["event_id"], one) for one in events)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()  # of a test that failed: they would go on, and the run would not end

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()
        assert set(self.acknowledged) == set(self.seen)

    def check(self):
        """The API's counts equal the ledger exactly."""
        for campaign in range(3):
            wanted = sum(1 for one in self.acknowledged.values() if one["campaign_id"] == f"camp_{campaign}")
            got = self.node.totals("campaigns", f"camp_{campaign}")["impressions"]
            assert got == wanted, f"camp_{campaign}: {got} counted, {wanted} acknowledged"


def fixed_ports(made):
    """The same ports again after a restart, so that clients find the node."""
    made.ingest = f"  - {{driver: socket, http: '127.0.0.1:{made.http[0][1]}', udp: '127.0.0.1:{made.udp[0][1]}'}}\n"
    made.write_config()


def kill_loop(build, kills, extra="", longest=0.6):
    with node(build, extra=extra) as n:
        fixed_ports(n)
        dice = random.Random(1)
        with Clients(n) as clients:
            for _ in range(kills):
                time.sleep(dice.uniform(0.05, longest))
                n.kill()
                n.start(control=False)
            time.sleep(0.3)
            clients.finish()
        clients.check()
        # The acknowledged ones again: all duplicates, or nothing in the books would be sure.
        sample = random.Random(2).sample(sorted(clients.acknowledged), min(200, len(clients.acknowledged)))
        report = n.post([clients.acknowledged[identity] for identity in sample], report=True)[1]
        assert report["duplicates"] == len(sample), report
        clients.check()
        n.audit()


def test_kill_under_load(build):
    kill_loop(build, int(os.environ.get("TURNPIKE_KILLS", "6")))


def test_kill_under_load_while_sealing(build):
    kill_loop(build, int(os.environ.get("TURNPIKE_KILLS", "6")), extra="durability: {seal_after: 1s}\n", longest=1.6)


def test_restart_with_other_shard_counts(build):
    if CPUS < 2:
        raise Skip("needs two CPUs")
    with folder() as path:
        sent = [event(device_id=f"d{i}", event_type="impression") for i in range(300)]
        for turn, (rx, shard, how) in enumerate((((0,), (0,), "kill"), ((0, 1), (0, 1), "kill"), ((1,), (0, 1), "stop"), ((0,), (1,), "stop"))):
            made = Node(build, path, rx=rx, shard=shard)
            try:
                made.start()
                known = 75 * turn
                report = made.post(sent[:known + 75], report=True)[1]
                assert (report["accepted"], report["duplicates"]) == (75, known), (turn, report)
                assert made.totals("campaigns", "camp_1")["impressions"] == known + 75
                made.audit()
                if how == "kill":
                    made.kill()
                made.stop()
            finally:
                for process in (made.control, made.data):
                    if process:
                        process.kill()


def test_stop_seals_and_restart_answers_the_same(build):
    with folder() as path:
        made = Node(build, path)
        try:
            made.start()
            old = event(timestamp=now_ms() - 30 * 60_000)
            for one in (old, event(device_id="a"), event(device_id="b", bid_price="1.000001")):
                assert made.post(one)[0] == 204
            before = made.totals("campaigns", "camp_1")
            assert made.data.popen.poll() is None
            made.ctl("segments", "verify", status=1)  # a running node is not for verifying
            made.stop()
            assert made.ctl("segments", "verify", "--json") == {"ok": True, "items": []}
            segment = next((path / "data/segments").iterdir())
            good = segment.read_bytes()
            segment.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
            faults = made.ctl("segments", "verify", "--json", status=1)["items"]
            assert [fault["file"] for fault in faults] == [str(segment)] or segment.name in faults[0]["file"], faults
            segment.write_bytes(good)
            assert list((path / "data/segments").iterdir()) and not list((path / "data/log").iterdir())
            made.start()
            assert made.totals("campaigns", "camp_1") == before
            assert made.post(old, report=True)[1]["duplicates"] == 1
            made.stop()
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()


def test_full_disk_refuses_and_comes_back(build):
    with folder() as path, loop_disk(path, 256) as mount:
        made = Node(build, path)
        made.data_dir = mount / "data"
        made.write_config()
        try:
            made.start()
            assert made.post(event(event_type="impression"))[0] == 204
            with open(mount / "filler", "wb") as filler:
                try:
                    while True:
                        filler.write(b"\0" * (1 << 20))
                        filler.flush()
                except OSError:
                    pass
            wait_until("beacons are refused", lambda: made.post(event())[0] == 503)
            status, headers, _ = made.request("POST", "/api/v1/clicks", json.dumps(event()))
            assert status == 503 and "Retry-After" in headers, headers
            assert made.request("GET", "/healthz")[0] == 503
            counted = made.totals("campaigns", "camp_1")
            made.kill()  # and a start on the full disk: it may wait for space, it may not give up
            starting = threading.Thread(target=made.start, args=(False,))
            starting.start()
            wait_until("it is started", lambda: made.data)
            time.sleep(1)
            assert made.data.popen.poll() is None
            (mount / "filler").unlink()
            starting.join(2 * PATIENCE)
            wait_until("beacons are taken again", lambda: made.post(event(event_id=str(uuid.UUID(int=7)), event_type="impression"))[0] == 204)
            assert made.request("GET", "/healthz")[0] == 200
            assert made.totals("campaigns", "camp_1")["impressions"] == counted["impressions"] + 1
            made.audit()
            made.stop()
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()
                    process.popen.wait()


def test_datagrams_queued_before_sigterm_are_counted(build):
    """What the kernel had taken for us when SIGTERM came was received: it is made durable, though nobody waits for an answer."""
    with folder() as path:
        made = Node(build, path, extra=SMALL)
        try:
            made.start(control=False)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for i in range(300):
                    sender.sendto(json.dumps(event(event_type="impression", device_id=f"d{i}")).encode(), made.udp[0])
            made.stop()
            made.start()
            assert made.totals("campaigns", "camp_1")["impressions"] == 300
            made.stop()
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()
