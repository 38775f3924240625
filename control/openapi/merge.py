#!/usr/bin/python3
"""Makes openapi.json of its parts: merge.py OUTPUT BASE PART…. A part has "paths" and may have "schemas"; none may come twice."""
import json
import pathlib
import sys


def take(to, what, path):
    for name, value in what.items():
        if name in to:
            sys.exit(f"{path}: {name} is there already")
        to[name] = value


def main():
    output, base, *parts = sys.argv[1:]
    whole = json.loads(pathlib.Path(base).read_text())
    whole["paths"] = {}
    for path in parts:
        part = json.loads(pathlib.Path(path).read_text())
        take(whole["paths"], part.pop("paths"), path)
        take(whole["components"]["schemas"], part.pop("schemas", {}), path)
        if part:
            sys.exit(f"{path}: expected paths and schemas, found {', '.join(part)}")
    pathlib.Path(output).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


main()
