//! Owners that count, commit, die and come back, against a model that simply counts: whatever happens, every stored sample is in the slices once.
//!
//! The bus is a list of batches and a list of slices that takes a slice only behind the one it expects, as JetStream does. Two owners work at the same time, each
//! believing that it is the only one, so nothing here depends on a lease.

#![allow(clippy::expect_used)]

use keelson_metrics::delta::{Bounds, Delta};
use keelson_metrics::totals::Totals;
use keelson_schemas::slice::Slice;
use keelson_schemas::telemetry::{Batch, BatchBuilder};
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { http_series: 3, db_series: 3, instances: 3, slow_us: 100_000 };
const NOW_MS: u64 = 1_764_000_000_000;

#[derive(Clone, Debug)]
enum Op {
    /// A client's batch of so many samples of a route is stored.
    Store { route: u8, samples: u64 },
    /// An owner counts the next message.
    Count { owner: usize },
    /// An owner commits what it has counted; its answer may be lost.
    Commit { owner: usize, answer_lost: bool },
    /// An owner dies, and another one reads back what is committed.
    Die { owner: usize },
}

#[derive(Default)]
struct Bus {
    batches: Vec<Batch>,
    slices: Vec<Slice>,
}

#[derive(Default)]
struct Owner {
    totals: Totals,
    delta: Delta,
    counted: u64,
    expects: usize,
}

impl Bus {
    fn commit(&mut self, slice: Slice, expects: usize) -> bool {
        let takes = self.slices.len() == expects;
        if takes {
            self.slices.push(slice);
        }
        takes
    }
}

impl Owner {
    fn recover(bus: &Bus) -> Self {
        let mut owner = Self { expects: bus.slices.len(), ..Self::default() };
        for slice in &bus.slices {
            owner.totals.apply(slice).expect("the slices on the bus leave no gap");
        }
        owner.counted = owner.totals.through();
        owner
    }

    fn count(&mut self, bus: &Bus) {
        if let Some(batch) = bus.batches.get(self.counted as usize) {
            self.delta.add(&self.totals, &BOUNDS, &batch.service, batch.clone(), NOW_MS);
            self.counted += 1;
        }
    }

    /// Commits, or reads back if another owner came first or the answer was lost.
    fn commit(&mut self, bus: &mut Bus, answer_lost: bool) {
        if self.counted == self.totals.through() {
            return;
        }
        let slice = Slice {
            stream: 1,
            after: self.totals.through(),
            through: self.counted,
            services: self.delta.take(),
            ..Slice::default()
        };
        if bus.commit(slice.clone(), self.expects) && !answer_lost {
            self.expects += 1;
            assert_eq!(self.totals.apply(&slice), Ok(true));
        } else {
            *self = Self::recover(bus);
        }
    }

    fn samples(&self) -> u64 {
        let services = self.totals.export(0, 1).services;
        let told: u64 = services.iter().map(|service| service.tally.samples).sum();
        let counted: u64 =
            services.iter().flat_map(|service| &service.http).map(|total| total.requests).sum();
        assert_eq!(told, counted, "the tally is the sum of the series, the overflow among them");
        told
    }
}

fn batch(route: u8, samples: u64) -> Batch {
    let mut builder = BatchBuilder::default();
    for i in 0..samples {
        builder.http(NOW_MS + i, "GET", &format!("/{route}"), 200, Some(i));
    }
    builder.build("content".into(), "".into())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..6_u8, 1..5_u64).prop_map(|(route, samples)| Op::Store { route, samples }),
        4 => (0..2_usize).prop_map(|owner| Op::Count { owner }),
        2 => (0..2_usize, prop::bool::weighted(0.2)).prop_map(|(owner, answer_lost)| Op::Commit { owner, answer_lost }),
        1 => (0..2_usize).prop_map(|owner| Op::Die { owner }),
    ]
}

proptest! {
    #[test]
    fn every_stored_sample_is_in_the_slices_once(ops in prop::collection::vec(op(), 0..200)) {
        let (mut bus, mut owners, mut stored, mut shown) = (Bus::default(), [Owner::default(), Owner::default()], 0, 0);
        for op in ops {
            match op {
                Op::Store { route, samples } => {
                    stored += samples;
                    bus.batches.push(batch(route, samples));
                }
                Op::Count { owner } => owners[owner].count(&bus),
                Op::Commit { owner, answer_lost } => owners[owner].commit(&mut bus, answer_lost),
                Op::Die { owner } => owners[owner] = Owner::recover(&bus),
            }
            let committed = Owner::recover(&bus).samples();
            prop_assert!(committed >= shown && committed <= stored, "{shown} were shown, now {committed} of {stored}");
            shown = committed;
        }
        let mut last = Owner::recover(&bus);
        (0..bus.batches.len()).for_each(|_| last.count(&bus));
        last.commit(&mut bus, false);
        prop_assert_eq!(Owner::recover(&bus).samples(), stored);
    }
}
