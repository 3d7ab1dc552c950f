//! Figures beside their floors: for people a table, for programs one JSON object.

use serde::Serialize;

use super::figures::{Bound, Figure, Goal};
use super::{Answer, MISSED, NOT_MEASURED, NoFigure};
use crate::result::version;

/// All figures.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: String,
    /// Hundredths of the whole size that was measured.
    percent: u64,
    pub(super) figures: Vec<Row>,
    exit_code: u8,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    figure: &'static str,
    about: &'static str,
    values: Vec<Value>,
    notes: Vec<String>,
    /// Why it has no value.
    why: Option<String>,
}

/// One value of a figure.
#[derive(Debug, Serialize)]
struct Value {
    name: &'static str,
    unit: &'static str,
    measured: Option<f64>,
    bound: Bound,
    floor: f64,
    stretch: Option<f64>,
    verdict: Verdict,
}

/// How a value stands to its floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// The floor is reached.
    Met,
    /// More than the floor is reached.
    Stretch,
    /// The floor is not reached, or the figure's world is broken.
    Missed,
    /// It was measured at less than its whole size: good or bad, it says nothing.
    TooSmall,
    /// It was not measured.
    NotMeasured,
}

impl Verdict {
    fn of(goal: &Goal, measured: f64) -> Self {
        // A value that is no number is never good.
        let reaches = |bound: f64| match goal.bound {
            Bound::AtLeast => measured >= bound,
            Bound::AtMost => measured <= bound,
        };
        match goal.stretch {
            _ if !measured.is_finite() || !reaches(goal.floor) => Verdict::Missed,
            Some(stretch) if reaches(stretch) => Verdict::Stretch,
            Some(_) | None => Verdict::Met,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Stretch => "met, stretch too",
            Verdict::Missed => "MISSED",
            Verdict::TooSmall => "too small to say",
            Verdict::NotMeasured => "not measured",
        }
    }
}

impl Row {
    /// What an answer comes to.
    pub(super) fn new(figure: &Figure, answer: Answer, is_whole: bool) -> Self {
        let (measured, why, without) = match answer {
            Ok(measured) => (measured, None, Verdict::Missed),
            Err(NoFigure::Skipped(why)) => (Default::default(), Some(why), Verdict::NotMeasured),
            Err(NoFigure::Failed(why)) => (Default::default(), Some(why), Verdict::Missed),
        };
        let value = |goal: &Goal| {
            let found = measured.values.iter().find(|(name, _)| *name == goal.name).map(|(_, value)| *value);
            let verdict = match found {
                None => without,
                Some(_) if !is_whole => Verdict::TooSmall,
                Some(value) => Verdict::of(goal, value),
            };
            Value {
                name: goal.name,
                unit: goal.unit,
                measured: found,
                bound: goal.bound,
                floor: goal.floor,
                stretch: goal.stretch,
                verdict,
            }
        };
        let values = figure.goals.iter().map(value).collect();
        Row { figure: figure.name, about: figure.about, values, notes: measured.notes, why }
    }

    /// Lines of the table.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for value in &self.values {
            let than = match value.bound {
                Bound::AtLeast => ">=",
                Bound::AtMost => "<=",
            };
            let stretch = value.stretch.map(number).unwrap_or_default();
            text.push_str(&format!(
                "{:<12} {:<34} {:>12} {than} {:>9} {:>9}  {}\n",
                self.figure,
                format!("{}, {}", value.name, value.unit),
                value.measured.map(number).unwrap_or_default(),
                number(value.floor),
                stretch,
                value.verdict.words(),
            ));
        }
        for note in self.notes.iter().chain(&self.why) {
            text.push_str(&format!("{:<12}   {note}\n", ""));
        }
        text
    }
}

/// The head of the table.
pub(super) fn head() -> String {
    format!("{:<12} {:<34} {:>12}    {:>9} {:>9}\n", "figure", "value", "measured", "floor", "stretch")
}

