//! Randomness that can be had again: the seed is printed, and KEELSON_SEED sets it.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of this run, printed so that a failure can be reproduced.
pub fn seed() -> u64 {
    let set = std::env::var("KEELSON_SEED").ok();
    let seed = set.map_or_else(from_clock, |seed| seed.parse().expect("KEELSON_SEED is a whole number"));
    println!("seed {seed} (KEELSON_SEED={seed} runs this again)");
    seed
}

/// A generator of its own for each of several actors.
pub fn rng(seed: u64, actor: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ actor.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn from_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64 & 0xFFFF_FFFF
}
