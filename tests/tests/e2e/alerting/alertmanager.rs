//! A real Alertmanager that Keelson feeds: it shows the alert under the same fingerprint, and tells its own receiver when it fires and resolves.

use keelson_tests::alerting::{SHORT_RULE, TOLD_WITHIN, alerts_when, is, rules_of};
use keelson_tests::alertmanager::Alertmanager;
use keelson_tests::keelson::Up;
use keelson_tests::place::Place;
use keelson_tests::service::Service;
use keelson_tests::webhook::Webhook;

#[tokio::test]
async fn alertmanager_shows_what_keelson_posts_and_its_resolution() {
    let hook = Webhook::start().await;
    let alertmanager = Alertmanager::start(&tells_at_once(&hook)).await;
    let feed = format!(
        "[[alerting.receivers]]\nname = \"alertmanager\"\nalertmanager_url = \"{}\"\n",
        alertmanager.url()
    );
    let up = Up::start_in(Place::new().configured(&(rules_of("short.toml") + &feed))).await;

    let web = Service::start_failing(&up.client(), "web");
    let there = alertmanager.alerts_when("one", TOLD_WITHIN, |alerts| alerts.len() == 1).await;
    let firing = |alert: &_| is(alert, SHORT_RULE, "web", "firing");
    let ours = alerts_when(&up.client(), "firing", |alerts| alerts.iter().any(firing)).await;
    assert_eq!(there[0]["fingerprint"], ours[0]["fingerprint"]);
    assert_eq!(
        (&there[0]["labels"], &there[0]["annotations"]),
        (&ours[0]["labels"], &ours[0]["annotations"])
    );
    assert_eq!(there[0]["status"]["state"], "active", "{:#}", there[0]);
    let told = hook.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;
    assert_eq!(Some(told.alerts()[0].fingerprint.as_str()), ours[0]["fingerprint"].as_str());

    web.recover();
    alertmanager.alerts_when("resolved", TOLD_WITHIN, <[_]>::is_empty).await;
    hook.told_of("resolved", SHORT_RULE, "web", TOLD_WITHIN).await;
    web.stop().await;
}

/// Its timing as shipped is measured elsewhere; here it need not be waited for.
fn tells_at_once(hook: &Webhook) -> String {
    format!(
        "route: {{receiver: hook, group_by: [alertname, service_name], group_wait: 0s, group_interval: 1s, repeat_interval: 4h}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}', send_resolved: true}}]}}]\n",
        hook.url()
    )
}
