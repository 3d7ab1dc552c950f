//! Measured figures, each beside what is asked of it: what `stbench relay` and `stbench node` print.

use anyhow::{Context, Result, bail};

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// Nothing: it explains another figure.
    None,
}

/// One measured figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What is asked.
    pub goal: Goal,
    /// How it came about, for people.
    pub note: String,
}

impl Figure {
    /// One with this goal.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, goal: Goal, note: impl Into<String>) -> Figure {
        Figure { name: name.into(), value, unit, goal, note: note.into() }
    }

    /// Whether the goal is met; `None` if there is none.
    pub fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtLeast(least) => Some(self.value >= least),
            Goal::AtMost(most) => Some(self.value <= most),
            Goal::None => None,
        }
    }

    /// As an object for `--json`.
    fn json(&self) -> serde_json::Value {
        let (at_least, at_most) = match self.goal {
            Goal::AtLeast(least) => (Some(least), None),
            Goal::AtMost(most) => (None, Some(most)),
            Goal::None => (None, None),
        };
        serde_json::json!({
            "figure": self.name, "value": self.value, "unit": self.unit, "at_least": at_least, "at_most": at_most,
            "met": self.is_met(), "note": self.note,
        })
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let goal = match self.goal {
            Goal::AtLeast(least) => format!(">= {}", number(least)),
            Goal::AtMost(most) => format!("<= {}", number(most)),
            Goal::None => String::new(),
        };
        let verdict = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let Figure { name, value, unit, note, .. } = self;
        write!(f, "{name:<44} {:>9} {unit:<15} {goal:<10} {verdict:<6}", number(*value))?;
        if note.is_empty() { Ok(()) } else { write!(f, "\n    {note}") }
    }
}

/// As many digits as say something.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Measures what belongs to a name.
pub type Measure = fn() -> Result<Vec<Figure>>;

/// Measures figures by name, all without any, and prints each one beside its goal.
///
/// # Errors
/// If a name is unknown, something does not work, or a goal is missed.
#[allow(clippy::print_stdout)]
pub fn run(known: &[(&str, Measure)], args: &[String]) -> Result<()> {
    let (json, names): (Vec<&str>, Vec<&str>) = args.iter().map(String::as_str).partition(|arg| *arg == "--json");
    if let Some(unknown) = names.iter().find(|name| known.iter().all(|(known, _)| known != *name)) {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        bail!("there is no figure `{unknown}`, only {}", names.join(", "));
    }
    let mut all = Vec::new();
    for (name, measure) in known {
        if !names.is_empty() && !names.contains(name) {
            continue;
        }
        let figures = measure().with_context(|| format!("`{name}` cannot be measured"))?;
        if json.is_empty() {
            figures.iter().for_each(|figure| println!("{figure}"));
        }
        all.extend(figures);
    }
    if !json.is_empty() {
        println!("{:#}", serde_json::Value::from_iter(all.iter().map(Figure::json)));
    }
    match all.iter().filter(|figure| figure.is_met() == Some(false)).count() {
        0 => Ok(()),
        missed => bail!("{missed} of {} figures missed their goal", all.len()),
    }
}

/// The value that so much of the samples do not exceed. Sorts them.
pub fn quantile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let at = (samples.len() as f64 * part) as usize;
    samples.get(at.min(samples.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_its_goal() {
        let figure = |goal| Figure::new("x", 5.0, "", goal, "");
        assert_eq!(figure(Goal::AtLeast(5.0)).is_met(), Some(true));
        assert_eq!(figure(Goal::AtLeast(5.1)).is_met(), Some(false));
        assert_eq!(figure(Goal::AtMost(4.9)).is_met(), Some(false));
        assert_eq!(figure(Goal::None).is_met(), None);
    }

    #[test]
    fn what_was_not_measured_meets_no_goal() {
        let nothing = quantile(&mut [], 0.5);
        assert_eq!(Figure::new("x", nothing, "", Goal::AtMost(1.0), "").is_met(), Some(false));
    }

    #[test]
    fn quantiles_are_samples() {
        let mut samples: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!((quantile(&mut samples, 0.5), quantile(&mut samples, 0.99)), (50.0, 99.0));
        assert_eq!(quantile(&mut samples, 1.0), 99.0);
    }
}
