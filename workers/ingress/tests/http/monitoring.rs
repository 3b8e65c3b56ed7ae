use keelson_kit::query::Queries;
use keelson_schemas::message::Message;
use keelson_schemas::subject::Partition;
use keelson_schemas::totals::{PartitionSummary, PartitionTotals, ServiceTotals};
use serde_json::{Value, json};

use crate::fixture::{Fixture, header, problem};

const PROMETHEUS: &str = "/api/monitoring/prometheus";
const METRICS: &str = "/api/monitoring/metrics";

/// Answers for partitions as their owners would; partition 4 knows the example service.
async fn answer_for(fixture: &Fixture, partitions: impl Iterator<Item = Partition>) {
    let queries = partitions.fold(Queries::of("metrics"), |queries, partition| {
        queries
            .exclusive(
                format!("export.{partition}"),
                move |(): ()| async move { Ok(Some(totals(partition))) },
            )
            .exclusive(format!("summary.{partition}"), move |(): ()| async move {
                let windows = Some(Default::default());
                Ok(Some(PartitionSummary { windows, total: totals(partition) }))
            })
    });
    fixture.context().answer(queries).await.expect("can be asked");
}

fn totals(partition: Partition) -> PartitionTotals {
    let services = if partition.index() == 4 { vec![ServiceTotals::example()] } else { Vec::new() };
    PartitionTotals { partition: partition.index(), services, ..PartitionTotals::default() }
}

#[tokio::test]
async fn prometheus_gets_the_form_that_it_asks_for() {
    let fixture = Fixture::start().await;
    answer_for(&fixture, Partition::all()).await;
    let protobuf =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let cases = [
        ("", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text"),
        (protobuf, "application/vnd.google.protobuf"),
    ];
    for (accept, content_type) in cases {
        let response = fixture.get(PROMETHEUS).header("accept", accept).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert!(header(&response, "content-type").starts_with(content_type), "{accept}");
        let page = response.bytes().await.expect("a page");
        assert!(page.windows(26).any(|bytes| bytes == b"http_server_requests_total"), "{accept}");
    }
}

#[tokio::test]
async fn the_summary_is_for_admins_and_says_what_it_knows() {
    let fixture = Fixture::start().await;
    answer_for(&fixture, Partition::all()).await;
    assert_eq!(problem(fixture.get(METRICS)).await.0, 401);
    let response = fixture.get(METRICS).bearer_auth("t-admin").send().await.expect("an answer");
    let shown: Value = response.json().await.expect("JSON");
    assert_eq!(shown["windows"]["lastMinute"]["requests"]["errorRate"], Value::Null);
    let total: u64 = ServiceTotals::example().http.iter().map(|total| total.requests).sum();
    assert_eq!(shown["requests"]["total"], total);
}

#[tokio::test]
async fn one_partition_that_is_missing_makes_no_answer() {
    let fixture = Fixture::start().await;
    let said = problem(fixture.get(PROMETHEUS)).await;
    assert_eq!((said.0, &said.1["type"]), (503, &json!("urn:keelson:problem:no-answer")));
    answer_for(&fixture, Partition::all().skip(1)).await;
    let (status, said) = problem(fixture.get(PROMETHEUS)).await;
    assert_eq!(status, 503);
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("partition 0")), "{said}");
    answer_for(&fixture, Partition::all().take(1)).await;
    assert_eq!(fixture.get(PROMETHEUS).send().await.expect("an answer").status(), 200);
}
