//! Checkpoints: a large state on the bus, replaced as a whole by its one owner.
//!
//! First the chunks that changed are written, each under a key that is never used again; then the head that names all
//! chunks, by compare-and-set: that is the moment at which the new state holds. Only then are chunks removed that the head no
//! longer names. So a crash anywhere leaves the old state or the new one, and at worst some chunks that nobody names,
//! which the next owner removes.
//!
//! An owner claims the head under the epoch of its lease before anything else. From then on whatever an earlier owner
//! still tries fails: it is fenced, and has to stop.

mod head;
mod pack;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use tracing::debug;

pub use self::head::Head;
use self::head::{ChunkRef, hash_of};
pub use self::pack::{pack, unpack};
use crate::bus::{ApiError, Bus};
use crate::fault;
use crate::kv::{Entry, Kv, KvError};

/// The bucket that holds all checkpoints.
const BUCKET: &str = "checkpoints";
/// The largest chunk.
pub const MAX_CHUNK_BYTES: usize = 512 * 1024;
/// The largest [`Snapshot::meta`]; with the references to some hundred chunks the head stays a chunk's size.
pub const MAX_META_BYTES: usize = 256 * 1024;
/// How many chunks are written, read or removed at once.
const AT_ONCE: usize = 8;
/// How often a claim begins anew because the former owner was still saving.
const CLAIM_ATTEMPTS: usize = 16;

/// Why a checkpoint was not claimed, loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another owner has it, under this epoch; it may even be the same epoch, claimed again. Stop.
    #[error("checkpoint {name} belongs to epoch {epoch}, not to this owner's")]
    Fenced {
        /// The checkpoint.
        name: String,
        /// Its epoch.
        epoch: u64,
    },
    /// The bus is away, or refuses; saving again is safe.
    #[error("checkpoint {name}: {error}")]
    Bus {
        /// The checkpoint.
        name: String,
        /// What the bucket said.
        error: KvError,
    },
    /// A chunk is missing or is not what the head says. It cannot come from a crash.
    #[error("checkpoint {name} is damaged: chunk {key} {problem}")]
    Damaged {
        /// The checkpoint.
        name: String,
        /// The chunk's key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A chunk or the meta bytes are above their bound, or an unchanged chunk was never there.
    #[error("checkpoint {name} cannot be saved: {problem}")]
    Invalid {
        /// The checkpoint.
        name: String,
        /// What is wrong with the snapshot.
        problem: String,
    },
}

/// What is to be saved.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The last sequence that is part of the state.
    pub sequence: u64,
    /// When the stream was made that `sequence` counts in, Unix milliseconds; another time means another stream.
    pub stream_created_ms: i64,
    /// Whatever the owner wants to find in the head, at most [`MAX_META_BYTES`].
    pub meta: Bytes,
    /// The state, in pieces of at most [`MAX_CHUNK_BYTES`] whose places mean something to the owner.
    pub chunks: Vec<Chunk>,
}

/// One piece of the state.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// As it was at this place in the last checkpoint.
    Unchanged,
    /// These bytes. When they are what was at this place already, nothing is written.
    Bytes(Bytes),
}

/// A checkpoint that was claimed.
#[derive(Debug)]
pub struct Checkpoint {
    bus: Bus,
    kv: Kv,
    name: String,
    head: Head,
    revision: u64,
    /// Counts attempts, so that no two ever write to the same key.
    saves: u64,
}

