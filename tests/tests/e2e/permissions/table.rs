//! Role × subject × publish or subscribe: who may, and that all others may not.

use keelson_tests::nats::{NatsServer, users};

/// A subject, and who may publish there.
const PUBLISH: &[(&str, &[&str])] = &[
    // What is told and commanded.
    ("keelson.tel.4", &["ingress", "metrics", "steward", "application"]),
    ("keelson.slice.4", &["metrics"]),
    ("keelson.cmd.cdn.purge", &["ingress", "steward", "operator"]),
    ("keelson.cmd.backup.backup", &["ingress", "backup", "steward", "operator"]),
    ("keelson.cmd.backup.restore", &["ingress", "steward", "operator"]),
    ("keelson.cmd.backup.test", &["ingress", "backup", "steward", "operator"]),
    ("keelson.cmd.steward.redrive", &["ingress", "steward", "operator"]),
    ("keelson.evt.content.changed", &["steward", "operator", "application"]),
    ("keelson.evt.content.removed", &["steward"]),
    ("keelson.evt.alerting.fired", &["alerting", "steward"]),
    ("keelson.evt.notifier.signals", &["alerting", "steward"]),
    ("keelson.evt.cdn.requested", &["cdn", "steward"]),
    ("keelson.evt.cdn.verified.0a1b", &["cdn", "steward"]),
    ("keelson.evt.backup.deleted", &["backup", "steward"]),
    ("keelson.evt.services.down", &["services", "steward"]),
    ("keelson.evt.audit.sealed", &["audit", "steward"]),
    ("keelson.dlq.COMMANDS.cdn", &["cdn", "steward"]),
    ("keelson.dlq.TELEMETRY.metrics", &["metrics", "steward"]),
    ("keelson.qry.metrics.export.0", &["ingress", "operator"]),
    ("keelson.qry.cdn.status", &["ingress", "operator", "cdn"]),
    ("keelson.qry.alerting.reload", &["ingress", "operator", "alerting"]),
    ("keelson.qry.services.call", &["ingress", "operator"]),
    ("$SRV.PING", &["operator"]),
    ("$SRV.PING.search", &["operator", "services"]),
    ("$SRV.INFO", &["operator", "services"]),
    ("$SRV.STATS", &["operator"]),
    // Buckets.
    ("$KV.leases.metrics.partition.0", &["metrics"]),
    ("$KV.leases.alerting.evaluator", &["alerting"]),
    ("$KV.leases.backup.desk", &["backup"]),
    ("$KV.leases.services.shard.0", &["services"]),
    ("$KV.leases.audit.sealer", &["audit"]),
    ("$KV.checkpoints.audit.sealer.head", &["audit"]),
    ("$KV.checkpoints.metrics.0.head", &["metrics"]),
    ("$KV.checkpoints.cdn.varnish.head", &["cdn"]),
    ("$KV.operations.0a1b", &["ingress", "alerting", "cdn", "backup", "services", "steward"]),
    ("$KV.deliveries.COMMANDS.cdn.1.1", &["cdn"]),
    ("$KV.deliveries.COMMANDS.services.1.1", &["services"]),
    ("$KV.alerts.group.0a1b", &["alerting"]),
    ("$KV.silences.0a1b", &["alerting"]),
    ("$KV.backups.backup.0a1b", &["backup"]),
    ("$KV.purges.call.cloudfront.1.0a1b", &["cdn"]),
    ("$KV.services.service.content", &["services"]),
    ("$KV.breakers.content.service", &["services"]),
    ("$KV.registers.services", &["metrics"]),
    ("$KV.topology.shards", &[]),
    // JetStream: the bus itself.
    ("$JS.API.STREAM.CREATE.MINE", &["admin"]),
    ("$JS.API.STREAM.UPDATE.AUDIT", &["admin"]),
    ("$JS.API.STREAM.DELETE.AUDIT", &["admin"]),
    ("$JS.API.STREAM.PURGE.AUDIT", &["admin"]),
    ("$JS.API.STREAM.PURGE.COMMANDS", &["admin"]),
    ("$JS.API.STREAM.PURGE.EVENTS", &["admin"]),
    ("$JS.API.STREAM.PURGE.KV_operations", &["admin"]),
    ("$JS.API.STREAM.PURGE.KV_backups", &["admin"]),
    ("$JS.API.STREAM.PURGE.TELEMETRY", &["admin", "metrics"]),
    ("$JS.API.STREAM.PURGE.SLICES", &["admin", "metrics"]),
    ("$JS.API.STREAM.PURGE.KV_alerts", &["admin", "alerting"]),
    ("$JS.API.STREAM.PURGE.KV_purges", &["admin", "cdn"]),
    ("$JS.API.STREAM.PURGE.KV_services", &["admin"]),
    ("$JS.API.STREAM.PURGE.KV_breakers", &["admin"]),
    ("$JS.API.STREAM.MSG.DELETE.AUDIT", &["admin"]),
    ("$JS.API.STREAM.MSG.DELETE.EVENTS", &["admin"]),
    ("$JS.API.CONSUMER.DELETE.COMMANDS.cdn", &["admin"]),
    ("$JS.API.CONSUMER.DURABLE.CREATE.COMMANDS.mine", &["admin"]),
    // JetStream: reading.
    ("$JS.API.CONSUMER.CREATE.COMMANDS.cdn.keelson.cmd.cdn.>", &["admin", "cdn"]),
    ("$JS.API.CONSUMER.CREATE.COMMANDS.cdn.keelson.cmd.backup.>", &["admin"]),
    ("$JS.API.CONSUMER.CREATE.COMMANDS.cdn", &["admin"]),
    ("$JS.API.CONSUMER.CREATE.COMMANDS.mine", &["admin"]),
    ("$JS.API.CONSUMER.MSG.NEXT.COMMANDS.cdn", &["admin", "cdn"]),
    ("$JS.API.CONSUMER.MSG.NEXT.COMMANDS.backup", &["admin", "backup"]),
    ("$JS.ACK.COMMANDS.cdn.1.1.1.1.0", &["cdn"]),
    ("$JS.ACK.COMMANDS.steward.1.1.1.1.0", &["steward"]),
    ("$JS.API.CONSUMER.CREATE.TELEMETRY.follow-1.keelson.tel.4", &["admin", "metrics"]),
    ("$JS.API.CONSUMER.CREATE.SLICES.follow-1.keelson.slice.*", &["admin", "metrics", "alerting"]),
    ("$JS.API.CONSUMER.CREATE.EVENTS.follow-1.>", &["admin", "operator"]),
    ("$JS.API.CONSUMER.CREATE.AUDIT.follow-1", &["admin", "operator"]),
    ("$JS.API.CONSUMER.CREATE.AUDIT.follow-1.>", &["admin", "ingress", "audit", "operator"]),
    ("$JS.API.CONSUMER.CREATE.KV_operations.follow-1.$KV.operations.>", &["admin", "ingress", "steward"]),
    ("$JS.API.CONSUMER.CREATE.KV_purges.follow-1.$KV.purges.call.>", &["admin", "cdn"]),
    ("$JS.API.CONSUMER.CREATE.KV_breakers.follow-1.$KV.breakers.>", &["admin", "services"]),
    ("$JS.API.STREAM.MSG.GET.AUDIT", &["admin", "operator"]),
    (
        "$JS.API.STREAM.MSG.GET.KV_operations",
        &["admin", "ingress", "alerting", "cdn", "backup", "services", "steward", "operator"],
    ),
    ("$JS.API.DIRECT.GET.AUDIT", &["admin", "operator"]),
    ("JS.KEELSON.API.DIRECT.GET.AUDIT", &["auditor"]),
    ("JS.KEELSON.API.DIRECT.GET.KV_operations", &[]),
    ("JS.KEELSON.API.STREAM.INFO.AUDIT", &["auditor"]),
    (
        "$JS.API.STREAM.INFO.AUDIT",
        &[
            "admin", "ingress", "metrics", "alerting", "cdn", "backup", "services", "audit", "steward",
            "operator",
        ],
    ),
    // What is nobody's.
    ("$SYS.REQ.SERVER.PING", &[]),
    ("_INBOX.somebody", &[]),
    ("_INBOX_admin.1", &[]),
    ("_INBOX_application.1", &[]),
    // Where workers answer.
    ("_INBOX_operator.1", &["metrics", "alerting", "cdn", "backup", "services", "audit", "steward"]),
    ("_INBOX_ingress.1", &["metrics", "alerting", "cdn", "backup", "services", "audit", "steward"]),
    ("_INBOX_metrics.1", &["metrics"]),
    ("_INBOX_alerting.1", &["alerting"]),
    ("_INBOX_cdn.1", &["cdn"]),
    ("_INBOX_backup.1", &["backup"]),
    ("_INBOX_services.1", &["services"]),
    ("_INBOX_services.1.found", &["metrics", "alerting", "cdn", "backup", "services", "audit", "steward"]),
    ("_INBOX_audit.1", &["audit"]),
    ("_INBOX_steward.1", &["steward"]),
    ("anything", &[]),
];

