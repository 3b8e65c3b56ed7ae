use keelson_schemas::limits::MAX_SAMPLES_PER_BATCH;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW_MS: u64 = 1_764_000_000_000;

fn decode_json(body: &str) -> Result<Batch, Refused> {
    decode(body.as_bytes(), Encoding::Json, NOW_MS)
}

/// The same value in both encodings: what is refused in one is refused in the other, by the same name.
fn decode_both(body: &Value) -> Result<Batch, Refused> {
    let as_json = decode_json(&body.to_string());
    let packed = rmp_serde::to_vec_named(body).expect("packs");
    let as_message_pack = decode(&packed, Encoding::MessagePack, NOW_MS);
    match (&as_json, &as_message_pack) {
        (Err(Refused::Invalid(json)), Err(Refused::Invalid(packed))) => assert_eq!(json.field, packed.field),
        _ => assert_eq!(as_json, as_message_pack),
    }
    as_json
}

fn good() -> Value {
    json!({"service":"content","instance":"content-1",
        "http":[{"ts":NOW_MS,"method":"GET","route":"/videos/:id","status":200,"duration_us":12_500},
                {"method":"BREW","route":"/pot","status":418}],
        "db":[{"ts":NOW_MS - 5,"system":"mongodb","namespace":"click.videos","operation":"find","duration_us":9_000}],
        "host":[{"cpu_utilization":0.42,"memory_used_bytes":1,"memory_total_bytes":2,
                 "filesystems":[{"mountpoint":"/","used_bytes":1,"total_bytes":2}]}]})
}

fn good_but(pointer: &str, value: Value) -> Value {
    let mut body = good();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let place = body.pointer_mut(parent).expect("the parent exists");
    match place {
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        _ => place[key] = value,
    }
    body
}

#[test]
fn a_good_body_becomes_a_batch() {
    let batch = decode_both(&good()).expect("accepted");
    assert_eq!((batch.len(), batch.check()), (4, Ok(())));
    assert_eq!(batch.base_ms, NOW_MS - 5);
    assert_eq!(batch.http.duration_us, [Some(12_500), None]);
    assert_eq!(batch.http.at_ms, [5, 5], "a request without a time happened when it arrived");
    assert_eq!(batch.http.series[1].method, "_OTHER");
    assert_eq!(batch.host[0].ts, NOW_MS);
}

#[test]
fn any_past_counts() {
    assert_eq!(decode_both(&good_but("/http/0/ts", json!(0))).expect("accepted").base_ms, 0);
    assert!(
        decode_both(&good_but("/http/0/ts", json!(NOW_MS + 300_000))).is_ok(),
        "five minutes ahead is the bound"
    );
}

