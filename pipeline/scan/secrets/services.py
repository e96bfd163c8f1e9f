"""Patterns of hosted services: payment, messages, models, monitoring, shops and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.scan.secrets.clouds import HEX, SAFE, UUID, WORD
from pipeline.scan.secrets.rule import named, pattern

if TYPE_CHECKING:
    from pipeline.scan.secrets.rule import Named, Pattern

SERVICES: Final[tuple[Pattern, ...]] = (
    pattern(
        "slack-token: Slack token",
        r"xox[abpors]-(?:\d-)?(?:[0-9]{8,14}-){1,3}[A-Za-z0-9]{16,64}(?!\w)|xox[abprs]-[A-Za-z0-9-]{40,150}",
        *(f"xox{one}-" for one in "abpors"),
        strength="live",
    ),
    pattern(
        "slack-config-token: Slack configuration token", r"xoxe(?:\.xox[bp])?-\d-[A-Za-z0-9]{140,200}", "xoxe"
    ),
    pattern("slack-session: Slack session token", r"xox[cd]-[A-Za-z0-9%-]{40,300}", "xoxc-", "xoxd-"),
    pattern(
        "slack-app-token: Slack app token",
        r"xapp-\d-[A-Z0-9]{8,14}-\d{8,14}-[A-Za-z0-9]{32,80}",
        "xapp-",
        strength="live",
    ),
    pattern(
        "slack-webhook: Slack webhook",
        r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/([A-Za-z0-9]+/[A-Za-z0-9]+/[A-Za-z0-9]{16,30})",
        "hooks.slack",
        is_bounded=False,
    ),
    pattern(
        "discord-webhook: Discord webhook",
        rf"discord(?:app)?\.com/api/(?:v\d+/)?webhooks/(\d{{17,20}}/{SAFE}{{60,80}})",
        "discord",
        is_bounded=False,
    ),
    pattern(
        "discord-bot-token: Discord bot token",
        rf"(?i:discord)[^\n]{{0,100}}?(?<!\w)([MNO][A-Za-z0-9]{{22,27}}\.{SAFE}{{6}}\.{SAFE}{{27,38}})(?!{SAFE})",
        "discord",
        is_bounded=False,
    ),
    pattern(
        "telegram-bot-token: Telegram bot token", rf"\d{{8,10}}:AA{SAFE}{{33}}(?!{SAFE})", ":aa", back=10
    ),
    pattern(
        "teams-webhook: Microsoft Teams webhook",
        rf"webhook\.office\.com/webhookb2/({UUID}@{UUID}/IncomingWebhook/{HEX}{{32}}/{UUID})",
        "webhook.office.com",
        is_bounded=False,
    ),
    pattern(
        "google-chat-webhook: Google Chat webhook",
        rf"chat\.googleapis\.com/v1/spaces/\S{{1,40}}?token=({SAFE}{{40,60}})",
        "chat.googleapis.com",
        is_bounded=False,
    ),
    pattern(
        "zapier-webhook: Zapier webhook",
        r"hooks\.zapier\.com/hooks/catch/(\d{4,10}/[a-z0-9]{6,8})",
        "hooks.zapier.com",
        is_bounded=False,
    ),
    pattern(
        "stripe-live-key: Stripe live key",
        r"[sr]k_(?:live|org_live)_[A-Za-z0-9]{16,247}",
        "sk_live_",
        "rk_live_",
        "sk_org_live_",
        strength="live",
    ),
    pattern("stripe-test-key: Stripe test key", r"[sr]k_test_[A-Za-z0-9]{16,247}", "sk_test_", "rk_test_"),
    pattern("stripe-webhook-secret: Stripe webhook secret", r"whsec_[A-Za-z0-9+/]{24,80}={0,2}", "whsec_"),
    pattern("square-token: Square access token", rf"EAAA{SAFE}{{22,60}}(?!{SAFE})", "eaaa"),
    pattern(
        "square-secret: Square secret",
        rf"sq0(?:atp|csp|idb)-{SAFE}{{22,43}}",
        "sq0atp-",
        "sq0csp-",
        "sq0idb-",
    ),
    pattern(
        "braintree-token: Braintree access token",
        rf"access_token\$(?:production|sandbox)\$[0-9a-z]{{16}}\${HEX}{{32}}",
        "access_token$",
    ),
    pattern(
        "plaid-token: Plaid access token",
        rf"access-(?:sandbox|development|production)-{UUID}",
        "access-sandbox-",
        "access-development-",
        "access-production-",
    ),
    pattern(
        "flutterwave-key: Flutterwave secret key",
        r"FLWSECK(?:_TEST|_LIVE)?-[a-zA-Z0-9]{12,40}(?:-X)?",
        "flwseck",
    ),
    pattern(
        "gocardless-token: GoCardless token", rf"(?:live|sandbox)_{SAFE}{{40}}(?!{SAFE})", "live_", "sandbox_"
    ),
    pattern("lob-key: Lob API key", rf"(?:live|test)_{HEX}{{35}}(?!{HEX})", "live_"),
    pattern("easypost-key: EasyPost key", r"EZ[AT]K[A-Za-z0-9]{54}", "ezak", "eztk"),
    pattern("shippo-token: Shippo token", rf"shippo_(?:live|test)_{HEX}{{40}}", "shippo_"),
    pattern("duffel-token: Duffel token", r"duffel_(?:live|test)_[\w=-]{43}", "duffel_"),
    pattern("razorpay-key: Razorpay key", r"rzp_(?:live|test)_[A-Za-z0-9]{14}(?![A-Za-z0-9])", "rzp_"),
    pattern("adyen-key: Adyen API key", r"AQE[A-Za-z0-9+/=-]{85,200}(?![\w+/,;-])", "aqe"),
    pattern(
        "shopify-token: Shopify token",
        rf"shp(?:at|ca|pa|ss|ua)_{HEX}{{32}}(?!{HEX})",
        "shpat_",
        "shpca_",
        "shppa_",
        "shpss_",
        "shpua_",
        strength="live",
    ),
    pattern(
        "twilio-api-key: Twilio API key",
        rf"SK{HEX}{{32}}(?!{WORD})",
        *(f"sk{one}" for one in "0123456789abcdef"),
    ),
    pattern(
        "twilio-auth-token: Twilio auth token",
        rf"AC{HEX}{{32}}[\"'\s,:=]{{1,20}}({HEX}{{32}})(?!{WORD})",
        *(f"ac{one}" for one in "0123456789abcdef"),
    ),
    pattern(
        "sendgrid-key: SendGrid API key",
        rf"SG\.{SAFE}{{16,32}}\.{SAFE}{{16,64}}(?!{SAFE})",
        "sg.",
        strength="live",
    ),
    pattern("mailgun-key: Mailgun key", rf"key-{HEX}{{32}}(?!{HEX})", "key-"),
    pattern(
        "mailchimp-key: Mailchimp API key",
        rf"{HEX}{{32}}-us\d{{1,2}}(?!\w)",
        *(f"-us{one}" for one in range(1, 10)),
        back=32,
    ),
    pattern(
        "brevo-key: Brevo key", rf"x(?:keysib|smtpsib)-{HEX}{{64}}-[A-Za-z0-9]{{16}}", "xkeysib-", "xsmtpsib-"
    ),
    pattern("resend-key: Resend API key", r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}(?![A-Za-z0-9])", "re_"),
    pattern("mandrill-key: Mandrill key", rf"md-{SAFE}{{22}}(?!{SAFE})", "md-"),
    pattern(
        "openai-key: OpenAI API key",
        rf"sk-(?:(?:proj|svcacct|admin|None)-)?{SAFE}{{20,120}}T3BlbkFJ{SAFE}{{20,120}}",
        "sk-",
        strength="live",
    ),
    pattern(
        "openai-project-key: OpenAI API key",
        rf"sk-(?:proj|svcacct|admin)-{SAFE}{{40,200}}",
        "sk-proj-",
        "sk-svcacct-",
        "sk-admin-",
        strength="live",
    ),
    pattern(
        "anthropic-key: Anthropic API key",
        rf"sk-ant-(?:[a-z]{{2,6}}\d{{2}}-)?{SAFE}{{32,200}}",
        "sk-ant-",
        strength="live",
    ),
    pattern("openrouter-key: OpenRouter key", rf"sk-or-v1-{HEX}{{64}}", "sk-or-v1-"),
    pattern("secret-key: API key with the prefix `sk-`", r"sk-[A-Za-z0-9]{32,64}(?![\w-])", "sk-"),
    pattern("secret-key-underscore: API key with the prefix `sk_`", rf"sk_{HEX}{{48}}(?!{WORD})", "sk_"),
    pattern(
        "huggingface-token: Hugging Face token",
        r"(?:hf_|api_org_)[A-Za-z0-9]{34,37}(?![A-Za-z0-9])",
        "hf_",
        "api_org_",
        strength="live",
    ),
    pattern("groq-key: Groq key", r"gsk_[A-Za-z0-9]{52}", "gsk_"),
    pattern("perplexity-key: Perplexity key", r"pplx-[A-Za-z0-9]{48,56}", "pplx-"),
    pattern("xai-key: xAI key", r"xai-[A-Za-z0-9]{70,90}", "xai-"),
    pattern("replicate-token: Replicate token", r"r8_[A-Za-z0-9]{37}(?![A-Za-z0-9])", "r8_"),
    pattern("langfuse-key: Langfuse secret key", rf"sk-lf-{UUID}", "sk-lf-"),
    pattern(
        "harness-token: Harness token",
        rf"(?:pat|sat)\.{SAFE}{{22}}\.{WORD}{{24}}\.{WORD}{{20}}(?!{SAFE})",
        "pat.",
        "sat.",
    ),
    pattern("langsmith-key: LangSmith key", rf"lsv2_(?:pt|sk)_{HEX}{{32}}_{HEX}{{10}}", "lsv2_"),
    pattern("pinecone-key: Pinecone key", r"pcsk_[A-Za-z0-9]{5,8}_[A-Za-z0-9]{60,66}", "pcsk_"),
    pattern("nvidia-key: NVIDIA API key", rf"nvapi-{SAFE}{{60,70}}", "nvapi-"),
    pattern("jina-key: Jina key", r"jina_[A-Za-z0-9]{32}[\w-]{20,40}", "jina_"),
    pattern("tavily-key: Tavily key", r"tvly-(?:dev-|prod-)?[A-Za-z0-9]{30,36}", "tvly-"),
    pattern(
        "newrelic-key: New Relic key",
        r"NR(?:AK|RA|II|MA)-[A-Za-z0-9]{27,32}(?![A-Za-z0-9])",
        "nrak-",
        "nrra-",
        "nrii-",
    ),
    pattern(
        "newrelic-license: New Relic licence key", rf"{HEX}{{36}}(?:FFFF)?NRAL(?!{WORD})", "nral", back=40
    ),
    pattern(
        "grafana-token: Grafana service account token",
        rf"glsa_[A-Za-z0-9]{{32}}_{HEX}{{8}}",
        "glsa_",
        strength="live",
    ),
    pattern("grafana-cloud-token: Grafana Cloud token", r"glc_[A-Za-z0-9+/]{32,400}={0,3}", "glc_"),
    pattern("grafana-key: Grafana API key", r"eyJrIjoi[A-Za-z0-9+/]{60,400}={0,3}", "eyjrijoi"),
    pattern(
        "sentry-token: Sentry token",
        rf"sntrys_eyJ[\w=+/-]{{50,400}}|sntryu_{HEX}{{64}}",
        "sntrys_",
        "sntryu_",
    ),
    pattern("honeycomb-key: Honeycomb key", r"hca?i[kc]_[a-z0-9]{58,60}", "hcaik_", "hcaic_", "hcik_"),
    pattern("dynatrace-token: Dynatrace token", r"dt0[a-zA-Z]\d{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}", "dt0"),
    pattern("posthog-key: PostHog personal key", r"phx_[A-Za-z0-9]{40,50}", "phx_"),
    pattern("launchdarkly-key: LaunchDarkly key", rf"(?:sdk|api)-{UUID}", "sdk-", "api-"),
    pattern(
        "mapbox-secret-token: Mapbox secret token", rf"sk\.eyJ{SAFE}{{20,200}}\.{SAFE}{{20,40}}", "sk.eyj"
    ),
    pattern("contentful-token: Contentful management token", rf"CFPAT-{SAFE}{{43}}(?!{SAFE})", "cfpat-"),
    pattern("airtable-token: Airtable token", rf"pat[A-Za-z0-9]{{14}}\.{HEX}{{64}}", "pat", strength="live"),
    pattern(
        "notion-token: Notion token",
        rf"(?:secret_{WORD}{{43}}|ntn_{WORD}{{40,52}})(?!{WORD})",
        "secret_",
        "ntn_",
    ),
    pattern("linear-key: Linear API key", r"lin_(?:api|oauth)_[A-Za-z0-9]{40,64}", "lin_api_", "lin_oauth_"),
    pattern("figma-token: Figma token", rf"fig[dou]r?h?_{SAFE}{{40,52}}", "figd_", "figo", "figu_"),
    pattern("typeform-token: Typeform token", r"tfp_[\w=.-]{40,64}", "tfp_"),
    pattern("dropbox-token: Dropbox token", rf"sl\.(?:u\.)?{SAFE}{{100,1500}}", "sl."),
    pattern("adobe-secret: Adobe client secret", r"p8e-[A-Za-z0-9-]{32}(?![\w-])", "p8e-"),
    pattern(
        "hubspot-token: HubSpot private app token",
        rf"pat-(?:na|eu|ap)\d-{UUID}",
        "pat-na",
        "pat-eu",
        "pat-ap",
    ),
    pattern("salesforce-token: Salesforce access token", r"00D[A-Za-z0-9]{12,15}![\w.]{60,120}", "00d"),
    pattern(
        "facebook-token: Facebook access token",
        r"EAA(?:CEdEose0cBA[A-Za-z0-9]{20,300}|[A-Za-z0-9]{80,300})(?![\w-])",
        "eaa",
    ),
    pattern(
        "firebase-server-key: Firebase messaging server key",
        rf"AAAA{SAFE}{{7}}:APA91b{SAFE}{{134}}",
        ":apa91b",
        back=11,
    ),
    pattern("postman-key: Postman key", rf"PMA[KT]-{HEX}{{24}}-{HEX}{{34}}", "pmak-", "pmat-"),
    pattern(
        "authress-key: Authress access key",
        r"(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,120}",
        "sc_",
        "ext_",
        "scauth_",
        "authress_",
    ),
    pattern(
        "facebook-app-token: Facebook app token",
        rf"(?<!\d)\d{{15,16}}\|{SAFE}{{27}}(?!{SAFE})",
        *(f"{one}|" for one in "0123456789"),
        back=16,
    ),
    pattern("intra42-secret: Intra 42 client secret", rf"s-s4t2(?:ud|af)-{HEX}{{64}}", "s-s4t2"),
    pattern("maxmind-key: MaxMind licence key", r"\w{6}_\w{29}_mmk(?!\w)", "_mmk", back=36),
    pattern(
        "settlemint-token: SettleMint token",
        r"sm_[aps]at_[A-Za-z0-9]{16}(?!\w)",
        *(f"sm_{one}at_" for one in "aps"),
    ),
    pattern(
        "twitter-bearer-token: Twitter bearer token",
        r"A{20,22}[A-Za-z0-9%]{60,100}(?![A-Za-z0-9%])",
        "a" * 20,
    ),
    pattern("readme-key: ReadMe key", r"rdme_[a-z0-9]{70}", "rdme_"),
    pattern("frameio-token: Frame.io token", r"fio-u-[\w=-]{64}", "fio-u-"),
    pattern("checkly-key: Checkly key", rf"cu_{HEX}{{32}}(?!{HEX})", "cu_"),
    pattern("scalingo-token: Scalingo token", rf"tk-us-{SAFE}{{48}}(?!{SAFE})", "tk-us-"),
    pattern("fullstory-key: Fullstory key", rf"na1\.{WORD}{{60,100}}/{WORD}{{6,20}}", "na1."),
    pattern(
        "deno-token: Deno Deploy token", r"dd[pow]_[A-Za-z0-9]{36}(?![A-Za-z0-9])", "ddp_", "ddo_", "ddw_"
    ),
    pattern(
        "cloudinary: Cloudinary credentials", rf"cloudinary://\d{{10,20}}:({SAFE}{{20,40}})@", "cloudinary://"
    ),
)

NAMED: Final[tuple[Named, ...]] = (
    named(
        "aws-secret-access-key: AWS secret access key",
        r"(?:^|_)aws.*(?:secret|key)|secret_?access_?key",
        r"[A-Za-z0-9/+]{40}",
    ),
    named("heroku-api-key: Heroku API key", r"heroku", rf"{UUID}"),
    named("datadog-key: Datadog key", r"(?:^|_)(?:datadog|dd)_", rf"{HEX}{{32}}|{HEX}{{40}}"),
    named("twilio-auth-token: Twilio auth token", r"twilio", rf"{HEX}{{32}}"),
    named("cloudflare-key: Cloudflare key or token", r"cloudflare|(?:^|_)cf_", rf"{HEX}{{37}}|{SAFE}{{40}}"),
    named("algolia-admin-key: Algolia key", r"algolia", rf"{HEX}{{32}}"),
    named("fastly-token: Fastly token", r"fastly", rf"{SAFE}{{32}}"),
    named("linode-token: Linode token", r"linode", rf"{HEX}{{64}}"),
    named("okta-token: Okta token", r"okta", rf"00{SAFE}{{40}}"),
    named("auth0-secret: Auth0 client secret", r"auth0", rf"{SAFE}{{64}}"),
    named("snyk-token: Snyk token", r"snyk", UUID),
    named("codecov-token: Codecov token", r"codecov", UUID),
    named("postmark-token: Postmark token", r"postmark", UUID),
    named("azure-secret: Azure key", r"azure|arm_client", rf"{UUID}|{HEX}{{32}}|[a-z0-9]{{52}}"),
    named("vault-secret-id: HashiCorp Vault secret id", r"(?:vault|approle).*secret_id$", UUID),
    named("vault-token: HashiCorp Vault token", r"vault", r"s\.[A-Za-z0-9]{24}"),
    named("wandb-key: Weights & Biases key", r"wandb", rf"{HEX}{{40}}"),
    named("mistral-key: Mistral key", r"mistral", rf"{WORD}{{32}}"),
    named("cohere-key: Cohere key", r"cohere|(?:^|_)co_api", rf"{WORD}{{40}}"),
    named("facebook-secret: Facebook app secret", r"facebook|(?:^|_)fb_", rf"{HEX}{{32}}"),
    named("pagerduty-key: PagerDuty key", r"pagerduty", r"[\w+-]{20}"),
    named("circleci-token: CircleCI token", r"circle", rf"{HEX}{{40}}"),
    named("jira-token: Jira or Confluence token", r"jira|confluence|atlassian", rf"{WORD}{{24}}"),
    named("rollbar-token: Rollbar token", r"rollbar", rf"{HEX}{{32}}"),
    named("hetzner-token: Hetzner token", r"hetzner|hcloud", rf"{WORD}{{64}}"),
    named("scaleway-secret: Scaleway secret key", r"scaleway|scw_", UUID),
    named("ovh-secret: OVH application secret", r"ovh", rf"{WORD}{{32}}"),
    named("ibm-cloud-key: IBM Cloud key", r"ibm|watson", rf"{SAFE}{{44}}"),
    named("tencent-secret-key: Tencent Cloud secret key", r"tencent|qcloud", rf"{WORD}{{32}}"),
    named(
        "alibaba-secret-key: Alibaba Cloud secret key",
        r"alibaba|aliyun|alicloud|(?:^|_)oss_",
        rf"{WORD}{{30}}",
    ),
    named("spotify-secret: Spotify client secret", r"spotify", rf"{HEX}{{32}}"),
    named("twitter-secret: Twitter secret", r"twitter", rf"{WORD}{{45,50}}"),
    named("travis-token: Travis CI token", r"travis", rf"{SAFE}{{22}}"),
    named("sumologic-key: Sumo Logic access key", r"sumo", rf"{WORD}{{64}}"),
    named("newrelic-license: New Relic licence key", r"new_?relic", rf"{HEX}{{40}}"),
    named("rails-secret: Rails secret key base", r"secret_key_base", rf"{HEX}{{64}}|{HEX}{{128}}"),
)
