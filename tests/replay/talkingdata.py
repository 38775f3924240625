#!/usr/bin/python3
"""Replays real ad clicks through the front door and checks every total: talkingdata.py CSV --http HOST:PORT --api HOST:PORT

The input is the public TalkingData sample (ip, app, device, os, channel, click_time, attributed_time, is_attributed), which is not
part of this project. A row becomes one click, and a conversion too where it was attributed. The rule:

    event_id       "td-<row>" ("tc-<row>" for the conversion)       campaign_id    "app-<app>"
    timestamp      click_time (attributed_time), taken as UTC       ad_id          "app-<app>-ch-<channel>"
    user_id        "<ip>-<device>-<os>"                             advertiser_id  "adv-<app modulo 50>"
    ip_address     the number ip as an address in 11.0.0.0/8        publisher_id   "ch-<channel>"
    bid_price      (channel modulo 97 + 1) / 1000 as decimal text   geo.country    one of 8 by ip

Clicks that a fraud rule tags are in gross_clicks. Sums here use Python's own integers and know nothing of the node.
"""
import argparse
import calendar
import collections
import csv
import http.client
import json
import sys
import time
import urllib.parse

COUNTRIES = ("US", "CN", "IN", "BR", "DE", "FR", "JP", "GB")


def stamp(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S")) * 1000


def events(path, order):
    rows = []
    with open(path, newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            ip, app, channel = int(row["ip"]), int(row["app"]), int(row["channel"])
            base = {"ad_id": f"app-{app}-ch-{channel}", "campaign_id": f"app-{app}", "advertiser_id": f"adv-{app % 50}",
                    "publisher_id": f"ch-{channel}", "user_id": f"{ip}-{row['device']}-{row['os']}",
                    "ip_address": f"11.{ip >> 16 & 255}.{ip >> 8 & 255}.{ip & 255}", "geo": {"country": COUNTRIES[ip % 8]}}
            rows.append(dict(base, event_id=f"td-{number}", event_type="click", timestamp=stamp(row["click_time"]),
                             bid_price=f"0.{channel % 97 + 1:03}"))
            if row["is_attributed"] == "1":
                rows.append(dict(base, event_id=f"tc-{number}", event_type="conversion", timestamp=stamp(row["attributed_time"])))
    if order == "time":
        rows.sort(key=lambda event: event["timestamp"])
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("csv")
    parser.add_argument("--http", required=True)
    parser.add_argument("--api", required=True)
    parser.add_argument("--order", choices=("time", "file"), default="time")
    parser.add_argument("--batch", type=int, default=500)
    options = parser.parse_args()

    rows = events(options.csv, options.order)
    totals = {"accepted": 0, "duplicates": 0, "late": 0, "conflicts": 0}
    connection = http.client.HTTPConnection(options.http, timeout=60)
    began = time.monotonic()
    for at in range(0, len(rows), options.batch):
        batch = rows[at:at + options.batch]
        connection.request("POST", "/api/v1/clicks?report=1", "\n".join(json.dumps(event) for event in batch))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            sys.exit(f"batch at {at}: {answer.status} {content[:300]!r}")
        report = json.loads(content)
        if report["rejected"]:
            sys.exit(f"batch at {at}: rejected {report['rejected'][:3]}")
        for key in totals:
            totals[key] += report[key]
    took = time.monotonic() - began
    print(f"replayed {len(rows)} events in {took:.1f} s: {totals}")
    if totals["accepted"] + totals["late"] != len(rows):
        sys.exit("not every event was counted")

    first = min(event["timestamp"] for event in rows) // 60000 * 60000
    last = (max(event["timestamp"] for event in rows) // 60000 + 1) * 60000
    wrong = checked = 0
    api = http.client.HTTPConnection(options.api, timeout=60)
    for kind, field in (("campaigns", "campaign_id"), ("publishers", "publisher_id"), ("advertisers", "advertiser_id")):
        clicks, conversions = collections.Counter(), collections.Counter()
        for event in rows:
            (clicks if event["event_type"] == "click" else conversions)[event[field]] += 1
        for identity in sorted(clicks):
            api.request("GET", f"/api/v1/analytics/{kind}/{urllib.parse.quote(identity)}?from={first}&to={last}&step=1d")
            got = json.loads(api.getresponse().read())["totals"]
            checked += 1
            if (got["gross_clicks"], got["conversions"]) != (clicks[identity], conversions[identity]):
                wrong += 1
                print(f"{kind}/{identity}: got {got}, expected {clicks[identity]} clicks and {conversions[identity]} conversions")
    print(f"checked {checked} keys, {wrong} wrong")
    sys.exit(1 if wrong else 0)


main()
