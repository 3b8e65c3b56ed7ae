//! keelson-bus-config
