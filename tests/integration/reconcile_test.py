"""Reconciliation and pull: the recount against the reported figures, segments pulled and verified. docs/reconciliation.md."""
from harness import SMALL, event, node, now_ms

MINUTE, HOUR = 60_000, 3_600_000


def mixed(count, **fields):
    """Events of an hour and a half ago up to an hour ago: clicks with a price, impressions, conversions; of three campaigns."""
    begin = now_ms() // HOUR * HOUR - 2 * HOUR
    return [event(event_type=("click", "impression", "conversion")[i % 3], campaign_id=f"camp_{i % 4}", ad_id=f"ad_{i % 7}",
                  advertiser_id=f"adv_{i % 2}", timestamp=begin + i * 7000, bid_price="0.125",
                  currency="EUR" if i % 5 == 0 else "USD", device_id=f"device_{i}", **fields) for i in range(count)]


def test_recount_is_equal(build):
    with node(build, extra=SMALL) as made:
        events = mixed(400)
        assert made.post(events[:200])[0] == 204
        made.ctl("segments", "seal")
        assert made.post(events[200:] + events[:50])[0] == 204
        found = made.ctl("reconcile", "--json")
        assert found["equal"] and found["events"] == 400 and not found["moving"], found
