//! The supervisor. Everything that runs in the background is spawned through [`Tasks`] under a name; what crashes is
//! started again, and on shutdown everything is told, awaited and, past the grace period, cut off.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::retry::{Backoff, Schedule};

/// The waits before a crashed task is started again; the longest is, jitter and all, under the five seconds within which work has to resume.
const RESTARTS: Schedule = Schedule { first: Duration::from_millis(100), longest: Duration::from_secs(3) };
/// A task that ran this long before it crashed starts again after the first wait.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// A handle to the supervisor; clones spawn into the same group.
#[derive(Clone, Debug)]
pub struct Tasks {
    group: CancellationToken,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    tracker: TaskTracker,
    /// Cancelled when the grace period is over: what still runs is dropped where it stands.
    abort: CancellationToken,
    running: Mutex<BTreeMap<u64, TaskHealth>>,
    next_id: std::sync::atomic::AtomicU64,
}

/// How one running task fares, for health pages and for `keelson doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskHealth {
    /// The name it was spawned under.
    pub name: String,
    /// How often it crashed and was started again.
    pub restarts: u64,
    /// The last crash in one sentence.
    pub last_error: Option<String>,
}

/// How a shutdown ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every task ended by itself within the grace period.
    Completely,
    /// These tasks had not ended by then and were cut off.
    CutOff(Vec<String>),
}

impl Tasks {
    /// A supervisor with nothing to supervise yet.
    pub fn new(clock: Clock) -> Self {
        let shared = Shared {
            clock,
            tracker: TaskTracker::new(),
            abort: CancellationToken::new(),
            running: Mutex::default(),
            next_id: 0.into(),
        };
        Self { group: CancellationToken::new(), shared: Arc::new(shared) }
    }

    /// Runs `make()` until it returns `Ok` or the group is cancelled; a crash (`Err` or panic) is logged once and the
    /// task is made anew after a growing wait. The future is not dropped on cancel: it watches
    /// [`Tasks::cancelled`] itself, so that it can finish what it holds.
    pub fn spawn<F, Fut>(&self, name: impl Into<String>, mut make: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (tasks, name) = (self.clone(), name.into());
        self.track(name.clone(), move |id| async move {
            let mut waits = Backoff::new(RESTARTS);
            loop {
                let started = tasks.shared.clock.now();
                let Err(crash) = outcome(make()).await else { return };
                if tasks.shared.clock.now() - started >= STABLE_AFTER {
                    waits.reset();
                }
                let wait = waits.next_wait();
                tasks.shared.crashed(id, &crash);
                if tasks.is_cancelled() {
                    warn!(task.name = %name, error = %crash, "a task failed while it was shutting down");
                    return;
                }
                error!(task.name = %name, error = %crash, restart.after_ms = %wait.as_millis(), "a task crashed and is started again");
                tokio::select! {
                    () = tasks.cancelled() => return,
                    () = tasks.shared.clock.sleep(wait) => {}
                }
            }
        });
    }

    /// Runs one future to its end. A crash is logged and not repeated. Dropped only past the grace period.
    pub fn spawn_once<Fut>(&self, name: impl Into<String>, task: Fut)
    where
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (name, shared) = (name.into(), self.shared.clone());
        self.track(name.clone(), move |id| async move {
            if let Err(crash) = outcome(task).await {
                shared.crashed(id, &crash);
                error!(task.name = %name, error = %crash, "a task failed");
            }
        });
    }

    /// A group within this one: cancelling it leaves the others alone, and it is cancelled with this one.
    #[must_use]
    pub fn group(&self) -> Self {
        Self { group: self.group.child_token(), shared: self.shared.clone() }
    }

    /// Tells every task of this group to end.
    pub fn cancel(&self) {
        self.group.cancel();
    }

    /// Waits until this group has been told to end.
    pub async fn cancelled(&self) {
        self.group.cancelled().await;
    }

    /// Whether this group has been told to end.
    pub fn is_cancelled(&self) -> bool {
        self.group.is_cancelled()
    }

    /// The token behind this group, for libraries that take one.
    pub fn token(&self) -> CancellationToken {
        self.group.clone()
    }

    /// How every running task of this supervisor fares.
    pub fn health(&self) -> Vec<TaskHealth> {
        self.shared.running().values().cloned().collect()
    }

    /// Tells every task of this group to end, waits for all tasks up to `grace`, and cuts off the rest. Call it on the
    /// outermost group.
    pub async fn shutdown(&self, grace: Duration) -> Drained {
        self.cancel();
        self.shared.tracker.close();
        if tokio::time::timeout(grace, self.shared.tracker.wait()).await.is_ok() {
            return Drained::Completely;
        }
        let names: Vec<String> = self.health().into_iter().map(|task| task.name).collect();
        warn!(tasks = ?names, grace_ms = %grace.as_millis(), "the grace period is over, what still runs is cut off");
        self.shared.abort.cancel();
        self.shared.tracker.wait().await;
        Drained::CutOff(names)
    }

    /// Runs until SIGTERM or SIGINT (or until the group is cancelled), then shuts down within `grace`, and does what comes `last` when
    /// every task has ended. A second signal cuts all of it off at once.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub async fn run_until_signal(
        &self,
        grace: Duration,
        last: impl Future<Output = ()>,
    ) -> std::io::Result<Drained> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: draining; a second signal ends at once"),
            _ = interrupt.recv() => info!("interrupt: draining; a second signal ends at once"),
            () = self.cancelled() => {}
        }
        let second = async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        Ok(self.shutdown_or(grace, last, second).await)
    }

    async fn shutdown_or(
        &self,
        grace: Duration,
        last: impl Future<Output = ()>,
        second_signal: impl Future<Output = ()>,
    ) -> Drained {
        let drain = async {
            let drained = self.shutdown(grace).await;
            if drained == Drained::Completely {
                last.await;
            }
            drained
        };
        tokio::select! {
            drained = drain => drained,
            () = second_signal => {
                let names = self.health().into_iter().map(|task| task.name).collect();
                self.shared.abort.cancel();
                Drained::CutOff(names)
            }
        }
    }

    fn track<F, Fut>(&self, name: String, body: F)
    where
        F: FnOnce(u64) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let shared = self.shared.clone();
        let id = shared.begin(name);
        let body = body(id);
        let tracked = async move {
            let _ended = Ended { shared: &shared, id };
            tokio::select! {
                () = body => {}
                () = shared.abort.cancelled() => {}
            }
        };
        self.shared.tracker.spawn(tracked);
    }
}

