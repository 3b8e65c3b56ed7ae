//! A lane for each cache that is purged on its own.

use std::sync::Arc;

use keelson_kit::config::{ConfigError, Secret};
use reqwest::Url;

use super::{Lane, Reading};
use crate::edge::Edge;
use crate::provider::Provider;
use crate::provider::cloudflare::Cloudflare;
use crate::provider::cloudfront::Cloudfront;
use crate::provider::fastly::Fastly;
use crate::provider::varnish::Varnish;
use crate::url::Site;

/// What every lane needs.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub site: &'a Site,
    pub origin: Option<&'a Url>,
}

impl Reading<'_> {
    pub(super) fn varnish(&mut self, around: Option<Around<'_>>) -> Vec<Lane> {
        let urls = &self.config.varnish.urls;
        if urls.is_empty() {
            self.missing
                .push("varnish: its addresses are not set: VARNISH_URLS (cdn.varnish.urls)".to_owned());
        }
        let bases: Vec<Url> = urls.iter().filter_map(|url| self.base("varnish.urls", url)).collect();
        let Some(around) = around else { return Vec::new() };
        bases.iter().filter_map(|base| self.varnish_lane(base, bases.len() == 1, around)).collect()
    }

    fn varnish_lane(&mut self, base: &Url, alone: bool, around: Around<'_>) -> Option<Lane> {
        let name = if alone { "varnish".to_owned() } else { lane_name("varnish", base) };
        let mut probe = base.clone();
        probe.set_path("/.keelson/health");
        let provider = Varnish::new(base.clone(), around.site.clone()).map_err(anyhow::Error::from);
        let lane = provider.and_then(|provider| {
            Ok(Lane {
                name,
                provider_name: "varnish",
                limits: provider.limits(),
                provider: Arc::new(provider),
                edge: Edge::new(&self.config.verify, Some(base.clone()), around.origin.cloned())?,
                probe: (probe, around.site.domain().to_owned()),
            })
        });
        self.made("varnish.urls", lane)
    }

    pub(super) fn cloudflare(&mut self, around: Option<Around<'_>>) -> Option<Lane> {
        let config = &self.config.cloudflare;
        self.base("cloudflare.api_url", &config.api_url);
        let key = self.needed(
            config.api_key.as_ref(),
            "cloudflare",
            "its API token",
            "CLOUDFLARE_API_KEY",
            "api_key",
        );
        let zone = config.zone_id.as_deref();
        let zone = self.needed(zone, "cloudflare", "its zone", "CLOUDFLARE_ZONE_ID", "zone_id");
        let (key, zone, around) = (key?, self.plain("cloudflare.zone_id", zone?)?, around?);
        let site = around.site.clone();
        let provider =
            Cloudflare::new(&config.api_url, zone, key.expose(), config.email.as_deref(), config.plan, site);
        let lane = provider.and_then(|provider| self.hosted("cloudflare", provider, around));
        self.made("cloudflare.api_key", lane)
    }

    pub(super) fn cloudfront(&mut self, around: Option<Around<'_>>) -> Option<Lane> {
        let id = self.config.cloudfront.distribution_id.as_deref();
        let id = self.needed(
            id,
            "cloudfront",
            "its distribution",
            "CLOUDFRONT_DISTRIBUTION_ID",
            "distribution_id",
        );
        let (id, around) = (self.plain("cloudfront.distribution_id", id?)?, around?);
        let lane = self.hosted("cloudfront", Cloudfront::new(id), around);
        self.made("cloudfront.distribution_id", lane)
    }

    pub(super) fn fastly(&mut self, around: Option<Around<'_>>) -> Option<Lane> {
        let config = &self.config.fastly;
        self.base("fastly.api_url", &config.api_url);
        let token =
            self.needed(config.api_token.as_ref(), "fastly", "its token", "FASTLY_API_TOKEN", "api_token");
        let service = config.service_id.as_deref();
        let service = self.needed(service, "fastly", "its service", "FASTLY_SERVICE_ID", "service_id");
        let (token, service, around) = (token?, self.plain("fastly.service_id", service?)?, around?);
        let provider = Fastly::new(&config.api_url, service, token.expose());
        let lane = provider.and_then(|provider| self.hosted("fastly", provider, around));
        self.made("fastly.api_token", lane)
    }

    /// A lane of a CDN that readers reach by the domain itself.
    fn hosted(
        &self,
        name: &'static str,
        provider: impl Provider,
        around: Around<'_>,
    ) -> anyhow::Result<Lane> {
        let path = &self.config.health_path;
        let probe = around.site.url_of_path(path).map_err(|error| anyhow::anyhow!("health_path: {error}"))?;
        Ok(Lane {
            name: name.to_owned(),
            provider_name: name,
            limits: provider.limits(),
            provider: Arc::new(provider),
            edge: Edge::new(&self.config.verify, None, around.origin.cloned())?,
            probe: (Url::parse(probe.as_str())?, probe.host().to_owned()),
        })
    }

    /// What a provider cannot do without; what is empty is not there.
    fn needed<T: Given>(
        &mut self,
        value: Option<T>,
        of: &str,
        what: &str,
        env: &str,
        key: &str,
    ) -> Option<T> {
        let given = value.filter(Given::is_given);
        if given.is_none() {
            self.missing.push(format!("{of}: {what} is not set: {env} (cdn.{of}.{key})"));
        }
        given
    }

    /// A name that stands in a path.
    fn plain<'t>(&mut self, key: &str, text: &'t str) -> Option<&'t str> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !plain {
            self.errors
                .push(ConfigError::new(key, format!("{text:?} has more in it than letters and digits")));
        }
        plain.then_some(text)
    }

    fn made(&mut self, key: &str, lane: anyhow::Result<Lane>) -> Option<Lane> {
        lane.map_err(|error| self.errors.push(ConfigError::new(key, format!("{error:#}")))).ok()
    }
}

trait Given {
    fn is_given(&self) -> bool;
}

impl Given for &Secret {
    fn is_given(&self) -> bool {
        !self.expose().is_empty()
    }
}

impl Given for &str {
    fn is_given(&self) -> bool {
        !self.is_empty()
    }
}

/// A name that can stand in keys and subjects.
fn lane_name(provider: &str, base: &Url) -> String {
    let host = base
        .host_str()
        .unwrap_or_default()
        .replace(|character: char| !character.is_ascii_alphanumeric(), "-");
    format!("{provider}-{host}-{}", base.port_or_known_default().unwrap_or_default())
}
