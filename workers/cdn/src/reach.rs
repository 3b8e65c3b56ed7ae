//! Whether the CDN and the local cache are up, as this process sees it, and what follows for readers.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use keelson_kit::role::Context;
use keelson_schemas::cdn::{AssetUrl, Served};
use reqwest::header::HOST;
use reqwest::{Client, Url};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::http;
use crate::setup::Setup;

/// The longest that a probe may take; half an interval, if that is less.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// Who can serve readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The CDN.
    pub cdn: bool,
    /// The local cache.
    pub cache: bool,
}

/// Looks every while, and tells whoever watches.
pub struct Prober {
    ctx: Context,
    setup: Arc<Setup>,
    client: Client,
    found: watch::Sender<Reach>,
}

impl Prober {
    /// Before the first look everything that is configured counts as up.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(ctx: &Context, setup: Arc<Setup>) -> reqwest::Result<Self> {
        let timeout = PROBE_WITHIN.min(setup.config.health_interval.0 / 2);
        let reach = Reach { cdn: setup.is_configured(), cache: setup.config.local_cache.is_some() };
        let client = http::client(timeout).no_proxy().build()?;
        Ok(Self { ctx: ctx.clone(), setup, client, found: watch::Sender::new(reach) })
    }

    /// What was found last.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<Reach> {
        self.found.subscribe()
    }

    /// Looks until the process ends.
    pub fn spawn(self) {
        let (tasks, this) = (self.ctx.tasks.clone(), Arc::new(self));
        tasks.spawn("health of the CDN", move || Arc::clone(&this).run());
    }

    async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        loop {
            let found = self.look().await;
            let before = self.found.send_replace(found);
            match (before.cdn, found.cdn) {
                (true, false) => warn!("the CDN does not answer: readers are sent elsewhere"),
                (false, true) => info!("the CDN answers again"),
                _ => {}
            }
            tokio::select! {
                () = self.ctx.tasks.cancelled() => return Ok(()),
                () = self.ctx.clock.sleep(self.setup.config.health_interval.0) => {}
            }
        }
    }

    /// The CDN is up when one of its caches is: what is in front of them leaves the others out.
    async fn look(&self) -> Reach {
        let probes = self.setup.lanes.iter().map(|lane| self.answers(&lane.probe.0, Some(&lane.probe.1)));
        let cache = async {
            match self.setup.config.local_cache.as_deref().and_then(|cache| Url::parse(cache).ok()) {
                Some(cache) => self.answers(&cache, None).await,
                None => false,
            }
        };
        let (caches, cache) = futures::join!(join_all(probes), cache);
        Reach { cdn: self.setup.is_configured() && caches.contains(&true), cache }
    }

    async fn answers(&self, url: &Url, host: Option<&str>) -> bool {
        let mut request = self.client.head(url.clone());
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.send().await.is_ok_and(|answer| !answer.status().is_server_error())
    }
}

/// Where a path is read from now.
///
/// # Errors
/// The path is none, or nothing is configured that has it.
pub fn find(setup: &Setup, reach: Reach, path: &str) -> Result<AssetUrl, String> {
    let site = setup.site.clone().or_else(|| crate::url::Site::new("any", &[]).ok()).ok_or("no site")?;
    let url = site.url_of_path(path)?;
    let cache = setup.config.local_cache.as_deref().filter(|_| reach.cache);
    let origin = Some(setup.config.origin.as_str()).filter(|origin| !origin.is_empty());
    let at = |base: &str, served_by| AssetUrl {
        url: format!("{}{}", base.trim_end_matches('/'), url.path_and_query()),
        served_by,
    };
    if reach.cdn && setup.site.is_some() {
        return Ok(AssetUrl { url: url.to_string(), served_by: Served::Cdn });
    }
    let elsewhere = cache.map(|base| at(base, Served::Cache)).or(origin.map(|base| at(base, Served::Origin)));
    elsewhere.ok_or_else(|| {
        "neither a CDN that answers, nor a local cache, nor an origin is configured (cdn.origin)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CdnConfig;

    fn setup(more: &str) -> Setup {
        let text = format!(
            "{more}\nproviders = [\"varnish\"]\ndomain = \"edge.example:6081\"\n[varnish]\nurls = [\"http://127.0.0.1:6081\"]"
        );
        Setup::of(&toml::from_str::<CdnConfig>(&text).unwrap()).unwrap()
    }

    #[test]
    fn readers_are_sent_to_whoever_can_serve_them() {
        let all = "origin = \"http://origin:8000/\"\nlocal_cache = \"http://cache:3000/c\"";
        let reach = |cdn, cache| Reach { cdn, cache };
        let cases = [
            (all, reach(true, true), "http://edge.example:6081/a?b=%20c", Served::Cdn),
            (all, reach(false, true), "http://cache:3000/c/a?b=%20c", Served::Cache),
            (all, reach(false, false), "http://origin:8000/a?b=%20c", Served::Origin),
        ];
        for (text, reach, url, served_by) in cases {
            assert_eq!(find(&setup(text), reach, "/a?b= c#d"), Ok(AssetUrl { url: url.into(), served_by }));
        }
        assert!(find(&setup(""), reach(false, false), "/a").is_err());
        assert!(find(&setup(all), reach(false, false), "//evil.example/").is_err());
    }
}
