//! A lean load generator: one thread a connection, requests made beforehand, of which only the Idempotency-Key is written anew.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keelson_tests::place::TOKEN;

/// Digits of a key.
const KEY_DIGITS: usize = 16;

/// Sends bodies over keep-alive connections for a while; how many requests were accepted.
pub fn run(address: &str, bodies: &[String], connections: usize, duration: Duration) -> u64 {
    let keys = AtomicU64::new(rand::random::<u64>() >> 1);
    let deadline = Instant::now() + duration;
    thread::scope(|scope| {
        let connect = |first: usize| {
            let keys = &keys;
            scope.spawn(move || Connection::open(address, bodies, first).work(keys, deadline))
        };
        let threads: Vec<_> = (0..connections).map(connect).collect();
        threads.into_iter().map(|thread| thread.join().expect("a connection failed")).sum()
    })
}

struct Connection {
    stream: TcpStream,
    requests: Vec<Prepared>,
    next: usize,
    buffer: Vec<u8>,
}

/// A request with the place of its key.
struct Prepared {
    bytes: Vec<u8>,
    key_at: usize,
}

impl Connection {
    fn open(address: &str, bodies: &[String], first: usize) -> Self {
        let stream = TcpStream::connect(address).expect("the ingress listens");
        stream.set_nodelay(true).expect("a socket");
        let requests: Vec<Prepared> = bodies.iter().map(|body| Prepared::of(address, body)).collect();
        let next = first * 7 % requests.len();
        Self { stream, requests, next, buffer: vec![0; 4096] }
    }

    fn work(mut self, keys: &AtomicU64, deadline: Instant) -> u64 {
        let mut accepted = 0;
        while Instant::now() < deadline {
            let key = keys.fetch_add(1, Ordering::Relaxed);
            self.next = (self.next + 1) % self.requests.len();
            let request = &mut self.requests[self.next];
            write!(&mut request.bytes[request.key_at..][..KEY_DIGITS], "{key:016x}").expect("fits");
            self.stream.write_all(&request.bytes).expect("sent");
            match self.status() {
                202 => accepted += 1,
                429 | 503 => thread::sleep(Duration::from_millis(10)),
                status => panic!("{status}: {}", String::from_utf8_lossy(&self.buffer)),
            }
        }
        accepted
    }

    /// Reads one response whole.
    fn status(&mut self) -> u16 {
        let mut have = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[have..]).expect("an answer");
            assert!(read > 0, "the ingress closed the connection");
            have += read;
            if let Some(status) = complete(&self.buffer[..have]) {
                return status;
            }
        }
    }
}

impl Prepared {
    fn of(address: &str, body: &str) -> Self {
        let head = format!(
            "POST /api/telemetry HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nidempotency-key: ",
            body.len()
        );
        let key_at = head.len();
        let bytes = [head.as_bytes(), &[b'0'; KEY_DIGITS], b"\r\n\r\n", body.as_bytes()].concat();
        Self { bytes, key_at }
    }
}

/// The status of a response, once all of it is there.
fn complete(response: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(response).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    let length: usize = length?.trim().parse().ok()?;
    (body.len() >= length).then(|| head[9..12].parse().expect("a status"))
}
