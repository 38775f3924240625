#!/usr/bin/python3
"""Writes files as C arrays: embed.py OUTPUT FILE… makes the table ctl_asset[] of ctl_web.h."""
import hashlib
import pathlib
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


def main():
    output, *files = sys.argv[1:]
    arrays, rows = [], []
    for number, path in enumerate(map(pathlib.Path, files)):
        data = path.read_bytes()
        lines = [", ".join(str(byte) for byte in data[at:at + 32]) for at in range(0, len(data), 32)]
        arrays.append(f"static const unsigned char bytes_{number}[] = {{\n" + ",\n".join(lines) + "};\n")
        tag = hashlib.sha256(data).hexdigest()[:16]
        rows.append(f'\t{{"{path.name}", "{TYPES[path.suffix]}", "\\"{tag}\\"", bytes_{number}, {len(data)}}},\n')
    text = '#include "ctl_web.h"\n\n' + "\n".join(arrays) + "\nconst struct ctl_asset ctl_asset[] = {\n" + "".join(rows)
    text += f"}};\nconst unsigned ctl_assets = {len(rows)};\n"
    pathlib.Path(output).write_text(text)


main()
