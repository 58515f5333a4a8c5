//! The readers, seen from outside.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use kingpost_settings::{
    Environment, Exit, ExposeSecret, KingdeeAuth, LogFormat, Problem, Problems, Program, QimenSignMethod,
    SETTINGS, SecretSource, SecretString, SettingDefault, TraceSampler, TraceSettings, WdtTransport, both,
    extractor, http_addr, kingdee, loader, markdown_table, operator, schemes_dir, setting, transformer,
    warnings, wdt,
};

/// Planted in every secret; must never be seen in a message.
const MARKER: &str = "s3cr3t-marker";

const WDT: [(&str, &str); 7] = [
    ("WDT_URL", "https://wdt.example/router/qm"),
    ("WDT_SID", "demo-seller"),
    ("WDT_APP_KEY", "demo-key"),
    ("WDT_APP_SECRET", "s3cr3t-marker:salt"),
    ("QIMEN_APP_KEY", "23000000"),
    ("QIMEN_APP_SECRET", "s3cr3t-marker"),
    ("QIMEN_TARGET_APP_KEY", "21363512"),
];

const KINGDEE: [(&str, &str); 5] = [
    ("KINGDEE_URL", "https://erp.example/k3cloud/"),
    ("KINGDEE_ACCT_ID", "60a1b2c3d4e5f6"),
    ("KINGDEE_USERNAME", "demo-user"),
    ("KINGDEE_APP_ID", "123456_demo"),
    ("KINGDEE_APP_SECRET", "s3cr3t-marker"),
];

/// `base` with some variables replaced or added; an empty text counts as a missing one.
fn with<'a>(base: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Environment {
    base.iter().chain(more).copied().collect()
}

/// What is said about one AMQP URL, or `None` when it is taken.
fn complaint(url: &str) -> Option<String> {
    transformer(&Environment::from([("AMQP_URL", url)])).err().map(|problems| problems.to_string())
}

fn named(problems: &Problems) -> Vec<&str> {
    problems.iter().map(|problem| problem.variable.as_str()).collect()
}

#[test]
fn every_program_starts_on_one_machine_with_the_defaults() {
    let transformer = transformer(&Environment::default()).unwrap();
    assert_eq!(transformer.common.amqp_url.to_string(), "amqp://127.0.0.1:5672/%2f");
    let url = transformer.common.amqp_url.current().unwrap();
    assert_eq!(url.expose_secret(), "amqp://guest:guest@127.0.0.1:5672/%2f");
    assert_eq!(transformer.common.schemes_dir.to_str(), Some("schemes"));
    assert_eq!(
        (transformer.common.log_format, transformer.common.rust_log.as_str()),
        (LogFormat::Json, "info")
    );
    assert_eq!(transformer.worker.http_addr.to_string(), "127.0.0.1:9102");
    assert_eq!(transformer.worker.drain, Duration::from_secs(25));
    assert_eq!(extractor(&Environment::default(), &[]).unwrap().worker.http_addr.port(), 9101);
    assert_eq!(loader(&Environment::default(), &[]).unwrap().worker.http_addr.port(), 9103);
    assert!(operator(&Environment::default(), &[]).unwrap().kingdee.is_empty());
    assert_eq!(schemes_dir(&Environment::default()).unwrap().to_str(), Some("schemes"));
}

#[test]
fn the_journal_is_on_and_its_retention_is_read_with_units() {
    let journal = |more: &[(&str, &str)]| {
        transformer(&more.iter().copied().collect()).map(|settings| settings.common.journal)
    };
    let usual = journal(&[]).unwrap();
    assert!(usual.on);
    assert_eq!((usual.max_age, usual.max_bytes), (Duration::from_secs(30 * 86_400), 5_000_000_000));
    let own = journal(&[("JOURNAL", "off"), ("JOURNAL_MAX_AGE", "12h"), ("JOURNAL_MAX_BYTES", "20 mb")]);
    let own = own.unwrap();
    assert_eq!((own.on, own.max_age, own.max_bytes), (false, Duration::from_secs(43_200), 20_000_000));
    for (name, wrong) in [
        ("JOURNAL", "perhaps"),
        ("JOURNAL_MAX_AGE", "30"),
        ("JOURNAL_MAX_AGE", "30s"),
        ("JOURNAL_MAX_AGE", "99999d"),
        ("JOURNAL_MAX_BYTES", "5TB"),
        ("JOURNAL_MAX_BYTES", "1000"),
        ("JOURNAL_MAX_BYTES", "99999999999999999999GB"),
    ] {
        let problems = journal(&[(name, wrong)]).unwrap_err();
        assert_eq!(named(&problems), [name], "{wrong}");
    }
}

