"""Each field of an event, each reason to reject one, and which spellings are the same event. Contract section 4."""
import gzip
import json
import uuid

from harness import SMALL, event, findings, ledger, node, now_ms, wait_until

REQUIRED = ("event_id", "event_type", "timestamp", "ad_id", "campaign_id", "advertiser_id")
GEO = ("country", "region", "city")
IDS = ("event_id", "ad_id", "campaign_id", "advertiser_id", "publisher_id", "user_id", "device_id")
OPTIONAL = ("publisher_id", "user_id", "device_id", "ip_address", "user_agent", "referer", "geo", "device_type", "bid_price", "currency",
            "click_position", "timezone_offset_min", "mouse_moves", "trace")


def text(**parts):
    """One event as JSON, from pieces of JSON text: text(bid_price='5e-1'). None removes a field; `tail` comes before the brace."""
    tail = parts.pop("tail", "")
    fields = {"event_id": f'"{uuid.uuid4()}"', "event_type": '"click"', "timestamp": str(now_ms()), "ad_id": '"a"', "campaign_id": '"c"',
              "advertiser_id": '"v"'}
    fields.update(parts)
    return "{" + ",".join(f'"{key}":{value}' for key, value in fields.items() if value is not None) + tail + "}"


def quoted(value):
    return json.dumps(value, ensure_ascii=False)


def test_syntax_is_rfc_8259(build):
    valid = text()
    broken = ["", " ", "\n", "{", "}", "{}}", "nul", "null", "true", "1", '"x"', "-", "\ufeff" + valid, valid + "x", valid + ",", valid + "]",
              valid + valid, valid + " " + valid, "[" + valid, "[" + valid + ",]", "[," + valid + "]", "[" + valid + " " + valid + "]",
              valid[:-1], valid[:-1] + ",}", "{," + valid[1:], valid.replace(":", "=", 1), valid.replace(":", "::", 1), valid.replace(",", ";", 1),
              valid.replace(",", ",,", 1), valid.replace('"a"', "'a'"), valid.replace('"ad_id"', "ad_id"), valid + "//", "/**/" + valid,
              valid + "\0", "\0" + valid, "\u00a0" + valid, "\x0b" + valid, valid + "\f", "x=" + valid]
    broken += [text(tail=f',"x":{value}') for value in (
        "01", "+1", ".5", "5.", "1e", "1e+", "-", "--1", "1.e1", "0x10", "1_0", "NaN", "nan", "Infinity", "-Infinity", "-01", "tru", "TRUE", "nulL",
        "undefined", '"', '"\t"', '"\x1f"', '"\\q"', '"\\u12"', '"\\u12g4"', '"\\U0041"', '"\\x41"', '"\\', "'x'", "[1,]", "[,1]", "[1 2]", "{1:2}",
        '{"a"}', '{"a":}', '{"a":1,}', "{a:1}", "[}", "{]", "[1}", "(1)", "1 1", "")]
    broken += [text(tail=',"x":' + "[" * 64 + "]" * 64), text(tail=',"x":' + '{"a":' * 64 + "1" + "}" * 64), "[" * 100000, '{"x":' * 100000,
               "[" * 70 + "]" * 70, text(tail=',"x":' + "[" * 63 + "]" * 62 + "}")]
    fine = [text(tail=f',"x":{value}') for value in (
        "0", "-0", "1E5", "1e-5", "123456789012345678901234567890", "1e99999", "-0.0e-0", "true", "false", "null", '""', "[]", "{}", "[[],{}]",
        '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041"', '"\\ud83d\\ude00"', '"😀"', '"\x7f"', '"\\u0000"', '"\\uD834\\udd1e"', "\t\r\n [ 1 , 2 ] \t", '{"a":{"a":1},"b":{"a":1}}')]
    fine += [text(tail=',"":1'), text(tail=',"\\u0000":1'), text(tail=',"AD_ID":"x"'), text(tail=',"ad_id ":1'), text(tail=',"x":' + "[" * 63 + "]" * 63),
             text(tail=',"x":' + '{"a":' * 62 + "1" + "}" * 62), " \t\r\n" + text() + " \r\n\t ", text(tail=',"x":"' + "y" * 200000 + '"'),
             text().replace(",", " ,\r\n\t").replace(":", " : ")]
    with ledger(build) as books, findings() as same:
        for body in broken:
            wanted = "bad_type" if body in ("null", "true", "1", '"x"') else "malformed"  # JSON, but no object
            same(f"{body[:60]!r}…{body[-40:]!r}", books.verdict(body), wanted)
        for body in fine:
            same(f"{body[-60:]!r}", books.verdict(body), "accepted")


