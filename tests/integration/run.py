#!/usr/bin/python3
"""Integration tests: run.py BUILD [words]. Runs the test_* functions of the modules here whose name holds a word.

It ends with a line `failed: NAME: WHY` for each failed test, and the last line is `N passed, N failed`.
"""
import importlib
import os
import pathlib
import re
import signal
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import Skip  # noqa: E402  (the path is set just above)

WHY_CHARACTERS_MAX = 400


def why(error):
    """One line: where in the test, and what was said."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if pathlib.Path(frame.filename).stem.endswith("_test")]
    place = f" ({pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}").strip()
    if len(text) > WHY_CHARACTERS_MAX:  # what was found stands at the beginning of a message, or at its end
        text = f"{text[:WHY_CHARACTERS_MAX // 2]} … {text[-WHY_CHARACTERS_MAX // 2:]}"
    return text + place


def ended(number, frame):
    """SIGTERM, such as from a timeout: the tests' own clearing up runs."""
    sys.exit(128 + number)


def main():
    signal.signal(signal.SIGTERM, ended)
    build, wanted = sys.argv[1], sys.argv[2:]
    passed, failed, skipped = 0, [], 0
    for path in sorted(HERE.glob("*_test.py")):
        module = importlib.import_module(path.stem)
        for name, function in list(vars(module).items()):
            if not name.startswith("test_") or not callable(function) or function.__module__ != path.stem:
                continue
            title = f"{path.stem}.{name}"
            if wanted and not any(word in title for word in wanted):
                continue
            began = time.monotonic()
            try:
                function(build)
                passed += 1
                print(f"ok    {title} ({time.monotonic() - began:.1f} s)", flush=True)
            except Skip as reason:
                skipped += 1
                print(f"skip  {title}: {reason}", flush=True)
            except Exception as error:
                failed.append((title, why(error)))
                print(f"FAIL  {title} ({time.monotonic() - began:.1f} s)", flush=True)
                traceback.print_exc(file=sys.stdout)
    if skipped:
        print(f"{skipped} skipped")
    for title, reason in failed:
        print(f"failed: {title}: {reason}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


try:
    status = main()
except SystemExit as ending:
    status = ending.code
sys.stdout.flush()
os._exit(status)  # a thread that a failed test has left holds nobody up