/// A subject, and who may subscribe to it.
const SUBSCRIBE: &[(&str, &[&str])] = &[
    (">", &[]),
    ("*.>", &[]),
    ("_INBOX.>", &[]),
    ("keelson.>", &[]),
    ("keelson.tel.*", &[]),
    ("keelson.slice.*", &[]),
    ("keelson.cmd.>", &["operator"]),
    ("keelson.cmd.cdn.purge", &["operator"]),
    ("keelson.evt.>", &["operator"]),
    ("keelson.evt.content.changed", &["operator"]),
    ("keelson.dlq.>", &["operator"]),
    ("keelson.qry.>", &[]),
    ("keelson.qry.metrics.export.0", &["metrics"]),
    ("keelson.qry.alerting.alerts", &["alerting"]),
    ("keelson.qry.cdn.status", &["cdn"]),
    ("keelson.qry.backup.backups", &["backup"]),
    ("keelson.qry.services.call", &["services"]),
    ("keelson.qry.audit.status", &["audit"]),
    ("$SRV.PING", &["metrics", "alerting", "cdn", "backup", "services", "audit", "steward"]),
    ("$SRV.PING.keelson-cdn", &["cdn"]),
    ("$KV.>", &[]),
    ("$KV.operations.0a1b", &[]),
    ("$JS.API.>", &[]),
    ("$JS.ACK.>", &[]),
    ("$JS.EVENT.ADVISORY.>", &[]),
    ("$SYS.>", &[]),
];