impl Shared {
    fn begin(&self, name: String) -> u64 {
        let id = self.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.running().insert(id, TaskHealth { name, restarts: 0, last_error: None });
        id
    }

    fn crashed(&self, id: u64, crash: &str) {
        if let Some(task) = self.running().get_mut(&id) {
            task.restarts += 1;
            task.last_error = Some(crash.to_owned());
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, TaskHealth>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the task off the list however it ended.
struct Ended<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.shared.running().remove(&self.id);
    }
}

/// What became of a task, a panic being an error like any other.
async fn outcome(task: impl Future<Output = anyhow::Result<()>>) -> Result<(), String> {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => Err(format!("panicked: {}", panic_message(&*panic))),
    }
}

/// The text of a caught panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with a value that is no text")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_and_one_that_panics_are_started_again() {
        let tasks = Tasks::new(Clock::system());
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        tasks.spawn("flaky", move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match run {
                    0 => anyhow::bail!("no luck"),
                    1 => panic!("at the disco"),
                    _ => Ok(()),
                }
            }
        });
        while !tasks.health().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn health_names_the_last_crash() {
        let tasks = Tasks::new(Clock::system());
        tasks.spawn("doomed", || async { anyhow::bail!("no luck") });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let expected = TaskHealth { name: "doomed".into(), restarts: 1, last_error: Some("no luck".into()) };
        assert_eq!(tasks.health(), [expected]);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_lets_a_task_finish_what_it_holds() {
        let tasks = Tasks::new(Clock::system());
        let finished = Arc::new(AtomicU32::new(0));
        let (inner, done) = (tasks.clone(), finished.clone());
        tasks.spawn_once("careful", async move {
            inner.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            done.store(1, Ordering::SeqCst);
            Ok(())
        });
        assert_eq!(tasks.shutdown(GRACE).await, Drained::Completely);
        assert_eq!(finished.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_ignores_the_shutdown_is_cut_off_after_the_grace_period() {
        let tasks = Tasks::new(Clock::system());
        tasks.spawn("stubborn", std::future::pending);
        assert_eq!(tasks.shutdown(GRACE).await, Drained::CutOff(vec!["stubborn".into()]));
        assert!(tasks.health().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_does_not_wait_for_the_grace_period() {
        let tasks = Tasks::new(Clock::system());
        tasks.spawn("stubborn", std::future::pending);
        let started = tokio::time::Instant::now();
        let second_signal = tokio::time::sleep(Duration::from_millis(200));
        let drained = tasks.shutdown_or(GRACE, async {}, second_signal).await;
        assert_eq!(drained, Drained::CutOff(vec!["stubborn".into()]));
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_cuts_off_what_comes_last_too() {
        let tasks = Tasks::new(Clock::system());
        let second_signal = tokio::time::sleep(Duration::from_millis(50));
        let drained = tasks.shutdown_or(GRACE, std::future::pending(), second_signal).await;
        assert_eq!(drained, Drained::CutOff(vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_ends_alone_and_with_its_parent() {
        let tasks = Tasks::new(Clock::system());
        let (one, other) = (tasks.group(), tasks.group());
        one.cancel();
        assert!(one.is_cancelled() && !other.is_cancelled() && !tasks.is_cancelled());
        tasks.cancel();
        assert!(other.is_cancelled());
    }

    #[tokio::test]
    async fn waits_grow_with_crashes_in_a_row_and_start_over_after_a_stable_run() {
        let clock = Clock::manual(0);
        let tasks = Tasks::new(clock.clone());
        let (runs, ticking) = (Arc::new(AtomicU32::new(0)), clock.clone());
        let counted = runs.clone();
        tasks.spawn("doomed", move || {
            let clock = ticking.clone();
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                // The seventh run lasts, on its own clock.
                clock.advance(if run == 6 { STABLE_AFTER } else { Duration::ZERO });
                anyhow::bail!("no luck")
            }
        });
        let mut waits = Vec::new();
        for run in 1..8 {
            waits.push(waited(&clock, &runs, run).await.as_millis());
        }
        assert!(waits[5] >= 2_100 && waits[5] <= 3_910, "{waits:?}");
        assert!(waits[6] <= 140, "{waits:?}");
        assert!(waits.iter().sum::<u128>() >= 4_000, "{waits:?}");
    }

    /// How long, on `clock`, until run number `run` (from zero) begins.
    async fn waited(clock: &Clock, runs: &AtomicU32, run: u32) -> Duration {
        const STEP: Duration = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        loop {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if runs.load(Ordering::SeqCst) > run {
                return waited;
            }
            clock.advance(STEP);
            waited += STEP;
        }
    }
}
