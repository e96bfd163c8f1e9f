# ruff: noqa: E501 - lines are as long as those of the files they stand for
"""What only looks like a secret: whole files without one."""

from __future__ import annotations

from typing import Final

FILES: Final = [
    ("no/uuid.py", 'TENANT_ID = "«UUID»"\nCLIENT_ID = "«UUID»"\nNAMESPACE = uuid.UUID("«UUID»")'),
    ("no/uuid.yaml", "subscription_id: «UUID»\nclient-id: «UUID»\nrole_id: «UUID»"),
    ("no/hash.py", 'EXPECTED = "«HEX64»"\nassert sha1(data) == "«HEX40»"\nETAG = "«HEX32»"'),
    ("no/sums.txt", "«HEX64»  dist/app.tar.gz\n«HEX64»  dist/app.whl"),
    (
        "no/package-lock.json",
        '{"packages": {"node_modules/a": {"version": "1.0.0", "resolved": "https://registry.npmjs.org/a/-/a-1.0.0.tgz", "integrity": "sha512-«B88»"}}}',
    ),
    (
        "no/yarn.lock",
        'a@^1.0.0:\n  version "1.0.0"\n  resolved "https://registry.yarnpkg.com/a/-/a-1.0.0.tgz#«HEX40»"\n  integrity sha512-«B88»',
    ),
    ("no/pnpm-lock.yaml", "packages:\n  a@1.0.0:\n    resolution: {integrity: sha512-«B88»}"),
    (
        "no/poetry.lock",
        '[metadata]\ncontent-hash = "«HEX64»"\nfiles = [\n    {file = "a.whl", hash = "sha256:«HEX64»"},\n]',
    ),
    (
        "no/uv.lock",
        'sdist = { url = "https://files.pythonhosted.org/packages/ab/cd/«HEX64»/a.tar.gz", hash = "sha256:«HEX64»", size = 1 }',
    ),
    ("no/Cargo.lock", '[[package]]\nname = "a"\nversion = "1.0.0"\nchecksum = "«HEX64»"'),
    ("no/go.sum", "github.com/a/b v1.0.0 h1:«B44»\ngithub.com/a/b v1.0.0/go.mod h1:«B44»"),
    ("no/Gemfile.lock", "CHECKSUMS\n  rails (7.1) sha256=«HEX64»"),
    (
        "no/composer.lock",
        '{"content-hash": "«HEX32»", "packages": [{"dist": {"reference": "«HEX40»", "shasum": "«HEX40»"}}]}',
    ),
    ("no/flake.lock", '{"nodes": {"a": {"locked": {"narHash": "sha256-«B44»", "rev": "«HEX40»"}}}}'),
    (
        "no/app.min.js",
        '!function(e,t){var n={token:e.token,password:t.p};e.secret="«MIN»";t.key="«A24»"}(this);',
    ),
    (
        "no/bundle.js",
        "(()=>{var e={«N12»:(e,t,r)=>{e.exports=r.p+'«HEX32».png'}};e.authToken=n.authToken||o})();",
    ),
    (
        "no/index.html",
        '<script src="/a.js" integrity="sha384-«B88»" crossorigin="anonymous"></script>\n<meta name="csrf-token" content="">\n<meta name="google-site-verification" content="«S60»">',
    ),
    (
        "no/example.env",
        "DB_PASSWORD=changeme\nAPI_KEY=your-api-key\nSECRET_KEY=<generate me>\nTOKEN=\nJWT_SECRET=replace-with-a-long-secret",
    ),
    (
        "no/env.sample",
        "STRIPE_KEY=sk_test_xxxxxxxxxxxxxxxxxxxxxxxx\nAWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\nGITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ),
    (
        "no/README.md",
        "Set `API_TOKEN=<your token>` and `export DB_PASSWORD=secret`.\nConnect with `postgres://user:password@localhost:5432/db` or `mysql://root:root@127.0.0.1/test`.\nSend `Authorization: Bearer YOUR_TOKEN`.\n    curl -u user:pass https://api.example.com",
    ),
    (
        "no/tests/test_auth.py",
        'def test_login(client):\n    assert client.post("/login", json={"username": "alice", "password": "password123"}).status_code == 200\n    assert client.post("/login", json={"password": "wrong-password"}).status_code == 401\n    token = "invalid-token"',
    ),
    (
        "no/tests/conftest.py",
        'PASSWORD = "test"\nSECRET_KEY = "not-a-secret"\nTOKEN = "fake-token-for-tests"\nDSN = "postgresql://postgres:postgres@localhost/test"',
    ),
    (
        "no/tests/login.spec.ts",
        "await page.fill('#password', 'hunter2');\nconst token = 'mock-token';\nexpect(token).toBe('mock-token');",
    ),
    ("no/tests/fixtures/users.json", '[{"username": "alice", "password": "test1234", "token": "abc123"}]'),
    ("no/img.css", ".a { background: url(data:image/png;base64,iVBORw0KGgo«B64LONG») }"),
    ("no/logo.ts", "export const logo = 'data:image/svg+xml;base64,PHN2Zy«B64LONG»';"),
    ("no/font.scss", "@font-face { src: url(data:font/woff2;base64,d09GMgAB«B64LONG»); }"),
    ("no/pub.pem", "«PUB»"),
    ("no/cert.crt", "«CERT»\n«CERT»"),
    (
        "no/jwks.json",
        '{"keys": [{"kty": "RSA", "kid": "«A20»", "use": "sig", "n": "«B64LONG»", "e": "AQAB"}]}',
    ),
    ("no/authorized_keys", "ssh-ed25519 «SSHPUB» robot@acme"),
    ("no/deploy_key.tf", 'public_key = "ssh-ed25519 «SSHPUB» ops"'),
    (
        "no/pins.yaml",
        "images:\n  app: ghcr.io/acme/app@sha256:«HEX64»\nsource:\n  ref: «HEX40»\n  short: «SHORT»",
    ),
    (
        "no/.github/workflows/ci.yml",
        "steps:\n  - uses: actions/checkout@«HEX40» # v4\n  - run: make\n    env:\n      GITHUB_TOKEN: ${{ secrets.GITHUB_TOKEN }}\n      NPM_TOKEN: ${{ secrets.NPM_TOKEN }}\npermissions:\n  id-token: write",
    ),
    (
        "no/.gitlab-ci.yml",
        'script:\n  - docker login -u "$CI_REGISTRY_USER" -p "$CI_REGISTRY_PASSWORD" $CI_REGISTRY\nvariables:\n  DB_PASSWORD: $PROD_DB_PASSWORD',
    ),
    (
        "no/compose.yml",
        "environment:\n  POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it}\n  SECRET_KEY: ${SECRET_KEY}\n  POSTGRES_PASSWORD_FILE: /run/secrets/db_password\nsecrets:\n  db_password:\n    file: ./secrets/db_password.txt",
    ),
    (
        "no/env.py",
        'password = os.environ["DB_PASSWORD"]\ntoken = os.getenv("API_TOKEN")\nsecret = config["secret"]\napi_key = settings.api_key\npassword = getpass.getpass("Password: ")\nkey = Fernet.generate_key()\ntoken = secrets.token_urlsafe(32)',
    ),
    (
        "no/env.js",
        "const password = process.env.DB_PASSWORD;\nconst token = await getToken(clientId);\nconst secret = config.get('auth.secret');\nconst apiKey = import.meta.env.VITE_API_KEY;",
    ),
    (
        "no/Env.java",
        'String password = System.getenv("DB_PASSWORD");\nprivate String apiKey = props.getProperty("api.key");\n@Value("${db.password}") String pw;\nString token = request.getHeader("X-Auth-Token");',
    ),
    (
        "no/env.go",
        'password := os.Getenv("DB_PASSWORD")\ntoken := r.Header.Get("Authorization")\nsecretName := "prod-db-credentials"\nkeyPath := "/etc/ssl/private/server.key"',
    ),
    (
        "no/env.tf",
        'password = var.db_password\nsecret = data.aws_secretsmanager_secret_version.db.secret_string\ntoken = random_password.token.result\nsecret_arn = "arn:aws:secretsmanager:eu-west-1:«N12»:secret:prod/db-«U6»"',
    ),
    (
        "no/vault.yaml",
        "password: vault:secret/data/db#password\ntoken: ref+vault://secret/ci#/token\napi_key: op://prod/acme/credential\ndb_secret: '{{ vault_db_password }}'\nkms: arn:aws:kms:eu-west-1:«N12»:key/«UUID»",
    ),
    ("no/ansible.yml", "password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  «HEX64»\n  «HEX64»"),
    (
        "no/sops.yaml",
        "password: ENC[AES256_GCM,data:«A20»,iv:«B44»,tag:«A24»==,type:str]\nsops:\n  mac: ENC[AES256_GCM,data:«B88»,type:str]",
    ),
    (
        "no/sealed.yaml",
        "kind: SealedSecret\nspec:\n  encryptedData:\n    password: AgBy3i4OJSWK+PiTySYZZA9rO43cGDEq«B64LONG»",
    ),
    (
        "no/external.yaml",
        "kind: ExternalSecret\nspec:\n  data:\n    - secretKey: password\n      remoteRef:\n        key: prod/db\n        property: password",
    ),
    (
        "no/k8s.yaml",
        "env:\n  - name: DB_PASSWORD\n    valueFrom:\n      secretKeyRef:\n        name: db-credentials-v2\n        key: password\nvolumes:\n  - name: tls\n    secret:\n      secretName: wildcard-acme-dev-tls",
    ),
    (
        "no/locales/de.json",
        '{"password": "Passwort", "passwordRepeat": "Passwort wiederholen", "token": "Zugangsschlüssel", "secretHint": "Geheimfrage", "apiKeyInvalid": "Der API-Schlüssel ist ungültig"}',
    ),
    (
        "no/locales/fr.yml",
        "fr:\n  login:\n    password: Mot de passe\n    forgot_password: Mot de passe oublié\n    token_expired: Le jeton a expiré",
    ),
    (
        "no/i18n/messages_es.properties",
        "login.password=Contraseña\nlogin.password.reset=Restablecer\nerror.token=Token caducado\napi.secret=Secreto",
    ),
    ("no/messages.po", 'msgid "Your password was changed"\nmsgstr "Ihr Passwort wurde geändert"'),
    (
        "no/strings.xml",
        '<string name="password">Password</string>\n<string name="reset_password">Reset password</string>',
    ),
    (
        "no/form.html",
        '<input type="password" name="password" id="password" placeholder="Password" autocomplete="current-password">\n<label for="token">Token</label>',
    ),
    (
        "no/Form.tsx",
        '<Input type="password" label="Password" value={password} onChange={setPassword} />\nconst passwordRules = { minLength: 12, pattern: /[A-Z]/ };',
    ),
    ("no/schema.graphql", "type Mutation {\n  login(email: String!, password: String!): Token!\n}"),
    (
        "no/openapi.yaml",
        "components:\n  schemas:\n    Login:\n      properties:\n        password: {type: string, format: password, minLength: 8}\n        token: {$ref: '#/components/schemas/Token'}\n  securitySchemes:\n    api_key: {type: apiKey, in: header, name: X-API-Key}",
    ),
    (
        "no/hash.sql",
        "INSERT INTO users (name, password) VALUES ('alice', '«BCRYPT»');\nCREATE TABLE tokens (token varchar(255) NOT NULL, secret text);",
    ),
    ("no/shadow.txt", "root:$6$rounds=5000$saltsalt$«S60»:19000:0:99999:7:::"),
    ("no/.htpasswd", "admin:$apr1$x7Yq2Zp1$h0Jk3Lm4Np5Qr6St7Uv8W0"),
    (
        "no/users.yml",
        'users:\n  - name: alice\n    password_hash: "«BCRYPT»"\n    passwd: $6$saltsalt$abcdefghij',
    ),
    (
        "no/migration.py",
        'revision = "«HEX32»"\ndown_revision = "«SHORT»"\nop.add_column("users", sa.Column("password_hash", sa.String(60)))',
    ),
    (
        "no/alg.py",
        'PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]\nTOKEN_URL = "https://auth.acme.dev/oauth/token"\nSECRET_NAME = "prod/db/password"\nTOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"\nKEY_ALGORITHM = "RS256"',
    ),
    (
        "no/consts.ts",
        "export const TOKEN_KEY = 'acme.auth.token';\nexport const PASSWORD_RESET_PATH = '/account/password/reset';\nexport const ERROR_INVALID_TOKEN = 'invalid_token';\nexport enum SecretType { Opaque = 'Opaque' }",
    ),
    (
        "no/Keys.java",
        'public static final String KEY_PASSWORD = "password";\nstatic final String TOKEN_HEADER = "X-Auth-Token";\nlong serialVersionUID = 8683452581122892189L;',
    ),
    (
        "no/firebase.ts",
        "const conf = { projectId: 'acme-web', messagingSenderId: '«N12»', appId: '1:«N12»:web:«HEX32»' };\nconst stripe = loadStripe('pk_live_«A24»');",
    ),
    ("no/sentry.ts", "Sentry.init({ dsn: 'https://«HEX32»@o«N12».ingest.sentry.io/«N12»' });"),
    (
        "no/analytics.html",
        "<script>gtag('config', 'G-«U6»');</script>\n<div class=\"g-recaptcha\" data-sitekey=\"6L«A20»«A20»\"></div>",
    ),
    ("no/data.csv", "id,sha,etag\n«UUID»,«HEX40»,«HEX32»\n«UUID»,«HEX40»,«HEX32»"),
    (
        "no/nb.ipynb",
        '{"cells": [{"outputs": [{"data": {"image/png": "iVBORw0KGgo«B64LONG»"}}], "id": "«SHORT»"}]}',
    ),
    ("no/app.map", '{"version": 3, "sources": ["a.ts"], "mappings": "AAAA,SAAS,GAAG;«B64LONG»"}'),
    (
        "no/trace.log",
        "traceparent: 00-«HEX32»-«A20»-01 request_id=«UUID» session=«UUID»\nPOST /login password=*** token=[FILTERED] 200",
    ),
    ("no/eth.sol", "address constant TOKEN = 0x«HEX40»;\nbytes32 constant ROOT = 0x«HEX64»;"),
    ("no/proto.proto", "message LoginRequest {\n  string password = 1;\n  bytes token = 2;\n}"),
    (
        "no/helm.tpl",
        'password: {{ .Values.auth.password | b64enc | quote }}\nsecretName: {{ include "app.fullname" . }}-tls',
    ),
    (
        "no/Dockerfile",
        "FROM python@sha256:«HEX64»\nARG GITHUB_TOKEN\nENV GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D PYTHON_SHA256=«HEX64»\nRUN --mount=type=secret,id=npm_token npm ci",
    ),
    (
        "no/apt.sh",
        "curl -fsSL https://x.acme.dev/key.asc | gpg --import\ngpg --recv-keys 9DC858229FC7DD38854AE2D88D81803C0EBFCD88\necho '«HEX64»  a.tar.gz' | sha256sum -c",
    ),
    (
        "no/run.sh",
        'DB_PASSWORD="$(vault kv get -field=password secret/db)"\nTOKEN=$(cat /run/secrets/token)\nread -s -p "Password: " PASSWORD\ncurl -H "Authorization: Bearer $TOKEN" -u "$USER:$PASSWORD" https://x.acme.dev\nKEY_FILE=~/.ssh/id_ed25519',
    ),
    (
        "no/run.ps1",
        '$password = Read-Host -AsSecureString "Password"\n$token = $env:API_TOKEN\n$secret = Get-AzKeyVaultSecret -VaultName v -Name s',
    ),
    (
        "no/prose.md",
        "The token is a string of 32 characters. A password must have at least twelve characters.\nSecret: never share it. Key: see below. Password policy: strong.\n| token | description |\n| --- | --- |\n| `access_token` | opaque |",
    ),
    (
        "no/comment.py",
        '# password: what the user typed, never stored\n# token = base64(header + payload)\n# api_key -> looked up in the table of tenants\ndef check(password: str, token: str | None = None, secret: bytes = b"") -> bool: ...',
    ),
    (
        "no/enum.rs",
        "pub enum Token { Ident(String), Keyword(Keyword), Secret }\nlet token = lexer.next_token();\nlet key: [u8; 32] = rng.gen();",
    ),
    ("no/snap.test.js.snap", 'exports[`renders 1`] = `<div class="css-«A20»" data-token="«UUID»" />`;'),
    (
        "no/cdk.json",
        '{"context": {"@aws-cdk/core:newStyleStackSynthesis": true, "hosted-zone:account=«N12»": {"Id": "/hostedzone/Z«A20»"}}}',
    ),
    ("no/tsbuild.tsbuildinfo", '{"fileInfos": [{"version": "«HEX64»", "signature": "«HEX64»"}]}'),
    ("no/known_hosts", "git.acme.dev ssh-ed25519 «SSHPUB»"),
    (
        "no/webhook.py",
        'expected = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()\nif not compare_digest(signature, "t=1492774577,v1=«HEX64»"): raise Bad\nSTRIPE_PRICE = "price_1«A24»"\nSTRIPE_CUSTOMER = "cus_«A20»"',
    ),
    (
        "no/ids.yaml",
        'aws_account: "«N12»"\nami: ami-0«SHORT»«SHORT»\nvpc: vpc-«SHORT»a\nzone: Z«A20»\ncluster_id: «HEX32»\ninstallation_id: «N12»\nkey_id: «UUID»\npublic_key: «B44»',
    ),
    (
        "no/mailto.py",
        'PASSWORD_RESET_SUBJECT = "Reset your password"\nTOKEN_EXPIRED = "Your token has expired, please log in again."\npassword_help = "Use 12 characters or more."',
    ),
    (
        "no/regex.py",
        'TOKEN_RE = re.compile(r"(?P<token>ghp_[A-Za-z0-9]{36})")\nPASSWORD_RE = "^(?=.*[A-Z])(?=.*[0-9]).{12,}$"\nPRIVATE_KEY_MARK = "-----BEGIN RSA PRIVATE KEY-----"',
    ),
    (
        "no/kube.yaml",
        'kind: ConfigMap\ndata:\n  PASSWORD_MIN_LENGTH: "12"\n  TOKEN_TTL: 3600s\n  SECRET_PROVIDER: aws-secretsmanager\n  AUTH_MODE: basic-auth-v2',
    ),
    ("no/words.txt", "correct horse battery staple\npassword1\nletmein\nqwerty123\n123456789"),
    (
        "no/gen.py",
        'password = "".join(random.choices(string.ascii_letters, k=16))\nsecret = hashlib.sha256(seed).hexdigest()\ntoken = f"{prefix}-{uuid4().hex}"\nkey = base64.b64encode(os.urandom(32)).decode()',
    ),
]
