"""Holds a result of perf/run.py against an earlier one: slower than the noise allows is an error.

A row may be off by the larger spread of the two runs, and by a tenth in any case. Files of two machines cannot be compared by their
absolute figures: there the ratios to the peers, which ran beside ours on each, are held against each other.
"""
import json

NOISE_MIN = 0.10


def more_is_better(unit):
    return unit.endswith("/s")


def loss(was, now, more):
    """By how much it got worse, as a share; below 0: better."""
    if not was or not now:
        return 0
    return was / now - 1 if more else now / was - 1


def compare(old, new):
    """(lines to print, how many rows are slower)."""
    lines, slower = [], 0
    same_machine = old["machine"] == new["machine"]
    if not same_machine:
        lines.append(f"baseline of another machine ({old['machine']}): ratios to peers are compared, nothing else")
    before = {row["name"]: row for row in old["rows"]}
    for row in new["rows"]:
        was = before.get(row["name"])
        if not was or was["unit"] != row["unit"]:
            lines.append(f"new    {row['name']}")
            continue
        of = "median" if same_machine else "ratio"
        if was[of] is None or row[of] is None:
            continue
        worse = loss(was[of], row[of], more_is_better(row["unit"]))
        allowed = max(NOISE_MIN, was["spread"], row["spread"])
        if worse > allowed:
            slower += 1
            lines.append(f"SLOWER {row['name']}: {of} {was[of]:,} -> {row[of]:,} {row['unit'] if same_machine else ''}, {worse:.0%} worse, noise allows {allowed:.0%}")
        elif -worse > allowed:
            lines.append(f"faster {row['name']}: {of} {was[of]:,} -> {row[of]:,}")
    return lines, slower


def load(path):
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    for key in ("machine", "commit", "rows"):
        if key not in result:
            raise ValueError(f"{path}: expected a result of perf/run.py, found no \"{key}\"")
    return result
