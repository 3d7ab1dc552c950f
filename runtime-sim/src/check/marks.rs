//! States that are rare but legal only where there is a reason for them (I13, I15, I18): a run without that reason may not
//! reach them, whatever else happens in it.
//!
//! Not looked at: runs that end early, and programs that are built without the marks.

/// What a state needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Somebody cheats.
    Cheater,
    /// A node has forgotten something: its disk was lost, or an old copy put back.
    Forgetful,
}

const NEEDS: &[(&str, Reason)] = &[
    ("links: a tunnel carries what its other end did not seal", Reason::Cheater),
    ("index client: versions of an old copy are skipped", Reason::Forgetful),
];

/// What a run may have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reasons {
    /// Whether somebody cheats.
    pub cheaters: bool,
    /// Whether a node has forgotten something.
    pub forgetful: bool,
}

/// The first mark that was reached without a reason, if there is one.
pub fn unreasonable(reached: &[(&'static str, u64)], reasons: Reasons) -> Option<&'static str> {
    let may = |reason: Reason| match reason {
        Reason::Cheater => reasons.cheaters,
        Reason::Forgetful => reasons.forgetful,
    };
    let is_reached = |mark: &str| reached.iter().any(|(name, times)| *name == mark && *times > 0);
    NEEDS.iter().find(|(mark, reason)| !may(*reason) && is_reached(mark)).map(|(mark, _)| *mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::MARKS;

    #[test]
    fn every_name_is_a_mark_and_is_noticed_without_its_reason_only() {
        let (none, all) = (Reasons { cheaters: false, forgetful: false }, Reasons { cheaters: true, forgetful: true });
        for (mark, _) in NEEDS {
            assert!(MARKS.contains(mark), "{mark}");
            assert_eq!(unreasonable(&[(mark, 1)], none), Some(*mark));
            assert_eq!(unreasonable(&[(mark, 0)], none), None);
            assert_eq!(unreasonable(&[(mark, 1)], all), None);
        }
    }
}
