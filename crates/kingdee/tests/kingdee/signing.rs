use kingpost_kingdee::{KingdeeConfig, sign};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::server::example;

fn vectors(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../data/signatures.json")).unwrap();
    let list = all[name].as_array().unwrap().clone();
    assert!(!list.is_empty());
    list
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap()
}

fn config(case: &Value) -> KingdeeConfig {
    KingdeeConfig {
        acct_id: text(case, "acct_id").into(),
        username: text(case, "username").into(),
        app_id: text(case, "app_id").into(),
        app_secret: text(case, "app_secret").into(),
        ..example()
    }
}

#[test]
fn client_secrets_are_those_of_the_official_sdk() {
    for case in vectors("client_secrets") {
        let app_id = text(&case, "app_id");
        assert_eq!(sign::client_secret(app_id).expose_secret(), text(&case, "secret"), "{app_id}");
    }
}

#[test]
fn hmac64_is_base64_of_the_hex_text() {
    for case in vectors("hmac64") {
        assert_eq!(sign::hmac64(text(&case, "key"), text(&case, "message")), text(&case, "result"));
    }
}

#[test]
fn signed_headers_are_those_of_the_official_sdk() {
    for case in vectors("headers") {
        let seconds = case["seconds"].as_u64().unwrap();
        let config = KingdeeConfig {
            url: text(&case, "url").into(),
            lcid: u32::try_from(case["lcid"].as_u64().unwrap()).unwrap(),
            org_num: text(&case, "org_num").into(),
            ..config(&case)
        };
        let url = format!(
            "{}/Kingdee.BOS.WebApi.ServicesStub.DynamicFormService.{}.common.kdsvc",
            config.check().unwrap(),
            text(&case, "method")
        );
        let time = seconds.to_string();
        if let Some(canonical) = case["canonical"].as_str() {
            assert_eq!(sign::canonical(&url, &time, &time), canonical);
        }
        let (client_id, _) = config.app_id.split_once('_').unwrap();
        let expected = [
            ("X-Api-ClientID", client_id),
            ("X-Api-Auth-Version", "2.0"),
            ("x-api-timestamp", &time),
            ("x-api-nonce", &time),
            ("x-api-signheaders", "x-api-timestamp,x-api-nonce"),
            ("X-Api-Signature", text(&case, "api_signature")),
            ("X-Kd-Appkey", &config.app_id),
            ("X-Kd-Appdata", text(&case, "app_data")),
            ("X-Kd-Signature", text(&case, "kd_signature")),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(sign::headers(&config, &url, seconds), expected, "{url}");
    }
}

#[test]
fn login_signatures_are_those_of_independent_implementations() {
    for case in vectors("logins") {
        assert_eq!(sign::login(&config(&case), case["seconds"].as_u64().unwrap()), text(&case, "sign"));
    }
}

#[test]
fn the_path_after_the_shortest_host_is_signed_whole() {
    assert!(
        sign::canonical("http://a/k3cloud/x?y=1", "1", "1").starts_with("POST\n%2Fk3cloud%2Fx%3Fy%3D1\n\n")
    );
}
