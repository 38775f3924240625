#!/usr/bin/python3
"""Turns a file into a C array: embed.py INPUT OUTPUT NAME."""
import sys

source, target, name = sys.argv[1:]
with open(source, "rb") as stream:
    content = stream.read()
with open(target, "w", encoding="ascii") as out:
    out.write("#include <stddef.h>\n")
    out.write(f"extern const unsigned char {name}[];\nextern const size_t {name}_bytes;\n")
    out.write(f"_Alignas(16) const unsigned char {name}[] = {{\n")
    for at in range(0, len(content), 16):
        out.write("".join(f"0x{byte:02x}," for byte in content[at:at + 16]) + "\n")
    out.write(f"}};\nconst size_t {name}_bytes = {len(content)};\n")
