# ruff: noqa: E501 - lines are as long as those of the files they stand for
"""Files that hold secrets in ways of their own: credential files, keys, manifests, lock files and the like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.unit.scan.secrets.kinds import (
    ALNUM,
    B64,
    HEX,
    SAFE,
    Corpus,
    Mark,
    b64,
    draw,
    jwt,
    password,
    pem_body,
    url_password,
    uuid4,
)

if TYPE_CHECKING:
    import random


def add(
    corpus: Corpus, path: str, text: str, *secrets: tuple[str, str], decoys: tuple[tuple[str, str], ...] = ()
) -> None:
    """Add a file; each secret and look-alike is (kind, part of its line)."""
    corpus.files[path] = text
    for marks, found in ((corpus.secrets, secrets), (corpus.decoys, decoys)):
        for kind, part in found:
            assert part in text, (path, kind, part)
            marks.append(Mark(path, text[: text.index(part)].count("\n") + 1, kind, part))


def urls(r: random.Random, corpus: Corpus) -> None:
    rows, secrets = [], []
    for scheme in (
        "postgres",
        "postgresql+asyncpg",
        "mysql",
        "mongodb+srv",
        "redis",
        "rediss",
        "amqp",
        "https",
        "ftp",
        "smtp",
        "ldap",
    ):
        value = url_password(r)
        user = "" if scheme.startswith("redis") else r.choice(["app", "svc_orders", "deploy"])
        rows.append(
            f'{scheme.upper().replace("+", "_")}_URL = "{scheme}://{user}:{value}@db{r.randint(1, 9)}.internal:5432/shop?x=1"'
        )
        secrets.append((f"url-{scheme}", value))
    decoys = [
        "postgres://user:password@localhost:5432/db",
        "mysql://root:root@127.0.0.1/app",
        "redis://:${REDIS_PASSWORD}@cache:6379",
        "https://<user>:<token>@git.acme.io/x.git",
        "amqp://guest:guest@rabbit:5672//",
        "postgresql://{user}:{password}@{host}/{name}",
        "mongodb://admin:changeme@mongo:27017",
        "https://example.com:8443/path@v2",
        "http://user:pass@example.com/",
        "postgres://postgres:postgres@db/app",
        "https://%s:%s@%s/api",
        "smtp://${USER}:${PASS}@mail",
        "git@github.com:acme/shop.git",
        "https://cdn.acme.io/npm/@scope/pkg@1.2.3/dist",
        "http://localhost:3000/@fs/src",
        "https://$USER:$TOKEN@host/x",
    ]
    rows += [f'DECOY_{index} = "{url}"' for index, url in enumerate(decoys)]
    add(corpus, "src/app/urls.py", "\n".join(rows), *secrets, decoys=tuple(("url", url) for url in decoys))


def credential_files(r: random.Random, corpus: Corpus) -> None:
    pw = [password(r).replace("'", "") for _ in range(12)]
    add(
        corpus,
        "ops/.netrc",
        f"machine git.acme.io\n  login deploy\n  password {pw[0]}\n\nmachine api.acme.io login ci password {pw[1]}\n",
        ("netrc", pw[0]),
        ("netrc", pw[1]),
    )
    add(
        corpus,
        "ops/.pgpass",
        f"# host:port:db:user:password\ndb.internal:5432:shop:app:{url_password(r)}\n",
        ("pgpass", "db.internal:"),
    )
    token = uuid4(r)
    basic = b64(f"ci:{pw[2]}")
    add(
        corpus,
        "web/.npmrc",
        f"registry=https://npm.acme.io/\n//npm.acme.io/:_authToken={token}\n//old.acme.io/:_password={b64(pw[3])}\n//x.acme.io/:_authToken=${{NPM_TOKEN}}\n_auth={basic}\n",
        ("npmrc", token),
        ("npmrc", b64(pw[3])),
        ("npmrc", basic),
        decoys=(("npmrc", "${NPM_TOKEN}"),),
    )
    add(
        corpus,
        "ops/.pypirc",
        f"[distutils]\nindex-servers = internal\n\n[internal]\nrepository = https://pypi.acme.io\nusername = ci\npassword = {pw[4]}\n",
        ("pypirc", pw[4]),
    )
    auth = b64(f"robot:{draw(r, ALNUM, 24)}")
    add(
        corpus,
        "ops/.docker/config.json",
        json.dumps({"auths": {"registry.acme.io": {"auth": auth}}, "credsStore": "desktop"}, indent=2),
        ("docker-auth", auth),
    )
    add(corpus, "ops/my.cnf", f"[client]\nuser=backup\npassword={pw[5]}\n", ("my.cnf", pw[5]))
    add(
        corpus,
        "ops/redis.conf",
        f"bind 0.0.0.0\nrequirepass {draw(r, ALNUM, 24)}\n",
        ("redis.conf", "requirepass"),
    )
    add(
        corpus,
        "db/users.sql",
        f"CREATE USER app WITH PASSWORD '{pw[6]}';\nCREATE USER 'x'@'%' IDENTIFIED BY '{pw[7]}';\nCREATE USER y WITH PASSWORD 'changeme';\n",
        ("sql", pw[6]),
        ("sql", pw[7]),
        decoys=(("sql", "'changeme'"),),
    )
    add(
        corpus,
        "ops/wg0.conf",
        f"[Interface]\nPrivateKey = {draw(r, B64, 42)}E=\nAddress = 10.0.0.1/24\n[Peer]\nPublicKey = {draw(r, B64, 42)}E=\n",
        ("wireguard", "PrivateKey"),
        decoys=(("public-key", "PublicKey"),),
    )
    curl = [
        password(r).replace(":", "").replace("'", ""),
        draw(r, SAFE, 40),
        b64(f"api:{draw(r, ALNUM, 18)}"),
        draw(r, ALNUM, 30),
    ]
    add(
        corpus,
        "scripts/calls.sh",
        f"""#!/bin/sh
