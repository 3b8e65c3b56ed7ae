//! From a message to what it asks of one provider.

use std::sync::Arc;

use keelson_kit::incoming::Stored;
use keelson_schemas::cdn::{ContentChanged, PurgeRequested, Selectors, Version};
use keelson_schemas::codec::DecodeError;
use keelson_schemas::{id, subject};
use rustc_hash::FxHashSet;

use crate::index::Index;
use crate::limits::Limits;
use crate::purge::Request;
use crate::selector::{Parsed, Selector};
use crate::url::{EdgeUrl, Site};

/// How many known URLs are looked at for a tag, a prefix or everything.
const MOST_CHECKS: usize = 1_000;
/// How many known URLs take the place of a selector that the provider lacks.
const MOST_EXPANDED: usize = 10_000;
/// Who asks by an event.
const BY_EVENT: &str = "content.changed";

/// The subject of events that content changed.
#[must_use]
pub fn changed() -> String {
    subject::evt("content", "changed")
}

/// The subject of purges that commands ask for.
#[must_use]
pub fn requested() -> String {
    subject::evt("cdn", "requested")
}

/// For whom messages are read.
#[derive(Debug, Clone)]
pub struct Intake {
    /// The hosts at the edge.
    pub site: Site,
    /// The lane, and whose it is: a command may name either.
    pub names: [String; 2],
    /// What the provider takes.
    pub limits: Limits,
    /// When the stream was made: with a sequence it names a message for ever.
    pub stream_created_ms: i64,
}

/// What a message says.
#[derive(Debug)]
pub struct Said {
    selectors: Vec<Selector>,
    refused: Option<String>,
    soft: bool,
    /// What the URLs of an event serve now.
    pub version: Option<Arc<Version>>,
    asset: Option<String>,
    operation: Option<String>,
    requested_by: String,
    providers: Vec<String>,
}

impl Said {
    /// What it names.
    #[must_use]
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// Whether it is an event of an application, from which can be learned.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.operation.is_none()
    }
}

impl Intake {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is no message of ours.
    pub fn read(&self, message: &Stored) -> Result<Said, DecodeError> {
        if message.subject() == requested() { self.request(message) } else { self.event(message) }
    }

    fn event(&self, message: &Stored) -> Result<Said, DecodeError> {
        let event: ContentChanged = message.decode()?;
        let selectors =
            Selectors { urls: event.urls, tags: event.tags, prefixes: event.prefixes, all: false };
        let parsed = Parsed::of(&selectors, &self.site);
        Ok(Said {
            refused: parsed.error(),
            selectors: parsed.selectors,
            soft: event.soft,
            version: event.version.map(Arc::new),
            asset: (!event.asset.is_empty()).then_some(event.asset),
            operation: None,
            requested_by: BY_EVENT.to_owned(),
            providers: Vec::new(),
        })
    }

    fn request(&self, message: &Stored) -> Result<Said, DecodeError> {
        let request: PurgeRequested = message.decode()?;
        let parsed = Parsed::of(&request.selectors, &self.site);
        Ok(Said {
            refused: parsed.error(),
            selectors: parsed.selectors,
            soft: request.soft,
            version: None,
            asset: None,
            operation: Some(request.operation),
            requested_by: request.requested_by,
            providers: request.providers,
        })
    }

    /// What it asks of this provider; none when it asks nothing of it.
    #[must_use]
    pub fn wanted(&self, said: Said, sequence: u64, caused_at_ms: u64, index: &Index) -> Option<Request> {
        let meant = said.providers.is_empty() || said.providers.iter().any(|name| self.names.contains(name));
        if !meant || (said.selectors.is_empty() && said.refused.is_none()) {
            return None;
        }
        let (selectors, unsupported) = self.expanded(&said.selectors, index);
        let (checks, unseen) = checks(&said.selectors, index);
        Some(Request {
            key: sequence,
            id: id::derive("purge", &[&self.stream_created_ms.to_string(), &sequence.to_string()]),
            operation: said.operation,
            asset: said.asset,
            requested_by: said.requested_by,
            caused_at_ms,
            selectors,
            soft: said.soft,
            checks,
            unseen,
            refused: said.refused.or(unsupported),
        })
    }

