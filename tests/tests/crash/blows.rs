//! What is done to a deployment in one round.

use rand::RngExt;
use rand::rngs::StdRng;

/// What one replica of the alerting worker does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// It evaluates the rules.
    Evaluator,
    /// It notifies.
    Notifier,
}

/// One kind of blow. Replicas are numbered from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// kill -9 of a metrics worker.
    KillMetrics(usize),
    /// SIGSTOP of a metrics worker until its leases have passed to the other, then SIGCONT.
    StopMetrics(usize),
    /// kill -9 of the ingress.
    KillIngress,
    /// kill -9 of the ingress with telemetry stored and not yet answered.
    CrashIngress,
    /// kill -9 of the steward.
    KillSteward,
    /// kill -9 of nats-server.
    KillNats,
    /// kill -9 of the alerting worker that has a job.
    KillActive(Job),
    /// SIGSTOP of the alerting worker that has a job until the other has it, then SIGCONT.
    StopActive(Job),
    /// kill -9 of both alerting workers.
    KillAlerting,
    /// kill -9 of a CDN worker.
    KillCdn(usize),
    /// SIGSTOP of a CDN worker until its leases have passed to the other, then SIGCONT.
    StopCdn(usize),
    /// kill -9 of both CDN workers.
    KillBothCdn,
    /// kill -9 of an audit worker.
    KillAudit(usize),
    /// SIGSTOP of an audit worker until its lease has passed to the other, then SIGCONT.
    StopAudit(usize),
    /// kill -9 of a services worker.
    KillServices(usize),
    /// SIGSTOP of a services worker until its leases have passed to the other, then SIGCONT.
    StopServices(usize),
    /// kill -9 of both services workers.
    KillBothServices,
    /// kill -9 of everything at once.
    KillAll,
}

impl Job {
    /// The last part of the key of its lease.
    pub fn key(self) -> &'static str {
        match self {
            Self::Evaluator => "evaluator",
            Self::Notifier => "notifier",
        }
    }
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

    /// A random one against alerting; whoever is active is struck the most.
    pub fn random_at_alerting(rng: &mut StdRng) -> Self {
        let job = if rng.random_bool(0.5) { Job::Evaluator } else { Job::Notifier };
        match rng.random_range(0..100) {
            0..45 => Self::KillActive(job),
            45..60 => Self::StopActive(job),
            60..72 => Self::KillAlerting,
            72..79 => Self::KillMetrics(0),
            79..91 => Self::KillNats,
            _ => Self::KillAll,
        }
    }

    /// A random one against the CDN worker.
    pub fn random_at_cdn(rng: &mut StdRng) -> Self {
        let replica = rng.random_range(0..2);
        match rng.random_range(0..100) {
            0..50 => Self::KillCdn(replica),
            50..60 => Self::StopCdn(replica),
            60..85 => Self::KillBothCdn,
            _ => Self::KillNats,
        }
    }

    /// A random one against the audit worker.
    pub fn random_at_audit(rng: &mut StdRng) -> Self {
        let replica = rng.random_range(0..2);
        match rng.random_range(0..100) {
            0..50 => Self::KillAudit(replica),
            50..75 => Self::StopAudit(replica),
            _ => Self::KillNats,
        }
    }

    /// A random one against the services worker.
    pub fn random_at_services(rng: &mut StdRng) -> Self {
        let replica = rng.random_range(0..2);
        match rng.random_range(0..100) {
            0..40 => Self::KillServices(replica),
            40..50 => Self::StopServices(replica),
            50..75 => Self::KillBothServices,
            _ => Self::KillNats,
        }
    }

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillMetrics(_) => "kill -9 metrics worker",
            Self::StopMetrics(_) => "SIGSTOP metrics worker past its lease",
            Self::KillIngress => "kill -9 ingress",
            Self::CrashIngress => "kill -9 ingress before it answers",
            Self::KillSteward => "kill -9 steward",
            Self::KillNats => "kill -9 nats-server",
            Self::KillActive(Job::Evaluator) => "kill -9 active evaluator",
            Self::KillActive(Job::Notifier) => "kill -9 active notifier",
            Self::StopActive(Job::Evaluator) => "SIGSTOP active evaluator past its lease",
            Self::StopActive(Job::Notifier) => "SIGSTOP active notifier past its lease",
            Self::KillAlerting => "kill -9 both alerting workers",
            Self::KillCdn(_) => "kill -9 CDN worker",
            Self::StopCdn(_) => "SIGSTOP CDN worker past its lease",
            Self::KillBothCdn => "kill -9 both CDN workers",
            Self::KillAudit(_) => "kill -9 audit worker",
            Self::StopAudit(_) => "SIGSTOP audit worker past its lease",
            Self::KillServices(_) => "kill -9 services worker",
            Self::StopServices(_) => "SIGSTOP services worker past its lease",
            Self::KillBothServices => "kill -9 both services workers",
            Self::KillAll => "kill -9 everything",
        }
    }
}
