//! Certificates that prove nothing are refused, with words, and nothing falls back to plaintext.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{BrokerOptions, PrivateBroker, Process, Proxy, Welcome, free_port, wait_until},
    pipeline::Worker,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use crate::{Run, SOON};

/// An authority of our own with certificates for `localhost`, one of them expired, as PEM files.
struct Certificates {
    dir: TempDir,
}

impl Certificates {
    fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("kingpost-tls-").tempdir()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        std::fs::write(dir.path().join("ca.pem"), authority.pem())?;
        for name in ["valid", "expired"] {
            let mut params = CertificateParams::new(["localhost".to_owned()])?;
            if name == "expired" {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
            }
            let key = KeyPair::generate()?;
            std::fs::write(
                dir.path().join(format!("{name}.pem")),
                params.signed_by(&key, &authority)?.pem(),
            )?;
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(Certificates { dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Starts a worker that must not get through, and waits until it says why.
async fn refused(run: &Run, url: &str, ca_file: Option<&Path>, words: &[&str]) -> Result<Worker> {
    let ca_file = ca_file.map(|path| path.to_string_lossy().into_owned());
    let mut settings = vec![("AMQP_URL", url)];
    settings.extend(ca_file.as_deref().map(|path| ("AMQP_CA_FILE", path)));
    let worker = run.pipeline.start_with("transformer", &settings)?;
    let told = wait_until(SOON, "the refusal", async || {
        let output = worker.process.output().to_lowercase();
        words.iter().any(|word| output.contains(word))
    });
    told.await.with_context(|| worker.process.log_tail())?;
    Ok(worker)
}

#[tokio::test]
async fn when_the_brokers_certificate_proves_nothing_then_it_is_refused_and_never_spoken_to_in_plaintext()
-> Result<()> {
    let certificates = Certificates::new()?;
    let (port, ca) = (free_port()?, certificates.file("ca.pem"));
    let option =
        |name: &str, file: &str| format!("ssl_options.{name} = {}", certificates.file(file).display());
    let config = vec![
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        option("cacertfile", "ca.pem"),
        option("certfile", "valid.pem"),
        option("keyfile", "valid.key"),
        "ssl_options.verify = verify_none".to_owned(),
    ];
    let broker = PrivateBroker::start(BrokerOptions { config, ..BrokerOptions::default() }).await?;
    let run = Run::private(&broker, 20, 0).await?;
    let at = |host: &str, port: u16| format!("amqps://guest:guest@{host}:{port}/%2f");

    // An unknown authority, another host than the one it was made for, and one that is over.
    let unknown = refused(&run, &at("localhost", port), None, &["unknownissuer", "unknown issuer"]).await?;
    let other =
        refused(&run, &at("127.0.0.1", port), Some(&ca), &["not valid for", "notvalidforname"]).await?;
    let expired_port = free_port()?;
    let _expired = Process::program(Path::new("/usr/bin/openssl"))
        .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{expired_port}")])
        .args([Path::new("-cert"), &certificates.file("expired.pem")])
        .args([Path::new("-key"), &certificates.file("expired.key")])
        .start()?;
    let expired = refused(&run, &at("localhost", expired_port), Some(&ca), &["expired"]).await?;
    // A handshake that never comes to an end.
    let hole = Proxy::start(format!("127.0.0.1:{port}")).await?;
    hole.welcome(Welcome::Hole);
    let (_, hole_port) = hole.address().rsplit_once(':').context("no port")?;
    let silent = refused(&run, &at("localhost", hole_port.parse()?), Some(&ca), &["did not answer"]).await?;
    // What comes first is a handshake (22), whatever may follow.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let plain = run
        .pipeline
        .start_with("transformer", &[("AMQP_URL", &at("localhost", listener.local_addr()?.port()))])?;
    for _ in 0..2 {
        let (mut stream, _) =
            tokio::time::timeout(SOON, listener.accept()).await.context("nobody came")??;
        let mut first = [0];
        tokio::time::timeout(SOON, stream.read_exact(&mut first)).await.context("nothing was said")??;
        ensure!(first == [0x16], "the first byte is {first:?}, which is no handshake of TLS");
    }
    for worker in [unknown, other, expired, silent, plain] {
        ensure!(!worker.process.output().contains("RabbitMQ is there"), "{}", worker.process.log_tail());
        worker.process.kill();
    }

    let ca = ca.to_string_lossy().into_owned();
    let url = at("localhost", port);
    let right = [("AMQP_URL", url.as_str()), ("AMQP_CA_FILE", ca.as_str())];
    let stages = ["extractor", "transformer", "loader"];
    let workers: Result<Vec<Worker>> =
        stages.into_iter().map(|stage| run.pipeline.start_with(stage, &right)).collect();
    run.sound(workers?).await?;
    Ok(())
}