#[test]
fn all_problems_are_told_at_once_over_every_concern() {
    let environment = Environment::from([
        ("AMQP_URL", "http://rabbitmq.example/"),
        ("HTTP_ADDR", "localhost:9101"),
        ("DRAIN_SECONDS", "soon"),
        ("LOG_FORMAT", "xml"),
        ("WDT_TRANSPORT", "pigeon"),
    ]);
    let problems = extractor(&environment, &[None]).unwrap_err();
    let expected = [
        "AMQP_URL",
        "LOG_FORMAT",
        "HTTP_ADDR",
        "DRAIN_SECONDS",
        "WDT_TRANSPORT",
        "WDT_URL",
        "WDT_SID",
        "WDT_APP_KEY",
        "WDT_APP_SECRET",
    ];
    assert_eq!(named(&problems), expected);
    let text = problems.to_string();
    assert!(text.starts_with("9 settings are wrong:\n  AMQP_URL: holds 24 characters: its scheme"), "{text}");
    let line = "  HTTP_ADDR: holds \"localhost:9101\"; expected an IP address and a port (0.0.0.0 for every IPv4 \
                address of the machine); for example HTTP_ADDR=0.0.0.0:9101";
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[test]
fn wdt_over_qimen_is_read_whole() {
    let environment = with(&WDT, &[("QIMEN_SIGN_METHOD", "HMAC-SHA256")]);
    let settings = extractor(&environment, &[None]).unwrap();
    let wdt = &settings.wdt[&None];
    assert_eq!((wdt.url.as_str(), wdt.transport), ("https://wdt.example/router/qm", WdtTransport::Qimen));
    assert_eq!((wdt.sid.as_str(), wdt.app_key.as_str()), ("demo-seller", "demo-key"));
    assert_eq!(wdt.app_secret.expose_secret(), "s3cr3t-marker:salt");
    let qimen = wdt.qimen.as_ref().unwrap();
    assert_eq!((qimen.app_key.as_str(), qimen.target_app_key.as_str()), ("23000000", "21363512"));
    assert_eq!((qimen.app_secret.expose_secret(), qimen.sign_method), (MARKER, QimenSignMethod::HmacSha256));
}

#[test]
fn the_direct_transport_needs_nothing_of_qimen() {
    let direct = [("WDT_TRANSPORT", "direct"), ("WDT_URL", "https://wdt.example/openapi")];
    let settings = wdt(&with(&WDT[..4], &direct), None).unwrap();
    assert_eq!((settings.transport, settings.qimen.is_none()), (WdtTransport::Direct, true));
    let problems = wdt(&with(&WDT[..4], &[]), None).unwrap_err();
    assert_eq!(named(&problems), ["QIMEN_APP_KEY", "QIMEN_APP_SECRET", "QIMEN_TARGET_APP_KEY"]);
}

#[test]
fn a_gateway_of_the_other_transport_is_a_problem() {
    let problems = wdt(&with(&WDT, &[("WDT_TRANSPORT", "direct")]), None).unwrap_err();
    assert!(
        problems.to_string().contains("the gateway of Qimen, while WDT_TRANSPORT is direct"),
        "{problems}"
    );
    let problems = wdt(&with(&WDT, &[("WDT_URL", "https://wdt.example/openapi/")]), None).unwrap_err();
    assert!(problems.to_string().contains("the direct gateway, while WDT_TRANSPORT is qimen"), "{problems}");
}

#[test]
fn a_wdt_secret_needs_both_halves() {
    for (secret, why) in [
        ("s3cr3t-marker", "it has no colon"),
        (":s3cr3t-marker", "nothing stands before its colon"),
        ("s3cr3t-marker:", "nothing stands after its colon"),
    ] {
        let problems = wdt(&with(&WDT, &[("WDT_APP_SECRET", secret)]), None).unwrap_err();
        let text = problems.to_string();
        assert!(text.contains(why) && !text.contains(MARKER), "{text}");
        assert!(text.contains(&format!("holds {} characters", secret.len())), "{text}");
    }
}

#[test]
fn kingdee_is_read_whole() {
    let settings = kingdee(&with(&KINGDEE, &[]), None).unwrap();
    assert_eq!((settings.lcid, settings.org_num, settings.auth), (2052, 0, KingdeeAuth::SignHeaders));
    let more = [("KINGDEE_LCID", "1033"), ("KINGDEE_ORG_NUM", " 100 "), ("KINGDEE_AUTH", "login-by-sign")];
    let settings = loader(&with(&KINGDEE, &more), &[None]).unwrap();
    let kingdee = &settings.kingdee[&None];
    assert_eq!((kingdee.lcid, kingdee.org_num, kingdee.auth), (1033, 100, KingdeeAuth::LoginBySign));
    assert_eq!(
        (kingdee.url.as_str(), kingdee.app_id.as_str()),
        ("https://erp.example/k3cloud/", "123456_demo")
    );
    assert_eq!((kingdee.acct_id.as_str(), kingdee.username.as_str()), ("60a1b2c3d4e5f6", "demo-user"));
    assert_eq!(kingdee.app_secret.expose_secret(), MARKER);
}

#[test]
fn a_comma_that_would_shift_the_signed_fields_is_a_problem() {
    let commas = [("KINGDEE_ACCT_ID", "a,b"), ("KINGDEE_USERNAME", "a,b")];
    assert_eq!(
        named(&kingdee(&with(&KINGDEE, &commas), None).unwrap_err()),
        ["KINGDEE_ACCT_ID", "KINGDEE_USERNAME"]
    );
}

#[test]
fn a_url_to_call_holds_no_user_query_or_other_scheme() {
    for (url, why) in [
        ("erp.example/k3cloud", "no :// after a scheme"),
        ("ftp://erp.example/", "neither http nor https"),
        ("https://demo:s3cr3t-marker@erp.example/", "it holds a user"),
        ("https://erp.example/?token=1", "a query or a fragment"),
        ("https:///k3cloud", "names no host"),
        ("https://erp.example:99999/", "its port is not a number"),
        ("https://erp example/", "a blank inside"),
    ] {
        let text = kingdee(&with(&KINGDEE, &[("KINGDEE_URL", url)]), None).unwrap_err().to_string();
        assert!(text.contains(why) && !text.contains(MARKER), "{url}: {text}");
    }
}

#[test]
fn an_account_stands_after_the_name_of_the_system_and_alone() {
    let north: Vec<(String, &str)> = WDT
        .iter()
        .map(|(name, value)| {
            let (system, rest) = name.split_once('_').unwrap();
            (format!("{system}_NORTH_2_{rest}"), *value)
        })
        .collect();
    let north: Vec<(&str, &str)> = north.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let settings = extractor(&with(&north, &WDT), &[Some("north-2"), None]).unwrap();
    assert_eq!(settings.wdt.keys().collect::<Vec<_>>(), [&None, &Some("north-2".to_owned())]);

    let problems = extractor(&with(&WDT, &[]), &[Some("north"), Some("south")]).unwrap_err();
    assert_eq!(problems.len(), 14, "nothing is taken from the account without a name: {problems}");
    let text = problems.to_string();
    assert!(text.contains("WDT_SOUTH_URL: not set"), "{text}");
    assert!(text.contains("for example QIMEN_NORTH_TARGET_APP_KEY=21363512"), "{text}");
}

#[test]
fn an_account_that_cannot_stand_in_a_variable_is_a_problem() {
    for account in ["target", "north-target", "North", "", "2nd", "北", "a b", "a=b"] {
        let problems = wdt(&with(&WDT, &[]), Some(account)).unwrap_err();
        assert!(problems.to_string().contains("rename the account in the scheme"), "{account}: {problems}");
    }
}

#[test]
fn an_amqp_url_is_checked_for_what_the_client_would_misread() {
    for (url, why) in [
        ("rabbitmq.example", "no :// after a scheme"),
        ("amqp://rabbitmq.example", "names no virtual host"),
        ("amqp://rabbitmq.example:5672/", "ends in a slash"),
        ("amqp://rabbitmq.example/a/b", "must be written as %2f"),
        ("amqp://:5672/orders", "names no host"),
        ("amqp://[::1]:5672/orders", "use a host name"),
        ("amqp://demo:s3cr3t-marker@x@rabbitmq.example/orders", "an @ or / in the user or password"),
        ("amqp://demo:s3cr3t-marker/x@rabbitmq.example/orders", "an @ or / in the user or password"),
        ("amqp://demo:s3cr3t-marker%zz@rabbitmq.example/orders", "two hexadecimal digits"),
        ("amqp://demo:s3cr3t-marker#1@rabbitmq.example/orders", "its port is not a number"),
        ("amqp://rabbitmq.example/orders#1", "must be written as %23"),
        ("amqp://rabbitmq.example/orders?hartbeat=10", "would be ignored"),
        ("amqp://rabbitmq.example/orders?heartbeat=ten", "isn't a whole number"),
        ("amqp://rabbitmq.example/orders?frame_max=16384", "below 32768"),
    ] {
        let text = complaint(url).unwrap_or_else(|| panic!("{url} is taken"));
        assert!(text.contains(why), "{url}: {text}");
        assert!(!text.contains(MARKER) && !text.contains("rabbitmq.example:5672"), "{text}");
    }
    for url in [
        "amqps://demo:p%40ss@rabbitmq.example/orders",
        "amqp://rabbitmq:5672/%2f?heartbeat=10&frame_max=65536",
        "  amqp://demo@10.0.0.7/orders\n",
    ] {
        assert_eq!(complaint(url), None, "{url}");
    }
}

#[test]
fn a_value_may_come_from_a_file_without_its_last_newline() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    for content in ["s3cr3t-marker\n", "s3cr3t-marker\r\n", "s3cr3t-marker", "\u{feff} s3cr3t-marker \n\n"] {
        fs::write(&path, content).unwrap();
        let file = [("KINGDEE_APP_SECRET", ""), ("KINGDEE_APP_SECRET_FILE", path.to_str().unwrap())];
        let settings = kingdee(&with(&KINGDEE, &file), None).unwrap();
        assert_eq!(settings.app_secret.expose_secret(), MARKER, "{content:?}");
    }
    fs::write(&path, "text").unwrap();
    let environment = Environment::from([("LOG_FORMAT_FILE", path.to_str().unwrap())]);
    assert_eq!(transformer(&environment).unwrap().common.log_format, LogFormat::Text);
}

