use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::{Value, json};

use crate::fixture::{Fixture, header};

const TRACES: &str = "/v1/traces";

fn request(statuses: &[u16]) -> Value {
    let spans: Vec<Value> = statuses
        .iter()
        .enumerate()
        .map(|(i, status)| {
            json!({"traceId":"5b8efff798038103d269b633813fc60c","spanId":format!("eee19b7ec3c1b1{i:02x}"),"name":"GET /a","kind":2,
                "startTimeUnixNano":"1764000000000000000","endTimeUnixNano":"1764000000012500000","status":{},
                "attributes":[{"key":"http.request.method","value":{"stringValue":"GET"}},
                              {"key":"http.route","value":{"stringValue":"/a"}},
                              {"key":"http.response.status_code","value":{"intValue":status.to_string()}}]})
        })
        .collect();
    json!({"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"content"}}]},
        "scopeSpans":[{"spans":spans}]}]})
}

fn as_protobuf(request: &Value) -> Vec<u8> {
    let request: ExportTraceServiceRequest = serde_json::from_value(request.clone()).expect("a request");
    request.encode_to_vec()
}

#[tokio::test]
async fn spans_are_stored_and_a_retry_counts_once() {
    let fixture = Fixture::start().await;
    let request = request(&[200, 500]);
    for _ in 0..2 {
        let response = fixture
            .post(TRACES, "application/x-protobuf", as_protobuf(&request))
            .send()
            .await
            .expect("an answer");
        assert_eq!(
            (response.status().as_u16(), header(&response, "content-type")),
            (200, "application/x-protobuf")
        );
        let body = response.bytes().await.expect("a body");
        assert_eq!(ExportTraceServiceResponse::decode(body).expect("protobuf").partial_success, None);
    }
    let batches = fixture.batches().await;
    assert_eq!((batches.len(), batches[0].len()), (1, 2));
}

#[tokio::test]
async fn odd_spans_are_reported_and_the_others_stored() {
    let fixture = Fixture::start().await;
    let response = fixture.post_json(TRACES, &request(&[200, 99, 201])).send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["partialSuccess"]["rejectedSpans"], "1");
    assert_eq!(fixture.batches().await[0].len(), 2);
}

#[tokio::test]
async fn errors_are_a_status_in_the_requests_encoding_from_every_layer() {
    #[derive(Clone, PartialEq, Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
    }
    let fixture = Fixture::start().await;
    let protobuf = "application/x-protobuf";
    let cases = [
        (fixture.post(TRACES, protobuf, "\u{ff}"), 400, 3),
        (fixture.post(TRACES, protobuf, "x").bearer_auth("unknown"), 401, 16),
        (fixture.post(TRACES, protobuf, "x").header("content-encoding", "br"), 415, 3),
        (fixture.get(TRACES).header("content-type", protobuf), 405, 12),
    ];
    for (request, status, code) in cases {
        let response = request.send().await.expect("an answer");
        assert_eq!((response.status().as_u16(), header(&response, "content-type")), (status, protobuf));
        let said = Status::decode(response.bytes().await.expect("a body")).expect("protobuf");
        assert_eq!(said.code, code, "{}", said.message);
        assert!(!said.message.is_empty());
    }
    let response = fixture.post(TRACES, "application/json", "{").send().await.expect("an answer");
    assert_eq!(response.status(), 400);
    assert_eq!(response.json::<Value>().await.expect("JSON")["code"], 3);
    let response = fixture.post(TRACES, "text/html", "<p>").send().await.expect("an answer");
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (415, "application/json"));
}
