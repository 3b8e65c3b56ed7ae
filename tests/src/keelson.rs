//! Deployments: everything in one process, or each role in its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use keelson_schemas::codec;
use keelson_schemas::subject::Partition;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::Deserialize;

use crate::client::Client;
use crate::ledger::Ledger;
use crate::nats::{self, NatsServer};
use crate::place::Place;
use crate::process::{self, Process};
use crate::{binary, slices};

/// How long a process may take to be ready in a test. What the contract promises is measured where it is promised.
pub const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a count may take to be shown in a test.
pub const SHOWN_WITHIN: Duration = Duration::from_secs(60);

/// `keelson up`: every role and a private nats-server.
pub struct Up {
    place: Place,
    process: Process,
}

impl Up {
    /// Starts one in a fresh place and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_in(Place::new()).await
    }

    /// Starts one in this place and waits until it is ready.
    pub async fn start_in(place: Place) -> Self {
        let process = Process::spawn("keelson up", up(&place));
        let up = Self { place, process };
        up.client().ready(READY_WITHIN).await;
        up
    }

    /// Kills the process alone, and starts it again in the same place.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = Process::spawn("keelson up", up(&self.place));
        self.client().ready(READY_WITHIN).await;
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where it lives.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.place.url())
    }

    /// Its private nats-server, if that runs.
    pub fn nats_server(&self) -> Option<Pid> {
        self.nats_child().map(|(pid, _)| pid)
    }

    /// Where its private nats-server listens.
    pub fn nats_url(&self) -> String {
        let (_, line) = self.nats_child().expect("the private nats-server runs");
        let port = line.iter().skip_while(|word| *word != "--port").nth(1).expect("its port");
        format!("nats://127.0.0.1:{port}")
    }

    /// Runs a client command of Keelson here; its output when it succeeds.
    pub fn command(&self, arguments: &[&str]) -> String {
        run(&self.place, arguments)
    }

    fn nats_child(&self) -> Option<(Pid, Vec<String>)> {
        let children = process::children_of(self.process.pid());
        children.into_iter().find(|(_, line)| line.iter().any(|word| word == "--store_dir"))
    }
}

/// Each role a process of its own, on a nats-server of the test.
pub struct Separate {
    place: Place,
    executable: PathBuf,
    /// The bus.
    pub nats: NatsServer,
    /// `keelson run ingress`; `None` while it is dead.
    pub ingress: Option<Process>,
    /// The replicas of `keelson run metrics`; `None` while one is dead.
    pub metrics: Vec<Option<Process>>,
    /// `keelson run steward`; `None` while it is dead.
    pub steward: Option<Process>,
    /// The replicas of `keelson run alerting`, where they were started; `None` while one is dead.
    pub alerting: [Option<Process>; 2],
    /// The replicas of `keelson run cdn`, where they were started; `None` while one is dead.
    pub cdn: [Option<Process>; 2],
    /// The replicas of `keelson run audit`, where they were started; `None` while one is dead.
    pub audit: [Option<Process>; 2],
    /// The replicas of `keelson run services`, where they were started; `None` while one is dead.
    pub services: [Option<Process>; 2],
}

impl Separate {
    /// Starts the bus, the ingress, the steward, and `replicas` metrics workers of the shipped executable.
    pub async fn start(replicas: usize) -> Self {
        Self::start_of(binary::keelson(), Place::new(), replicas).await
    }

    /// The same with any executable in any place.
    pub async fn start_of(executable: &Path, place: Place, replicas: usize) -> Self {
        let mut all = Self::bus_alone(executable, place).await;
        all.metrics = (0..replicas).map(|_| None).collect();
        all.start_ingress(&[]);
        all.start_steward(&[]);
        for replica in 0..replicas {
            all.start_metrics(replica, &[]);
        }
        all.client().ready(READY_WITHIN).await;
        all.client().scrape(READY_WITHIN).await;
        all
    }

    /// The bus, and no process of `executable` yet.
    pub async fn bus_alone(executable: &Path, place: Place) -> Self {
        let nats = NatsServer::start().await;
        let place = place.env("NATS_URL", nats.url());
        let all = Self {
            place,
            executable: executable.to_owned(),
            nats,
            ingress: None,
            metrics: Vec::new(),
            steward: None,
            alerting: [None, None],
            cdn: [None, None],
            audit: [None, None],
            services: [None, None],
        };
        run(&all.place, &["bus", "apply"]);
        all
    }

    /// Waits until the ingress is ready, where there is one.
    pub async fn ready(&self) {
        if self.ingress.is_some() {
            self.client().ready(READY_WITHIN).await;
        }
    }

    /// Starts the ingress (again), with more environment.
    pub fn start_ingress(&mut self, env: &[(&str, &str)]) {
        self.ingress = Some(self.spawn("ingress", "ingress", env));
    }

    /// Starts the steward (again), with more environment.
    pub fn start_steward(&mut self, env: &[(&str, &str)]) {
        self.steward = Some(self.spawn("steward", "steward", env));
    }

    /// Starts a replica of the metrics worker (again), with more environment.
    pub fn start_metrics(&mut self, replica: usize, env: &[(&str, &str)]) {
        self.metrics[replica] = Some(self.spawn("metrics", &metrics_name(replica), env));
    }

    /// Starts a replica of the alerting worker (again), with more environment.
    pub fn start_alerting(&mut self, replica: usize, env: &[(&str, &str)]) {
        self.alerting[replica] = Some(self.spawn("alerting", &alerting_name(replica), env));
    }

