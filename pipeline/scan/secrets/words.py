"""Vocabularies: words that names and values are made of. Each is one text, split where it is used."""

from __future__ import annotations

from typing import Final

# Endings of names of passwords.
ENDS_PW: Final = (
    "password passwd passphrase userpass dbpass rootpass sshpass smtppass requirepass masterauth bindpw"
)

# Endings of names of tokens and keys.
ENDS_KEYS: Final = (
    "token secret apikey accesskey secretkey privatekey authkey signingkey accountkey encryptionkey "
    "masterkey sharedkey servicekey licensekey cryptkey sessionkey appkey writekey adminkey deploykey "
    "integrationkey instrumentationkey functionkey hashkey storagekey"
)

# What makes a secret of `key`; a primary, cache or sort key is none.
KEY_OF: Final = (
    "api access secret private signing sign encryption encrypt decrypt auth account master shared license "
    "licence subscription service app application client storage admin write ingest ingestion crypt "
    "crypto cipher aes hmac jwt session cookie webhook deploy integration instrumentation function csrf "
    "rest consumer developer server host fernet security verification nonce logged stripe openai sendgrid "
    "mailgun datadog dd heroku algolia sentry twilio github gitlab slack aws azure gcp google firebase "
    "unseal recovery "
    "hash token telegram newrelic relic cloudflare digitalocean rollbar bugsnag segment maps mixpanel "
    "amplitude pagerduty opsgenie pinecone cohere anthropic mistral ssh"
)

# Words after the telling one that leave its meaning as it is.
TRAILING: Final = (
    "value default prod production dev development staging stage live test old new current previous "
    "primary secondary string str text plain plaintext base64 b64 base main backup root admin db v qa uat "
    "eu us local prd stg ci internal external fallback override rw ro write read cleartext bytes const "
    "raw hex val data next"
)

# Words that make something else of what follows.
OTHER: Final = (
    "public xsrf page next cursor continuation continue hashed encrypted forgot reset change changed "
    "confirm invalid wrong bad no missing primary foreign sort partition cache unique object lexer syntax "
    "is has get show hide require requires required use uses enable enabled disable allow max min num "
    "total count length weak expired pagination sync sealed resume publishable site pub expected masked "
    "redacted obfuscated bypass unknown existing"
)

# Parts of what people write where a password will be.
STOPGAPS: Final = (
    "password passwort passwd passphrase pass pwd secret token api key auth example sample dummy fake "
    "mock placeholder changeme change replace redacted insert enter your here value string default todo "
    "fixme null none test testing demo foobar foo bar baz qux quux admin root user username guest login "
    "letmein qwerty welcome hello world hunter super secure strong insecure random private public client "
    "access some this that with very long my me the please must should not real invalid wrong bad good "
    "valid correct new old abcdef abc xyz asdf xxx django postgres mysql mariadb mongo redis rabbit minio "
    "airflow superset generate generated local dev development prod production staging id app application "
    "service db database server host account hidden masked removed sanitized unused empty plain text "
    "base64 encoded encrypted hash hashed hex chars characters"
)
