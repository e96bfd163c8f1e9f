"""Requests from descriptions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.scan.load.openapi import LeftOut, requests_of, sample
from pipeline.scan.load.plan import Request

NOTES: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "https://example.com/v1/"}],
    "paths": {
        "/notes": {
            "get": {
                "parameters": [
                    {
                        "in": "query",
                        "name": "limit",
                        "required": True,
                        "schema": {"type": "integer", "minimum": 5, "maximum": 9},
                    },
                    {"in": "query", "name": "after", "schema": {"type": "string"}},
                ]
            },
            "post": {
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}
                }
            },
        },
        "/notes/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {},
            "delete": {},
        },
        "/me": {"get": {"security": [{"token": []}]}},
    },
    "components": {
        "parameters": {
            "Id": {
                "in": "path",
                "name": "id",
                "required": True,
                "schema": {"type": "string", "format": "uuid"},
            }
        },
        "schemas": {
            "New": {
                "type": "object",
                "required": ["text", "kind"],
                "properties": {
                    "text": {"type": "string", "minLength": 8},
                    "kind": {"enum": ["a"]},
                    "more": {},
                },
            }
        },
    },
}


def test_what_only_reads_is_sent_with_parameters_that_fit() -> None:
    requests, left_out = requests_of(NOTES)

    listing, one = requests
    assert (listing.name, listing.method, listing.expect) == ("GET /notes", "GET", ())
    assert set(listing.paths) <= {f"/v1/notes?limit={limit}" for limit in range(5, 10)}
    assert (one.name, len(one.paths), 404 in one.expect, 500 in one.expect) == (
        "GET /notes/{id}",
        8,
        True,
        False,
    )
    assert all(len(path) == len("/v1/notes/") + 36 for path in one.paths)
    assert left_out == [
        LeftOut(operation="POST /notes", why="it may change something; `operations` would name it"),
        LeftOut(operation="DELETE /notes/{id}", why="it may change something; `operations` would name it"),
        LeftOut(operation="GET /me", why="it needs credentials; describe it under `requests`"),
    ]


def test_an_operation_that_is_named_is_sent_with_a_body_that_fits() -> None:
    requests, _ = requests_of(NOTES, ["post /notes"])

    added = next(one for one in requests if one.method == "POST")
    body = json.loads(added.body)
    assert (added.headers, added.paths, body["kind"], set(body)) == (
        {"content-type": "application/json"},
        ("/v1/notes",),
        "a",
        {"text", "kind"},
    )
    assert len(body["text"]) == 8


def test_the_same_description_gives_the_same_requests() -> None:
    assert requests_of(NOTES) == requests_of(json.loads(json.dumps(NOTES)))


@pytest.mark.parametrize(
    "description",
    [{}, {"paths": {"/": None}}, {"paths": {"/": {"get": []}}}, {"paths": {"/": {"$ref": "#/nowhere"}}}],
    ids=["empty", "null", "list", "dangling"],
)
def test_odd_descriptions_do_no_harm(description: dict[str, Any]) -> None:
    requests, _ = requests_of(description)

    assert requests in ([], [Request(name="GET /", paths=("/",))])


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "example": "x"}, "x"),
        ({"enum": ["only"]}, "only"),
        ({"anyOf": [{"type": "null"}, {"const": 3}]}, 3),
        ({"allOf": [{"type": "object", "required": ["a"], "properties": {"a": {"const": 1}}}]}, {"a": 1}),
        ({"type": "array", "items": {"const": 2}, "minItems": 2}, [2, 2]),
        ({"type": ["null", "integer"], "minimum": 4, "maximum": 4}, 4),
        ({"type": "integer", "minimum": 7, "multipleOf": 5, "maximum": 10}, 10),
        ({"type": "string", "maxLength": 2, "default": None, "pattern": "a"}, "a"),
    ],
)
def test_samples_fit_their_schema(schema: dict[str, Any], value: Any) -> None:
    import random

    made = sample({}, schema, random.Random(1))  # noqa: S311 - any values will do

    assert made == value or (isinstance(value, str) and str(made).startswith(value))


def test_a_schema_that_holds_itself_ends() -> None:
    import random

    tree = {
        "components": {
            "schemas": {
                "T": {
                    "type": "object",
                    "required": ["t"],
                    "properties": {"t": {"$ref": "#/components/schemas/T"}},
                }
            }
        }
    }

    made = sample(tree, {"$ref": "#/components/schemas/T"}, random.Random(1))  # noqa: S311 - any values will do

    assert "t" in made
