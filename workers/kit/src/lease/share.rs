//! How many of a group's leases are one member's fair share. Pure.

/// At most this many, so that all members together can hold every lease.
pub(super) fn fair_share(leases: usize, members: usize) -> usize {
    leases.div_ceil(members.max(1))
}

/// In which order a member looks for free leases: each starts elsewhere, so that members who start together do not
/// all reach for the same one.
pub(super) fn order(leases: usize, member: &str) -> impl Iterator<Item = usize> {
    let start = start(leases, member);
    (0..leases).map(move |step| (start + step) % leases)
}

fn start(leases: usize, member: &str) -> usize {
    let hash = blake3::hash(member.as_bytes());
    let number =
        hash.as_bytes().iter().take(4).fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
    number % leases.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_at_least_everything() {
        let cases = [(16, 1, 16), (16, 2, 8), (16, 3, 6), (16, 16, 1), (16, 20, 1), (1, 2, 1), (16, 0, 16)];
        for (leases, members, share) in cases {
            assert_eq!(fair_share(leases, members), share, "{leases} over {members}");
            assert!(share * members.max(1) >= leases);
        }
    }

    #[test]
    fn every_member_looks_at_every_lease_once() {
        let mut order: Vec<usize> = order(16, "somebody").collect();
        order.sort_unstable();
        assert!(order.into_iter().eq(0..16));
    }
}
