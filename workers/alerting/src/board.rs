//! What the evaluator has to do with others in its process: it tells how the rules stand, and is asked to end alerts.

use std::sync::{Arc, Mutex, PoisonError};

use keelson_schemas::alerting::Rule;
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for the evaluator.
const MOST_REQUESTS: usize = 16;

/// How the rules stood at the last look, and what is asked of the evaluator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board {
    standing: Arc<Mutex<Option<Standing>>>,
    requests: mpsc::Sender<EndRequest>,
    inbox: Arc<tokio::sync::Mutex<mpsc::Receiver<EndRequest>>>,
}

/// How the rules stand.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Every rule.
    pub rules: Vec<Rule>,
    /// Unix milliseconds as of which they were evaluated.
    pub evaluated_at_ms: u64,
}

/// Somebody wants an alert to be over.
#[derive(Debug)]
pub struct EndRequest {
    /// Which.
    pub fingerprint: String,
    /// Takes whether there was one.
    pub answer: oneshot::Sender<bool>,
}

impl Default for Board {
    fn default() -> Self {
        let (requests, inbox) = mpsc::channel(MOST_REQUESTS);
        Self { standing: Arc::default(), requests, inbox: Arc::new(tokio::sync::Mutex::new(inbox)) }
    }
}

impl Board {
    /// Notes how the rules stand.
    pub fn tell(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }

    /// How the rules stand; none before the evaluator has caught up.
    #[must_use]
    pub fn told(&self) -> Option<Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the evaluator to end an alert, and says whether there was one; none when it is the evaluator no more, or has too much to do.
    pub async fn end(&self, fingerprint: String) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(EndRequest { fingerprint, answer }).ok()?;
        answered.await.ok()
    }

    /// The next request to end an alert.
    pub async fn end_request(&self) -> EndRequest {
        match self.inbox.lock().await.recv().await {
            Some(request) => request,
            // The board holds a sender itself.
            None => std::future::pending().await,
        }
    }
}
