//! An HTTP client of Keelson that behaves as a good client does: it retries what it is told to retry, under one Idempotency-Key.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::ledger::{Ledger, Sample};
use crate::place::TOKEN;
use crate::scrape::Scrape;

/// After this long without an answer the client asks again: a process may be stopped and never answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Prometheus' default for a scrape.
const SCRAPED_WITHIN: Duration = Duration::from_secs(10);
/// The wait between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// A batch that is not accepted by then fails the test.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Speaks to one ingress.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    /// A client of the ingress at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        let http = reqwest::Client::builder().timeout(ANSWER_WITHIN).build().expect("a client");
        Self { http, url: url.into() }
    }

    /// A request with the token of the tests.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(TOKEN)
    }

    /// GET, answered with JSON.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path).send().await.unwrap_or_else(|error| panic!("{path}: {error}")))
            .await
    }

    /// POST of JSON, answered with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let sent = self.request(Method::POST, path).json(body).send().await;
        answer(sent.unwrap_or_else(|error| panic!("{path}: {error}"))).await
    }

    /// Sends one batch until it is accepted; gives the number of tries.
    pub async fn send(&self, key: &str, service: &str, samples: &[Sample]) -> u32 {
        let body = body_of(service, samples).to_string();
        let deadline = Instant::now() + GIVE_UP_AFTER;
        for tries in 1.. {
            if self.try_send(key, &body, samples.len()).await {
                return tries;
            }
            assert!(Instant::now() < deadline, "batch {key} was not accepted in {tries} tries");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        unreachable!("the loop does not end")
    }

    /// One try; false when it has to be repeated.
    async fn try_send(&self, key: &str, body: &str, samples: usize) -> bool {
        let request = self.request(Method::POST, "/api/telemetry").header("idempotency-key", key);
        let sent = request.header("content-type", "application/json").body(body.to_owned()).send().await;
        let Ok(response) = sent else { return false };
        match response.status() {
            StatusCode::ACCEPTED => {
                // The answer may break off; then nobody knows, and the batch goes again.
                let Ok(answer) = response.json::<Value>().await else { return false };
                assert_eq!(answer["accepted"], samples, "{answer}");
                true
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => false,
            status => panic!("{status}: {}", response.text().await.unwrap_or_default()),
        }
    }

    /// One scrape.
    ///
    /// # Errors
    /// Why there is none, while Keelson says 503 or nobody listens.
    pub async fn try_scrape(&self) -> Result<Scrape, String> {
        let request = self.request(Method::GET, "/api/monitoring/prometheus").timeout(SCRAPED_WITHIN);
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| format!("{error:?}"))?;
        match status {
            StatusCode::OK => Ok(Scrape::parse(&text)),
            StatusCode::SERVICE_UNAVAILABLE => Err(text),
            status => panic!("scrape: {status}: {text}"),
        }
    }

    /// One scrape, as soon as there is an answer.
    pub async fn scrape(&self, patience: Duration) -> Scrape {
        self.scrape_until(patience, |_| true).await
    }

    /// Scrapes until `enough`; the last page when that does not come to pass, so that the caller can say what differs.
    pub async fn scrape_until(&self, patience: Duration, enough: impl Fn(&Scrape) -> bool) -> Scrape {
        let page = self.try_scrape_until(patience, enough).await;
        page.unwrap_or_else(|why| panic!("no scrape was answered within {patience:?}: {why}"))
    }

    /// The same; why not, when no scrape was answered at all.
    async fn try_scrape_until(
        &self,
        patience: Duration,
        enough: impl Fn(&Scrape) -> bool,
    ) -> Result<Scrape, String> {
        let deadline = Instant::now() + patience;
        let mut last = Err("none was tried".to_owned());
        while Instant::now() < deadline {
            let page = self.try_scrape().await;
            last = if last.is_ok() { page.or(last) } else { page };
            if last.as_ref().is_ok_and(&enough) {
                break;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        last
    }

    /// Waits until the export has as many requests as were accepted, and compares every series; what is wrong.
    pub async fn export_findings(&self, sent: &Ledger, patience: Duration) -> Vec<String> {
        let page = self.try_scrape_until(patience, |page| page.requests() >= sent.requests()).await;
        let page = match page {
            Ok(page) => page,
            Err(why) => return vec![format!("export: no answer within {patience:?}: {why}")],
        };
        let differences = sent.differences(&page.ledger());
        let differences = differences.into_iter().map(|difference| format!("export: {difference}"));
        differences.chain(page.check_histograms().err()).collect()
    }

    /// Fails the test unless the export shows exactly what was accepted, at the latest after `patience`.
    pub async fn assert_shows(&self, sent: &Ledger, patience: Duration) {
        let findings = self.export_findings(sent, patience).await;
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    /// Waits until the ingress says that it is ready.
    pub async fn ready(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let response = self.http.get(format!("{}/readyz", self.url)).send().await;
            if response.is_ok_and(|response| response.status().is_success()) {
                return;
            }
            assert!(Instant::now() < deadline, "{} is not ready after {patience:?}", self.url);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The JSON of a batch.
pub fn body_of(service: &str, samples: &[Sample]) -> Value {
    let row = |sample: &Sample| {
        let series = &sample.series;
        let mut row =
            json!({"ts": sample.ts, "method": series.method, "route": series.route, "status": series.status});
        if let Some(us) = sample.duration_us {
            row["duration_us"] = us.into();
        }
        row
    };
    json!({"service": service, "instance": "one", "http": samples.iter().map(row).collect::<Vec<_>>()})
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("fits")
}

async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
