//! What a silence becomes when somebody sets or ends it. Pure. The rules are Alertmanager's: in place, a silence can only be given another end, another comment,
//! and, before it holds, another start; anything else ends it and makes a new one.

use std::time::Duration;

use keelson_schemas::alerting::{Matcher, SetSilence, Silence};
use keelson_schemas::id;

use keelson_kit::matcher::Matchers;

/// The most bytes that matchers, author and comment may have together; a key of the bucket has 64 KiB.
const MOST_BYTES: usize = 16 * 1024;

/// The most matchers: each is compiled wherever alerts are notified.
const MOST_MATCHERS: usize = 50;

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The silence as it is from now on.
    pub silence: Silence,
    /// The one it takes the place of, ended.
    pub ended: Option<Silence>,
}

/// Who asks, by which operation, when.
pub struct Asking<'a> {
    /// The operation.
    pub operation: &'a str,
    /// Who asks.
    pub requested_by: &'a str,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// The silence that a command makes, or makes of `former`.
///
/// # Errors
/// What is wrong with the command, in words for who asked.
pub fn set(command: &SetSilence, former: Option<Silence>, asking: &Asking<'_>) -> Result<Setting, String> {
    let now_ms = asking.now_ms;
    let starts_at_ms =
        command.starts_at_ms.or(former.as_ref().map(|former| former.starts_at_ms)).unwrap_or(now_ms);
    let wanted = Silence {
        id: id_of(asking.operation),
        matchers: matchers(&command.matchers)?,
        starts_at_ms,
        ends_at_ms: end(command, starts_at_ms.max(now_ms))?,
        updated_at_ms: now_ms,
        created_by: command.created_by.clone().unwrap_or_else(|| asking.requested_by.to_owned()),
        comment: command.comment.clone(),
    };
    if wanted.ends_at_ms <= wanted.starts_at_ms {
        return Err("it ends before it starts".to_owned());
    }
    if wanted.ends_at_ms <= now_ms {
        return Err("it ends in the past".to_owned());
    }
    if bytes(&wanted) > MOST_BYTES {
        return Err(format!("matchers, author and comment may have {MOST_BYTES} bytes together"));
    }
    Ok(match former {
        Some(former) if may_become(&former, &wanted, now_ms) => {
            Setting { silence: Silence { id: former.id, ..wanted }, ended: None }
        }
        former => {
            // What is over already stays as it is.
            let ended =
                former.filter(|former| now_ms < former.ends_at_ms).map(|former| ended(former, now_ms));
            Setting { silence: Silence { starts_at_ms: wanted.starts_at_ms.max(now_ms), ..wanted }, ended }
        }
    })
}

/// A silence that is ended now; one that is over stays as it is.
#[must_use]
pub fn ended(silence: Silence, now_ms: u64) -> Silence {
    if silence.ends_at_ms <= now_ms {
        return silence;
    }
    Silence {
        starts_at_ms: silence.starts_at_ms.min(now_ms),
        ends_at_ms: now_ms,
        updated_at_ms: now_ms,
        ..silence
    }
}

fn matchers(texts: &[String]) -> Result<Vec<Matcher>, String> {
    if texts.len() > MOST_MATCHERS {
        return Err(format!("it has {} matchers: {MOST_MATCHERS} are the most", texts.len()));
    }
    if texts.iter().map(String::len).sum::<usize>() > MOST_BYTES {
        return Err(format!("its matchers may have {MOST_BYTES} bytes together"));
    }
    let matchers = Matchers::parse(texts);
    let matchers = matchers
        .map_err(|errors| errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; "))?;
    if matchers.is_empty() {
        return Err("it has no matchers: say what it silences, such as alertname=HighErrorRate".to_owned());
    }
    if !matchers.is_selective() {
        return Err("its matchers match what has no labels at all, and so everything: at least one must want a label to have a value".to_owned());
    }
    Ok(matchers.iter().cloned().collect())
}

/// When it ends; `from_ms` is what a duration counts from.
fn end(command: &SetSilence, from_ms: u64) -> Result<u64, String> {
    match (command.ends_at_ms, &command.duration) {
        (Some(ends_at_ms), None) => Ok(ends_at_ms),
        (None, Some(duration)) => {
            let parsed = humantime::parse_duration(duration);
            let parsed: Duration = parsed
                .map_err(|error| format!("{duration:?} is no duration such as 2h or 1d 12h: {error}"))?;
            Ok(from_ms.saturating_add(u64::try_from(parsed.as_millis()).unwrap_or(u64::MAX)))
        }
        (Some(_), Some(_)) => Err("it has an end and a duration: give it one of them".to_owned()),
        (None, None) => Err("it has no end: give it a duration, such as 2h, or an end".to_owned()),
    }
}

fn may_become(former: &Silence, wanted: &Silence, now_ms: u64) -> bool {
    let starts = if now_ms < former.starts_at_ms {
        now_ms <= wanted.starts_at_ms
    } else {
        wanted.starts_at_ms == former.starts_at_ms
    };
    former.matchers == wanted.matchers && starts && now_ms < former.ends_at_ms
}

/// A UUID that follows from the operation, so that obeying a command twice makes one silence.
fn id_of(operation: &str) -> String {
    let hash = id::derive("silence", &[operation]);
    let parts = [&hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..]];
    parts.join("-")
}

