//! What is asked to be registered, checked and made whole.

use std::time::Duration;

use keelson_schemas::services::{Register, Service, Source};

use crate::address::Rules;
use crate::allow::{self, Rule};
use crate::config::CheckConfig;

/// Longest name, in bytes: one label of DNS.
const MOST_NAME_BYTES: usize = 63;
/// Instances of one service.
const MOST_INSTANCES: usize = 32;
/// Lines of one allow-list.
const MOST_RULES: usize = 100;
/// Longest line of an allow-list and longest text to look for in a body, in bytes.
const MOST_TEXT_BYTES: usize = 256;
/// The shortest time between two checks of an instance, and within which it can be asked to answer.
const SHORTEST: Duration = Duration::from_millis(100);
/// The shortest and the longest lease.
const LEASES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 24 * 3_600));

/// The service that is asked for, as it would be registered; who asked and when is left open.
///
/// # Errors
/// What is wrong, beginning with the field.
pub fn read(register: &Register, config: &CheckConfig, rules: Rules) -> Result<Service, String> {
    name(&register.name)?;
    let health = register.health.clone().unwrap_or_else(|| config.path.clone());
    allow::check(&health).map_err(|why| format!("health: {health:?} is no path: {why}"))?;
    if register.check.status.iter().any(|status| !(100..=599).contains(status)) {
        return Err("check.status: HTTP knows 100 to 599".to_owned());
    }
    if register.check.body.as_ref().is_some_and(|body| body.len() > MOST_TEXT_BYTES) {
        return Err(format!("check.body: at most {MOST_TEXT_BYTES} bytes"));
    }
    Ok(Service {
        name: register.name.clone(),
        instances: instances(register, rules)?,
        health,
        allow: allowed(&register.allow)?,
        interval_ms: span("check.interval", register.check.interval.as_deref(), SHORTEST, LEASES.1)?,
        timeout_ms: span("check.timeout", register.check.timeout.as_deref(), SHORTEST, LEASES.1)?,
        status: register.check.status.clone(),
        body: register.check.body.clone(),
        lease_ms: span("lease", register.lease.as_deref(), LEASES.0, LEASES.1)?,
        source: Source::Command,
        registered_by: String::new(),
        registered_at_ms: 0,
    })
}

/// Whether a lease may be so long.
#[must_use]
pub fn may_last(lease: Duration) -> bool {
    (LEASES.0..=LEASES.1).contains(&lease)
}

/// Whether a service may be named so.
///
/// # Errors
/// Why not.
pub fn name(name: &str) -> Result<(), String> {
    let fine = (1..=MOST_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if fine {
        return Ok(());
    }
    let shown: String = name.chars().take(MOST_NAME_BYTES).collect();
    Err(format!(
        "name: {shown:?} ({} bytes) is not 1 to {MOST_NAME_BYTES} letters, digits, - and _",
        name.len()
    ))
}

fn instances(register: &Register, rules: Rules) -> Result<Vec<String>, String> {
    let mut instances = Vec::new();
    for url in register.url.all() {
        let instance = rules.target(url).map_err(|error| format!("url: {error}"))?.to_string();
        if !instances.contains(&instance) {
            instances.push(instance);
        }
    }
    match instances.len() {
        0 => Err("url: where is it? One URL, or a list of them".to_owned()),
        1..=MOST_INSTANCES => Ok(instances),
        _ => Err(format!("url: at most {MOST_INSTANCES} instances")),
    }
}

fn allowed(rules: &[String]) -> Result<Vec<String>, String> {
    if rules.len() > MOST_RULES || rules.iter().any(|rule| rule.len() > MOST_TEXT_BYTES) {
        return Err(format!("allow: at most {MOST_RULES} rules of {MOST_TEXT_BYTES} bytes"));
    }
    for rule in rules {
        Rule::parse(rule).map_err(|error| format!("allow: {error}"))?;
    }
    Ok(rules.to_vec())
}

fn span(field: &str, text: Option<&str>, least: Duration, most: Duration) -> Result<Option<u64>, String> {
    let Some(text) = text else { return Ok(None) };
    let span = humantime::parse_duration(text)
        .map_err(|error| format!("{field}: {text:?} is no duration such as 30s: {error}"))?;
    if span < least || span > most {
        return Err(format!(
            "{field}: {text} is not between {} and {}",
            humantime::format_duration(least),
            humantime::format_duration(most)
        ));
    }
    Ok(u64::try_from(span.as_millis()).ok())
}

#[cfg(test)]
mod tests {
    use keelson_schemas::services::{Check, Urls};

    use super::*;

    fn asked() -> Register {
        Register {
            name: "content".into(),
            url: Urls::One("http://127.0.0.1:5002".into()),
            health: Some("/health".into()),
            allow: vec!["GET /v1/*".into()],
            ..Register::default()
        }
    }

    fn read_near(register: &Register) -> Result<Service, String> {
        read(register, &CheckConfig::default(), Rules { loopback: true })
    }

    #[test]
    fn the_least_is_a_name_and_a_url() {
        let least = Register { health: None, allow: Vec::new(), ..asked() };
        let service = read_near(&least).unwrap();
        assert_eq!(service.instances, ["http://127.0.0.1:5002"]);
        assert_eq!((service.health.as_str(), service.lease_ms), ("/health", None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |check: Check| Register { check, ..asked() };
        let cases = [
            ("name", Register { name: "a".repeat(300), ..asked() }),
            ("name", Register { name: String::new(), ..asked() }),
            ("name", Register { name: "a.b".into(), ..asked() }),
            ("name", Register { name: "a*".into(), ..asked() }),
            ("url", Register { url: Urls::default(), ..asked() }),
            ("url", Register { url: Urls::One("ftp://127.0.0.1".into()), ..asked() }),
            (
                "url",
                Register {
                    url: Urls::Several((0..33).map(|n| format!("http://10.0.0.{n}")).collect()),
                    ..asked()
                },
            ),
            ("health", Register { health: Some("health".into()), ..asked() }),
            ("health", Register { health: Some("//evil.example/".into()), ..asked() }),
            ("allow", Register { allow: vec!["GET".into()], ..asked() }),
            ("allow", Register { allow: vec!["GET /".into(); 101], ..asked() }),
            ("lease", Register { lease: Some("soon".into()), ..asked() }),
            ("lease", Register { lease: Some("1ms".into()), ..asked() }),
            ("check.interval", check(Check { interval: Some("0s".into()), ..Check::default() })),
            ("check.timeout", check(Check { timeout: Some("-1s".into()), ..Check::default() })),
            ("check.status", check(Check { status: vec![99], ..Check::default() })),
            ("check.body", check(Check { body: Some("a".repeat(300)), ..Check::default() })),
        ];
        for (field, register) in cases {
            let error = read_near(&register).unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")), "{field}: {error}");
            assert!(error.len() < 300, "{error}");
        }
    }

    #[test]
    fn an_instance_that_is_named_twice_is_one() {
        let urls = ["http://127.0.0.1:80", "http://127.0.0.1/", "HTTP://127.0.0.1"].map(str::to_owned);
        let service = read_near(&Register { url: Urls::Several(urls.to_vec()), ..asked() }).unwrap();
        assert_eq!(service.instances, ["http://127.0.0.1"]);
    }
}
