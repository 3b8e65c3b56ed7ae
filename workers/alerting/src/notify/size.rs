//! How large alerts may be, so that what is kept of them has bounds.

use keelson_schemas::alerting::Alert;

/// An annotation is cut to this.
const MOST_ANNOTATION_BYTES: usize = 2048;
/// An alert that is larger is none: rules make none of a tenth of it.
const MOST_BYTES: usize = 32 * 1024;

/// About how many bytes an alert has where it is kept.
#[must_use]
pub fn bytes(alert: &Alert) -> usize {
    let texts = alert.labels.iter().chain(&alert.annotations);
    // The names of the fields, and the numbers.
    200 + texts.map(|(name, value)| name.len() + value.len() + 6).sum::<usize>()
}

/// The alert with its annotations cut to what may be kept; none if it is too large even so.
#[must_use]
pub fn bounded(mut alert: Alert) -> Option<Alert> {
    for value in alert.annotations.values_mut() {
        if value.len() > MOST_ANNOTATION_BYTES {
            value.truncate(value.floor_char_boundary(MOST_ANNOTATION_BYTES));
            value.push('…');
        }
    }
    (bytes(&alert) <= MOST_BYTES).then_some(alert)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::testing::firing;

    #[test]
    fn annotations_are_cut_and_what_is_too_large_even_so_is_refused() {
        let mut alert = firing("alertname=A");
        alert.annotations.insert("summary".into(), "ü".repeat(5_000));
        let bounded_alert = bounded(alert.clone()).unwrap();
        assert!(bounded_alert.annotations["summary"].ends_with("ü…") && bytes(&bounded_alert) < 3_000);
        alert.labels.insert("service_name".into(), "x".repeat(40_000));
        assert_eq!(bounded(alert), None);
    }
}
