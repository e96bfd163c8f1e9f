"""The host's network settings, where other tools read them: the environment, pip's files, the CA bundle."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.values import Config, ConfigUnreadable, Seconds, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where distributions keep the CA bundle: Debian, Fedora, Alpine and SUSE.
SYSTEM_CA_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)


def with_host_network(
    config: Config, environ: Mapping[str, str], set_paths: set[str]
) -> tuple[Config, dict[str, str]]:
    """Fill in the network settings nobody set from the host; also says where each came from."""
    found = inherited_network(environ)
    taken = {name: value for name, value in found.items() if f"network.{key_of(name)}" not in set_paths}
    network = replace(config.network, **{name: value for name, (value, _) in taken.items()})
    return replace(config, network=network), {
        f"network.{key_of(name)}": origin for name, (_, origin) in taken.items()
    }


def inherited_network(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Read the host's network settings: fields of `NetworkSettings` with value and origin.

    Looks at the usual variables first, then pip's configuration, then the system's CA bundle. A CA bundle
    that is not there is passed over.
    """
    pip = _pip_settings(environ)
    found: dict[str, tuple[Any, str]] = {}
    for name, variables, pip_key in _INHERITED:
        values = [(environ[var], f"{var} of the environment") for var in variables if environ.get(var)]
        values += [pip[pip_key]] if pip_key in pip else []
        if name == "ca_bundle":
            values += [(path, "the system's CA bundle") for path in SYSTEM_CA_BUNDLES]
            values = [(path, origin) for path, origin in values if os.path.isfile(path)]
        if not values:
            continue
        text, origin = values[0]
        if name in ("extra_index_url", "find_links", "trusted_host"):
            found[name] = (tuple(text.split()), origin)
        elif name != "pip_timeout_s":
            found[name] = (text, origin)
        elif re.fullmatch(r"\d+(\.\d+)?", text):  # anything else pip refuses by itself
            found[name] = (Seconds(float(text)), origin)
    return found


# Field, the variables that hold it (first wins), and its key in pip's configuration.
_INHERITED: Final = (
    ("ca_bundle", ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"), "cert"),
    ("http_proxy", ("http_proxy", "HTTP_PROXY"), "proxy"),
    ("https_proxy", ("https_proxy", "HTTPS_PROXY"), "proxy"),
    ("no_proxy", ("no_proxy", "NO_PROXY"), ""),
    ("index_url", ("PIP_INDEX_URL",), "index-url"),
    ("extra_index_url", ("PIP_EXTRA_INDEX_URL",), "extra-index-url"),
    ("find_links", ("PIP_FIND_LINKS",), "find-links"),
    ("trusted_host", ("PIP_TRUSTED_HOST",), "trusted-host"),
    ("pip_timeout_s", ("PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT"), "timeout"),
)


def _pip_settings(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Read pip's configuration files in its order: system, user, environment; `[install]` over `[global]`."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:  # pip's own way of saying: no files at all
        return {}
    home = environ.get("HOME", "")
    config_home = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    paths = [
        "/etc/pip.conf",
        f"{home}/.pip/pip.conf" if home else "",
        f"{config_home}/pip/pip.conf" if config_home else "",
        f"{environ['VIRTUAL_ENV']}/pip.conf" if environ.get("VIRTUAL_ENV") else "",
        named,
    ]
    settings: dict[str, tuple[str, str]] = {}
    for path in paths:
        if path and os.path.isfile(path):
            settings.update(_read_pip_file(path))
    return settings


def _read_pip_file(path: str) -> dict[str, tuple[str, str]]:
    """Read one file of pip's; one that pip could not read either is an error.

    Raises:
        ConfigUnreadable: The file is damaged.
    """
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise ConfigUnreadable(path, str(error).splitlines()[0].lower()) from error
    return {
        key.replace("_", "-"): (value, path)
        for section in ("global", "install")
        if parser.has_section(section)
        for key, value in parser.items(section)
    }
