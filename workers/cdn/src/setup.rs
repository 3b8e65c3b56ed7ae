//! What the configuration amounts to: the site, its origin, and a lane for each cache that is purged on its own.

mod lanes;

use std::sync::Arc;
use std::time::Duration;

use keelson_kit::config::{ConfigError, Span};
use reqwest::Url;

use self::lanes::Around;
use crate::config::CdnConfig;
use crate::edge::Edge;
use crate::flow::Policy;
use crate::limits::Limits;
use crate::provider::Provider;
use crate::url::Site;

/// The names that `providers` takes.
const KNOWN: [&str; 4] = ["varnish", "cloudflare", "cloudfront", "fastly"];

/// All that the worker goes by.
pub struct Setup {
    /// The configuration.
    pub config: CdnConfig,
    /// The hosts at the edge; none when no domain is set.
    pub site: Option<Site>,
    /// Every cache that is purged on its own.
    pub lanes: Vec<Lane>,
    /// What keeps the worker from doing its work, for people; none when nothing does.
    pub missing: Vec<String>,
}

/// A cache that is purged on its own, with its own queue and position, so that one that is down delays the others by nothing.
#[derive(Clone)]
pub struct Lane {
    /// `varnish`, or `varnish-10.0.0.7-6081` when there are several.
    pub name: String,
    /// Of whom it is: what `providers` says.
    pub provider_name: &'static str,
    /// What it takes.
    pub limits: Limits,
    /// Whom it asks.
    pub provider: Arc<dyn Provider>,
    /// Through what readers see it.
    pub edge: Edge,
    /// How it is asked whether it is up: a URL, and the host in its stead.
    pub probe: (Url, String),
}

impl Setup {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn of(config: &CdnConfig) -> Result<Self, Vec<ConfigError>> {
        let mut reading = Reading { config, errors: Vec::new(), missing: Vec::new() };
        let site = reading.site();
        let origin = reading.base("origin", &config.origin);
        reading.base("local_cache", config.local_cache.as_deref().unwrap_or_default());
        reading.spans();
        let lanes = reading.lanes(site.as_ref(), origin.as_ref());
        let Reading { errors, missing, .. } = reading;
        if errors.is_empty() {
            Ok(Self { config: config.clone(), site, lanes, missing })
        } else {
            Err(errors)
        }
    }

    /// Whether there is a CDN to be looked after.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// How the life of a purge goes here.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let fetch = self.config.longest_fetch.0;
        let rebound = |span: Span| (span.0 > Duration::ZERO).then(|| span.0.max(fetch));
        Policy {
            rebound: rebound(self.config.rebound),
            rebound_all: rebound(self.config.rebound_all),
            verify: self.config.verify.enabled,
            attempts: self.config.verify.attempts.max(1),
            looks_at_once: self.config.verify.at_once.max(1),
            most_under_way: self.config.most_under_way.max(1),
        }
    }
}

struct Reading<'a> {
    config: &'a CdnConfig,
    errors: Vec<ConfigError>,
    missing: Vec<String>,
}

impl Reading<'_> {
    fn site(&mut self) -> Option<Site> {
        if self.config.providers.is_empty() {
            self.missing.push("no provider is configured: set CDN_PROVIDER (cdn.providers)".to_owned());
        }
        if self.config.domain.is_empty() {
            self.missing.push("the CDN's domain is not set: CDN_DOMAIN (cdn.domain)".to_owned());
            return None;
        }
        let site = Site::new(&self.config.domain, &self.config.hosts);
        site.map_err(|error| self.errors.push(ConfigError::new("domain", error))).ok()
    }

    /// An address to which paths are added; none for none.
    fn base(&mut self, key: &str, text: &str) -> Option<Url> {
        if text.is_empty() {
            return None;
        }
        let wrong = |why: &str| {
            ConfigError::new(key, format!("{text:?} is no address such as http://127.0.0.1:8000: {why}"))
        };
        match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => self.errors.push(wrong("http or https")),
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                self.errors.push(wrong("no query"))
            }
            Ok(url) => return Some(url),
            Err(error) => self.errors.push(wrong(&error.to_string())),
        }
        None
    }

    fn spans(&mut self) {
        for (key, span) in
            [("health_interval", self.config.health_interval), ("verify.timeout", self.config.verify.timeout)]
        {
            if span.0 < Duration::from_millis(100) {
                self.errors.push(ConfigError::new(key, "at least 100ms"));
            }
        }
    }

    fn lanes(&mut self, site: Option<&Site>, origin: Option<&Url>) -> Vec<Lane> {
        let mut lanes = Vec::new();
        let around = site.map(|site| Around { site, origin });
        for name in &self.config.providers {
            match name.as_str() {
                "varnish" => lanes.extend(self.varnish(around)),
                "cloudflare" => lanes.extend(self.cloudflare(around)),
                "fastly" => lanes.extend(self.fastly(around)),
                "cloudfront" => lanes.extend(self.cloudfront(around)),
                other => {
                    let message = format!("{other:?} is none of {}", KNOWN.join(", "));
                    self.errors.push(ConfigError::new("providers", message));
                }
            }
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(text: &str) -> Result<Setup, Vec<String>> {
        let config: CdnConfig = toml::from_str(text).unwrap();
        Setup::of(&config).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_least_configuration_is_one_lane() {
        let setup = setup("providers = [\"varnish\"]\ndomain = \"edge.example:6081\"\norigin = \"http://127.0.0.1:8000\"\n[varnish]\nurls = [\"http://127.0.0.1:6081\"]").unwrap();
        assert!(setup.missing.is_empty());
        assert_eq!(setup.lanes.iter().map(|lane| lane.name.as_str()).collect::<Vec<_>>(), ["varnish"]);
        assert_eq!(setup.policy().rebound, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_missing_is_said_and_is_no_error() {
        let said = |text| setup(text).unwrap().missing.join("\n");
        assert!(said("").contains("CDN_PROVIDER"));
        assert!(said("providers = [\"varnish\"]\ndomain = \"edge.example\"").contains("VARNISH_URLS"));
    }

    #[test]
    fn all_that_is_wrong_is_named() {
        let errors = setup("providers = [\"akamai\", \"varnish\"]\ndomain = \"a/b\"\norigin = \"8000\"\nlocal_cache = \"ftp://x\"\nhealth_interval = \"1ms\"\n[varnish]\nurls = [\"127.0.0.1:6081\"]").err().unwrap().join("\n");
        for said in ["akamai", "\"a/b\"", "origin", "local_cache", "health_interval", "varnish.urls"] {
            assert!(errors.contains(said), "{said}: {errors}");
        }
    }

    #[test]
    fn every_instance_is_a_lane_and_no_rebound_is_sooner_than_the_longest_fetch() {
        let setup = setup("providers = [\"varnish\"]\ndomain = \"edge.example\"\nlongest_fetch = \"40s\"\nrebound = \"0s\"\n[varnish]\nurls = [\"http://127.0.0.1:6081\", \"http://[::1]\"]").unwrap();
        let names: Vec<&str> = setup.lanes.iter().map(|lane| lane.name.as_str()).collect();
        assert_eq!(names, ["varnish-127-0-0-1-6081", "varnish----1--80"]);
        assert_eq!(
            (setup.policy().rebound, setup.policy().rebound_all),
            (None, Some(Duration::from_secs(40)))
        );
    }
}
