//! The roles that this executable knows: one line each. A new worker is a new folder and a line here.

use keelson_alerting::Alerting;
use keelson_audit::Audit;
use keelson_backup::Backups;
use keelson_cdn::Cdn;
use keelson_ingress::Ingress;
use keelson_kit::role::AnyRole;
use keelson_kit::steward::Steward;
use keelson_metrics::Metrics;
use keelson_services::Services;

/// Every role, in the order of start.
pub static ROLES: &[&dyn AnyRole] =
    &[&Steward, &Metrics, &Alerting, &Cdn, &Backups, &Services, &Audit, &Ingress];