fn bytes(silence: &Silence) -> usize {
    let matchers: usize =
        silence.matchers.iter().map(|matcher| matcher.name.len() + matcher.value.len()).sum();
    matchers + silence.created_by.len() + silence.comment.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_000_000;
    const HOUR_MS: u64 = 3_600_000;

    fn command(matchers: &[&str]) -> SetSilence {
        SetSilence {
            id: None,
            matchers: matchers.iter().map(|text| (*text).to_owned()).collect(),
            starts_at_ms: None,
            ends_at_ms: None,
            duration: Some("1h".into()),
            created_by: None,
            comment: String::new(),
        }
    }

    fn asked(command: &SetSilence, former: Option<Silence>, now_ms: u64) -> Result<Setting, String> {
        set(command, former, &Asking { operation: "op", requested_by: "ada", now_ms })
    }

    fn made(command: &SetSilence) -> Silence {
        asked(command, None, NOW_MS).unwrap().silence
    }

    #[test]
    fn a_silence_is_made_under_an_id_that_follows_from_the_operation() {
        let silence = made(&command(&["a=b"]));
        assert_eq!((silence.starts_at_ms, silence.ends_at_ms), (NOW_MS, NOW_MS + HOUR_MS));
        assert_eq!(silence.created_by, "ada");
        assert_eq!(silence.id, made(&command(&["c=d"])).id);
        assert_eq!(silence.id.len(), 36);
        let past = SetSilence { starts_at_ms: Some(5), ..command(&["a=b"]) };
        assert_eq!(made(&past).starts_at_ms, NOW_MS, "nothing is silenced in the past");
        let later = SetSilence { starts_at_ms: Some(NOW_MS + 7), ..command(&["a=b"]) };
        assert_eq!(made(&later).ends_at_ms, NOW_MS + 7 + HOUR_MS);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let good = || command(&["a=b"]);
        for (command, says) in [
            (command(&[]), "no matchers"),
            (command(&["a=~.*"]), "everything"),
            (command(&["a"]), "no matcher"),
            (command(&["a=~("]), "regular expression"),
            (SetSilence { duration: None, ..good() }, "no end"),
            (SetSilence { ends_at_ms: Some(2 * NOW_MS), ..good() }, "one of them"),
            (SetSilence { duration: Some("soon".into()), ..good() }, "no duration"),
            (SetSilence { duration: None, ends_at_ms: Some(NOW_MS), ..good() }, "before it starts"),
            (
                SetSilence { duration: None, ends_at_ms: Some(9), starts_at_ms: Some(8), ..good() },
                "in the past",
            ),
            (
                SetSilence {
                    duration: None,
                    ends_at_ms: Some(2 * NOW_MS),
                    starts_at_ms: Some(3 * NOW_MS),
                    ..good()
                },
                "before it starts",
            ),
            (command(&vec!["a=b"; MOST_MATCHERS + 1]), "50 are the most"),
            (command(&[&format!("a={}", "x".repeat(MOST_BYTES))]), "bytes together"),
            (command(&["a=~(a{999}){999}"]), "regular expression"),
            (SetSilence { comment: "x".repeat(MOST_BYTES), ..good() }, "bytes together"),
        ] {
            let refused = asked(&command, None, NOW_MS).unwrap_err();
            assert!(refused.contains(says), "{says}: {refused}");
        }
    }

    #[test]
    fn a_silence_changes_in_place_where_it_can_and_is_replaced_where_not() {
        let former = made(&command(&["a=b"]));
        let now_ms = NOW_MS + 10;
        let longer = SetSilence { duration: Some("2h".into()), comment: "still".into(), ..command(&["a=b"]) };
        let setting = asked(&longer, Some(former.clone()), now_ms).unwrap();
        assert_eq!(
            (&setting.silence.id, setting.silence.starts_at_ms, &setting.ended),
            (&former.id, NOW_MS, &None)
        );
        assert_eq!(
            (setting.silence.ends_at_ms, setting.silence.comment.as_str()),
            (now_ms + 2 * HOUR_MS, "still")
        );

        let other = Silence { id: "other".into(), ..former.clone() };
        let setting = asked(&command(&["a=c"]), Some(other.clone()), now_ms).unwrap();
        assert_eq!((&setting.silence.id, setting.silence.starts_at_ms), (&former.id, now_ms));
        assert_eq!(
            setting.ended.unwrap(),
            Silence { ends_at_ms: now_ms, updated_at_ms: now_ms, ..other.clone() }
        );

        let setting = asked(&longer, Some(other), NOW_MS + HOUR_MS).unwrap();
        assert_eq!(
            (&setting.silence.id, &setting.ended),
            (&former.id, &None),
            "what is over is not opened again"
        );
    }

    #[test]
    fn a_silence_that_does_not_hold_yet_may_start_otherwise() {
        let later = SetSilence { starts_at_ms: Some(NOW_MS + 100), ..command(&["a=b"]) };
        let former = made(&later);
        let sooner = SetSilence { starts_at_ms: Some(NOW_MS + 50), ..later };
        let setting = asked(&sooner, Some(former.clone()), NOW_MS + 10).unwrap();
        assert_eq!((setting.silence.id, setting.silence.starts_at_ms), (former.id.clone(), NOW_MS + 50));
        let over = ended(former, NOW_MS + 10);
        assert_eq!((over.starts_at_ms, over.ends_at_ms), (NOW_MS + 10, NOW_MS + 10));
        assert_eq!(ended(over.clone(), NOW_MS + 20), over);
    }
}