impl Checkpoint {
    /// What the head says without making it one's own, for readers; None when there is none yet.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn peek(bus: &Bus, name: &str) -> Result<Option<Head>, CheckpointError> {
        let head = bus.kv(BUCKET).get::<Head>(&head_key(name)).await;
        Ok(head.map_err(|error| failed(name, error))?.map(|entry| entry.value))
    }

    /// What was last saved, without making it one's own: the head and all chunks, for readers; None when there is none yet.
    ///
    /// # Errors
    /// When the bus does not answer. [`CheckpointError::Damaged`], too, while its owner replaces it: another time will do.
    pub async fn read_all(bus: &Bus, name: &str) -> Result<Option<(Head, Vec<Bytes>)>, CheckpointError> {
        let Some(head) = Self::peek(bus, name).await? else { return Ok(None) };
        let (bus, name, saves) = (bus.clone(), name.to_owned(), head.saves);
        let reader = Self { kv: bus.kv(BUCKET), bus, name, head, revision: 0, saves };
        let chunks = reader.load().await?;
        Ok(Some((reader.head, chunks)))
    }

    /// Makes the checkpoint this owner's, under the epoch of its lease. `name` is the beginning of all its keys.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] when a higher epoch has it.
    pub async fn claim(bus: &Bus, name: &str, epoch: u64) -> Result<Self, CheckpointError> {
        let kv = bus.kv(BUCKET);
        for _ in 0..CLAIM_ATTEMPTS {
            let found = kv.get::<Head>(&head_key(name)).await.map_err(|error| failed(name, error))?;
            let (head, revision) = claimed(name, found, epoch)?;
            fault::point("checkpoint.claim");
            match kv.update(&head_key(name), &head, revision).await {
                Ok(revision) => {
                    fault::point("checkpoint.claimed");
                    let saves = head.saves;
                    let claimed = Self { bus: bus.clone(), kv, name: name.to_owned(), head, revision, saves };
                    claimed.remove_unnamed().await;
                    return Ok(claimed);
                }
                Err(KvError::Conflict { .. }) => {}
                Err(error) => return Err(failed(name, error)),
            }
        }
        let error = KvError::Unavailable("another keeps writing it".into());
        Err(failed(name, error))
    }

    /// The head as it was claimed or last saved.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// All chunks in their places, verified.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] when one is not what the head says.
    pub async fn load(&self) -> Result<Vec<Bytes>, CheckpointError> {
        // Each read owns what it needs: a borrowing one would keep callers from being spawned (rust-lang/rust#89976).
        let reads: Vec<_> = self.head.chunks.iter().map(|chunk| self.read(chunk.clone())).collect();
        stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }

    /// Replaces the state. When it fails for the bus, it may be tried again with this or a newer snapshot.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] when another owner has claimed it meanwhile.
    pub async fn save(&mut self, snapshot: Snapshot) -> Result<(), CheckpointError> {
        self.check(&snapshot)?;
        self.saves += 1;
        let chunks = self.place(&snapshot.chunks)?;
        self.write_chunks(&snapshot.chunks, &chunks).await?;
        fault::point("checkpoint.chunks");
        let head = Head {
            epoch: self.head.epoch,
            saves: self.saves,
            sequence: snapshot.sequence,
            stream_created_ms: snapshot.stream_created_ms,
            meta: snapshot.meta,
            chunks,
        };
        self.revision = self.write_head(&head).await?;
        fault::point("checkpoint.head");
        let former = std::mem::replace(&mut self.head, head);
        self.remove_former(&former).await;
        Ok(())
    }

    fn check(&self, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        let too_large = |chunk: &Chunk| matches!(chunk, Chunk::Bytes(bytes) if bytes.len() > MAX_CHUNK_BYTES);
        let problem = if snapshot.meta.len() > MAX_META_BYTES {
            format!("meta has {} bytes, {MAX_META_BYTES} are allowed", snapshot.meta.len())
        } else if let Some(place) = snapshot.chunks.iter().position(too_large) {
            format!("chunk {place} has more than {MAX_CHUNK_BYTES} bytes")
        } else {
            return Ok(());
        };
        Err(self.invalid(problem))
    }

    /// Where each chunk is or will be.
    fn place(&self, chunks: &[Chunk]) -> Result<Vec<ChunkRef>, CheckpointError> {
        let reference = |(place, chunk): (usize, &Chunk)| {
            let before = self.head.chunks.get(place);
            match (chunk, before) {
                (Chunk::Unchanged, Some(before)) => Ok(before.clone()),
                (Chunk::Unchanged, None) => Err(self.invalid(format!("there was no chunk {place} before"))),
                (Chunk::Bytes(bytes), Some(before)) if before.holds(bytes) => Ok(before.clone()),
                (Chunk::Bytes(bytes), _) => Ok(self.new_ref(bytes)),
            }
        };
        chunks.iter().enumerate().map(reference).collect()
    }

    /// The key holds the epoch and the count of saves, so that what a former owner or a lost request does to its own keys
    /// never meets a key of this one.
    fn new_ref(&self, bytes: &Bytes) -> ChunkRef {
        let hash = hash_of(bytes);
        let key = format!("{}.chunk.{}.{}.{}", self.name, self.head.epoch, self.saves, &hash[..32]);
        ChunkRef { key, hash, bytes: bytes.len() as u64 }
    }

    async fn write_chunks(&self, chunks: &[Chunk], places: &[ChunkRef]) -> Result<(), CheckpointError> {
        let known = self.head.keys();
        let mut new: Vec<(&ChunkRef, Bytes)> = Vec::new();
        for (place, chunk) in places.iter().zip(chunks) {
            let written =
                known.contains(place.key.as_str()) || new.iter().any(|(other, _)| other.key == place.key);
            if let (Chunk::Bytes(bytes), false) = (chunk, written) {
                new.push((place, bytes.clone()));
            }
        }
        let writes: Vec<_> =
            new.into_iter().map(|(place, bytes)| self.kv.put_bytes(&place.key, bytes)).collect();
        let written: Result<Vec<u64>, KvError> =
            stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await;
        written.map(drop).map_err(|error| failed(&self.name, error))
    }

    async fn write_head(&self, head: &Head) -> Result<u64, CheckpointError> {
        let key = head_key(&self.name);
        if fault::disabled("fencing") {
            return self.kv.put(&key, head).await.map_err(|error| failed(&self.name, error));
        }
        match self.kv.update(&key, head, self.revision).await {
            Ok(revision) => Ok(revision),
            Err(KvError::Conflict { .. }) => Err(self.fenced().await),
            Err(error) => Err(failed(&self.name, error)),
        }
    }

    async fn fenced(&self) -> CheckpointError {
        match Self::peek(&self.bus, &self.name).await {
            Ok(head) => {
                let epoch = head.map_or(0, |head| head.epoch);
                CheckpointError::Fenced { name: self.name.clone(), epoch }
            }
            Err(error) => error,
        }
    }

    async fn read(&self, chunk: ChunkRef) -> Result<Bytes, CheckpointError> {
        let damaged =
            |problem| CheckpointError::Damaged { name: self.name.clone(), key: chunk.key.clone(), problem };
        let found = self.kv.get_bytes(&chunk.key).await.map_err(|error| failed(&self.name, error))?;
        let bytes = found.ok_or_else(|| damaged("is missing"))?.value;
        if chunk.holds(&bytes) { Ok(bytes) } else { Err(damaged("has other bytes than the head says")) }
    }

    async fn remove_former(&self, former: &Head) {
        let named = self.head.keys();
        let unnamed = former.keys().into_iter().filter(|key| !named.contains(key));
        self.remove(unnamed.map(str::to_owned).collect()).await;
        fault::point("checkpoint.removed");
    }

    /// Removes what a crash left behind: chunks that no head ever named, or none names any more.
    async fn remove_unnamed(&self) {
        let named = self.head.keys();
        match self.stored_chunks().await {
            Ok(stored) => {
                self.remove(stored.into_iter().filter(|key| !named.contains(key.as_str())).collect()).await
            }
            Err(error) => debug!(checkpoint = %self.name, %error, "chunks that nobody names stay for now"),
        }
    }

    async fn stored_chunks(&self) -> Result<Vec<String>, ApiError> {
        let filter = format!("{}{}.chunk.>", prefix(), self.name);
        let subjects = self.bus.stream_subjects(&stream_name(), &filter).await?;
        Ok(subjects.iter().filter_map(|subject| Some(subject.strip_prefix(&prefix())?.to_owned())).collect())
    }

    /// Without a marker in their place, which would stay for ever. What is not removed now is at the next claim.
    async fn remove(&self, keys: BTreeSet<String>) {
        let purge = async |key: String| {
            if let Err(error) = self.kv.purge(&key, u64::MAX - 1).await {
                debug!(checkpoint = %self.name, chunk = %key, %error, "a chunk that nobody names stays for now");
            }
        };
        stream::iter(keys).for_each_concurrent(AT_ONCE, purge).await;
    }

    fn invalid(&self, problem: String) -> CheckpointError {
        CheckpointError::Invalid { name: self.name.clone(), problem }
    }
}

/// The head as its new owner writes it, and the revision that it replaces.
fn claimed(name: &str, found: Option<Entry<Head>>, epoch: u64) -> Result<(Head, u64), CheckpointError> {
    let (head, revision) = found.map_or_else(|| (Head::default(), 0), |entry| (entry.value, entry.revision));
    if head.epoch > epoch && !fault::disabled("fencing") {
        return Err(CheckpointError::Fenced { name: name.to_owned(), epoch: head.epoch });
    }
    Ok((Head { epoch, saves: head.saves + 1, ..head }, revision))
}

fn failed(name: &str, error: KvError) -> CheckpointError {
    CheckpointError::Bus { name: name.to_owned(), error }
}

fn head_key(name: &str) -> String {
    format!("{name}.head")
}

fn stream_name() -> String {
    format!("KV_{BUCKET}")
}

fn prefix() -> String {
    format!("$KV.{BUCKET}.")
}

#[cfg(test)]
mod tests;