curl -u 'ci:{curl[0]}' https://api.acme.io/v1
curl -H "Authorization: Bearer {curl[1]}" https://api.acme.io/v1/me
curl -H "Authorization: Basic {curl[2]}" https://api.acme.io/v2
curl -H "X-Api-Key: {curl[3]}" https://api.acme.io/v3
curl -H "Authorization: Bearer $TOKEN" https://api.acme.io/v1/me
curl -H "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" https://api.acme.io
curl -u "$USER:$PASS" https://api.acme.io
mysql -u root -p"$MYSQL_PASSWORD" shop < dump.sql
login --password {pw[8].replace("!", "").replace("&", "").replace("*", "")} --user ci
""",
        ("curl", curl[0]),
        ("bearer", curl[1]),
        ("basic", curl[2]),
        ("header", curl[3]),
        ("flag", "login --password"),
        decoys=(
            ("header", "Bearer $TOKEN"),
            ("header", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("header", '"$USER:$PASS"'),
            ("header", '-p"$MYSQL'),
        ),
    )


def connection_strings(r: random.Random, corpus: Corpus) -> None:
    pw = [draw(r, ALNUM + "!-_", 14) + "7q" for _ in range(6)]
    key = draw(r, B64, 86) + "=="
    sas = draw(r, B64, 43) + "="
    text = f"""{{
  "ConnectionStrings": {{
    "Main": "Server=tcp:sql.acme.io,1433;Database=shop;User ID=app;Password={pw[0]};Encrypt=True;",
    "Legacy": "Data Source=db;User Id=sa;Pwd={pw[1]};",
    "Storage": "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={key};EndpointSuffix=core.windows.net",
    "Bus": "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={sas}",
    "Local": "Server=localhost;Database=shop;Trusted_Connection=True;",
    "Template": "Server=db;User Id=app;Password={{password}};",
    "Env": "Server=db;User Id=app;Password=${{DB_PASSWORD}};"
  }}
}}
"""
    add(
        corpus,
        "Api/appsettings.json",
        text,
        ("ado", pw[0]),
        ("ado", pw[1]),
        ("azure-storage", key),
        ("azure-bus", sas),
        decoys=(("ado", '"Local"'), ("ado", '"Template"'), ("ado", '"Env"')),
    )
    java = f"""    private static final String URL = "jdbc:postgresql://db/shop?user=app&password={pw[2]}&ssl=true";
    private static final String ORACLE = "jdbc:oracle:thin:app/{url_password(r)}@//db:1521/shop";
    String dsn = "host=db dbname=shop user=app password={pw[3]}";
    String none = "jdbc:postgresql://db/shop?user=app&password=" + password;
