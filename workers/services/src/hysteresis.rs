//! When what checks find makes an instance up, down or unknown.

use keelson_schemas::services::Health;
use serde::{Deserialize, Serialize};

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Seen {
    /// The instance is well.
    Well,
    /// It is not, and the checker can be sure that this is not its own fault.
    Ill,
    /// The checker cannot see: what it looks at for itself is away, too.
    Blind,
}

/// How often something has to be seen in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Until an instance is down; as often nothing is seen until it is unknown.
    pub failures: u32,
    /// Until it is up.
    pub successes: u32,
}

/// How an instance stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    health: Health,
    streak: Option<(Seen, u32)>,
}

impl Standing {
    /// As it was left.
    #[must_use]
    pub const fn of(health: Health) -> Self {
        Self { health, streak: None }
    }

    /// What the instance is.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// A check found something; what the instance was before, if it is another thing now.
    pub fn seen(&mut self, seen: Seen, thresholds: Thresholds) -> Option<Health> {
        let times = match self.streak {
            Some((last, times)) if last == seen => times.saturating_add(1),
            _ => 1,
        };
        self.streak = Some((seen, times));
        let (health, needed) = match seen {
            Seen::Well => (Health::Up, thresholds.successes),
            Seen::Ill => (Health::Down, thresholds.failures),
            Seen::Blind => (Health::Unknown, thresholds.failures),
        };
        if times < needed || health == self.health {
            return None;
        }
        Some(std::mem::replace(&mut self.health, health))
    }
}

#[cfg(test)]
mod tests {
    use super::Seen::{Blind, Ill, Well};
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { failures: 3, successes: 2 };

    fn after(all: &[Seen]) -> Health {
        let mut standing = Standing::default();
        for seen in all {
            let _ = standing.seen(*seen, THRESHOLDS);
        }
        standing.health()
    }

    #[test]
    fn three_failures_are_down_and_two_successes_up() {
        let cases: [(&[Seen], Health); 8] = [
            (&[Well], Health::Unknown),
            (&[Well, Well], Health::Up),
            (&[Ill, Ill], Health::Unknown),
            (&[Ill, Ill, Ill], Health::Down),
            (&[Well, Well, Ill, Ill], Health::Up),
            (&[Well, Well, Ill, Ill, Well, Ill, Ill], Health::Up),
            (&[Well, Well, Ill, Ill, Ill], Health::Down),
            (&[Ill, Ill, Ill, Well, Ill, Well, Well], Health::Up),
        ];
        for (seen, health) in cases {
            assert_eq!(after(seen), health, "{seen:?}");
        }
    }

    #[test]
    fn a_blind_checker_says_unknown_and_never_down() {
        let cases: [(&[Seen], Health); 5] = [
            (&[Well, Well, Blind, Blind], Health::Up),
            (&[Well, Well, Blind, Blind, Blind], Health::Unknown),
            (&[Well, Well, Ill, Ill, Blind, Ill, Ill], Health::Up),
            (&[Ill, Ill, Ill, Blind, Blind, Blind], Health::Unknown),
            (&[Blind, Blind, Blind, Blind, Ill, Ill, Ill], Health::Down),
        ];
        for (seen, health) in cases {
            assert_eq!(after(seen), health, "{seen:?}");
        }
    }

    #[test]
    fn a_change_is_told_once_with_what_was_before() {
        let mut standing = Standing::of(Health::Up);
        let told: Vec<_> = [Ill; 5].iter().map(|seen| standing.seen(*seen, THRESHOLDS)).collect();
        assert_eq!(told, [None, None, Some(Health::Up), None, None]);
    }
}
