//! Many small things in chunks.

use bytes::Bytes;
use keelson_schemas::codec::{self, DecodeError, EncodeError};
use serde::{Serialize, de::DeserializeOwned};

use super::{Chunk, MAX_CHUNK_BYTES};

/// The bytes of things at which a chunk is closed; the rest up to the bound is room for one more.
const CLOSED_AT: usize = MAX_CHUNK_BYTES / 2;

/// Things in chunks, in their order. Each of them is smaller than half a chunk, or the checkpoint is refused.
///
/// # Errors
/// Something that cannot be encoded.
pub fn pack<T: Serialize>(things: &[T]) -> Result<Vec<Chunk>, EncodeError> {
    let (mut chunks, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (index, thing) in things.iter().enumerate() {
        bytes += codec::encode(thing)?.len();
        if bytes >= CLOSED_AT {
            chunks.push(chunk(&things[begin..=index])?);
            (begin, bytes) = (index + 1, 0);
        }
    }
    if begin < things.len() {
        chunks.push(chunk(&things[begin..])?);
    }
    Ok(chunks)
}

fn chunk<T: Serialize>(things: &[T]) -> Result<Chunk, EncodeError> {
    Ok(Chunk::Bytes(codec::encode(things)?.into()))
}

/// What was packed into the chunks of a checkpoint.
///
/// # Errors
/// Chunks that hold something else.
pub fn unpack<T: DeserializeOwned>(chunks: &[Bytes]) -> Result<Vec<T>, DecodeError> {
    let mut things = Vec::new();
    for chunk in chunks {
        things.extend(codec::decode::<Vec<T>>(Some(codec::MSGPACK), chunk)?);
    }
    Ok(things)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_large_and_small_come_back_in_their_order_from_chunks_within_the_bound() {
        let sizes = [0, 10, 200_000, 100_000, 255_000, 1, 260_000, 3];
        let things: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
        let chunks = pack(&things).unwrap();
        let bytes = chunks.iter().map(|chunk| match chunk {
            Chunk::Bytes(bytes) => bytes.clone(),
            Chunk::Unchanged => Bytes::new(),
        });
        let bytes: Vec<Bytes> = bytes.collect();
        assert!(bytes.iter().all(|chunk| chunk.len() <= MAX_CHUNK_BYTES) && bytes.len() > 1);
        assert_eq!(unpack::<String>(&bytes).unwrap(), things);
        assert!(pack::<String>(&[]).unwrap().is_empty());
    }
}
