//! The NATS protocol as it stands on the wire: what the server says to each publish and each subscription, in order, which libraries do not tell.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One connection.
pub struct Wire {
    stream: BufReader<TcpStream>,
    /// Bodies of messages that came.
    pub received: Vec<Vec<u8>>,
}

impl Wire {
    /// Connects as a user.
    ///
    /// # Errors
    /// The server's own words when it does not let him in.
    pub async fn connect(address: &str, user: Option<(&str, &str)>) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let mut wire = Self { stream: BufReader::new(stream), received: Vec::new() };
        let mut options =
            json!({"verbose": false, "pedantic": false, "headers": true, "no_responders": true});
        if let Some((user, password)) = user {
            options["user"] = user.into();
            options["pass"] = password.into();
        }
        wire.say(format!("CONNECT {options}\r\n").as_bytes()).await?;
        Ok(wire)
    }

    /// Publishes.
    ///
    /// # Errors
    /// The server's own words when it refuses.
    pub async fn publish(&mut self, subject: &str, reply: &str, body: &[u8]) -> Result<(), String> {
        let head = format!("PUB {subject} {reply} {}\r\n", body.len());
        self.say(&[head.as_bytes(), body, b"\r\n"].concat()).await
    }

    /// Subscribes.
    ///
    /// # Errors
    /// The server's own words when it refuses.
    pub async fn subscribe(&mut self, subject: &str) -> Result<(), String> {
        self.say(format!("SUB {subject} 1\r\n").as_bytes()).await
    }

    /// Waits until a message has come of which `is` holds.
    pub async fn receives(&mut self, is: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        loop {
            if let Some(found) = self.received.iter().position(|body| is(body)) {
                return self.received.remove(found);
            }
            tokio::time::timeout(ANSWER_WITHIN, self.line())
                .await
                .expect("a message comes")
                .expect("no error");
        }
    }

    /// What is said is followed by a PING, so that a PONG without an error before it says that nothing was refused.
    async fn say(&mut self, what: &[u8]) -> Result<(), String> {
        let said = [what, b"PING\r\n"].concat();
        // A server that does not let one in may have closed the connection already; then it has said why.
        let _ = self.stream.get_mut().write_all(&said).await;
        let mut refused = None;
        loop {
            match tokio::time::timeout(ANSWER_WITHIN, self.line()).await.expect("the server answers") {
                Ok(line) if line == "PONG" => return refused.map_or(Ok(()), Err),
                Ok(_) => {}
                Err(closed) if closed.is_empty() => {
                    return Err(refused.unwrap_or_else(|| "closed".to_owned()));
                }
                Err(error) => refused = Some(error),
            }
        }
    }

    /// One line; an error of the server's as such, an empty one at the end.
    async fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).await.unwrap_or(0);
        let line = line.trim_end();
        if read == 0 {
            return Err(String::new());
        }
        if let Some(error) = line.strip_prefix("-ERR ") {
            return Err(error.to_owned());
        }
        if line.starts_with("MSG ") || line.starts_with("HMSG ") {
            let length = line.rsplit(' ').next().and_then(|length| length.parse::<usize>().ok());
            let mut body = vec![0; length.expect("a length") + 2];
            self.stream.read_exact(&mut body).await.expect("a body");
            self.received.push(body);
        }
        if line == "PING" {
            let _ = self.stream.get_mut().write_all(b"PONG\r\n").await;
        }
        Ok(line.to_owned())
    }
}
