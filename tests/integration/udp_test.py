"""Beacons over UDP, by a client written from docs/protocol.md alone. Contract section 6."""
import json
import os
import random
import re
import socket
import struct
import subprocess
import uuid

from harness import PATIENCE, ROOT, SMALL, Skip, event, findings, folder as temporary, node, now_ms, wait_until

MAGIC = b"\x9eTPB"
TYPES = ("impression", "click", "conversion")
DEVICES = ("", "desktop", "mobile", "tablet", "tv", "bot", "other")
STRINGS = ("ad_id", "campaign_id", "advertiser_id", "publisher_id", "user_id", "device_id", "region", "city", "user_agent", "referer")
REASONS = {"malformed": 1, "missing_field": 2, "bad_value": 4, "too_long": 5, "bad_utf8": 7, "future": 8}
FIELDS = dict(zip(("none", "event_id", "event_type", "timestamp", "ad_id", "campaign_id", "advertiser_id", "publisher_id", "user_id", "device_id", "ip_address", "user_agent",
                   "referer", "geo", "country", "region", "city", "device_type", "bid_price", "currency", "click_position", "timezone_offset_min", "mouse_moves", "trace"), range(24)))

CRC_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    CRC_TABLE.append(_byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def pack_event(fields=None, **over):
    """One event. `fields` are those of JSON, flat; `over` sets raw parts: bytes, flags, zero, type, device, lengths={name: n}, tail."""
    fields = {"event_type": "click", "timestamp": now_ms(), "ad_id": "a", "campaign_id": "c", "advertiser_id": "v", "event_id": uuid.uuid4()} | (fields or {})
    identity = fields["event_id"]
    raw = identity.bytes if isinstance(identity, uuid.UUID) else identity.encode() if isinstance(identity, str) else identity
    strings = {name: (fields.get(name) or "") for name in STRINGS}
    strings = {name: value if isinstance(value, bytes) else value.encode() for name, value in strings.items()}
    lengths = {name: len(value) for name, value in strings.items()} | {"event_id": 0 if isinstance(identity, uuid.UUID) else len(raw)} | over.get("lengths", {})
    flags, numbers = 0, b""
    if "ip_address" in fields:
        address = fields["ip_address"]
        v6 = ":" in address
        flags |= 2 if v6 else 1
        numbers += socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, address)
    for bit, name, form in ((2, "bid_price", "<q"), (3, "currency", None), (4, "country", None), (5, "click_position", "<H"), (6, "timezone_offset_min", "<i"), (7, "mouse_moves", "<i"), (8, "trace", None)):
        if name in fields:
            flags |= 1 << bit
            value = fields[name]
            numbers += struct.pack(form, value) if form else value if isinstance(value, bytes) else value.encode()
    body = numbers + raw + b"".join(strings[name] for name in STRINGS) + over.get("tail", b"")
    kind = over.get("type", TYPES.index(fields["event_type"]))
    device = over.get("device", DEVICES.index(fields.get("device_type", "")))
    return struct.pack("<HBBHHQHBBBBBBBBBB", over.get("bytes", 28 + len(body)), kind, device, over.get("flags", flags), lengths["user_agent"], fields["timestamp"], lengths["referer"],
                       lengths["event_id"], *(lengths[name] for name in STRINGS[:8]), over.get("zero", 0)) + body


def pack_batch(packed, source=1, number=1, tag=None, **over):
    body = b"".join(packed)
    head = 32 + len(tag or b"")
    size = over.get("bytes", head + len(body))
    data = bytearray(over.get("magic", MAGIC) + struct.pack("<BBHQQHHI", over.get("version", 1), over.get("kind", 1), over.get("flags", 1 if tag is not None else 0), source, number, size & 0xFFFF,
                                                           over.get("events", len(packed)), 0) + (tag or b"") + body)
    data[28:32] = struct.pack("<I", crc32c(data) ^ over.get("spoil", 0))
    return bytes(data)


def rotate(value, by):
    return (value << by | value >> (64 - by)) & (2**64 - 1)


def siphash(key, data, wide):
    """SipHash-2-4 with 64 bits, or 128."""
    k0, k1 = struct.unpack("<QQ", key)
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ (0xEE if wide else 0), k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    mask = 2**64 - 1

    def rounds(count):
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0, v2 = (v0 + v1) & mask, (v2 + v3) & mask
            v1, v3 = rotate(v1, 13) ^ v0, rotate(v3, 16) ^ v2
            v0 = rotate(v0, 32)
            v2, v0 = (v2 + v1) & mask, (v0 + v3) & mask
            v1, v3 = rotate(v1, 17) ^ v2, rotate(v3, 21) ^ v0
            v2 = rotate(v2, 32)
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for (word,) in struct.iter_unpack("<Q", padded):
        v3 ^= word
        rounds(2)
        v0 ^= word
    v2 ^= 0xEE if wide else 0xFF
    rounds(4)
    tag = struct.pack("<Q", v0 ^ v1 ^ v2 ^ v3)
    if wide:
        v1 ^= 0xDD
        rounds(4)
        tag += struct.pack("<Q", v0 ^ v1 ^ v2 ^ v3)
    return tag


