//! `keelson up --demo`: a small sample of services under real HTTP load, so that a newcomer sees numbers move.
//!
//! Four services listen on free loopback ports, visitors call them, and each reports what it measured to `POST /api/telemetry` as any
//! application would. Nothing is made up on the way: what the metrics say is what happened here.

mod reporter;
mod service;
mod visitor;

use anyhow::Context;
use keelson_kit::tasks::Tasks;
use tokio::net::TcpListener;
use url::Url;

use self::reporter::Reporter;
use self::service::{SERVICES, Service};

/// Where a sample service listens.
#[derive(Debug)]
pub struct Sample {
    /// Its name in the metrics.
    pub service: &'static str,
    /// Its address.
    pub url: String,
}

/// Starts the sample services and their visitors, reporting to the ingress.
///
/// # Errors
/// When no port is to be had.
pub async fn start(tasks: &Tasks, ingress: &Url, token: &str) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for service in SERVICES {
        samples.push(start_one(tasks, ingress, token, service).await?);
    }
    Ok(samples)
}

async fn start_one(
    tasks: &Tasks,
    ingress: &Url,
    token: &str,
    service: &'static Service,
) -> anyhow::Result<Sample> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a sample service")?;
    let url = format!("http://{}", listener.local_addr()?);
    let reporter = Reporter::start(tasks, service.name, ingress.join("/api/telemetry")?, token)?;
    let router = service.router(reporter);
    let ending = tasks.clone();
    tasks.spawn_once(format!("demo.{}", service.name), async move {
        axum::serve(listener, router).with_graceful_shutdown(async move { ending.cancelled().await }).await?;
        Ok(())
    });
    visitor::start(tasks, service, &url)?;
    Ok(Sample { service: service.name, url })
}