    /// What the provider can purge in place of what it cannot, and what is left.
    fn expanded(&self, selectors: &[Selector], index: &Index) -> (Vec<Selector>, Option<String>) {
        let supported = |selector: &Selector| self.limits.of(selector.kind()).is_some();
        if selectors.iter().all(supported) {
            return (selectors.to_vec(), None);
        }
        let (mut seen, mut expanded, mut unsupported) = (FxHashSet::default(), Vec::new(), None);
        for selector in selectors {
            let instead: Vec<Selector> = match supported(selector) {
                true => vec![selector.clone()],
                false => index.covered(selector, MOST_EXPANDED).into_iter().map(Selector::Url).collect(),
            };
            if instead.is_empty() || instead.len() == MOST_EXPANDED {
                let known = if instead.is_empty() { "no URL is known" } else { "too many URLs are known" };
                let reason = format!(
                    "unsupported: {} cannot purge {selector}, and {known} that it covers",
                    self.names[1]
                );
                unsupported.get_or_insert(reason);
            }
            expanded.extend(instead.into_iter().filter(|selector| seen.insert(selector.clone())));
        }
        (expanded, unsupported)
    }
}

/// What is looked at, and why that is not all.
fn checks(selectors: &[Selector], index: &Index) -> (Vec<EdgeUrl>, Option<String>) {
    let (mut seen, mut checks, mut unseen) = (FxHashSet::default(), Vec::new(), None);
    for selector in selectors {
        let covered = index.covered(selector, MOST_CHECKS);
        if covered.is_empty() {
            unseen.get_or_insert_with(|| format!("no URL is known that {selector} covers"));
        }
        let own = matches!(selector, Selector::Url(_));
        let new = covered.into_iter().filter(|url| seen.insert(url.clone()));
        let room = if own { usize::MAX } else { MOST_CHECKS.saturating_sub(checks.len()) };
        checks.extend(new.take(room));
    }
    (checks, unseen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::VARNISH;

    fn intake(limits: Limits) -> Intake {
        Intake {
            site: Site::new("cdn.example", &[]).unwrap(),
            names: ["fastly".into(), "fastly".into()],
            limits,
            stream_created_ms: 1,
        }
    }

    fn said(intake: &Intake, urls: &[&str], tags: &[&str], prefixes: &[&str]) -> Said {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let selectors =
            Selectors { urls: owned(urls), tags: owned(tags), prefixes: owned(prefixes), all: false };
        let parsed = Parsed::of(&selectors, &intake.site);
        Said {
            refused: parsed.error(),
            selectors: parsed.selectors,
            soft: false,
            version: None,
            asset: None,
            operation: None,
            requested_by: String::new(),
            providers: Vec::new(),
        }
    }

    #[test]
    fn what_a_provider_lacks_is_put_into_what_it_has_or_is_said() {
        let intake = intake(Limits { prefix: None, ..VARNISH });
        let mut index = Index::default();
        let urls = ["https://cdn.example/v/1", "https://cdn.example/v/2", "https://cdn.example/w"];
        index.learn(said(&intake, &urls, &["t"], &[]).selectors());
        let asked = said(&intake, &["https://cdn.example/v/1"], &[], &["/v/", "/x/"]);
        let request = intake.wanted(asked, 7, 1, &index).unwrap();
        let sent: Vec<&str> = request.selectors.iter().map(Selector::text).collect();
        assert_eq!(sent, ["https://cdn.example/v/1", "https://cdn.example/v/2"]);
        assert!(request.refused.unwrap().starts_with("unsupported: fastly cannot purge prefix /x/"));
    }

    #[test]
    fn known_urls_are_looked_at_and_what_has_none_is_said() {
        let intake = intake(VARNISH);
        let mut index = Index::default();
        index.learn(said(&intake, &["https://cdn.example/a"], &["t"], &[]).selectors());
        let request = intake.wanted(said(&intake, &[], &["t"], &[]), 7, 1, &index).unwrap();
        assert_eq!((request.checks.len(), request.unseen), (1, None));
        let request = intake.wanted(said(&intake, &[], &["t", "u"], &[]), 7, 1, &index).unwrap();
        assert_eq!(request.unseen.as_deref(), Some("no URL is known that tag u covers"));
    }

    #[test]
    fn only_the_providers_that_are_named_are_asked() {
        let intake = intake(VARNISH);
        for (named, asked) in [("varnish", false), ("fastly", true)] {
            let said = Said { providers: vec![named.into()], ..said(&intake, &[], &["t"], &[]) };
            assert_eq!(intake.wanted(said, 1, 1, &Index::default()).is_some(), asked, "{named}");
        }
        assert!(intake.wanted(said(&intake, &[], &[], &[]), 1, 1, &Index::default()).is_none());
        assert!(
            intake.wanted(said(&intake, &["/a"], &[], &[]), 1, 1, &Index::default()).is_some(),
            "what is wrong is told"
        );
    }
}