def test_utf8(build):
    bad = [b"\xff", b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf",
           b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3\x28", b"\xe2\x28\xa1", b"\\ud800", b"\\udc00",
           b"\\ud800\\u0041", b"\\ud800x", b"\\udc00\\ud800", b"\\ud800\\ud800", b"\\uDBFF\\n"]
    good = [b"\xc2\x80", b"\xdf\xbf", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf", b"\xef\xbb\xbf",
            b"\\ud800\\udc00", b"\\uffff", "é中😀".encode(), b"\\u00e9"]
    places = {"event_id": lambda s: text(event_id='"x@"').encode().replace(b"@", s + uuid.uuid4().hex[:20].encode()),
              "ad_id": lambda s: text(ad_id='"@"').encode().replace(b"@", s), "city": lambda s: text(geo='{"city":"@"}').encode().replace(b"@", s),
              "user_agent": lambda s: text(user_agent='"' + "u" * 61 + '@' + "v" * 70 + '"').encode().replace(b"@", s),
              "unknown value": lambda s: text(tail=',"x":"@"').encode().replace(b"@", s),
              "unknown key": lambda s: text(tail=',"@":1').encode().replace(b"@", s),
              "unknown depth": lambda s: text(tail=',"x":[{"y":["@"]}]').encode().replace(b"@", s)}
    with ledger(build) as books, findings() as same:
        for place, made in places.items():
            for piece in bad:
                same(f"{place} {piece}", books.verdict(made(piece)), "bad_utf8")
            for piece in good:
                same(f"{place} {piece}", books.verdict(made(piece)), "accepted")


def test_required_fields(build):
    with ledger(build) as books, findings() as same:
        for field in REQUIRED:
            same(f"no {field}", books.verdict(text(**{field: None})), "missing_field")
            same(f"null {field}", books.verdict(text(**{field: "null"})), "missing_field")
        same("{}", books.verdict("{}"), "missing_field")
        for field in IDS[:4]:
            same(f"empty {field}", books.verdict(text(**{field: '""'})), {"bad_value", "missing_field"})
        for field in OPTIONAL:
            same(f"null {field}", books.verdict(text(**{field: "null"})), "accepted")
        for field in GEO:
            same(f"null {field}", books.verdict(text(geo='{"%s":null}' % field)), "accepted")
        same("empty geo", books.verdict(text(geo="{}")), "accepted")
        same("unknown in geo", books.verdict(text(geo='{"latitude":1.5,"x":{"country":"zzz"}}')), "accepted")
        for field in IDS[4:] + ("user_agent", "referer"):
            same(f"empty {field}", books.verdict(text(**{field: '""'})), "accepted")


def test_types(build):
    strings = IDS + ("event_type", "ip_address", "user_agent", "referer", "device_type", "currency")
    with ledger(build) as books, findings() as same:
        for field in strings:
            for value in ("1", "true", "{}", "[]", '["x"]'):
                same(f"{field}={value}", books.verdict(text(**{field: value})), "bad_type")
        for field in ("timestamp", "click_position", "timezone_offset_min", "mouse_moves"):
            for value in ('"1"', "true", "{}", "[1]", '""'):
                same(f"{field}={value}", books.verdict(text(**{field: value})), "bad_type")
            same(f"{field}=1.5", books.verdict(text(**{field: "1.5"})), {"bad_type", "bad_value"})
        for value in ("true", "false", "{}", "[0.5]"):
            same(f"bid_price={value}", books.verdict(text(bid_price=value)), "bad_type")
        for value in ('"US"', "1", "[]", "true"):
            same(f"geo={value}", books.verdict(text(geo=value)), "bad_type")
        for field in GEO:
            for value in ("1", "{}", "false"):
                same(f"geo.{field}={value}", books.verdict(text(geo='{"%s":%s}' % (field, value))), "bad_type")


