//! Edge lists: a friendship a line, as spreadsheets and network libraries write them.

use super::{Reading, whole};
use crate::topology::TopologyError;

/// What may stand in the first column of a header.
const HEADERS: [&str; 9] = ["from", "source", "src", "a", "node1", "u", "node_1", "start", "node1_pub"];

pub(super) fn parse(text: &str, reading: &mut Reading) -> Result<(), TopologyError> {
    let mut separator = None;
    let mut first = true;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with('%') {
            continue;
        }
        let separator = *separator.get_or_insert_with(|| separator_of(line));
        let fields = split(line, separator).ok_or_else(|| bad(number, "a quote does not end"))?;
        let header = first && HEADERS.contains(&fields[0].to_ascii_lowercase().as_str()) && !is_pair_of_a(&fields);
        first = false;
        if header {
            continue;
        }
        let (from, to, capacity) = match fields.as_slice() {
            [from, to] => (from, to, None),
            [from, to, capacity, ..] if capacity.is_empty() => (from, to, None),
            [from, to, capacity, ..] => {
                let capacity =
                    whole(capacity).ok_or_else(|| bad(number, "the third column is not what it can carry"))?;
                (from, to, Some(capacity))
            }
            _ => return Err(bad(number, "two names are wanted, with a comma, semicolon, tab or space between them")),
        };
        reading.edge(number, from, to, capacity)?;
    }
    Ok(())
}

/// Somebody may be called "a": a header that begins with it has "b" or a word after it, an edge has a digit in the third.
fn is_pair_of_a(fields: &[String]) -> bool {
    fields[0] == "a" && fields.get(1).is_none_or(|second| second != "b")
        || fields.get(2).is_some_and(|third| whole(third).is_some())
}

fn bad(line: usize, what: &str) -> TopologyError {
    TopologyError::Bad { line, what: what.to_owned() }
}

/// What the first line is separated by.
fn separator_of(line: &str) -> char {
    [',', ';', '\t'].into_iter().find(|separator| line.contains(*separator)).unwrap_or(' ')
}

/// The fields of a line; `None` if a quote does not end. A quote within quotes is doubled.
fn split(line: &str, separator: char) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = fields.len() - 1;
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                fields[last].push('"');
            }
            '"' => quoted = !quoted,
            _ if letter == separator && !quoted => {
                // Several spaces separate as one does.
                if separator != ' ' || !fields[last].is_empty() {
                    fields.push(String::new());
                }
            }
            _ => fields[last].push(letter),
        }
    }
    fields.iter_mut().for_each(|field| *field = field.trim().to_owned());
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use crate::topology::import::{Format, parse};

    fn edges(text: &str) -> Result<usize, String> {
        parse(text, Format::EdgeList).map(|read| read.graph.edges().len()).map_err(|error| error.to_string())
    }

    #[test]
    fn all_common_forms_are_read() {
        for text in [
            "1,2\n2,3\n",
            "# note\nfrom;to\n1;2\n2;3",
            "source\ttarget\tweight\n1\t2\t0.5\n2\t3\t7",
            "1   2 {}\n2 3 {}".replace(" {}", "").as_str(),
            "\"Ann, the smith\",Bob\nBob,\"say \"\"hi\"\"\"\n",
            "a,b\nb,c\nc,d\n",
        ] {
            assert_eq!(edges(text), Ok(2), "{text:?}");
        }
        assert_eq!(edges("a,c\nc,d\n"), Ok(2));
        assert_eq!(edges("a,b,5\nb,c,7\n"), Ok(2));
    }

    #[test]
    fn what_is_wrong_is_said_by_line() {
        assert_eq!(
            edges("1,2\n3\n").unwrap_err(),
            "line 2: two names are wanted, with a comma, semicolon, tab or space between them"
        );
        assert_eq!(edges("1,2\n\n2,\"3\n").unwrap_err(), "line 3: a quote does not end");
        assert_eq!(edges("1,2,much\n").unwrap_err(), "line 1: the third column is not what it can carry");
        assert_eq!(edges("1,\n").unwrap_err(), "line 1: a node has no name");
        let long = format!("1,{}\n", "x".repeat(300));
        assert_eq!(edges(&long).unwrap_err(), "line 1: a node's name has more than 256 bytes or is not printable");
    }
}