#[test]
fn a_variable_and_its_file_together_are_one_problem() {
    let file = [("KINGDEE_APP_SECRET_FILE", "/run/secrets/kingdee")];
    let problems = kingdee(&with(&KINGDEE, &file), None).unwrap_err();
    assert_eq!(named(&problems), ["KINGDEE_APP_SECRET"]);
    assert!(problems.to_string().contains("given together with KINGDEE_APP_SECRET_FILE"), "{problems}");
    let both = [
        ("AMQP_URL", "amqp://demo:s3cr3t-marker@rabbitmq.example/orders"),
        ("AMQP_URL_FILE", "/run/secrets/amqp"),
    ];
    let problems = transformer(&Environment::from(both)).unwrap_err();
    assert_eq!(named(&problems), ["AMQP_URL"]);
    assert!(!problems.to_string().contains(MARKER));
}

#[test]
fn a_file_that_cannot_be_used_is_one_problem_that_names_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let large = vec![b'x'; 70_000];
    let files = [
        (directory.path().join("missing").to_str().unwrap().to_owned(), "no such file"),
        (directory.path().to_str().unwrap().to_owned(), "it is a directory"),
        (at("empty", b"\n"), "is empty"),
        (at("lines", b"s3cr3t-marker\nb\n"), "holds 2 lines instead of one"),
        (at("bytes", &[0xff, 0xfe]), "isn't UTF-8"),
        (at("large", &large), "holds more than 65536 bytes"),
    ];
    for (path, why) in &files {
        let file = [("KINGDEE_APP_SECRET", ""), ("KINGDEE_APP_SECRET_FILE", path.as_str())];
        let problems = kingdee(&with(&KINGDEE, &file), None).unwrap_err();
        assert_eq!(named(&problems), ["KINGDEE_APP_SECRET_FILE"], "{why}");
        let text = problems.to_string();
        assert!(text.contains(why) && text.contains(path.as_str()) && !text.contains(MARKER), "{text}");
    }
    let problems = transformer(&Environment::from([("AMQP_URL_FILE", files[0].0.as_str())])).unwrap_err();
    assert_eq!(named(&problems), ["AMQP_URL_FILE"]);
}

