//! The role: what the ingress is to the executable.

use anyhow::Context as _;
use keelson_kit::config::ConfigError;
use keelson_kit::role::{Context, Role};
use tokio::net::TcpListener;
use tracing::info;

use crate::api;
use crate::app::App;
use crate::config::Config;
use crate::server;

/// HTTP in; commands, telemetry and queries out.
#[derive(Debug)]
pub struct Ingress;

impl Role for Ingress {
    const NAME: &'static str = "ingress";
    const SUMMARY: &'static str = "HTTP in; commands, telemetry and queries out";
    type Config = Config;

    fn validate(config: &Config) -> Vec<ConfigError> {
        config.errors()
    }

    async fn start(config: Config, ctx: Context) -> anyhow::Result<()> {
        let addr = ctx.core.http.addr;
        let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"))?;
        info!(http.addr = %listener.local_addr()?, "listening for HTTP");
        let tasks = ctx.tasks.clone();
        let max_connections = config.max_connections;
        let router = api::router(App::new(config, ctx));
        let serving = tasks.clone();
        tasks.spawn_once("ingress.http", async move {
            server::serve(listener, router, max_connections, &serving).await;
            Ok(())
        });
        Ok(())
    }
}
