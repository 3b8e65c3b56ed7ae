//! Connections: accepted up to a bound, served, and drained when the process is told to end.
//!
//! `axum::serve` is not used because it bounds neither the number of connections nor the time that a peer may take to send a
//! request's head, so a few thousand silent peers could take every file descriptor.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use keelson_kit::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// How long a peer may take to send a request's head. Idle connections are closed after it as well.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// How long to wait when no connection can be accepted, as when the process has no file descriptor left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Serves until the tasks are cancelled, and then until every request under way has its answer.
pub async fn serve(listener: TcpListener, router: Router, max_connections: usize, tasks: &Tasks) {
    let server =
        Server { router, builder: builder(), drain: GracefulShutdown::new(), connections: JoinSet::new() };
    let room = Arc::new(Semaphore::new(max_connections));
    server.run(listener, room, tasks).await;
}

struct Server {
    router: Router,
    builder: Builder<TokioExecutor>,
    drain: GracefulShutdown,
    connections: JoinSet<()>,
}

impl Server {
    async fn run(mut self, listener: TcpListener, room: Arc<Semaphore>, tasks: &Tasks) {
        loop {
            tokio::select! {
                () = tasks.cancelled() => break,
                Some(_) = self.connections.join_next() => {}
                accepted = accept(&listener, &room) => match accepted {
                    Some((stream, place)) => self.take(stream, place),
                    None => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
                },
            }
        }
        drop(listener);
        self.drain.shutdown().await;
        while self.connections.join_next().await.is_some() {}
    }

    fn take(&mut self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let service = TowerToHyperService::new(self.router.clone());
        let connection = self.builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = self.drain.watch(connection);
        self.connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(error = %error, "a connection broke off");
            }
            drop(place);
        });
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_WITHIN);
    builder
}

/// The next connection and its place; `None` when the system has none to give.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Without it an answer of several writes waits for the peer's delayed ack; a failure costs time only.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            warn!(error = %error, "a connection could not be accepted");
            None
        }
    }
}
