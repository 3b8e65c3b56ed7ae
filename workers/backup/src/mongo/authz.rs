//! Users and roles, which are not written like other documents: they are put beside and merged in by the server, as mongorestore does.

use std::path::Path;

use anyhow::Context;
use bson::doc;
use keelson_schemas::backup::CollectionEntry;

use super::Deployment;
use super::dump::Meter;
use super::insert::{self, Target};

/// Merges users and roles of a backup into those of a deployment. With `drop`, those that are not in the backup go.
///
/// # Errors
/// When they cannot be merged.
pub async fn merge(
    deployment: &Deployment,
    root: &Path,
    entries: &[&CollectionEntry],
    drop: bool,
) -> anyhow::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let merged = merge_all(deployment, root, entries, drop).await;
    for entry in entries {
        remove(deployment, temporary(entry).1).await;
    }
    merged.context("users and roles")
}

async fn merge_all(
    deployment: &Deployment,
    root: &Path,
    entries: &[&CollectionEntry],
    drop: bool,
) -> anyhow::Result<()> {
    let mut command =
        doc! { "_mergeAuthzCollections": 1, "db": "", "drop": drop, "writeConcern": { "w": "majority" } };
    for entry in entries {
        let Some(data) = &entry.data else { continue };
        let (key, collection) = temporary(entry);
        remove(deployment, collection).await;
        let target = Target { deployment, database: "admin", collection, ordered: false };
        insert::file(&target, root, &data.path, &Meter::default()).await?;
        command.insert(key, format!("admin.{collection}"));
    }
    deployment.ask("admin", command).await?;
    Ok(())
}

/// The argument of the merge, and the collection that it names.
fn temporary(entry: &CollectionEntry) -> (&'static str, &'static str) {
    match entry.collection.as_str() {
        "system.users" => ("tempUsersCollection", "tempusers"),
        _ => ("tempRolesCollection", "temproles"),
    }
}

/// That it is not there is what is wanted.
async fn remove(deployment: &Deployment, collection: &str) {
    if let Err(error) = deployment.ask("admin", doc! { "drop": collection }).await {
        tracing::debug!(error = format!("{error:#}"), collection, "a temporary collection was not dropped");
    }
}