#[test]
fn escaped_strings_are_read_too() {
    let batch =
        decode_json(r#"{"service":"caf\u00e9","http":[{"method":"GET","route":"\/a","status":200}]}"#);
    assert_eq!(batch.expect("accepted").http.series[0].route, "/a");
}

#[test]
fn a_field_that_is_wrong_is_named() {
    let long = json!("x".repeat(10_000));
    let cases = [
        ("/http/0/status", json!(99), "http[0].status"),
        ("/http/1/status", json!(1000), "http[1].status"),
        ("/http/1/status", json!(100_000), "http[1].status"),
        ("/http/0/status", json!("200"), "http[0].status"),
        ("/http/0/duration_us", json!(-1), "http[0].duration_us"),
        ("/http/0/duration_us", json!(1.5), "http[0].duration_us"),
        ("/http/0/duration_us", json!(86_400_000_001_u64), "http[0].duration_us"),
        ("/http/0/ts", json!(NOW_MS + 300_001), "http[0].ts"),
        ("/http/0/ts", json!(u64::MAX), "http[0].ts"),
        ("/http/0/ts", json!("yesterday"), "http[0].ts"),
        ("/http/0/method", json!(""), "http[0].method"),
        ("/http/0/method", long.clone(), "http[0].method"),
        ("/http/0/method", json!(null), "http[0].method"),
        ("/http/0/route", json!(""), "http[0].route"),
        ("/http/0/route", json!("/a\nb"), "http[0].route"),
        ("/http/1/route", long.clone(), "http[1].route"),
        ("/http/1", json!(7), "http[1]"),
        ("/http/1", json!({"method":"GET","route":"/"}), "http[1].status"),
        ("/http", json!({"a":1}), "http"),
        ("/http/0/duration_ms", json!(5), "http[0].duration_ms"),
        ("/service", json!(""), "service"),
        ("/service", json!(null), "service"),
        ("/service", long.clone(), "service"),
        ("/service", json!(["content"]), "service"),
        ("/instance", long.clone(), "instance"),
        ("/db/0/system", json!(""), "db[0].system"),
        ("/db/0/namespace", long.clone(), "db[0].namespace"),
        ("/db/0/operation", json!(""), "db[0].operation"),
        ("/db/0/duration_us", json!(-9), "db[0].duration_us"),
        ("/db/0/ts", json!(NOW_MS * 1000), "db[0].ts"),
        ("/host/0/ts", json!(NOW_MS * 2), "host[0].ts"),
        ("/host/0/cpu_utilization", json!(1.01), "host[0].cpu_utilization"),
        ("/host/0/memory_used_bytes", json!(3), "host[0].memory_used_bytes"),
        ("/host/0/filesystems/0/mountpoint", long, "host[0].filesystems[0].mountpoint"),
        ("/host/0/filesystems/0/used_bytes", json!(-1), "host[0].filesystems[0].used_bytes"),
        ("/colour", json!("red"), "colour"),
    ];
    for (pointer, value, field) in cases {
        match decode_both(&good_but(pointer, value.clone())) {
            Err(Refused::Invalid(invalid)) => {
                assert_eq!(invalid.field, field, "{pointer} = {value}: {invalid}");
                assert!(!invalid.reason.contains("u64"), "{invalid}");
            }
            other => panic!("{pointer} = {value}: {other:?}"),
        }
    }
}

#[test]
fn what_is_not_json_is_malformed() {
    let bodies = [
        "",
        "{",
        "nonsense",
        "{\"service\":\"a\",}",
        "{\"service\":\"a\"} x",
        "\u{feff}{}",
        "{\"service\":\"\\ud800\"}",
    ];
    for body in bodies {
        assert!(matches!(decode_json(body), Err(Refused::Malformed(_))), "{body:?}: {:?}", decode_json(body));
    }
    let not_utf8 = decode(b"{\"service\":\"\xff\"}", Encoding::Json, NOW_MS);
    assert!(matches!(not_utf8, Err(Refused::Malformed(_))), "{not_utf8:?}");
}

#[test]
fn what_is_not_message_pack_is_malformed() {
    let whole = rmp_serde::to_vec_named(&good()).expect("packs");
    let trailing = [whole.as_slice(), b"x"].concat();
    for body in [&b""[..], &[0xc1], &whole[..whole.len() / 2], &trailing] {
        let refused = decode(body, Encoding::MessagePack, NOW_MS);
        assert!(matches!(refused, Err(Refused::Malformed(_))), "{refused:?}");
    }
}

#[test]
fn a_batch_has_a_bound() {
    let row = json!({"method":"GET","route":"/","status":200});
    let body = json!({"service":"a","http":vec![row; MAX_SAMPLES_PER_BATCH + 1]});
    assert!(matches!(decode_both(&body), Err(Refused::TooMany(_))));
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let deep = "[".repeat(1_000_000);
    assert!(decode_json(&deep).is_err());
    assert!(decode_json(&format!("{{\"service\":{deep}")).is_err());
    assert!(decode(&[0x91; 1_000_000], Encoding::MessagePack, NOW_MS).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(&body, Encoding::Json, NOW_MS);
        let _ = decode(&body, Encoding::MessagePack, NOW_MS);
    }

    #[test]
    fn a_damaged_good_body_never_panics(at in 0_usize..300, byte: u8) {
        let mut body = good().to_string().into_bytes();
        let mut packed = rmp_serde::to_vec_named(&good()).expect("packs");
        let (i, j) = (at % body.len(), at % packed.len());
        body[i] = byte;
        packed[j] = byte;
        for decoded in [decode(&body, Encoding::Json, NOW_MS), decode(&packed, Encoding::MessagePack, NOW_MS)] {
            prop_assert!(decoded.map_or(Ok(()), |batch| batch.check()).is_ok(), "what is accepted passes the check of the workers");
        }
    }

    #[test]
    fn every_accepted_sample_is_in_the_batch(rows in proptest::collection::vec((0_u64..NOW_MS, "[A-Z]{1,6}", "/[a-z/:]{0,9}", 100_u16..600, proptest::option::of(0_u64..1_000_000)), 0..50)) {
        let http: Vec<Value> = rows.iter().map(|(ts, method, route, status, us)| json!({"ts":ts,"method":method,"route":route,"status":status,"duration_us":us})).collect();
        let batch = decode_both(&json!({"service":"a","http":http})).expect("accepted");
        let back: Vec<_> = batch.http.samples().map(|(index, at_ms, us)| {
            let series = &batch.http.series[index as usize];
            (batch.base_ms + at_ms, series.route.clone(), series.status, us)
        }).collect();
        let sent: Vec<_> = rows.into_iter().map(|(ts, _, route, status, us)| (ts, route, status, us)).collect();
        prop_assert_eq!(back, sent);
    }
}
