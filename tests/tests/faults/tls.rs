//! Certificates that prove nothing are refused, with words, and nothing falls back to plaintext.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    lab::{BrokerOptions, PrivateBroker, Process, Proxy, Welcome, free_port, wait_until},
    pipeline::{Worker, metric},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

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
            params.not_after = date_time_ymd(2050, 1, 1);
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

/// A server with the valid certificate on a free port, which passes everything on to an address.
async fn terminator(certificates: &Certificates, to: String) -> Result<u16> {
    let chain = CertificateDer::pem_file_iter(certificates.file("valid.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(certificates.file("valid.key"))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let (mut client, mut server) =
                    tokio::try_join!(acceptor.accept(client), TcpStream::connect(&to))?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(port)
}

#[tokio::test]
async fn when_a_certificate_or_a_secret_will_expire_then_the_metrics_say_when() -> Result<()> {
    let certificates = Certificates::new()?;
    let run = Run::shared("tls-expiry", 3, 0).await?;
    let ca = certificates.file("ca.pem").to_string_lossy().into_owned();
    let _transformer = run.start("transformer")?;
    for (stage, system, trust, secret) in [
        ("extractor", "wdt", "WDT_CA_FILE", "WDT_APP_SECRET_EXPIRES"),
        ("loader", "kingdee", "KINGDEE_CA_FILE", "KINGDEE_APP_SECRET_EXPIRES"),
    ] {
        let name = format!("{}_URL", system.to_uppercase());
        let plain = run.sandbox.setting(&name)?;
        let (address, path) =
            plain.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("no http URL")?;
        let url =
            format!("https://localhost:{}/{path}", terminator(&certificates, address.to_owned()).await?);
        let settings = [(name.as_str(), url.as_str()), (trust, ca.as_str()), (secret, "2040-01-01")];
        let worker = run.pipeline.start_with(stage, &settings)?;
        let of_system = format!("system=\"{system}\"");
        let certificate = "kingpost_certificate_expiry_timestamp_seconds";
        let ends = date_time_ymd(2050, 1, 1).unix_timestamp() as f64;
        run.until_metric(&worker, certificate, &[&of_system, "which=\"peer\""], ends).await?;
        let text = run.pipeline.metrics(&worker).await?;
        ensure!(metric(&text, certificate, &[&of_system, "which=\"peer\""]) < ends + 0.5, "{text}");
        ensure!(metric(&text, certificate, &[&of_system, "which=\"trusted\""]) > ends, "{text}");
        let secret = metric(&text, "kingpost_secret_expiry_timestamp_seconds", &[&of_system]);
        ensure!((secret - 2_208_960_000.0).abs() < 0.5, "{secret} in\n{text}");
        if system == "kingdee" {
            run.pipeline.wait_done(&run.sandbox, 3, 0, SOON).await?;
        } else {
            run.until_depth(crate::LOAD, 3).await?;
        }
    }
    Ok(())
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
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
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
    let workers = workers?;
    // What is trusted for the broker expires with the authority's certificate.
    let [_, transformer, _] = workers.as_slice() else { bail!("not three workers") };
    let name = "kingpost_certificate_expiry_timestamp_seconds";
    let ends = [r#"system="amqp""#, r#"which="trusted""#];
    run.until_metric(transformer, name, &ends, date_time_ymd(2030, 1, 1).unix_timestamp() as f64).await?;
    run.sound(workers).await?;
    Ok(())
}
