//! Certificates are always checked; a file can add trust, nothing can take the check away.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kingpost_outbound::{Delivery, HttpClient, HttpOptions, HttpSetupError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::server::{Server, client, read_request, request};

async fn serve(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Server {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            read_request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn params() -> CertificateParams {
    CertificateParams::new(["127.0.0.1".to_owned()]).unwrap()
}

fn pem_file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

async fn refused_without_and_accepted_with(server: &Server, ca_file: &Path) {
    let url = format!("https://127.0.0.1:{}/a?sign=planted", server.port);
    let error = client(|_| {}).post(request(&url)).await.unwrap_err();
    assert_eq!((error.delivery, error.timeout), (Delivery::NotSent, false));
    assert!(error.text.contains("certificate") && !error.text.contains("planted"), "{}", error.text);
    let trusting = client(|options| options.ca_file = Some(ca_file.to_owned()));
    assert_eq!(trusting.post(request(&url)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_and_accepted_with_its_file() {
    let key = KeyPair::generate().unwrap();
    let cert = params().self_signed(&key).unwrap();
    let server = serve(vec![cert.der().clone()], &key).await;
    let file = pem_file(&cert.pem());
    refused_without_and_accepted_with(&server, file.path()).await;
}

#[tokio::test]
async fn a_private_authority_is_trusted_through_its_file_for_the_right_name_only() {
    let mut authority = params();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let file = pem_file(&authority.pem());
    let key = KeyPair::generate().unwrap();
    let leaf = params().signed_by(&key, &authority).unwrap();
    refused_without_and_accepted_with(&serve(vec![leaf.der().clone()], &key).await, file.path()).await;

    let other =
        CertificateParams::new(["other.example".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let server = serve(vec![other.der().clone()], &key).await;
    let error = client(|options| options.ca_file = Some(file.path().to_owned()))
        .post(request(format!("https://127.0.0.1:{}/a", server.port)))
        .await
        .unwrap_err();
    assert_eq!(error.delivery, Delivery::NotSent);
    assert!(error.text.contains("not valid for name"), "{}", error.text);
}

#[tokio::test]
async fn the_servers_certificate_is_told_once_until_it_is_another() {
    let key = KeyPair::generate().unwrap();
    let certs = [params().self_signed(&key).unwrap(), params().self_signed(&key).unwrap()];
    let file = pem_file(&certs.each_ref().map(|cert| cert.pem()).concat());
    let client = client(|options| options.ca_file = Some(file.path().to_owned()));
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    client.on_peer_certificate(move |der| seen.lock().unwrap().push(der.to_vec()));
    for (cert, calls) in certs.iter().zip([2, 1]) {
        let server = serve(vec![cert.der().clone()], &key).await;
        for _ in 0..calls {
            let url = format!("https://127.0.0.1:{}/a", server.port);
            assert_eq!(client.clone().post(request(&url)).await.unwrap().status, 200);
        }
    }
    assert_eq!(*told.lock().unwrap(), certs.map(|cert| cert.der().to_vec()));
}

#[test]
fn an_unusable_certificate_file_is_named() {
    let refused = |path: &Path| {
        HttpClient::new(&HttpOptions { ca_file: Some(path.to_owned()), ..HttpOptions::default() })
            .unwrap_err()
    };
    let absent = refused(Path::new("/nonexistent/ca.pem"));
    assert!(matches!(absent, HttpSetupError::CaFileUnreadable { .. }));
    assert!(absent.to_string().contains("/nonexistent/ca.pem"), "{absent}");
    for text in ["", "no pem at all", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"] {
        let file = pem_file(text);
        let error = refused(file.path());
        assert!(error.to_string().contains("give PEM text"), "{text:?}: {error}");
    }
    let file = pem_file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    refused(file.path());
}
