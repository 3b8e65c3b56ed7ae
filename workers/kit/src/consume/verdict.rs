//! What becomes of a message: decided purely, from what was counted and how its handler ended.

use std::time::Duration;

use super::ConsumeOptions;
use super::attempts::Attempts;
use crate::failure::Failure;
use crate::retry::wait_for_attempt;

/// A message at which a worker crashed this often is passed over.
const MAX_CRASHES: u32 = 3;

/// Why a message is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burial {
    /// Of which kind the reason is.
    pub kind: BurialKind,
    /// The reason, in words.
    pub reason: String,
}

/// Kinds of reasons for giving a message up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BurialKind {
    /// Its handler rejected it.
    Rejected,
    /// It failed too often, or its handler gave it up.
    Exhausted,
    /// Its worker crashed too often.
    Crashed,
    /// Its effect may or may not have happened.
    Unknown,
}

/// What is to be done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Acknowledge it.
    Done,
    /// Deliver it again after a while.
    Again(Duration),
    /// Dead letter, then terminate.
    Bury(Burial),
}

/// Before an attempt: whether it is to be made at all. `attempts` counts it as begun.
pub(super) fn before(attempts: Attempts) -> Option<Burial> {
    let crashed = attempts.crashes() >= MAX_CRASHES;
    crashed.then(|| Burial { kind: BurialKind::Crashed, reason: "crashed the worker three times".into() })
}

/// After an attempt, which `attempts` counts as begun and not as failed.
pub(super) fn after(result: &Result<(), Failure>, attempts: Attempts, options: &ConsumeOptions) -> Verdict {
    let bury = |kind, reason: &str| Verdict::Bury(Burial { kind, reason: reason.to_owned() });
    let failed = attempts.failed + 1;
    match result {
        Ok(()) => Verdict::Done,
        Err(Failure::Reject { reason } | Failure::Decline { reason }) => bury(BurialKind::Rejected, reason),
        Err(Failure::GiveUp { reason }) => bury(BurialKind::Exhausted, reason),
        Err(unknown @ Failure::Unknown { .. }) => bury(BurialKind::Unknown, &unknown.to_string()),
        Err(Failure::Retry { reason, .. }) if failed >= options.max_failures => {
            bury(BurialKind::Exhausted, &format!("given up after {failed} failures, the last: {reason}"))
        }
        Err(Failure::Retry { after: Some(after), .. }) => Verdict::Again(*after),
        Err(Failure::Retry { after: None, .. }) => Verdict::Again(wait_for_attempt(options.retry, failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_crashes_and_a_message_is_passed_over() {
        let cases = [
            // (begun, failed, buried): the attempt now begun is counted in `begun`.
            (1, 0, false),
            (2, 0, false),
            (3, 0, false),
            (4, 0, true),
            (4, 1, false),
            (5, 1, true),
            (20, 19, false),
            (20, 16, true),
            (2, 9, false),
        ];
        for (begun, failed, buried) in cases {
            assert_eq!(
                before(Attempts { begun, failed }).is_some(),
                buried,
                "{begun} begun, {failed} failed"
            );
        }
    }

    #[test]
    fn the_end_of_an_attempt_decides() {
        let options = ConsumeOptions { max_failures: 3, ..ConsumeOptions::default() };
        let at = |failed| Attempts { begun: failed + 1, failed };
        let hour = Duration::from_secs(3600);
        let kind = |verdict: Verdict| match verdict {
            Verdict::Bury(burial) => Some(burial.kind),
            _ => None,
        };
        assert_eq!(after(&Ok(()), at(9), &options), Verdict::Done);
        assert_eq!(after(&Err(Failure::retry_after(hour, "x")), at(0), &options), Verdict::Again(hour));
        assert_eq!(kind(after(&Err(Failure::retry("x")), at(1), &options)), None);
        assert_eq!(kind(after(&Err(Failure::retry("x")), at(2), &options)), Some(BurialKind::Exhausted));
        assert_eq!(
            kind(after(&Err(Failure::retry_after(hour, "x")), at(2), &options)),
            Some(BurialKind::Exhausted)
        );
        assert_eq!(kind(after(&Err(Failure::reject("x")), at(0), &options)), Some(BurialKind::Rejected));
        assert_eq!(kind(after(&Err(Failure::give_up("x")), at(0), &options)), Some(BurialKind::Exhausted));
        assert_eq!(kind(after(&Err(Failure::decline("x")), at(0), &options)), Some(BurialKind::Rejected));
        assert_eq!(kind(after(&Err(Failure::unknown("x")), at(0), &options)), Some(BurialKind::Unknown));
    }

    #[test]
    fn our_own_schedule_grows() {
        let options = ConsumeOptions::default();
        let wait =
            |failed| match after(&Err(Failure::retry("x")), Attempts { begun: failed + 1, failed }, &options)
            {
                Verdict::Again(wait) => wait,
                other => panic!("{other:?}"),
            };
        assert!(wait(0) < Duration::from_secs(2) && wait(6) > Duration::from_secs(30));
    }
}
