//! Every field of a scenario, for people.

use std::fmt::Write as _;

use super::field::{Drawn, Field, Kind};
use super::fields;

/// Every field with its range, its default, how often it is drawn and what it is.
pub fn explain() -> String {
    let mut text = String::from(
        "A scenario is a TOML file. A number or time may be a range (\"3..5\", \"1ms..1s\") from which it is drawn, and a list\n\
         of them, of which each run draws one entry; so may a word. What is left out holds its default.\n",
    );
    let mut section = "";
    let all = fields::all();
    for field in &all {
        let (own, name) = field.name.split_once('.').unwrap_or(("", &field.name));
        if own != section {
            section = own;
            let _ = write!(text, "\n[{section}]\n");
        } else if section.is_empty() && text.lines().count() == 2 {
            text.push('\n');
        }
        one(&mut text, name, field);
    }
    for table in fields::TABLES {
        let _ = writeln!(text, "\n[[{}]]   {}; as many as you like", table.name, table.doc);
        for field in (table.fields)() {
            one(&mut text, &field.name, field);
        }
    }
    text
}

fn one(text: &mut String, name: &str, field: &Field) {
    let list = matches!(field.kind, Kind::AnyOf(_) | Kind::Texts) && !field.default.is_empty();
    let default = match field.default {
        "" => "nothing".to_owned(),
        "18446744073709551615" => "no limit".to_owned(),
        default if list || default.contains(", ") => {
            let entries: Vec<String> = default.split(", ").map(|entry| format!("\"{entry}\"")).collect();
            format!("[{}]", entries.join(", "))
        }
        default if default.bytes().all(|byte| byte.is_ascii_digit()) => default.to_owned(),
        default => format!("\"{default}\""),
    };
    let drawn = match field.drawn {
        Drawn::Not => "",
        Drawn::Run => "; drawn for each run",
        Drawn::Node => "; drawn for each node",
        Drawn::Friendship => "; drawn for each friendship",
        Drawn::End => "; drawn for each end of a friendship",
        Drawn::Payment => "; drawn for each payment",
        Drawn::Time => "; drawn each time",
    };
    let _ = writeln!(text, "  {name} = {default}");
    for line in wrap(&format!("{} ({}{drawn})", field.doc.trim(), field.range()), 110) {
        let _ = writeln!(text, "      {line}");
    }
}

/// A text in lines of at most so many letters, as far as its words allow.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_explained() {
        let text = explain();
        for field in fields::all() {
            let name = field.name.rsplit('.').next().unwrap();
            assert!(text.contains(&format!("  {name} = ")), "{name}");
        }
        for table in fields::TABLES {
            let (_, part) = text.split_once(&format!("\n[[{}]]", table.name)).unwrap();
            for field in (table.fields)() {
                assert!(part.contains(&format!("  {} = ", field.name)), "{}.{}", table.name, field.name);
            }
        }
        assert!(text.contains("[faults]\n  families = \"none\""));
        assert!(text.lines().all(|line| line.chars().count() <= 160), "{text}");
    }
}