#[tokio::test]
async fn each_user_may_what_is_written_here_and_nothing_else() {
    let nats = NatsServer::start_secured().await;
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for user in users() {
        // Bodies that mean nothing, and no place for an answer: what is allowed has no effect.
        let mut wire = nats.wire(&user).await;
        for (subject, who) in PUBLISH {
            let said = wire.publish(subject, "", b"?").await;
            wrong.extend(finding(&user, "publish", subject, who, said));
        }
        for (subject, who) in SUBSCRIBE {
            let said = wire.subscribe(subject).await;
            wrong.extend(finding(&user, "subscribe", subject, who, said));
        }
        for other in users() {
            let subject = format!("_INBOX_{other}.>");
            let said = wire.subscribe(&subject).await;
            wrong.extend(finding(&user, "subscribe", &subject, &[&other], said));
        }
        tried += PUBLISH.len() + SUBSCRIBE.len() + users().len();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{tried} tries of {} users", users().len());
}

fn finding(user: &str, what: &str, subject: &str, who: &[&str], said: Result<(), String>) -> Option<String> {
    match (who.contains(&user), said) {
        (true, Err(error)) => Some(format!("{user} may not {what} {subject}: {error}")),
        (false, Ok(())) => Some(format!("{user} may {what} {subject}")),
        (false, Err(error)) if !error.contains("Permissions Violation") => {
            Some(format!("{user} {what} {subject}: {error}"))
        }
        _ => None,
    }
}
