#!/usr/bin/python3
"""Writes small MaxMind DB files for tests: mmdb.py FILE TYPE 'PREFIX=JSON' ….  Source: MaxMind DB file format specification 2.0."""
import ipaddress
import json
import struct
import sys
import time


def encode(value):
    """One value of the data section. Whole numbers become uint32, others double."""
    if isinstance(value, dict):
        return control(7, len(value)) + b"".join(encode(key) + encode(item) for key, item in value.items())
    if isinstance(value, list):
        return control(11, len(value)) + b"".join(map(encode, value))
    if isinstance(value, str):
        text = value.encode()
        return control(2, len(text)) + text
    if isinstance(value, float):
        return control(3, 8) + struct.pack(">d", value)
    if isinstance(value, tuple):  # (type, number)
        kind, number = value
        digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
        return control(kind, len(digits)) + digits
    return encode((6, value))


def control(kind, size):
    assert size < 285
    low = min(size, 29)
    head = bytes([kind << 5 | low]) if kind < 8 else bytes([low, kind - 7])
    return head + (bytes([size - 29]) if low == 29 else b"")


def build(kind, entries):
    """entries: [(prefix, value)], longer prefixes win. A tree over IPv6, IPv4 below ::/96, records of 32 bits."""
    nodes, data, places = [[None, None]], b"", {}
    for prefix, value in sorted(entries, key=lambda entry: ipaddress.ip_network(entry[0]).prefixlen):
        network = ipaddress.ip_network(prefix)
        bits = network.prefixlen + (96 if network.version == 4 else 0)
        number = int(network.network_address)
        encoded = encode(value)
        if encoded not in places:
            places[encoded] = len(data)
            data += encoded
        node = 0
        for depth in range(bits):
            side = number >> 127 - depth & 1
            if depth == bits - 1:
                nodes[node][side] = ("data", places[encoded])
                break
            below = nodes[node][side]
            if not isinstance(below, int):
                nodes.append([below, below])
                below = nodes[node][side] = len(nodes) - 1
            node = below
    count = len(nodes)

    def record(value):
        return count if value is None else value if isinstance(value, int) else count + 16 + value[1]

    tree = b"".join(struct.pack(">II", record(left), record(right)) for left, right in nodes)
    metadata = {"binary_format_major_version": (5, 2), "binary_format_minor_version": (5, 0), "build_epoch": (9, int(time.time())),
                "database_type": kind, "description": {"en": "made by a test"}, "ip_version": (5, 6), "languages": ["en"],
                "node_count": (6, count), "record_size": (5, 32)}
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + encode(metadata)


def main():
    entries = [argument.split("=", 1) for argument in sys.argv[3:]]
    with open(sys.argv[1], "wb") as out:
        out.write(build(sys.argv[2], [(prefix, json.loads(value)) for prefix, value in entries]))


if __name__ == "__main__":
    main()