/// With as many digits as are worth reading.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        let whole = format!("{value:.0}");
        let mut text = String::new();
        for (place, digit) in whole.chars().enumerate() {
            let left = whole.len() - place;
            if place > 0 && left.is_multiple_of(3) && !text.ends_with('-') {
                text.push(' ');
            }
            text.push(digit);
        }
        text
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

impl Report {
    pub(super) fn new(percent: u64) -> Self {
        Report { version: version(), percent, figures: Vec::new(), exit_code: 0 }
    }

    /// With which code the program exits.
    pub(super) fn judge(&mut self) -> u8 {
        let has = |verdict| self.verdicts().any(|one| one == verdict);
        self.exit_code = if has(Verdict::Missed) {
            MISSED
        } else if has(Verdict::NotMeasured) || has(Verdict::TooSmall) {
            NOT_MEASURED
        } else {
            0
        };
        self.exit_code
    }

    fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.figures.iter().flat_map(|row| &row.values).map(|value| value.verdict)
    }

    /// What the table ends with.
    pub(super) fn last_words(&self) -> String {
        let count = |wanted: &[Verdict]| self.verdicts().filter(|verdict| wanted.contains(verdict)).count();
        let met = count(&[Verdict::Met, Verdict::Stretch]);
        let open = count(&[Verdict::NotMeasured, Verdict::TooSmall]);
        format!("{met} met, {} missed, {open} not measured or too small to say\n", count(&[Verdict::Missed]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Measured;
    use super::super::figures::FIGURES;
    use super::*;

    fn rows(value: impl Fn(&Goal) -> f64, is_whole: bool) -> Report {
        let mut report = Report::new(100);
        for figure in FIGURES {
            let values = figure.goals.iter().map(|goal| (goal.name.to_owned(), value(goal))).collect();
            report.figures.push(Row::new(figure, Ok(Measured { values, notes: Vec::new() }), is_whole));
        }
        report
    }

    #[test]
    fn a_floor_is_met_by_itself_and_a_stretch_by_itself_and_nothing_by_what_is_no_number() {
        let mut floors = rows(|goal| goal.floor, true);
        assert_eq!(floors.judge(), 0);
        assert!(floors.verdicts().all(|verdict| verdict == Verdict::Met));
        let mut stretches = rows(|goal| goal.stretch.unwrap_or(goal.floor), true);
        assert_eq!(stretches.judge(), 0);
        let mut worse =
            rows(|goal| if goal.bound == Bound::AtLeast { goal.floor * 0.99 } else { goal.floor * 1.01 }, true);
        assert_eq!(worse.judge(), MISSED);
        assert!(worse.verdicts().all(|verdict| verdict == Verdict::Missed));
        assert!(rows(|_| f64::NAN, true).verdicts().all(|verdict| verdict == Verdict::Missed));
    }

    #[test]
    fn a_smaller_world_meets_nothing_and_what_is_not_measured_is_told() {
        let mut small = rows(|goal| if goal.bound == Bound::AtLeast { f64::MAX } else { 0.0 }, false);
        assert_eq!(small.judge(), NOT_MEASURED);
        assert!(small.verdicts().all(|verdict| verdict == Verdict::TooSmall));
        let figure = &FIGURES[0];
        let mut skipped = Report::new(100);
        skipped.figures.push(Row::new(figure, Err(NoFigure::Skipped("no".to_owned())), true));
        assert_eq!(skipped.judge(), NOT_MEASURED);
        let mut failed = Report::new(100);
        failed.figures.push(Row::new(figure, Err(NoFigure::Failed("no".to_owned())), true));
        assert_eq!(failed.judge(), MISSED);
        let mut silent = Report::new(100);
        silent.figures.push(Row::new(figure, Ok(Measured::default()), true));
        assert_eq!(silent.judge(), MISSED);
        assert!(failed.figures[0].to_text().contains("no"));
    }

    #[test]
    fn numbers_are_easy_to_read() {
        let texts = [1_234_567.0, 999.6, 100.0, 24.0, 0.123].map(number);
        assert_eq!(texts, ["1 234 567", "1 000", "100", "24", "0.12"]);
    }
}