"""
    add(
        corpus,
        "server/src/main/java/io/acme/Db.java",
        java,
        ("jdbc", pw[2]),
        ("jdbc-oracle", "oracle:thin"),
        ("dsn", pw[3]),
        decoys=(("jdbc", "String none"),),
    )
    spring = f"spring.datasource.url=jdbc:mysql://db/shop?user=app&password={pw[4]}\nspring.datasource.password={pw[5]}\nspring.mail.password=${{MAIL}}\n"
    add(
        corpus,
        "src/main/resources/application-prod.properties",
        spring,
        ("jdbc", pw[4]),
        ("properties", pw[5]),
        decoys=(("properties", "${MAIL}"),),
    )


def keys(r: random.Random, corpus: Corpus) -> None:
    for name, label in (
        ("id_rsa", "OPENSSH "),
        ("server.key", "RSA "),
        ("ec.pem", "EC "),
        ("pkcs8.pem", ""),
        ("old.pem", "ENCRYPTED "),
    ):
        body = "\n".join(pem_body(r, start="MIIE"))
        add(
            corpus,
            f"certs/{name}",
            f"-----BEGIN {label}PRIVATE KEY-----\n{body}\n-----END {label}PRIVATE KEY-----\n",
            (f"pem-{label.strip()}", "-----BEGIN"),
        )
    body = "\n".join(pem_body(r))
    add(
        corpus,
        "certs/release.asc",
        f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{body}\n=Ab3d\n-----END PGP PRIVATE KEY BLOCK-----\n",
        ("pgp", "-----BEGIN"),
    )
    flat = "\\n".join(pem_body(r, start="MIIE"))
    account = f'{{\n  "type": "service_account",\n  "project_id": "acme",\n  "private_key_id": "{draw(r, HEX, 40)}",\n  "private_key": "-----BEGIN PRIVATE KEY-----\\n{flat}\\n-----END PRIVATE KEY-----\\n",\n  "client_email": "ci@acme.iam.gserviceaccount.com"\n}}\n'
    add(
        corpus,
        "ops/gcp.json",
        account,
        ("gcp-service-account", '"private_key":'),
        decoys=(("key-id", "private_key_id"),),
    )
    ppk = "\n".join(draw(r, B64, 64) for _ in range(8))
    add(
        corpus,
        "ops/server.ppk",
        f"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: ci\nPublic-Lines: 6\n{ppk}\nPrivate-Lines: 8\n{ppk[::-1]}\nPrivate-MAC: {draw(r, HEX, 64)}\n",
        ("putty", "PuTTY"),
    )
    public = "\n".join(pem_body(r, 8, "MIIB"))
    add(
        corpus,
        "certs/server.crt",
        f"-----BEGIN CERTIFICATE-----\n{public}\n-----END CERTIFICATE-----\n",
        decoys=(("certificate", "-----BEGIN"),),
    )
    add(
        corpus,
        "certs/jwt.pub",
        f"-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----\n",
        decoys=(("public-key", "-----BEGIN"),),
    )
    add(
        corpus,
        "src/app/pem.py",
        'HEADER = "-----BEGIN RSA PRIVATE KEY-----"\nFOOTER = "-----END RSA PRIVATE KEY-----"\nFAKE = """-----BEGIN PRIVATE KEY-----\nMIIE...\n-----END PRIVATE KEY-----"""\n',
        decoys=(("pem-header", "HEADER"), ("pem-fake", "FAKE")),
    )


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


SPECIALS: Final = (urls, credential_files, connection_strings, keys, manifests, listings)
