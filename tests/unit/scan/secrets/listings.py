# ruff: noqa: E501 - lines are as long as those of the files they stand for
"""Files that list much that looks like secrets, and manifests that hold some."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.unit.scan.secrets.kinds import (
    ALNUM,
    B64,
    HEX,
    SAFE,
    Corpus,
    b64,
    draw,
    jwt,
    password,
    pem_body,
)
from tests.unit.scan.secrets.specials import add

if TYPE_CHECKING:
    import random


def manifests(r: random.Random, corpus: Corpus) -> None:
    pw, raw, token = password(r), draw(r, ALNUM, 32), draw(r, SAFE, 40)
    kube = b64(
        "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(pem_body(r)) + "\n-----END RSA PRIVATE KEY-----\n"
    )
    text = f"""apiVersion: v1
kind: Secret
metadata:
  name: api
type: Opaque
data:
  username: {b64("app-user-01")}
  password: {b64(pw)}
  api-token: {b64(raw)}
  ca.crt: {b64("-----BEGIN CERTIFICATE-----" + draw(r, B64, 200))}
  mode: {b64("production-eu-1")}
  stopgap: {b64("changeme")}
---
apiVersion: v1
kind: Secret
metadata:
  name: more
stringData:
  jwt-secret: "{token}"
  template: "{{{{ .Values.password }}}}"
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  checksum: {draw(r, HEX, 64)}
  greeting: {b64("hello there, general")}
---
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
spec:
  encryptedData:
    password: AgB{draw(r, B64, 300)}
