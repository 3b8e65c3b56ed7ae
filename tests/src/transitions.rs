//! The transitions of alerts, read as a foreign client reads them: every one that is on the bus, in order.

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use futures::StreamExt;
use keelson_schemas::alerting::{AlertState, Transition};
use keelson_schemas::codec;

use crate::nats;

const SUBJECTS: &str = "keelson.evt.alerting.*";

/// All of them.
pub async fn read_all(url: &str) -> Vec<Transition> {
    let stream = nats::jetstream(url).await.get_stream("EVENTS").await.expect("EVENTS");
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::All,
        filter_subject: SUBJECTS.to_owned(),
        ..OrderedConfig::default()
    };
    let mut consumer = stream.create_consumer(config).await.expect("an ordered consumer");
    let stored = consumer.info().await.expect("its state").num_pending;
    let messages = consumer.messages().await.expect("its messages");
    let facts =
        ["pending", "fired", "resolved", "cleared"].map(|fact| format!("keelson.evt.alerting.{fact}"));
    let transitions = messages.take(usize::try_from(stored).expect("fits")).filter_map(|message| {
        let message = message.expect("an event");
        let is_transition = facts.iter().any(|subject| message.subject.as_str() == subject);
        let transition =
            is_transition.then(|| codec::decode(None, &message.payload).expect("a transition decodes"));
        std::future::ready(transition)
    });
    transitions.collect().await
}

/// What does not hold of the transitions of one service, that went bad so many times and each time well again.
pub fn findings(all: &[Transition], service: &str, times: usize) -> Vec<String> {
    let of_service = |transition: &&Transition| {
        transition.alert.labels.get("service_name").is_some_and(|name| name == service)
    };
    let seen: Vec<&Transition> = all.iter().filter(of_service).collect();
    let mut findings = Vec::new();
    for pair in seen.chunks(2) {
        let [fired, resolved] = pair else {
            findings.push(format!("{service}: a transition without its other: {pair:?}"));
            continue;
        };
        let (states, starts) = ((fired.alert.state, resolved.alert.state), (&fired.alert, &resolved.alert));
        if states != (AlertState::Firing, AlertState::Resolved)
            || starts.0.starts_at_ms != starts.1.starts_at_ms
        {
            findings.push(format!("{service}: no pair: {fired:?} and {resolved:?}"));
        }
    }
    let pairs = seen.len() / 2;
    findings.extend(
        (pairs != times).then(|| format!("{service}: it went bad {times} times and fired {pairs} times")),
    );
    findings
}

/// What does not hold of all transitions together: epochs and the slices that were read never go back.
pub fn order_findings(all: &[Transition]) -> Vec<String> {
    let back = |pair: &&[Transition]| {
        pair[1].epoch < pair[0].epoch || pair[1].slices_through < pair[0].slices_through
    };
    let describe = |pair: &[Transition]| {
        let at = |transition: &Transition| (transition.epoch, transition.slices_through);
        format!("a transition goes back, (epoch, slices): {:?} after {:?}", at(&pair[1]), at(&pair[0]))
    };
    all.windows(2).filter(back).map(describe).take(10).collect()
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    fn transition(service: &str, state: AlertState, starts_at_ms: u64, slices_through: u64) -> Transition {
        let mut transition = Transition { slices_through, ..Transition::example() };
        transition.alert.labels.insert("service_name".into(), service.into());
        transition.alert.state = state;
        transition.alert.starts_at_ms = Some(starts_at_ms);
        transition
    }

    #[test]
    fn a_missing_a_doubled_and_a_mixed_up_transition_are_found() {
        use AlertState::{Firing, Resolved};
        let good = [
            transition("a", Firing, 1, 1),
            transition("b", Firing, 2, 2),
            transition("a", Resolved, 1, 3),
            transition("b", Resolved, 2, 4),
        ];
        assert!(findings(&good, "a", 1).is_empty() && findings(&good, "b", 1).is_empty());
        assert!(order_findings(&good).is_empty());
        assert_eq!(findings(&good, "a", 2).len(), 1);
        assert_eq!(findings(&good[..3], "b", 1).len(), 2);
        let doubled = [&good[..1], &good[..]].concat();
        assert!(!findings(&doubled, "a", 1).is_empty());
        let back = [good[2].clone(), good[1].clone()];
        assert_eq!(order_findings(&back).len(), 1);
    }
}