def seal(data, key=None):
    """Tag, if there is a key, and checksum of a datagram that is otherwise complete."""
    data = bytearray(data)
    width = 16 if data[4] > 1 else 8
    if key:
        data[28:32], data[32:32 + width] = bytes(4), bytes(width)
        data[32:32 + width] = siphash(key, bytes(data), width == 16)
    data[28:32] = bytes(4)
    data[28:32] = struct.pack("<I", crc32c(data))
    return bytes(data)


def pack_signed(packed, key, source, number, version=2):
    return seal(pack_batch(packed, source, number, tag=bytes(16 if version > 1 else 8), version=version), key)


def pack_hello(source, number, key=None):
    return seal(pack_batch([bytes(128)], source, number, tag=bytes(16) if key else None, version=2, kind=4, events=0), key)


def open_answer(request, answer, key=None):
    """(kind, body) of an answer of version 2, after all checks that the page asks for."""
    magic, version, kind, flags, source, number, size, events, _ = struct.unpack("<4sBBHQQHHI", answer[:32])
    assert (magic, version, flags) == (MAGIC, 2, 1 if key else 0), answer[:32]
    assert (source, number, events) == struct.unpack("<QQ", request[8:24]) + struct.unpack("<H", request[26:28])
    assert size == len(answer) <= len(request), (size, len(answer), len(request))
    assert seal(answer, key) == answer, "tag and checksum"
    return kind, answer[48 if key else 32:]


class Client:
    """A socket that sends datagrams and takes acknowledgements apart."""

    def __init__(self, made):
        self.target = made.udp[0]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    def send(self, data):
        self.socket.sendto(data, self.target)

    def receive(self, timeout=PATIENCE):
        self.socket.settimeout(timeout)
        try:
            return self.socket.recv(65536)
        except TimeoutError:
            return None

    def acknowledged(self, batch):
        """Sends a batch until it is acknowledged, and checks the acknowledgement against the page."""
        for _ in range(6):
            self.send(batch)
            while (answer := self.receive(PATIENCE / 6)) is not None:
                if answer[8:24] == batch[8:24]:  # not a late one, to another batch
                    return check_answer(batch, answer)
        raise AssertionError("no acknowledgement")

    def close(self):
        self.socket.close()


