//! The files of a stream as nats-server 2.14 keeps them: blocks of records, each behind a checksum over HighwayHash that anybody can make.
//!
//! A record: its length (4 bytes, the highest bit says that there are headers), sequence (8), time (8), length of the subject (2), subject, length of the headers (4, if there are
//! any), headers, body, checksum (8). All numbers are little-endian.

use std::path::{Path, PathBuf};

use highway::{HighwayHash, HighwayHasher, Key};
use sha2::{Digest, Sha256};

const HEADERS: u32 = 1 << 31;

#[derive(Clone)]
pub struct Store {
    /// The one block, and the state that the server would rather read than it.
    block: PathBuf,
    index: PathBuf,
    key: Key,
    records: Vec<Record>,
}

#[derive(Clone)]
struct Record {
    sequence: u64,
    time: [u8; 8],
    subject: Vec<u8>,
    headers: Vec<u8>,
    body: Vec<u8>,
}

impl Store {
    /// A stream of one block.
    pub fn read(store: &Path, stream: &str) -> Self {
        let dir = store.join("jetstream/$G/streams").join(stream).join("msgs");
        let block = dir.join("1.blk");
        assert!(!dir.join("2.blk").exists(), "the stream has one block");
        let bytes = std::fs::read(&block).unwrap();
        let hash: [u8; 32] = Sha256::digest(format!("{stream}-1")).into();
        let word = |at: usize| u64::from_le_bytes(hash[at..at + 8].try_into().unwrap());
        let key = Key([word(0), word(8), word(16), word(24)]);
        let mut read = Self { block, index: dir.join("index.db"), key, records: Vec::new() };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = (u32::from_le_bytes(rest[..4].try_into().unwrap()) & !HEADERS) as usize;
            let record = Record::read(&rest[..length]);
            assert_eq!(read.bytes(&record), &rest[..length], "the layout is not what it was");
            read.records.push(record);
            rest = &rest[length..];
        }
        read
    }

    pub fn write(&self) {
        let bytes: Vec<u8> = self.records.iter().flat_map(|record| self.bytes(record)).collect();
        std::fs::write(&self.block, bytes).unwrap();
        let _ = std::fs::remove_file(&self.index);
    }

    pub fn body(&mut self, sequence: u64) -> &mut Vec<u8> {
        &mut self.records.iter_mut().find(|record| record.sequence == sequence).unwrap().body
    }

    pub fn remove(&mut self, sequence: u64) {
        self.records.retain(|record| record.sequence != sequence);
    }

    /// What is in two entries, but for their numbers.
    pub fn swap(&mut self, one: u64, other: u64) {
        let at = |sequence| self.records.iter().position(|record| record.sequence == sequence).unwrap();
        let (one_at, other_at) = (at(one), at(other));
        self.records.swap(one_at, other_at);
        (self.records[one_at].sequence, self.records[other_at].sequence) = (one, other);
    }

    fn bytes(&self, record: &Record) -> Vec<u8> {
        let headers = if record.headers.is_empty() { 0 } else { 4 + record.headers.len() };
        let length = 22 + record.subject.len() + headers + record.body.len() + 8;
        let flag = if record.headers.is_empty() { 0 } else { HEADERS };
        let mut bytes = (length as u32 | flag).to_le_bytes().to_vec();
        bytes.extend(record.sequence.to_le_bytes());
        bytes.extend(record.time);
        bytes.extend((record.subject.len() as u16).to_le_bytes());
        bytes.extend(&record.subject);
        if !record.headers.is_empty() {
            bytes.extend((record.headers.len() as u32).to_le_bytes());
            bytes.extend(&record.headers);
        }
        bytes.extend(&record.body);
        let mut hasher = HighwayHasher::new(self.key);
        for part in [&bytes[4..20], &record.subject, &record.headers, &record.body] {
            hasher.append(part);
        }
        bytes.extend(hasher.finalize64().to_le_bytes());
        bytes
    }
}

impl Record {
    fn read(bytes: &[u8]) -> Self {
        let has_headers = u32::from_le_bytes(bytes[..4].try_into().unwrap()) & HEADERS != 0;
        let subject = 22 + usize::from(u16::from_le_bytes(bytes[20..22].try_into().unwrap()));
        let headers = if has_headers {
            subject + 4 + u32::from_le_bytes(bytes[subject..subject + 4].try_into().unwrap()) as usize
        } else {
            subject
        };
        Self {
            sequence: u64::from_le_bytes(bytes[4..12].try_into().unwrap()),
            time: bytes[12..20].try_into().unwrap(),
            subject: bytes[22..subject].to_vec(),
            headers: if has_headers { bytes[subject + 4..headers].to_vec() } else { Vec::new() },
            body: bytes[headers..bytes.len() - 8].to_vec(),
        }
    }
}
