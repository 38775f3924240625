#!/usr/bin/python3
"""Holds what an event costs in instructions against tests/instructions.toml. instructions.py BUILD [--write]

perf/bench_instructions runs under callgrind: a count of instructions is the same under every load, so a change of a few per cent shows that
no clock on a shared machine would. What to do when a count has changed on purpose stands at the top of the file of limits; --write puts
the counts of this build there. Exit status: 0 fine, 1 a stage is off or valgrind is missing, 77 skipped, with the reason.
"""
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = ROOT / "tests/instructions.toml"


def counts(bench):
    """Instructions an event of each stage, and what the program said."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        try:
            done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--zero-before=measure_begin",
                                   "--dump-before=measure_end", str(bench), f"{folder}/data"],
                                  capture_output=True, text=True, timeout=300)
        except FileNotFoundError:
            sys.exit("valgrind is not installed: devtools/setup test")
        if done.returncode:
            sys.exit(f"{bench.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        found = {}
        for number, stage in enumerate(re.findall(r"^stage (\w+)$", done.stdout, re.M), 1):
            found[stage] = int(re.search(r"^totals: (\d+)", pathlib.Path(f"{folder}/out.{number}").read_text(), re.M).group(1))
    events = int(re.search(r"^events (\d+)$", done.stdout, re.M).group(1))
    each = {stage: count / events for stage, count in found.items()}
    each["finish"] = each.pop("event") - each["parse"]
    return each, re.search(r"^variant (\S+)$", done.stdout, re.M).group(1)


def write(each):
    text = LIMITS.read_text()
    for stage, count in each.items():
        text = re.sub(rf"^{stage} = .*$", f"{stage} = {count:.0f}", text, flags=re.M)
    LIMITS.write_text(text)


def main():
    bench = pathlib.Path(sys.argv[1]).resolve() / "perf/bench_instructions"
    limits = tomllib.loads(LIMITS.read_text())
    each, variant = counts(bench)
    if variant != limits["variant"]:
        print(f"skipped: the limits are for the variant {limits['variant']}, this processor has {variant}")
        return 77
    if "--write" in sys.argv:
        write(each)
        return 0
    faults = 0
    for stage in sorted(set(limits["stage"]) | set(each)):
        limit, got = limits["stage"].get(stage), each.get(stage)
        if limit is None or got is None:
            faults += 1
            print(f"{stage:8} {'not measured' if got is None else 'not in the limits'}")
            continue
        off = got / limit - 1
        fault = abs(off) > limits["tolerance"]
        faults += fault
        print(f"{stage:8} {got:8.1f} instructions an event, limit {limit}: {off:+.1%}{'  OFF' if fault else ''}")
    if faults:
        print(f"{faults} of {len(limits['stage'])} stages are off by more than {limits['tolerance']:.0%}: see the top of tests/instructions.toml")
    return 1 if faults else 0


sys.exit(main())
