"""Patterns of clouds, source forges, package registries and infrastructure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.scan.secrets.rule import pattern

if TYPE_CHECKING:
    from pipeline.scan.secrets.rule import Pattern

HEX: Final = "[0-9a-fA-F]"
WORD: Final = "[A-Za-z0-9]"
SAFE: Final = r"[\w-]"  # base64 for URLs
UUID: Final = rf"{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}"

CLOUDS: Final[tuple[Pattern, ...]] = (
    pattern(
        "aws-access-key-id: AWS access key",
        r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}(?![A-Za-z0-9+/])",
        "akia",
        "asia",
        "abia",
        "acca",
        strength="live",
    ),
    pattern(
        "aws-session-token: AWS session token",
        r"(?:IQoJb3JpZ2lu|FwoGZXIvYXdz|FQoGZXIvYXdz|FQoDYXdz)[A-Za-z0-9/+=]{80,2000}",
        "iqojb3jpz2lu",
        "fwogzxivyxdz",
        "fqogzxivyxdz",
        "fqodyxdz",
    ),
    pattern("aws-bedrock-key: Amazon Bedrock API key", r"ABSK[A-Za-z0-9+/]{109,269}={0,2}", "absk"),
    pattern(
        "aws-bedrock-short-key: Amazon Bedrock API key",
        r"bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t[A-Za-z0-9+/=]{20,4000}",
        "bedrock-api-key-",
    ),
    pattern("clickhouse-key: ClickHouse Cloud key", r"4b1d[A-Za-z0-9]{38}(?!\w)", "4b1d"),
    pattern("aws-mws: Amazon MWS token", rf"amzn\.mws\.{UUID}", "amzn.mws."),
    pattern("gcp-api-key: Google API key", rf"AIza{SAFE}{{35}}(?!{SAFE})", "aiza", strength="live"),
    pattern("gcp-oauth-secret: Google OAuth client secret", rf"GOCSPX-{SAFE}{{28}}(?!{SAFE})", "gocspx-"),
    pattern("gcp-oauth-token: Google OAuth access token", rf"ya29\.{SAFE}{{30,1000}}", "ya29."),
    pattern("gcp-refresh-token: Google OAuth refresh token", rf"1//0{SAFE}{{40,200}}", "1//0"),
    pattern(
        "azure-account-key: Azure storage or database account key",
        r"(?i:AccountKey)[=:]\s?([A-Za-z0-9+/]{86}==)",
        "accountkey",
        is_bounded=False,
    ),
    pattern(
        "azure-shared-access-key: Azure shared access key",
        r"(?i:SharedAccessKey)[=:]\s?([A-Za-z0-9+/]{43}=)",
        "sharedaccesskey",
        is_bounded=False,
    ),
    pattern(
        "azure-sas: Azure shared access signature",
        r"[?&;]sig=([A-Za-z0-9+/%]{43,100}(?:=|%3[dD])?)(?=[&\s\"'<;]|$)",
        "?sig=",
        "&sig=",
        is_bounded=False,
    ),
    pattern(
        "azure-client-secret: Microsoft Entra client secret",
        r"[\w.~-]{3}[0-9]Q~[\w.~-]{31,34}(?![\w.~-])",
        "q~",
        back=4,
    ),
    pattern(
        "azure-service-key: Azure service key",
        r"[A-Za-z0-9+/]{33,76}(?:AzSe|\+ACR|AzFu|\+ASt|AIoT|\+AMC|ACDb|APIM|AzCa)[A-Za-z0-9+/]{5,8}={0,2}(?![A-Za-z0-9+/])",
        *("azse", "+acr", "azfu", "+ast", "aiot", "acdb", "apim", "azca"),
        back=76,
    ),
    pattern(
        "azure-devops-token: Azure DevOps personal access token",
        r"[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}(?![A-Za-z0-9])",
        "azdo",
        back=76,
    ),
    pattern("alibaba-access-key: Alibaba Cloud access key", r"LTAI[A-Za-z0-9]{12,26}(?![A-Za-z0-9])", "ltai"),
    pattern("tencent-secret-id: Tencent Cloud secret id", r"AKID[A-Za-z0-9]{32}(?![A-Za-z0-9])", "akid"),
    pattern("yandex-api-key: Yandex Cloud API key", rf"AQVN{SAFE}{{35,38}}(?!{SAFE})", "aqvn"),
    pattern(
        "yandex-iam-token: Yandex Cloud IAM token", rf"t1\.[A-Z0-9a-z_-]+[=]{{0,2}}\.{SAFE}{{86}}", "t1."
    ),
    pattern("yandex-oauth-token: Yandex OAuth token", rf"y0_{SAFE}{{45,70}}(?!{SAFE})", "y0_"),
    pattern("scaleway-access-key: Scaleway access key", r"SCW[A-Z0-9]{17}(?![A-Za-z0-9])", "scw"),
    pattern(
        "digitalocean-token: DigitalOcean token",
        rf"do[oprt]_v1_{HEX}{{64}}(?!{HEX})",
        *("dop_v1_", "doo_v1_", "dor_v1_", "dot_v1_"),
        strength="live",
    ),
    pattern(
        "heroku-api-key: Heroku API key", rf"(?i:heroku)[^\n]{{0,40}}?({UUID})", "heroku", is_bounded=False
    ),
    pattern("heroku-api-key: Heroku API key", rf"HRKU-(?:AA{SAFE}{{58,62}}|{UUID})", "hrku-"),
    pattern(
        "flyio-token: Fly.io token", r"fm[12][ar]?_[A-Za-z0-9+/=_,-]{100,2000}", "fm2_", "fm1r_", "fm1a_"
    ),
    pattern("flyio-legacy-token: Fly.io token", rf"fo1_{SAFE}{{43}}(?!{SAFE})", "fo1_"),
    pattern("netlify-token: Netlify token", r"nfp_[A-Za-z0-9_]{36,60}", "nfp_"),
    pattern(
        "vercel-token: Vercel token", r"vc[pkriac]_[A-Za-z0-9]{24,60}", "vcp_", "vck_", "vci_", "vcr_", "vca_"
    ),
    pattern("render-api-key: Render API key", r"rnd_[A-Za-z0-9]{28,36}(?![A-Za-z0-9])", "rnd_"),
    pattern("supabase-token: Supabase token", rf"sbp_(?:v0_)?{HEX}{{40}}(?!{HEX})", "sbp_"),
    pattern("supabase-secret-key: Supabase secret key", rf"sb_secret_{SAFE}{{30,60}}", "sb_secret_"),
    pattern(
        "planetscale-token: PlanetScale token or password",
        r"pscale_(?:tkn|pw|oauth)_[\w=.-]{32,64}(?![\w-])",
        *("pscale_tkn_", "pscale_pw_", "pscale_oauth_"),
    ),
    pattern("neon-api-key: Neon API key", r"napi_[a-z0-9]{60,80}(?![a-z0-9])", "napi_"),
    pattern("cloudflare-origin-ca: Cloudflare origin CA key", rf"v1\.0-{HEX}{{24}}-{HEX}{{146}}", "v1.0-"),
    pattern(
        "github-token: GitHub token",
        r"gh[pousr]_[A-Za-z0-9]{36,255}",
        *(f"gh{one}_" for one in "pousr"),
        strength="live",
    ),
    pattern(
        "github-fine-grained-token: GitHub fine-grained token",
        r"github_pat_[A-Za-z0-9_]{70,255}",
        "github_pat_",
        strength="live",
    ),
    pattern(
        "gitlab-token: GitLab token",
        rf"gl(?:pat|dt|rt|rtr|cbt|ptt|ft|imt|agent|oas|soat|ffct)-(?:t\d_)?{SAFE}{{20,300}}(?:\.[\w.]{{2,20}})?",
        *(
            "glpat-",
            "gldt-",
            "glrt-",
            "glrtr-",
            "glcbt-",
            "glptt-",
            "glft-",
            "glimt-",
            "glagent-",
            "gloas-",
            "glsoat-",
            "glffct-",
        ),
        strength="live",
    ),
    pattern(
        "gitlab-session: GitLab session",
        r"_gitlab_session=([0-9a-z]{32})",
        "_gitlab_session=",
        is_bounded=False,
    ),
    pattern(
        "gitlab-runner-token: GitLab runner registration token",
        rf"GR1348941{SAFE}{{20}}(?!{SAFE})",
        "gr1348941",
    ),
    pattern(
        "bitbucket-app-password: Bitbucket app password", r"ATBB[A-Za-z0-9]{28,40}(?![A-Za-z0-9])", "atbb"
    ),
    pattern("atlassian-token: Atlassian API token", r"ATATT3xFfGF0[\w=-]{60,250}", "atatt3xffgf0"),
    pattern("atlassian-scoped-token: Atlassian repository token", r"ATCTT3xFfG[\w=-]{100,250}", "atctt3xffg"),
    pattern(
        "sourcegraph-token: Sourcegraph token",
        rf"sgp_(?:(?:{HEX}{{16}}|local)_)?{HEX}{{40}}(?!{HEX})",
        "sgp_",
    ),
    pattern("npm-token: npm token", r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])", "npm_", strength="live"),
    pattern("pypi-token: PyPI upload token", rf"pypi-AgE[IN]{SAFE}{{30,1000}}", "pypi-age", strength="live"),
    pattern("rubygems-key: RubyGems API key", rf"rubygems_{HEX}{{48}}(?!{HEX})", "rubygems_"),
    pattern("crates-token: crates.io token", r"cio[A-Za-z0-9]{32}(?![A-Za-z0-9])", "cio"),
    pattern("nuget-key: NuGet API key", r"oy2[a-z0-9]{43}(?![A-Za-z0-9])", "oy2"),
    pattern("clojars-token: Clojars deploy token", r"CLOJARS_[A-Za-z0-9]{60}", "clojars_"),
    pattern("packagist-token: Packagist token", rf"packagist_[ou][ru]t_{HEX}{{60,80}}", "packagist_"),
    pattern(
        "docker-hub-token: Docker Hub token",
        rf"dckr_(?:pat|oat)_{SAFE}{{24,60}}",
        "dckr_pat_",
        "dckr_oat_",
        strength="live",
    ),
    pattern("artifactory-key: Artifactory API key", r"AKCp[A-Za-z0-9]{60,75}(?![A-Za-z0-9])", "akcp"),
    pattern(
        "artifactory-reference-token: Artifactory reference token",
        r"cmVmd[A-Za-z0-9]{59}(?![A-Za-z0-9])",
        "cmvmd",
    ),
    pattern(
        "terraform-token: Terraform Cloud token",
        r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,75}",
        ".atlasv1.",
        back=14,
    ),
    pattern("pulumi-token: Pulumi token", rf"pul-{HEX}{{40}}(?!{HEX})", "pul-"),
    pattern(
        "vault-token: HashiCorp Vault token",
        rf"hv[sbr]\.{SAFE}{{24,300}}",
        "hvs.",
        "hvb.",
        "hvr.",
        strength="live",
    ),
    pattern(
        "doppler-token: Doppler token",
        rf"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[\w-]{{2,35}}\.)?[A-Za-z0-9]{{40,44}}(?!{WORD})",
        *("dp.pt.", "dp.st.", "dp.ct.", "dp.sa.", "dp.scim.", "dp.audit."),
    ),
    pattern(
        "onepassword-token: 1Password service account token",
        r"ops_eyJ[A-Za-z0-9+/_-]{200,2000}={0,3}",
        "ops_eyj",
    ),
    pattern(
        "onepassword-secret-key: 1Password secret key",
        r"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}",
        "a3-",
    ),
    pattern(
        "age-secret-key: age secret key",
        r"AGE-SECRET-KEY-1[A-Z0-9]{58}",
        "age-secret-key-1",
        strength="live",
    ),
    pattern(
        "databricks-token: Databricks token", rf"dapi{HEX}{{32}}(?:-\d)?(?!{HEX})", "dapi", strength="live"
    ),
    pattern(
        "tailscale-key: Tailscale key",
        r"tskey-[a-z]+-[A-Za-z0-9]{5,25}(?:CNTRL)?-[A-Za-z0-9]{20,50}",
        "tskey-",
    ),
    pattern(
        "defined-networking-token: Defined Networking token",
        r"dnkey-[a-z0-9=_-]{26}-[a-z0-9=_-]{52}",
        "dnkey-",
    ),
    pattern("openshift-token: OpenShift user token", rf"sha256~{SAFE}{{43}}(?!{SAFE})", "sha256~"),
    pattern(
        "snyk-token: Snyk token", r"snyk_(?:uat|sat)\.[a-z0-9]{8}\.[\w.-]{40,300}", "snyk_uat.", "snyk_sat."
    ),
    pattern(
        "buildkite-token: Buildkite token",
        rf"bk(?:ua|aj|pt|ct)_{WORD}{{40,64}}",
        "bkua_",
        "bkaj_",
        "bkpt_",
        "bkct_",
    ),
    pattern(
        "circleci-token: CircleCI token",
        rf"CCIP(?:AT|RJ)_[A-Za-z0-9]{{20,24}}_{HEX}{{40}}",
        "ccipat_",
        "cciprj_",
    ),
    pattern("sonar-token: SonarQube token", rf"sq[pua]_{HEX}{{40}}(?!{HEX})", "sqp_", "squ_", "sqa_"),
    pattern("prefect-key: Prefect key", r"pn[ub]_[A-Za-z0-9]{36}(?![A-Za-z0-9])", "pnu_", "pnb_"),
    pattern("octopus-key: Octopus Deploy key", r"API-[A-Z0-9]{26,32}(?![A-Z0-9])", "api-"),
    pattern("infracost-key: Infracost key", r"ico-[A-Za-z0-9]{32}(?![A-Za-z0-9])", "ico-"),
    pattern(
        "wireguard-key: WireGuard private key",
        r"(?i:PrivateKey|PresharedKey)[ \t]*=[ \t]*([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)",
        "privatekey",
        "presharedkey",
    ),
)