#[test]
fn a_secret_put_where_a_path_belongs_is_not_shown() {
    for slip in
        ["amqp://demo:s3cr3t-marker@rabbitmq.example/orders", "s3cr3t-marker:salt", "/s3cr3t-marker@x"]
    {
        let environment = Environment::from([("AMQP_URL_FILE", slip)]);
        let text = transformer(&environment).unwrap_err().to_string();
        assert!(!text.contains(MARKER) && text.contains("not shown"), "{text}");
    }
}

#[test]
fn a_rotated_broker_password_is_used_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("amqp");
    fs::write(&path, "amqp://demo:old@rabbitmq.example/orders\n").unwrap();
    let environment = Environment::from([("AMQP_URL_FILE", path.to_str().unwrap())]);
    let url = transformer(&environment).unwrap().common.amqp_url;
    fs::write(&path, "amqp://demo:new@rabbitmq.example/orders\n").unwrap();
    assert_eq!(url.current().unwrap().expose_secret(), "amqp://demo:new@rabbitmq.example/orders");
    fs::write(&path, "half a s3cr3t-marker").unwrap();
    let problem = url.current().unwrap_err();
    assert_eq!(problem.variable, "AMQP_URL");
    assert!(!problem.to_string().contains(MARKER));
    fs::remove_file(&path).unwrap();
    assert_eq!(url.current().unwrap_err().variable, "AMQP_URL_FILE");
}

