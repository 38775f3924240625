"""Answers held against openapi.json: JSON Schema 2020-12 as far as that document uses it, strictly: a member that no schema names is an error."""
import json
import re

KEYWORDS = {"type", "enum", "const", "properties", "required", "items", "prefixItems", "minItems", "maxItems", "allOf", "oneOf", "$ref",
            "additionalProperties", "pattern", "minimum", "maximum", "minLength", "maxLength", "format", "description", "default"}
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?(Z|[+-]\d\d:\d\d)")
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_of(value, name):
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


class Document:
    def __init__(self, text):
        self.whole = json.loads(text)
        self.used = set()  # members of schemas that an answer has had, to find those that none had

    def resolve(self, schema):
        while "$ref" in schema:
            assert set(schema) <= {"$ref", "description"}, schema
            at = self.whole
            for part in schema["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            schema = at
        return schema

    def members(self, schema):
        """Of an object, through allOf: every schema of a name, and what else it may have (None: nothing)."""
        schema = self.resolve(schema)
        named, other = dict(schema.get("properties", {})), schema.get("additionalProperties")
        for part in schema.get("allOf", []):
            more, beyond = self.members(part)
            named |= more
            other = other or beyond
        return named, other

    def check(self, schema, value, where="", closed=True):
        """What is wrong, one line each. closed: a member that nobody names is wrong."""
        schema = self.resolve(schema)
        assert set(schema) <= KEYWORDS, f"{where}: {set(schema) - KEYWORDS} is not checked"
        wrong = []
        types = schema.get("type", [])
        types = [types] if isinstance(types, str) else types
        if types and not any(is_of(value, name) for name in types):
            return [f"{where}: expected {types}, found {value!r:.60}"]
        if "enum" in schema and value not in schema["enum"] or "const" in schema and value != schema["const"]:
            wrong.append(f"{where}: {value!r} is none of {schema.get('enum', schema.get('const'))}")
        if isinstance(value, str):
            if "pattern" in schema and not re.search(schema["pattern"], value):
                wrong.append(f"{where}: {value!r} is not {schema['pattern']}")
            if schema.get("format") == "date-time" and not STAMP.fullmatch(value):
                wrong.append(f"{where}: {value!r} is no RFC 3339 time")
            if len(value) < schema.get("minLength", 0) or len(value) > schema.get("maxLength", len(value)):
                wrong.append(f"{where}: {value!r} has {len(value)} characters")
        if is_of(value, "number") and (value < schema.get("minimum", value) or value > schema.get("maximum", value)):
            wrong.append(f"{where}: {value} is out of range")
        for part in schema.get("allOf", []):
            wrong += self.check(part, value, where, closed=False)
        if "oneOf" in schema:
            tried = [self.check(part, value, where) for part in schema["oneOf"]]
            if sum(not one for one in tried) != 1:
                wrong.append(f"{where}: {sum(not one for one in tried)} of oneOf fit: {tried}")
        if isinstance(value, list):
            if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", len(value)):
                wrong.append(f"{where}: {len(value)} items")
            fixed = schema.get("prefixItems", [])
            for i, one in enumerate(value):
                if i < len(fixed):
                    wrong += self.check(fixed[i], one, f"{where}[]")
                elif "items" in schema:
                    wrong += self.check(schema["items"], one, f"{where}[]")
                else:
                    wrong.append(f"{where}: no schema for an item")
        if isinstance(value, dict):
            wrong += [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
            named, other = self.members(schema)
            for name, one in value.items():
                if name in schema.get("properties", {}):
                    self.used.add((id(schema), name))
                    wrong += self.check(named[name], one, f"{where}.{name}")
                elif name not in named and isinstance(other, dict) and closed:
                    wrong += self.check(other, one, f"{where}.*")
                elif name not in named and not other and closed and not schema.get("oneOf"):
                    wrong.append(f"{where}.{name} is not documented: {one!r:.60}")
        return wrong

    def operation(self, path, method):
        """The one that a path without its query falls under, by its fixed words first."""
        best = None
        for template, operations in self.whole["paths"].items():
            words, asked = template.split("/"), path.split("/")
            if len(words) == len(asked) and all(word == one or word.startswith("{") and one for word, one in zip(words, asked)):
                if best is None or template.count("{") < best.count("{"):
                    best = template
        assert best, f"{path}: not in the document"
        return best, self.whole["paths"][best][method.lower()]

    def answer(self, method, path, status, content_type, body):
        """What is wrong with an answer."""
        template, operation = self.operation(path.split("?")[0], method)
        where = f"{method} {template} {status}"
        response = operation["responses"].get(str(status))
        if response is None:
            return [f"{where}: this status is not documented"]
        content = self.resolve(response).get("content")
        if content is None:
            return [f"{where}: a body that is not documented"] if body else []
        kind = (content_type or "").split(";")[0]
        if kind not in content:
            return [f"{where}: {kind} is not documented"]
        if kind not in ("application/json", "application/problem+json", "text/event-stream"):
            return []
        if "schema" not in content[kind]:
            return [f"{where}: no schema"]
        return self.check(content[kind]["schema"], json.loads(body), where)

    def never_used(self, template, method, status, kind):
        """Members that an answer of a resource may have, and that no answer has had, in whatever place the same schema stands."""
        schema = self.whole["paths"][template][method.lower()]["responses"][str(status)]["content"][kind]["schema"]
        found = set()

        def walk(one, where):
            one = self.resolve(one)
            for part in one.get("allOf", []) + one.get("oneOf", []):
                walk(part, where)
            for name, member in one.get("properties", {}).items():
                if (id(one), name) not in self.used:
                    found.add(f"{where}.{name}")
                walk(member, f"{where}.{name}")
            for part in one.get("prefixItems", []) + ([one["items"]] if "items" in one else []):
                walk(part, f"{where}[]")
            if isinstance(one.get("additionalProperties"), dict):
                walk(one["additionalProperties"], f"{where}.*")
        walk(schema, f"{method} {template} {status}")
        return found
