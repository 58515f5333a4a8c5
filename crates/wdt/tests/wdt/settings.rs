use kingpost_wdt::{Client, Transport, WdtConfig};

use crate::server::config;

fn fields(config: &WdtConfig) -> Vec<&'static str> {
    config
        .validate()
        .map_or_else(|error| error.problems, |()| Vec::new())
        .iter()
        .map(|problem| problem.field)
        .collect()
}

fn good(transport: Transport) -> WdtConfig {
    config("https://gateway.example.com", transport)
}

#[test]
fn every_problem_is_reported_together() {
    let mut config = good(Transport::Qimen);
    config.url = "gateway".to_owned();
    config.sid = String::new();
    config.app_key = "a b".to_owned();
    config.app_secret = "nocolon".into();
    let qimen = config.qimen.as_mut().unwrap();
    qimen.app_key = " ".to_owned();
    qimen.app_secret = "x\n".into();
    qimen.target_app_key = String::new();
    config.ca_file = Some("/nonexistent/ca.pem".into());
    let error = Client::new(config).unwrap_err();
    let fields: Vec<_> = error.problems.iter().map(|problem| problem.field).collect();
    let expected = [
        "url",
        "sid",
        "app_key",
        "app_secret",
        "qimen.app_key",
        "qimen.app_secret",
        "qimen.target_app_key",
        "ca_file",
    ];
    assert_eq!(fields, expected);
    let text = error.to_string();
    assert!(text.starts_with("wdt configuration: url: ") && text.contains("; sid: is empty"), "{text}");
}

#[test]
fn a_secret_is_cut_at_its_first_colon_and_has_two_halves() {
    for (secret, good_secret) in [
        ("secret:salt", true),
        ("secret:salt:more", true),
        ("secret:", false),
        (":salt", false),
        (":", false),
        ("secret", false),
        ("", false),
        ("secret:salt\n", false),
    ] {
        let mut config = good(Transport::Direct);
        config.app_secret = secret.into();
        assert_eq!(fields(&config), if good_secret { vec![] } else { vec!["app_secret"] }, "{secret:?}");
    }
}

#[test]
fn the_gateway_account_is_needed_through_qimen_only() {
    let mut config = good(Transport::Qimen);
    config.qimen = None;
    assert_eq!(fields(&config), ["qimen"]);
    config = good(Transport::Direct);
    config.qimen = None;
    assert!(fields(&config).is_empty());
    assert_eq!(Client::new(config).unwrap().transport(), Transport::Direct);
}

#[test]
fn an_address_of_another_gateway_is_a_problem() {
    for (transport, url, said) in [
        (Transport::Qimen, "https://wdt.wangdian.cn/openapi", "transport direct"),
        (Transport::Direct, "https://3ldsmu02o9.api.taobao.com/router/qm", "transport qimen"),
        (Transport::Qimen, "http://hu3cgwt0tc.api.taobao.com/router/qm", "enterprise"),
        (Transport::Direct, "https://api.wangdian.cn/openapi2", "enterprise"),
    ] {
        let mut config = good(transport);
        config.url = url.to_owned();
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let mut config = good(Transport::Qimen);
    for url in
        ["http://3ldsmu02o9.api.taobao.com/router/qm", "https://3ldsmu02o9.api.taobao.com/router/qmtest/"]
    {
        config.url = url.to_owned();
        assert!(fields(&config).is_empty(), "{url}");
    }
}

#[test]
fn transports_are_read_from_their_words() {
    for transport in [Transport::Qimen, Transport::Direct] {
        assert_eq!(transport.as_str().parse(), Ok(transport));
    }
    assert!("openapi".parse::<Transport>().unwrap_err().to_string().contains("qimen or direct"));
    assert_eq!((Transport::Qimen.first_page(), Transport::Direct.first_page()), (1, 0));
}
