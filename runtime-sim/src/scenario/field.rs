//! What a field of a scenario may hold, and how it is read.
//!
//! | kind | written | drawn |
//! |---|---|---|
//! | number | `7`, `"3..5"` | anything between the two, alike |
//! | time | `"250ms"`, `"1s..2m"`, `"never"` where that is allowed | likewise |
//! | word | `"ring"` | – |
//! | words | `["a", "b"]` | all of them hold |
//! | text | `"…"` | – |
//!
//! A list of numbers, times or words instead of one: each run draws one of its entries, so one that stands there twice comes
//! twice as often.

use std::borrow::Cow;
use std::fmt::Debug;

use offset_protocol::machine::Duration;
use serde::Serialize;

use crate::cheats::{FRIEND_TRICKS, INDEX_TRICKS, PERSON_TRICKS, RELAY_TRICKS, REPORT_TRICKS};
use crate::faults::{FAMILIES, Family};

/// Words that a complaint lists.
const MOST_WORDS: usize = 30;

/// `never`, as a time.
pub const NEVER: u64 = u64::MAX;

/// A field of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// `section.name`, or a name alone.
    pub name: Cow<'static, str>,
    /// What it may hold.
    pub kind: Kind,
    /// What it holds if a scenario does not say; entries of a list with commas between them.
    pub default: &'static str,
    /// How often it is drawn.
    pub drawn: Drawn,
    /// What it is.
    pub doc: Cow<'static, str>,
}

/// What a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number {
        /// Of what.
        unit: &'static str,
        /// The smallest that is allowed.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A time.
    Time {
        /// The shortest that is allowed.
        least: Duration,
        /// The longest.
        most: Duration,
        /// Whether it may be `never`.
        never: Never,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any of these words.
    AnyOf(&'static [&'static str]),
    /// Names of families of faults, `all` or `none`.
    Families,
    /// Names of tricks of cheaters.
    Tricks,
    /// A text.
    Text,
    /// Texts.
    Texts,
}

/// Whether a time may be `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

/// How often a field is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// Not at all: it holds for all runs.
    Not,
    /// Once for each run.
    Run,
    /// For each node.
    Node,
    /// For each friendship.
    Friendship,
    /// For each of the two ends of each friendship.
    End,
    /// For each payment.
    Payment,
    /// Each time that it is needed.
    Time,
}

/// From one to the other, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The smallest.
    pub low: u64,
    /// The largest.
    pub high: u64,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Numbers, or times in microseconds: one of these is drawn for a run.
    Spans(Vec<Span>),
    /// Words or texts.
    Words(Vec<String>),
}

