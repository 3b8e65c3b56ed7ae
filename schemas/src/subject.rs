//! Subjects, as functions. Identifiers come last, so that a wildcard at the end selects a kind.

/// Telemetry is split into this many partitions by service; fixed when the bus is made.
pub const PARTITIONS: u8 = 16;

/// One of the [`PARTITIONS`] of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u8);

impl Partition {
    /// Partition `index`; None from [`PARTITIONS`] on.
    pub const fn new(index: u8) -> Option<Self> {
        if index < PARTITIONS { Some(Self(index)) } else { None }
    }

    /// The partition's number, from 0.
    pub const fn index(self) -> u8 {
        self.0
    }

    /// Every partition, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The partition that counts a service: XXH3 of its name, for ever, since counts live where they were first put.
pub fn partition_of(service: &str) -> Partition {
    Partition((xxhash_rust::xxh3::xxh3_64(service.as_bytes()) % u64::from(PARTITIONS)) as u8)
}

/// `keelson.cmd.<worker>.<verb>`: asks `worker`, its one owner, to do something.
pub fn cmd(worker: &str, verb: &str) -> String {
    format!("keelson.cmd.{worker}.{verb}")
}

/// The subject of a command type.
pub fn command<C: crate::message::Command>() -> String {
    cmd(C::WORKER, C::VERB)
}

/// All commands of a worker.
pub fn cmds_of(worker: &str) -> String {
    format!("keelson.cmd.{worker}.>")
}

/// The worker and the verb of a command's subject.
pub fn parse_cmd(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("keelson.cmd.")?.split_once('.')
}

/// `keelson.evt.<worker>.<fact>`: something that `worker` saw or did, in the past tense.
pub fn evt(worker: &str, fact: &str) -> String {
    format!("keelson.evt.{worker}.{fact}")
}

/// `keelson.tel.<partition>`: telemetry batches.
pub fn tel(partition: Partition) -> String {
    format!("keelson.tel.{partition}")
}

/// `keelson.slice.<partition>`: what a range of telemetry added.
pub fn slice(partition: Partition) -> String {
    format!("keelson.slice.{partition}")
}

/// `keelson.qry.<worker>.<noun>`: request and reply.
pub fn qry(worker: &str, noun: &str) -> String {
    format!("keelson.qry.{worker}.{noun}")
}

/// `keelson.dlq.<stream>.<consumer>`: what a consumer could not take.
pub fn dlq(stream: &str, consumer: &str) -> String {
    format!("keelson.dlq.{stream}.{consumer}")
}

/// The stream and the consumer of a dead letter's subject.
pub fn parse_dlq(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("keelson.dlq.")?.split_once('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_stays_in_its_partition_for_ever() {
        let golden =
            [("", 2), ("content", 4), ("video", 4), ("analytics", 15), ("notification", 6), ("früh", 6)];
        for (service, partition) in golden {
            assert_eq!(partition_of(service).index(), partition, "{service}");
        }
    }

    #[test]
    fn partitions_are_bounded() {
        assert_eq!(Partition::all().count(), 16);
        assert_eq!(Partition::new(15).map(Partition::index), Some(15));
        assert_eq!(Partition::new(16), None);
    }

    #[test]
    fn subjects_have_their_identifiers_last() {
        let p = Partition::new(7).unwrap();
        assert_eq!(cmd("cdn", "purge"), "keelson.cmd.cdn.purge");
        assert_eq!(cmds_of("cdn"), "keelson.cmd.cdn.>");
        assert_eq!(evt("content", "changed"), "keelson.evt.content.changed");
        assert_eq!((tel(p).as_str(), slice(p).as_str()), ("keelson.tel.7", "keelson.slice.7"));
        assert_eq!(qry("metrics", "summary"), "keelson.qry.metrics.summary");
        assert_eq!(dlq("COMMANDS", "cdn"), "keelson.dlq.COMMANDS.cdn");
        assert_eq!(parse_dlq("keelson.dlq.COMMANDS.cdn"), Some(("COMMANDS", "cdn")));
        assert_eq!(parse_cmd("keelson.cmd.cdn.purge"), Some(("cdn", "purge")));
        assert_eq!(parse_cmd("keelson.evt.cdn.purged"), None);
    }
}