def test_lengths(build):
    limits = {field: 64 for field in IDS} | {"user_agent": 1024, "referer": 1024}
    with ledger(build) as books, findings() as same:
        for field, limit in limits.items():
            for unit in ("x", "é", "\\u00e9", "\\/"):
                count = limit // (2 if unit in ("é", "\\u00e9") else 1)
                tag = uuid.uuid4().hex[:8] if field == "event_id" else ""
                piece = unit * (count - (len(tag) // (2 if unit in ("é", "\\u00e9") else 1)))
                same(f"{field} {limit} bytes of {unit}", books.verdict(text(**{field: f'"{tag}{piece}"'})), "accepted")
                same(f"{field} {limit + 1} bytes of {unit}", books.verdict(text(**{field: f'"{tag}{piece}y"'})), "too_long")
            same(f"{field} long", books.verdict(text(**{field: '"' + "z" * 70000 + '"'})), "too_long")
        for field, limit in (("region", 64), ("city", 128)):
            same(f"{field} {limit}", books.verdict(text(geo='{"%s":"%s"}' % (field, "x" * limit))), "accepted")
            same(f"{field} {limit + 1}", books.verdict(text(geo='{"%s":"%s"}' % (field, "x" * (limit + 1)))), "too_long")
            same(f"{field} empty", books.verdict(text(geo='{"%s":""}' % field)), "accepted")
        # Everything at its limit at once is one event still.
        full = {field: quoted("x" * limit) for field, limit in limits.items() if field != "event_id"}
        full.update(event_id=quoted(uuid.uuid4().hex * 2), geo=json.dumps({"country": "US", "region": "r" * 64, "city": "c" * 128}),
                    ip_address='"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"', bid_price="1000000", currency='"EUR"', click_position="65535",
                    timezone_offset_min="840", mouse_moves="2147483647", device_type='"tablet"', trace='"00-%s-%s-01"' % ("ab" * 16, "cd" * 8))
        body = text(**full)
        same("all at their limits", books.verdict(body), "accepted")
        same("all at their limits again", books.verdict(body), "duplicates")


def test_values(build):
    bad = [("event_type", '"foo"'), ("event_type", '""'), ("event_type", '"CLICK"'), ("event_type", '"click "'), ("event_type", '"clicks"'),
           ("timestamp", "-1"), ("click_position", "-1"), ("click_position", "65536"), ("click_position", "4294967296"), ("click_position", "1" + "0" * 40),
           ("currency", '"US"'), ("currency", '"USDX"'), ("currency", '""'), ("currency", '"U5D"'), ("currency", '"US "'), ("currency", '"ÜS"')]
    bad += [("ip_address", quoted(value)) for value in (
        " ", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.04", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4:80", "1.2.3.4/32", "0x1.2.3.4", "1..2.3", "-1.2.3.4",
        "::1%eth0", "[::1]", "1::2::3", ":::", "12345::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1.2.3", "::g", ":1:2:3:4:5:6:7", "localhost", "16909060")]
    bad += [("geo", '{"country":%s}' % quoted(value)) for value in ("U", "USA", "U1", "  ", "U\n", "é")]
    for field in IDS + ("user_agent", "referer", "event_type", "ip_address", "currency"):
        bad.append((field, '"x\\u0000y"'))
    bad += [("geo", '{"%s":"\\u0000"}' % field) for field in ("region", "city")]
    good = [("event_type", '"click"'), ("event_type", '"impression"'), ("event_type", '"conversion"'), ("event_type", '"cl\\u0069ck"'),
            ("timestamp", "0"), ("click_position", "0"), ("click_position", "65535"), ("timezone_offset_min", "-720"), ("timezone_offset_min", "0"),
            ("timezone_offset_min", "840"), ("mouse_moves", "0"), ("mouse_moves", "100000"), ("currency", '"JPY"'), ("currency", '"US\\u0044"'),
            ("trace", '"garbage"'), ("trace", '"00-%s-%s-01"' % ("0" * 32, "0" * 16)), ("trace", '""'), ("trace", '"' + "x" * 5000 + '"'),
            ("geo", '{"country":"us"}'), ("geo", '{"country":"Us"}'), ("ad_id", '" "'), ("ad_id", '"\\u0001\\u007f"'), ("ad_id", '"\\ufeff"'),
            ("user_agent", '"' + "\\n" * 1024 + '"')]
    good += [("device_type", f'"{kind}"') for kind in ("desktop", "mobile", "tablet", "tv", "bot", "other", "fridge", "x" * 64)]
    good += [("ip_address", quoted(value)) for value in (
        "1.2.3.4", "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::1", "2001:DB8::A", "1:2:3:4:5:6:7:8", "1::8", "::ffff:1.2.3.4", "64:ff9b::1.2.3.4", "1:2:3:4:5:6:1.2.3.4")]
    with ledger(build) as books, findings() as same:
        for field, value in bad:
            same(f"{field}={value}", books.verdict(text(**{field: value})), {"bad_value", "too_long"} if '"USA"' in value or '"USDX"' in value else "bad_value")
        for field, value in good:
            same(f"{field}={value[:60]}", books.verdict(text(**{field: value})), {"accepted", "late"} if field == "timestamp" else "accepted")


def test_trace_type_is_still_checked_and_bad_ones_do_not_count_against_the_event(build):
    with ledger(build) as books:
        one = str(uuid.uuid4())
        stamp = str(now_ms())
        assert books.verdict(text(event_id=quoted(one), timestamp=stamp, trace='"bad"')) == "accepted"
        assert books.verdict(text(event_id=quoted(one), timestamp=stamp)) == "duplicates"


def test_money_is_read_as_decimal_digits(build):
    zeros = "0" * 300
    same_value = {
        "0.5": ("0.50", "5e-1", "5E-1", "0.5000000", "50e-2", "0.05e1", "0.05E+01", "500000e-6", "0." + "5" + zeros, "5" + "0" * 40 + "e-41", "0.000005e5", "5e-0001"),
        "0": ("0.0", "-0", "0e5", "0e999999999999", "0e-999999999999", "0.0000000000", "-0.0e-7", "0." + zeros),
        "1000000": ("1e6", "1E+6", "1000000.000000", "1000000.0000000", "10000000e-1", "0.000001e12", "0.1e7"),
        "0.000001": ("1e-6", "0.0000010", "10e-7", "0.0000000000001e7"),
        "100": ("1e2", "1.00e+002", "10000e-2"),
        "999999.999999": ("999999999999e-6", "9.99999999999e5"),
        "0.1": ("1e-1", "0.10"),
    }
    bad = ("-0.5", "-1e-6", "1000000.000001", "1e7", "1000001", "0.0000001", "1e-7", "0.5000001", "1e400", "1e999999999999999999999", "1e-400", "1e-99999999999999999999",
           "9223372036854775807", "18446744073709551616e-7", "9223372036854.775808", "1" + zeros, "0." + "0" * 299 + "1", "123456789012345678901234567890e-29")
    no_number = ("", " ", "abc", "0x1", "1,5", " 0.5", "0.5 ", "+0.5", "0.5.0", "$1", "NaN", "Infinity", ".5", "5.", "00.5", "1e", "١", "0.5\\n")
    with ledger(build) as books, findings() as same:
        for first, others in same_value.items():
            identity, stamp = quoted(str(uuid.uuid4())), str(now_ms())
            send = lambda bid, **more: books.verdict(text(event_id=identity, timestamp=stamp, bid_price=bid, **more))
            same(f"bid {first}", send(first), "accepted")
            for spelling in (first, *others):
                same(f"bid {spelling[:40]} after {first}", send(spelling), "duplicates")
                same(f'bid "{spelling[:40]}" after {first}', send(quoted(spelling)), "duplicates")
            same(f"bid {first} in another value", send("0.7"), "conflicts")
        for value in bad:
            same(f"bid {value[:40]}", books.verdict(text(bid_price=value)), "bad_value")
            same(f'bid "{value[:40]}"', books.verdict(text(bid_price=quoted(value))), "bad_value")
        for value in no_number:
            same(f'bid "{value}"', books.verdict(text(bid_price=f'"{value}"')), "bad_value")
        same("bid in escapes", books.verdict(text(bid_price='"\\u0030.5"')), "accepted")


def test_money_sums_are_exact(build):
    with node(build, extra=SMALL) as n:
        values = ("0.1", "0.2", '"0.3"', "1e-6", "999999.999999", "1000000", "0.0000010", "7e-1")
        body = "\n".join(text(event_id=quoted(f"m{i}-{k}"), device_id=quoted(f"d{i}-{k}"), bid_price=value) for k, value in enumerate(values) for i in range(3))
        assert n.post(body) == (204, None)
        totals = n.totals("campaigns", "c")
        assert totals["clicks"] == 24 and totals["spend"] == "6000003.900003", totals
        n.audit()


def test_duplicate_keys_at_any_depth(build):
    with ledger(build) as books, findings() as same:
        for tail in (',"ad_id":"a"', ',"x":1,"x":1', ',"x":null,"x":2', ',"geo":{"city":"a","city":"a"}', ',"geo":{},"geo":{}', ',"geo":null,"geo":{}',
                     ',"x":{"y":1,"y":1}', ',"x":[[{"y":{"z":1,"z":2}}]]', ',"\\u0061d_id":"a"', ',"x":1,"\\u0078":1', ',"":1,"":1', ',"x":{"é":1,"\\u00e9":2}',
                     ',"timestamp":1', ',"bid_price":1,"bid_price":1', ',"x":{"\\n":1,"\\u000A":2}', ',"x":{"/":1,"\\/":1}', ',"😀":1,"\\ud83d\\ude00":1',
                     ',"geo":{"x":1,"x":1}', ',"x":{' + ",".join(f'"k{i}":{i}' for i in range(200)) + ',"k77":0}',
                     "," + ",".join(f'"k{i}":{i}' for i in range(100)) + ',"k0":0'):
            same(f"{tail[:60]}", books.verdict(text(tail=tail)), "duplicate_key")
        for tail in (',"Ad_id":1,"AD_ID":2', ',"x":{"ad_id":1},"y":{"ad_id":1}', ',"x":[{"a":1},{"a":1}]', ',"geo":{"ad_id":"q"}', ',"city":"top","geo":{"city":"in"}',
                     ',"e\u0301":1,"é":1', "," + ",".join(f'"k{i}":{{"k{i}":{i}}}' for i in range(300))):
            same(f"{tail[:60]}", books.verdict(text(tail=tail)), "accepted")


def test_future_and_late(build):
    with ledger(build) as books, findings() as same:
        now = now_ms()
        same("now", books.verdict(text(timestamp=str(now))), "accepted")
        same("30 s ahead", books.verdict(text(timestamp=str(now + 30_000))), "accepted")
        for ahead in (120_000, 3_600_000, 10**12, 2**63, 2**64, 2**64 + now, 10**30):
            same(f"{ahead} ahead", books.verdict(text(timestamp=str(now + ahead))), {"future", "bad_value"} if ahead > 10**12 else "future")
        for age in (10 * 60_000, 20 * 60_000, 3 * 3600_000, 400 * 86400_000, now):
            old = text(timestamp=str(now - age))
            same(f"{age} ms old", books.verdict(old), "late")
            same(f"{age} ms old again", books.verdict(old), "duplicates")
            parts = json.loads(old)
            same(f"{age} ms old, another payload", books.verdict(json.dumps(dict(parts, ad_id="other"))), "conflicts")
        # Beyond the horizon an id counts once a minute; within it the id alone decides.
        ancient = json.loads(text(timestamp=str(now - 5 * 3600_000)))
        same("first minute", books.verdict(json.dumps(ancient)), "late")
        same("another minute of the same id", books.verdict(json.dumps(dict(ancient, timestamp=ancient["timestamp"] - 60_000))), {"late", "conflicts"})
        fresh = json.loads(text())
        same("fresh", books.verdict(json.dumps(fresh)), "accepted")
        same("fresh id, a minute before", books.verdict(json.dumps(dict(fresh, timestamp=fresh["timestamp"] - 60_000))), "conflicts")
        same("fresh id, an old stamp", books.verdict(json.dumps(dict(fresh, timestamp=fresh["timestamp"] - 7_000_000))), {"conflicts", "late"})


def full_event():
    return {"event_id": str(uuid.uuid4()), "event_type": "click", "timestamp": now_ms(), "ad_id": "a/é", "campaign_id": "camp", "advertiser_id": "adv",
            "publisher_id": "pub", "user_id": "u", "device_id": "d", "ip_address": "203.0.113.77", "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
            "referer": "https://example.org/\"x\"", "geo": {"country": "US", "region": "CA", "city": "San José"}, "device_type": "desktop",
            "bid_price": 0.5, "currency": "USD", "click_position": 3, "timezone_offset_min": -480, "mouse_moves": 17}


def test_spellings_of_the_same_payload_are_duplicates(build):
    with ledger(build) as books, findings() as same:
        one = full_event()
        plain = json.dumps(one)
        same("first", books.verdict(plain), "accepted")
        variants = {
            "again": plain, "raw UTF-8": json.dumps(one, ensure_ascii=False), "compact": json.dumps(one, separators=(",", ":")),
            "indented": json.dumps(one, indent=4), "CRLF": json.dumps(one, indent="\t").replace("\n", "\r\n"),
            "backwards": json.dumps(dict(reversed(list(one.items())))), "sorted": json.dumps(one, sort_keys=True),
            "escaped": "{" + ",".join(f'"{"".join(f"{chr(92)}u{ord(c):04X}" for c in k)}":{json.dumps(v)}' for k, v in one.items()) + "}",
            "solidus": plain.replace("/", "\\/"), "string bid": json.dumps(dict(one, bid_price="0.50")), "bid 5e-1": plain.replace("0.5", "5e-1"),
            "no currency": json.dumps({k: v for k, v in one.items() if k != "currency"}), "null currency": json.dumps(dict(one, currency=None)),
            "small country": json.dumps(dict(one, geo=dict(one["geo"], country="us"))),
            "geo turned": json.dumps(dict(one, geo=dict(reversed(list(one["geo"].items()))))),
            "mapped address": json.dumps(dict(one, ip_address="::ffff:203.0.113.77")), "mapped in hex": json.dumps(dict(one, ip_address="::FFFF:cb00:714d")),
            "unknown fields": json.dumps(dict(one, latitude=1.5, x={"y": [1]})), "unknown null": json.dumps(dict(one, x=None)),
            "in an array": json.dumps([one]), "as NDJSON": json.dumps(one) + "\n", "NDJSON, blank lines": "\n\n" + json.dumps(one) + "\r\n\r\n",
            "stamp -0": plain, "position 3": plain,
        }
        for what, body in variants.items():
            same(what, books.verdict(body), "duplicates")
        same("gzip", books.verdict(gzip.compress(plain.encode()), {"Content-Encoding": "gzip"}), "duplicates")

        bare = {k: one[k] for k in REQUIRED} | {"event_id": str(uuid.uuid4())}
        same("bare", books.verdict(json.dumps(bare)), "accepted")
        same("all nulls", books.verdict(json.dumps(bare | {field: None for field in OPTIONAL})), "duplicates")
        same("nulls in geo", books.verdict(json.dumps(bare | {"geo": {field: None for field in GEO}})), "duplicates")
        same("empty geo", books.verdict(json.dumps(bare | {"geo": {}})), "duplicates")
        same("explicit USD", books.verdict(json.dumps(bare | {"currency": "USD"})), "duplicates")
        for field in ("ip_address", "device_type"):
            same(f"empty {field} says nothing", books.verdict(json.dumps(bare | {field: ""})), "duplicates")
        same("empty country says nothing", books.verdict(json.dumps(bare | {"geo": {"country": ""}})), "duplicates")
        same("from another proxy", books.verdict(json.dumps(bare), {"X-Forwarded-For": "198.51.100.4"}), "duplicates")

        long = json.loads(json.dumps(bare)) | {"event_id": "i" * 64}
        same("64-byte id", books.verdict(json.dumps(long)), "accepted")
        same("64-byte id again", books.verdict(json.dumps(long)), "duplicates")
        address = dict(bare, event_id=str(uuid.uuid4()), ip_address="2001:db8::1")
        same("IPv6", books.verdict(json.dumps(address)), "accepted")
        same("IPv6 in full", books.verdict(json.dumps(dict(address, ip_address="2001:0DB8:0:0:0:0:0:0001"))), "duplicates")
        same("IPv6 with dots", books.verdict(json.dumps(dict(address, ip_address="2001:db8::0.0.0.1"))), "duplicates")


def test_each_field_makes_a_conflict(build):
    with ledger(build) as books, findings() as same:
        one = full_event()
        same("first", books.verdict(json.dumps(one)), "accepted")
        changes = {"event_type": "impression", "timestamp": one["timestamp"] - 1, "ad_id": "b", "campaign_id": "camp2", "advertiser_id": "adv2", "publisher_id": "pub2",
                   "user_id": "U", "device_id": "d ", "ip_address": "203.0.113.78", "user_agent": one["user_agent"] + "x", "referer": "", "device_type": "tv",
                   "bid_price": 0.500001, "currency": "EUR", "click_position": 4, "timezone_offset_min": 480, "mouse_moves": 0}
        for field, value in changes.items():
            same(f"{field}={value}", books.verdict(json.dumps(dict(one, **{field: value}))), "conflicts")
            if field in OPTIONAL and field != "currency":
                same(f"no {field}", books.verdict(json.dumps(dict(one, **{field: None}))), "conflicts")
        for field, value in (("country", "CA"), ("region", "US"), ("city", "San Jose")):
            same(field, books.verdict(json.dumps(dict(one, geo=dict(one["geo"], **{field: value})))), "conflicts")
        same("no geo", books.verdict(json.dumps(dict(one, geo=None))), "conflicts")
        same("values swapped", books.verdict(json.dumps(dict(one, ad_id="camp", campaign_id="a/é"))), "conflicts")
        same("values moved over a border", books.verdict(json.dumps(dict(one, user_id="ud", device_id=""))), "conflicts")
        same("still a duplicate", books.verdict(json.dumps(one)), "duplicates")
        # Zero and absent are different payloads.
        bare = {k: one[k] for k in REQUIRED} | {"event_id": str(uuid.uuid4())}
        same("bare", books.verdict(json.dumps(bare)), "accepted")
        for field in ("click_position", "timezone_offset_min", "mouse_moves"):
            same(f"{field}=0", books.verdict(json.dumps(bare | {field: 0})), "conflicts")


def test_ids_compare_byte_for_byte(build):
    with ledger(build) as books, findings() as same:
        root = uuid.uuid4()
        for identity in (str(root), str(root).upper(), root.hex, "{%s}" % root, f"urn:uuid:{root}", str(root)[:-1], str(root) + " ", " " + str(root), "é", "e\u0301", "E", "e",
                         "00000000-0000-0000-0000-000000000000", "0", "00", "-", "\x01", "\x7f", "a" * 64, "a" * 63, "ffffffff-ffff-ffff-ffff-ffffffffffff"):
            same(f"{identity!r}", books.verdict(text(event_id=json.dumps(identity), timestamp="%d" % now_ms())), "accepted")
        stamp = str(now_ms())
        same("by text", books.verdict(text(event_id='"tab\\there"', timestamp=stamp)), "accepted")
        same("by escape", books.verdict(text(event_id='"\\u0074ab\\u0009here"', timestamp=stamp)), "duplicates")


def test_batches(build):
    with ledger(build) as books, findings() as same:
        one, two, bad = json.loads(text()), json.loads(text()), json.loads(text(ad_id=None))

        def brief(body):
            report = books.send(body)[1]
            return report["accepted"], report["duplicates"], report["conflicts"], [[r["index"], r["reason"]] for r in report["rejected"]]

        same("twice in one array", brief(json.dumps([one, one, dict(one, ad_id="z")])), (1, 1, 1, []))
        same("array with rejects", brief(json.dumps([bad, two, 1, None, [], "x", {}, one])),
             (1, 1, 0, [[0, "missing_field"], [2, "bad_type"], [3, "bad_type"], [4, "bad_type"], [5, "bad_type"], [6, "missing_field"]]))
        lines = [json.dumps(one), "", "  ", "{bad", "\ufeff" + json.dumps(two), json.dumps(two) + "\r", "\t" + json.dumps(two) + " "]
        got = brief("\n".join(lines))
        same("NDJSON with rejects", got[:3], (0, 3, 0))
        same("NDJSON reasons", [r[1] for r in got[3]], ["malformed", "malformed"])
        many = [json.loads(text(event_id=quoted(f"many-{i}"), device_id=quoted(f"d{i}"))) for i in range(1000)]
        same("a thousand", brief(json.dumps(many)), (1000, 0, 0, []))
        same("a thousand lines", brief("\n".join(map(json.dumps, many))), (0, 1000, 0, []))
        same("all bad", brief(json.dumps([bad, bad])), (0, 0, 0, [[0, "missing_field"], [1, "missing_field"]]))
        status, problem = books.send("[" + json.dumps(one) + "," + json.dumps(two) + ",{]")
        same("syntax error in an array", status, 400)
        same("empty array", books.send("[]")[0], {200, 204})
        for rejected in books.send(json.dumps([one, bad]))[1]["rejected"]:
            same("keys of a reject", sorted(rejected), ["detail", "index", "reason"])
            assert rejected["detail"]


def test_refused_body_counts_nothing(build):
    """A syntax error at the end of an array takes back every event before it."""
    with ledger(build) as books:
        events = [json.loads(text(event_id=quoted(f"r-{i}"))) for i in range(500)]
        status, problem = books.send(json.dumps(events)[:-1] + ",tru]")
        assert status == 400, (status, problem)
        status, report = books.send(json.dumps(events))
        assert (status, report["accepted"]) == (200, 500), report


def test_addresses_from_the_connection(build):
    """Which address an event gets shows in the rule about clicks of one address: with a limit of 1 the second is tagged."""
    user = "203.0.113.50"
    found = ("203.0.113.50", "9.9.9.9, 203.0.113.50", "203.0.113.50, 10.0.0.1", "203.0.113.50,192.168.1.1,127.0.0.1 , fc00::1", "junk, 203.0.113.50",
             "203.0.113.50:4711", "::ffff:203.0.113.50", "203.0.113.50, ::1", "2001:db8::5, 203.0.113.50")
    others = (None, "", "10.0.0.1", "203.0.113.50, junk", "203.0.113.50, 198.51.100.1", "unknown", "203.0.113.500", "203.0.113.50, , 127.0.0.1;x")
    with node(build, extra=SMALL + "fraud: {clicks_per_ip_hour: 1}\n") as n, findings() as same:
        stamp = now_ms()  # one clock hour for all
        assert n.post(event(ip_address=user, campaign_id="seed", timestamp=stamp))[0] == 204
        for i, forwarded in enumerate(found + others):
            headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
            assert n.post(event(campaign_id=f"x{i}", timestamp=stamp), headers=headers)[0] == 204
        for i, forwarded in enumerate(found + others):
            same(f"X-Forwarded-For: {forwarded}", n.totals("campaigns", f"x{i}")["flagged_clicks"], 1 if i < len(found) else 0)
        # What the event itself says goes before what the connection says.
        assert n.post(event(campaign_id="own", ip_address="198.51.100.99", timestamp=stamp), headers={"X-Forwarded-For": user})[0] == 204
        same("own address", n.totals("campaigns", "own")["flagged_clicks"], 0)
        assert n.post(event(campaign_id="private", ip_address="10.1.1.1", timestamp=stamp))[0] == 204
        assert n.post(event(campaign_id="private", ip_address="10.1.1.1", timestamp=stamp))[0] == 204
        same("a private address that was sent is a user's", n.totals("campaigns", "private")["flagged_clicks"], 1)
        n.audit()


def test_untrusted_peer_is_the_user(build):
    """With no trusted prefix the peer itself is the user, whatever X-Forwarded-For says."""
    ingest = "  - {driver: socket, http: '127.0.0.1:0', udp: '127.0.0.1:0', trusted: [192.0.2.0/24]}\n"
    with node(build, ingest=ingest, extra=SMALL + "fraud: {clicks_per_ip_hour: 2}\n") as n:
        stamp = now_ms()
        for forwarded in ("203.0.113.1", "203.0.113.2", "203.0.113.3"):
            assert n.post(event(timestamp=stamp), headers={"X-Forwarded-For": forwarded})[0] == 204
        totals = n.totals("campaigns", "camp_1")
        assert (totals["clicks"], totals["flagged_clicks"]) == (2, 1), totals
        n.audit()


def test_conversions_and_devices_are_counted(build):
    agents = {"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148": "mobile",
              "Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X)": "tablet", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0": "desktop",
              "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": "bot", "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0)": "tv", "": "other"}
    with node(build, extra=SMALL) as n, findings() as same:
        assert n.post([event(event_type="conversion"), event(event_type="impression"), event(event_type="conversion")]) == (204, None)
        totals = n.totals("campaigns", "camp_1")
        same("conversions", (totals["conversions"], totals["impressions"], totals["clicks"], totals["spend"]), (2, 1, 0, "0.000000"))
        for i, agent in enumerate(agents):
            assert n.post(event(campaign_id=f"agent{i}", event_type="impression", user_agent=agent or None))[0] == 204
        for i, (agent, device) in enumerate(agents.items()):
            groups = n.get(f"/api/v1/analytics/campaigns/agent{i}?window=1h&group_by=device")["groups"]
            same(agent, [g for g in groups if device in json.dumps(g)] != [], True)
        n.audit()


def test_late_event_shows_within_seconds(build):
    with node(build, extra=SMALL) as n:
        assert n.post(event())[0] == 204
        assert n.post(event(timestamp=now_ms() - 3 * 3600_000), report=True)[1]["late"] == 1
        wait_until("the late click shows", lambda: n.totals("campaigns", "camp_1")["clicks"] == 2)
        n.audit()
