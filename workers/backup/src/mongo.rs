//! MongoDB, as far as backups need it: a deployment, what it is, and how far it has got. What is read of it and written into it is below.

pub mod authz;
pub mod catalog;
pub mod compare;
pub mod dump;
pub mod indexes;
pub mod insert;
pub mod oplog;
pub mod replay;
pub mod restore;

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bson::oid::ObjectId;
use bson::{Document, RawDocument, RawDocumentBuf, doc};
use keelson_kit::config::Secret;
use keelson_schemas::backup::{OpTime, Topology};
use mongodb::options::{
    ClientOptions, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, ServerAddress,
    WriteConcern,
};
use mongodb::{Client, Collection, Database};

use crate::layout;

/// How long a server is looked for.
const FOUND_WITHIN: Duration = Duration::from_secs(10);
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// A connection to a deployment. Everything is read from the primary: what several members know at one time need not agree.
#[derive(Clone, Debug)]
pub struct Deployment {
    client: Client,
    /// For people: its hosts, without a secret.
    pub name: String,
}

/// How a deployment stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What it is.
    pub topology: Topology,
    /// The newest entry of its oplog that can no longer be rolled back; none without an oplog.
    pub committed: Option<OpTime>,
    /// Which election its primary won; none without elections.
    pub election: Option<ObjectId>,
    /// Its primary's version.
    pub version: String,
}

impl Deployment {
    /// Reads an address; connects when it is used.
    ///
    /// # Errors
    /// When it is no address. The error does not show it.
    pub async fn new(uri: &Secret) -> anyhow::Result<Self> {
        let parsed = ClientOptions::parse(uri.expose()).await;
        // What the driver says may show a part of the address, and so of the password.
        let mut options = parsed.map_err(|_| {
            anyhow!("the address of the database cannot be used: write mongodb://user:password@host:27017/?replicaSet=rs0, with %-escapes in the password; a name behind mongodb+srv:// must be known to DNS")
        })?;
        options.app_name.get_or_insert_with(|| "keelson".to_owned());
        options.server_selection_timeout = Some(FOUND_WITHIN);
        options.connect_timeout = Some(CONNECTED_WITHIN);
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.write_concern = Some(WriteConcern::majority());
        let name = hosts(&options.hosts);
        Ok(Self { client: Client::with_options(options)?, name })
    }

    /// Asks the primary how things stand.
    ///
    /// # Errors
    /// When there is no primary, or it is none that can be backed up.
    pub async fn standing(&self) -> anyhow::Result<Standing> {
        let hello = self.ask("admin", doc! { "hello": 1 }).await?;
        if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
            bail!("{} is a mongos: back up each shard's replica set by its own address", self.name);
        }
        let build = self.ask("admin", doc! { "buildInfo": 1 }).await?;
        let topology = match hello.get_str("setName") {
            Ok(name) => Topology::ReplicaSet { name: name.to_owned() },
            Err(_) => Topology::Standalone,
        };
        if !hello.get_bool("isWritablePrimary").unwrap_or(false) {
            bail!("{} has no primary at the moment", self.name);
        }
        let committed = match topology {
            Topology::ReplicaSet { .. } => Some(committed(&hello)?),
            Topology::Standalone => None,
        };
        let election = hello.get_object_id("electionId").ok();
        Ok(Standing {
            topology,
            committed,
            election,
            version: build.get_str("version").unwrap_or_default().to_owned(),
        })
    }

    /// Runs a command.
    ///
    /// # Errors
    /// When it fails.
    pub async fn ask(&self, database: &str, command: Document) -> anyhow::Result<Document> {
        let what = command.keys().next().cloned().unwrap_or_default();
        let answer = self.database(database).run_command(command).await;
        answer.with_context(|| format!("{what} on {database}"))
    }

    /// Runs a command that writes, and makes sure that all of it was written.
    ///
    /// # Errors
    /// When any of it was not.
    pub async fn write(&self, database: &str, command: RawDocumentBuf) -> anyhow::Result<Document> {
        let answer = self.database(database).run_raw_command(command).await?;
        check_written(&answer)?;
        Ok(answer)
    }

    pub(crate) fn database(&self, name: &str) -> Database {
        self.client.database(name)
    }

    /// A collection, of which is read what can no longer be rolled back.
    pub(crate) fn collection(&self, database: &str, name: &str) -> Collection<RawDocumentBuf> {
        let options = CollectionOptions::builder().read_concern(ReadConcern::majority()).build();
        self.database(database).collection_with_options(name, options)
    }

    /// The names of the databases that are not the server's own.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn databases(&self) -> anyhow::Result<Vec<String>> {
        let mut names = self.client.list_database_names().await.context("list the databases")?;
        names.retain(|name| layout::has_database(name));
        Ok(names)
    }
}