#[test]
fn certificates_are_checked_at_the_start_and_want_tls() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let other = directory.path().join("other.pem");
    fs::write(&other, "-----BEGIN PRIVATE KEY-----\n").unwrap();
    let (ca, other) = (ca.to_str().unwrap(), other.to_str().unwrap());

    let settings = kingdee(&with(&KINGDEE, &[("KINGDEE_CA_FILE", ca)]), None).unwrap();
    assert_eq!(settings.ca_file.unwrap().to_str(), Some(ca));
    let text = wdt(&with(&WDT, &[("WDT_CA_FILE", other)]), None).unwrap_err().to_string();
    assert!(
        text.starts_with("1 setting is wrong:\n  WDT_CA_FILE: ") && text.contains("no certificate"),
        "{text}"
    );

    let tls = [("AMQP_URL", "amqps://rabbitmq.example/orders"), ("AMQP_CA_FILE", ca)];
    let common = transformer(&Environment::from(tls)).unwrap().common;
    assert!(common.amqp_url.is_tls() && common.amqp_ca_file.is_some());
    let plain = [("AMQP_URL", "amqp://rabbitmq.example/orders"), ("AMQP_CA_FILE", ca)];
    let text = transformer(&Environment::from(plain)).unwrap_err().to_string();
    assert!(text.contains("wouldn't be encrypted"), "{text}");
}

#[test]
fn the_end_of_a_secret_is_a_day_in_beijing_or_an_instant() {
    let read = |text: &str| kingdee(&with(&KINGDEE, &[("KINGDEE_APP_SECRET_EXPIRES", text)]), None);
    assert_eq!(read("").unwrap().app_secret_expires, None);
    let midnight = 1_806_422_400;
    for text in ["2027-03-31", "2027-03-31T00:00:00+08:00", "2027-03-30T16:00:00Z"] {
        assert_eq!(read(text).unwrap().app_secret_expires, Some(midnight), "{text}");
    }
    for text in ["31.03.2027", "soon", "2027-02-30", "2027-03-31T00:00:00"] {
        let problem = read(text).unwrap_err().to_string();
        assert!(
            problem.contains("KINGDEE_APP_SECRET_EXPIRES") && problem.contains("2027-03-31"),
            "{problem}"
        );
    }
    let north = [("WDT_NORTH_APP_SECRET_EXPIRES", "2027-03-31")];
    let north: Vec<(String, &str)> = WDT
        .iter()
        .chain(&north)
        .map(|(name, value)| (name.replace("WDT_", "WDT_NORTH_").replace("NORTH_NORTH", "NORTH"), *value))
        .map(|(name, value)| (name.replace("QIMEN_", "QIMEN_NORTH_"), value))
        .collect();
    let environment: Environment = north.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(wdt(&environment, Some("north")).unwrap().app_secret_expires, Some(midnight));
}

