use super::*;

fn draw(times: usize) -> Vec<bool> {
    (0..times).map(|_| buggify!("channel: resend more than was asked for", 500)).collect()
}

#[test]
fn a_site_strikes_only_when_armed_and_the_same_for_the_same_seed() {
    assert!(draw(100).iter().all(|strikes| !strikes));
    arm(7, Sites::All);
    let once = draw(100);
    arm(7, Sites::All);
    assert_eq!(once, draw(100));
    assert!(once.contains(&true) && once.contains(&false));
    arm(8, Sites::All);
    assert_ne!(once, draw(100));
    disarm();
    assert!(draw(100).iter().all(|strikes| !strikes));
}

#[test]
fn a_drawn_run_has_a_quarter_of_the_sites() {
    let on = |seed| {
        arm(seed, Sites::Drawn);
        (0..SITES.len()).filter(|site| site::strikes(*site, 1_000)).count()
    };
    let all: usize = (0..400).map(on).sum();
    let quarter = 100 * SITES.len();
    assert!(all > quarter / 2 && all < quarter * 2, "{all} of {}", 4 * quarter);
    disarm();
}

#[test]
fn a_mark_is_counted_and_taken() {
    let _ = take_marks();
    for number in 0..5 {
        sometimes!("channel: a batch crosses an unacknowledged one", number > 2);
    }
    const NAME: &str = "channel: a batch crosses an unacknowledged one";
    let of = |marks: &[(&str, u64)]| marks.iter().find(|(name, _)| *name == NAME).map(|(_, count)| *count);
    assert_eq!(of(&take_marks()), Some(2));
    assert_eq!(of(&take_marks()), Some(0));
}

#[test]
fn no_name_stands_twice() {
    for list in [MARKS, SITES] {
        let distinct: std::collections::BTreeSet<_> = list.iter().collect();
        assert_eq!(distinct.len(), list.len());
    }
}
