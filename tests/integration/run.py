#!/usr/bin/python3
"""Runs the integration tests: run.py BUILD [NAME…]. Prints one line a test; the last line is `N passed, N failed`."""
import importlib
import pathlib
import signal
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import Skip  # noqa: E402  (the path is set just above)


def ended(number, frame):
    """SIGTERM, such as from a timeout: the tests' own clearing up runs."""
    sys.exit(128 + number)


def main():
    signal.signal(signal.SIGTERM, ended)
    build, wanted = sys.argv[1], sys.argv[2:]
    passed = failed = skipped = 0
    for path in sorted(HERE.glob("*_test.py")):
        module = importlib.import_module(path.stem)
        for name, function in list(vars(module).items()):
            if not name.startswith("test_") or not callable(function):
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
            except Exception:
                failed += 1
                print(f"FAIL  {title}", flush=True)
                traceback.print_exc(file=sys.stdout)
    if skipped:
        print(f"{skipped} skipped")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
