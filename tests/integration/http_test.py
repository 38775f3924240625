"""Beacons over HTTP/1.1: each row of the table, each status, framing that must not be misread, clients that misbehave. Contract section 5."""
import gzip
import http.client
import json
import random
import socket
import threading
import time
import urllib.parse
import uuid
import zlib

from harness import PATIENCE, SMALL, event, findings, ledger, node, now_ms
from http_raw import CLICKS, DEBUG, PIXEL, Raw, chunked, one, problem, request


def test_statuses(build):
    long_target = PIXEL + "?x=" + "y" * (8 * 1024 - len(PIXEL) - 3)
    rows = [(target, request("GET", target), 404, {}) for target in ("/", "/x", "/api/v1/clicks/", "/API/V1/CLICKS", "/api/v1/click", "//api/v1/clicks", "/metrics",
                                                                    "/api/v1/clicks%00", "/healthz/", "/./healthz", "/api/../healthz", "/healthz;x")]
    rows += [(f"{method} {target}", request(method, target, b""), 405, {"allow": allow}) for method, target, allow in (
        ("GET", CLICKS, "POST"), ("PUT", CLICKS, "POST"), ("DELETE", CLICKS, "POST"), ("PATCH", CLICKS, "POST"), ("BREW", CLICKS, "POST"), ("post", CLICKS, "POST"),
        ("POST", PIXEL, "GET"), ("POST", "/healthz", "GET"), ("GET", DEBUG, "POST"), ("TRACE", "/healthz", "GET"), ("DELETE", PIXEL, "GET"))]
    rows += [("no length", request(), 411, {}), ("no length, debug", request("POST", DEBUG), 411, {})]
    rows += [("1 MiB and a byte", request("POST", CLICKS, None, "Content-Length: 1048577"), 413, {}), ("1 GiB", request("POST", CLICKS, None, "Content-Length: 1073741824"), 413, {}),
             ("2^64", request("POST", CLICKS, None, "Content-Length: 18446744073709551616"), {400, 413}, {}),
             ("10^40", request("POST", CLICKS, None, "Content-Length: 1" + "0" * 40), {400, 413}, {}),
             ("a chunk over 1 MiB", request("POST", CLICKS, None, "Transfer-Encoding: chunked") + b"100001\r\n", 413, {})]
    rows += [("target of 8 KiB and one", request("GET", long_target + "z"), 414, {}), ("endless target", b"GET /" + b"a" * 30000, 414, {})]
    rows += [(kind, request("POST", CLICKS, b"[]", f"Content-Type: {kind}"), 415, {}) for kind in (
        "image/png", "application/xml", "application/jsonx", "application/x-www-form-urlencoded", "text/html", "multipart/form-data; boundary=x", "text/plainx", "json")]
    rows += [(f"coded {coding}", request("POST", CLICKS, b"[]", f"Content-Encoding: {coding}"), 415, {}) for coding in ("br", "deflate", "zstd", "gzip, br", "gzip, gzip", "gzipx")]
    rows += [("expectation", request("POST", CLICKS, b"[]", "Expect: the-unexpected"), 417, {}), ("expectation of two", request("POST", CLICKS, b"[]", "Expect: 100-continue, x"), 417, {})]
    rows += [("one header of 17 KiB", request("GET", "/healthz", None, "X: " + "y" * 17000), 431, {}),
             ("headers of 17 KiB", request("GET", "/healthz", None, *[f"X-{i}: {'y' * 50}" for i in range(300)]), 431, {}),
             ("endless header", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 60000, 431, {})]
    rows += [(f"transfer coding {coding}", request("POST", CLICKS, None, f"Transfer-Encoding: {coding}"), status, {}) for coding, status in (
        ("gzip", {501, 400}), ("gzip, chunked", 501), ("foo, chunked", 501), ("identity", {501, 400}), ("xchunked", {501, 400}))]
    rows += [(version, request("GET", "/healthz", None, version=version), 505, {}) for version in ("HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.9")]
    rows += [("200", request("GET", "/healthz"), 200, {}), ("HTTP/1.0", request("GET", "/healthz", None, version="HTTP/1.0", host=False), 200, {}),
             ("target of 8 KiB", request("GET", long_target), 400, {}),  # a pixel without its fields
             ("whole address as target", request("GET", "http://a:80/healthz"), 200, {}), ("with a query", request("GET", "/healthz?x=y"), 200, {}),
             ("headers of 15 KiB", request("GET", "/healthz", None, "X: " + "y" * 15000), 200, {}), ("lines before the request", b"\r\n\r\n" + request("GET", "/healthz"), 200, {}),
             ("OPTIONS *", request("OPTIONS", "*"), {200, 204}, {}), ("empty value", request("GET", "/healthz", None, "X:", "Y: \t "), 200, {}),
             ("bytes above ASCII in a value", request("GET", "/healthz", None, "X: \xe9\xff"), 200, {}), ("host with a port", request("GET", "/healthz", None, "hOsT: [::1]:8080", host=False), 200, {})]
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        for what, data, status, wanted in rows:
            raw = Raw(n)
            raw.send(data)
            answer = raw.answer()
            problem(what, answer, status, same)
            for header, value in wanted.items():
                same(f"{what}: {header}", value in answer[1].get(header, ""), True)
            raw.close()
        sheet = n.audit()
        same("requests received", sheet["requests"]["received"], len(rows))
        same("no events", sheet["events"]["received"], sheet["events"]["rejected"]["missing_field"])