#[test]
fn bytes_that_are_no_text_are_a_problem_and_no_panic() {
    let bytes = OsString::from_vec(vec![0xff]);
    let environment: Environment =
        [(OsString::from("LOG_FORMAT"), bytes.clone()), (bytes, "x".into())].into_iter().collect();
    assert_eq!(named(&transformer(&environment).unwrap_err()), ["LOG_FORMAT"]);
}

#[test]
fn the_operator_reads_both_systems_of_the_accounts_that_it_is_given() {
    let environment = with(&WDT, &KINGDEE);
    let settings = operator(&environment, &[None]).unwrap();
    assert!(settings.kingdee.contains_key(&None) && settings.wdt.contains_key(&None));
    let problems = operator(&with(&KINGDEE, &[]), &[None]).unwrap_err();
    assert!(named(&problems).contains(&"WDT_APP_SECRET"), "{problems}");
    assert!(operator(&Environment::default(), &[]).unwrap().wdt.is_empty(), "most commands call no ERP");
}

#[test]
fn the_editor_is_the_one_that_people_prefer() {
    let editor = |variables: &[(&'static str, &'static str)]| with(variables, &[]).editor();
    assert_eq!(editor(&[("EDITOR", "nano"), ("VISUAL", "code --wait")]).as_deref(), Some("code --wait"));
    assert_eq!(editor(&[("EDITOR", "nano"), ("VISUAL", "")]).as_deref(), Some("nano"));
    assert_eq!(editor(&[]), None);
}

#[test]
fn a_secret_is_in_no_debug_output() {
    let amqp = [("AMQP_URL", "amqp://demo:s3cr3t-marker@rabbitmq.example/orders")];
    let environment = with(&WDT, &[&KINGDEE[..], &amqp[..]].concat());
    let seen = [
        format!("{environment:?}"),
        format!("{:?}", extractor(&environment, &[None]).unwrap()),
        format!("{:?}", loader(&environment, &[None]).unwrap()),
        format!("{:?}", operator(&environment, &[None]).unwrap()),
        format!("{:?}", SecretSource::Value(SecretString::from(MARKER))),
        format!("{:?}", transformer(&environment).unwrap().common.amqp_url),
    ];
    for text in seen {
        assert!(!text.contains(MARKER), "{text}");
    }
    assert!(format!("{environment:?}").contains("WDT_APP_SECRET"));
}

#[test]
fn a_name_that_nothing_reads_is_told_with_the_nearest_one() {
    let environment = Environment::from([
        ("AMPQ_URL", "1"),
        ("AMQP_URI", "1"),
        ("HTTP_ADDRESS", "1"),
        ("SCHEME_DIR", "1"),
        ("DRAIN_SECS", "1"),
        ("KINGDEE_APPSECRET_FILE", "1"),
        ("WDT_SOUTH_APP_KEY", "1"),
        ("WDT_WEST_SID", "1"),
        ("wdt_url", "1"),
        ("QIMEN_NORTH_APP_KEY", "1"),
    ]);
    let told: Vec<String> =
        warnings(&environment, &[None, Some("north")]).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "AMPQ_URL: nothing reads it; did you mean AMQP_URL?",
            "AMQP_URI: nothing reads it; did you mean AMQP_URL?",
            "DRAIN_SECS: nothing reads it; did you mean DRAIN_SECONDS?",
            "HTTP_ADDRESS: nothing reads it; did you mean HTTP_ADDR?",
            "KINGDEE_APPSECRET_FILE: nothing reads it; did you mean KINGDEE_APP_SECRET_FILE?",
            "SCHEME_DIR: nothing reads it; did you mean SCHEMES_DIR?",
            "WDT_SOUTH_APP_KEY: nothing reads it, as no scheme names the account \"south\"; \
             did you mean WDT_NORTH_APP_KEY?",
            "WDT_WEST_SID: nothing reads it, as no scheme names the account \"west\"",
            "wdt_url: nothing reads it, as names are upper case; did you mean WDT_URL?",
        ]
    );
}

