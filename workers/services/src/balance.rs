//! Which instance a call goes to.

use keelson_schemas::services::Health;

/// An instance, as a call sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Whether it is well.
    pub health: Health,
    /// Whether its breaker lets a call through.
    pub admits: bool,
    /// Whether somebody has forced its breaker open.
    pub barred: bool,
    /// Whether this call has tried it.
    pub tried: bool,
    /// Calls under way there.
    pub outstanding: u64,
}

/// The one to call: of the best that there are the one with the least under way, counted from `turn` on where several have. Rather one that seems
/// ill than none: the last instance is never taken out, since what is known of it may be wrong. None when all were tried, or are barred by hand.
#[must_use]
pub fn choose(candidates: &[Candidate], turn: usize) -> Option<usize> {
    let count = candidates.len();
    let places = (0..count).map(|step| (turn % count + step) % count);
    places.filter(|place| !candidates[*place].tried && !candidates[*place].barred).min_by_key(|place| {
        let candidate = &candidates[*place];
        (rank(candidate), candidate.outstanding)
    })
}

const fn rank(candidate: &Candidate) -> u8 {
    match (candidate.admits, candidate.health) {
        (true, Health::Up) => 0,
        (true, Health::Unknown | Health::Degraded) => 1,
        (true, Health::Down) => 2,
        (false, _) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Candidate =
        Candidate { health: Health::Up, admits: true, barred: false, tried: false, outstanding: 0 };

    fn busy(outstanding: u64) -> Candidate {
        Candidate { outstanding, ..WELL }
    }

    #[test]
    fn the_least_busy_of_the_best_is_called() {
        let down = Candidate { health: Health::Down, ..WELL };
        let unknown = Candidate { health: Health::Unknown, ..WELL };
        let ejected = Candidate { admits: false, ..WELL };
        let cases: [(&[Candidate], usize, Option<usize>); 9] = [
            (&[], 0, None),
            (&[busy(3), busy(1), busy(2)], 0, Some(1)),
            (&[busy(1), busy(1)], 0, Some(0)),
            (&[busy(1), busy(1)], 1, Some(1)),
            (&[busy(1), busy(1)], usize::MAX, Some(1)),
            (&[down, busy(100)], 0, Some(1)),
            (&[down, unknown], 0, Some(1)),
            (&[ejected, down], 0, Some(1)),
            (&[Candidate { tried: true, ..WELL }, busy(9)], 0, Some(1)),
        ];
        for (candidates, turn, chosen) in cases {
            assert_eq!(choose(candidates, turn), chosen, "{candidates:?}");
        }
    }

    #[test]
    fn the_last_instance_is_never_taken_out_but_by_hand() {
        let worst = Candidate { health: Health::Down, admits: false, ..WELL };
        assert_eq!(choose(&[worst], 0), Some(0));
        assert_eq!(choose(&[worst, Candidate { outstanding: 7, ..worst }], 1), Some(0));
        assert_eq!(choose(&[Candidate { barred: true, ..worst }], 0), None);
    }
}
