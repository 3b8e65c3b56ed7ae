//! A connection to the server that can lose what the server says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Forwards connections to a server until it is dropped.
pub struct Proxy {
    pub url: String,
    muted: Arc<AtomicBool>,
    cut: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn to(server_url: &str) -> Self {
        let server: SocketAddr = server_url.trim_start_matches("nats://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (muted, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let accepting = tokio::spawn(accept(listener, server, muted.clone(), cut.clone()));
        Self { url, muted, cut, accepting }
    }

    /// From now on the server hears everything and nobody hears the server.
    pub fn mute(&self) {
        self.muted.store(true, Ordering::SeqCst);
    }

    /// Cuts all connections; new ones work again in both directions.
    pub fn cut(&self) {
        self.cut.notify_waiters();
        self.muted.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, muted: Arc<AtomicBool>, cut: Arc<Notify>) {
    while let Ok((client, _)) = listener.accept().await {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = TcpStream::connect(server).await.unwrap().into_split();
        let never = Arc::new(AtomicBool::new(false));
        tokio::spawn(forward(from_client, to_server, never, cut.clone()));
        tokio::spawn(forward(from_server, to_client, muted.clone(), cut.clone()));
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, muted: Arc<AtomicBool>, cut: Arc<Notify>) {
    let mut buffer = vec![0; 64 * 1024];
    let cut = cut.notified();
    tokio::pin!(cut);
    loop {
        let read = tokio::select! {
            () = &mut cut => return,
            read = from.read(&mut buffer) => read.unwrap_or(0),
        };
        if read == 0 {
            return;
        }
        if !muted.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
