"""Write the JSON Schema of config.yaml, which editors use, from the configuration's models.

Run ``python -m scripts.make_config_schema`` after changing a key.
"""

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from centernetd.config.sections import FileConfig, Section, StreamDefaults, StreamEntry

PATH = Path(__file__).resolve().parent.parent / "daemon/centernetd/config/schema.json"


class _Generator(GenerateJsonSchema):
    """Omits titles and defaults; `_add_defaults` adds the latter as the file writes them."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401
        return False


def render() -> str:
    """Return the schema as text, generated from the models."""
    schema = FileConfig.model_json_schema(schema_generator=_Generator)
    for section in Section.__subclasses__():
        if section.__name__ in schema["$defs"]:
            _add_defaults(schema["$defs"][section.__name__], section)
    _add_defaults(schema["$defs"][StreamEntry.__name__], StreamDefaults)
    schema["properties"]["node"]["default"] = None
    for part in (schema, *schema["$defs"].values()):
        part["patternProperties"] = {"^x-": {}}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "centernetd configuration"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _add_defaults(schema: dict[str, Any], section: type[Section]) -> None:
    for key, value in section.model_construct().model_dump(mode="json").items():
        if not isinstance(value, dict) or not value:
            schema["properties"][key]["default"] = value


if __name__ == "__main__":
    PATH.write_text(render())