#[test]
fn what_is_read_or_plainly_not_ours_causes_no_warning() {
    let ours = with(&WDT, &KINGDEE);
    assert_eq!(warnings(&ours, &[None]), []);
    let others = Environment::from([
        ("PATH", "/bin"),
        ("HOME", "/"),
        ("RUST_BACKTRACE", "1"),
        ("HTTP_PROXY", "http://proxy.example"),
        ("AMQP_SERVICE_HOST", "10.0.0.1"),
        ("AMQP_PORT_5672_TCP_ADDR", "10.0.0.1"),
        ("AMQP_PORT", "tcp://10.0.0.1:5672"),
        ("AMQP_URL_FILE", "/run/secrets/amqp"),
        ("LOG_LEVEL", "info"),
    ]);
    assert_eq!(warnings(&others, &[]), []);
}

#[test]
fn the_table_holds_each_name_once_and_its_defaults_and_examples_are_taken() {
    let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), SETTINGS.len());
    for setting in SETTINGS {
        assert!(!setting.meaning.is_empty() && !setting.expected.is_empty() && !setting.used_by.is_empty());
        let file = setting.name.ends_with("_FILE");
        assert!(
            file || setting.required_when.is_none() || setting.default == SettingDefault::None,
            "{}",
            setting.name
        );
    }
    let examples: Environment = SETTINGS
        .iter()
        .filter(|setting| setting.may_come_from_a_file())
        .map(|setting| (setting.name, setting.example))
        .collect();
    extractor(&examples, &[None]).unwrap();
    loader(&examples, &[None]).unwrap();
    assert_eq!(setting("HTTP_ADDR").unwrap().default_for(Program::Loader), Some("127.0.0.1:9103"));
    assert_eq!(setting("HTTP_ADDR").unwrap().default_for(Program::Operator), None);
    assert!(setting("WDT_NORTH_URL").is_none());
}

#[test]
fn the_reference_has_a_row_for_every_setting() {
    let table = markdown_table();
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
    let row = "| `QIMEN_APP_SECRET` |  | extractor, operator | over Qimen | yes | its secret |";
    assert!(table.lines().any(|line| line == row), "{table}");
    assert!(
        table.contains("`127.0.0.1:9101` extractor, `127.0.0.1:9102` transformer, `127.0.0.1:9103` loader")
    );
}

#[test]
fn problems_of_two_readings_come_together_once_each() {
    let problem = |name: &str| Problem::new(name, "not set", "something", "set it");
    let one = Problems::from_iter([problem("A"), problem("B")]);
    let other = Problems::from_iter([problem("B"), problem("C")]);
    assert_eq!(named(&one.clone().merge(other.clone())), ["A", "B", "C"]);
    assert_eq!(both::<(), ()>(Err(one.clone()), Err(other)).unwrap_err().len(), 3);
    assert_eq!(both::<_, ()>(Ok(1), Err(one.clone())).unwrap_err(), one);
    assert_eq!(both(Ok(1), Ok(2)), Ok((1, 2)));
    assert_eq!(Problems::new().or(1), Ok(1));
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 64, 69, 70]);
}

#[test]
fn pushing_is_off_until_it_has_an_address_and_then_needs_a_token() {
    let push = |more: &[(&str, &str)]| extractor(&with(&[], more), &[]).map(|settings| settings.push);
    // A token alone may be there for another program of the same environment.
    assert!(push(&[("PUSH_TOKEN", "short"), ("PUSH_MAX_BYTES", "x")]).unwrap().is_none());
    let on = [("PUSH_ADDR", "127.0.0.1:9111"), ("PUSH_TOKEN", "s3cr3t-marker-0123")];
    let settings = push(&on).unwrap().unwrap();
    assert_eq!((settings.addr.port(), settings.max_bytes), (9111, 8 * 1024 * 1024));
    assert_eq!(settings.token.current().unwrap().expose_secret(), "s3cr3t-marker-0123");
    assert!(!format!("{settings:?}").contains(MARKER));
    for (more, variable) in [
        (&[("PUSH_ADDR", "127.0.0.1:9111")][..], "PUSH_TOKEN"),
        (&[on[0], ("PUSH_TOKEN", "s3cr3t-marker")], "PUSH_TOKEN"),
        (&[on[0], ("PUSH_TOKEN", "s3cr3t-marker with blanks")], "PUSH_TOKEN"),
        (&[on[0], ("PUSH_TOKEN_FILE", "/nowhere/at/all")], "PUSH_TOKEN_FILE"),
        (&[on[0], on[1], ("PUSH_MAX_BYTES", "1023")], "PUSH_MAX_BYTES"),
        (&[on[0], on[1], ("PUSH_MAX_BYTES", "15728641")], "PUSH_MAX_BYTES"),
        (&[("PUSH_ADDR", "localhost"), on[1]], "PUSH_ADDR"),
    ] {
        let problems = push(more).unwrap_err();
        assert_eq!(named(&problems), [variable], "{problems}");
        assert!(!problems.to_string().contains(MARKER), "{problems}");
    }
}

