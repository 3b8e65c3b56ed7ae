//! Acknowledgements, confirmed: sent as requests, since a consumer that is gone shows only as a missing responder (which the
//! library's `double_ack` takes for success).

use std::time::Duration;

use bytes::Bytes;

use crate::bus::Bus;

/// In the reason of a termination: the dead letter is stored already, so the server's advisory says nothing new.
pub(crate) const BURIED: &str = "buried";

/// The message is done with.
pub(super) async fn ack(bus: &Bus, reply: &str) -> Result<(), String> {
    confirmed(bus, reply, Bytes::from_static(b"+ACK")).await
}

/// The message is given up, its dead letter stored.
pub(super) async fn term(bus: &Bus, reply: &str) -> Result<(), String> {
    confirmed(bus, reply, format!("+TERM {BURIED}").into()).await
}

/// The message is wanted again after a while.
pub(super) async fn nak(bus: &Bus, reply: &str, after: Duration) -> Result<(), String> {
    confirmed(bus, reply, nak_body(after)).await
}

/// The message is still being handled. Not confirmed: the next one follows soon.
pub(super) async fn in_progress(bus: &Bus, reply: &str) {
    let _ = bus.client().publish(reply.to_owned(), Bytes::from_static(b"+WPI")).await;
}

/// The message was not begun and is free for others. Not confirmed: unheard, it is delivered again all the same, only later.
pub(super) async fn hand_back(bus: &Bus, reply: &str) {
    let _ = bus.client().publish(reply.to_owned(), nak_body(Duration::from_millis(10))).await;
}

fn nak_body(after: Duration) -> Bytes {
    format!("-NAK {{\"delay\":{}}}", after.as_nanos().max(1)).into()
}

async fn confirmed(bus: &Bus, reply: &str, body: Bytes) -> Result<(), String> {
    let request = async_nats::Request::new().payload(body).timeout(Some(bus.request_timeout()));
    match bus.on_this_link(bus.client().send_request(reply.to_owned(), request)).await {
        None => Err("disconnected".into()),
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NatsServer;

    #[tokio::test]
    async fn an_acknowledgement_that_nobody_takes_is_a_failure() {
        let server = NatsServer::start().await.unwrap();
        let bus = server.bus().await.unwrap();
        let gone = "$JS.ACK.GONE.gone.1.1.1.1790230470084404000.0";
        assert!(ack(&bus, gone).await.is_err());
        assert!(term(&bus, gone).await.is_err());
        assert!(nak(&bus, gone, Duration::from_secs(1)).await.is_err());
    }

    #[test]
    fn a_nak_is_never_bare() {
        assert_eq!(nak_body(Duration::from_secs(2)), "-NAK {\"delay\":2000000000}");
        assert_eq!(nak_body(Duration::ZERO), "-NAK {\"delay\":1}");
    }
}
