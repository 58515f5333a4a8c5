//! The one table of settings: what the readers read, what the README shows, what a typing error is compared with.

use std::fmt;

/// A program that reads settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Program {
    /// `kingpost-extractor`.
    Extractor,
    /// `kingpost-transformer`.
    Transformer,
    /// `kingpost-loader`.
    Loader,
    /// `kingpost`, the operator's command.
    Operator,
}

impl Program {
    /// Every program.
    pub const ALL: [Program; 4] =
        [Program::Extractor, Program::Transformer, Program::Loader, Program::Operator];

    /// The word used in tables: `extractor`, `transformer`, `loader`, `operator`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Program::Extractor => "extractor",
            Program::Transformer => "transformer",
            Program::Loader => "loader",
            Program::Operator => "operator",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What holds when a variable is missing or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingDefault {
    /// Nothing: the setting is required, or stays off.
    None,
    /// The same text for every program.
    Same(&'static str),
    /// A text for each program.
    PerProgram(&'static [(Program, &'static str)]),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable, without an account.
    pub name: &'static str,
    /// What holds without it.
    pub default: SettingDefault,
    /// Who reads it.
    pub used_by: &'static [Program],
    /// Whether its value is kept from every message and log.
    pub secret: bool,
    /// When it must be given; `None` for never.
    pub required_when: Option<&'static str>,
    /// What it is, with its unit.
    pub meaning: &'static str,
    /// What its value must look like, for an error text.
    pub expected: &'static str,
    /// A value of the right shape, plainly invented.
    pub example: &'static str,
}

impl Setting {
    /// The default for one program.
    pub fn default_for(&self, program: Program) -> Option<&'static str> {
        match self.default {
            SettingDefault::None => None,
            SettingDefault::Same(text) => Some(text),
            SettingDefault::PerProgram(texts) => {
                texts.iter().find(|(who, _)| *who == program).map(|(_, text)| *text)
            }
        }
    }

    /// Whether `NAME_FILE` may be given instead. A setting that names a file itself has no such form.
    pub fn may_come_from_a_file(&self) -> bool {
        !self.name.ends_with("_FILE")
    }

    /// Whether the variable may carry an account, as in `WDT_NORTH_URL`.
    pub fn is_per_account(&self) -> bool {
        matches!(self.system(), "WDT" | "QIMEN" | "KINGDEE")
    }

    /// The variable of an account: `WDT_URL` and `NORTH` give `WDT_NORTH_URL`.
    pub(crate) fn variable(&self, account: Option<&str>) -> String {
        match (account, self.name.split_once('_')) {
            (Some(account), Some((system, rest))) => format!("{system}_{account}_{rest}"),
            _ => self.name.to_owned(),
        }
    }

    pub(crate) fn system(&self) -> &'static str {
        self.name.split('_').next().unwrap_or(self.name)
    }
}

const ALL: &[Program] = &Program::ALL;
const WORKERS: &[Program] = &[Program::Extractor, Program::Transformer, Program::Loader];
const EXTRACTING: &[Program] = &[Program::Extractor];
const READING: &[Program] = &[Program::Extractor, Program::Operator];
const POSTING: &[Program] = &[Program::Loader, Program::Operator];

const OPERATING: &[Program] = &[Program::Operator];

const HTTP_ADDRS: &[(Program, &str)] = &[
    (Program::Extractor, "127.0.0.1:9101"),
    (Program::Transformer, "127.0.0.1:9102"),
    (Program::Loader, "127.0.0.1:9103"),
];

const SERVICES: &[(Program, &str)] = &[
    (Program::Extractor, "kingpost-extractor"),
    (Program::Transformer, "kingpost-transformer"),
    (Program::Loader, "kingpost-loader"),
];

/// A row that is neither secret nor required; the rows below say what differs.
const ROW: Setting = Setting {
    name: "",
    default: SettingDefault::None,
    used_by: ALL,
    secret: false,
    required_when: None,
    meaning: "",
    expected: "",
    example: "",
};