#[test]
fn spans_are_sent_nowhere_until_there_is_a_collector_and_then_what_is_wrong_is_said() {
    let traces = |more: &[(&str, &str)]| transformer(&with(&[], more)).map(|settings| settings.worker.traces);
    // A whole machine may share what isn't about us.
    let others = [("OTEL_TRACES_SAMPLER", "jaeger_remote"), ("OTEL_TRACES_SAMPLER_ARG", "endpoint=x")];
    assert!(traces(&others).unwrap().is_none());
    let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");
    let expected = TraceSettings {
        endpoint: "http://127.0.0.1:4318".into(),
        service_name: "kingpost-transformer".into(),
        sampler: TraceSampler::ParentOrOn,
    };
    assert_eq!(traces(&[on]).unwrap(), Some(expected.clone()));
    let more = [on, ("OTEL_SERVICE_NAME", "north"), ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")];
    let north = TraceSettings { service_name: "north".into(), ..expected };
    let sampled =
        |share| Some(TraceSettings { sampler: TraceSampler::ParentOrRatio(share), ..north.clone() });
    assert_eq!(traces(&more).unwrap(), sampled(1.0));
    let more = [more[0], more[1], more[2], ("OTEL_TRACES_SAMPLER_ARG", "0.25")];
    assert_eq!(traces(&more).unwrap(), sampled(0.25));
    for (more, variable) in [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")][..], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:s3cr3t@b")], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (&[on, others[0]], "OTEL_TRACES_SAMPLER"),
        (&[on, ("OTEL_TRACES_SAMPLER_ARG", "1.5")], "OTEL_TRACES_SAMPLER_ARG"),
        (&[on, ("OTEL_TRACES_SAMPLER_ARG", "NaN")], "OTEL_TRACES_SAMPLER_ARG"),
    ] {
        let problems = traces(more).unwrap_err();
        assert_eq!(named(&problems), [variable], "{problems}");
    }
}

#[test]
fn a_push_token_in_a_file_is_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "the-token-of-yesterday\n").unwrap();
    let path = file.path().to_str().unwrap();
    let environment = with(&[], &[("PUSH_ADDR", "127.0.0.1:9111"), ("PUSH_TOKEN_FILE", path)]);
    let token = extractor(&environment, &[]).unwrap().push.unwrap().token;
    assert_eq!(token.current().unwrap().expose_secret(), "the-token-of-yesterday");
    fs::write(file.path(), "the-token-of-today").unwrap();
    assert_eq!(token.current().unwrap().expose_secret(), "the-token-of-today");
    fs::write(file.path(), "short").unwrap();
    assert!(!token.current().unwrap_err().to_string().contains("short"));
    fs::remove_file(file.path()).unwrap();
    assert!(token.current().is_err());
}

#[test]
fn the_address_of_a_worker_is_read_alone_and_has_no_default() {
    let addr = |text: &str| http_addr(&Environment::from([("HTTP_ADDR", text), ("AMQP_URL", "wrong")]));
    assert_eq!(addr("0.0.0.0:9103").unwrap(), Some(([0, 0, 0, 0], 9103).into()));
    assert_eq!(addr("").unwrap(), None);
    assert!(addr("localhost").unwrap_err().to_string().contains("HTTP_ADDR: holds \"localhost\""));
}
