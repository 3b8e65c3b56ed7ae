//! keelson-kit