impl Field {
    /// Reads what a scenario says about it: the entries of a list, or the one entry.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn read(&self, entries: &[String]) -> Result<Value, String> {
        if entries.is_empty() && !matches!(self.kind, Kind::AnyOf(_) | Kind::Families | Kind::Tricks | Kind::Texts) {
            return Err("an empty list".to_owned());
        }
        let spans = |read: &dyn Fn(&str) -> Result<Span, String>| {
            entries.iter().map(|entry| read(entry)).collect::<Result<_, _>>().map(Value::Spans)
        };
        match self.kind {
            Kind::Number { least, most, .. } => spans(&|entry| {
                let number = |text: &str| match text.replace('_', "").parse::<u64>() {
                    Ok(number) if (least..=most).contains(&number) => Ok(number),
                    Ok(number) => Err(format!("{number} is not between {least} and {most}")),
                    Err(_) => Err(format!("{text:?} is no whole number")),
                };
                read_span(entry, number)
            }),
            Kind::Time { never: Never::Allowed, .. } if entries == ["never"] => {
                Ok(Value::Spans(vec![Span { low: NEVER, high: NEVER }]))
            }
            Kind::Time { least, most, .. } => spans(&|entry| {
                read_span(entry, |text| {
                    let time = read_time(text)?;
                    if (least..=most).contains(&time) {
                        return Ok(time.as_micros());
                    }
                    let (least, most) = (show_time(least.as_micros()), show_time(most.as_micros()));
                    Err(format!("{text} is not between {least} and {most}"))
                })
            }),
            Kind::OneOf(words) | Kind::AnyOf(words) => read_words(entries, words),
            Kind::Families => match entries {
                [all] if all == "all" => Ok(Value::Words(FAMILIES.into_iter().map(family_name).collect())),
                [none] if none == "none" => Ok(Value::Words(Vec::new())),
                names => {
                    let known: Vec<String> = FAMILIES.into_iter().map(family_name).collect();
                    read_words(names, &known.iter().map(String::as_str).collect::<Vec<_>>())
                }
            },
            Kind::Tricks => {
                let known = tricks();
                read_words(entries, &known.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Kind::Text if entries.len() > 1 => Err("one text is wanted, not a list".to_owned()),
            Kind::Text | Kind::Texts => Ok(Value::Words(entries.to_vec())),
        }
    }

    /// What it holds if a scenario does not say.
    pub fn default_value(&self) -> Value {
        let entries: Vec<String> =
            self.default.split(", ").filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
        // That every default can be read is a test.
        self.read(&entries).unwrap_or(Value::Words(Vec::new()))
    }

    /// What may stand there, for people.
    pub fn range(&self) -> String {
        match self.kind {
            Kind::Number { unit, least, most: u64::MAX } => format!("{least} or more {unit}"),
            Kind::Number { unit, least, most } => format!("{least} to {most} {unit}"),
            Kind::Time { least, most, never } => {
                let or = if never == Never::Allowed { ", or never" } else { "" };
                format!("{} to {}{or}", show_time(least.as_micros()), show_time(most.as_micros()))
            }
            Kind::OneOf(words) => words.join(" | "),
            Kind::AnyOf(words) => format!("any of {}", words.join(", ")),
            Kind::Families => format!("all, none, or any of {}", FAMILIES.map(family_name).join(", ")),
            Kind::Tricks => {
                let names = |all: &[String]| all.join(", ");
                format!(
                    "of a node: {}; of its person: {}; of its reports: {}; of a relay: {}; of an index server: {}",
                    names(&names_of(FRIEND_TRICKS)),
                    names(&names_of(PERSON_TRICKS)),
                    names(&names_of(REPORT_TRICKS)),
                    names(&names_of(RELAY_TRICKS)),
                    names(&names_of(INDEX_TRICKS))
                )
            }
            Kind::Text => "text".to_owned(),
            Kind::Texts => "texts".to_owned(),
        }
    }
}

/// The name under which files know a family.
pub fn family_name(family: Family) -> String {
    file_name(&family)
}

/// The names under which files know tricks.
fn names_of<T: Serialize + Debug>(tricks: &[T]) -> Vec<String> {
    tricks.iter().map(file_name).collect()
}

/// The name under which files know one of a few.
pub(crate) fn file_name<T: Serialize + Debug>(one: &T) -> String {
    match serde_json::to_value(one) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(_) | Err(_) => format!("{one:?}").to_lowercase(),
    }
}

/// Every trick that a scenario can name.
fn tricks() -> Vec<String> {
    let mut all = names_of(FRIEND_TRICKS);
    all.extend(names_of(PERSON_TRICKS));
    all.extend(names_of(REPORT_TRICKS));
    all.extend(names_of(RELAY_TRICKS));
    all.extend(names_of(INDEX_TRICKS));
    all
}

fn read_words(entries: &[String], words: &[&str]) -> Result<Value, String> {
    for entry in entries {
        if !words.contains(&entry.as_str()) {
            let hint = hint(entry, words.iter().copied());
            // A list that nobody reads to its end helps nobody.
            let (shown, more) = (words.len().min(MOST_WORDS), words.len().saturating_sub(MOST_WORDS));
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Err(format!("{entry:?} is none of {}{more}{hint}", words[..shown].join(", ")));
        }
    }
    Ok(Value::Words(entries.to_vec()))
}

fn read_span(entry: &str, read: impl Fn(&str) -> Result<u64, String>) -> Result<Span, String> {
    let span = match entry.split_once("..") {
        Some((low, high)) => Span { low: read(low.trim())?, high: read(high.trim())? },
        None => read(entry.trim()).map(|only| Span { low: only, high: only })?,
    };
    if span.low > span.high { Err(format!("{entry:?} ends before it begins")) } else { Ok(span) }
}

