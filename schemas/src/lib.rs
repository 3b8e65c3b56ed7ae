//! keelson-schemas
