//! The decisions about one lease, as a pure state machine: observations and times in, writes and reads out.
//!
//! Safety rests on three things. Every write is a compare-and-set on the revision that was last seen. An observer takes a
//! lease over only after its revision has stood still for the whole duration since the observer first saw it, which is
//! later than the holder sent it. A holder counts from the moment it sent, and [`MARGIN`] less. So as long as the monotonic
//! clocks run equally fast within the margin, two are never valid at once; and what outlives a stopped clock is stopped by
//! the epoch.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Timing;

/// The part of the duration by which a holder stops earlier than others may begin: one twentieth, which is a hundred
/// times what clocks of two machines differ by.
const MARGIN: u32 = 20;

/// Who campaigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Of this campaign alone; never used again.
    pub owner: String,
    /// Of this process and of its successor in the same data directory.
    pub node: String,
}

/// The value of a lease's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Empty once released.
    pub owner: String,
    pub node: String,
    pub epoch: u64,
    /// Tells one attempt of an owner from another. A write that was given up may still arrive; it must not be taken for
    /// the later one, or its holder would count from too late a moment.
    pub attempt: u64,
    pub duration_ms: u64,
}

/// What a key held at a revision; the record is absent when it was never written or was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    pub revision: u64,
    pub record: Option<Record>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Compare-and-set, then [`Campaign::written`].
    Write {
        record: Record,
        expected_revision: u64,
    },
    /// Read the key, then [`Campaign::observe`] or [`Campaign::read_failed`].
    Read,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    At(u64),
    /// It was refused, or nobody knows: only a read tells.
    ReadToKnow,
}

/// Whether the lease is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    NotHeld,
    Held { epoch: u64, valid_until: Instant },
}

/// One candidate's campaign for one lease.
#[derive(Debug)]
pub(super) struct Campaign {
    me: Candidate,
    timing: Timing,
    seen: Option<Seen>,
    attempts: u64,
    /// The epoch that was written or is being written by this campaign.
    claim: Option<Claim>,
    /// When the write that is under way was sent.
    writing_since: Option<Instant>,
    reading: bool,
    must_read: bool,
}

#[derive(Debug)]
struct Seen {
    revision: u64,
    record: Option<Record>,
    since: Instant,
}

#[derive(Debug)]
struct Claim {
    epoch: u64,
    attempt: u64,
    /// None until the first write of this epoch is known to stand.
    valid_until: Option<Instant>,
    /// When the oldest write was sent of which it is not known whether it stands.
    oldest_unknown: Option<Instant>,
    write_at: Instant,
}

impl Campaign {
    pub fn new(me: Candidate, timing: Timing) -> Self {
        Self {
            me,
            timing,
            seen: None,
            attempts: 0,
            claim: None,
            writing_since: None,
            reading: false,
            must_read: false,
        }
    }

    /// Whether the lease is held; being held and being valid now are two things.
    pub fn standing(&self) -> Standing {
        match &self.claim {
            Some(Claim { epoch, valid_until: Some(valid_until), .. }) => {
                Standing::Held { epoch: *epoch, valid_until: *valid_until }
            }
            _ => Standing::NotHeld,
        }
    }

    /// Whether it is held or a write is under way that may make it so.
    pub fn is_claimed(&self) -> bool {
        self.claim.is_some()
    }

    /// Whether a write is under way, so that the revision is about to change.
    pub fn is_writing(&self) -> bool {
        self.writing_since.is_some()
    }

    /// The owner of a lease that has run out, by this observer's clock.
    pub fn expired_owner(&self, now: Instant) -> Option<&str> {
        let seen = self.seen.as_ref()?;
        let record = seen.record.as_ref().filter(|record| !record.owner.is_empty())?;
        self.has_run_out(seen, record, now).then_some(record.owner.as_str())
    }

    /// Whether a candidate may try to take the lease.
    pub fn is_free(&self, now: Instant) -> bool {
        self.claim.is_none() && self.seen.as_ref().is_none_or(|seen| self.is_takeable(seen, now))
    }

    /// What the key holds, from a watch or a read, in any order.
    pub fn observe(&mut self, observation: Observation, now: Instant) {
        let known = self.seen.as_ref().map(|seen| seen.revision);
        if known.is_some_and(|known| observation.revision <= known) {
            return;
        }
        match self.is_own(&observation) {
            true => self.own_write_stands(),
            false => self.claim = None,
        }
        self.seen = Some(Seen { revision: observation.revision, record: observation.record, since: now });
    }

    /// What a read that was asked for by [`Action::Read`] found.
    pub fn read(&mut self, observation: Observation, now: Instant) {
        self.observe(observation, now);
        self.reading = false;
        self.must_read = false;
        // Nothing of this epoch stands, and it was not held before: the attempt is over.
        if self.claim.as_ref().is_some_and(|claim| claim.valid_until.is_none()) {
            self.claim = None;
        }
    }

    /// A read that was asked for gave no answer.
    pub fn read_failed(&mut self) {
        self.reading = false;
    }

