"""Checks documents against the schemas of OpenAI's published API description: as much of JSON
Schema as that file uses for answers."""
import functools
import json

import pytest

from conftest import shared_path

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
         "number": (int, float), "integer": int}


@functools.lru_cache(maxsize=1)
def description():
    return json.loads(shared_path("data/conformance/openai/openapi.json").read_text())


def resolve(schema):
    while "$ref" in schema:
        target = description()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def is_type(value, name):
    if isinstance(value, bool) and name != "boolean":
        return False
    return isinstance(value, TYPES[name])


def faults(value, schema, where):
    """What is wrong with value, as texts."""
    schema = resolve(schema)
    if value is None and schema.get("nullable"):
        return []
    found = []
    for part in schema.get("allOf", []):
        found += faults(value, part, where)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            tries = [faults(value, part, where) for part in schema[word]]
            if all(tries):
                found += min(tries, key=len)
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(is_type(value, name) for name in names):
        return found + [f"{where}: {value!r} is no {' or '.join(names)}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if "const" in schema and value != schema["const"]:
        found.append(f"{where}: {value!r} is not {schema['const']!r}")
    if isinstance(value, dict):
        found += [f"{where}: no {name}" for name in schema.get("required", []) if name not in value]
        for name, part in schema.get("properties", {}).items():
            if name in value:
                found += faults(value[name], part, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found += faults(item, schema["items"], f"{where}[{i}]")
    return found


def check(value, name):
    """Fails unless value is a `name` of the API description."""
    wrong = faults(value, description()["components"]["schemas"][name], name)
    if wrong:
        pytest.fail("\n".join(wrong))
