//! Services over https: until when their certificates are valid is known, and told before it is too late.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan, Zoned};
use keelson_tests::keelson::Up;
use keelson_tests::place::{Place, free_port};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

const PATIENCE: Duration = Duration::from_secs(60);
const QUICK: &str = "[services.check]\ninterval = \"300ms\"\n";

/// A service over https whose certificate it has made itself.
struct Secured {
    address: SocketAddr,
    pem: String,
}

impl Secured {
    /// Its certificate ends at the beginning of the day so many days from today.
    async fn start(days: i64) -> Self {
        let end = (&Zoned::now() + days.days()).in_tz("UTC").expect("UTC").date();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(end.year().into(), end.month() as u8, end.day() as u8);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        let made = CertifiedKey { cert, signing_key: key };
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (listener, acceptor) = (TcpListener::bind(address).await.expect("a port"), acceptor(&made));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), stream));
            }
        });
        Self { address, pem: made.cert.pem() }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

fn acceptor(made: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        );
    TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")))
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let _ = stream.read(&mut [0; 4096]).await;
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    let _ = stream.shutdown().await;
}

async fn instance(up: &Up, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, status) = up.client().get(&format!("/api/microservices/{name}/status")).await;
        let instance = status["instances"][0].clone();
        if is_so(&instance) {
            return instance;
        }
        assert!(Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn alert(up: &Up) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, page) = up.client().get("/api/monitoring/alerts").await;
        let mut alerts = page["alerts"].as_array().expect("alerts").iter();
        if let Some(found) = alerts.find(|alert| alert["labels"]["alertname"] == "CertificateExpires") {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_certificate_is_told_of_before_it_ends_and_one_that_has_ended_is_no_way_to_be_up() {
    let (fresh, near, over) = (Secured::start(60).await, Secured::start(3).await, Secured::start(-1).await);
    let place = Place::new().configured(QUICK);
    let trusted = place.path().join("trusted.pem");
    std::fs::write(&trusted, [&fresh, &near, &over].map(|service| service.pem.as_str()).concat())
        .expect("a file");
    let up = Up::start_in(place.env("SSL_CERT_FILE", trusted.to_str().expect("a path"))).await;
    for (name, service) in [("fresh", &fresh), ("near", &near), ("over", &over)] {
        up.command(&["services", "register", name, &service.url()]);
    }

    let near = instance(&up, "near", |instance| instance["health"] == "up").await;
    let ends: Timestamp = near["certificateEnds"].as_str().expect("a time").parse().expect("a time");
    let left = ends.duration_since(Timestamp::now()).as_hours();
    assert!((47..=72).contains(&left), "{near}");
    let fresh = instance(&up, "fresh", |instance| instance["health"] == "up").await;
    assert!(fresh["certificateEnds"].is_string(), "{fresh}");
    let over = instance(&up, "over", |instance| instance["health"] == "down").await;
    assert!(over["reason"].as_str().expect("a reason").contains("expired"), "{over}");

    assert_eq!(alert(&up).await["labels"]["service_name"], "near");
}