def test_framing_that_could_smuggle_is_refused_and_the_connection_ends(build):
    """Behind each bad request lies another one: it must never be answered."""
    body = one()
    post = f"POST {CLICKS} HTTP/1.1\r\n".encode()
    length = b"Content-Length: %d\r\n" % len(body)
    rows = {
        "both lengths": post + b"Host: a\r\n" + length + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body),
        "both lengths, turned": post + b"Host: a\r\nTransfer-Encoding: chunked\r\n" + length + b"\r\n" + chunked(body),
        "two equal lengths": post + b"Host: a\r\n" + length + length + b"\r\n" + body,
        "two lengths": post + b"Host: a\r\n" + length + b"Content-Length: 0\r\n\r\n" + body,
        "list of lengths": post + b"Host: a\r\nContent-Length: %d, %d\r\n\r\n" % (len(body), len(body)) + body,
        "bare LF ends the lines": f"POST {CLICKS} HTTP/1.1\nHost: a\nContent-Length: 2\n\n[]".encode(),
        "bare LF after a header": post + b"Host: a\r\nX: y\n" + length + b"\r\n" + body,
        "bare LF before the body": post + b"Host: a\r\n" + length + b"\n" + body,
        "bare CR in a header": post + b"Host: a\r\nX: y\rz\r\n" + length + b"\r\n" + body,
        "bare CR before a length": post + b"Host: a\r\nX: y\r" + length + b"\r\n" + body,
        "CR CR LF": post + b"Host: a\r\nX: y\r\r\n" + length + b"\r\n" + body,
        "bare CR in the target": f"POST {CLICKS}\r HTTP/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "space before the colon": post + b"Host: a\r\nContent-Length : %d\r\n\r\n" % len(body) + body,
        "tab before the colon": post + b"Host: a\r\nContent-Length\t: %d\r\n\r\n" % len(body) + body,
        "obs-fold": post + b"Host: a\r\nX: y\r\n z\r\n" + length + b"\r\n" + body,
        "obs-fold with tab": post + b"Host: a\r\nX: y\r\n\tz\r\n" + length + b"\r\n" + body,
        "folded length": post + b"Host: a\r\nContent-Length:\r\n %d\r\n\r\n" % len(body) + body,
        "fold before all": post + b" X: y\r\nHost: a\r\n" + length + b"\r\n" + body,
        "NUL in a value": post + b"Host: a\r\nX: y\0z\r\n" + length + b"\r\n" + body,
        "NUL in a name": post + b"Host: a\r\nX\0: y\r\n" + length + b"\r\n" + body,
        "NUL in the target": f"POST {CLICKS}\0 HTTP/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "control in a value": post + b"Host: a\r\nX: \x01\r\n" + length + b"\r\n" + body,
        "DEL in a value": post + b"Host: a\r\nX: \x7f\r\n" + length + b"\r\n" + body,
        "no host": post + length + b"\r\n" + body,
        "two hosts": post + b"Host: a\r\nHost: a\r\n" + length + b"\r\n" + body,
        "two hosts, other case": post + b"Host: a\r\nhOST: b\r\n" + length + b"\r\n" + body,
        "host with a space": post + b"Host: a b\r\n" + length + b"\r\n" + body,
        "host with a path": post + b"Host: a/b\r\n" + length + b"\r\n" + body,
        "host with a user": post + b"Host: u@a\r\n" + length + b"\r\n" + body,
        "no name": post + b"Host: a\r\n: y\r\n" + length + b"\r\n" + body,
        "no colon": post + b"Host: a\r\nX\r\n" + length + b"\r\n" + body,
        "name with a space": post + b"Host: a\r\nX Y: z\r\n" + length + b"\r\n" + body,
        "name with a bracket": post + b"Host: a\r\nX(: z\r\n" + length + b"\r\n" + body,
        "name beyond ASCII": post + b"Host: a\r\nX\xe9: z\r\n" + length + b"\r\n" + body,
        "empty length": post + b"Host: a\r\nContent-Length: \r\n\r\n" + body,
        "two codings": post + b"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body),
        "chunked twice": post + b"Host: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n" + chunked(body),
        "chunked in HTTP/1.0": f"POST {CLICKS} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunked(body),
        "HTTP/1.0, both": f"POST {CLICKS} HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunked(body),
        "two spaces": f"POST  {CLICKS} HTTP/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "two spaces before the version": f"POST {CLICKS}  HTTP/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "space behind the version": f"POST {CLICKS} HTTP/1.1 \r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "tab in the request line": f"POST\t{CLICKS}\tHTTP/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "small version": f"POST {CLICKS} http/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "version with a tail": f"POST {CLICKS} HTTP/1.1x\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "version of two digits": f"POST {CLICKS} HTTP/1.10\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "no version": f"POST {CLICKS}\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "no target": b"POST HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n" + body,
        "target beyond ASCII": "POST /é HTTP/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "no method": f" {CLICKS} HTTP/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "method with a bracket": f"PO(ST {CLICKS} HTTP/1.1\r\nHost: a\r\n".encode() + length + b"\r\n" + body,
        "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(200)),
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    }
    for spelling in ("+5", "-5", "0x5", "5a", "5 5", "5;", "5.0", "\"5\"", "５"):
        rows[f"length {spelling}"] = post + b"Host: a\r\nContent-Length: " + spelling.encode() + b"\r\n\r\n[]   "
    for what, piece in {"no size": b"\r\n[]\r\n0\r\n\r\n", "no hex": b"g\r\n[]\r\n0\r\n\r\n", "0x": b"0x2\r\n[]\r\n0\r\n\r\n", "minus": b"-2\r\n[]\r\n0\r\n\r\n", "plus": b"+2\r\n[]\r\n0\r\n\r\n",
                        "space first": b" 2\r\n[]\r\n0\r\n\r\n", "bare LF": b"2\n[]\r\n0\r\n\r\n", "bare LF after data": b"2\r\n[]\n0\r\n\r\n", "no end of data": b"2\r\n[]0\r\n\r\n",
                        "longer than said": b"1\r\n[]\r\n0\r\n\r\n", "shorter than said": b"3\r\n[]\r\n0\r\n\r\n", "17 digits": b"10000000000000002\r\n[]\r\n0\r\n\r\n",
                        "wraps 32 bits": b"100000002\r\n[]\r\n0\r\n\r\n", "bare CR": b"2\r[]\r\n0\r\n\r\n", "NUL": b"2\0\r\n[]\r\n0\r\n\r\n", "bare LF in an extension": b"2;x\ny\r\n[]\r\n0\r\n\r\n",
                        "bare CR in an extension": b"2;x\ry\r\n[]\r\n0\r\n\r\n", "two sizes": b"2 2\r\n[]\r\n0\r\n\r\n", "comma": b"2,\r\n[]\r\n0\r\n\r\n", "bare LF at the end": b"2\r\n[]\r\n0\n\n",
                        "trailer without colon": b"2\r\n[]\r\n0\r\nX\r\n\r\n", "trailer with bare LF": b"2\r\n[]\r\n0\r\nX: y\n\r\n", "folded trailer": b"2\r\n[]\r\n0\r\nX: y\r\n z\r\n\r\n",
                        "space before a trailer's colon": b"2\r\n[]\r\n0\r\nX : y\r\n\r\n"}.items():
        rows[f"chunk: {what}"] = post + b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n" + piece
    allowed = {"length -5": {400}, "HTTP/2": {400, 505}, "version of two digits": {400, 505}, "small version": {400, 505}, "no version": {400, 505},
               "chunk: 17 digits": {400, 413}, "chunk: wraps 32 bits": {400, 413}, "no target": {400, 505}}
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        for what, data in rows.items():
            raw = Raw(n)
            try:
                raw.send(data + request("GET", "/healthz") * 2)
            except (BrokenPipeError, ConnectionResetError):
                pass
            problem(what, raw.answer(), allowed.get(what, 400), same)
            same(f"{what}: closed", raw.closed(), True)
            raw.close()
        sheet = n.audit()
        same("events", sheet["events"]["accepted"], 0)
        same("requests", (sheet["requests"]["received"], sheet["requests"]["accepted"]), (len(rows), 0))


