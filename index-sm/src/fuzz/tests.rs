use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_server_survives_any_input(bytes in vec(any::<u8>(), 0..480)) {
        run_server(&mut Choices::new(&bytes));
    }

    #[test]
    fn a_client_survives_any_input_and_answers_every_request_once(bytes in vec(any::<u8>(), 0..480)) {
        run_client(&mut Choices::new(&bytes));
    }

    #[test]
    fn a_graph_and_its_routes_are_those_of_the_naive_ones(bytes in vec(any::<u8>(), 0..400)) {
        run_graph(&mut Choices::new(&bytes));
    }
}
