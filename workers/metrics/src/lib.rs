//! m
mod delta;
mod totals;
mod windows;
