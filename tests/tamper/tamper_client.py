#!/usr/bin/python3
"""Requests over a bad wire: tamper_client.py HOST PORT REQUESTS CONNECTIONS SEED. Prints what came of them as JSON.

Each connection keeps one to four requests in its pipeline. Two kinds, whose answers differ from one request to the next, so an answer
out of order, twice or of other bytes shows:
  clicks  1 to 40 events with ids of their own, ?report=1: "accepted" must be that many
  debug   events of which a known few are wrong: the verdict of each, in order; the answer can be many segments
A request whose connection ends before its answer (a reset, a 408 of a stalled body) is sent again on another one with the same ids, as
a client does; that is counted.
"""
import asyncio
import json
import random
import sys
import time


class Broken(Exception):
    """The connection ended before the answer."""


def click(rng, identity, bad=False):
    fields = {"event_id": identity, "event_type": "impression", "timestamp": int(time.time() * 1000), "ad_id": "tamper",
              "campaign_id": "tamper", "advertiser_id": "v", "user_agent": "x" * rng.randrange(400)}
    if bad:
        del fields["ad_id"]
    return fields


def make(rng, number, tag):
    """(path, body, expected answer)"""
    if rng.random() < 0.75:
        count = rng.choice((1, 1, 2, 3, 7, 40))
        events = [click(rng, f"{tag}-{number}-{i}") for i in range(count)]
        return "/api/v1/clicks?report=1", json.dumps(events).encode(), count
    verdicts = [rng.random() < 0.7 for _ in range(rng.choice((1, 5, 30, 300)))]
    events = [click(rng, f"d-{i}", not good) for i, good in enumerate(verdicts)]
    return "/api/v1/debug/clicks", json.dumps(events).encode(), verdicts


def check(expected, status, body, again):
    answer = json.loads(body)
    if isinstance(expected, int):
        good = status == 200 and answer["rejected"] == [] and answer["late"] == answer["conflicts"] == 0
        return good and answer["accepted"] + answer["duplicates"] == expected and (again or answer["accepted"] == expected)
    return status == 200 and [event["verdict"] == "valid" for event in answer["events"]] == expected


async def answer_of(reader):
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        status = int(head[0].split()[1])
        body = await reader.readexactly(int(fields.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
        raise Broken(str(error)) from None
    if status == 408:
        raise Broken("408")
    return status, body


async def worker(host, port, rng, queue, result, tag):
    pending = []  # (path, body, expected, again)
    while pending or queue:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            result["connect_failures"] += 1
            continue
        result["connections"] += 1
        sent = 0
        try:
            for _ in range(rng.choice((1, 5, 50, 200))):
                depth = rng.randrange(1, 5)
                while len(pending) < depth and queue:
                    pending.append((*make(rng, queue.pop(), tag), False))
                if not pending:
                    break
                while sent < len(pending):
                    path, body, _, _ = pending[sent]
                    writer.write(f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                                 f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                    sent += 1
                status, body = await answer_of(reader)
                _, _, expected, again = pending.pop(0)
                sent -= 1
                result["answered"] += 1
                if not check(expected, status, body, again):
                    result["wrong"].append([status, body[:300].decode(errors="replace"), str(expected)[:300]])
                elif isinstance(expected, int):
                    result["events"] += expected
            while sent:  # no answer is left behind on a connection that we close
                status, body = await answer_of(reader)
                _, _, expected, again = pending.pop(0)
                sent -= 1
                result["answered"] += 1
                if not check(expected, status, body, again):
                    result["wrong"].append([status, body[:300].decode(errors="replace"), str(expected)[:300]])
                elif isinstance(expected, int):
                    result["events"] += expected
            writer.close()
        except (Broken, ConnectionError) as error:
            result["sent_again"] += sent
            result["why"][str(error)] = result["why"].get(str(error), 0) + 1
            pending = [(path, body, expected, i < sent or again) for i, (path, body, expected, again) in enumerate(pending)]
            writer.transport.abort()


async def main():
    host, port, requests, connections, seed = sys.argv[1], *map(int, sys.argv[2:6])
    result = {"answered": 0, "events": 0, "wrong": [], "sent_again": 0, "why": {}, "connections": 0, "connect_failures": 0}
    queue = list(range(requests))
    began = time.monotonic()
    await asyncio.gather(*(worker(host, port, random.Random(seed * 1000 + i), queue, result, f"t{seed}") for i in range(connections)))
    result["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(result))


asyncio.run(main())
