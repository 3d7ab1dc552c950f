//! Any schedule of speaking, delivering, breaking links and crashing: nothing is lost, nothing is created, all comes to rest.

use offset_protocol::fuzz::Choices;
use proptest::prelude::*;

use super::super::schedule::{Action, Disputes, play};
use super::*;

fn actions(disputes: Disputes, crashes: u32) -> impl Strategy<Value = Vec<Action>> {
    let who = 0..2usize;
    let end = prop_oneof![
        40 => Just(End::Speaks),
        crashes => Just(End::CrashesBeforePersist),
        crashes => Just(End::CrashesAfterPersist),
    ];
    let action = prop_oneof![
        20 => (who.clone(), 0..3usize, 1..60u128, any::<bool>())
            .prop_map(|(who, currency, amount, hop)| Action::Ask { who, currency, amount, hop }),
        20 => (who.clone(), any::<usize>(), 0..8u8).prop_map(|(who, pick, how)| Action::Answer { who, pick, how }),
        8 => (who.clone(), any::<usize>(), any::<bool>())
            .prop_map(|(who, pick, commits)| Action::Follow { who, pick, commits }),
        40 => (who.clone(), end).prop_map(|(who, end)| Action::Round { who, end }),
        40 => (who.clone(), 1..5usize).prop_map(|(to, count)| Action::Deliver { to, count }),
        3 => (who.clone(), any::<usize>()).prop_map(|(to, pick)| Action::Again { to, pick }),
        3 => Just(Action::Unlink),
        9 => Just(Action::Link),
        6 => (who.clone(), 0..3usize, 0..6u8, 0..200u128)
            .prop_map(|(who, currency, how, limit)| Action::Configure { who, currency, how, limit }),
        2 => (who.clone(), any::<u8>()).prop_map(|(who, number)| Action::Relays { who, number }),
        10 => (1..80u64).prop_map(|ms| Action::Wait { ms }),
        2 => who.clone().prop_map(move |who| match disputes {
            Disputes::Sometimes => Action::Forge { who },
            Disputes::Never => Action::Link,
        }),
        2 => (who.clone(), any::<bool>()).prop_map(move |(who, restores)| match (disputes, restores) {
            (Disputes::Sometimes, true) => Action::Restore { who },
            (Disputes::Sometimes, false) => Action::Backup { who },
            (Disputes::Never, _) => Action::Link,
        }),
        6 => who.prop_map(|who| Action::Accept { who }),
    ];
    prop::collection::vec(action, 1..160)
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let mut config =
        ProptestConfig { failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 150;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn honest_friends_never_disagree_whatever_breaks(actions in actions(Disputes::Never, 2)) {
        play(actions, 0);
    }

    #[test]
    fn friends_agree_again_after_any_dispute(actions in actions(Disputes::Sometimes, 2), accepts in 0..4usize) {
        play(actions, accepts);
    }

    #[test]
    fn friends_survive_whatever_bytes_decide(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        fuzz::run(&mut Choices::new(&bytes));
    }
}
