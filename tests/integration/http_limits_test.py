"""Who may send beacons over HTTP, and how much: rates per source and token, tokens, connections of one source."""
import json
import socket
import time

from harness import SMALL, event, findings, node, wait_until
from http_raw import CLICKS, DEBUG, PIXEL, Raw, one, request


def burst(made, count, *lines):
    """The answers to so many beacons, sent in one piece: however slow the machine is, they come faster than an allowance grows. A line may ask for its number."""
    raw = Raw(made)
    raw.send(b"".join(request("POST", CLICKS, one(), *[line.format(number) for line in lines]) for number in range(count)))
    answers = [raw.answer() for _ in range(count)]
    raw.close()
    return answers


def test_rate_limit(build):
    ingest = "  - {driver: socket, http: '127.0.0.1:0', udp: '127.0.0.1:0', rate_limit: 20}\n"
    with node(build, control=False, ingest=ingest, extra=SMALL) as n, findings() as same:
        answers = burst(n, 200)
        refused = [(headers, json.loads(body)) for status, headers, body in answers if status == 429]
        same("some are taken, some are not", sorted({status for status, _, _ in answers}), [204, 429])
        same("told when to come back", all(int(headers["retry-after"]) > 0 and document["status"] == 429 for headers, document in refused), True)
        sheet = n.audit()
        same("books", (sheet["requests"]["rejected"]["429"], sheet["events"]["accepted"]), (len(refused), 200 - len(refused)))
        wait_until("the allowance comes back", lambda: n.request("POST", CLICKS, one())[0] == 204)
        # Behind a trusted proxy each user has an allowance of his own; health is nobody's.
        same("two hundred users", sorted({status for status, _, _ in burst(n, 200, "X-Forwarded-For: 203.0.{0}.{0}")}), [204])
        # Trying an event counts for its user, too: not for the proxy, which is behind many of them.
        wait_until("the proxy's own allowance is used up", lambda: burst(n, 60)[-1][0] == 429)
        same("a user who tries", n.request("POST", "/api/v1/debug/clicks", one(), {"X-Forwarded-For": "203.0.113.99"})[0], 200)
        same("users of one /64", 429 in [status for status, _, _ in burst(n, 60, "X-Forwarded-For: 2001:db8:1:2::{:x}")], True)
        same("users of sixty /64", sorted({status for status, _, _ in burst(n, 60, "X-Forwarded-For: 2001:db8:{:x}::1")}), [204])
        same("health", [n.request("GET", "/healthz")[0] for _ in range(60)], [200] * 60)
        before = n.audit()["datagrams"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(100):
                sender.sendto(one(), n.udp[0])
        after = wait_until("the datagrams were looked at", lambda: (d := n.audit()["datagrams"])["received"] == before["received"] + 100 and d)
        same("datagrams", after["rejected"]["rate_limited"] > 0 and after["accepted"] + after["rejected"]["rate_limited"] == 100, True)


def test_port_that_asks_for_tokens(build):
    ingest = "  - {driver: socket, http: '127.0.0.1:0', udp: '127.0.0.1:0', auth: tokens}\n"
    with node(build, control=False, ingest=ingest, extra=SMALL) as n, findings() as same:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic QTpC"}, {"Authorization": "Bearer "}, {"Authorization": "x" * 9000}):
            for method, target, body in (("POST", CLICKS, one()), ("GET", PIXEL + "?event_type=click&ad_id=a&campaign_id=c&advertiser_id=v", None), ("POST", DEBUG, one())):
                status, answered, _ = n.request(method, target, body, headers)
                same(f"{target} {str(headers)[:40]}", (status, "Bearer" in answered.get("WWW-Authenticate", "")), (401, True))
        same("health needs none", n.request("GET", "/healthz")[0], 200)
        same("nor does a preflight", n.request("OPTIONS", CLICKS, headers={"Origin": "https://a.example"})[0], {200, 204})
        same("nothing counted", n.audit()["events"]["received"], 0)


def test_tokens_open_the_port(build):
    """What the tool makes is taken within a second and refused again within a second of its end; the other scopes are not enough."""
    ingest = "  - {driver: socket, http: '127.0.0.1:0', udp: '127.0.0.1:0', auth: tokens, token_rate_limit: 1000}\n"
    with node(build, control=False, ingest=ingest, extra=SMALL) as n, findings() as same:
        def post(token, word="Bearer"):
            return n.request("POST", CLICKS, one(), {"Authorization": f"{word} {token}"})[0]

        made = {scope: n.ctl("token", "create", "--scope", scope, "--name", "a test", "--json") for scope in ("ingest", "admin", "read", "read:advertiser:adv_1")}
        same("what the tool prints", sorted(made["ingest"]), ["id", "scope", "token"])
        for scope in ("ingest", "admin"):  # they were made one after the other
            wait_until("the token is known", lambda scope=scope: post(made[scope]["token"]) == 204)
        same("by scope", {scope: post(token["token"]) for scope, token in made.items()}, {"ingest": 204, "admin": 204, "read": 401, "read:advertiser:adv_1": 401})
        same("the word in any case, more spaces", (post(made["ingest"]["token"], "bEARER"), post(" " + made["ingest"]["token"])), (204, 204))
        token = made["ingest"]["token"]
        same("cut and changed", [post(token[:-1]), post(token + "x"), post(token[:-1] + ("A" if token[-1] != "A" else "B"))], [401] * 3)
        raw = Raw(n)
        raw.send(request("POST", CLICKS, one(), f"Authorization: Bearer {token}", f"Authorization: Bearer {token}"))
        same("two of them are none", raw.answer()[0], 401)
        raw.send(request("GET", PIXEL + f"?event_type=click&ad_id=a&campaign_id=c&advertiser_id=v&token={token}"))
        same("not in a target, which ends in logs", raw.answer()[0], 401)
        raw.send(request("GET", PIXEL + "?event_type=click&ad_id=a&campaign_id=c&advertiser_id=v", None, f"Authorization: Bearer {token}"))
        same("the pixel with the header", raw.answer()[0], 200)
        listed = n.ctl("token", "list", "--json")["items"]
        same("listed, without secrets", (len(listed), token in json.dumps(listed), listed[0]["name"]), (4, False, "a test"))
        # The connection that is open already is asked again, too.
        n.ctl("token", "revoke", made["ingest"]["id"])
        wait_until("the token is revoked", lambda: post(token) == 401)
        raw.send(request("POST", CLICKS, one(), f"Authorization: Bearer {token}"))
        same("on an open connection", raw.answer()[0], 401)
        same("revoked twice", n.ctl("token", "revoke", made["ingest"]["id"], status=1), "")
        for ttl in (2, 10, 60):  # the shortest that this machine knows in time
            short, began, statuses = n.ctl("token", "create", "--scope", "ingest", "--ttl", f"{ttl}s", "--json")["token"], time.monotonic(), []
            while 204 not in statuses and time.monotonic() - began < ttl + 2:
                statuses.append(post(short))
            if 204 in statuses:
                break
        same("the short one is known", 204 in statuses, True)
        wait_until("and expires", lambda: post(short) == 401)
        # A broken file changes nothing until it is whole again.
        path = n.folder / "control/tokens"
        whole = path.read_bytes()
        path.write_bytes(whole[:-5])
        wait_until("the damage is told", lambda: "tokens not read" in (n.folder / "data.log").read_text())
        same("those read last stay in force", post(made["admin"]["token"]), 204)
        same("the tool leaves it alone", (n.ctl("token", "create", "--scope", "read", status=1), path.read_bytes()), ("", whole[:-5]))
        path.write_bytes(whole)
        raw.close()
        for wrong in (["create"], ["create", "--scope", "write"], ["create", "--scope", "read", "--ttl", "soon"], ["revoke"], ["list", "all"]):
            n.ctl("token", *wrong, status=2)
        n.audit()


def test_token_has_a_rate_of_its_own(build):
    ingest = "  - {driver: socket, http: '127.0.0.1:0', auth: tokens, token_rate_limit: 20}\n"
    with node(build, control=False, ingest=ingest, extra=SMALL) as n, findings() as same:
        first, second = (n.ctl("token", "create", "--scope", "ingest", "--json")["token"] for _ in range(2))
        post = lambda token: n.request("POST", CLICKS, one(), {"Authorization": f"Bearer {token}"})  # noqa: E731
        for token in (first, second):
            wait_until("the token is known", lambda token=token: post(token)[0] == 204)
        answers = burst(n, 200, f"Authorization: Bearer {first}")
        refused = [(headers, json.loads(body)) for status, headers, body in answers if status == 429]
        same("some are taken, some are not", sorted({status for status, _, _ in answers}), [204, 429])
        same("told when to come back, and why", all(int(headers["retry-after"]) > 0 and "token" in document["detail"] for headers, document in refused), True)
        same("another token is not held up", post(second)[0], 204)
        same("books", n.audit()["requests"]["rejected"]["429"], len(refused))


def test_connections_of_one_source_are_bounded(build):
    ingest = "  - {driver: socket, http: '127.0.0.1:0', trusted: [], connections_per_source: 5}\n"
    with node(build, control=False, ingest=ingest, extra=SMALL) as n, findings() as same:
        held = [Raw(n) for _ in range(5)]
        for raw in held:
            raw.send(request("GET", "/healthz"))
            same("held", raw.answer()[0], 200)
        def another():
            try:
                raw = Raw(n)  # the reset may come before connect() returns
            except ConnectionResetError:
                return 0
            try:
                raw.send(request("GET", "/healthz"))
                return raw.answer()[0]
            except (ConnectionResetError, BrokenPipeError):
                return 0
            finally:
                raw.close()
        same("one more is reset", another(), 0)
        held.pop().close()
        wait_until("its place is free again", lambda: another() == 200)
        for raw in held:
            raw.close()
