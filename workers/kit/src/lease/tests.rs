//! Replicas against a real server. Each runs on a thread of its own, so that one can be stopped as by SIGSTOP.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::bus::Bus;
use crate::node::NodeId;
use crate::role::Context;
use crate::tasks::Tasks;
use crate::testing::NatsServer;

const KEYS: usize = 4;
/// Within this another has a dead owner's leases.
const TAKEOVER: Duration = Duration::from_secs(5);

type Held = Arc<Mutex<BTreeMap<usize, Lease>>>;

struct Replica {
    held: Held,
    orders: Sender<Order>,
}

enum Order {
    /// Drops everything without a word, as kill -9 does.
    Die,
    /// Stands still, as under SIGSTOP.
    Freeze(Duration),
    /// Shuts down as on SIGTERM.
    Stop,
}

impl Replica {
    fn start(url: &str, node: NodeId) -> Self {
        let (orders, inbox) = channel();
        let held = Held::default();
        let (url, shown) = (url.to_owned(), held.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let tasks = Tasks::new(Clock::system());
            let ctx = runtime.block_on(context(&url, node, tasks.clone()))?;
            runtime.spawn(collect(ctx, shown));
            loop {
                match inbox.try_recv() {
                    Ok(Order::Die) => {
                        runtime.shutdown_background();
                        return anyhow::Ok(());
                    }
                    Ok(Order::Freeze(time)) => std::thread::sleep(time),
                    Ok(Order::Stop) => _ = runtime.block_on(tasks.shutdown(Duration::from_secs(5))),
                    Err(_) => runtime.block_on(async { tokio::time::sleep(Duration::from_millis(10)).await }),
                }
            }
        });
        Self { held, orders }
    }

    fn valid(&self) -> BTreeMap<usize, u64> {
        let held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.iter()
            .filter(|(_, lease)| lease.is_valid())
            .map(|(index, lease)| (*index, lease.epoch()))
            .collect()
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}

async fn context(url: &str, node: NodeId, tasks: Tasks) -> anyhow::Result<Context> {
    let bus = Bus::connect(crate::bus::BusOptions::new(url, "test")).await?;
    Ok(Context { tasks, node, ..crate::testing::context(&bus) })
}

async fn collect(ctx: Context, held: Held) {
    let keys = (0..KEYS).map(|key| key.to_string()).collect();
    let spec = GroupSpec { name: "test.part".into(), keys, timing: Timing::default() };
    let mut group = LeaseGroup::join(&ctx, spec);
    while let Some(lease) = group.next().await {
        let held = held.clone();
        held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(lease.index(), lease.clone());
        tokio::spawn(async move {
            lease.lost().await;
            let mut held = held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if held.get(&lease.index()).is_some_and(|current| current.epoch() == lease.epoch()) {
                held.remove(&lease.index());
            }
        });
    }
}

