//! A web server with a certificate of a CA of its own, and what is read from it.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use steeple::clock::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What is read from a server that answers `answer` and calls itself `name`, by somebody who
/// believes its CA, or nobody's.
async fn read_from(name: &str, answer: &[u8], believed: bool) -> Result<Bytes, WebError> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    #[expect(clippy::disallowed_methods, reason = "a web server is none of Steeple's")]
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/bundle", listener.local_addr().unwrap().port());
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        // Whoever does not believe the server ends the handshake.
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
            return std::future::pending().await;
        };
        let mut asked = [0; 1024];
        let length = stream.read(&mut asked).await.unwrap();
        assert!(asked[..length].starts_with(b"GET /bundle HTTP/1.1\r\nhost: localhost:"));
        stream.write_all(answer).await.unwrap();
        // Who has read enough hangs up.
        let _closed = stream.shutdown().await;
        std::future::pending().await
    };
    let mut roots = RootCertStore::empty();
    if believed {
        roots.add(issuer.der().clone()).unwrap();
    } else {
        let other = CertificateParams::new(vec!["other".to_owned()]).unwrap();
        let other = other.self_signed(&KeyPair::generate().unwrap()).unwrap();
        roots.add(other.der().clone()).unwrap();
    }
    let url = url.parse().unwrap();
    tokio::select! {
        document = get(&url, roots, Arc::new(SystemClock)) => document,
        () = serve => unreachable!("the server never ends"),
    }
}

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_document_is_read_from_a_server_that_is_believed() {
    assert_eq!(read_from("localhost", GOOD, true).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_server_without_a_certificate_that_is_believed_is_not_read() {
    let error = read_from("localhost", GOOD, false).await.unwrap_err();
    assert!(matches!(error, WebError::Connect(_)), "{error:?}");
    let error = read_from("elsewhere", GOOD, true).await.unwrap_err();
    assert!(matches!(error, WebError::Connect(_)), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_the_document_is_refused() {
    let moved = b"HTTP/1.1 302 Found\r\nlocation: https://elsewhere/\r\ncontent-length: 0\r\n\r\n";
    let error = read_from("localhost", moved, true).await.unwrap_err();
    assert!(matches!(error, WebError::Status(StatusCode::FOUND)), "{error:?}");
    let short = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello";
    let error = read_from("localhost", short, true).await.unwrap_err();
    assert!(matches!(error, WebError::Body), "{error:?}");
    let long = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'x'; MAX_DOCUMENT + 1]].concat();
    let error = read_from("localhost", &long, true).await.unwrap_err();
    assert!(matches!(error, WebError::Body), "{error:?}");
}

#[tokio::test]
async fn without_anybody_to_believe_nothing_is_read() {
    let url = Uri::from_static("https://localhost:1/");
    let error = get(&url, RootCertStore::empty(), Arc::new(SystemClock)).await.unwrap_err();
    assert!(matches!(error, WebError::NoRoots));
}
