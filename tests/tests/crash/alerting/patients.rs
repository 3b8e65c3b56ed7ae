//! Services that go bad and well again, each time not before somebody was told of the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keelson_tests::alerting::SHORT_RULE;
use keelson_tests::client::{Client, now_ms};
use keelson_tests::seed;
use keelson_tests::service::Service;
use keelson_tests::webhook::Webhook;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

const SERVICES: u64 = 6;
/// They go on until they are stopped.
pub struct Patients {
    stop: Arc<AtomicBool>,
    courses: JoinSet<Course>,
}

/// What one went through.
struct Course {
    service: String,
    times: usize,
    findings: Vec<String>,
}

impl Patients {
    /// Starts them. A transition that nobody was told of within `patience` is missed.
    pub fn start(client: &Client, ops: &Arc<Webhook>, seed: u64, patience: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut courses = JoinSet::new();
        for number in 0..SERVICES {
            let patient = Patient {
                service: Service::start(client, format!("patient-{number}")),
                ops: ops.clone(),
                stop: stop.clone(),
                patience,
                rng: seed::rng(seed, 4_100 + number),
            };
            courses.spawn(patient.live());
        }
        Self { stop, courses }
    }

    /// Lets each end well; how often each went bad, and of what nobody was told.
    pub async fn stop(self) -> (BTreeMap<String, usize>, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let courses = self.courses.join_all().await;
        let findings = courses.iter().flat_map(|course| course.findings.clone()).collect();
        (courses.into_iter().map(|course| (course.service, course.times)).collect(), findings)
    }
}

struct Patient {
    service: Service,
    ops: Arc<Webhook>,
    stop: Arc<AtomicBool>,
    patience: Duration,
    rng: StdRng,
}

impl Patient {
    async fn live(mut self) -> Course {
        let (mut times, mut findings) = (0, Vec::new());
        while !self.stop.load(Ordering::SeqCst) && findings.is_empty() {
            self.a_while().await;
            findings.extend(self.wrong("resolved", times).await);
            self.service.fail();
            times += 1;
            findings.extend(self.wrong("firing", times).await);
            self.a_while().await;
            findings.extend(self.wrong("firing", times).await);
            self.service.recover();
            findings.extend(self.wrong("resolved", times).await);
        }
        let service = self.service.name().to_owned();
        self.service.stop().await;
        Course { service, times, findings }
    }

    /// Waits until somebody was told for this time; what is wrong when nobody was, or not only once.
    async fn wrong(&self, status: &str, times: usize) -> Option<String> {
        let (name, deadline) = (self.service.name(), Instant::now() + self.patience);
        while self.ops.times(status, SHORT_RULE, name) < times {
            if Instant::now() >= deadline {
                return Some(format!("{name}: nobody was told that it is {status}, number {times}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told = self.ops.times(status, SHORT_RULE, name);
        (told > times).then(|| {
            format!("{name}: told {told} times that it is {status}, at {} it was so {times} times", now_ms())
        })
    }

    async fn a_while(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..1_500))).await;
    }
}
