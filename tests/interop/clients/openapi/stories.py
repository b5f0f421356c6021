"""PyPI's openapi-spec-validator reads /openapi.json, and jsonschema the problems that are answered."""
import json
import os
import urllib.error
import urllib.request

import jsonschema
from openapi_spec_validator import OpenAPIV31SpecValidator

from story import same, story, tell

URL = os.environ["HTTP_URL"]


def described():
    with urllib.request.urlopen(URL + "/openapi.json", timeout=20) as answer:
        return json.load(answer)


@story
def it_is_openapi():
    errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in OpenAPIV31SpecValidator(described()).iter_errors()]
    same(errors, [])


@story
def operations_are_told_apart():
    """Generators of clients name their functions by operationId."""
    names = [operation["operationId"] for operations in described()["paths"].values() for operation in operations.values()]
    same(len(set(names)), len(names))


@story
def problems_are_as_described():
    description = described()
    for path in ("/nothing", "/queues/none/messages", "/events?from=nowhere", "/subscriptions/none"):
        try:
            urllib.request.urlopen(URL + path, timeout=20)
        except urllib.error.HTTPError as error:
            schema = {"$ref": "#/components/schemas/problem", "components": description["components"]}
            jsonschema.Draft202012Validator(schema).validate(json.loads(error.read()))
        else:
            raise AssertionError(f"{path} was not refused")


tell()
