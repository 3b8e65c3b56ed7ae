//! The worker on a bus of its own, with a repository of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keelson_backup::Backups;
use keelson_backup::config::{BackupConfig, Target};
use keelson_backup::restic::{Password, Restic};
use keelson_kit::bus::Bus;
use keelson_kit::config::{ConfigSource, Secret};
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::operations::Submission;
use keelson_kit::role::{Context, Role};
use keelson_kit::testing::{self, NatsServer};
use keelson_schemas::alerting::Signals;
use keelson_schemas::backup::{Backup, BackupSummary, DrillReport, Restore, RestoreReport, TestBackup};
use keelson_schemas::message::Command;
use keelson_schemas::operation::{Operation, State};

use crate::mongod::{self, Mongod};

const ENDED_WITHIN: Duration = Duration::from_secs(180);

/// A worker.
pub struct Worker {
    _nats: NatsServer,
    /// Its bus.
    pub bus: Bus,
    ctx: Context,
    /// Its data directory.
    pub data: tempfile::TempDir,
}

impl Worker {
    /// One that backs `source` up, and restores into `target`.
    pub async fn start(source: &Mongod, target: &Mongod) -> Self {
        Self::configured(source, target, |_| {}).await
    }

    /// One that is configured otherwise.
    pub async fn configured(
        source: &Mongod,
        target: &Mongod,
        change: impl FnOnce(&mut BackupConfig),
    ) -> Self {
        let (source, target) = (source.uri(), target.uri());
        Self::sourced(ConfigSource::default(), target, |config| {
            config.mongodb_uri = Some(source);
            change(config);
        })
        .await
    }

    /// One that has no database, and was configured by `source`.
    pub async fn without_database(source: ConfigSource, change: impl FnOnce(&mut BackupConfig)) -> Self {
        Self::sourced(source, Secret::from("mongodb://127.0.0.1:1".to_owned()), change).await
    }

    async fn sourced(source: ConfigSource, target: Secret, change: impl FnOnce(&mut BackupConfig)) -> Self {
        let nats = NatsServer::start().await.unwrap();
        let bus = nats.prepared_bus().await.unwrap();
        let data = tempfile::Builder::new().prefix("keelson-backup-").tempdir().unwrap();
        let mut ctx = testing::context(&bus);
        let mut core = (*ctx.core).clone();
        core.data_dir = data.path().to_owned();
        ctx.core = core.into();
        ctx.config = source;
        let mut config = BackupConfig {
            password: Some(Secret::from("correct horse".to_owned())),
            mongod: mongod::program(),
            targets: vec![Target { name: "rehearsal".into(), mongodb_uri: target, files: None }],
            ..BackupConfig::default()
        };
        change(&mut config);
        Backups::start(config, ctx.clone()).await.unwrap();
        Self { _nats: nats, bus, ctx, data }
    }

    /// Its repository.
    pub fn restic(&self) -> Restic {
        Restic {
            program: "restic".into(),
            repository: self.data.path().join("backups").to_string_lossy().into_owned(),
            password: Password::Text(Secret::from("correct horse".to_owned())),
            cache: None,
            env: std::env::var_os("PATH").map(|path| ("PATH".into(), path)).into_iter().collect(),
        }
    }

    /// What became of a command.
    pub async fn asked<C: Command>(&self, command: &C) -> Operation {
        let id = self.submit(command).await;
        self.ended(&id).await
    }

    /// Asks for something and does not wait for its end.
    pub async fn submit<C: Command>(&self, command: &C) -> String {
        let id = keelson_kit::publish::fresh_id();
        let submission = Submission::of(id.clone(), command, "ada").unwrap();
        self.bus.operations().submit(&submission).await.unwrap();
        id
    }

    /// How an operation ended.
    pub async fn ended(&self, id: &str) -> Operation {
        let started = Instant::now();
        loop {
            let operation = self.bus.operations().get(id).await.unwrap().unwrap();
            if !matches!(operation.state, State::Accepted | State::Running) {
                return operation;
            }
            assert!(started.elapsed() < ENDED_WITHIN, "{operation:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Backs up, which succeeds.
    pub async fn backup(&self) -> BackupSummary {
        result(self.asked(&Backup::default()).await)
    }

    /// Restores, which succeeds.
    pub async fn restore(&self, command: &Restore) -> RestoreReport {
        result(self.asked(command).await)
    }

    /// Rehearses a restore of the newest backup, which succeeds.
    pub async fn drill(&self) -> DrillReport {
        result(self.asked(&TestBackup::default()).await)
    }

    /// Why a command did not succeed.
    pub async fn refused<C: Command>(&self, command: &C) -> (State, String) {
        let operation = self.asked(command).await;
        (operation.state, operation.error.unwrap_or_default())
    }

    /// The signals that were told so far, with their last values.
    pub async fn signals(&self) -> BTreeMap<String, f64> {
        let mut follow =
            self.bus.follow(FollowOptions::new("EVENTS", "keelson.evt.backup.signals", Start::After(0)));
        let mut told = BTreeMap::new();
        while let Some(message) = follow.next_if_any().await.unwrap() {
            let Signals { readings } = message.decode().unwrap();
            told.extend(readings.into_iter().map(|reading| (reading.signal, reading.value)));
        }
        told
    }

    /// Ends it.
    pub async fn stop(self) {
        self.ctx.tasks.shutdown(Duration::from_secs(10)).await;
    }
}

/// A restore of everything into the other deployment.
pub fn into_rehearsal(backup: &str) -> Restore {
    Restore { backup_id: backup.to_owned(), target: Some("rehearsal".into()), ..Restore::default() }
}

fn result<T: serde::de::DeserializeOwned>(operation: Operation) -> T {
    assert_eq!(operation.state, State::Succeeded, "{:?}", operation.error);
    serde_json::from_value(operation.result.unwrap()).unwrap()
}
