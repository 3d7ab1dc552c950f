//! How arguments are read: amounts, names, spans of time. Each error is what clap prints after the flag's name.

use std::time::Duration;

use offset_protocol::app::Name;
use offset_protocol::limits::MAX_AMOUNT;

/// The longest time that a command may be told to wait: a day. Chosen freely.
const MAX_WAIT_S: u64 = 86_400;

/// An amount in units of its currency; `_` between digits is allowed, for legibility.
///
/// # Errors
/// One sentence.
pub fn amount(text: &str) -> Result<u128, String> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let amount = if is_number { digits.parse::<u128>().ok() } else { None };
    match amount {
        Some(amount) if amount <= MAX_AMOUNT => Ok(amount),
        Some(_) => Err("the amount is larger than 2^100".to_owned()),
        None if is_number => Err("the amount is larger than 2^100".to_owned()),
        None => Err("an amount is a whole number without sign or point".to_owned()),
    }
}

/// An amount that is not zero.
///
/// # Errors
/// One sentence.
pub fn positive_amount(text: &str) -> Result<u128, String> {
    match amount(text)? {
        0 => Err("the amount must be more than 0".to_owned()),
        amount => Ok(amount),
    }
}

/// Where a server listens: `HOST:PORT`, a host of IPv6 in brackets. The host is looked up later.
///
/// # Errors
/// One sentence.
pub fn door(text: &str) -> Result<String, String> {
    let is_door = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_host = !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
        is_host && port.parse::<u16>().is_ok()
    });
    if is_door {
        Ok(text.to_owned())
    } else {
        Err("expected HOST:PORT, such as 127.0.0.1:4001 or [::]:4001".to_owned())
    }
}

/// A name that a user gives.
///
/// # Errors
/// One sentence.
pub fn name(text: &str) -> Result<Name, String> {
    if text.trim().is_empty() {
        return Err("a name has at least one character".to_owned());
    }
    text.parse::<Name>().map_err(|error| error.to_string())
}

/// Seconds to wait, from 1 to a day.
///
/// # Errors
/// One sentence.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=MAX_WAIT_S) => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err(format!("expected seconds, 1 to {MAX_WAIT_S}")),
    }
}

/// A span such as `90s`, `15m`, `12h` or `7d`.
///
/// # Errors
/// One sentence.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number with s, m, h or d, such as 15m or 7d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = text[..text.len() - 1].parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(number) * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_whole_numbers_within_the_bound() {
        assert_eq!(amount("1_000_000"), Ok(1_000_000));
        assert_eq!(amount("0"), Ok(0));
        assert_eq!(amount(&MAX_AMOUNT.to_string()), Ok(MAX_AMOUNT));
        for bad in ["", "_", "-1", "+1", "1.5", "1e3", "abc", " 1", "１"] {
            assert_eq!(amount(bad), Err("an amount is a whole number without sign or point".to_owned()), "{bad}");
        }
        for large in [(MAX_AMOUNT + 1).to_string(), "9".repeat(100)] {
            assert_eq!(amount(&large), Err("the amount is larger than 2^100".to_owned()));
        }
        assert!(positive_amount("0").is_err());
    }

    #[test]
    fn doors_have_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "[::]:4001", "relay.example.org:65535"] {
            assert_eq!(door(good), Ok(good.to_owned()));
        }
        for bad in ["", "127.0.0.1", "9401", ":4001", "a:", "a:65536", "::1:4001", "[::1]", "a:b"] {
            assert!(door(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "7", "d", "-1d", "1w", "0s", "1é", "99999999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_waits_are_checked() {
        assert!(name("bob").is_ok());
        for bad in [String::new(), " ".to_owned(), "a\u{1b}[2J".to_owned(), "x".repeat(65)] {
            assert!(name(&bad).is_err(), "{bad:?}");
        }
        assert!(seconds("60").is_ok() && seconds("0").is_err() && seconds("86401").is_err() && seconds("-1").is_err());
    }
}
