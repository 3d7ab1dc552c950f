//! Payments under arbitrary schedules: see [`fuzz`](super::super::fuzz).

use offset_protocol::fuzz::Choices;
use proptest::prelude::*;

use super::super::fuzz::run;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn payments_end_once_and_balances_are_what_was_paid(
        mut bytes in prop::collection::vec(any::<u8>(), 300..1_000),
        hosts in 0..2u8,
    ) {
        bytes[0] = hosts * 2;
        run(&mut Choices::new(&bytes));
    }

    #[test]
    fn whatever_one_node_says_the_others_agree(
        mut bytes in prop::collection::vec(any::<u8>(), 300..1_000),
        hosts in 0..2u8,
    ) {
        bytes[0] = hosts * 2 + 1;
        run(&mut Choices::new(&bytes));
    }
}
