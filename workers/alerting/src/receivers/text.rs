//! Notifications in words.

use jiff::Timestamp;
use keelson_schemas::alerting::{Alert, AlertState, Notify};

/// `firing` or `resolved`.
pub fn status(state: AlertState) -> &'static str {
    if state == AlertState::Resolved { "resolved" } else { "firing" }
}

/// A Unix millisecond, as RFC 3339 writes it.
pub fn rfc3339(unix_ms: u64) -> String {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::MAX).to_string()
}

/// A notification in a line: `[FIRING:2] HighErrorRate content`.
pub fn title(notify: &Notify) -> String {
    let firing =
        notify.alerts.iter().filter(|alert| alert.state != AlertState::Resolved).count() as u64 + notify.more;
    let (word, count) =
        if firing > 0 { ("FIRING", firing) } else { ("RESOLVED", notify.alerts.len() as u64) };
    let values: Vec<&str> = notify.group_labels.values().map(String::as_str).collect();
    let about = if values.is_empty() { "alerts".to_owned() } else { values.join(" ") };
    format!("[{word}:{count}] {about}")
}

/// What an alert says in a line: its summary, else its labels.
pub fn summary(alert: &Alert) -> String {
    match alert.annotations.get("summary").filter(|summary| !summary.is_empty()) {
        Some(summary) => summary.clone(),
        None => labels(alert),
    }
}

/// Its labels: `alertname=HighErrorRate service_name=content`.
pub fn labels(alert: &Alert) -> String {
    let pairs: Vec<String> = alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

/// The beginning of a text, of at most so many characters.
pub fn shortened(text: &str, most_chars: usize) -> String {
    if text.chars().count() <= most_chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most_chars.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn a_title_says_how_many_of_what() {
        let mut notify = Notify::example();
        assert_eq!(title(&notify), "[FIRING:4] HighErrorRate");
        notify.more = 0;
        notify.alerts[0].state = AlertState::Resolved;
        assert_eq!(title(&notify), "[RESOLVED:1] HighErrorRate");
        notify.group_labels.clear();
        assert_eq!(title(&notify), "[RESOLVED:1] alerts");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("grün", 4), "grün");
        assert_eq!(shortened("grüner", 4), "grü…");
    }

    #[test]
    fn an_alert_without_a_summary_is_known_by_its_labels() {
        let mut alert = Notify::example().alerts.remove(0);
        assert!(summary(&alert).contains("12.5 %"));
        alert.annotations.clear();
        assert_eq!(summary(&alert), "alertname=HighErrorRate service_name=content severity=critical");
    }
}
