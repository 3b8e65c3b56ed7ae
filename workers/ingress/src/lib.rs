//! keelson-ingress
