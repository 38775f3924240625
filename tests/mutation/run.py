#!/usr/bin/python3
"""make mutation: breaks the code on purpose, one way at a time, and sees whether the tests notice.

run.py [--only TEXT] [--list | --check] [FILE.toml…]

Each `[[mutation]]` of tests/mutation/*.toml names a file, the text to be replaced there (which must occur exactly once, so that a
list that has gone stale says so), what it becomes, and the tests that ought to fail: names of test programs below the build folder,
with arguments. The tree is copied and built in a folder of its own; the copy is mended after each try. Exit status 1: a mutation
survived, or did not apply.
"""
import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TEST_SECONDS = 300


def tree_copy(to):
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                            capture_output=True).stdout
    for name in listed.decode().split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def built(tree, targets):
    return subprocess.run(["ninja", "-C", tree / "build", *targets], capture_output=True, text=True)


def failing(tree, tests):
    """The first test that fails, or None. A hang is a failure as well."""
    for test in tests:
        words = shlex.split(test)
        try:
            done = subprocess.run([tree / "build" / words[0], *words[1:]], cwd=tree / "build", capture_output=True, timeout=TEST_SECONDS)
        except subprocess.TimeoutExpired:
            return f"{test} (hangs)"
        if done.returncode:
            return test
    return None


def stale(one, tree=ROOT):
    """Why the list no longer fits the code, or None."""
    path = tree / one["file"]
    places = path.read_text().count(one["old"]) if path.is_file() else 0
    return None if places == 1 else f"the list is stale: {places} places in {one['file']}"


def mutate(tree, one):
    """What became of it: the test that caught it, or what went wrong."""
    if stale(one, tree):
        return False, stale(one, tree)
    path = tree / one["file"]
    whole = path.read_text()
    path.write_text(whole.replace(one["old"], one["new"]))
    try:
        targets = sorted({shlex.split(test)[0] for test in one["tests"]})
        done = built(tree, targets)
        if done.returncode:
            return False, "does not build:\n" + done.stdout[-2000:]
        caught = failing(tree, one["tests"])
        return caught is not None, f"caught by {caught}" if caught else "SURVIVED"
    finally:
        path.write_text(whole)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", help="mutations whose name or file holds this text")
    options.add_argument("--list", action="store_true", help="print them and do nothing")
    options.add_argument("--check", action="store_true", help="only say which no longer fit the code")
    options.add_argument("lists", nargs="*", type=pathlib.Path)
    options = options.parse_args()
    lists = options.lists or sorted((ROOT / "tests/mutation").glob("*.toml"))
    mutations = [one for path in lists for one in tomllib.loads(path.read_text())["mutation"]
                 if not options.only or options.only in one["name"] or options.only in one["file"]]
    if options.list:
        print("\n".join(f"{one['file']}: {one['name']}" for one in mutations))
        return 0
    if options.check:
        unfit = [f"{one['name']}: {stale(one)}" for one in mutations if stale(one)]
        print("\n".join([*unfit, f"{len(mutations) - len(unfit)} of {len(mutations)} fit"]))
        return 1 if unfit else 0
    survived = []
    with tempfile.TemporaryDirectory(prefix="turnpike-mutation-") as folder:
        tree = pathlib.Path(folder)
        tree_copy(tree)
        # Mutants are full of unused things; they are to be caught by tests, not by warnings.
        subprocess.run(["meson", "setup", tree / "build", tree], check=True, capture_output=True, env={**os.environ, "CFLAGS": "-w"})
        targets = sorted({shlex.split(test)[0] for one in mutations for test in one["tests"]})
        done = built(tree, targets)
        if done.returncode:
            print(done.stdout[-4000:])
            return 1
        wrong = failing(tree, sorted({test for one in mutations for test in one["tests"]}))
        if wrong:
            print(f"{wrong} fails without any mutation")
            return 1
        for one in mutations:
            began = time.monotonic()
            caught, what = mutate(tree, one)
            print(f"{'ok   ' if caught else 'FAIL '} {one['file']}: {one['name']}: {what} ({time.monotonic() - began:.0f} s)", flush=True)
            if not caught:
                survived.append(one["name"])
    print(f"{len(mutations) - len(survived)} caught, {len(survived)} survived")
    return 1 if survived else 0


sys.exit(main())