"""
    add(
        corpus,
        "k8s/secrets.yaml",
        text,
        ("k8s-data", b64(pw)),
        ("k8s-data", b64(raw)),
        ("k8s-string", token),
        decoys=(
            ("k8s", "username:"),
            ("k8s", "ca.crt:"),
            ("k8s", "mode:"),
            ("k8s", "stopgap:"),
            ("k8s", "template:"),
            ("k8s", "checksum:"),
            ("k8s", "greeting:"),
            ("sealed", "password: AgB"),
        ),
    )
    add(
        corpus,
        "ops/kubeconfig",
        f"users:\n- name: admin\n  user:\n    client-certificate-data: {b64('-----BEGIN CERTIFICATE-----' + draw(r, B64, 300))}\n    client-key-data: {kube}\n    token: {jwt(r)}\n",
        ("kubeconfig", "client-key-data"),
        ("kubeconfig", "token:"),
        decoys=(("certificate", "client-certificate-data"),),
    )
    django = draw(r, "abcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*(-_=+)", 50)
    add(
        corpus,
        "src/app/settings.py",
        f"SECRET_KEY = '{django}'\nDEBUG = False\nSTATIC_URL = '/static/'\nAUTH_PASSWORD_VALIDATORS = []\nSESSION_COOKIE_NAME = 'acme_session'\n",
        ("django", django),
        decoys=(("setting", "SESSION_COOKIE_NAME"),),
    )
    workflow = (
        "jobs:\n  deploy:\n    env:\n      TOKEN: ${{ secrets.TOKEN }}\n    steps:\n      - uses: actions/checkout@"
        + draw(r, HEX, 40)
        + "\n      - run: ./deploy\n        env:\n          API_KEY: ${{ secrets.API_KEY }}\n"
    )
    add(
        corpus,
        ".github/workflows/deploy.yml",
        workflow,
        decoys=(("workflow", "TOKEN: $"), ("workflow", "actions/checkout"), ("workflow", "API_KEY: $")),
    )


def listings(r: random.Random, corpus: Corpus) -> None:
    rows = "".join(f'    {{file = "p-{i}.whl", hash = "sha256:{draw(r, HEX, 64)}"}},\n' for i in range(8))
    add(
        corpus,
        "poetry.lock",
        f'[[package]]\nname = "secretstorage"\nversion = "3.3.3"\nfiles = [\n{rows}]\ncontent-hash = "{draw(r, HEX, 64)}"\n',
        decoys=(("lock", "p-0"), ("lock", "p-5"), ("lock", "content-hash")),
    )
    deps = {
        f"node_modules/token-{i}": {
            "version": f"1.{i}.0",
            "integrity": "sha512-" + draw(r, B64, 86) + "==",
            "resolved": f"https://registry.npmjs.org/token-{i}/-/token-{i}-1.{i}.0.tgz",
        }
        for i in range(5)
    }
    add(
        corpus,
        "web/package-lock.json",
        json.dumps({"packages": deps}, indent=2),
        decoys=(("lock", "token-1"), ("lock", "token-3")),
    )
    words = {
        "password": "Kennwort",
        "password_hint": "Mindestens 8 Zeichen",
        "token": "Zugangscode",
        "secret": "Geheimnis2Faktor",
        "api_key": "API-Schlüssel",
        "reset_password": "Passwort zurücksetzen",
    }
    add(
        corpus,
        "web/locales/de.json",
        json.dumps(words, indent=2, ensure_ascii=False),
        decoys=(
            ("translation", '"password"'),
            ("translation", "Geheimnis2Faktor"),
            ("translation", '"api_key"'),
        ),
    )
    add(
        corpus,
        "locale/fr/django.po",
        'msgid "Password:"\nmsgstr "Mot de passe :"\n\nmsgid "token"\nmsgstr "jeton-d-acces-2"\n',
        decoys=(("translation", "Mot de passe"), ("translation", "jeton-d-acces-2")),
    )
    minified = (
        "!function(e){"
        + ";".join(f'var {c}=e.token||"{draw(r, ALNUM, 6)}"' for c in "abcdefgh")
        + f';e.password="input-password2",e.k="{draw(r, B64, 60)}"}}(window);'
    )
    add(corpus, "web/dist/app.min.js", minified, decoys=(("minified", "!function"),))
    maps = json.dumps({"version": 3, "sources": ["a.js"], "mappings": "AAAA;" + draw(r, ALNUM + ",;", 3000)})
    add(corpus, "web/build/app.js.map", maps, decoys=(("source-map", '"mappings"'),))
    rows = "\n".join(
        f'    assert sha256_of("fixture-{i}") == "{draw(r, HEX, 64)}"\n    token_hash = "{draw(r, HEX, 40)}"'
        for i in range(4)
    )
    test = f'def test_digests() -> None:\n{rows}\n\n\ndef test_login(client) -> None:\n    client.login(username="alice", password="testpass123")\n    user = make_user(password="correct-horse")\n    token = "abc123"\n'
    add(
        corpus,
        "tests/test_digests.py",
        test,
        decoys=(
            ("test-hash", "fixture-0"),
            ("test-hash", "token_hash"),
            ("test-password", "testpass123"),
            ("test-password", "correct-horse"),
            ("test-token", "abc123"),
        ),
    )
    picture = "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAA" + draw(r, B64, 2000)
    add(
        corpus,
        "notebooks/plot.ipynb",
        json.dumps(
            {
                "cells": [
                    {
                        "outputs": [{"data": {"image/png": picture}}],
                        "source": ["token_count = len(tokens)\n", "plot(secret=False)\n"],
                    }
                ]
            },
            indent=1,
        ),
        decoys=(("image", "image/png"), ("code", "token_count")),
    )
    schema = {
        "properties": {
            "password": {"type": "string", "format": "password", "minLength": 8},
            "token": {"type": "string", "example": "string"},
        },
        "required": ["password", "token"],
        "securitySchemes": {"apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
    }
    add(
        corpus,
        "docs/openapi.json",
        json.dumps(schema, indent=2),
        decoys=(("schema", '"password": {'), ("schema", '"name": "X-API-Key"')),
    )
    add(
        corpus,
        "web/src/forms.html",
        '<input type="password" name="password" placeholder="Your password" autocomplete="new-password">\n<label for="api_key">API key</label>\n<script src="/a.js" integrity="sha384-'
        + draw(r, B64, 64)
        + '"></script>\n',
        decoys=(("html", "<input"), ("html", "<label"), ("sri", "integrity")),
    )
    code = f"""import os

password = os.environ["DB_PASSWORD"]
api_key = os.getenv("API_KEY", "")
token = get_token(request.headers["Authorization"])
secret = config("SECRET_KEY", default="change-me-in-production")
password = getpass.getpass("Password for the database: ")
if token.type == "ACCESS_TOKEN_TYPE_2":
    raise InvalidToken("token has expired, request a new one")
etag = "{draw(r, HEX, 32)}"
logger.info("password: %s", masked)
auth_header = f"Bearer {{token}}"
ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{draw(r, B64, 43)}"
"""
    parts = (
        "os.environ",
        "os.getenv",
        "get_token",
        "change-me",
        "getpass.getpass",
        "ACCESS_TOKEN_TYPE_2",
        "InvalidToken",
        "etag",
        "logger",
        "auth_header",
        "ssh_public_key",
    )
    add(corpus, "src/app/code.py", code, decoys=tuple(("code", part) for part in parts))


LISTINGS: Final = (manifests, listings)