/// Every setting of every program.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "AMQP_URL",
        default: SettingDefault::Same("amqp://guest:guest@127.0.0.1:5672/%2f"),
        secret: true,
        meaning: "RabbitMQ: user, password, host, port and virtual host; `amqps` for TLS",
        expected: "amqp[s]://user:password@host:port/vhost, with the virtual host / written as %2f",
        example: "amqps://user:password@rabbitmq.example:5671/%2f",
        ..ROW
    },
    Setting {
        name: "AMQP_CA_FILE",
        meaning: "certificates (PEM) to trust for `amqps` besides those of the system",
        expected: "the path of a readable PEM file with at least one certificate",
        example: "/etc/kingpost/rabbitmq-ca.pem",
        ..ROW
    },
    Setting {
        name: "SCHEMES_DIR",
        default: SettingDefault::Same("schemes"),
        meaning: "the directory of scheme files",
        expected: "the path of a directory",
        example: "/etc/kingpost/schemes",
        ..ROW
    },
    Setting {
        name: "HTTP_ADDR",
        default: SettingDefault::PerProgram(HTTP_ADDRS),
        meaning: "where `/metrics`, `/healthz` and `/readyz` are served; `kingpost health` asks there",
        expected: "an IP address and a port (0.0.0.0 for every IPv4 address of the machine)",
        example: "0.0.0.0:9101",
        ..ROW
    },
    Setting {
        name: "LOG_FORMAT",
        default: SettingDefault::Same("json"),
        meaning: "`json`, one object a line, or `text`",
        expected: "json or text",
        example: "text",
        ..ROW
    },
    Setting {
        name: "RUST_LOG",
        default: SettingDefault::Same("info"),
        meaning: "what is logged: a level, or `target=level` pairs",
        expected: "a level (error, warn, info, debug, trace) or target=level pairs",
        example: "info,kingpost_loader=debug",
        ..ROW
    },
    Setting {
        name: "DRAIN_SECONDS",
        default: SettingDefault::Same("25"),
        used_by: WORKERS,
        meaning: "how long work in hand may take to finish after a stop signal, in seconds",
        expected: "whole seconds from 1 to 3600",
        example: "25",
        ..ROW
    },
    Setting {
        name: "JOURNAL",
        default: SettingDefault::Same("on"),
        meaning: "`on` writes what happens to each document to a stream of RabbitMQ, for `kingpost trace`; `off` writes nothing",
        expected: "on or off",
        example: "on",
        ..ROW
    },
    Setting {
        name: "JOURNAL_MAX_AGE",
        default: SettingDefault::Same("30d"),
        meaning: "how long the journal is kept; holds when the stream is made",
        expected: "a whole number with m, h or d, from 1m to 3650d",
        example: "30d",
        ..ROW
    },
    Setting {
        name: "JOURNAL_MAX_BYTES",
        default: SettingDefault::Same("5GB"),
        meaning: "how large the journal may become; holds when the stream is made",
        expected: "a whole number of bytes, or one with MB or GB, from 10MB to 10000GB",
        example: "5GB",
        ..ROW
    },
    Setting {
        name: "PUSH_ADDR",
        used_by: EXTRACTING,
        meaning: "where documents are taken that a sender pushes; without it none are",
        expected: "an IP address and a port (127.0.0.1 when a proxy with TLS stands before it)",
        example: "127.0.0.1:9111",
        ..ROW
    },
    Setting {
        name: "PUSH_TOKEN",
        used_by: EXTRACTING,
        secret: true,
        required_when: Some("with `PUSH_ADDR`"),
        meaning: "what senders have to present (`Authorization: Bearer …`)",
        expected: "at least 16 letters, digits and signs, without blanks",
        example: "an-example-of-a-token",
        ..ROW
    },
    Setting {
        name: "PUSH_MAX_BYTES",
        default: SettingDefault::Same("8388608"),
        used_by: EXTRACTING,
        meaning: "the largest body of a pushed request, in bytes",
        expected: "whole bytes from 1024 to 15728640",
        example: "8388608",
        ..ROW
    },
    Setting {
        name: "MANAGEMENT_URL",
        used_by: OPERATING,
        secret: true,
        meaning: "RabbitMQ's management API, for what AMQP doesn't tell: what is in flight, policies; without `user:password@` those of `AMQP_URL` are used",
        expected: "http[s]://[user:password@]host:port, without query or fragment",
        example: "https://kingpost-monitor:password@rabbitmq.example:15671",
        ..ROW
    },
    Setting {
        name: "MANAGEMENT_CA_FILE",
        used_by: OPERATING,
        meaning: "certificates (PEM) to trust for the management API besides those of the system",
        expected: "the path of a readable PEM file with at least one certificate",
        example: "/etc/kingpost/rabbitmq-ca.pem",
        ..ROW
    },
    Setting {
        name: "OTEL_EXPORTER_OTLP_ENDPOINT",
        used_by: WORKERS,
        meaning: "the OpenTelemetry collector that spans are sent to, by OTLP over HTTP; without it none are; only in builds with the feature `otlp`",
        expected: "an http or https URL without user, query or fragment; /v1/traces is added",
        example: "http://collector.example:4318",
        ..ROW
    },
    Setting {
        name: "OTEL_SERVICE_NAME",
        default: SettingDefault::PerProgram(SERVICES),
        used_by: WORKERS,
        meaning: "the name that spans carry; read with `OTEL_EXPORTER_OTLP_ENDPOINT` alone, as the next two are",
        expected: "a name",
        example: "kingpost-loader-north",
        ..ROW
    },
    Setting {
        name: "OTEL_TRACES_SAMPLER",
        default: SettingDefault::Same("parentbased_always_on"),
        used_by: WORKERS,
        meaning: "which spans are recorded; with `parentbased_` as the worker before, or the sender of a push, has decided",
        expected: "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or \
                   parentbased_traceidratio",
        example: "parentbased_traceidratio",
        ..ROW
    },
    Setting {
        name: "OTEL_TRACES_SAMPLER_ARG",
        default: SettingDefault::Same("1"),
        used_by: WORKERS,
        meaning: "the share of traces that a sampler with `traceidratio` records",
        expected: "a number from 0 to 1",
        example: "0.1",
        ..ROW
    },
    Setting {
        name: "WDT_URL",
        used_by: READING,
        required_when: Some("always"),
        meaning: "the gateway: `…/router/qm` of Qimen, or `…/openapi` of WDT itself",
        expected: "an http or https URL without user, query or fragment, \
                   ending in /router/qm (Qimen) or /openapi (direct) as WDT_TRANSPORT says",
        example: "https://wdt.example/router/qm",
        ..ROW
    },
    Setting {
        name: "WDT_TRANSPORT",
        default: SettingDefault::Same("qimen"),
        used_by: READING,
        meaning: "`qimen` or `direct`",
        expected: "qimen or direct",
        example: "qimen",
        ..ROW
    },
    Setting {
        name: "WDT_SID",
        used_by: READING,
        required_when: Some("always"),
        meaning: "seller account (卖家账号)",
        expected: "the seller account of WDT",
        example: "demo-seller",
        ..ROW
    },
    Setting {
        name: "WDT_APP_KEY",
        used_by: READING,
        required_when: Some("always"),
        meaning: "API account of WDT",
        expected: "the API account of WDT",
        example: "demo-key",
        ..ROW
    },
    Setting {
        name: "WDT_APP_SECRET",
        used_by: READING,
        secret: true,
        required_when: Some("always"),
        meaning: "its secret and salt, as WDT issues them: `secret:salt`",
        expected: "secret:salt, with both halves around the first colon",
        example: "secret:salt",
        ..ROW
    },
    Setting {
        name: "WDT_APP_SECRET_EXPIRES",
        used_by: READING,
        meaning: "when that secret expires, for an alert ([metrics](docs/metrics.md)): a day in Beijing, or an instant",
        expected: "a date such as 2027-03-31, or an instant such as 2027-03-31T00:00:00+08:00",
        example: "2027-03-31",
        ..ROW
    },
    Setting {
        name: "WDT_CA_FILE",
        used_by: READING,
        meaning: "certificates (PEM) to trust for WDT besides those of the system",
        expected: "the path of a readable PEM file with at least one certificate",
        example: "/etc/kingpost/wdt-ca.pem",
        ..ROW
    },
    Setting {
        name: "QIMEN_APP_KEY",
        used_by: READING,
        required_when: Some("over Qimen"),
        meaning: "app key of the Taobao open platform",
        expected: "the app key of the Taobao open platform",
        example: "23000000",
        ..ROW
    },
    Setting {
        name: "QIMEN_APP_SECRET",
        used_by: READING,
        secret: true,
        required_when: Some("over Qimen"),
        meaning: "its secret",
        expected: "the app secret of the Taobao open platform",
        example: "secret",
        ..ROW
    },
    Setting {
        name: "QIMEN_TARGET_APP_KEY",
        used_by: READING,
        required_when: Some("over Qimen"),
        meaning: "WDT's own app key on Qimen",
        expected: "WDT's own app key on Qimen",
        example: "21363512",
        ..ROW
    },
    Setting {
        name: "QIMEN_SIGN_METHOD",
        default: SettingDefault::Same("md5"),
        used_by: READING,
        meaning: "`md5`, `hmac` or `hmac-sha256`",
        expected: "md5, hmac or hmac-sha256",
        example: "md5",
        ..ROW
    },
    Setting {
        name: "KINGDEE_URL",
        used_by: POSTING,
        required_when: Some("always"),
        meaning: "the server with its path, such as `https://erp.example/k3cloud/`",
        expected: "an http or https URL without user, query or fragment",
        example: "https://erp.example/k3cloud/",
        ..ROW
    },
    Setting {
        name: "KINGDEE_ACCT_ID",
        used_by: POSTING,
        required_when: Some("always"),
        meaning: "data centre (数据中心 id)",
        expected: "the id of the data centre, without a comma",
        example: "60a1b2c3d4e5f6",
        ..ROW
    },
    Setting {
        name: "KINGDEE_USERNAME",
        used_by: POSTING,
        required_when: Some("always"),
        meaning: "the integration user (集成用户)",
        expected: "the integration user, without a comma",
        example: "demo-user",
        ..ROW
    },
    Setting {
        name: "KINGDEE_APP_ID",
        used_by: POSTING,
        required_when: Some("always"),
        meaning: "app id of the third-party login grant (第三方系统登录授权)",
        expected: "the app id, as the third-party login grant shows it",
        example: "123456_demo",
        ..ROW
    },
    Setting {
        name: "KINGDEE_APP_SECRET",
        used_by: POSTING,
        secret: true,
        required_when: Some("always"),
        meaning: "its secret",
        expected: "the app secret of the third-party login grant",
        example: "secret",
        ..ROW
    },
    Setting {
        name: "KINGDEE_APP_SECRET_EXPIRES",
        used_by: POSTING,
        meaning: "when that secret expires, for an alert ([metrics](docs/metrics.md)): a day in Beijing, or an instant",
        expected: "a date such as 2027-03-31, or an instant such as 2027-03-31T00:00:00+08:00",
        example: "2027-03-31",
        ..ROW
    },
    Setting {
        name: "KINGDEE_LCID",
        default: SettingDefault::Same("2052"),
        used_by: POSTING,
        meaning: "language of the answers: 2052 is simplified Chinese",
        expected: "a Windows language id, a whole number",
        example: "2052",
        ..ROW
    },
    Setting {
        name: "KINGDEE_ORG_NUM",
        default: SettingDefault::Same("0"),
        used_by: POSTING,
        meaning: "organisation whose context the calls run in; 0 is the user's own",
        expected: "the number of an organisation, a whole number",
        example: "100",
        ..ROW
    },
    Setting {
        name: "KINGDEE_AUTH",
        default: SettingDefault::Same("sign-headers"),
        used_by: POSTING,
        meaning: "`sign-headers` signs every request; `login-by-sign` keeps a session",
        expected: "sign-headers or login-by-sign",
        example: "sign-headers",
        ..ROW
    },
    Setting {
        name: "KINGDEE_CA_FILE",
        used_by: POSTING,
        meaning: "certificates (PEM) to trust for Kingdee besides those of the system",
        expected: "the path of a readable PEM file with at least one certificate",
        example: "/etc/kingpost/kingdee-ca.pem",
        ..ROW
    },
];

/// The row of a variable, without an account.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The table as Markdown, for the README between its markers.
pub fn markdown_table() -> String {
    let mut table = String::from(
        "| variable | default | used by | required | secret | meaning |\n|---|---|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        let cells = [
            format!("`{}`", setting.name),
            default_cell(setting),
            programs_cell(setting.used_by),
            setting.required_when.unwrap_or("").to_owned(),
            if setting.secret { "yes".to_owned() } else { String::new() },
            setting.meaning.to_owned(),
        ];
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    table
}

fn default_cell(setting: &Setting) -> String {
    match setting.default {
        SettingDefault::None => String::new(),
        SettingDefault::Same(text) => format!("`{text}`"),
        SettingDefault::PerProgram(texts) => {
            texts.iter().map(|(who, text)| format!("`{text}` {who}")).collect::<Vec<_>>().join(", ")
        }
    }
}

fn programs_cell(programs: &[Program]) -> String {
    if programs.len() == Program::ALL.len() {
        return "all".to_owned();
    }
    programs.iter().map(|program| program.as_str()).collect::<Vec<_>>().join(", ")
}
