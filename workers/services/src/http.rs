//! Connections to services: names are resolved here, and every address is judged before it is connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};

use crate::address::Rules;

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections that are kept open to one host.
const IDLE_PER_HOST: usize = 64;
/// How long one is kept that nobody uses: less than servers usually wait before they close it.
const IDLE_FOR: Duration = Duration::from_secs(4);

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// Names, resolved to addresses that may be connected to.
#[derive(Clone)]
pub struct Names {
    rules: Rules,
    lookup: Arc<Lookup>,
}

/// A body was larger than was to be taken, or did not come whole.
#[derive(Debug)]
pub enum BodyError {
    /// It is larger than so many bytes.
    TooLarge(usize),
    /// It ended too early.
    Broken(String),
}

impl Names {
    /// Asks this machine's resolver.
    #[must_use]
    pub fn of_system(rules: Rules) -> Self {
        Self::asking(rules, |host| {
            async move {
                let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            }
            .boxed()
        })
    }

    /// Asks somebody else.
    pub fn asking(
        rules: Rules,
        lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self { rules, lookup: Arc::new(lookup) }
    }

    /// The addresses of a host. One that may not be connected to spoils them all: whoever answers so does not mean well.
    ///
    /// # Errors
    /// When it has none, or one that may not be connected to.
    pub async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => (self.lookup)(host.to_owned()).await?,
        };
        for address in &found {
            if let Some(objection) = self.rules.objection(*address) {
                let refused = format!("{host} leads to {address}, {objection}, and is not connected to");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused));
            }
        }
        match found.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))),
            false => Ok(found),
        }
    }

    /// A client that connects to nothing else, by no proxy, and follows no redirect.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn client(&self) -> reqwest::Result<Client> {
        Client::builder()
            .user_agent(concat!("keelson/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_FOR)
            .redirect(Policy::none())
            .tls_info(true)
            .no_proxy()
            .dns_resolver(Arc::new(self.clone()))
            .build()
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        async move {
            let found = names.addresses(name.as_str()).map_err(Box::new).await?;
            let addresses: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        }
        .boxed()
    }
}

/// A body, whole.
///
/// # Errors
/// When it is larger than `most` bytes, or breaks off.
pub async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > most => return Err(BodyError::TooLarge(most)),
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(BodyError::Broken(said(error))),
        }
    }
}

/// The error with its causes, without the address.
#[must_use]
pub fn said(error: reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return "it did not answer in time".to_owned();
    }
    format!("{:#}", anyhow::Error::from(error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(loopback: bool) -> Names {
        Names::asking(Rules { loopback }, |host| {
            let found = match host.as_str() {
                "content.example" => vec!["127.0.0.1"],
                "metadata.example" => vec!["169.254.169.254"],
                "mapped.example" => vec!["::ffff:169.254.169.254"],
                "half.example" => vec!["10.0.0.7", "169.254.169.254"],
                _ => vec![],
            };
            std::future::ready(Ok(found.iter().map(|address| address.parse().unwrap()).collect())).boxed()
        })
    }

    #[tokio::test]
    async fn names_that_lead_to_metadata_are_refused() {
        for host in ["metadata.example", "mapped.example", "half.example", "169.254.169.254"] {
            let refused = names(true).addresses(host).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{host}");
        }
        assert!(names(true).addresses("content.example").await.is_ok());
        assert!(names(false).addresses("content.example").await.is_err());
        assert!(names(true).addresses("nowhere.example").await.is_err());
    }

    #[tokio::test]
    async fn the_client_connects_only_to_what_was_judged() {
        let client = names(true).client().unwrap();
        for host in ["metadata.example", "mapped.example", "half.example"] {
            let error = client.get(format!("http://{host}:1/")).send().await.unwrap_err();
            assert!(said(error).contains("is not connected to"), "{host}");
        }
        let error = client.get("http://content.example:1/").send().await.unwrap_err();
        assert!(said(error).contains("refused"));
    }
}
