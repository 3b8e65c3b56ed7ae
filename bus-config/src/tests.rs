use super::*;

fn data() -> BusConfig {
    BusConfig::load().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_value_that_the_rules_of_the_bus_rest_on_is_there() {
    let data = data();
    let names: Vec<_> = data.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["TELEMETRY", "SLICES", "COMMANDS", "EVENTS", "DEAD_LETTERS", "ADVISORIES", "AUDIT"]);
    for never_forgets in ["TELEMETRY", "SLICES"] {
        let stream = data.stream(never_forgets).unwrap_or_else(|| panic!("{never_forgets}"));
        assert_eq!((stream.discard, stream.max_age_s), (Discard::New, 0), "{never_forgets}");
    }
    let telemetry_window = data.stream("TELEMETRY").map(|stream| stream.duplicate_window_s);
    assert_eq!(telemetry_window, Some(600));
}

#[test]
fn what_the_streams_reserve_fits_the_server() {
    let data = data();
    let streams = data.streams.iter().map(|stream| stream.max_bytes);
    let buckets = data.buckets.iter().map(|bucket| bucket.max_bytes);
    let reserved: u64 = streams.chain(buckets).sum();
    assert!(reserved <= setting("max_file_store"), "{reserved} is reserved");
}

#[test]
fn every_message_fits_the_payload_of_the_server() {
    let largest = data().streams.iter().filter_map(|stream| stream.max_message_bytes).max();
    assert!(largest.is_some_and(|bytes| u64::from(bytes) <= setting("max_payload")));
}

#[test]
fn sources_and_consumers_name_streams_that_come_before_them() {
    let data = data();
    for (place, stream) in data.streams.iter().enumerate() {
        for source in &stream.sources {
            assert!(data.streams[..place].iter().any(|before| before.name == *source), "{source}");
        }
        assert!(stream.subjects.is_empty() != stream.sources.is_empty(), "{}", stream.name);
    }
    for consumer in &data.consumers {
        assert!(data.stream(&consumer.stream).is_some(), "{}", consumer.name);
    }
}

#[test]
fn records_outlive_commands_and_dead_letters() {
    let data = data();
    let age = |stream: &str| data.stream(stream).map_or(u64::MAX, |stream| stream.max_age_s);
    let ttl = |bucket: &str| data.bucket(bucket).map_or(0, |bucket| bucket.ttl_s);
    assert!(ttl("operations") > age("COMMANDS").max(age("DEAD_LETTERS")));
    assert!(ttl("deliveries") >= age("COMMANDS"));
    assert!(age("ADVISORIES") >= age("COMMANDS"));
    assert!(age("AUDIT") > age("EVENTS").max(age("COMMANDS")));
}

#[test]
fn a_chunk_of_a_checkpoint_fits_its_bucket() {
    let fits = data().bucket("checkpoints").is_some_and(|bucket| bucket.max_value_bytes >= 512 * 1024);
    assert!(fits);
}

/// A number in nats-server.conf.
fn setting(name: &str) -> u64 {
    NATS_SERVER_CONF
        .lines()
        .find_map(|line| line.trim().strip_prefix(&format!("{name}: ")))
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{name} is not in nats-server.conf"))
}

#[test]
fn the_readme_names_everything_and_nothing_else() {
    let data = data();
    let readme = include_str!("../README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut named: Vec<&str> = rows.map(|(name, _)| name).collect();
    let streams = data.streams.iter().map(|stream| stream.name.as_str());
    let buckets = data.buckets.iter().map(|bucket| bucket.name.as_str());
    let consumers = data.consumers.iter().map(|consumer| consumer.name.as_str());
    let mut there: Vec<&str> = streams.chain(buckets).chain(consumers).collect();
    named.sort_unstable();
    there.sort_unstable();
    assert_eq!(named, there);
}