/// Waits until `done`, while no key is ever held twice; how long it took.
async fn until(replicas: &[&Replica], within: Duration, done: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    loop {
        at_most_one_each(replicas);
        if done() {
            return started.elapsed();
        }
        let all: Vec<_> = replicas.iter().map(|replica| replica.valid()).collect();
        assert!(started.elapsed() < within, "not within {within:?}: {all:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn at_most_one_each(replicas: &[&Replica]) {
    let mut holders = [0; KEYS];
    for index in replicas.iter().flat_map(|replica| replica.valid().into_keys()) {
        holders[index] += 1;
    }
    assert!(holders.iter().all(|holders| *holders <= 1), "held twice: {holders:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_and_take_over_from_the_killed_and_the_frozen() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let _bus = server.prepared_bus().await?;
    let first = Replica::start(&server.url(), NodeId::ephemeral());
    let alone = until(&[&first], TAKEOVER, || first.valid().len() == KEYS).await;
    assert!(alone < Duration::from_secs(2), "a lone replica took {alone:?}");

    let second = Replica::start(&server.url(), NodeId::ephemeral());
    let even = || first.valid().len() == KEYS / 2 && second.valid().len() == KEYS / 2;
    until(&[&first, &second], TAKEOVER, even).await;

    let before = second.valid();
    second.order(Order::Freeze(Duration::from_secs(6)));
    let took = until(&[&first], TAKEOVER, || first.valid().len() == KEYS).await;
    println!("takeover from the frozen: {took:?}");
    for (index, epoch) in &before {
        assert!(first.valid()[index] > *epoch, "the epoch did not rise");
    }
    until(&[&first, &second], 2 * TAKEOVER, even).await;

    first.order(Order::Die);
    let took = until(&[&second], TAKEOVER, || second.valid().len() == KEYS).await;
    println!("takeover from the killed: {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_and_a_restart_on_the_same_node_hand_over_at_once() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let _bus = server.prepared_bus().await?;
    let node = NodeId::ephemeral();
    let killed = Replica::start(&server.url(), node.clone());
    until(&[&killed], TAKEOVER, || killed.valid().len() == KEYS).await;
    killed.order(Order::Die);
    tokio::time::sleep(Duration::from_millis(100)).await;

    let restarted = Replica::start(&server.url(), node);
    let took = until(&[&restarted], TAKEOVER, || restarted.valid().len() == KEYS).await;
    assert!(took < Duration::from_millis(1500), "a restarted node took {took:?}");

    let other = Replica::start(&server.url(), NodeId::ephemeral());
    until(&[&restarted, &other], TAKEOVER, || other.valid().len() == KEYS / 2).await;
    restarted.order(Order::Stop);
    let took = until(&[&restarted, &other], TAKEOVER, || other.valid().len() == KEYS).await;
    assert!(took < Duration::from_millis(1500), "after a clean stop it took {took:?}");
    Ok(())
}

/// The work of a key crashes, is begun again under the same lease, ends when it is over, and the key is given back.
#[tokio::test]
async fn owned_work_is_begun_again_after_a_crash_and_answers_while_it_runs() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let ctx = crate::testing::context(&server.prepared_bus().await?);
    let owned = Owned::<u64>::default();
    let (starts, holding) = (Arc::new(std::sync::atomic::AtomicU64::new(0)), owned.clone());
    let (begun, tasks) = (starts.clone(), ctx.tasks.clone());
    let spec = GroupSpec { name: "test.owned".into(), keys: vec!["0".into()], timing: Timing::default() };
    ctx.own(spec, move |lease| {
        let (owned, begun, tasks) = (holding.clone(), begun.clone(), tasks.clone());
        async move {
            let start = 1 + begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ownership = owned.hold(&lease, start);
            anyhow::ensure!(start > 1, "the first start crashes");
            tasks.cancelled().await;
            Ok(())
        }
    });
    let answer = |owned: &Owned<u64>| owned.answer(0, |start, epoch| Some((*start, epoch)));
    let started = Instant::now();
    while answer(&owned) != Some((2, 1)) {
        assert!(started.elapsed() < TAKEOVER, "{:?}", answer(&owned));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(owned.answer(1, |start, _| Some(*start)), None, "nobody owns that");
    ctx.tasks.shutdown(Duration::from_secs(5)).await;
    assert_eq!(answer(&owned), None, "who no longer owns it does not speak for it");
    Ok(())
}

/// Begun while the bus is away it could only fail, and the waits between its attempts would grow.
#[tokio::test]
async fn owned_work_that_ended_with_the_bus_is_begun_again_when_the_bus_is_back() -> anyhow::Result<()> {
    let mut server = NatsServer::start().await?;
    let ctx = crate::testing::context(&server.prepared_bus().await?);
    let starts = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (begun, bus) = (starts.clone(), ctx.bus.clone());
    let spec = GroupSpec { name: "test.owned".into(), keys: vec!["0".into()], timing: Timing::default() };
    ctx.own(spec, move |_lease| {
        begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut link = bus.link();
        async move {
            link.wait_for(|link| !link.up).await?;
            anyhow::bail!("the bus is away")
        }
    });
    let until = async |wanted: u64| {
        let asked = Instant::now();
        while starts.load(std::sync::atomic::Ordering::SeqCst) != wanted {
            assert!(asked.elapsed() < TAKEOVER, "{starts:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until(1).await;
    server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(starts.load(std::sync::atomic::Ordering::SeqCst), 1, "begun without a bus");
    server.resume_after_kill().await?;
    until(2).await;
    ctx.tasks.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// A process lost a key and has it again, and the work of before ends only now, or crashed and is begun once more to see that it is over.
#[test]
fn late_work_under_a_former_lease_takes_nothing_from_the_present_one() {
    let clock = Clock::system();
    let (_holder, holding) = watch::channel(Holding::Until(clock.now() + TAKEOVER));
    let lease = |epoch| Lease {
        key: "test.0".into(),
        index: 0,
        epoch,
        clock: clock.clone(),
        holding: holding.clone(),
    };
    let owned = Owned::default();
    let former = owned.hold(&lease(1), "former");
    let present = owned.hold(&lease(2), "present");
    drop(former);
    drop(owned.hold(&lease(1), "former"));
    assert_eq!(owned.answer(0, |known, epoch| Some((*known, epoch))), Some(("present", 2)));
    drop(present);
    assert_eq!(owned.answer(0, |known, _| Some(*known)), None);
}
