//! Operations and faults are dropped: families first, then ever smaller parts, what begins something with what ends it.

use offset_protocol::machine::Duration;

use super::Search;
use crate::case::{Case, Operation, Setting};
use crate::faults::{FAMILIES, Fault, QUIET_FLUSH, QUIET_TURN};

/// An operation or a fault, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Operation(usize),
    Fault(usize),
}

/// What goes together.
type Unit = Vec<Step>;

impl Search<'_, '_, '_> {
    pub(super) fn drop_families(&mut self) {
        self.change(|case| case.faults.clear());
        for family in FAMILIES {
            self.change(|case| case.faults.retain(|timed| timed.what.family() != family));
        }
        self.change(|case| case.operations.clear());
        self.change(|case| case.operations.retain(|timed| !matches!(timed.what, Operation::Configure { .. })));
        self.change(|case| case.operations.retain(|timed| matches!(timed.what, Operation::Configure { .. })));
    }

    /// Delta debugging (Zeller, Hildebrandt 2002), of complements only: a failure needs few of its many steps.
    pub(super) fn drop_steps(&mut self) {
        let mut size = units(&self.best).len().div_ceil(2);
        while size >= 1 && !self.is_over {
            // From the end: what is late has fewer consequences.
            let mut end = units(&self.best).len();
            while end > 0 && !self.is_over {
                let start = end.saturating_sub(size);
                let dropped: Vec<Step> = units(&self.best)[start..end].concat();
                self.change(|case| remove(case, &dropped));
                end = start.min(units(&self.best).len());
            }
            if size == 1 {
                break;
            }
            size = size.div_ceil(2);
        }
        self.drop_ends();
    }

    /// What ends a fault need not be there: healing ends it as well.
    fn drop_ends(&mut self) {
        for index in (0..self.best.faults.len()).rev() {
            if self.best.faults.get(index).is_some_and(|timed| is_end(&timed.what)) {
                self.change(|case| drop(case.faults.remove(index)));
            }
        }
    }
}

/// All steps, in units.
fn units(case: &Case) -> Vec<Unit> {
    let mut units: Vec<(u64, Unit)> = Vec::new();
    let mut taken = vec![false; case.operations.len()];
    for (index, timed) in case.operations.iter().enumerate() {
        if taken[index] {
            continue;
        }
        let later = case.operations.iter().enumerate().skip(index + 1);
        let end = later.filter(|(at, _)| !taken[*at]).find(|(_, other)| reopens(&timed.what, &other.what));
        let mut unit = vec![Step::Operation(index)];
        if let Some((at, _)) = end {
            taken[at] = true;
            unit.push(Step::Operation(at));
        }
        units.push((timed.at.as_micros(), unit));
    }
    let mut taken = vec![false; case.faults.len()];
    for (index, timed) in case.faults.iter().enumerate() {
        if taken[index] {
            continue;
        }
        let later = case.faults.iter().enumerate().skip(index + 1);
        let end = later.filter(|(at, _)| !taken[*at]).find(|(_, other)| ends(&timed.what, &other.what));
        let mut unit = vec![Step::Fault(index)];
        if let Some((at, _)) = end {
            taken[at] = true;
            unit.push(Step::Fault(at));
        }
        units.push((timed.at.as_micros(), unit));
    }
    units.sort_by_key(|(at, _)| *at);
    units.into_iter().map(|(_, unit)| unit).collect()
}

fn remove(case: &mut Case, steps: &[Step]) {
    let mut index = 0;
    case.operations.retain(|_| {
        index += 1;
        !steps.contains(&Step::Operation(index - 1))
    });
    let mut index = 0;
    case.faults.retain(|_| {
        index += 1;
        !steps.contains(&Step::Fault(index - 1))
    });
}

/// Whether the later operation undoes what the earlier one shut.
pub(super) fn reopens(shut: &Operation, open: &Operation) -> bool {
    let (Operation::Configure { node, setting }, Operation::Configure { node: same, setting: undo }) = (shut, open)
    else {
        return false;
    };
    let matches = match (setting, undo) {
        (Setting::Close { friend, currency }, Setting::Open { friend: other, currency: also }) => {
            (friend, currency) == (other, also)
        }
        (Setting::Disable { friend }, Setting::Enable { friend: other }) => friend == other,
        _ => false,
    };
    node == same && matches
}

/// Whether the later fault ends what the earlier one began, or makes no sense without it.
fn ends(begin: &Fault, end: &Fault) -> bool {
    match (begin, end) {
        (Fault::Cut { name, .. }, Fault::Heal { name: other }) => name == other,
        (Fault::Clog { host, .. }, Fault::Clog { host: other, .. })
        | (Fault::Disk { host, .. }, Fault::Disk { host: other, .. })
        | (Fault::Pace { host, .. }, Fault::Pace { host: other, .. }) => host == other && is_end(end) && !is_end(begin),
        (Fault::Connect { .. }, Fault::Connect { .. }) => is_end(end) && !is_end(begin),
        (Fault::Copy { host }, Fault::PutBack { host: other, .. }) => host == other,
        _ => false,
    }
}

/// Whether a fault does nothing but end another one.
fn is_end(fault: &Fault) -> bool {
    match fault {
        Fault::Heal { .. } => true,
        Fault::Clog { extra, .. } => *extra == Duration::ZERO,
        Fault::Connect { refused_per_mille, hanging_per_mille } => (*refused_per_mille, *hanging_per_mille) == (0, 0),
        Fault::Disk { flush, .. } => *flush == QUIET_FLUSH,
        Fault::Pace { turn, .. } => *turn == QUIET_TURN,
        Fault::Reset { .. }
        | Fault::Swallow { .. }
        | Fault::Cut { .. }
        | Fault::Crash { .. }
        | Fault::Trap { .. }
        | Fault::Pause { .. }
        | Fault::Wall { .. }
        | Fault::Stop { .. }
        | Fault::DiskFails { .. }
        | Fault::Roam { .. }
        | Fault::Leave { .. }
        | Fault::Copy { .. }
        | Fault::PutBack { .. }
        | Fault::Wipe { .. } => false,
    }
}
