"""What kind of file a path is, as far as it matters for how secrets are written in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

Style: TypeAlias = Literal["code", "quoted", "yaml", "lines", "shell", "docker", "xml", "prose"]
"""How values are written: only in quotes (code, JSON and the like), to the end of the line (YAML, INI,
dotenv), to the next space (shell, Dockerfiles), between tags, or anyhow (prose, logs)."""

_STYLES: Final[dict[Style, str]] = {
    "code": (
        "py pyi pyx js jsx mjs cjs ts tsx mts cts vue svelte java kt kts scala groovy gradle go rs c h cc "
        "cpp cxx hpp cs fs vb rb erb rake php swift m mm pl pm lua dart ex exs erl clj cljs hs r jl "
        "sql ipynb proto sol zig nim"
    ),
    "quoted": "json json5 jsonc toml tf tfvars hcl har avsc geojson nix jsonnet libsonnet bicep",
    "yaml": "yml yaml eyaml",
    "shell": "sh bash zsh fish ksh ps1 psm1 bat cmd mk make envrc",
    "docker": "dockerfile containerfile",
    "xml": "xml html htm xhtml config csproj plist resx svg wsdl xsd xsl jsp cshtml jinja j2 tmpl hbs",
    "prose": "md mdx rst txt adoc log tex org out err textile wiki csv tsv",
}
_BY_SUFFIX: Final = {suffix: style for style, words in _STYLES.items() for suffix in words.split()}
_BY_NAME: Final[dict[str, Style]] = {
    "makefile": "shell",
    "gnumakefile": "shell",
    "jenkinsfile": "code",
    "vagrantfile": "code",
    "rakefile": "code",
    "gemfile": "code",
    "readme": "prose",
    "changelog": "prose",
    "license": "prose",
}
_LOCKS: Final = frozenset(
    {
        *(
            "poetry.lock",
            "uv.lock",
            "pdm.lock",
            "pipfile.lock",
            "conda-lock.yml",
            "pixi.lock",
            "package-lock.json",
        ),
        *("npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "composer.lock", "gemfile.lock"),
        *(
            "cargo.lock",
            "go.sum",
            "go.work.sum",
            "mix.lock",
            "pubspec.lock",
            "flake.lock",
            "packages.lock.json",
        ),
        *(
            ".terraform.lock.hcl",
            "podfile.lock",
            "gradle.lockfile",
            "deno.lock",
            "paket.lock",
            "cabal.project.freeze",
        ),
        *(".secrets.baseline", "verification-metadata.xml", "swagger-ui-bundle.js"),
    }
)
# Of ISO 639-1, without those that files are named by for other reasons (`my`, `io`, `gn`).
_LANGUAGES: Final = [
    "af",
    "am",
    "ar",
    "az",
    "be",
    "bg",
    "bn",
    "bs",
    "ca",
    "cs",
    "cy",
    "da",
    "de",
    "el",
    "en",
    "eo",
    "es",
    "et",
    "eu",
    "fa",
    "fi",
    "fr",
    "ga",
    "gl",
    "gu",
    "he",
    "hi",
    "hr",
    "hu",
    "hy",
    "id",
    "is",
    "it",
    "ja",
    "ka",
    "kk",
    "km",
    "kn",
    "ko",
    "ky",
    "lo",
    "lt",
    "lv",
    "mk",
    "ml",
    "mn",
    "mr",
    "ms",
    "nb",
    "ne",
    "nl",
    "nn",
    "no",
    "pa",
    "pl",
    "ps",
    "pt",
    "ro",
    "ru",
    "si",
    "sk",
    "sl",
    "sq",
    "sr",
    "sv",
    "sw",
    "ta",
    "te",
    "th",
    "tl",
    "tr",
    "uk",
    "ur",
    "uz",
    "vi",
    "zh",
    "zu",
]
_TRANSLATED: Final = re.compile(
    r"(?:^|/)(?:locales?|i18n|l10n|lang|langs|languages?|translations?|intl|values-[a-z]{2}[\w-]*|nls)(?:/|$)|"
    r"(?:messages|strings|labels|locale|translation)[-_.][a-z]{2}(?:[-_][A-Za-z]{2,4})?\.\w+$|"
    rf"(?:^|/)(?:{'|'.join(_LANGUAGES)})(?:[-_][A-Z]{{2}})?\.(?:json|ya?ml|ts|js)$|"
    r"\.(?:po|pot|xlf|xliff|arb|lproj|ftl|strings)$",
    re.IGNORECASE,
)
_TRYING: Final = re.compile(
    r"(?:^|[/_.-])(?:tests?|testing|specs?|__tests__|__mocks__|mocks?|fixtures?|testdata|test-?utils|testlib|cypress|"
    r"e2e|examples?|samples?|demos?|docs?|documentation|tutorials?|dist|template|benchmarks?|cassettes|snapshots|"
    r"integrationtest|dockertest|smoketest|conftest)(?:[/_.-]|$)|Tests?\.(?:java|kt|cs|php|swift|scala|groovy)$",
    re.IGNORECASE,
)
_MADE: Final = re.compile(
    r"(?:[.-](?:min|bundle|chunk|umd|prod)\.(?:m?js|css)|\.(?:map|css|svg|snap|min\.html))$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """A path's kind."""

    style: Style
    is_trying: bool = False  # tests, examples, documentation: names there promise little
    is_listing: bool = (
        False  # hashes of a lock file, translations, generated code: names there promise nothing
    )


@lru_cache(maxsize=4096)
def kind_of(path: str) -> FileKind:
    """Say what kind of file a path is; only its names are looked at."""
    name = path.rpartition("/")[2].lower()
    is_listing = name in _LOCKS or _TRANSLATED.search(path) is not None or _MADE.search(path) is not None
    return FileKind(style=_style_of(name), is_trying=_TRYING.search(path) is not None, is_listing=is_listing)


def _style_of(name: str) -> Style:
    if name in _BY_NAME:
        return _BY_NAME[name]
    parts = name.split(".")
    if parts[0] in {"dockerfile", "containerfile"}:
        return "docker"
    for suffix in reversed(parts[1:]):  # "settings.py.example" is Python
        if suffix in _BY_SUFFIX:
            return _BY_SUFFIX[suffix]
    return "lines"
