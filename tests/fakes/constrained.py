"""Replies that have to be JSON, as constrained decoding makes them: valid, and by the schema if there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_DEEPEST: Final = 8  # levels of a schema that refers to itself


def json_reply(text: str, form: str | Schema) -> str:
    """A reply in the wanted form: `text` itself where it is that already.

    Args:
        text: what would be said freely.
        form: "json" for any object, or a JSON Schema.
    """
    schema: Schema = {"type": "object"} if isinstance(form, str) else form
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.keys() >= set(schema.get("required", ())):
        return text
    if isinstance(form, str):
        return json.dumps({"said": text}, ensure_ascii=False)
    return json.dumps(_example(form, form, text), ensure_ascii=False)


def _example(schema: Schema, root: Schema, text: str, depth: int = 0) -> Any:
    """The plainest value that a schema allows; `text` where it may be any text."""
    if "$ref" in schema:
        found: Any = root
        for key in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found[key]
        return _example(found, root, text, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return _example(schema[key][0], root, text, depth + 1)
    kind = schema.get("type", "object")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            wanted = schema.get("properties", {}) if depth < _DEEPEST else {}
            return {key: _example(part, root, text, depth + 1) for key, part in wanted.items()}
        case "array":
            number = max(schema.get("minItems", 1 if depth < _DEEPEST else 0), 0)
            return [_example(schema.get("items", {}), root, text, depth + 1) for _ in range(number)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return text
