//! Nothing secret in `Debug`, errors and log lines, planted markers prove it; and the clock is named.

use std::io;
use std::sync::{Arc, Mutex};

use kingpost_kingdee::{Auth, KingdeeConfig, KingdeeError, sign};
use secrecy::ExposeSecret;
use tracing_subscriber::fmt::MakeWriter;

use crate::server::{Fake, NOW, Reply, client, example, login, ok};

const SECRET: &str = "planted-app-secret";
const APP_ID: &str = "234567_plantedXplantedXplantedXplanted0";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn planted(config: KingdeeConfig) -> KingdeeConfig {
    KingdeeConfig { app_id: APP_ID.into(), app_secret: SECRET.into(), ..config }
}

fn listen(log: &Log) -> tracing::subscriber::DefaultGuard {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    tracing::subscriber::set_default(subscriber)
}

#[test]
fn debug_of_configuration_and_client_shows_no_secret() {
    let mut config = planted(example());
    let shown = format!("{config:?} {:?}", client(config.clone()));
    assert!(!shown.contains("planted") && shown.contains("234567_[redacted]"), "{shown}");
    config.url = "https://user:planted@erp.example.com".into();
    let shown = format!("{config:?} {}", config.check().unwrap_err());
    assert!(!shown.contains("planted"), "{shown}");
}

#[tokio::test]
async fn a_server_that_echoes_everything_gets_no_secret_into_errors_or_logs() {
    for auth in [Auth::SignHeaders, Auth::LoginBySign] {
        let log = Log::default();
        let guard = listen(&log);
        let fake = Fake::start(move |sent, _| {
            if sent.method() == "LoginBySign" {
                return login("planted-session");
            }
            let session = sent.header("cookie");
            // One of the last stands across the cut of a long text.
            let long = format!("{}{}", "x".repeat(300), SECRET.repeat(40));
            let echo = format!("{SECRET} {APP_ID} {session} {} {long}", sent.header("x-kd-appkey"));
            Reply { status: 500, body: echo, ..Reply::default() }
        })
        .await;
        let client = client(planted(fake.config(auth)));
        let error = client.batch_save("STK_InStock", &[], &["{}".into()]).await.unwrap_err();
        assert!(matches!(error, KingdeeError::Unknown { .. }), "{error:?}");
        drop(guard);
        let shown = format!("{error} {error:?} {}", log.text());
        assert!(log.text().contains("http answer"), "{shown}");
        assert!(!shown.contains("plante"), "{shown}");
        let client_secret = sign::client_secret(APP_ID);
        assert!(!shown.contains(client_secret.expose_secret()), "{shown}");
    }
}

#[tokio::test]
async fn a_refused_login_shows_no_secret() {
    let log = Log::default();
    let guard = listen(&log);
    let fake = Fake::start(|sent, _| {
        ok(format!(r#"{{"LoginResultType":-1,"Message":"{SECRET} {}"}}"#, APP_ID.len() + sent.body.len()))
    })
    .await;
    let error =
        client(planted(fake.config(Auth::LoginBySign))).submit("STK_InStock", &["1"]).await.unwrap_err();
    drop(guard);
    let shown = format!("{error} {error:?} {}", log.text());
    assert!(!shown.contains("planted") && log.text().contains("login refused"), "{shown}");
}

#[tokio::test]
async fn refused_credentials_name_a_large_clock_difference() {
    let log = Log::default();
    let guard = listen(&log);
    let at = |date: &'static str| {
        move |_: &crate::server::Sent, _: usize| Reply {
            status: 401,
            headers: vec![("date", date.to_owned())],
            ..Reply::default()
        }
    };
    assert_eq!(NOW, 1_735_689_600);
    let mut said = Vec::new();
    for date in
        ["Wed, 01 Jan 2025 00:10:00 GMT", "Tue, 31 Dec 2024 23:50:00 GMT", "Wed, 01 Jan 2025 00:00:05 GMT"]
    {
        let fake = Fake::start(at(date)).await;
        said.push(
            fake.client(Auth::SignHeaders).submit("STK_InStock", &["1"]).await.unwrap_err().to_string(),
        );
    }
    drop(guard);
    assert!(said[0].contains("the server's clock is 600 s ahead of ours"), "{said:?}");
    assert!(said[1].contains("the server's clock is 600 s behind ours"), "{said:?}");
    assert!(!said[2].contains("clock"), "{said:?}");
    assert!(log.text().contains("server_ahead_seconds=5"), "{}", log.text());
}