def check_answer(batch, answer):
    magic, version, kind, flags, source, number, size, events, checksum = struct.unpack("<4sBBHQQHHI", answer[:32])
    batch_checksum, accepted, duplicates, late, conflicts, rejected, listed = struct.unpack("<IHHHHHH", answer[32:48])
    assert (magic, version, kind, flags) == (MAGIC, 1, 2, 0), answer[:32]
    assert (source, number, events) == struct.unpack("<QQ", batch[8:24]) + struct.unpack("<H", batch[26:28]), answer[:32]
    assert size == len(answer) == 48 + 4 * listed <= len(batch), (size, len(answer), listed, len(batch))
    assert checksum == crc32c(answer[:28] + b"\0\0\0\0" + answer[32:]), "checksum of the acknowledgement"
    assert batch_checksum == struct.unpack("<I", batch[28:32])[0]
    assert accepted + duplicates + late + conflicts + rejected == events
    assert listed == min(rejected, 32, (len(batch) - 48) // 4), (listed, rejected, len(batch))
    rejects = [struct.unpack("<HBB", answer[at:at + 4]) for at in range(48, len(answer), 4)]
    assert rejects == sorted(rejects)
    return {"accepted": accepted, "duplicates": duplicates, "late": late, "conflicts": conflicts, "rejected": rejected, "rejects": rejects}


def brief(answer):
    return tuple(answer[key] for key in ("accepted", "duplicates", "late", "conflicts", "rejected"))


def test_the_example_of_the_page(build):
    assert crc32c(b"123456789") == 0xE3069283 and crc32c(bytes(range(32))) == 0x46DD794E
    page = (ROOT / "docs/protocol.md").read_text()
    dump = re.search(r"```batch\n(.*?)```", page, re.DOTALL).group(1)
    example = bytes.fromhex("".join(line[6:] for line in dump.splitlines()))
    first = {"event_id": uuid.UUID("123e4567-e89b-12d3-a456-426614174000"), "event_type": "click", "timestamp": 1640000000000, "ad_id": "ad_123", "campaign_id": "camp_456", "advertiser_id": "adv_789",
             "publisher_id": "pub_001", "user_id": "user_hash", "device_id": "device_hash", "ip_address": "192.168.1.1", "bid_price": 500000, "country": "US", "click_position": 18, "region": "CA",
             "city": "San Francisco", "user_agent": "Mozilla/5.0", "referer": "https://publisher.com/page"}
    second = {"event_id": "i-1", "event_type": "impression", "timestamp": 1640000000001, "ad_id": "ad_123", "campaign_id": "camp_456", "advertiser_id": "adv_789"}
    with node(build, control=False, extra=SMALL) as n:
        client = Client(n)
        answer = client.acknowledged(example)
        assert answer["accepted"] + answer["late"] == 2, answer
        position = struct.unpack("<H", example[0x48 + 2:0x48 + 4])[0]
        ours = pack_batch([pack_event(first | {"click_position": position}), pack_event(second | {"timestamp": struct.unpack("<Q", example[0xC8:0xD0])[0]})], 0x1122334455667788, 1)
        assert ours == example, f"\n{ours.hex()}\n{example.hex()}"
        assert client.acknowledged(example)["duplicates"] == 2
        client.close()
        n.audit()


def test_batches_are_acknowledged_and_retried(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        client, other = Client(n), Client(n)
        batch = pack_batch([pack_event() for _ in range(10)], 7, 1)
        same("first", brief(client.acknowledged(batch)), (10, 0, 0, 0, 0))
        same("retry", brief(client.acknowledged(batch)), (0, 10, 0, 0, 0))
        same("from another port", brief(other.acknowledged(batch)), (0, 10, 0, 0, 0))
        same("the same number again with other events", brief(client.acknowledged(pack_batch([pack_event()], 7, 1))), (1, 0, 0, 0, 0))
        mixed = {"event_id": uuid.uuid4(), "timestamp": now_ms()}
        old = {"event_id": uuid.uuid4(), "timestamp": now_ms() - 3 * 3600_000}
        batch = pack_batch([pack_event(mixed), pack_event(mixed), pack_event(mixed | {"ad_id": "z"}), pack_event(old), pack_event({"timestamp": now_ms() + 10**7})], 2**64 - 1, 2**64 - 1)
        answer = client.acknowledged(batch)
        same("mixed", (brief(answer), answer["rejects"]), ((1, 1, 1, 1, 1), [(4, 8, 3)]))
        same("smallest", brief(client.acknowledged(pack_batch([pack_event({"event_id": "x", "timestamp": now_ms()})], 0, 0))), (1, 0, 0, 0, 0))
        same("tagged", brief(client.acknowledged(pack_batch([pack_event() for _ in range(3)], 7, 2, tag=b"\xaa" * 8))), (3, 0, 0, 0, 0))
        large = pack_batch([pack_event({"device_id": f"d{i}", "user_agent": "u" * 500}) for i in range(115)], 7, 3)
        same("close to 64 KiB", (len(large) > 60_000, brief(client.acknowledged(large))), (True, (115, 0, 0, 0, 0)))
        many = pack_batch([pack_event({"event_id": f"{i}"}) for i in range(1500)], 7, 4)
        same("fifteen hundred events", brief(client.acknowledged(many)), (1500, 0, 0, 0, 0))
        client.close()
        other.close()
        sheet = n.audit()
        assert sheet["batches"]["received"] == sheet["batches"]["accepted"] >= 9, sheet["batches"]


def test_many_batches_at_once(build):
    """A window of batches in flight, each sent twice: all acknowledged, each event once."""
    with node(build, control=False, extra=SMALL) as n:
        client = Client(n)
        waiting = {number: pack_batch([pack_event({"event_id": f"{number}-{i}", "device_id": f"d{i}"}) for i in range(12)], 9, number) for number in range(200)}
        accepted = 0
        for _ in range(30):
            for batch in list(waiting.values())[:64]:
                client.send(batch)
                client.send(batch)
            while waiting and (answer := client.receive(0.5)):
                batch = waiting.get(struct.unpack("<Q", answer[16:24])[0])
                if batch is not None:
                    check_answer(batch, answer)
                    del waiting[struct.unpack("<Q", answer[16:24])[0]]
            if not waiting:
                break
        assert not waiting, len(waiting)
        client.close()
        accepted = n.audit()["events"]["accepted"]
        assert accepted == 200 * 12, accepted


def test_the_same_event_by_every_way(build):
    identity, stamp = uuid.uuid4(), now_ms()
    flat = {"event_type": "click", "timestamp": stamp, "ad_id": "ad é", "campaign_id": "c", "advertiser_id": "v", "publisher_id": "p", "user_id": "u", "device_id": "d", "user_agent": "Mozilla/5.0 (X11)",
            "referer": "https://e/", "device_type": "tv", "currency": "EUR", "click_position": 65535, "timezone_offset_min": -480, "mouse_moves": 17, "ip_address": "203.0.113.9"}
    text = flat | {"event_id": str(identity), "bid_price": "0.50", "geo": {"country": "US", "region": "CA", "city": "San José"}}
    binary = flat | {"event_id": identity, "bid_price": 500000, "country": "us", "region": "CA", "city": "San José"}
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        client = Client(n)
        same("JSON", n.post(text, report=True)[1]["accepted"], 1)
        for what, fields, wanted in (("binary", {}, 1), ("id as text", {"event_id": str(identity)}, 1), ("capital country", {"country": "US"}, 1), ("mapped address", {"ip_address": "::ffff:203.0.113.9"}, 1),
                                     ("a trace", {"trace": bytes(range(1, 26))}, 1), ("a trace of zeros", {"trace": bytes(25)}, 1), ("another price", {"bid_price": 500001}, 0), ("another city", {"city": "San Jose"}, 0),
                                     ("another type", {"event_type": "impression"}, 0), ("another device", {"device_type": "mobile"}, 0)):
            same(what, brief(client.acknowledged(pack_batch([pack_event(binary | fields)]))), (0, wanted, 0, 1 - wanted, 0))
        same("upper-case id is another one", brief(client.acknowledged(pack_batch([pack_event(binary | {"event_id": str(identity).upper()})]))), (1, 0, 0, 0, 0))
        bare = {"event_id": uuid.uuid4(), "timestamp": stamp}
        same("bare", brief(client.acknowledged(pack_batch([pack_event(bare)]))), (1, 0, 0, 0, 0))
        same("USD said", brief(client.acknowledged(pack_batch([pack_event(bare | {"currency": "USD"})]))), (0, 1, 0, 0, 0))
        same("bare as JSON", n.post({"event_id": str(bare["event_id"]), "event_type": "click", "timestamp": stamp, "ad_id": "a", "campaign_id": "c", "advertiser_id": "v"}, report=True)[1]["duplicates"], 1)
        same("zero id", brief(client.acknowledged(pack_batch([pack_event(bare | {"event_id": uuid.UUID(int=0)})]))), (1, 0, 0, 0, 0))
        same("zero id as text", brief(client.acknowledged(pack_batch([pack_event(bare | {"event_id": str(uuid.UUID(int=0))})]))), (0, 1, 0, 0, 0))
        client.close()
        n.audit()


def test_events_are_rejected_one_by_one(build):
    good = lambda: pack_event({"user_agent": "x" * 40})
    rows = {
        "no ad": (pack_event({"ad_id": ""}), "missing_field", "ad_id"), "no campaign": (pack_event({"campaign_id": ""}), "missing_field", "campaign_id"),
        "no advertiser": (pack_event({"advertiser_id": ""}), "missing_field", "advertiser_id"), "long id": (pack_event({"event_id": "x" * 65}), "too_long", "event_id"),
        "long user agent": (pack_event({"user_agent": "x" * 1025}), "too_long", "user_agent"), "long referer": (pack_event({"referer": "x" * 1025}), "too_long", "referer"),
        "bad UTF-8": (pack_event({"city": b"\xff"}), "bad_utf8", "city"), "surrogate": (pack_event({"user_agent": b"\xed\xa0\x80"}), "bad_utf8", "user_agent"), "NUL": (pack_event({"ad_id": "a\0b"}), "bad_value", "ad_id"),
        "bad UTF-8 in the id": (pack_event({"event_id": b"\xc0\x80"}), "bad_utf8", "event_id"), "type 3": (pack_event(type=3), "bad_value", "event_type"), "type 255": (pack_event(type=255), "bad_value", "event_type"),
        "device 7": (pack_event(device=7), "bad_value", "device_type"), "negative bid": (pack_event({"bid_price": -1}), "bad_value", "bid_price"),
        "bid over a million": (pack_event({"bid_price": 10**12 + 1}), "bad_value", "bid_price"), "small currency": (pack_event({"currency": "usd"}), "bad_value", "currency"),
        "country of digits": (pack_event({"country": "1A"}), "bad_value", "country"), "future": (pack_event({"timestamp": now_ms() + 10**7}), "future", "timestamp"),
        "end of time": (pack_event({"timestamp": 2**64 - 1}), {"future", "bad_value"}, "timestamp"), "zero field": (pack_event(zero=1), "malformed", None), "unknown flag": (pack_event(flags=1 << 9), "malformed", None),
        "flag without its bytes": (pack_event(flags=1 << 2), "malformed", None), "both addresses": (pack_event({"ip_address": "1.2.3.4"}, flags=3), "malformed", None), "bytes too many": (pack_event(tail=b"x"), "malformed", None),
        "length too long": (pack_event(lengths={"city": 5}), "malformed", None), "length too short": (pack_event({"city": "abc"}, lengths={"city": 2}), "malformed", None),
    }
    for name in STRINGS[:8]:
        limit = 128 if name == "city" else 64
        rows[f"long {name}"] = (pack_event({name: "x" * (limit + 1)}), "too_long", name)
        rows[f"{name} at its limit"] = (pack_event({name: "x" * limit}), None, None)
    rows |= {"bid of a million": (pack_event({"bid_price": 10**12}), None, None), "bid of nothing": (pack_event({"bid_price": 0}), None, None), "user agent at its limit": (pack_event({"user_agent": "x" * 1024}), None, None),
             "negative numbers": (pack_event({"timezone_offset_min": -2**31, "mouse_moves": -2**31}), None, None), "IPv6": (pack_event({"ip_address": "2001:db8::1"}), None, None)}
    names = {number: name for name, number in REASONS.items()}
    fields = {number: name for name, number in FIELDS.items()}
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        client = Client(n)
        books = {}
        for what, (data, reason, field) in rows.items():
            answer = client.acknowledged(pack_batch([good(), data, good()]))
            if reason is None:
                same(what, brief(answer), (3, 0, 0, 0, 0))
                continue
            same(what, brief(answer), (2, 0, 0, 0, 1))
            if answer["rejects"]:
                index, code, which = answer["rejects"][0]
                same(f"{what}: reason", (index, names.get(code)), {(1, r) for r in reason} if isinstance(reason, set) else (1, reason))
                if field:
                    same(f"{what}: field", fields.get(which), field)
                books[names.get(code)] = books.get(names.get(code), 0) + 1
        # All of many are rejected: named up to 32, and never more than fit.
        for count in (1, 2, 31, 32, 33, 200):
            client.acknowledged(pack_batch([pack_event({"ad_id": ""}) for _ in range(count)]))
            books["missing_field"] += count
        client.close()
        rejected = {reason: count for reason, count in n.audit()["events"]["rejected"].items() if count}
        same("books", rejected, books)


def test_broken_batches_are_met_with_silence(build):
    events = [pack_event({"event_id": f"never-{i}", "timestamp": 1_700_000_000_000}) for i in range(3)]
    whole = pack_batch(events, 5, 5)

    def sealed(data):
        data = bytearray(data)
        data[28:32] = bytes(4)
        data[28:32] = struct.pack("<I", crc32c(data))
        return bytes(data)

    broken = {"a flipped bit": whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], "wrong checksum": pack_batch(events, spoil=1), "version 0": pack_batch(events, version=0), "version 3": pack_batch(events, version=3),
              "kind 0": pack_batch(events, kind=0), "kind 2": pack_batch(events, kind=2), "kind 3": pack_batch(events, kind=3), "unknown flag": pack_batch(events, flags=2), "highest flag": pack_batch(events, flags=0x8000),
              "tag said, not there": pack_batch(events, flags=1), "no events said": pack_batch(events, events=0), "one event too many": pack_batch(events, events=4), "one too few": pack_batch(events, events=2),
              "65535 events": pack_batch(events, events=65535), "length too long": pack_batch(events, bytes=len(whole) + 1), "length too short": pack_batch(events, bytes=len(whole) - 1), "length 0": pack_batch(events, bytes=0),
              "magic": pack_batch(events, magic=b"\x9eTPC"), "magic only": MAGIC, "one byte": b"\x9e", "63 bytes": sealed(whole[:63]), "a header": sealed(whole[:32]), "cut": whole[:-1], "cut and sealed": sealed(whole[:-1]),
              "a byte more": whole + b"\0", "a byte more, sealed": sealed(whole + b"\0"), "event of 0 bytes": pack_batch([events[0], pack_event(bytes=0)]), "event of 27 bytes": pack_batch([events[0], pack_event(bytes=27)]),
              "event over the end": pack_batch([events[0], pack_event(bytes=65535)]), "an event that ends early": pack_batch([pack_event(bytes=30)] + events)}
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        client = Client(n)
        for data in broken.values():
            client.send(data)
        dice = random.Random(11)
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(dice.randrange(1, 6)):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            if bytes(data) != whole and data[0] == 0x9E:
                client.send(bytes(data))
        for _ in range(100):
            client.send(b"\x9e" + dice.randbytes(dice.randrange(0, 300)))
        sheet = wait_until("all were looked at", lambda: (s := n.audit()) and s["datagrams"]["received"] >= 400 and s)
        same("silence", client.receive(0.2), None)
        same("none accepted", (sheet["datagrams"]["accepted"], sheet["events"]["received"], sheet["batches"]["received"]), (0, 0, 0))
        # Nothing of them counted: the events are new now.
        answer = client.acknowledged(whole)
        same("the whole one", (answer["accepted"] + answer["late"], answer["duplicates"]), (3, 0))
        client.close()
        n.audit()


def test_sealed_nonsense_is_harmless(build):
    """Random bytes behind a correct header and checksum: answered or not, nothing breaks and the books balance."""
    with node(build, control=False, extra=SMALL) as n:
        client = Client(n)
        dice = random.Random(12)
        for _ in range(600):
            events = [pack_event({"event_id": dice.randbytes(dice.randrange(1, 70)), "city": dice.randbytes(dice.randrange(0, 20)), "bid_price": dice.randrange(-2**63, 2**63), "timestamp": dice.randrange(2**64)})
                      for _ in range(dice.randrange(1, 4))]
            events = [bytes(b if dice.random() > 0.02 else dice.randrange(256) for b in e) for e in events]
            data = pack_batch(events, 3, dice.randrange(2**64))
            client.send(data)
            while (answer := client.receive(0.0005)) is not None:
                assert len(answer) <= 1500 and answer[:4] == MAGIC
        assert brief(client.acknowledged(pack_batch([pack_event()], 4, 4)))[0] == 1
        client.close()
        n.audit()


def test_text_is_never_answered(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        client = Client(n)
        fine = event()
        for data in (json.dumps(fine), json.dumps(fine), json.dumps(dict(fine, ad_id="z")), json.dumps([event(), event()]), "\n".join(json.dumps(event()) for _ in range(4)) + "\n", json.dumps(event(), indent=2),
                     "{broken", "[]", " ", "\n\n", "\0", "GET / HTTP/1.1", json.dumps(event(ad_id=None)), json.dumps(event(timestamp=now_ms() + 10**8)), json.dumps(event()) + "\n{bad\n" + json.dumps(event()),
                     "[" + json.dumps(event()) + ",{]", json.dumps(event(event_id="last"))):
            client.send(data.encode())
        client.send(b"")
        client.send(b"\xff\xfe")
        client.send(b"\n".join(json.dumps(event(device_id=f"d{i}")).encode() for i in range(200)))
        sheet = wait_until("all were looked at", lambda: (s := n.audit()) and s["datagrams"]["received"] >= 20 and s)
        events = sheet["events"]
        same("counts", (events["accepted"], events["duplicates"], events["conflicts"]), (1 + 2 + 4 + 1 + 2 + 1 + 200, 1, 1))
        same("rejects", (events["rejected"]["missing_field"], events["rejected"]["future"]), (1, 1))
        same("empty ones", sheet["datagrams"]["rejected"]["empty"], 1)
        same("silence", client.receive(0.2), None)
        client.close()


def test_port_that_asks_for_tokens_takes_no_datagrams(build):
    ingest = "  - {driver: socket, http: '127.0.0.1:0', udp: '127.0.0.1:0', auth: tokens}\n"
    with node(build, control=False, ingest=ingest, extra=SMALL) as n:
        client = Client(n)
        client.send(pack_batch([pack_event()]))
        client.send(json.dumps(event()).encode())
        sheet = wait_until("both were looked at", lambda: (s := n.audit()) and s["datagrams"]["received"] >= 2 and s)
        assert sheet["datagrams"]["rejected"]["unauthorised"] == 2 and sheet["events"]["received"] == 0, sheet["datagrams"]
        assert client.receive(0.2) is None
        client.close()


def test_retries_after_a_restart_count_once(build):
    with node(build, control=False, extra=SMALL) as n:
        client = Client(n)
        batch = pack_batch([pack_event() for _ in range(20)], 1, 1)
        assert brief(client.acknowledged(batch)) == (20, 0, 0, 0, 0)
        n.kill()
        n.start(control=False)
        client.target = n.udp[0]
        assert brief(client.acknowledged(batch)) == (0, 20, 0, 0, 0)
        client.close()
        n.audit()


KEYS = {7: bytes(range(16)), 8: bytes(range(16, 32)), 9: bytes(range(32, 48))}


def keys_file(folder):
    """Source 9 may only send from elsewhere."""
    path = folder / "source.keys"
    path.write_text("# source key\n7 " + KEYS[7].hex() + "\n0x8 " + KEYS[8].hex() + " 127.0.0.0/8\n9 " + KEYS[9].hex() + " 192.0.2.0/24,::/0\n")
    path.chmod(0o600)
    return path


def keyed_node(build, folder, extra_keys=""):
    ingest = f"  - {{driver: socket, udp: '127.0.0.1:0', http: '127.0.0.1:0', source_keys: {folder}/source.keys, batch_window: 100{extra_keys}}}\n"
    return node(build, control=False, ingest=ingest, extra=SMALL)


def test_keyed_port(build):
    """Batches are taken of known sources with right tags only, in both versions; everybody else meets silence. Keys change without a gap."""
    with temporary() as folder:
        path = keys_file(folder)
        with keyed_node(build, folder, ", auth: tokens") as n, findings() as same:
            client = Client(n)
            events = [pack_event(), pack_event({"ad_id": ""})]
            one = pack_signed(events, KEYS[7], 7, 1, version=1)
            client.send(one)
            same("version 1, acknowledged as ever", brief(check_answer(one, client.receive())), (1, 0, 0, 0, 1))
            two = pack_signed(events, KEYS[7], 7, 1)
            client.send(two)
            kind, body = open_answer(two, client.receive(), KEYS[7])
            same("version 2", (kind, body[:4], struct.unpack("<HHHHHH", body[4:16]), len(body)), (2, two[28:32], (0, 1, 0, 0, 1, 1), 28))
            same("its window", struct.unpack("<H", body[16:18]), (100,))
            same("the reject", body[24:], struct.pack("<HBB", 1, 2, 4))
            hello = pack_hello(8, 5, KEYS[8])
            client.send(hello)
            kind, body = open_answer(hello, client.receive(), KEYS[8])
            same("layout", (kind, struct.unpack("<HHHHHB", body[:11]), len(body)), (5, (1, 1, 0, 100, 65507, 1), 17))
            silent = {"no tag": pack_batch(events, 7, 2), "no tag, version 2": seal(pack_batch(events, 7, 2, version=2)), "another's key": pack_signed(events, KEYS[8], 7, 2),
                      "unknown source": pack_signed(events, KEYS[7], 70, 2), "from elsewhere": pack_signed(events, KEYS[9], 9, 2), "64 bits in version 2": seal(pack_signed(events, KEYS[7], 7, 2, version=1)[:4] + b"\2" + pack_signed(events, KEYS[7], 7, 2, version=1)[5:]),
                      "hello without a tag": pack_hello(7, 2), "hello with another's": pack_hello(7, 2, KEYS[8]), "text": json.dumps(event()).encode()}
            for flip in range(8, len(two)):
                if flip in (24, 25) or 28 <= flip < 32 or flip in (48, 49):
                    continue  # lengths and checksum
                data = bytearray(two)
                data[flip] ^= 1 << flip % 8
                silent[f"byte {flip} changed"] = seal(bytes(data))
            before = n.audit()
            for data in silent.values():
                client.send(data)
            after = wait_until("all were looked at", lambda: (s := n.audit()) and s["datagrams"]["received"] == before["datagrams"]["received"] + len(silent) and s)
            same("silence", client.receive(0.2), None)
            same("no event", after["events"]["received"], before["events"]["received"])
            rejected = after["datagrams"]["rejected"]
            same("text", rejected["unauthorised"], 1)
            same("unknown sources, flips of the source among them", rejected["unknown_source"], 2 + 8)
            same("all are counted", rejected["unknown_source"] + rejected["bad_tag"] + rejected["malformed"] + 1, len(silent))
            # A replay is safe for the books: duplicates.
            client.send(two)
            same("replay", struct.unpack("<HHHHHH", open_answer(two, client.receive(), KEYS[7])[1][4:16]), (0, 1, 0, 0, 1, 1))
            # The new key beside the old, then alone.
            new = bytes(range(64, 80))
            numbers = iter(range(100, 2**32))

            def answered(key):
                """Whether a batch with this key is answered, once it is in the books: taken, or of a wrong tag."""
                batch, before = pack_signed([pack_event()], key, 7, next(numbers)), n.audit()["datagrams"]
                client.send(batch)
                after = wait_until("it was looked at", lambda: (d := n.audit()["datagrams"])["received"] > before["received"] and d)
                if after["rejected"]["bad_tag"] > before["rejected"]["bad_tag"]:
                    return False
                return open_answer(batch, client.receive(), key)[0] == 2
            path.write_text(f"7 {KEYS[7].hex()}\n7 {new.hex()}\n")
            wait_until("the new key counts", lambda: answered(new))
            same("the old one, too", answered(KEYS[7]), True)
            path.write_text(f"7 {new.hex()}\n")
            wait_until("the old key has gone", lambda: not answered(KEYS[7]))
            path.write_text(f"7 {new.hex()}\nbroken\n")
            wait_until("the damage is told", lambda: "line 2: expected a source number" in (n.folder / "data.log").read_text())
            same("what was read last stays in force", answered(new), True)
            same("no key in the log", new.hex() in (n.folder / "data.log").read_text(), False)
            client.close()
            n.audit()


def test_broken_key_file_is_no_start(build):
    with temporary() as folder:
        path = keys_file(folder)
        for what, spoil, said in (("readable", lambda: path.chmod(0o644), "others may not touch"), ("broken", lambda: (path.chmod(0o600), path.write_text("7 xyz\n")), "line 1"), ("gone", path.unlink, "No such file")):
            spoil()
            try:
                with keyed_node(build, folder):
                    pass
            except AssertionError as error:
                assert "source keys not read" in str(error) and said in str(error), (what, error)
            else:
                raise AssertionError(f"{what}: it started")


def test_hello_and_window_without_keys(build):
    ingest = "  - {driver: socket, udp: '127.0.0.1:0', batch_window: 3}\n"
    with node(build, control=False, ingest=ingest, extra=SMALL) as n, findings() as same:
        client = Client(n)
        hello = pack_hello(1, 9)
        client.send(hello)
        kind, body = open_answer(hello, client.receive())
        same("layout", (kind, struct.unpack("<HHHHHB", body[:11])), (5, (1, 1, 0, 3, 65507, 1)))
        batches = [seal(pack_batch([pack_event()], 1, i, version=2)) for i in range(200)]
        told = {2: 0, 3: 0}
        for batch in batches:
            client.send(batch)
        by_number = {struct.unpack("<Q", batch[16:24])[0]: batch for batch in batches}
        while sum(told.values()) < 200 and (answer := client.receive()) is not None:
            kind, body = open_answer(by_number[struct.unpack("<Q", answer[16:24])[0]], answer)
            told[kind] += 1
            same("window", struct.unpack("<H", body[16:18] if kind == 2 else body[4:6])[0] in (1, 2, 3), True)
            if kind == 3:
                same("why", body[8], 2)
        sheet = n.audit()
        same("each is told one thing", (told[2], told[3]), (sheet["batches"]["accepted"], sheet["datagrams"]["dropped"]["window_full"]))
        same("none is lost", told[2] + told[3], 200)
        # Version 1 knows no "later": silence, and nothing else.
        for i in range(200):
            client.send(pack_batch([pack_event()], 2, i))
        while (answer := client.receive(0.5)) is not None:
            same("version 1", (answer[4], answer[5]), (1, 2))
        client.close()
        n.audit()


def test_client_library_against_a_keyed_node(build):
    """The C library signs, learns the layout, and takes signed answers only; with another key nothing of it is counted."""
    with temporary() as folder:
        keys_file(folder)
        with keyed_node(build, folder) as n:
            def send(key):
                return subprocess.Popen([f"{build}/client/turnpike-client-example", "127.0.0.1", str(n.udp[0][1]), "5000", "7", key.hex()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            out, err = send(KEYS[7]).communicate(timeout=PATIENCE)
            assert "accepted 5000, other 0" in out and "(p99)" in err, (out, err)
            sheet = n.audit()
            assert sheet["events"]["accepted"] == 5000 and not any(sheet["datagrams"]["rejected"].values()), sheet
            stranger = send(KEYS[8])
            try:
                wait_until("it sends again and again", lambda: n.ctl("audit", "--json")["layers"][2]["rejected"]["bad_tag"] > 3)
                assert stranger.poll() is None, "it takes silence for an answer"
            finally:
                stranger.kill()
                stranger.communicate()
            sheet = n.audit()
            assert sheet["events"]["accepted"] == 5000 and not sheet["events"]["duplicates"], sheet["events"]


def test_answers_are_not_to_be_fragmented(build):
    """Seen on the wire: every acknowledgement of a kernel socket has "do not fragment" set."""
    if os.geteuid() != 0:
        raise Skip("needs root: a packet socket")
    with node(build, control=False, extra=SMALL) as n:
        client = Client(n)
        port = client.socket.getsockname()[1]
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as wire:
            wire.bind(("lo", 0))
            wire.settimeout(PATIENCE)
            client.acknowledged(pack_batch([pack_event()]))
            while True:
                packet = wire.recv(65536)
                head = (packet[0] & 15) * 4
                if packet[9] == 17 and struct.unpack(">HH", packet[head:head + 4]) == (n.udp[0][1], port):
                    break
        assert struct.unpack(">H", packet[6:8])[0] == 0x4000, packet[:20]
        client.close()
