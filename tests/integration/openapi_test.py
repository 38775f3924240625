"""Every resource's real answers against /openapi.json: each status and member is documented, and each documented member is met."""
import datetime
import json
import socket
import urllib.parse

from billing_test import ISSUE, QUIET
from dlq_test import reasons
from fraud_test import clicks_of_each_reason, files, hour_start
from harness import SMALL, event, folder, node, now_ms, wait_until
from openapi import Document

HOUR, DAY = 3_600_000, 86_400_000
JSON = {"Content-Type": "application/json"}

# What an answer of this test cannot have, and why.
NOT_MET = {
    "raw_from": "retention has to take rows for it",
    "damaged": "a line of the audit log has to be damaged",
    "overflow": "a table has to be full",
    "more_names": "a session of more than 32 ads",
    "unlogged_before": "logins have to be refused by the thousand",
    "more": "an id of more records than one answer shows",
}
HEALTHY = (".differences[]", "/live/refused 200.items[]")  # what a node that works does not tell of


class Asker:
    def __init__(self, made):
        self.made, self.wrong, self.asked = made, [], set()
        self.token = made.ctl("token", "create", "--scope", "admin", "--json")["token"]
        status, _, text = self.plain("GET", "/openapi.json")
        assert status == 200
        self.document = Document(text)

    def plain(self, method, path, body=None, headers=None):
        return self.made.request(method, path, body, {"Authorization": f"Bearer {self.token}"} | (headers or {}), at=self.made.api)

    def __call__(self, path, status=200, method="GET", body=None, headers=None, token=True):
        """An answer of that status, looked at; its JSON, or its bytes."""
        got, found, content = self.made.request(method, path, body, ({"Authorization": f"Bearer {self.token}"} if token else {}) | (headers or {}),
                                                at=self.made.api)
        assert got == status, (method, path, got, content[:300])
        kind = found.get("Content-Type")
        self.asked.add((self.document.operation(path.split("?")[0], method)[0], method))
        self.wrong += self.document.answer(method, path, got, kind, content)
        return json.loads(content) if content and "json" in (kind or "") else content

    def live(self):
        """The first message of the stream."""
        with socket.create_connection(self.made.api, timeout=30) as client:
            client.sendall(f"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode())
            text = b""
            while b"\n\n" not in text.partition(b"data: ")[2]:
                text += client.recv(65536)
        self.asked.add(("/api/v1/live", "GET"))
        message = text.partition(b"data: ")[2].partition(b"\n\n")[0]
        # chunks of the transfer may part it
        self.wrong += self.document.answer("GET", "/api/v1/live", 200, "text/event-stream", message if b"\r\n" not in message else joined(message))


def joined(message):
    """A message without the lengths of chunks in it."""
    parts = message.split(b"\r\n")
    return b"".join(parts[0::2])


def bring_about(made, asker):
    """Something of everything that answers tell of."""
    at = hour_start()
    made.ctl("blocklist", "add", "9.8.7.0/24", "--reason", "test", "--ttl", "1h")
    for events, _, _ in clicks_of_each_reason(at).values():
        assert made.post(events)[0] == 204
    noon = (now_ms() // DAY - 2) * DAY + DAY // 2
    old = [event(timestamp=noon + i * 60_000, advertiser_id="bill", campaign_id=f"bill_{i % 2}", currency=("EUR", "USD")[i % 3 % 2], user_id="walker",
                 event_type=("click", "impression")[i % 2]) for i in range(8)]
    everything = old[0] | {"ip_address": "198.51.100.7", "user_agent": "Mozilla/5.0", "referer": "https://example.org/", "event_id": "whole",
                           "geo": {"country": "DE", "region": "BE", "city": "Berlin"}, "device_type": "mobile", "click_position": 1, "mouse_moves": 3,
                           "timezone_offset_min": 60, "device_id": "d", "currency": "EUR", "timestamp": now_ms(),
                           "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert made.post(old + [everything])[0] == 204
    assert made.post(old[0] | {"bid_price": 7})[0] == 204  # a conflict
    for body, _ in reasons().values():
        assert made.post(body)[0] == 400
    wait_until("the day is final", lambda: asker("/api/v1/billing/reports?advertiser=bill&period=daily&tz=UTC")["items"][0]["final"])
    made.ctl("segments", "seal")
    identity = wait_until("the bill is issued", lambda: asker("/api/v1/billing/reports?advertiser=bill&period=daily&tz=UTC")["items"][0]["report"])
    wait_until("a recount", lambda: asker("/api/v1/reconcile/runs")["items"], seconds=60)
    assert made.post([old[1] | {"event_id": "late", "event_type": "click"}])[0] == 204
    wait_until("the late click counts", lambda: any(row["revision"] > 1 for row in asker("/api/v1/billing/reports?advertiser=bill&period=daily&tz=UTC")["items"]))
    made.ctl("segments", "seal")
    wait_until("the correction", lambda: asker(f"/api/v1/billing/reports/{identity}")["corrections"])
    assert made.post(event(event_id="open", user_id="walker", advertiser_id="bill", campaign_id="bill_0"))[0] == 204
    return identity


def ask_everything(asker, identity):
    range_ = f"from={now_ms() - 3 * DAY}&to={now_ms() + HOUR}"
    asker(f"/api/v1/analytics/campaigns/bill_0?{range_}&step=1h&group_by=ad,country&compare=previous")
    asker(f"/api/v1/analytics/campaigns/bill_0?from={(now_ms() // DAY - 3) * DAY}&to={now_ms() // DAY * DAY}&step=1d&slide=1h&tz=UTC")
    for dimensions in ("campaign,advertiser,publisher", "region,device,currency"):
        asker(f"/api/v1/analytics/advertisers/bill?{range_}&group_by={dimensions}")
    asker(f"/api/v1/analytics/advertisers?id=bill&id=nobody&{range_}&step=1d&tz=Asia/Kolkata")
    asker("/api/v1/analytics/ads/never")
    asker("/api/v1/analytics/campaigns?window=1h", 400)
    asker("/api/v1/analytics/cities/x", 404)
    asker("/api/v1/analytics/campaigns/x?step=1m&from=0", 422)
    asker(f"/api/v1/analytics/sessions?user=walker&{range_}")
    asker("/api/v1/analytics/sessions", 400)
    for by in ("ad", "campaign", "publisher", "source"):
        asker(f"/api/v1/analytics/trending?by={by}&window=2h")
    asker("/api/v1/analytics/trending?by=city", 400)
    assert asker("/api/v1/fraud/flagged?limit=5")["cursor"]
    asker(f"/api/v1/fraud/flagged?limit=1000&{range_}")
    asker("/api/v1/fraud/flagged?limit=0", 400)
    asker(f"/api/v1/fraud/summary?{range_}")
    asker("/api/v1/fraud/summary?step=2m", 400)
    for name in ("open", "late", "whole"):
        asker("/api/v1/events/" + name)
    flagged = asker("/api/v1/fraud/flagged?limit=1")["items"][0]["event_id"]
    asker("/api/v1/events/" + urllib.parse.quote(flagged, safe=""))
    asker("/api/v1/events/never", 404)
    asker("/api/v1/events/never?x=1", 400)
    asker("/api/v1/dlq?limit=2")
    asker("/api/v1/dlq?limit=1000")
    asker("/api/v1/dlq?limit=x", 400)
    asker("/api/v1/billing/reports?advertiser=bill&period=daily&tz=Europe/Berlin")
    asker("/api/v1/billing/reports?advertiser=bill&format=csv")
    asker("/api/v1/billing/reports", 400)
    asker("/api/v1/billing/reports?advertiser=x&period=hourly&from=0", 422)
    asker(f"/api/v1/billing/reports/{identity}")
    asker(f"/api/v1/billing/reports/{identity}", headers={"Accept": "text/csv"})
    asker(f"/api/v1/billing/reports/{identity}?x=1", 400)
    asker("/api/v1/billing/reports/" + "0" * 20, 404)
    page = asker("/api/v1/reconcile/segments")
    segment = "/api/v1/reconcile/segments/" + page["items"][0]["id"]
    asker("/api/v1/reconcile/segments?limit=0", 400)
    asker(segment)
    asker(segment, 206, headers={"Range": "bytes=0-9"})
    asker(segment, 304, headers={"If-None-Match": "*"})
    asker(segment, 416, headers={"Range": "bytes=99999999999-"})
    asker(segment + "?x=1", 400)
    asker("/api/v1/reconcile/segments/x", 404)
    asker(f"/api/v1/reconcile/totals?{range_}")
    asker("/api/v1/reconcile/totals?by=ad", 400)
    asker("/api/v1/reconcile/runs?limit=2")
    asker("/api/v1/reconcile/runs?limit=0", 400)
    asker("/api/v1/live/history")
    asker("/api/v1/live/history?x=1", 400)
    asker("/api/v1/live?x=1", 400)
    asker("/api/v1/live/refused")
    asker("/api/v1/live/refused?from=x", 400)
    asker.live()
    asker("/metrics")
    asker("/healthz", token=False)
    asker("/readyz", token=False)


def ask_and_act(asker):
    asker("/api/v1/blocklist", 204, "POST", '{"prefix": "203.0.113.0/24", "ttl": "1h", "reason": "x", "count_only": true}', JSON)
    asker("/api/v1/blocklist", 204, "POST", '{"prefix": "203.0.114.0/24"}', JSON)
    asker("/api/v1/blocklist", 400, "POST", '{"prefix": "x"}', JSON)
    asker("/api/v1/blocklist", 415, "POST", "x", {"Content-Type": "text/plain"})
    asker("/api/v1/blocklist?limit=1")
    asker("/api/v1/blocklist")
    asker("/api/v1/blocklist?limit=0", 400)
    asker("/api/v1/blocklist?prefix=203.0.113.0/24", 204, "DELETE")
    asker("/api/v1/blocklist?prefix=203.0.113.0/24", 404, "DELETE")
    asker("/api/v1/blocklist/203.0.114.0%2F24", 204, "DELETE")
    asker("/api/v1/blocklist/203.0.114.0%2F24", 404, "DELETE")
    asker("/api/v1/blocklist/203.0.114.0%2F24", 404)
    asker("/api/v1/blocklist/x", 400, "DELETE")
    asker("/login", 303)
    asker("/login", 200, "POST", json.dumps({"token": asker.token}), JSON, token=False)
    asker("/login", 303, "POST", "token=" + asker.token, {"Content-Type": "application/x-www-form-urlencoded"}, token=False)
    asker("/login", 401, "POST", '{"token": "tp_x"}', JSON, token=False)
    asker("/logout", 303)
    asker("/logout", 204, "POST", "{}", JSON)
    asker("/logout", 303, "POST", "", {"Content-Type": "application/x-www-form-urlencoded"})
    asker("/api/v1/whoami")
    asker("/api/v1/whoami?x=1", 400)
    asker("/api/v1/audit-log?limit=1000")
    asker("/api/v1/audit-log?limit=0", 400)
    for path in ("analytics/campaigns/x", "fraud/flagged", "dlq", "billing/reports?advertiser=x", "live", "live/history", "live/refused", "whoami", "audit-log",
                 "blocklist", "reconcile/totals", "reconcile/segments", "reconcile/runs", "analytics/trending", "analytics/sessions?user=x", "events/x"):
        asker("/api/v1/" + path, 401, token=False)
    own = asker.made.ctl("token", "create", "--scope", "read:advertiser:adv_9", "--json")["token"]
    for path in ("analytics/advertisers/x", "analytics/advertisers?id=x", "fraud/flagged?advertiser=x", "fraud/summary?advertiser=x", "dlq?advertiser=x",
                 "billing/reports?advertiser=x", "live", "live/history", "audit-log", "blocklist", "reconcile/segments", "reconcile/runs"):
        asker("/api/v1/" + path, 403, headers={"Authorization": f"Bearer {own}"}, token=False)
    asker("/metrics", 403, headers={"Authorization": f"Bearer {own}"}, token=False)


def test_answers_are_what_the_document_says(build):
    with folder() as path:
        (path / "blocked").write_text("198.18.0.0/15\n")
        extra = SMALL + files(path / "rules") + ISSUE.removeprefix(QUIET) + f"blocklist: {{files: [{path}/blocked]}}\n"
        check_all(build, extra)


def check_all(build, extra):
    with node(build, extra=extra, control_auth="tokens") as made:
        asker = Asker(made)
        identity = bring_about(made, asker)
        ask_everything(asker, identity)
        ask_and_act(asker)
        assert not asker.wrong, "\n".join(sorted(set(asker.wrong)))
        # and the other way round: whatever is documented is there
        document = asker.document
        operations = {(template, method.upper()) for template, found in document.whole["paths"].items() for method in found}
        assert operations == asker.asked, operations ^ asker.asked
        missing = set()
        for template, method in operations:
            for status, response in document.whole["paths"][template][method.lower()]["responses"].items():
                for kind, content in document.resolve(response).get("content", {}).items():
                    if status == "200" and "schema" in content:
                        missing |= document.never_used(template, method, status, kind)
        missing = {place for place in missing if place.rsplit(".", 1)[1] not in NOT_MET and not any(part in place for part in HEALTHY)}
        assert not missing, "documented, and in no answer:\n" + "\n".join(sorted(missing))


def test_the_checker_finds_fault(build):
    """Of the document's own schemas, with answers bent in every way that it has to notice."""
    document = Document(json.dumps({"paths": {}, "components": {"schemas": {
        "Base": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1}}},
        "Whole": {"allOf": [{"$ref": "#/components/schemas/Base"}, {"type": "object", "properties": {
            "when": {"type": "string", "format": "date-time"}, "kind": {"enum": ["x", None]}, "list": {"type": "array", "items": {"type": ["string", "null"]}},
            "pair": {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "integer"}, {"type": "number"}]},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}}}}]}}}}))
    whole = {"$ref": "#/components/schemas/Whole"}
    good = {"a": 1, "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc).isoformat(), "kind": None, "list": ["x", None], "pair": [1, 2.5],
            "map": {"m": 1}}
    assert document.check(whole, good) == []
    for bad in ({"a": 0}, {"a": True}, {"a": 1.5}, {"a": "1"}, {"when": "2026-01-01"}, {"when": "10000-01-01T00:00:00Z"}, {"kind": "y"}, {"list": [1]},
                {"list": {}}, {"pair": [1]}, {"pair": [1.5, 1]}, {"pair": [1, 2, 3]}, {"map": {"m": "1"}}, {"unknown": 1}):
        assert document.check(whole, good | bad), bad
    assert document.check(whole, {key: value for key, value in good.items() if key != "a"})
