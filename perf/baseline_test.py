#!/usr/bin/python3
"""What perf/baseline.py calls slower, and what it does not."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import baseline  # noqa: E402


def result(median, spread=0.02, unit="events/s", ratio=None, machine="a"):
    return {"machine": machine, "commit": "0", "rows": [{"name": "row", "unit": unit, "median": median, "spread": spread, "ratio": ratio}]}


CASES = [
    # earlier, now, rows slower
    (result(100), result(100), 0),
    (result(100), result(92), 0),  # within a tenth
    (result(100), result(85), 1),
    (result(100), result(200), 0),
    (result(100, spread=0.3), result(85), 0),  # within the noise of the one
    (result(100), result(85, spread=0.3), 0),  # or the other
    (result(100, spread=0.3), result(70, spread=0.3), 1),
    (result(100, unit="ms"), result(115, unit="ms"), 1),  # more is worse
    (result(100, unit="ms"), result(50, unit="ms"), 0),
    (result(100, unit="ns/event"), result(115, unit="ns/event"), 1),
    (result(100), result(50, machine="b"), 0),  # another machine: absolute figures say nothing,
    (result(100, ratio=2.0), result(200, ratio=1.5, machine="b"), 1),  # the ratio to the peer does
    (result(100, ratio=2.0), result(50, ratio=1.9, machine="b"), 0),
    (result(100), result(50, unit="ms"), 0),  # another unit: another row
]


def main():
    wrong = [(number, slower) for number, (old, new, wanted) in enumerate(CASES) if (slower := baseline.compare(old, new)[1]) != wanted]
    print(f"{len(CASES) - len(wrong)} of {len(CASES)} cases" + "".join(f"\ncase {number}: {slower} slower, wanted {CASES[number][2]}" for number, slower in wrong))
    return 1 if wrong else 0


sys.exit(main())
