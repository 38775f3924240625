#!/usr/bin/python3
"""turnpike-blast against fake nodes on loopback, which answer, refuse, hang up, stay silent and forget.

    blast_test.py build/perf/turnpike-blast
"""
import collections
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BLAST = sys.argv.pop(1)


def crc32c(data, table=[]):
    if not table:
        for byte in range(256):
            for _ in range(8):
                byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
            table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def start(*arguments):
    return subprocess.Popen([BLAST, "--quiet", "--json", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def blast(*arguments, timeout=300):
    process = start(*arguments)
    out, err = process.communicate(timeout=timeout)
    return process.returncode, json.loads(out) if out.startswith("{") else out, err


class HttpNode:
    """Each request goes to `behave`(node, body): bytes to answer, None: hang up, "": stay silent."""

    def __init__(self, behave=None, port=0):
        self.behave = behave or (lambda node, body: b"HTTP/1.1 204 No Content\r\n\r\n")
        self.lines, self.heads, self.lock = [], [], threading.Lock()
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(128)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.open = True
        self.peers = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while self.open:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer)
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    more = peer.recv(65536)
                    if not more:
                        return
                    data += more
                head, data = data.split(b"\r\n\r\n", 1)
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
                length = int(fields[b"content-length"])
                while len(data) < length:
                    more = peer.recv(65536)
                    if not more:
                        return
                    data += more
                body, data = data[:length], data[length:]
                with self.lock:
                    self.heads.append(head)
                    self.lines += body.splitlines()
                answer = self.behave(self, body)
                if answer is None:
                    peer.close()
                    return
                peer.sendall(answer)
        except OSError:
            pass

    def close(self):
        if not self.open:
            return
        self.open = False
        # wakes accept(), which close() alone does not
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for peer in self.peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            peer.close()


class BatchNode:
    """Takes batches; `behave`(node) says whether the acknowledgement is sent. Remembers the ids of events."""

    def __init__(self, behave=None):
        self.behave = behave or (lambda node: True)
        self.ids, self.batches = collections.Counter(), {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"batch://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                datagram, peer = self.socket.recvfrom(65536)
            except OSError:
                return
            magic, version, kind, _, source, number, size, events, checksum = struct.unpack_from("<4sBBHQQHHI", datagram)
            if version == 2 and kind == 4:
                continue  # a hello; this server is of version 1 and does not know it
            assert magic == b"\x9eTPB" and version == 1 and kind == 1 and size == len(datagram)
            assert crc32c(datagram[:28] + bytes(4) + datagram[32:]) == checksum
            assert self.batches.setdefault((source, number), datagram) == datagram, "a retry has the same bytes"
            at, new = 32, 0
            for _ in range(events):
                size, _, _, flags = struct.unpack_from("<HBBH", datagram, at)
                optional = sum(n for bit, n in enumerate((4, 16, 8, 3, 2, 2, 4, 4, 25)) if flags >> bit & 1)
                assert datagram[at + 18] == 0  # a UUID
                raw = datagram[at + 28 + optional : at + 44 + optional].hex()
                event_id = "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))
                new += event_id not in self.ids
                self.ids[event_id] += 1
                at += size
            if self.behave(self):
                ack = struct.pack("<4sBBHQQHHIIHHHHHH", magic, 1, 2, 0, source, number, 48, events, 0, checksum, new, events - new, 0, 0, 0, 0)
                self.socket.sendto(ack[:28] + struct.pack("<I", crc32c(ack)) + ack[32:], peer)


def ledger_read(path):
    """Whole lines only, as events."""
    text = pathlib.Path(path).read_text()
    return [line.split(" ") for line in text[: text.rfind("\n") + 1].splitlines()]


class Blast(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="turnpike-blast-test.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.ledger = self.folder / "ledger"

    def http_node(self, behave=None, port=0):
        node = HttpNode(behave, port)
        self.addCleanup(node.close)
        return node

    def check_ledger(self, lines):
        """The ledger lists what the node was sent, each id once, with the right figures."""
        events = {event["event_id"]: event for event in map(json.loads, lines)}
        ledger = ledger_read(self.ledger)
        self.assertEqual(sorted(row[0] for row in ledger), sorted(events))
        for event_id, kind, campaign, minute, bid in ledger:
            event = events[event_id]
            self.assertEqual((kind, campaign), (event["event_type"], event["campaign_id"]))
            self.assertEqual(int(minute), event["timestamp"] // 60000 * 60000)
            self.assertEqual(int(bid), round(event["bid_price"] * 1e6))
        return events

    def test_http(self):
        node = self.http_node()
        status, summary, err = blast("--to", node.url, "--events", 3000, "--batch", 7, "--pipeline", 4, "--ledger", self.ledger)
        self.assertEqual(status, 0, err)
        self.assertEqual((summary["sent"], summary["acknowledged"], summary["failed"]), (3000, 3000, 0))
        self.assertEqual(len(node.lines), 3000)
        events = self.check_ledger(node.lines)
        self.assertEqual(len(events), 3000)
        self.assertAlmostEqual(sum(map(len, node.lines)) / 3000, 490, delta=20)
        clicks = [e for e in events.values() if e["event_type"] == "click"]
        self.assertTrue(150 < len(clicks) < 450, len(clicks))
        campaigns = {e["ad_id"]: e["campaign_id"] for e in events.values()}
        self.assertTrue(all(campaigns[e["ad_id"]] == e["campaign_id"] for e in events.values()))
        self.assertGreater(collections.Counter(e["ad_id"] for e in events.values()).most_common(1)[0][1], 100)  # Zipf
        seen = {(e["ad_id"], e["device_id"]): e["timestamp"] for e in events.values() if e["event_type"] == "impression"}
        self.assertTrue(all(e["timestamp"] - seen[e["ad_id"], e["device_id"]] >= 500 for e in clicks))
        self.assertLess(abs(max(e["timestamp"] for e in events.values()) - time.time() * 1000), 60000)
        self.assertEqual(sum(summary["statuses"].values()), summary["requests"])
        self.assertTrue(summary["latency_us"]["p50"] <= summary["latency_us"]["p99"] <= summary["latency_us"]["max"])

    def test_same_seed_same_events(self):
        runs = []
        for seed in (5, 5, 6):
            node = self.http_node()
            arguments = ("--events", 500, "--connections", 1, "--stamp", "fixed", "--duplicates", 0.05, "--seed", seed)
            self.assertEqual(blast("--to", node.url, *arguments)[0], 0)
            runs.append(node.lines)
        self.assertEqual(runs[0], runs[1])
        self.assertFalse(set(runs[0]) & set(runs[2]))

    def test_copies_are_sent_and_not_listed(self):
        node = self.http_node()
        status, summary, _ = blast("--to", node.url, "--events", 2000, "--duplicates", 0.2, "--ledger", self.ledger)
        self.assertEqual(status, 0)
        self.assertEqual(len(node.lines), 2000)
        self.assertTrue(250 < summary["copies"] < 550)
        self.assertEqual(len(set(node.lines)), 2000 - summary["copies"])
        self.check_ledger(set(node.lines))

    def test_retry_over_hangups_and_refusals(self):
        rng = random.Random(3)

        def behave(node, body):
            kind = rng.randrange(8)
            if kind == 0:
                return None  # taken, but the answer is lost
            if kind == 1:
                return b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\nno"
            if kind == 2:
                return b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
            return b"HTTP/1.1 204 No Content\r\n\r\n"

        node = self.http_node(behave)
        status, summary, err = blast("--to", node.url, "--events", 1000, "--batch", 5, "--pipeline", 2, "--connections", 4, "--retry", "--ledger", self.ledger)
        self.assertEqual(status, 0, err)
        self.assertEqual(summary["acknowledged"], 1000)
        self.assertGreater(summary["retries"], 0)
        self.assertGreater(summary["lost"], 0)
        self.assertGreater(summary["statuses"]["503"], 0)
        self.assertGreater(len(node.lines), 1000)
        self.assertEqual(len(set(node.lines)), 1000)  # sent again with identical bytes
        self.check_ledger(set(node.lines))

    def test_retry_over_a_restart(self):
        node = self.http_node()
        process = start("--to", node.url, "--events", 3000, "--rate", 3000, "--retry", "--ledger", self.ledger)
        while len(node.lines) < 500:
            time.sleep(0.01)
        node.close()
        time.sleep(0.3)
        again = self.http_node(port=node.port)
        out, _ = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(json.loads(out)["acknowledged"], 3000)
        self.check_ledger(set(node.lines + again.lines))

    def test_silence_is_a_lost_answer(self):
        silent = []

        def behave(node, body):
            if len(silent) < 3:
                silent.append(body)
                return b""
            return b"HTTP/1.1 204 No Content\r\n\r\n"

        node = self.http_node(behave)
        status, summary, _ = blast("--to", node.url, "--events", 50, "--connections", 2, "--retry", "--request-timeout", "0.2")
        self.assertEqual(status, 0)
        self.assertGreaterEqual(summary["retries"], 2)
        self.assertEqual(len(set(node.lines)), 50)

    def test_lost_without_retry_is_a_failure(self):
        node = self.http_node(lambda node, body: None)
        status, summary, err = blast("--to", node.url, "--events", 5, "--connections", 1)
        self.assertEqual(status, 1)
        self.assertEqual((summary["acknowledged"], summary["failed"]), (0, 5))
        self.assertIn("connection ended", err)

    def test_nobody_listens(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            status, summary, err = blast("--to", f"http://127.0.0.1:{taken.getsockname()[1]}", "--events", 5)
            self.assertEqual(status, 1)
            self.assertEqual(summary["acknowledged"], 0)
            self.assertIn("cannot connect", err)

    def test_400_is_an_error(self):
        node = self.http_node(lambda node, body: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\noh no")
        status, summary, err = blast("--to", node.url, "--events", 10, "--ledger", self.ledger)
        self.assertEqual(status, 1)
        self.assertEqual((summary["acknowledged"], summary["failed"], summary["statuses"]), (0, 10, {"400": 10}))
        self.assertIn("HTTP 400: oh no", err)
        self.assertEqual(ledger_read(self.ledger), [])

    def test_rejected_events_are_not_listed(self):
        report = json.dumps({"accepted": 2, "duplicates": 1, "late": 0, "conflicts": 0, "rejected": [{"index": 1, "reason": "future", "detail": "timestamp: later"}]})
        node = self.http_node(lambda node, body: f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(report)}\r\n\r\n{report}".encode())
        status, summary, err = blast("--to", node.url, "--events", 8, "--batch", 4, "--connections", 1, "--report", "--ledger", self.ledger)
        self.assertEqual(status, 1)
        self.assertIn("future: timestamp: later", err)
        self.assertEqual((summary["acknowledged"], summary["rejected"]), (6, 2))
        self.assertEqual(summary["verdicts"], {"accepted": 4, "duplicates": 2, "late": 0, "conflicts": 0})
        sent = [json.loads(line)["event_id"] for line in node.lines]
        self.assertEqual([row[0] for row in ledger_read(self.ledger)], sent[0:1] + sent[2:5] + sent[6:8])
        self.assertTrue(node.heads[0].startswith(b"POST /api/v1/clicks?report=1 HTTP/1.1\r\n"))

    def test_token(self):
        node = self.http_node()
        self.assertEqual(blast("--to", node.url + "/elsewhere", "--events", 1, "--token", "abc")[0], 0)
        self.assertTrue(node.heads[0].startswith(b"POST /elsewhere HTTP/1.1\r\n"))
        self.assertIn(b"\r\nAuthorization: Bearer abc\r\n", node.heads[0])

    def test_rate_and_duration(self):
        node = self.http_node()
        status, summary, _ = blast("--to", node.url, "--rate", 500, "--duration", 1, "--batch", 3)
        self.assertEqual(status, 0)
        self.assertTrue(400 <= summary["sent"] <= 506, summary["sent"])

    def test_batch(self):
        node = BatchNode()
        status, summary, err = blast("--to", node.url, "--events", 3000, "--duplicates", 0.1, "--connections", 3, "--ledger", self.ledger)
        self.assertEqual(status, 0, err)
        self.assertEqual((summary["sent"], summary["acknowledged"]), (3000, 3000))
        self.assertEqual(summary["verdicts"]["accepted"], 3000 - summary["copies"])
        self.assertEqual(sorted(row[0] for row in ledger_read(self.ledger)), sorted(node.ids))
        self.assertEqual(len(set(source for source, _ in node.batches)), 3)

    def test_batch_answers_get_lost(self):
        rng = random.Random(5)
        node = BatchNode(lambda node: rng.randrange(3) > 0)
        status, summary, err = blast("--to", node.url, "--events", 500, "--batch", 2, "--connections", 2, "--retry", "--ledger", self.ledger)
        self.assertEqual(status, 0, err)
        self.assertEqual(summary["acknowledged"], 500)
        self.assertGreater(summary["retries"], 0)
        self.assertEqual(sorted(row[0] for row in ledger_read(self.ledger)), sorted(node.ids))

    def test_batch_without_answers(self):
        node = BatchNode(lambda node: False)
        status, summary, _ = blast("--to", node.url, "--events", 10, "--drain", "300ms")
        self.assertEqual(status, 1)
        self.assertEqual((summary["acknowledged"], summary["unacknowledged"]), (0, 10))

    def test_same_events_by_both_ways(self):
        http, batch = self.http_node(), BatchNode()
        for url in (http.url, batch.url):
            self.assertEqual(blast("--to", url, "--events", 200, "--connections", 1, "--stamp", "fixed")[0], 0)
        self.assertEqual({json.loads(line)["event_id"] for line in http.lines}, set(batch.ids))

    def test_text(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
            node.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            node.bind(("127.0.0.1", 0))
            node.settimeout(10)
            status, summary, err = blast("--to", f"udp://127.0.0.1:{node.getsockname()[1]}", "--events", 100, "--batch", 3)
            self.assertEqual(status, 0, err)
            self.assertIsNone(summary["acknowledged"])
            ids = set()
            while len(ids) < 100:
                datagram = node.recv(65536)
                self.assertLessEqual(len(datagram), 1400)
                ids |= {json.loads(line)["event_id"] for line in datagram.splitlines()}
            self.assertLess(summary["datagrams"], 100)

    def test_replay(self):
        lines = [
            '{"event_id":"a b%","event_type":"click","timestamp":1640000000123,"ad_id":"x","campaign_id":"c 1","advertiser_id":"v","bid_price":1.25}',
            ' {"event_id":"e2","event_type":"impression","timestamp":1640000060000,"ad_id":"x","campaign_id":"c2","advertiser_id":"v","zzz":[1]} ',
            "",
            '{"event_id":"no"}',
        ]
        file = self.folder / "events.ndjson"
        file.write_text("\n".join(lines))
        node = self.http_node()
        status, summary, err = blast("--to", node.url, "--replay", file, "--ledger", self.ledger)
        self.assertEqual(status, 1)  # a line was left out
        self.assertEqual(summary["invalid_lines"], 1)
        self.assertIn(":4: left out", err)
        self.assertEqual(sorted(node.lines), sorted(line.strip().encode() for line in lines[:2]))
        rows = sorted(ledger_read(self.ledger))
        self.assertEqual(rows[0], ["a%20b%25", "click", "c%201", "1639999980000", "1250000"])
        self.assertEqual(rows[1], ["e2", "impression", "c2", "1640000040000", "0"])
        file.write_text("\n".join(lines[:2]))
        self.assertEqual(blast("--to", node.url, "--replay", file, "--threads", 2)[0], 0)
        self.assertEqual(len(node.lines), 4)

    def test_threads(self):
        node = self.http_node()
        status, summary, _ = blast("--to", node.url, "--events", 1001, "--threads", 3, "--batch", 4, "--ledger", self.ledger)
        self.assertEqual((status, summary["acknowledged"]), (0, 1001))
        self.assertEqual(len(self.check_ledger(node.lines)), 1001)

    def test_killed(self):
        """What was acknowledged is in the ledger though the tool dies; at most one round of answers is not yet."""
        node = self.http_node()
        process = start("--to", node.url, "--batch", 2, "--connections", 2, "--ledger", self.ledger)
        while len(node.lines) < 3000:
            time.sleep(0.005)
        process.kill()
        process.communicate()
        time.sleep(0.2)
        sent = {json.loads(line)["event_id"] for line in node.lines}
        listed = {row[0] for row in ledger_read(self.ledger)}
        self.assertTrue(listed <= sent)
        self.assertGreaterEqual(len(listed), len(sent) - 2 * 2 * 2)

    def test_stopped(self):
        node = self.http_node()
        process = start("--to", node.url, "--rate", 1000, "--ledger", self.ledger)
        while len(node.lines) < 100:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(json.loads(out)["acknowledged"], len(node.lines))
        self.check_ledger(node.lines)

    def test_stopped_while_the_node_is_gone(self):
        for ending in (("--rate", 1000), ("--rate", 1000, "--duration", "1")):
            node = self.http_node()
            process = start("--to", node.url, *ending, "--retry", "--drain", "1", "--connections", 2)
            while len(node.lines) < 100:
                time.sleep(0.01)
            node.close()
            if "--duration" not in ending:
                time.sleep(0.3)
                process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=300)
            acknowledged = json.loads(out)["acknowledged"]
            self.assertLessEqual(acknowledged, len(node.lines))
            self.assertGreaterEqual(acknowledged, len(node.lines) - 2)  # the answers that closing cut off

    def test_bad_usage(self):
        for arguments in (
            [],
            ["--to", "ftp://127.0.0.1:1"],
            ["--to", "http://localhost:80"],
            ["--to", "http://127.0.0.1"],
            ["--to", "http://127.0.0.1:1", "--events", "many"],
            ["--to", "http://127.0.0.1:1", "--events", "-1"],
            ["--to", "http://127.0.0.1:1", "--clicks", "2"],
            ["--to", "http://127.0.0.1:1", "--stamp", "then"],
            ["--to", "http://127.0.0.1:1", "--replay", "x", "--seed", "1"],
            ["--to", "udp://127.0.0.1:1", "--ledger", str(self.ledger)],
            ["--to", "batch://127.0.0.1:1", "--report"],
            ["--to", "http://127.0.0.1:1", "--nonsense"],
            ["--to", "http://127.0.0.1:1", "more"],
        ):
            self.assertEqual(blast(*arguments)[0], 2, arguments)
        status, _, err = blast("--to", "http://127.0.0.1:1", "--replay", self.folder / "none")
        self.assertEqual(status, 1)
        self.assertIn("No such file", err)

    def test_help_names_every_option(self):
        status, text, _ = blast("--help")
        self.assertEqual(status, 0)
        source = (pathlib.Path(__file__).parent / "blast_options.c").read_text()
        for name in source.split("long_options[] = {")[1].split("{NULL")[0].split('{"')[1:]:
            option = name.split('"')[0]
            if option != "help":
                self.assertIn(f"--{option}", text)


result = unittest.main(exit=False).result
sys.stdout.flush()
sys.stderr.flush()
os._exit(not result.wasSuccessful())  # threads of nodes are left, and may crash an interpreter that ends in good order