    /// Starts a replica of the CDN worker (again), with more environment.
    pub fn start_cdn(&mut self, replica: usize, env: &[(&str, &str)]) {
        self.cdn[replica] = Some(self.spawn("cdn", &format!("cdn-{replica}"), env));
    }

    /// Starts a replica of the audit worker (again), with more environment.
    pub fn start_audit(&mut self, replica: usize, env: &[(&str, &str)]) {
        self.audit[replica] = Some(self.spawn("audit", &format!("audit-{replica}"), env));
    }

    /// Starts a replica of the services worker (again), with more environment.
    pub fn start_services(&mut self, replica: usize, env: &[(&str, &str)]) {
        self.services[replica] = Some(self.spawn("services", &format!("services-{replica}"), env));
    }

    /// Runs a command of the shipped executable in this place; whether it succeeded, and what it said.
    pub fn output(&self, arguments: &[&str]) -> (bool, String) {
        output(&self.place, arguments)
    }

    /// A running replica; panics while it is dead.
    pub fn replica(&mut self, replica: usize) -> &mut Process {
        self.metrics[replica].as_mut().expect("the replica runs")
    }

    /// Sends a signal to a replica.
    pub fn signal(&mut self, replica: usize, signal: Signal) {
        self.replica(replica).signal(signal);
    }

    /// A client of the ingress.
    pub fn client(&self) -> Client {
        Client::new(self.place.url())
    }

    /// Which node holds the lease of each partition.
    pub async fn leases(&self) -> BTreeMap<u8, String> {
        let bucket = self.bucket_of_leases().await;
        let mut leases = BTreeMap::new();
        for partition in Partition::all() {
            let holder = holder(&bucket, &format!("metrics.partition.{partition}")).await;
            leases.extend(holder.map(|node| (partition.index(), node)));
        }
        leases
    }

    /// Which replica of the alerting worker has a job, `evaluator` or `notifier`; none while nobody has.
    pub async fn active(&self, job: &str) -> Option<usize> {
        let node = holder(&self.bucket_of_leases().await, &format!("alerting.{job}")).await?;
        (0..self.alerting.len()).find(|replica| self.node_of(&alerting_name(*replica)) == node)
    }

    /// The partitions whose leases a replica holds.
    pub async fn partitions_of(&self, replica: usize) -> Vec<u8> {
        let (node, leases) = (self.node_of(&metrics_name(replica)), self.leases().await);
        let held = leases.into_iter().filter(|(_, holder)| *holder == node);
        held.map(|(partition, _)| partition).collect()
    }

    fn node_of(&self, name: &str) -> String {
        let file = self.place.path().join(name).join("node-id");
        std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned()
    }

    async fn bucket_of_leases(&self) -> Store {
        nats::jetstream(&self.nats.url()).await.get_key_value("leases").await.expect("leases")
    }

    fn spawn(&self, role: &str, name: &str, env: &[(&str, &str)]) -> Process {
        let mut command = self.place.command(&self.executable);
        command.args(["run", role]).env("KEELSON_DATA_DIR", self.place.path().join(name));
        command.envs(env.iter().copied());
        Process::spawn(name, command)
    }
}

/// What is read of a lease.
#[derive(Deserialize)]
struct Lease {
    /// Empty once it was given back.
    owner: String,
    node: String,
}

/// The node that holds a lease.
async fn holder(leases: &Store, key: &str) -> Option<String> {
    let held = leases.get(key).await.expect("the bus answers")?;
    let lease: Lease = codec::decode(None, &held).ok()?;
    (!lease.owner.is_empty()).then_some(lease.node)
}

fn metrics_name(replica: usize) -> String {
    format!("metrics-{replica}")
}

fn alerting_name(replica: usize) -> String {
    format!("alerting-{replica}")
}

/// What does not hold of the bus after everything: slices without a gap that add up to what was accepted, and so many dead letters.
pub async fn bus_findings(url: &str, sent: &Ledger, dead: u64) -> Vec<String> {
    let all = slices::read_all(url).await;
    let mut findings: Vec<String> = slices::check_contiguous(&all).err().into_iter().collect();
    let differences = sent.without_classic().differences(&slices::sum(&all));
    findings.extend(differences.into_iter().map(|difference| format!("slices: {difference}")));
    let letters = nats::messages_on(url, "DEAD_LETTERS").await;
    findings.extend((letters != dead).then(|| format!("{letters} dead letters, {dead} expected")));
    findings
}

/// Fails the test with everything that does not hold of the bus, on which there may be no dead letter.
pub async fn assert_bus(url: &str, sent: &Ledger) {
    let findings = bus_findings(url, sent, 0).await;
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Runs a client command of Keelson in a place; its output when it succeeds.
pub fn run(place: &Place, arguments: &[&str]) -> String {
    let (passed, said) = output(place, arguments);
    assert!(passed, "keelson {arguments:?}: {said}");
    said
}

/// Whether a client command of Keelson succeeds in a place, and its output; with what it complains of when it does not.
pub fn output(place: &Place, arguments: &[&str]) -> (bool, String) {
    let output = place.command(binary::keelson()).args(arguments).output().expect("keelson runs");
    let said = if output.status.success() { output.stdout } else { [output.stdout, output.stderr].concat() };
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn up(place: &Place) -> std::process::Command {
    let mut command = place.command(binary::keelson());
    command.arg("up");
    command
}
