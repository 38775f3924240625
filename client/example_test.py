#!/usr/bin/python3
"""Runs the example against a server written from docs/protocol.md alone, which forgets the first copy of every other batch."""
import socket
import struct
import subprocess
import sys

CLICKS = 300


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def events_of(datagram):
    magic, version, kind, flags, source, number, size, count, checksum = struct.unpack_from("<4sBBHQQHHI", datagram)
    assert magic == b"\x9eTPB" and version == 1 and kind == 1 and flags == 0 and size == len(datagram) <= 1400
    assert crc32c(datagram[:28] + bytes(4) + datagram[32:]) == checksum
    at, ids = 32, []
    for _ in range(count):
        size, kind, device, flags, agent, stamp, referer = struct.unpack_from("<HBBHHQH", datagram, at)
        lengths = datagram[at + 18 : at + 27]
        assert datagram[at + 27] == 0 and kind == 1 and device == 0
        assert flags == 1 | 4 | 16, flags  # IPv4 address, bid, country
        ip, bid, country = struct.unpack_from("<4sQ2s", datagram, at + 28)
        assert ip == bytes([198, 51, 100, 7]) and bid == 500000 and country == b"US"
        strings = at + 28 + 14
        ids.append(datagram[strings : strings + lengths[0]].decode())
        assert datagram[strings + lengths[0] : strings + lengths[0] + 6] == b"ad_123"
        assert size == 28 + 14 + sum(lengths) + agent + referer
        at += size
    assert at == len(datagram)
    return source, number, checksum, ids


def main():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(20)
    example = subprocess.Popen([sys.argv[1], "127.0.0.1", str(server.getsockname()[1]), str(CLICKS)], stdout=subprocess.PIPE, text=True)
    seen, counted = {}, set()
    while len(counted) < CLICKS:
        datagram, peer = server.recvfrom(65536)
        if datagram[4] == 2:
            assert datagram[5] == 4 and len(datagram) == 160
            continue  # a hello of version 2, which this server does not know
        source, number, checksum, ids = events_of(datagram)
        copies = seen.setdefault(number, [])
        copies.append(datagram)
        assert len(set(copies)) == 1, "a retry has the same bytes"
        if len(seen) % 2 and len(copies) == 1:
            continue
        new = [i for i in ids if i not in counted]
        counted.update(new)
        ack = struct.pack("<4sBBHQQHHIIHHHHHH", b"\x9eTPB", 1, 2, 0, source, number, 48, len(ids), 0, checksum, len(new), len(ids) - len(new), 0, 0, 0, 0)
        assert len(ack) == 48
        server.sendto(ack[:28] + struct.pack("<I", crc32c(ack)) + ack[32:], peer)
    out, _ = example.communicate(timeout=20)
    assert example.returncode == 0, example.returncode
    assert f"batches {len(seen)}, accepted {CLICKS}, other 0, sent again " in out, out
    assert int(out.split()[-1]) >= len(seen) // 2, out
    usage = subprocess.run([sys.argv[1]], stderr=subprocess.PIPE, check=False)
    assert usage.returncode == 2


main()
