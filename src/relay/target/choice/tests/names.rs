//! The choice between targets some of which are names.

use super::*;

const DB: Destination = Destination::Name("db", 80);
const SECOND: Duration = Duration::from_secs(1);

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 80))
}

fn addresses(choice: &Choice) -> Vec<Destination> {
    choice.addresses().map(|state| state.address).collect()
}

/// Returns a choice between `db` and a backup at address 9.
fn choice() -> Choice {
    Choice::new([DB, address(9).into()])
}

#[test]
fn sessions_wait_for_the_address_of_a_name_until_its_lookup_fails() {
    let (mut choice, now) = (choice(), Instant::now());
    assert_eq!(choice.next(Tried::default(), now), Some(DB));
    choice.not_resolved(0);
    assert_eq!(choice.next(Tried::default(), now), Some(address(9).into()));
    assert_eq!(choice.next(Tried::default(), now + 100 * SECOND), Some(address(9).into()));
    // If the other target fails, an address may still come.
    let mut tried = Tried::default();
    choice.failed(address(9).into(), Failure::Refused, &mut tried, now);
    assert_eq!(choice.next(tried, now), Some(DB));
    choice.resolved(0, &[address(1)]);
    assert_eq!(choice.next(tried, now), Some(address(1).into()));
}

#[test]
fn an_expired_wait_sends_other_sessions_to_other_targets_first() {
    let (mut choice, now) = (choice(), Instant::now());
    let mut tried = Tried::default();
    choice.failed(DB, Failure::Expired, &mut tried, now);
    assert_eq!(choice.next(tried, now), Some(address(9).into()));
    assert_eq!(choice.next(Tried::default(), now), Some(address(9).into()));
}

#[test]
fn addresses_stand_in_the_place_of_their_name_and_known_ones_keep_their_state() {
    let (mut choice, now) = (choice(), Instant::now());
    choice.resolved(0, &[address(1), address(2)]);
    assert_eq!(addresses(&choice), [address(1), address(2), address(9)].map(Destination::from));
    let mut tried = Tried::default();
    choice.failed(address(1).into(), Failure::Refused, &mut tried, now);
    choice.resolved(0, &[address(3), address(1)]);
    assert_eq!(addresses(&choice), [address(3), address(1), address(9)].map(Destination::from));
    let db = &choice.targets()[0];
    assert_eq!((db.target, db.failures), (DB, [1, 0, 0, 0]));
    assert_eq!(db.addresses.iter().map(AddressState::is_resting).collect::<Vec<_>>(), [false, true]);
    assert!(!db.is_resting(), "one of its addresses is up");
    // A session that has tried 1 goes on to 3, and not to 1 again.
    assert_eq!(choice.next(tried, now), Some(address(3).into()));
    choice.failed(address(3).into(), Failure::Refused, &mut tried, now);
    assert_eq!(choice.next(tried, now), Some(address(9).into()));
    choice.not_resolved(0);
    let resting: Vec<_> = choice.addresses().map(AddressState::is_resting).collect();
    assert_eq!(resting, [true, true, false], "a failed lookup leaves known addresses as they are");
    // The failures stay counted when their address is gone.
    choice.resolved(0, &[address(4)]);
    assert_eq!(choice.targets()[0].failures, [2, 0, 0, 0]);
}

#[test]
fn an_address_that_a_name_gets_later_counts_as_untried() {
    let (mut choice, now) = (choice(), Instant::now());
    choice.resolved(0, &[address(1), address(2)]);
    let mut tried = Tried::default();
    for last in [1, 2, 9] {
        choice.failed(address(last).into(), Failure::Refused, &mut tried, now);
    }
    choice.resolved(0, &[address(3)]);
    assert_eq!(choice.next(tried, now), Some(address(3).into()));
}

#[test]
fn a_session_tries_an_address_that_two_names_have_once() {
    let mut choice = Choice::new([DB, Destination::Name("spare", 80)]);
    let now = Instant::now();
    choice.resolved(0, &[address(1)]);
    choice.resolved(1, &[address(1), address(2)]);
    let mut tried = Tried::default();
    choice.failed(address(1).into(), Failure::Refused, &mut tried, now);
    assert_eq!(choice.next(tried, now), Some(address(2).into()));
    choice.failed(address(2).into(), Failure::Refused, &mut tried, now);
    assert_eq!(choice.next(tried, now), None);
}

#[test]
fn a_name_is_spent_for_a_session_that_has_tried_all_of_its_addresses() {
    let (mut choice, now) = (choice(), Instant::now());
    choice.resolved(0, &[address(1), address(2)]);
    let mut tried = Tried::default();
    choice.failed(address(1).into(), Failure::Refused, &mut tried, now);
    assert_eq!(choice.is_spent(address(1).into(), tried), None);
    choice.failed(address(2).into(), Failure::Expired, &mut tried, now);
    assert_eq!(choice.is_spent(address(2).into(), tried), Some(0));
    assert_eq!(choice.is_spent(address(9).into(), tried), None);
    assert_eq!(choice.is_spent(address(7).into(), tried), None, "no target has it");
}

#[test]
fn every_address_of_eight_names_has_a_place_of_its_own_even_after_they_have_changed() {
    let names: Vec<_> = (0..8).map(|port| Destination::Name("db", port)).collect();
    let (mut choice, now) = (Choice::new(names), Instant::now());
    for round in 0..3_u8 {
        for index in 0..8_u8 {
            let addresses: Vec<_> =
                (0..8).map(|last| SocketAddr::from(([10, index, 0, last + 5 * round], 80))).collect();
            choice.resolved(usize::from(index), &addresses);
        }
        let mut tried = Tried::default();
        for _ in 0..64 {
            let target = choice.next(tried, now).unwrap();
            choice.failed(target, Failure::Own, &mut tried, now);
        }
        assert_eq!(choice.next(tried, now), None);
    }
}
