# ruff: noqa: E501 - lines are as long as those of the files they stand for
"""Tokens of vendors, valid by the checksum where the form has one, and places that say nothing of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
import zlib
from typing import TYPE_CHECKING, Final

from tests.unit.scan.secrets.kinds import ALNUM, B64, DIGITS, HEX, LOWER, SAFE, UPPER, draw, uuid4

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

BASE62: Final = DIGITS + UPPER + LOWER


def base_n(number: int, digits: str, width: int) -> str:
    out = ""
    while number:
        number, rest = divmod(number, len(digits))
        out = digits[rest] + out
    return out.rjust(width, digits[0])


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def b64url(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def crc62(r: Random, prefix: str) -> str:
    body = draw(r, ALNUM, 30)
    return prefix + body + base_n(zlib.crc32(body.encode()), BASE62, 6)


def grafana(r: Random) -> str:
    body = "glsa_" + draw(r, ALNUM, 32)
    return f"{body}_{zlib.crc32(body.encode()):08x}"


def gitlab_routable(r: Random) -> str:
    payload = b64url(f"o:{r.randint(1, 9)}\nu:{r.randint(10, 999999)}\n".encode() + r.randbytes(16))
    body = f"glpat-{payload}.{base_n(len(payload), DIGITS + LOWER, 2)}"
    return (
        body
        + "."
        + base_n(r.randint(0, 9), DIGITS + LOWER, 1)
        + base_n(zlib.crc32(body.encode()), DIGITS + LOWER, 7)
    )


def atlassian(r: Random) -> str:
    body = "ATATT3xFfGF0" + draw(r, SAFE, 171)
    return f"{body}={zlib.crc32(body.encode()):08X}"


def jwt(r: Random) -> str:
    parts = [
        b64url(json.dumps(one))
        for one in (
            {"alg": "HS256", "typ": "JWT"},
            {"sub": str(r.randint(1, 10**6)), "name": draw(r, LOWER, 7), "iat": 1700000000},
        )
    ]
    text = ".".join(parts)
    return f"{text}.{b64url(hmac.new(r.randbytes(32), text.encode(), hashlib.sha256).digest())}"


def discord(r: Random) -> str:
    who = b64url(str(r.randint(10**17, 10**18)).encode())
    return f"{who}.{draw(r, SAFE, 6)}.{draw(r, SAFE, 38)}"


def pypi(r: Random) -> str:
    raw = (
        b"\x02\x01\x08pypi.org\x02\x24"
        + uuid4(r).encode()
        + b'\x00\x02\x2a[3,"'
        + uuid4(r).encode()
        + b'"]\x00\x00\x06\x20'
        + r.randbytes(32)
    )
    return "pypi-" + b64url(raw)


def sentry(r: Random) -> str:
    told = {
        "iat": 1700000000.1 + r.randint(0, 9999),
        "url": "https://sentry.io",
        "region_url": "https://us.sentry.io",
        "org": draw(r, LOWER, 8),
    }
    return f"sntrys_{b64(json.dumps(told))}_{b64(r.randbytes(32)).rstrip('=')}"


def aws_id(r: Random) -> str:
    return r.choice(["AKIA", "ASIA"]) + base64.b32encode(r.randbytes(10)).decode()


TOKENS: Final[dict[str, Callable[[Random], str]]] = {
    "aws-id": aws_id,
    "github-classic": lambda r: crc62(r, "ghp_"),
    "github-oauth": lambda r: crc62(r, "gho_"),
    "github-server": lambda r: crc62(r, "ghs_"),
    "github-fine": lambda r: f"github_pat_{draw(r, ALNUM, 22)}_{draw(r, ALNUM, 59)}",
    "gitlab": lambda r: "glpat-" + draw(r, SAFE, 20),
    "gitlab-routable": gitlab_routable,
    "gitlab-deploy": lambda r: "gldt-" + draw(r, SAFE, 20),
    "gitlab-trigger": lambda r: "glptt-" + draw(r, HEX, 40),
    "gitlab-runner": lambda r: "glrt-" + draw(r, SAFE, 20),
    "npm": lambda r: crc62(r, "npm_"),
    "pypi": pypi,
    "rubygems": lambda r: "rubygems_" + draw(r, HEX, 48),
    "crates": lambda r: "cio" + draw(r, ALNUM, 32),
    "nuget": lambda r: "oy2" + draw(r, LOWER + "234567", 43),
    "clojars": lambda r: "CLOJARS_" + draw(r, HEX, 60),
    "dockerhub": lambda r: "dckr_pat_" + draw(r, SAFE, 27),
    "slack-bot": lambda r: (
        f"xoxb-{r.randint(10**11, 10**12)}-{r.randint(10**12, 10**13)}-{draw(r, ALNUM, 24)}"
    ),
    "slack-user": lambda r: (
        f"xoxp-{r.randint(10**11, 10**12)}-{r.randint(10**11, 10**12)}-{r.randint(10**12, 10**13)}-{draw(r, HEX, 32)}"
    ),
    "slack-app": lambda r: (
        f"xapp-1-A{draw(r, UPPER + DIGITS, 10)}-{r.randint(10**12, 10**13)}-{draw(r, HEX, 64)}"
    ),
    "slack-hook": lambda r: (
        f"https://hooks.slack.com/services/T{draw(r, UPPER + DIGITS, 10)}/B{draw(r, UPPER + DIGITS, 10)}/{draw(r, ALNUM, 24)}"
    ),
    "discord-bot": discord,
    "discord-hook": lambda r: (
        f"https://discord.com/api/webhooks/{r.randint(10**18, 10**19 - 1)}/{draw(r, SAFE, 68)}"
    ),
    "telegram": lambda r: f"{r.randint(10**9, 10**10 - 1)}:AA{draw(r, SAFE, 33)}",
    "stripe": lambda r: r.choice(["sk", "rk"]) + "_live_51" + draw(r, ALNUM, 97),
    "stripe-short": lambda r: "sk_live_" + draw(r, ALNUM, 24),
    "stripe-hook": lambda r: "whsec_" + draw(r, ALNUM, 32),
    "sendgrid": lambda r: f"SG.{draw(r, SAFE, 22)}.{draw(r, SAFE, 43)}",
    "mailgun": lambda r: "key-" + draw(r, HEX, 32),
    "mailchimp": lambda r: f"{draw(r, HEX, 32)}-us{r.randint(1, 21)}",
    "brevo": lambda r: f"xkeysib-{draw(r, HEX, 64)}-{draw(r, ALNUM, 16)}",
    "twilio-key": lambda r: "SK" + draw(r, HEX, 32),
    "google-api": lambda r: "AIza" + draw(r, SAFE, 35),
    "google-oauth": lambda r: "GOCSPX-" + draw(r, SAFE, 28),
    "google-refresh": lambda r: "1//0" + draw(r, DIGITS, 1) + draw(r, SAFE, 62) + "-L9Ir" + draw(r, SAFE, 36),
    "google-access": lambda r: "ya29.a0" + draw(r, SAFE, 160),
    "openai": lambda r: f"sk-proj-{draw(r, SAFE, 74)}T3BlbkFJ{draw(r, SAFE, 74)}",
    "openai-old": lambda r: f"sk-{draw(r, ALNUM, 20)}T3BlbkFJ{draw(r, ALNUM, 20)}",
    "anthropic": lambda r: f"sk-ant-api03-{draw(r, SAFE, 93)}AA",
    "huggingface": lambda r: "hf_" + draw(r, string.ascii_letters, 34),
    "groq": lambda r: "gsk_" + draw(r, ALNUM, 52),
    "replicate": lambda r: "r8_" + draw(r, ALNUM, 37),
    "digitalocean": lambda r: r.choice(["dop", "doo", "dor"]) + "_v1_" + draw(r, HEX, 64),
    "hashicorp": lambda r: f"{draw(r, ALNUM, 14)}.atlasv1.{draw(r, SAFE, 67)}",
    "vault": lambda r: "hvs.CAESI" + draw(r, SAFE, 89),
    "databricks": lambda r: "dapi" + draw(r, HEX, 32) + r.choice(["", "-2"]),
    "doppler": lambda r: "dp.st.prd." + draw(r, ALNUM, 43),
    "pulumi": lambda r: "pul-" + draw(r, HEX, 40),
    "planetscale": lambda r: "pscale_tkn_" + draw(r, SAFE, 43),
    "netlify": lambda r: "nfp_" + draw(r, ALNUM, 36),
    "flyio": lambda r: "FlyV1 fm2_lJPECAAAAAAA" + draw(r, B64, 150),
    "supabase": lambda r: "sbp_" + draw(r, HEX, 40),
    "tailscale": lambda r: f"tskey-auth-k{draw(r, ALNUM, 11)}CNTRL-{draw(r, ALNUM, 32)}",
    "grafana": grafana,
    "newrelic": lambda r: "NRAK-" + draw(r, UPPER + DIGITS, 27),
    "sentry": sentry,
    "sentry-user": lambda r: "sntryu_" + draw(r, HEX, 64),
    "dynatrace": lambda r: f"dt0c01.{draw(r, UPPER + '234567', 24)}.{draw(r, UPPER + '234567', 64)}",
    "sonar": lambda r: r.choice(["squ_", "sqp_", "sqa_"]) + draw(r, HEX, 40),
    "postman": lambda r: f"PMAK-{draw(r, HEX, 24)}-{draw(r, HEX, 34)}",
    "linear": lambda r: "lin_api_" + draw(r, ALNUM, 40),
    "notion": lambda r: "ntn_" + str(r.randint(10**10, 10**11 - 1)) + draw(r, ALNUM, 35),
    "airtable": lambda r: f"pat{draw(r, ALNUM, 14)}.{draw(r, HEX, 64)}",
    "figma": lambda r: "figd_" + draw(r, SAFE, 40),
    "shopify": lambda r: r.choice(["shpat_", "shpss_"]) + draw(r, HEX, 32),
    "square": lambda r: "EAAA" + draw(r, SAFE, 60),
    "atlassian": atlassian,
    "bitbucket": lambda r: "ATBB" + draw(r, ALNUM, 24) + draw(r, UPPER + DIGITS, 8),
    "artifactory": lambda r: "AKCp8" + draw(r, ALNUM, 68),
    "buildkite": lambda r: "bkua_" + draw(r, HEX, 40),
    "circleci": lambda r: f"CCIPAT_{draw(r, ALNUM, 22)}_{draw(r, HEX, 40)}",
    "azure-ad": lambda r: f"{draw(r, ALNUM, 3)}8Q~{draw(r, SAFE + '.~', 34)}",
    "azure-devops": lambda r: draw(r, ALNUM, 76) + "AZDO" + draw(r, ALNUM, 4),
    "azure-storage": lambda r: (
        "DefaultEndpointsProtocol=https;AccountName=acme"
        + draw(r, LOWER, 4)
        + ";AccountKey="
        + b64(r.randbytes(64))
        + ";EndpointSuffix=core.windows.net"
    ),
    "age": lambda r: "AGE-SECRET-KEY-1" + draw(r, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "jwt": jwt,
    "alibaba": lambda r: "LTAI5t" + draw(r, ALNUM, 18),
    "yandex": lambda r: "AQVN" + draw(r, SAFE, 36),
    "easypost": lambda r: "EZAK" + draw(r, ALNUM, 54),
    "mapbox": lambda r: (
        "sk."
        + b64url(json.dumps({"u": draw(r, LOWER, 8), "a": "cl" + draw(r, LOWER + DIGITS, 23)}))
        + "."
        + draw(r, SAFE, 22)
    ),
    "onepassword": lambda r: "ops_eyJ" + draw(r, ALNUM, 300),
    "prefect": lambda r: "pnu_" + draw(r, ALNUM, 36),
    "langfuse": lambda r: "sk-lf-" + uuid4(r),
    "perplexity": lambda r: "pplx-" + draw(r, ALNUM, 48),
    "xai": lambda r: "xai-" + draw(r, ALNUM, 80),
    "contentful": lambda r: "CFPAT-" + draw(r, SAFE, 43),
    "launchdarkly": lambda r: "sdk-" + uuid4(r),
    "hubspot": lambda r: "pat-na1-" + uuid4(r),
    "harness": lambda r: f"pat.{draw(r, SAFE, 22)}.{draw(r, HEX, 24)}.{draw(r, ALNUM, 20)}",
    "infracost": lambda r: "ico-" + draw(r, ALNUM, 32),
    "typeform": lambda r: "tfp_" + draw(r, ALNUM, 44) + "_" + draw(r, ALNUM, 14),
    "zapier-hook": lambda r: (
        f"https://hooks.zapier.com/hooks/catch/{r.randint(10**5, 10**7)}/{draw(r, LOWER + DIGITS, 7)}/"
    ),
    "teams-hook": lambda r: (
        f"https://acme.webhook.office.com/webhookb2/{uuid4(r)}@{uuid4(r)}/IncomingWebhook/{draw(r, HEX, 32)}/{uuid4(r)}"
    ),
}
# How a token stands in a file whose names say little: path, then text with «v».
PLACES: Final = [
    ("scripts/sync.sh", 'curl -sf -H "X-Auth: «v»" https://api.acme.dev/v2/items'),
    ("src/client.py", 'CLIENTS = [\n    "«v»",\n    "second",\n]'),
    ("src/remark.py", "# worked with «v» on monday\nRETRIES = 3"),
    ("notes/howto.md", "1. open the console\n2. paste `«v»` into the box\n3. save"),
    ("notes/plain.txt", "for the demo use «v», it is valid until may"),
    ("deploy/values.yaml", "worker:\n  replicas: 2\n  bearer: «v»\n  image: acme/worker:1.2.0"),
    ("deploy/list.yaml", "args:\n  - --listen=:8080\n  - --credential=«v»"),
    ("deploy/compose.yaml", "services:\n  app:\n    environment:\n      UPSTREAM: «v»\n      MODE: prod"),
    (
        ".github/workflows/release.yml",
        "jobs:\n  a:\n    steps:\n      - run: make release\n        env:\n          UPSTREAM_ACCESS: «v»",
    ),
    ("infra/main.tf", 'provider "acme" {\n  access = "«v»"\n  region = "eu"\n}'),
    ("infra/prod.tfvars", 'upstream = "«v»"'),
    ("web/src/api.ts", "export const client = create({ base: '/v1', access: '«v»' });"),
    ("web/src/boot.js", "fetch(url, {headers: {'X-Access': `«v»`}});"),
    ("web/src/App.vue", '<script>\nexport default { data() { return { access: "«v»" } } }\n</script>'),
    ("app/Main.kt", 'val upstream = "«v»"'),
    ("app/Net.swift", 'let upstream: String = "«v»"'),
    ("app/main.rs", 'const UPSTREAM: &str = "«v»";'),
    ("app/main.c", '#define UPSTREAM "«v»"'),
    ("app/Main.cs", 'private const string Upstream = "«v»";'),
    ("app/main.php", "$upstream = '«v»';"),
    ("app/main.rb", "upstream = '«v»'"),
    ("app/main.pl", "my $upstream = '«v»';"),
    ("app/main.lua", 'local upstream = "«v»"'),
    ("app/analysis.R", 'Sys.setenv(UPSTREAM = "«v»")'),
    ("app/run.ps1", '$Env:UPSTREAM = "«v»"'),
    ("app/run.bat", "set UPSTREAM=«v»"),
    ("app/config.fish", "set -gx UPSTREAM «v»"),
    ("app/acme.service", "[Service]\nEnvironment=UPSTREAM=«v»\nExecStart=/usr/bin/acme"),
    ("app/Jenkinsfile", "environment {\n  UPSTREAM = '«v»'\n}"),
    ("app/Makefile", "UPSTREAM ?= «v»\nall:\n\t./run"),
    ("app/build.gradle", 'def upstream = "«v»"'),
    ("app/Dockerfile", "FROM debian:12-slim\nENV UPSTREAM=«v»\nCMD run"),
    ("app/.env.production", "UPSTREAM=«v»"),
    ("app/config.toml", 'upstream = "«v»"'),
    ("app/config.ini", "[main]\nupstream=«v»"),
    ("app/config.xml", "<upstream>«v»</upstream>"),
    ("app/data.json", '{"upstream": "«v»", "retries": 3}'),
    ("app/nested.json", '{"body": "{\\"upstream\\": \\"«v»\\"}"}'),
    ("app/log.txt", "2026-03-01T10:00:00Z INFO client: using «v» for upstream"),
    ("app/seed.sql", "INSERT INTO settings (name, value) VALUES ('upstream', '«v»');"),
    ("app/table.csv", "id,name,value\n7,upstream,«v»"),
    ("app/query.http", "GET https://api.acme.dev/v1/me?access=«v»&page=2"),
    ("app/page.html", '<div data-access="«v»" class="x"></div>'),
    ("app/fix.patch", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+upstream «v»"),
    ("app/mod.nix", '{ environment.variables.UPSTREAM = "«v»"; }'),
    ("app/run.ipynb", '{"cells": [{"cell_type": "code", "source": [\n"upstream = \'«v»\'\\n"\n]}]}'),
    ("ansible/site.yml", "- hosts: all\n  vars:\n    upstream: '«v»'"),
    ("tests/test_live.py", 'def test_live():\n    assert login("«v»").ok'),
]
