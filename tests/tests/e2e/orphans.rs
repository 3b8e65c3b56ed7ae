//! A process killed alone leaves nothing behind that the next start trips over.

use std::time::{Duration, Instant};

use keelson_tests::client::{Client, now_ms};
use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use keelson_tests::ledger::{Ledger, Sample, Series};
use keelson_tests::process::is_running;
use nix::unistd::Pid;

#[tokio::test]
async fn keelson_killed_alone_takes_its_nats_server_along() {
    let mut up = Up::start().await;
    let server = up.nats_server().expect("a private nats-server");
    up.process().kill();
    gone(server).await;
}

#[tokio::test]
async fn what_was_counted_before_a_kill_is_counted_after_it() {
    let mut up = Up::start().await;
    let mut sent = Ledger::default();
    for round in 0..3 {
        send(&up.client(), &mut sent, round).await;
        let killed = Instant::now();
        up.restart().await;
        let ready = killed.elapsed();
        up.client().assert_shows(&sent, SHOWN_WITHIN).await;
        println!(
            "ready {:.2} s after kill -9, all counts {:.2} s",
            ready.as_secs_f64(),
            killed.elapsed().as_secs_f64()
        );
    }
}

#[tokio::test]
async fn a_private_nats_server_that_is_killed_comes_back() {
    let up = Up::start().await;
    let mut sent = Ledger::default();
    send(&up.client(), &mut sent, 0).await;
    let server = up.nats_server().expect("a private nats-server");
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    gone(server).await;
    send(&up.client(), &mut sent, 1).await;
    up.client().assert_shows(&sent, SHOWN_WITHIN).await;
}

#[tokio::test]
async fn a_terminated_keelson_drains_and_leaves_nothing_running() {
    let mut up = Up::start().await;
    let server = up.nats_server().expect("a private nats-server");
    let mut sent = Ledger::default();
    send(&up.client(), &mut sent, 0).await;
    let began = Instant::now();
    let status = up.process().terminate(Duration::from_secs(15)).await;
    println!("drained in {:.2} s", began.elapsed().as_secs_f64());
    assert!(status.success(), "{status}");
    assert!(!is_running(server), "the nats-server runs on");
}

async fn send(client: &Client, sent: &mut Ledger, round: u64) {
    let series = Series { service: "content".into(), method: "GET".into(), route: "/".into(), status: 200 };
    let samples = vec![Sample { ts: now_ms(), series, duration_us: Some(1000 + round) }; 10];
    client.send(&format!("round-{round}"), "content", &samples).await;
    sent.add(&samples);
}

async fn gone(server: Pid) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_running(server) {
        assert!(Instant::now() < deadline, "nats-server {server} runs on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
