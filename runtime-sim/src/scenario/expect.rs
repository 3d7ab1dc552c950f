//! What a scenario expects of its runs, besides that nothing is violated.

use super::field::{NEVER, show_time};
use super::{Scenario, fields};
use crate::result::Facts;

/// Each expectation that a run did not meet, as a sentence.
pub fn unmet(scenario: &Scenario, facts: &Facts) -> Vec<String> {
    let mut unmet = Vec::new();
    let payments = &facts.record.payments;
    let wanted = scenario.number(&fields::WANT_SUCCESS);
    let success = payments.success_per_mille().unwrap_or(0);
    if wanted > 0 && success < wanted {
        unmet.push(format!("{success} in a thousand payments were paid, {wanted} expected"));
    }
    let wanted = scenario.number(&fields::WANT_PAID);
    if payments.paid < wanted {
        unmet.push(format!("{} payments were paid, {wanted} expected", payments.paid));
    }
    let most = scenario.number(&fields::WANT_STUCK);
    if payments.open() > most {
        unmet.push(format!("{} payments have not ended, {most} expected at most", payments.open()));
    }
    let most = scenario.number(&fields::WANT_P99);
    let p99 = facts.record.latency_us.quantile(990);
    if most != NEVER && p99 > most {
        unmet.push(format!("99 of 100 payments took up to {} ms, {} expected at most", p99 / 1_000, show_time(most)));
    }
    let most = scenario.number(&fields::WANT_SETTLED);
    match facts.settled_after.map(|settled| settled.as_micros()) {
        Some(settled) if settled > most => {
            unmet.push(format!("it took {} ms to settle, {} expected at most", settled / 1_000, show_time(most)));
        }
        Some(_) => {}
        None if most != NEVER => unmet.push("it did not settle".to_owned()),
        None => {}
    }
    let most = scenario.number(&fields::WANT_FROZEN);
    if let Some(hit) = facts.record.hardest_hit.filter(|hit| hit.frozen_per_mille > most) {
        let has = hit.frozen_per_mille;
        unmet.push(format!(
            "cheaters froze {has} in a thousand of the room of node {}, {most} expected at most",
            hit.node
        ));
    }
    for mark in scenario.words(&fields::WANT_MARKS) {
        if facts.record.marks.get(&mark).is_none_or(|times| *times == 0) {
            unmet.push(format!("the state {mark:?} was not reached"));
        }
    }
    unmet
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::result::{End, Ended, Recorder, Verdict};
    use crate::scenario::draw;
    use offset_protocol::machine::{Duration, Instant};

    #[test]
    fn what_is_not_met_is_told_and_what_is_met_is_not() {
        let text = "[expect]\nsuccess_per_mille = 600\npaid = 2\np99_latency = \"1s\"\nsettled_within = \"9s\"\nmarks = [\"x\"]\n";
        let scenario = Scenario::parse("test", text, Path::new("."), &[]).unwrap();
        let case = draw(&scenario, 1).unwrap();
        let mut facts = Facts::new(&case, Verdict::Pass);
        assert_eq!(unmet(&scenario, &facts).len(), 4, "{:?}", unmet(&scenario, &facts));
        let mut recorder = Recorder::default();
        for n in 0..3 {
            recorder.order(Instant::ZERO);
            let end = if n < 2 { End::Paid } else { End::Failed("no".to_owned()) };
            let ended = Ended { latency: Duration::from_millis(800), attempts: 1, hops: 1, fee: 0, end };
            recorder.ended(Instant::ZERO, ended);
        }
        recorder.marks(vec![("x", 1)]);
        facts.record = recorder.clone().finish();
        facts.settled_after = Some(Duration::from_secs(8));
        assert_eq!(unmet(&scenario, &facts), Vec::<String>::new());
        recorder.order(Instant::ZERO);
        facts.record = recorder.finish();
        facts.settled_after = Some(Duration::from_secs(10));
        let told = unmet(&scenario, &facts);
        assert_eq!(
            told,
            ["1 payments have not ended, 0 expected at most", "it took 10000 ms to settle, 9s expected at most"]
        );
    }
}
