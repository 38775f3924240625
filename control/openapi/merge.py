#!/usr/bin/python3
"""
Makes openapi.json of its parts: merge.py OUTPUT BASE PART…. A part has "paths" and may have "schemas"; none may come twice.

What every resource may answer is not said in each part: a problem for each status from 400 on that has no content of its own, and those
statuses that the framing, the gate and the queue before a handler give.
"""
import json
import pathlib
import sys


def take(to, what, path):
    for name, value in what.items():
        if name in to:
            sys.exit(f"{path}: {name} is there already")
        to[name] = value


PROBLEM = {"$ref": "#/components/responses/Problem"}
EVERYWHERE = {"400": "A request or a parameter that cannot be read", "401": "A token is needed", "403": "The token's scope does not reach this",
              "429": "Too many requests; Retry-After", "503": "Not just now; Retry-After"}


def complete(operation):
    responses = operation["responses"]
    for status, response in responses.items():
        if status >= "400" and "$ref" not in response:
            response.setdefault("content", {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}})
    if operation.get("security") != []:
        for status, description in EVERYWHERE.items():
            if responses.get(status, PROBLEM) == PROBLEM:
                responses[status] = {"description": description, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    operation["responses"] = dict(sorted(responses.items()))


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
    for operations in whole["paths"].values():
        for operation in operations.values():
            complete(operation)
    pathlib.Path(output).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


main()