def test_content_types_and_codings_that_are_taken(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        for kind in ("application/json", "application/x-ndjson", "text/plain", "text/plain;charset=UTF-8", "APPLICATION/JSON", "application/json; charset=utf-8", "application/json;x=\"a;b\"",
                     "text/plain ; charset=utf-8", None):
            raw = Raw(n)
            raw.send(request("POST", CLICKS, one(), *([f"Content-Type: {kind}"] if kind else [])))
            same(kind, raw.answer()[0], 204)
            raw.close()
        for coding in ("gzip", "GZIP", "x-gzip"):
            raw = Raw(n)
            raw.send(request("POST", CLICKS, gzip.compress(one()), f"Content-Encoding: {coding}"))
            same(coding, raw.answer()[0], 204)
            raw.close()
        raw = Raw(n)
        raw.send(request("POST", CLICKS, one(), "Content-Encoding: identity"))
        same("identity", raw.answer()[0], {204, 415})
        raw.close()
        n.audit()


def test_gzip(build):
    def deflate(data, level=9, wbits=31):
        packer = zlib.compressobj(level, zlib.DEFLATED, wbits)
        return packer.compress(data) + packer.flush()

    whole = gzip.compress(one())
    spaces = one() + b" " * 900_000
    lines = b"\n".join(one() for _ in range(3000))
    corrupt = bytearray(gzip.compress(one()))
    corrupt[-6] ^= 1
    size = bytearray(gzip.compress(one()))
    size[-1] ^= 1
    middle = bytearray(gzip.compress(lines))
    middle[len(middle) // 2] ^= 0x55
    rows = [("one event", gzip.compress(one()), 204), ("many events", gzip.compress(lines), 204), ("stored, not compressed", deflate(one(), 0), 204),
            ("two members", gzip.compress(one() + b"\n") + gzip.compress(one()), {204, 400}), ("60 KB of spaces", gzip.compress(one() + b" " * 50_000), 204), ("empty array", gzip.compress(b"[]"), 204),
            ("bomb of 900 KB", gzip.compress(spaces), 413), ("bomb of 100 MB", gzip.compress(b" " * 100_000_000, 9), 413), ("1 MiB and a byte", gzip.compress(lines + b"\n" * (1048577 - len(lines))), 413),
            ("bomb of bombs", gzip.compress(gzip.compress(b"[" * 50_000_000, 9), 9), 400), ("many empty members", gzip.compress(b"") * 40_000, {204, 400, 413}),
            ("cut", whole[:-9], 400), ("cut in the trailer", whole[:-1], 400), ("only a header", whole[:10], 400), ("nothing", b"", 400), ("not gzip", one(), 400), ("zlib", deflate(one(), 9, 15), 400),
            ("raw deflate", deflate(one(), 9, -15), 400), ("wrong checksum", bytes(corrupt), 400), ("wrong size", bytes(size), 400), ("garbage behind", whole + b"garbage", 400),
            ("broken in the middle", bytes(middle), 400), ("random", random.Random(1).randbytes(5000), 400)]
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        for what, data, status in rows:
            for framing in ("length", "chunked"):
                raw = Raw(n)
                if framing == "length":
                    raw.send(request("POST", CLICKS, data, "Content-Encoding: gzip"))
                else:
                    raw.send(request("POST", CLICKS, None, "Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunked(data, (100, 3000, 1)))
                problem(f"{what}, {framing}", raw.answer(), status, same)
                raw.close()
        n.audit()


def test_chunked_bodies(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        def post(what, framed, *lines, wanted=204):
            raw = Raw(n)
            raw.send(request("POST", CLICKS, None, *(lines or ("Transfer-Encoding: chunked",))) + framed + request("GET", "/healthz"))
            same(what, raw.answer()[0], wanted)
            same(f"{what}: the next one", raw.answer()[0], 200)
            raw.close()
        for sizes in ((1,), (2, 3), (7,), (100,), (10_000,), (1, 50)):
            post(f"chunks of {sizes}", chunked(one(), sizes))
        post("extensions", chunked(one(), (9,), b';a=b;c="d;e\\"f";g'))
        post("extension with spaces", chunked(one(), (9,), b' ; a = b'))
        post("trailers", chunked(one(), (9,), b"", b"X: y\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\n"))
        body = one()
        post("zeros before the size", b"0000%X\r\n" % len(body) + body + b"\r\n000\r\n\r\n")
        post("capital digits", b"%X\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
        post("capital coding", chunked(one()), "tRANSFER-eNCODING: CHUNKED")
        post("empty array", chunked(b"[]"))
        post("no body at all", chunked(b""), wanted=400)
        raw = Raw(n)
        raw.send(request("POST", CLICKS, None, "Transfer-Encoding: chunked"))
        raw.send(chunked(b"[" + b" " * 1_100_000 + b"]", (50_000,)))
        same("over 1 MiB in chunks", raw.answer()[0], 413)
        raw.close()
        raw = Raw(n)
        raw.send(request("POST", CLICKS, None, "Transfer-Encoding: chunked"))
        try:
            raw.send(b"1;" + b"x" * 200_000 + b"\r\n[\r\n")
        except OSError:
            pass
        same("endless extension", raw.answer()[0], {400, 413, 431})
        raw.close()
        raw = Raw(n)
        raw.send(request("POST", CLICKS, None, "Transfer-Encoding: chunked") + b"2\r\n[]\r\n0\r\n" + b"X: y\r\n" * 10_000)
        same("endless trailers", raw.answer()[0], {400, 413, 431})
        raw.close()
        n.audit()


def test_body_limits(build):
    """A body of 1 MiB to the byte is taken; one that would make a mebibyte of rejects is answered, too."""
    with ledger(build) as books, findings() as same:
        small = [event(event_id=f"s{i}", publisher_id=None, bid_price=None, device_id=f"d{i}") for i in range(7000)]
        text = "\n".join(json.dumps(e, separators=(",", ":")) for e in small)
        text = text[:text.rindex("\n", 0, 1048576)]
        body = text + " " * (1048576 - len(text))
        count = text.count("\n") + 1
        status, report = books.send(body)
        same("1 MiB of events", (status, report.get("accepted"), report.get("rejected")), (200, count, []))
        status, report = books.send(body)
        same("1 MiB again", (status, report.get("duplicates")), (200, count))
        made = books.node
        for what, nasty in {"ones": b"[" + b"1," * 500_000 + b"1]", "empty objects": b"{}\n" * 340_000, "letters": b"x\n" * 500_000, "newlines": b"\n" * 1_000_000,
                            "brackets": b"[" * 1_000_000, "objects": b'{"a":' * 200_000, "one string": b'"' + b"\\u0041" * 170_000 + b'"', "keys": b"{" + b",".join(b'"%d":1' % i for i in range(90_000)) + b"}",
                            "same keys": b'{"a":' + b"1" * 500_000 + b',"a":1}', "bad bytes": b"\xff" * 1_000_000, "quotes": b'"' * 1_000_000, "backslashes": b'{"a":"' + b"\\" * 1_000_000}.items():
            got, headers, content = made.request("POST", CLICKS, nasty)
            same(f"{what}: status", got, {200, 204, 400, 413})
            if content:
                document = json.loads(content)
                if got == 200:
                    for reject in document["rejected"]:
                        books.rejected[reject["reason"]] = books.rejected.get(reject["reason"], 0) + 1
                elif "reason" in document:
                    books.rejected[document["reason"]] = books.rejected.get(document["reason"], 0) + 1
        same("it still serves", made.request("GET", "/healthz")[0], 200)
        made.audit()
        books.rejected = {reason: count for reason, count in made.audit()["events"]["rejected"].items() if count}


def test_report_flag(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        for query in ("report=1", "x=y&report=1", "report=1&x=y", "&report=1&"):
            status, headers, body = n.request("POST", f"{CLICKS}?{query}", one())
            same(query, (status, headers["Content-Type"], json.loads(body or b"{}")), (200, "application/json", {"accepted": 1, "duplicates": 0, "late": 0, "conflicts": 0, "rejected": []}))
        for query in ("", "report=0", "xreport=1", "x", "report=", "reports=1"):
            same(query, n.request("POST", f"{CLICKS}?{query}", one())[0], 204)
        status, _, body = n.request("POST", f"{CLICKS}?report=1", b"[]")
        same("empty array", (status, json.loads(body or b"null")), (200, {"accepted": 0, "duplicates": 0, "late": 0, "conflicts": 0, "rejected": []}))
        same("conflict", [n.request("POST", CLICKS, json.dumps(event(event_id="k", timestamp=1, ad_id=ad)))[0] for ad in "ab"], [204, 204])
        status, headers, body = n.request("POST", CLICKS, json.dumps(event(ad_id=None)))
        same("invalid single event", (status, headers["Content-Type"], json.loads(body)["reason"]), (400, "application/problem+json", "missing_field"))
        n.audit()


def test_expect_continue(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        body = one()
        for spelling in ("100-continue", "100-Continue"):
            raw = Raw(n)
            raw.send(request("POST", CLICKS, None, f"Expect: {spelling}", f"Content-Length: {len(body)}"))
            same(f"{spelling}: asked for", raw.answer()[0], 100)
            raw.send(body)
            same(f"{spelling}: taken", raw.answer()[0], 204)
            raw.send(request("GET", "/healthz"))
            same(f"{spelling}: goes on", raw.answer()[0], 200)
            raw.close()
        raw = Raw(n)
        raw.send(request("POST", CLICKS, None, "Expect: 100-continue", "Transfer-Encoding: chunked"))
        same("chunked: asked for", raw.answer()[0], 100)
        raw.send(chunked(one()))
        same("chunked: taken", raw.answer()[0], 204)
        raw.close()
        for what, data, status in (("too large", request("POST", CLICKS, None, "Expect: 100-continue", "Content-Length: 2000000"), 413),
                                   ("nowhere", request("POST", "/x", None, "Expect: 100-continue", "Content-Length: 20"), 404),
                                   ("wrong type", request("POST", CLICKS, None, "Expect: 100-continue", "Content-Length: 20", "Content-Type: image/png"), 415),
                                   ("wrong method", request("PUT", CLICKS, None, "Expect: 100-continue", "Content-Length: 20"), 405)):
            raw = Raw(n)
            raw.send(data)
            same(f"{what}: no invitation", raw.answer()[0], status)
            raw.close()
        raw = Raw(n)
        raw.send(request("POST", CLICKS, one(), "Expect: 100-continue"))  # the body comes at once
        status = raw.answer()[0]
        same("body at once", raw.answer()[0] if status == 100 else status, 204)
        raw.close()
        raw = Raw(n)
        raw.send(request("POST", CLICKS, None, "Expect: 100-continue", f"Content-Length: {len(body)}", version="HTTP/1.0") + body)
        same("HTTP/1.0 knows no 100", raw.answer()[0], 204)
        raw.close()
        n.audit()


def test_head(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        full = Raw(n)
        full.send(request("GET", "/healthz"))
        wanted = full.answer()[1]
        full.close()
        raw = Raw(n)
        pixel = f"{PIXEL}?event_type=click&ad_id=a&campaign_id=c&advertiser_id=v"
        raw.send(request("HEAD", "/healthz") + request("HEAD", pixel) + request("HEAD", "/x") + request("HEAD", CLICKS) + request("GET", "/healthz"))
        status, headers, _ = raw.answer(head=True)
        same("HEAD /healthz", (status, headers.get("content-length")), (200, wanted["content-length"]))
        status, headers, _ = raw.answer(head=True)
        same("HEAD pixel", (status, headers.get("content-type"), int(headers.get("content-length", 0)) > 0), (200, "image/gif", True))
        same("HEAD nowhere", raw.answer(head=True)[0], 404)
        same("HEAD clicks", raw.answer(head=True)[0], 405)
        same("GET behind them", raw.answer()[2] != b"", True)
        raw.close()
        n.audit()


def test_cors(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        for target, method in ((CLICKS, "POST"), (PIXEL, "GET"), (DEBUG, "POST")):
            status, headers, body = n.request("OPTIONS", target, headers={"Origin": "https://shop.example", "Access-Control-Request-Method": method,
                                                                        "Access-Control-Request-Headers": "content-type,content-encoding"})
            same(f"{target}: preflight", (status in (200, 204), body, headers.get("Access-Control-Allow-Origin") in ("*", "https://shop.example"),
                                          method in headers.get("Access-Control-Allow-Methods", ""), "content-type" in headers.get("Access-Control-Allow-Headers", "").lower()),
                 (True, b"", True, True, True))
        for method, target, body in (("POST", CLICKS, one()), ("POST", CLICKS, b"{"), ("GET", PIXEL, None), ("POST", CLICKS + "?report=1", one()), ("POST", DEBUG, one())):
            headers = n.request(method, target, body, {"Origin": "https://shop.example"})[1]
            same(f"{method} {target}", headers.get("Access-Control-Allow-Origin") in ("*", "https://shop.example"), True)
        n.audit()


def test_pixel_takes_every_field(build):
    base = {"event_type": "click", "ad_id": "ad é+/?&=%", "campaign_id": "camp", "advertiser_id": "adv"}
    full = dict(base, event_id=str(uuid.uuid4()), timestamp=now_ms(), publisher_id="pub", user_id="u 1", device_id="d\t1", ip_address="203.0.113.9", user_agent="Mozilla/5.0 (X11; \"q\" \\ é)",
                referer="https://example.org/?a=b&c=d", country="us", region="CA", city="San José", device_type="tv", bid_price="0.50", currency="EUR", click_position=7,
                timezone_offset_min=-480, mouse_moves=12, trace="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
    with ledger(build) as books, findings() as same:
        n = books.node

        def get(fields):
            query = fields if isinstance(fields, str) else urllib.parse.urlencode(fields)
            return n.request("GET", f"{PIXEL}?{query}")

        status, headers, body = get(full)
        same("full", (status, headers["Content-Type"], headers["Cache-Control"], body[:4], body[6:10], body[-1:]), (200, "image/gif", "no-store", b"GIF8", b"\1\0\1\0", b";"))
        books.counts["accepted"] += 1
        as_json = {key: value for key, value in full.items() if key not in ("country", "region", "city")} | {"geo": {"country": "US", "region": "CA", "city": "San José"}}
        same("the same event as JSON", books.verdict(json.dumps(as_json)), "duplicates")
        same("retried", get(full)[0], 200)
        same("percent signs everywhere", get("&".join(f"{k}=" + "".join(f"%{b:02x}" for b in str(v).encode()) for k, v in full.items()))[0], 200)
        same("turned, empty and unknown ones", get("x=1&&zz&" + urllib.parse.urlencode(dict(reversed(list(full.items())))) + "&y=")[0], 200)
        books.counts["duplicates"] += 3
        same("another price", get(dict(full, bid_price="0.6"))[0], 200)
        books.counts["conflicts"] += 1
        for _ in range(3):
            same("minted", get(base)[0], 200)
        same("only an id", get(dict(base, event_id="given"))[0], 200)
        same("only a stamp", get(dict(base, timestamp=now_ms()))[0], 200)
        same("a minted stamp of a known id", get(dict(base, event_id="empty ones", publisher_id="", bid_price="", geo=""))[0], 200)
        books.counts["accepted"] += 6
        for what, fields, reason in (("no type", {k: v for k, v in base.items() if k != "event_type"}, "missing_field"), ("nothing", "", "missing_field"), ("no ad", dict(base, ad_id=""), "missing_field"),
                                     ("bad type", dict(base, event_type="x"), "bad_value"), ("bad stamp", dict(base, timestamp="x"), {"bad_value", "bad_type"}), ("stamp of a fraction", dict(base, timestamp="1.5"), {"bad_value", "bad_type"}),
                                     ("future", dict(base, timestamp=now_ms() + 3_600_000), "future"), ("long ad", dict(base, ad_id="x" * 65), "too_long"), ("bad price", dict(base, bid_price="x"), "bad_value"),
                                     ("price with a quote", dict(base, bid_price='1","x":"'), "bad_value"), ("bad UTF-8", urllib.parse.urlencode(base) + "&city=%ff", "bad_utf8"),
                                     ("NUL", urllib.parse.urlencode(base) + "&city=%00", "bad_value"), ("an ad twice", urllib.parse.urlencode(base) + "&ad_id=z", "duplicate_key"),
                                     ("position out of range", dict(base, click_position="65536"), "bad_value"), ("position with injected JSON", dict(base, click_position='1,"mouse_moves":2'), {"bad_value", "bad_type", "malformed"}),
                                     ("bad address", dict(base, ip_address="1.2.3"), "bad_value"), ("bad country", dict(base, country="1"), "bad_value"),
                                     ("half a percent", urllib.parse.urlencode(base) + "&city=%4", {"malformed", "bad_value"}), ("no percent", urllib.parse.urlencode(base) + "&city=%zz", {"malformed", "bad_value"})):
            status, headers, body = get(fields)
            document = json.loads(body) if status == 400 else {}
            same(what, status, 400)
            same(f"{what}: reason", document.get("reason"), reason)
            if document.get("reason"):
                books.rejected[document["reason"]] = books.rejected.get(document["reason"], 0) + 1


def test_debug_has_no_side_effect(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        good, future = event(), event(timestamp=now_ms() + 10**9)
        for _ in range(3):
            status, _, body = n.request("POST", DEBUG, json.dumps([good, future, {}, 1]))
            verdicts = json.loads(body)["events"]
            same("verdicts", (status, [v.get("reason") for v in verdicts]), (200, [None, "future", "missing_field", "bad_type"]))
            same("NDJSON", [v.get("reason") for v in json.loads(n.request("POST", DEBUG, json.dumps(good) + "\n{bad")[2])["events"]], [None, "malformed"])
            same("gzip", json.loads(n.request("POST", DEBUG, gzip.compress(json.dumps(good).encode()), {"Content-Encoding": "gzip"})[2])["events"][0].get("reason"), None)
        for body in (b"{", b"", b"[{},]", b"\xff", b"[" * 500_000, b"[" + b"1," * 400_000 + b"1]", b"[]"):
            same(f"{body[:10]}", n.request("POST", DEBUG, body)[0], {200, 400, 413})
        events = n.audit()["events"]
        same("no events in the books", (events["received"], events["rejected"]["future"], events["rejected"]["malformed"]), (0, 0, 0))
        same("it is still new", n.post(good, report=True)[1]["accepted"], 1)
        same("debug knows no duplicates", n.request("POST", DEBUG, json.dumps(good))[0], 200)
        same("one event", n.audit()["events"]["received"], 1)


def test_keep_alive_and_close(build):
    with node(build, control=False, extra=SMALL) as n, findings() as same:
        raw = Raw(n)
        for i in range(50):
            raw.send(request("POST", CLICKS, one()))
            status, headers, _ = raw.answer()
            same(f"request {i}", (status, headers.get("connection", "keep-alive").lower()), (204, "keep-alive"))
        raw.send(request("POST", CLICKS, one(), "Connection: close"))
        status, headers, _ = raw.answer()
        same("close is answered", (status, headers.get("connection", "").lower()), (204, "close"))
        same("and done", raw.closed(), True)
        raw = Raw(n)
        raw.send(request("POST", CLICKS, one(), "Connection: foo, CLOSE") + request("GET", "/healthz"))
        same("close in a list", raw.answer()[0], 204)
        same("nothing behind a close is answered", raw.closed(), True)
        raw = Raw(n)
        raw.send(request("GET", "/healthz", None, version="HTTP/1.0"))
        same("HTTP/1.0", raw.answer()[0], 200)
        same("HTTP/1.0 closes", raw.closed(), True)
        raw = Raw(n)
        raw.send(request("GET", "/healthz", None, "Connection: keep-alive", version="HTTP/1.0") * 2)
        status, headers, _ = raw.answer()
        same("HTTP/1.0 that stays", (status, headers.get("connection", "").lower(), raw.answer()[0]), (200, "keep-alive", 200))
        raw.close()
        # What a client may go on after: its own errors, as long as the framing was sound.
        raw = Raw(n)
        raw.send(request("POST", CLICKS, b"{") + request("POST", "/x", b"12345") + request("PUT", CLICKS, b"12345") + request("POST", CLICKS, b"xx", "Content-Type: image/png")
                 + request("POST", CLICKS, one()))
        same("errors that do not close", [raw.answer()[0] for _ in range(5)], [400, 404, 405, 415, 204])
        raw.close()
        raw = Raw(n)
        raw.send(request("GET", "/healthz", b"a body nobody wants") + request("GET", PIXEL + "?event_type=click&ad_id=a&campaign_id=c&advertiser_id=v", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                 + request("GET", "/x"))
        same("bodies of GET are bodies", [raw.answer()[0] for _ in range(3)], [200, 200, 404])
        raw.close()
        raw = Raw(n)
        raw.send(request("POST", CLICKS, one()))
        raw.socket.shutdown(socket.SHUT_WR)
        same("half-closed", raw.answer()[0], 204)
        same("half-closed, then closed", raw.closed(), True)
        n.audit()


def test_pipelining_keeps_order_across_kinds(build):
    with node(build, control=False, extra=SMALL, shard=(0,)) as n:
        dice = random.Random(5)
        kinds = {200: lambda: request("GET", "/healthz"), 204: lambda: request("POST", CLICKS, one()), 400: lambda: request("POST", CLICKS, b"{"), 404: lambda: request("POST", "/x", b"abc"),
                 405: lambda: request("GET", CLICKS), 415: lambda: request("POST", CLICKS, b"[]", "Content-Type: a/b")}
        wanted = [dice.choice(list(kinds)) for _ in range(500)]
        raw = Raw(n)
        data = b"".join(kinds[status]() for status in wanted)
        sender = threading.Thread(target=raw.send, args=(data,))
        sender.start()
        got = [raw.answer()[0] for _ in wanted]
        sender.join()
        assert got == wanted
        raw.close()
        requests = n.audit()["requests"]
        assert requests["received"] == 500 and requests["accepted"] == sum(1 for s in wanted if s < 300), requests


def test_bytes_one_by_one_and_cut_anywhere(build):
    body = json.dumps([event(), event(user_agent="\u00e9" * 30)]).encode()
    whole = request("POST", CLICKS + "?report=1", body, "Content-Type: application/json") + request("POST", CLICKS, None, "Transfer-Encoding: chunked") + chunked(one(), (11,), b";x=y", b"T: v\r\n") \
        + request("POST", CLICKS, gzip.compress(one()), "Content-Encoding: gzip") + request("GET", "/healthz")
    with node(build, control=False, extra=SMALL) as n:
        raw = Raw(n)
        for i in range(len(whole)):
            raw.send(whole[i:i + 1])
        assert [raw.answer()[0] for _ in range(4)] == [200, 204, 204, 200]
        raw.close()
        dice = random.Random(3)
        for _ in range(40):
            raw, at = Raw(n), 0
            while at < len(whole):
                size = dice.choice((1, 5, 40, 200, 700))
                raw.send(whole[at:at + size])
                at += size
            assert [raw.answer()[0] for _ in range(4)] == [200, 204, 204, 200]
            raw.close()
        n.audit()


def test_slow_and_rude_clients_hurt_nobody(build):
    with node(build, control=False, extra=SMALL) as n:
        slow = [Raw(n) for _ in range(300)]
        pieces = (b"", b"P", b"POST /api/v1/clicks HTTP/1.1\r\nHost: a\r\nX", request("POST", CLICKS, None, "Content-Length: 1000") + b"[", request("POST", CLICKS, None, "Transfer-Encoding: chunked") + b"5\r\n[",
                  request("POST", CLICKS, None, "Content-Length: 1000000", "Content-Encoding: gzip") + gzip.compress(one())[:20], request("POST", CLICKS, None, "Expect: 100-continue", "Content-Length: 5"))
        for i, raw in enumerate(slow):
            raw.send(pieces[i % len(pieces)])
        # A client that sends and never reads: its answers fill its window, then it waits alone.
        deaf = Raw(n)
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.socket.setblocking(False)
        sent = 0
        try:
            while sent < 30 << 20:
                sent += deaf.socket.send(request("GET", "/healthz") * 500)
        except BlockingIOError:
            pass
        for _ in range(50):
            assert n.post(event())[0] == 204
        # Ends of every rude kind.
        for i, raw in enumerate(slow):
            if i % 2:
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            raw.close()
        deaf.close()
        for i in range(100):  # gone before the answer
            raw = Raw(n)
            raw.send(b"".join(request("POST", CLICKS, one()) for _ in range(3)))
            if i % 2:
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raw.close()
        assert n.post(event())[0] == 204
        sheet = n.audit()
        assert sheet["requests"]["dropped"]["peer_gone"] > 0, sheet["requests"]
        assert sheet["events"]["accepted"] == sheet["events"]["received"], sheet["events"]


def test_large_body_sent_slowly_and_answers_read_slowly(build):
    with node(build, control=False, extra=SMALL) as n:
        events = [event(event_id=f"slow-{i}", device_id=f"d{i}", referer="r" * 700) for i in range(900)]
        bad = json.dumps(events + [{"ad_id": str(i)} for i in range(5000)]).encode()
        raw = Raw(n)
        whole = request("POST", CLICKS, bad)
        for at in range(0, len(whole), 65536):
            raw.send(whole[at:at + 65536])
            time.sleep(0.005)
        time.sleep(0.1)
        status, _, body = raw.answer()
        report = json.loads(body)
        assert status == 200 and report["accepted"] == 900, (status, body[:300])
        assert len(report["rejected"]) == 5000 and [r["index"] for r in report["rejected"]] == list(range(900, 5900)), len(report["rejected"])
        raw.close()
        events = n.audit()["events"]
        assert (events["accepted"], events["rejected"]["missing_field"]) == (900, 5000), events


def test_many_clients_at_once(build):
    """Threads with overlapping ids: whatever the interleaving, each id counts once and all else is a duplicate."""
    with node(build, control=False, extra=SMALL) as n:
        ids = [str(uuid.uuid4()) for _ in range(400)]
        stamp = now_ms()
        totals, lock, failed = {"accepted": 0, "duplicates": 0, "conflicts": 0}, threading.Lock(), []

        def work(seed):
            try:
                dice = random.Random(seed)
                connection = http.client.HTTPConnection(*n.http[0], timeout=PATIENCE)
                for _ in range(30):
                    body = json.dumps([event(event_id=i, timestamp=stamp, device_id=i[:8]) for i in dice.sample(ids, 20)])
                    connection.request("POST", CLICKS + "?report=1", body)
                    report = json.loads(connection.getresponse().read())
                    with lock:
                        for key in totals:
                            totals[key] += report[key]
                connection.close()
            except Exception as reason:
                failed.append(reason)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        events = n.audit()["events"]
        assert totals["accepted"] == events["accepted"] <= 400 and totals["conflicts"] == 0, (totals, events)
        assert totals["accepted"] + totals["duplicates"] == 8 * 30 * 20 == events["received"], (totals, events)
