//! What a purge command means here, said before anything is sent.

use keelson_schemas::cdn::{ProviderOutcome, Purge, PurgeReport, Selectors};

use crate::batch::Queue;
use crate::selector::{Kind, Parsed, Selector};
use crate::setup::{Lane, Setup};

/// A command that has a meaning.
#[derive(Debug)]
pub struct Plan {
    /// What is purged, as it is sent.
    pub selectors: Vec<Selector>,
    /// The lanes that are asked.
    pub lanes: Vec<String>,
}

impl Plan {
    /// Reads a command.
    ///
    /// # Errors
    /// All that is wrong with it, in one sentence.
    pub fn of(command: &Purge, setup: &Setup) -> Result<Self, String> {
        let Some(site) = &setup.site else { return Err(setup.missing.join("; ")) };
        let parsed = Parsed::of(&command.selectors(), site);
        if let Some(error) = parsed.error() {
            return Err(error);
        }
        if parsed.selectors.is_empty() {
            return Err("nothing is named: give urls, tags, prefixes or all".to_owned());
        }
        if command.all {
            rails(command, site.domain())?;
        }
        let lanes = lanes(command, setup)?;
        Ok(Self { selectors: parsed.selectors, lanes })
    }

    /// What is sent, as it was checked.
    #[must_use]
    pub fn checked(&self) -> Selectors {
        selectors(&self.selectors)
    }

    /// What would be sent, to whom, in how many calls.
    #[must_use]
    pub fn dry_run(&self, soft: bool, setup: &Setup) -> PurgeReport {
        let asked = setup.lanes.iter().filter(|lane| self.lanes.contains(&lane.name));
        let outcome = |lane: &Lane| ProviderOutcome {
            provider: lane.name.clone(),
            selectors: self.checked(),
            calls: self.calls(soft, lane),
            outcome: None,
        };
        PurgeReport { dry_run: true, providers: asked.map(outcome).collect() }
    }

    fn calls(&self, soft: bool, lane: &Lane) -> u64 {
        let mut queue = Queue::default();
        self.selectors.iter().for_each(|selector| queue.add(selector, soft, false, 0));
        std::iter::from_fn(|| queue.cut(&lane.limits)).count() as u64
    }
}

/// Everything is purged only by those who can name what they empty, and say why.
fn rails(command: &Purge, domain: &str) -> Result<(), String> {
    if command.confirm != domain {
        return Err(format!("to purge everything, confirm has to name the CDN's domain: {domain}"));
    }
    if command.reason.trim().is_empty() {
        return Err("to purge everything, a reason is needed".to_owned());
    }
    Ok(())
}

fn lanes(command: &Purge, setup: &Setup) -> Result<Vec<String>, String> {
    let named = |lane: &&Lane| {
        let names = [lane.name.as_str(), lane.provider_name];
        command.providers.is_empty() || command.providers.iter().any(|name| names.contains(&name.as_str()))
    };
    let lanes: Vec<String> = setup.lanes.iter().filter(named).map(|lane| lane.name.clone()).collect();
    let known =
        |name: &&String| setup.lanes.iter().any(|lane| lane.name == **name || lane.provider_name == **name);
    if let Some(unknown) = command.providers.iter().find(|name| !known(name)) {
        let known: Vec<&str> = setup.lanes.iter().map(|lane| lane.name.as_str()).collect();
        let missing = setup.missing.iter().find(|missing| missing.starts_with(unknown.as_str()));
        return Err(missing.cloned().unwrap_or_else(|| {
            format!("provider {unknown:?} is not configured, only {}", known.join(", "))
        }));
    }
    if command.providers.is_empty() && !setup.missing.is_empty() || lanes.is_empty() {
        return Err(setup.missing.join("; "));
    }
    Ok(lanes)
}

fn selectors(all: &[Selector]) -> Selectors {
    let of = |kind: Kind| {
        all.iter().filter(move |selector| selector.kind() == kind).map(|selector| selector.text().to_owned())
    };
    Selectors {
        urls: of(Kind::Url).collect(),
        tags: of(Kind::Tag).collect(),
        prefixes: of(Kind::Prefix).collect(),
        all: all.contains(&Selector::All),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CdnConfig;

    fn setup(providers: &str) -> Setup {
        let text = format!(
            "providers = [{providers}]\ndomain = \"edge.example:6081\"\n[varnish]\nurls = [\"http://127.0.0.1:6081\"]"
        );
        Setup::of(&toml::from_str::<CdnConfig>(&text).unwrap()).unwrap()
    }

    fn tags(count: usize) -> Purge {
        Purge { tags: (0..count).map(|n| format!("tag:{n}")).collect(), ..Purge::default() }
    }

    #[test]
    fn a_dry_run_counts_calls() {
        let setup = setup("\"varnish\"");
        for (count, calls) in [(1, 1), (256, 1), (257, 2), (600, 3)] {
            let report = Plan::of(&tags(count), &setup).unwrap().dry_run(false, &setup);
            assert_eq!((report.providers[0].calls, report.providers[0].selectors.tags.len()), (calls, count));
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused_naming_it() {
        let all = Purge { all: true, ..Purge::default() };
        let cases = [
            (Purge::default(), "nothing is named"),
            (Purge { urls: vec!["/a".into()], ..Purge::default() }, "\"/a\""),
            (Purge { prefixes: vec!["/a && b".into()], ..Purge::default() }, "/a && b"),
            (Purge { providers: vec!["akamai".into()], ..tags(1) }, "akamai"),
            (all.clone(), "edge.example:6081"),
            (Purge { confirm: "edge.example:6081".into(), ..all }, "a reason"),
            (Purge { urls: vec![String::new(); 100_000], ..Purge::default() }, "100000"),
        ];
        for (command, said) in cases {
            let error = Plan::of(&command, &setup("\"varnish\"")).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn who_cannot_be_asked_keeps_only_those_purges_from_being_sent_that_would_need_it() {
        let two = setup("\"varnish\", \"fastly\"");
        assert!(Plan::of(&tags(1), &two).unwrap_err().contains("fastly"));
        assert!(Plan::of(&Purge { providers: vec!["varnish".into()], ..tags(1) }, &two).is_ok());
        assert!(
            Plan::of(&Purge { providers: vec!["fastly".into()], ..tags(1) }, &two)
                .unwrap_err()
                .contains("fastly")
        );
    }
}
