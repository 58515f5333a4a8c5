use kingpost_wdt::{Client, Query, Transport, WdtConfig};

use crate::server::{Reply, Server, config, json, pairs};

const SECRET: &str = "PLANTEDsecret";
const SALT: &str = "PLANTEDsalt";
const GATEWAY_SECRET: &str = "PLANTEDgateway";

fn planted(mut config: WdtConfig) -> WdtConfig {
    config.app_secret = format!("{SECRET}:{SALT}").into();
    config.qimen.as_mut().unwrap().app_secret = GATEWAY_SECRET.into();
    config
}

fn query() -> Query {
    Query {
        method: "wms.stockin.Purchase.queryWithDetail".to_owned(),
        params: pairs(&[("status", "80")]),
        page: 0,
        page_size: 1,
        want_total: true,
    }
}

/// Neither a secret nor a parameter of the query.
fn assert_clean(text: &str) {
    for forbidden in ["PLANTED", "sign=", "salt=", "app_key=", "timestamp="] {
        assert!(!text.contains(forbidden), "{forbidden} in {text}");
    }
}

#[tokio::test]
async fn debug_shows_no_secret() {
    for transport in [Transport::Qimen, Transport::Direct] {
        let mut config = planted(config("http://127.0.0.1:9", transport));
        assert_clean(&format!("{config:?} {config:#?}"));
        assert_clean(&format!("{:?}", Client::new(config.clone()).unwrap()));
        config.url = "http://PLANTED:PLANTED@127.0.0.1:9/openapi?key=PLANTED".to_owned();
        config.app_secret = "PLANTEDwithoutcolon".into();
        let error = Client::new(config.clone()).unwrap_err();
        assert_clean(&format!("{config:?} {error} {error:?}"));
    }
}

#[tokio::test]
async fn a_server_that_echoes_the_call_puts_no_secret_into_the_error() {
    for body in [
        r#"{"response":{"flag":"failure","code":25,"message":"Invalid signature {echo}","sub_message":"{echo}"}}"#,
        r#"{"status":100,"message":"{echo}"}"#,
        r#"{"error_response":{"code":"{echo}","sub_code":"isv.x {echo}","msg":"{echo}"}}"#,
        "<html>{echo}</html>",
    ] {
        for transport in [Transport::Qimen, Transport::Direct] {
            let server = Server::start(Reply { echo: true, ..json(body) }).await;
            let client = Client::new(planted(server.config(transport))).unwrap();
            let error = client.query(&query()).await.unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("PLANTED"), "{text}");
            let seen = server.seen().remove(0);
            let all = [seen.query.clone(), if transport == Transport::Qimen { seen.form() } else { vec![] }]
                .concat();
            for (_, sign) in all.iter().filter(|(name, _)| name == "sign" || name == "wdt_sign") {
                assert!(!text.contains(sign), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn an_error_of_the_network_shows_no_part_of_the_query() {
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for transport in [Transport::Qimen, Transport::Direct] {
        let client = Client::new(planted(config(&address, transport))).unwrap();
        let error = client.query(&query()).await.unwrap_err();
        assert_clean(&format!("{error} {error:?}"));
    }
}

#[tokio::test]
async fn a_long_message_is_cut() {
    let server =
        Server::start(json(&format!(r#"{{"status":100,"message":"{}"}}"#, "长".repeat(10_000)))).await;
    let error = server.client(Transport::Direct).query(&query()).await.unwrap_err();
    assert_eq!(error.text.chars().count(), 501);
}
