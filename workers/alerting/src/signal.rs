//! The signals that rules can look at.
