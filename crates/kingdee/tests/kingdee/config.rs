use std::path::PathBuf;

use kingpost_kingdee::{Auth, KingdeeClient, KingdeeConfig, SetupError};

use crate::server::example;

#[test]
fn every_problem_is_reported_together() {
    let config = KingdeeConfig {
        url: "erp.example.com/k3cloud".into(),
        acct_id: String::new(),
        username: "a,b".into(),
        app_id: " 234567_x".into(),
        app_secret: "".into(),
        lcid: 0,
        org_num: "".into(),
        ..example()
    };
    let problems = config.check().unwrap_err().problems;
    let names: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(
        names,
        ["url", "acct_id", "app_id", "app_secret", "org_num", "username", "lcid"],
        "{problems:?}"
    );
    assert!(problems.iter().all(|problem| problem.matches(": ").count() >= 2), "{problems:?}");
}

#[test]
fn the_checked_address_has_no_trailing_slash() {
    let config = KingdeeConfig { url: "https://ERP.example.com/K3Cloud/".into(), ..example() };
    assert_eq!(config.check().unwrap(), "https://erp.example.com/K3Cloud");
}

#[test]
fn an_application_id_without_a_tail_is_accepted() {
    assert!(KingdeeClient::new(KingdeeConfig { app_id: "234567".into(), ..example() }).is_ok());
}

#[test]
fn an_unusable_certificate_file_is_a_setup_error() {
    let config = KingdeeConfig { ca_file: Some(PathBuf::from("/nonexistent/ca.pem")), ..example() };
    assert!(matches!(KingdeeClient::new(config), Err(SetupError::Http(_))));
    let config = KingdeeConfig { lcid: 0, ..example() };
    assert!(matches!(KingdeeClient::new(config), Err(SetupError::Config(_))));
}

#[test]
fn ways_to_authenticate_have_their_names() {
    assert_eq!("sign-headers".parse(), Ok(Auth::SignHeaders));
    assert_eq!("login-by-sign".parse(), Ok(Auth::LoginBySign));
    assert!("password".parse::<Auth>().unwrap_err().contains("use sign-headers"));
}
