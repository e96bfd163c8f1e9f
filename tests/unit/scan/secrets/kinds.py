# ruff: noqa: E501 - lines are as long as those of the files they stand for
"""Secrets and look-alikes drawn by lot, by the forms that vendors and formats document.

Nothing here knows how the engine looks for them.
"""

from __future__ import annotations

import base64
import json
import string
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a secret or look-alike was put."""

    path: str
    line: int
    kind: str
    value: str = field(repr=False)


@dataclass
class Corpus:
    """Files by path, and what is in them."""

    files: dict[str, str] = field(default_factory=dict)
    secrets: list[Mark] = field(default_factory=list)
    decoys: list[Mark] = field(default_factory=list)


LOWER: Final = string.ascii_lowercase
UPPER: Final = string.ascii_uppercase
DIGITS: Final = string.digits
ALNUM: Final = string.ascii_letters + DIGITS
SAFE: Final = ALNUM + "-_"
B64: Final = ALNUM + "+/"
HEX: Final = "0123456789abcdef"
B32: Final = UPPER + "234567"


def draw(r: random.Random, alphabet: str, size: int) -> str:
    """Characters drawn by lot; the last is a letter or digit, where the alphabet has them."""
    return "".join(r.choices(alphabet, k=size - 1)) + r.choice([c for c in alphabet if c.isalnum()])


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def uuid4(r: random.Random) -> str:
    return str(uuid.UUID(int=r.getrandbits(128), version=4))


def password(r: random.Random) -> str:
    """Such as a password manager makes, or a person who has to follow a rule."""
    if r.random() < 0.3:
        word = r.choice(["Harbor", "Quartz", "Lantern", "Meadow", "Copper", "Falcon", "Timber", "Velvet"])
        return word + r.choice("-_!#") + draw(r, DIGITS, 4) + r.choice(["!", "x", "Z9", "?q"])
    middle = draw(r, ALNUM + "!%^*-_+=~", r.randint(9, 20))
    return r.choice(UPPER) + r.choice(LOWER) + r.choice(DIGITS) + middle


def url_password(r: random.Random) -> str:
    return r.choice(LOWER) + r.choice(DIGITS) + draw(r, ALNUM + "-_.~", r.randint(8, 18))


def pem_body(r: random.Random, lines: int = 12, start: str = "") -> list[str]:
    body = [draw(r, B64, 64) for _ in range(lines)] + [draw(r, B64, 30) + "=="]
    body[0] = start + body[0][len(start) :]
    return body


def jwt(r: random.Random) -> str:
    def part(table: dict[str, object]) -> str:
        return (
            base64.urlsafe_b64encode(json.dumps(table, separators=(",", ":")).encode()).decode().rstrip("=")
        )

    head = part({"alg": r.choice(["HS256", "RS256", "ES256"]), "typ": "JWT"})
    body = part(
        {"sub": str(r.randint(1000, 99999)), "iat": r.randint(1700000000, 1790000000), "role": "admin"}
    )
    return f"{head}.{body}.{draw(r, SAFE, 43)}"


def vendor(template: str) -> Callable[[random.Random], str]:
    """Make tokens by a template: {A20} 20 letters or digits, {h} hex, {U} upper or digit, {s} URL-safe, {d} digits,
    {l} lower or digit, {b} base64, {u1} a UUID."""
    table = {
        "A": ALNUM,
        "h": HEX,
        "U": UPPER + DIGITS,
        "s": SAFE,
        "d": DIGITS,
        "l": LOWER + DIGITS,
        "b": B64,
        "3": B32,
    }

    def make(r: random.Random) -> str:
        out = []
        for piece in template.replace("}", "{").split("{"):
            if piece[:1] in table and piece[1:].isdigit() and piece:
                out.append(draw(r, table[piece[0]], int(piece[1:])))
            elif piece == "u1":
                out.append(uuid4(r))
            else:
                out.append(piece)
        return "".join(out)

    return make


# Tokens that anybody recognises by their form.
TOKENS: Final[dict[str, tuple[str, Callable[[random.Random], str]]]] = {
    "aws-access-key": ("aws_access_key_id", vendor("AKIA{316}")),
    "gcp-api-key": ("maps_key", vendor("AIza{s35}")),
    "gcp-oauth-secret": ("client", vendor("GOCSPX-{s28}")),
    "azure-client-secret": ("azure_client", vendor("{A3}8Q~{A34}")),
    "alibaba-key": ("alibaba_id", vendor("LTAI{A20}")),
    "digitalocean": ("do_pat", vendor("dop_v1_{h64}")),
    "github-pat": ("gh", vendor("ghp_{A36}")),
    "github-app": ("installation", vendor("ghs_{A36}")),
    "github-fine": ("gh_fine", vendor("github_pat_{A22}_{A59}")),
    "gitlab-pat": ("gl", vendor("glpat-{s20}")),
    "gitlab-deploy": ("gl_deploy", vendor("gldt-{s20}")),
    "slack-bot": ("slack_bot", vendor("xoxb-{d12}-{d12}-{A24}")),
    "slack-user": ("slack_user", vendor("xoxp-{d11}-{d11}-{d12}-{h32}")),
    "slack-app": ("slack_app", vendor("xapp-1-A{U10}-{d13}-{h64}")),
    "slack-webhook": ("notify", vendor("https://hooks.slack.com/services/T{U8}/B{U10}/{A24}")),
    "discord-webhook": ("notify_url", vendor("https://discord.com/api/webhooks/1{d17}/{s68}")),
    "telegram-bot": ("bot", vendor("7{d9}:AA{s33}")),
    "stripe-live": ("stripe", vendor("sk_live_{A24}")),
    "stripe-restricted": ("stripe_r", vendor("rk_live_{A24}")),
    "stripe-webhook": ("stripe_hook", vendor("whsec_{A32}")),
    "square": ("square", vendor("EAAA{s60}")),
    "shopify": ("shop", vendor("shpat_{h32}")),
    "twilio-key": ("twilio_sid", vendor("SK{h32}")),
    "sendgrid": ("mail", vendor("SG.{s22}.{s43}")),
    "mailgun": ("mg", vendor("key-{h32}")),
    "mailchimp": ("mc", vendor("{h32}-us17")),
    "brevo": ("brevo", vendor("xkeysib-{h64}-{A16}")),
    "openai": ("oai", vendor("sk-{A20}T3BlbkFJ{A20}")),
    "openai-project": ("oai_project", vendor("sk-proj-{s74}T3BlbkFJ{s73}")),
    "anthropic": ("claude", vendor("sk-ant-api03-{s93}AA")),
    "huggingface": ("hub", vendor("hf_{A34}")),
    "groq": ("groq", vendor("gsk_{A52}")),
    "replicate": ("replicate", vendor("r8_{A37}")),
    "npm": ("npm", vendor("npm_{A36}")),
    "pypi": ("upload", vendor("pypi-AgEIcHlwaS5vcmcC{s120}")),
    "rubygems": ("gem", vendor("rubygems_{h48}")),
    "dockerhub": ("hub_pat", vendor("dckr_pat_{s27}")),
    "nuget": ("nuget", vendor("oy2{l43}")),
    "terraform": ("tfc", vendor("{A14}.atlasv1.{s67}")),
    "pulumi": ("pulumi", vendor("pul-{h40}")),
    "vault": ("vault", vendor("hvs.{s92}")),
    "doppler": ("doppler", vendor("dp.pt.{A43}")),
    "databricks": ("dbx", vendor("dapi{h32}")),
    "tailscale": ("ts", vendor("tskey-auth-k{A11}CNTRL-{A32}")),
    "newrelic": ("nr", vendor("NRAK-{U27}")),
    "grafana": ("graf", vendor("glsa_{A32}_{h8}")),
    "sentry": ("sentry", vendor("sntryu_{h64}")),
    "dynatrace": ("dt", vendor("dt0c01.{324}.{364}")),
    "sonarqube": ("sonar", vendor("sqp_{h40}")),
    "airtable": ("air", vendor("pat{A14}.{h64}")),
    "notion": ("notion", vendor("secret_{A43}")),
    "linear": ("linear", vendor("lin_api_{A40}")),
    "figma": ("figma", vendor("figd_{s40}")),
    "hubspot": ("crm", vendor("pat-na1-{u1}")),
    "postman": ("pm", vendor("PMAK-{h24}-{h34}")),
    "planetscale": ("ps", vendor("pscale_pw_{s43}")),
    "supabase": ("supa", vendor("sbp_{h40}")),
    "netlify": ("netlify", vendor("nfp_{A36}")),
    "artifactory": ("art", vendor("AKCp{A69}")),
    "jwt": ("session", jwt),
    "age": ("age", lambda r: "AGE-SECRET-KEY-1" + draw(r, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
}

# Values that only their names give away.
NAMED: Final[dict[str, tuple[tuple[str, ...], Callable[[random.Random], str]]]] = {
    "aws-secret": (("aws_secret_access_key", "AWS_SECRET_KEY", "awsSecretAccessKey"), vendor("{b40}")),
    "heroku": (("heroku_api_key", "HEROKU_API_KEY"), uuid4),
    "datadog": (("datadog_api_key", "DD_API_KEY"), vendor("{h32}")),
    "twilio-auth": (("twilio_auth_token", "TWILIO_AUTH_TOKEN"), vendor("{h32}")),
    "cloudflare": (("cloudflare_api_token", "CF_API_TOKEN"), vendor("{s40}")),
    "algolia": (("algolia_admin_key", "ALGOLIA_API_KEY"), vendor("{h32}")),
    "azure-storage": (("azure_storage_account_key", "AZURE_STORAGE_KEY"), vendor("{b86}==")),
    "okta": (("okta_api_token", "OKTA_TOKEN"), vendor("00{s40}")),
    "linode": (("linode_token", "LINODE_TOKEN"), vendor("{h64}")),
    "discord": (("discord_token", "DISCORD_BOT_TOKEN"), vendor("MTA{A23}.G{s5}.{s38}")),
    "api-key": (("api_key", "apiKey", "PARTNER_API_KEY", "x-api-key"), vendor("{A32}")),
    "client-secret": (("client_secret", "clientSecret", "OAUTH_CLIENT_SECRET"), vendor("{A40}")),
    "auth-token": (("auth_token", "authToken", "SERVICE_TOKEN"), vendor("{s43}")),
    "signing-key": (("signing_key", "jwtSecret", "JWT_SECRET", "ENCRYPTION_KEY"), vendor("{h64}")),
    "password": (("password", "db_password", "DB_PASSWORD", "adminPassword", "smtp_pass"), password),
    "passphrase": (("passphrase", "KEY_PASSPHRASE", "keystorePassword"), password),
    "secret-key": (("secret_key", "SECRET_KEY", "appSecret"), vendor("{A50}")),
}
