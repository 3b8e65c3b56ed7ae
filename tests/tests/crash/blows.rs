//! What is done to a deployment in one round.

use rand::RngExt;
use rand::rngs::StdRng;

/// One kind of blow. Replicas are numbered from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// kill -9 of a metrics worker.
    KillMetrics(usize),
    /// SIGSTOP of a metrics worker until its leases have passed to the other, then SIGCONT.
    StopMetrics(usize),
    /// kill -9 of the ingress.
    KillIngress,
    /// kill -9 of the steward.
    KillSteward,
    /// kill -9 of nats-server.
    KillNats,
    /// kill -9 of everything at once.
    KillAll,
}

impl Blow {
    /// A random one; the metrics worker, which has the most to lose, is struck the most.
    pub fn random(rng: &mut StdRng) -> Self {
        let replica = rng.random_range(0..2);
        match rng.random_range(0..100) {
            0..35 => Self::KillMetrics(replica),
            35..50 => Self::StopMetrics(replica),
            50..65 => Self::KillIngress,
            65..70 => Self::KillSteward,
            70..88 => Self::KillNats,
            _ => Self::KillAll,
        }
    }

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillMetrics(_) => "kill -9 metrics worker",
            Self::StopMetrics(_) => "SIGSTOP metrics worker past its lease",
            Self::KillIngress => "kill -9 ingress",
            Self::KillSteward => "kill -9 steward",
            Self::KillNats => "kill -9 nats-server",
            Self::KillAll => "kill -9 everything",
        }
    }
}
