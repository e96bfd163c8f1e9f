"""What looks like a secret and is none, drawn by lot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.unit.scan.secrets.kinds import ALNUM, B64, DIGITS, HEX, SAFE, draw, uuid4, vendor

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

# What stands under any name and is no secret.
LOOK_ALIKES: Final[dict[str, tuple[tuple[str, ...], Callable[[random.Random], str]]]] = {
    "sha256": (("checksum", "sha256", "expected_digest", "EXPECTED_SHA256"), vendor("{h64}")),
    "sha1": (("commit", "revision", "git_sha", "GIT_COMMIT"), vendor("{h40}")),
    "md5": (("md5", "etag", "content_md5", "fingerprint"), vendor("{h32}")),
    "etag": (("etag", "ETag", "if_none_match"), vendor("W/{h32}")),
    "sri": (("integrity", "sri"), vendor("sha384-{b64}")),
    "image-digest": (("image", "base_image"), vendor("registry.acme.io/api@sha256:{h64}")),
    "uuid": (("request_id", "tenantId", "TRACE_ID", "correlation_id", "token_id", "secret_uuid"), uuid4),
    "template": (
        ("password", "api_key", "DB_PASSWORD", "client_secret"),
        lambda r: r.choice(
            [
                "${DB_PASSWORD}",
                "{{ vault_db_password }}",
                "$(cat /run/secrets/db)",
                "<your-password>",
                "${{ secrets.API_KEY }}",
                "%(db_password)s",
                "{{ .Values.db.password }}",
                "<%= secret %>",
                "#{ENV['X']}",
                "${SECRET:-}",
                "@Microsoft.KeyVault(SecretUri=https://v/secrets/x)",
            ]
        ),
    ),
    "stopgap": (
        ("password", "api_key", "SECRET_KEY", "auth_token", "DB_PASSWORD", "clientSecret"),
        lambda r: r.choice(
            [
                "changeme",
                "CHANGE_ME",
                "your-api-key-here",
                "xxxxxxxxxxxxxxxxxxxx",
                "placeholder",
                "dummy",
                "example-password",
                "YOUR_TOKEN",
                "insert-key-here",
                "s3cr3t",
                "P@ssw0rd",
                "password123",
                "test1234",
                "notasecret",
                "REPLACE_WITH_REAL_KEY",
                "********",
                "admin123",
                "secret",
                "sk_test_xxxxxxxxxxxxxxxxxxxxxxxx",
                "0000000000000000",
                "1234567890abcdef",
                "...",
            ]
        ),
    ),
    "documented": (
        ("access_key", "token", "secret_key", "api_key"),
        lambda r: r.choice(
            [
                "AKIAIOSFODNN7EXAMPLE",
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
                "AKIAI44QH8DHBEXAMPLE",
                "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0"
                "IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
                "xoxb-your-token-here",
            ]
        ),
    ),
    "translation": (
        ("password", "token", "secret", "api_key"),
        lambda r: r.choice(
            [
                "Kennwort",
                "Mot de passe",
                "Contraseña",
                "Wachtwoord",
                "Lösenord",
                "Hasło",
                "パスワード",
                "Zugangsschlüssel",
                "Jeton d'accès",
                "Geheimnis",
                "Passwort vergessen?",
                "Senha",
                "Heslo",
                "Geben Sie Ihr Kennwort ein",
                "Zugriffstoken",
                "Salasana",
                "Adgangskode",
            ]
        ),
    ),
    "other-name": (
        (
            "password_hash",
            "token_url",
            "secret_name",
            "api_key_header",
            "password_field",
            "public_key",
            "csrf_cookie",
            "token_type",
            "primary_key",
            "next_page_token",
            "secretName",
            "passwordResetPath",
            "cache_key",
            "key_id",
        ),
        lambda r: r.choice(
            [
                "$2b$12$" + draw(r, ALNUM + "./", 53),
                "https://auth.acme.io/oauth2/token",
                "app-credentials",
                "X-Api-Key",
                "new_password1",
                "/account/reset/confirm",
                draw(r, HEX, 32),
                "Bearer",
                "orders:by-customer:" + draw(r, DIGITS, 6),
                draw(r, B64, 44),
            ]
        ),
    ),
    "hash-value": (
        ("password", "admin_password"),
        lambda r: r.choice(
            [
                "$2b$12$" + draw(r, ALNUM + "./", 53),
                "pbkdf2_sha256$600000$" + draw(r, ALNUM, 22) + "$" + draw(r, B64, 43) + "=",
                "$argon2id$v=19$m=65536,t=3,p=4$" + draw(r, B64, 22) + "$" + draw(r, B64, 43),
                "{SSHA}" + draw(r, B64, 32),
                "$6$" + draw(r, ALNUM, 16) + "$" + draw(r, ALNUM + "./", 86),
            ]
        ),
    ),
    "encrypted": (
        ("password", "db_password", "api_token"),
        lambda r: r.choice(
            [
                "ENC[AES256_GCM,data:" + draw(r, B64, 24) + ",iv:" + draw(r, B64, 43) + "=,type:str]",
                "ENC(" + draw(r, B64, 32) + ")",
                "{cipher}" + draw(r, HEX, 64),
                "AQICAHh" + draw(r, B64, 90),
                "vault:v1:" + draw(r, B64, 48),
            ]
        ),
    ),
    "reference": (
        ("password", "token", "client_secret", "api_key"),
        lambda r: r.choice(
            [
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-" + draw(r, ALNUM, 6),
                "op://infra/db/password",
                "ref+vault://secret/data/app#token",
                "/run/secrets/db_password",
                "projects/9/secrets/db/versions/latest",
                "/etc/ssl/private/server.key",
                "ssm:/prod/db/password",
                "vault:secret/data/app#token",
                "file:///etc/pw",
            ]
        ),
    ),
    "identifier": (
        ("token", "password", "api_key", "secret"),
        lambda r: r.choice(
            [
                "access_token_expired",
                "user.password.reset",
                "ACCESS_TOKEN_COOKIE_NAME",
                "tokenRefreshInterval",
                "com.acme.auth.TokenProvider",
                "form-control-password",
                "T_CONSTANT_ENCAPSED_STRING",
                "keyword.operator",
                "my-service-account",
                "password-strength-meter",
                "show_hide_password",
                "IDENTIFIER",
            ]
        ),
    ),
    "schema": (
        ("password", "token", "secret", "access_token"),
        lambda r: r.choice(
            [
                "string",
                "required|min:8|max:64",
                "varchar(255)",
                "str",
                "VARCHAR(128) NOT NULL",
                "Optional[str]",
                "null",
                "true",
                "SecretStr",
                "sensitive",
                "required",
                "hidden",
                "bcrypt",
                "object",
            ]
        ),
    ),
    "publishable": (
        ("stripe_key", "public_token", "mapbox_token"),
        lambda r: r.choice(
            [
                vendor("pk_live_{A24}")(r),
                vendor("pk_test_{A24}")(r),
                "pk.eyJ1Ijoi" + draw(r, ALNUM, 40) + "." + draw(r, SAFE, 22),
            ]
        ),
    ),
    "migration": (("revision", "down_revision", "dependencies"), vendor("{h12}")),
    "public-ssh": (
        ("deploy_key", "ssh_key", "public_key"),
        lambda r: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + draw(r, B64, 43) + " ci@acme",
    ),
    "base64-image": (
        ("icon", "logo", "background"),
        lambda r: "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA" + draw(r, B64, 400),
    ),
    "version-or-date": (
        ("password_changed_at", "token_expiry", "api_key_version", "secret"),
        lambda r: r.choice(["2026-03-14T09:26:53Z", "v1.2.3", "P30D", "86400"]),
    ),
    "locked-hash": (("hash", "resolved", "integrity"), lambda r: "sha512-" + draw(r, B64, 86) + "=="),
    "environment": (
        ("password", "api_key", "SECRET_KEY"),
        lambda r: r.choice(
            [
                "process.env.API_KEY",
                "os.environ.DB_PASSWORD",
                "env:DB_PASSWORD",
                "$DB_PASSWORD",
                "%DB_PASSWORD%",
                "config.db.password",
                "var.db_password",
                "secrets.API_KEY",
            ]
        ),
    ),
    "wallet": (("address", "contract", "tx_hash"), lambda r: "0x" + draw(r, HEX, r.choice([40, 64]))),
}