    /// What became of the write that was asked for by [`Action::Write`].
    pub fn written(&mut self, outcome: Written, now: Instant) {
        let Some(sent) = self.writing_since.take() else { return };
        let known = self.seen.as_ref().map_or(0, |seen| seen.revision);
        match (outcome, &mut self.claim) {
            (Written::At(revision), Some(claim)) if revision >= known => {
                let valid_until = sent + self.timing.valid_for();
                claim.valid_until = claim.valid_until.max(Some(valid_until));
                claim.oldest_unknown = None;
                let record = self.claim.as_ref().map(|claim| self.record(claim));
                self.seen = Some(Seen { revision, record, since: now });
            }
            (Written::At(_), _) => {}
            (Written::ReadToKnow, claim) => {
                self.must_read = true;
                if let Some(claim) = claim {
                    claim.oldest_unknown.get_or_insert(sent);
                }
            }
        }
    }

    /// What to do now. `may_take` is whether one more lease would be this candidate's fair share.
    pub fn next(&mut self, now: Instant, may_take: bool) -> Action {
        if self.writing_since.is_some() || self.reading {
            return Action::Nothing;
        }
        let unseen = self.seen.is_none() && may_take;
        if self.must_read || unseen {
            self.reading = true;
            return Action::Read;
        }
        let free = may_take && self.is_free(now);
        match &mut self.claim {
            Some(claim) if now >= claim.write_at => claim.write_at = now + self.timing.renew_every,
            None if free => self.claim = Some(self.attempt(now)),
            _ => return Action::Nothing,
        }
        self.writing_since = Some(now);
        self.write(self.claim.as_ref().map(|claim| self.record(claim)))
    }

    /// Gives the lease up; the write that says so, when there is something to give up. What becomes of it is not told to
    /// this campaign.
    pub fn release(&mut self) -> Action {
        let claim = self.claim.take();
        self.write(claim.map(|claim| Record { owner: String::new(), ..self.record(&claim) }))
    }

    fn write(&self, record: Option<Record>) -> Action {
        let expected_revision = self.seen.as_ref().map_or(0, |seen| seen.revision);
        record.map_or(Action::Nothing, |record| Action::Write { record, expected_revision })
    }

    fn attempt(&mut self, now: Instant) -> Claim {
        self.attempts += 1;
        Claim {
            epoch: self.next_epoch(),
            attempt: self.attempts,
            valid_until: None,
            oldest_unknown: None,
            write_at: now + self.timing.renew_every,
        }
    }

    fn record(&self, claim: &Claim) -> Record {
        Record {
            owner: self.me.owner.clone(),
            node: self.me.node.clone(),
            epoch: claim.epoch,
            attempt: claim.attempt,
            duration_ms: u64::try_from(self.timing.duration.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn is_own(&self, observation: &Observation) -> bool {
        let claim = self.claim.as_ref().map(|claim| (self.me.owner.as_str(), claim.epoch, claim.attempt));
        let found =
            observation.record.as_ref().map(|record| (record.owner.as_str(), record.epoch, record.attempt));
        claim.is_some() && claim == found
    }

    /// A write of this epoch was seen. Which one is not known, so it counts from the oldest that it may be.
    fn own_write_stands(&mut self) {
        let writing_since = self.writing_since;
        if let Some(claim) = &mut self.claim {
            let sent = claim.oldest_unknown.take().or(writing_since);
            let valid_until = sent.map(|sent| sent + self.timing.valid_for());
            claim.valid_until = claim.valid_until.max(valid_until);
        }
    }

    fn is_takeable(&self, seen: &Seen, now: Instant) -> bool {
        match &seen.record {
            None if seen.revision == 0 => true,
            // Deleted under a holder who does not know it yet.
            None => now.saturating_duration_since(seen.since) >= self.timing.duration,
            Some(record) if record.owner.is_empty() => true,
            // A predecessor, surely gone since the node's name is held under a file lock; or a write of this campaign
            // that had been given up, and whose only possible holder knows that it does not hold.
            Some(record) if record.node == self.me.node => true,
            Some(record) => self.has_run_out(seen, record, now),
        }
    }

    fn has_run_out(&self, seen: &Seen, record: &Record, now: Instant) -> bool {
        let duration = Duration::from_millis(record.duration_ms).max(self.timing.duration);
        now.saturating_duration_since(seen.since) >= duration
    }

    /// Above every epoch there was. An epoch takes at least one write, so none is above the revision; that keeps it
    /// rising when the key was deleted and its record is gone.
    fn next_epoch(&self) -> u64 {
        match &self.seen {
            Some(Seen { record: Some(record), .. }) => record.epoch + 1,
            Some(Seen { revision, record: None, .. }) => revision + 1,
            None => 1,
        }
    }
}

impl Timing {
    /// How long a holder counts on a write, from the moment it sent it.
    fn valid_for(&self) -> Duration {
        self.duration - self.duration / MARGIN
    }
}
