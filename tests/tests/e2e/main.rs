//! Keelson as it is shipped, against real servers: one scenario a file.

mod access_log;
mod cardinality;
mod orphans;
mod prometheus;
mod quantiles;
mod restarts;
mod takeover;
