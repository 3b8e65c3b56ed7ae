//! What was counted, asked of the owners of all partitions and put together. All or nothing: a number that lacks a partition would be
//! a smaller one, which Prometheus takes for a reset.

pub mod export;
pub mod merge;
pub mod summary;