/// Units of time with their microseconds, the longest first.
const UNITS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// A time with its unit, as in `250ms`.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn read_time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is no time: a number with us, ms, s, m, h or d behind it is wanted");
    let number: u64 = number.replace('_', "").parse().map_err(|_| wrong())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
    number.checked_mul(*factor).map(Duration::from_micros).ok_or_else(|| format!("{text:?} is too long"))
}

/// A time, in the longest unit in which it is whole.
pub fn show_time(us: u64) -> String {
    if us == NEVER {
        return "never".to_owned();
    }
    let unit = UNITS.iter().find(|(_, factor)| us >= *factor && us.is_multiple_of(*factor));
    unit.map_or_else(|| "0s".to_owned(), |(name, factor)| format!("{}{name}", us / factor))
}

/// The word that differs from `word` in the fewest letters, if it is near at all.
pub fn nearest<'w>(word: &str, among: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let best = among.map(|other| (distance(word, other), other)).min()?;
    (best.0 <= 2.max(word.chars().count() / 2)).then_some(best.1)
}

/// The end of a complaint about a word that is not known: the nearest one, if it is near at all.
pub fn hint<'w>(word: &str, among: impl Iterator<Item = &'w str>) -> String {
    nearest(word, among).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

/// How many letters have to be changed, put in or left out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: Kind) -> Field {
        Field { name: "test".into(), kind, default: "", drawn: Drawn::Run, doc: "".into() }
    }

    fn read(kind: Kind, entries: &[&str]) -> Result<Value, String> {
        field(kind).read(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn numbers_and_times_may_be_ranges_and_lists() {
        let number = Kind::Number { unit: "nodes", least: 1, most: 100_000 };
        let spans =
            |spans: &[(u64, u64)]| Ok(Value::Spans(spans.iter().map(|&(low, high)| Span { low, high }).collect()));
        assert_eq!(read(number, &["7", "3..5", "1_000"]), spans(&[(7, 7), (3, 5), (1_000, 1_000)]));
        assert_eq!(read(number, &["0"]).unwrap_err(), "0 is not between 1 and 100000");
        assert_eq!(read(number, &["5..3"]).unwrap_err(), "\"5..3\" ends before it begins");
        assert_eq!(read(number, &["many"]).unwrap_err(), "\"many\" is no whole number");
        assert!(read(number, &[]).is_err());
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(600));
        let time = Kind::Time { least, most, never: Never::Allowed };
        assert_eq!(read(time, &["1ms..1s"]), spans(&[(1_000, 1_000_000)]));
        assert_eq!(read(time, &["never"]), spans(&[(NEVER, NEVER)]));
        assert_eq!(
            read(time, &["5"]).unwrap_err(),
            "\"5\" is no time: a number with us, ms, s, m, h or d behind it is wanted"
        );
        assert_eq!(read(time, &["1h"]).unwrap_err(), "1h is not between 1ms and 10m");
        assert!(read(Kind::Time { least, most, never: Never::Refused }, &["never"]).is_err());
    }

    #[test]
    fn a_word_that_is_not_known_is_told_with_the_nearest() {
        let kind = Kind::OneOf(&["ring", "line"]);
        assert_eq!(read(kind, &["rind"]).unwrap_err(), "\"rind\" is none of ring, line; did you mean \"ring\"?");
        assert_eq!(read(Kind::Families, &["none"]), Ok(Value::Words(Vec::new())));
        assert!(read(Kind::Families, &["slow-disc"]).unwrap_err().ends_with("did you mean \"slow-disk\"?"));
        assert_eq!(nearest("completely different", ["ring"].into_iter()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        for text in ["0s", "17us", "250ms", "1s", "90s", "2h", "3d"] {
            let shown = show_time(read_time(text).unwrap().as_micros());
            assert_eq!(read_time(&shown).unwrap(), read_time(text).unwrap(), "{text} {shown}");
        }
    }
}
