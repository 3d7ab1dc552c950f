//! A scenario's text: sections of fields, and `[[event]]` and other tables that repeat. Every complaint names the line.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::field::{Field, Value, nearest};
use super::fields::{TABLES, Table};
use super::{ScenarioError, fields};

/// What was said, by field.
pub(super) type Values = BTreeMap<String, Value>;
/// The tables of each name, in order.
pub(super) type Tables = BTreeMap<&'static str, Vec<Values>>;

/// No scenario has more tables of one name. Chosen freely.
const MAX_TABLES: usize = 10_000;

/// What a text says: fields by name, and tables.
pub(super) fn parse(text: &str) -> Result<(Values, Tables), ScenarioError> {
    let line_of = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    let bad = |at: usize, what: String| ScenarioError::Bad { line: line_of(at), what };
    let root = DeTable::parse(text)
        .map_err(|error| bad(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let (mut values, mut tables) = (Values::new(), Tables::new());
    let known = fields::all();
    for (key, value) in root.get_ref() {
        let name = key.get_ref();
        match value.get_ref() {
            DeValue::Table(_) if table_of(name).is_some() => {
                return Err(bad(key.span().start, format!("two brackets are wanted: [[{name}]]")));
            }
            DeValue::Table(section) => {
                for (key, value) in section {
                    let name = format!("{name}.{}", key.get_ref());
                    take(&known, &name, key.span().start, value.get_ref(), &mut values)
                        .map_err(|(at, what)| bad(at, what))?;
                }
            }
            DeValue::Array(all) if all.iter().all(|one| one.get_ref().is_table()) && !all.is_empty() => {
                let table = table_of(name).ok_or_else(|| {
                    let nearest = nearest(name, TABLES.iter().map(|table| table.name));
                    let hint = nearest.map(|near| format!("; did you mean [[{near}]]?")).unwrap_or_default();
                    bad(key.span().start, format!("there is no table [[{name}]]{hint}"))
                })?;
                let read = all.iter().map(|one| read_table(&table, one.get_ref()));
                let read: Result<Vec<Values>, _> = read.collect();
                let read = read.map_err(|(at, what)| bad(at, format!("{name}: {what}")))?;
                if read.len() > MAX_TABLES {
                    return Err(bad(key.span().start, format!("there are more than {MAX_TABLES} of [[{name}]]")));
                }
                tables.insert(table.name, read);
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                take(&known, name, key.span().start, value.get_ref(), &mut values)
                    .map_err(|(at, what)| bad(at, what))?;
            }
        }
    }
    Ok((values, tables))
}

fn table_of(name: &str) -> Option<Table> {
    TABLES.into_iter().find(|table| table.name == name)
}

/// What one table of a name says.
fn read_table(table: &Table, one: &DeValue<'_>) -> Result<Values, (usize, String)> {
    let mut values = Values::new();
    for (key, value) in one.as_table().into_iter().flatten() {
        take((table.fields)(), key.get_ref(), key.span().start, value.get_ref(), &mut values)?;
    }
    Ok(values)
}

/// The field of a name.
pub(super) fn find(name: &str) -> Result<Field, ScenarioError> {
    let known = fields::all();
    match known.iter().find(|field| field.name == name) {
        Some(field) => Ok(field.clone()),
        None => Err(ScenarioError::NoField { field: name.to_owned(), hint: hint(&known, name) }),
    }
}

fn hint(known: &[Field], name: &str) -> String {
    // A field that stands in a wrong section is nearer than one that is called a little like it.
    let last = name.rsplit('.').next().unwrap_or(name);
    let moved = known.iter().map(|field| &*field.name).find(|field| field.rsplit('.').next() == Some(last));
    let nearest = moved.or_else(|| nearest(name, known.iter().map(|field| &*field.name)));
    nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

fn take(
    known: &[Field],
    name: &str,
    at: usize,
    value: &DeValue<'_>,
    values: &mut Values,
) -> Result<(), (usize, String)> {
    let Some(field) = known.iter().find(|field| field.name == name) else {
        return Err((at, format!("there is no field {name:?}{}", hint(known, name))));
    };
    let entries = entries(value).map_err(|what| (at, format!("{name}: {what}")))?;
    let value = field.read(&entries).map_err(|what| (at, format!("{name}: {what}")))?;
    values.insert(name.to_owned(), value);
    Ok(())
}

/// The entries of a list, or the one that there is, as text.
fn entries(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::Array(entries) => entries.iter().map(|entry| one(entry.get_ref())).collect(),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => one(value).map(|entry| vec![entry]),
    }
}

fn one(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => Err(format!("a text or a whole number is wanted, not {}", value.type_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::field::Span;

    fn wrong(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn sections_lists_and_events_are_read() {
        let text = "fidelity = \"funds\"\n[topology]\nnodes = 12\nkind = [\"ring\", \"star\"]\n\n[[event]]\nat = \"3s\"\nwho = \"hub 0\"\n";
        let (values, tables) = parse(text).unwrap();
        let events = &tables["event"];
        assert_eq!(values["topology.nodes"], Value::Spans(vec![Span { low: 12, high: 12 }]));
        assert_eq!(values["topology.kind"], Value::Words(vec!["ring".to_owned(), "star".to_owned()]));
        assert_eq!(values["fidelity"], Value::Words(vec!["funds".to_owned()]));
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["who"], Value::Words(vec!["hub 0".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_said_by_line_and_with_the_nearest_name() {
        assert_eq!(
            wrong("about = \"x\"\n[payments]\ncuont = 3\n"),
            "line 3: there is no field \"payments.cuont\"; did you mean \"payments.count\"?"
        );
        assert_eq!(
            wrong("[money]\nnodes = 3\n"),
            "line 2: there is no field \"money.nodes\"; did you mean \"topology.nodes\"?"
        );
        assert_eq!(wrong("[payments]\ncount = \"5..2\"\n"), "line 2: payments.count: \"5..2\" ends before it begins");
        assert_eq!(
            wrong("[payments]\ncount = 1.5\n"),
            "line 2: payments.count: a text or a whole number is wanted, not float"
        );
        assert_eq!(
            wrong("[[event]]\n\nwhen = 3\n"),
            "line 3: event: there is no field \"when\"; did you mean \"what\"?"
        );
        assert_eq!(wrong("[[evnet]]\nat = 3\n"), "line 1: there is no table [[evnet]]; did you mean [[event]]?");
        assert_eq!(wrong("[order]\ncount = 3\n"), "line 1: two brackets are wanted: [[order]]");
        assert_eq!(
            wrong("[[cheater]]\ntricks = [\"withold-response\"]\n").rsplit_once(';').unwrap().1,
            " did you mean \"withhold-response\"?"
        );
        assert!(wrong("\n\n= 3").starts_with("line 3: "), "{}", wrong("\n\n= 3"));
    }
}
