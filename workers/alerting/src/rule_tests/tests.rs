use super::*;

const RULES: &str = r#"
[[rules]]
name = "HighErrorRate"
signal = "error_ratio"
above = 0.05
window = "10s"
for = "5s"

[[rules]]
name = "SlowQueries"
signal = "slow_queries"
above = 10
window = "10s"

[[rules]]
name = "HighMemory"
signal = "memory_utilization"
above = 0.9
window = "10s"

[[rules]]
name = "Lag"
signal = "consumer_lag"
by = ["stream"]
above = 100
"#;

fn run(tests: &str) -> Result<Vec<TestOutcome>, Vec<RuleError>> {
    run_tests(&Source { name: "web.toml".into(), text: format!("{RULES}{tests}") })
}

#[test]
fn a_test_passes_when_what_it_expects_fires_and_nothing_else() {
    let outcomes = run(r#"
[[tests]]
name = "one in ten is too many, after five seconds"
[[tests.input]]
times = 20
service = "web"
count = 9
[[tests.input]]
times = 20
service = "web"
status = 503
[[tests.expect]]
at = "4s"
pending = ['HighErrorRate{service_name="web"}']
firing = []
[[tests.expect]]
at = "5s"
firing = ['HighErrorRate{service_name="web", severity=~"warn.*"}']
pending = []

[[tests]]
name = "all kinds of input"
[[tests.input]]
at = "1s"
namespace = "click.videos"
count = 20
slow = 11
duration_ms = 12.5
[[tests.input]]
at = "1s"
signal = "memory_utilization"
labels = { service_name = "web", instance = "web-1" }
value = 0.91
[[tests.input]]
at = "1s"
signal = "consumer_lag"
labels = { stream = "A,{B}" }
value = 101
[[tests.expect]]
at = "0s"
firing = []
[[tests.expect]]
at = "1s"
firing = ["SlowQueries", 'HighMemory{service_name="web",instance="web-1"}', 'Lag{stream="A,{B}"}']
"#)
    .unwrap();
    assert_eq!(outcomes.iter().map(|outcome| outcome.failures.as_slice()).collect::<Vec<_>>(), [[""; 0]; 2]);
    assert_eq!(
        (outcomes[0].name.as_str(), outcomes[0].line),
        ("one in ten is too many, after five seconds", 27)
    );
}

#[test]
fn a_test_fails_with_what_was_expected_and_what_was_found() {
    let outcomes = run(r#"
[[tests]]
name = "wrong"
[[tests.input]]
times = 20
status = 500
[[tests.expect]]
at = "2s"
firing = ["HighErrorRate"]
[[tests.expect]]
at = "8s"
firing = ["HighErrorRate", "HighMemory"]
[[tests.expect]]
at = "9s"
firing = []
"#)
    .unwrap();
    assert_eq!(
        outcomes[0].failures,
        [
            "at 2s: expected firing HighErrorRate; found nothing",
            "at 8s: expected firing HighErrorRate, HighMemory; found HighErrorRate{service_name=\"service\", severity=\"warning\"}",
            "at 9s: expected firing nothing; found HighErrorRate{service_name=\"service\", severity=\"warning\"}",
        ]
    );
}

#[test]
fn what_is_wrong_with_tests_is_told_with_its_line_together_with_the_rules() {
    let told = run(r#"
[[rules]]
name = "Bad"
signal = "nothing"
above = 1

[[tests]]
[[tests.input]]
at = "soon"
[[tests.input]]
stauts = 500
[[tests.input]]
signal = "error_ratio"
value = 1
[[tests.input]]
signal = "consumer_lag"
[[tests.input]]
status = 500
namespace = "x"
[[tests.input]]
count = 1
slow = 2
[[tests.expect]]
at = "1s"
[[tests.expect]]
firing = ["A{b"]
[[tests.expect]]
firing = ["A{b}"]
"#)
    .unwrap_err();
    let places: Vec<_> =
        told.iter().map(|error| (error.line.unwrap_or_default(), error.key.as_str())).collect();
    assert_eq!(
        places,
        [
            (29, "rules[4].signal"),
            (32, "tests[0].name"),
            (34, "tests[0].input[0].at"),
            (36, "tests[0].input[1].stauts"),
            (38, "tests[0].input[2].signal"),
            (40, "tests[0].input[3].value"),
            (42, "tests[0].input[4].route"),
            (47, "tests[0].input[5].slow"),
            (48, "tests[0].expect[0].firing"),
            (51, "tests[0].expect[1].firing"),
            (53, "tests[0].expect[2].firing"),
        ]
    );
}

#[test]
fn a_text_that_is_no_toml_is_told_once() {
    let told = run("[[").unwrap_err();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn the_shipped_rules_have_tests_of_their_own_that_pass() {
    let shipped = Source { name: "default".into(), text: include_str!("../rules/default.toml").into() };
    let outcomes = run_tests(&shipped).unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.failures.is_empty()), "{outcomes:#?}");
    assert_eq!(outcomes.len(), 13);
}