/// The time of an entry of the oplog.
///
/// # Errors
/// When it has none.
pub fn optime(entry: &RawDocument) -> anyhow::Result<OpTime> {
    let at = entry.get_timestamp("ts").context("an entry of the oplog has no time")?;
    let term = entry.get("t")?.and_then(|term| term.as_i64()).unwrap_or(-1);
    Ok(OpTime { seconds: at.time, increment: at.increment, term })
}

/// A place in the oplog as MongoDB writes it.
#[must_use]
pub fn timestamp(at: OpTime) -> bson::Timestamp {
    bson::Timestamp { time: at.seconds, increment: at.increment }
}

fn committed(hello: &Document) -> anyhow::Result<OpTime> {
    let missing = "the primary does not say how far the majority has got";
    let at = hello
        .get_document("lastWrite")
        .and_then(|last| last.get_document("majorityOpTime"))
        .context(missing)?;
    let ts = at.get_timestamp("ts").context(missing)?;
    Ok(OpTime { seconds: ts.time, increment: ts.increment, term: at.get_i64("t").context(missing)? })
}

/// A command that writes succeeds as a command even where it did not write.
fn check_written(answer: &Document) -> anyhow::Result<()> {
    if let Ok(errors) = answer.get_array("writeErrors")
        && let Some(first) = errors.first().and_then(|error| error.as_document())
    {
        bail!(
            "{} could not be written, the first: {}",
            errors.len(),
            first.get_str("errmsg").unwrap_or("no reason given")
        );
    }
    if let Ok(error) = answer.get_document("writeConcernError") {
        bail!("a majority did not confirm it: {}", error.get_str("errmsg").unwrap_or("no reason given"));
    }
    Ok(())
}

fn hosts(hosts: &[ServerAddress]) -> String {
    hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_not_shown() {
        for address in ["mongodb://ada:hunter2@host:port", "hunter2", "mongodb://ada:hun:ter2@host", ""] {
            let error = Deployment::new(&Secret::from(address.to_owned())).await.unwrap_err();
            let said = format!("{error:#} {error:?}");
            assert!(!said.contains("hunter2") && !said.contains("ter2"), "{said}");
        }
    }

    #[tokio::test]
    async fn a_deployment_is_named_by_its_hosts() {
        let uri = Secret::from("mongodb://ada:hunter2@a:1,b/?replicaSet=rs".to_owned());
        assert_eq!(Deployment::new(&uri).await.unwrap().name, "a:1,b:27017");
    }

    #[test]
    fn writes_that_did_not_write_are_seen() {
        check_written(&doc! { "ok": 1, "n": 3 }).unwrap();
        let refused = doc! { "ok": 1, "writeErrors": [{ "index": 0, "errmsg": "E11000" }] };
        assert!(check_written(&refused).unwrap_err().to_string().contains("E11000"));
        let alone = doc! { "ok": 1, "writeConcernError": { "errmsg": "timed out" } };
        assert!(check_written(&alone).unwrap_err().to_string().contains("timed out"));
    }
}
