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


SPECIALS: Final = (urls, credential_files, connection_strings, keys)
