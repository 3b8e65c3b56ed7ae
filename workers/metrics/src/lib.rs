//! keelson-metrics
