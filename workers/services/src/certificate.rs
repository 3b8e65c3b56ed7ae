//! Until when the certificate of an instance is valid. That it is valid at all, and whose it is, the connection has made sure of.

use reqwest::Response;
use reqwest::tls::TlsInfo;
use x509_parser::parse_x509_certificate;

/// Unix milliseconds until when the certificate of whoever answered is valid; none over anything but https.
#[must_use]
pub fn ends_ms(response: &Response) -> Option<u64> {
    let certificate = response.extensions().get::<TlsInfo>()?.peer_certificate()?;
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()?.checked_mul(1_000)
}
