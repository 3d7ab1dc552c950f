//! Payments from a file: `seconds,buyer,seller,amount[,currency]`, a payment a line; a header and `#` comments are skipped.

use std::path::Path;

use super::ScenarioError;

/// No file may be larger. Chosen freely: tens of millions of payments.
const MAX_BYTES: u64 = 1 << 30;

/// A payment that is ordered at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ordered {
    /// Microseconds from the beginning.
    pub(super) at_us: u64,
    /// By the topology's name, or by number.
    pub(super) buyer: String,
    /// Likewise.
    pub(super) seller: String,
    pub(super) amount: u128,
    /// By name; the first that there is, if it is not said.
    pub(super) currency: Option<String>,
}

pub(super) fn read(path: &Path) -> Result<Vec<Ordered>, ScenarioError> {
    let name = path.display().to_string();
    let unreadable = |why| ScenarioError::Unreadable { path: name.clone(), why };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_BYTES {
        let why = std::io::Error::other(format!("{bytes} bytes are more than {MAX_BYTES}"));
        return Err(ScenarioError::Unreadable { path: name, why });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|(line, what)| ScenarioError::Trace { path: name, line, what: what.to_owned() })
}

fn parse(text: &str) -> Result<Vec<Ordered>, (usize, &'static str)> {
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || (all.is_empty() && line.starts_with("seconds")) {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let (seconds, buyer, seller, amount, currency) = match fields.as_slice() {
            [seconds, buyer, seller, amount] => (seconds, buyer, seller, amount, None),
            [seconds, buyer, seller, amount, currency] => (seconds, buyer, seller, amount, Some(currency)),
            _ => return Err((number, "four or five fields are wanted: seconds,buyer,seller,amount[,currency]")),
        };
        all.push(Ordered {
            at_us: micros(seconds).ok_or((number, "the first field is no number of seconds"))?,
            buyer: (*buyer).to_owned(),
            seller: (*seller).to_owned(),
            amount: amount.parse().map_err(|_| (number, "the fourth field is no amount"))?,
            currency: currency.map(|currency| (*currency).to_owned()),
        });
    }
    Ok(all)
}

/// Seconds with up to six digits behind the point, in microseconds.
fn micros(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, ""));
    if part.len() > 6 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_and_what_is_wrong_is_said_by_line() {
        let all = parse("# a day\nseconds,buyer,seller,amount\n1.5,Ada,Ben,300\n2,0,1,5,EUR\n").unwrap();
        assert_eq!((all[0].at_us, all[0].amount, all[0].currency.as_deref()), (1_500_000, 300, None));
        assert_eq!((all[1].at_us, all[1].buyer.as_str(), all[1].currency.as_deref()), (2_000_000, "0", Some("EUR")));
        assert_eq!(parse("1,a,b\n").unwrap_err().0, 1);
        assert_eq!(parse("1,a,b,1\nx,a,b,1\n").unwrap_err(), (2, "the first field is no number of seconds"));
        assert_eq!(parse("1,a,b,-1\n").unwrap_err(), (1, "the fourth field is no amount"));
    }
}
