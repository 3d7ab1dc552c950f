//! What a person's node said that it did, and whether it shows that (I16).
//!
//! A node that answers *done* has done it: the report then shows the last setting that was answered so, until something
//! else is. Looked at when nothing is under way.
//!
//! Not looked at: what a node forgot with its disk, and what was said before that.

use std::collections::BTreeMap;

use offset_protocol::app::{Command, CurrencyReport, FriendReport, Name};
use offset_protocol::money::{Currency, Rate};

use super::ReportBook;

/// The settings that a node said it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    enabled: BTreeMap<Name, bool>,
    currencies: BTreeMap<(Name, Currency), Settings>,
}

/// Of one currency with one friend; `None`: nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Settings {
    is_open: Option<bool>,
    max_debt: Option<u128>,
    rate: Option<Rate>,
}

impl Told {
    /// The node says that a command is done.
    pub(super) fn on_done(&mut self, command: &Command) {
        match command {
            Command::EnableFriend { name } => drop(self.enabled.insert(name.clone(), true)),
            Command::DisableFriend { name } => drop(self.enabled.insert(name.clone(), false)),
            Command::RemoveFriend { name } => {
                self.enabled.remove(name);
                self.currencies.retain(|(friend, _), _| friend != name);
            }
            Command::OpenCurrency { name, currency } => self.of(name, currency).is_open = Some(true),
            Command::CloseCurrency { name, currency } => self.of(name, currency).is_open = Some(false),
            Command::RemoveCurrency { name, currency } => {
                self.currencies.remove(&(name.clone(), *currency));
            }
            Command::SetMaxDebt { name, currency, max_debt } => self.of(name, currency).max_debt = Some(*max_debt),
            Command::SetRate { name, currency, rate } => self.of(name, currency).rate = Some(*rate),
            // What these do is looked at elsewhere, or is no setting.
            _ => {}
        }
    }

    fn of(&mut self, name: &Name, currency: &Currency) -> &mut Settings {
        self.currencies.entry((name.clone(), *currency)).or_default()
    }

    /// The first setting that the report shows otherwise.
    pub(super) fn contradiction(&self, book: &ReportBook) -> Option<String> {
        let friend = |name: &Name| book.friends.values().find(|friend| friend.name == *name);
        for (name, enabled) in &self.enabled {
            if friend(name).is_none_or(|friend| friend.enabled != *enabled) {
                return Some(format!("{name} was said to be enabled: {enabled}; shown is {:?}", friend(name)));
            }
        }
        for ((name, currency), settings) in &self.currencies {
            let shown = friend(name).and_then(|friend| currency_of(friend, currency));
            if !shown.is_some_and(|shown| settings.are_shown(shown)) {
                return Some(format!("of {name} in {currency} {settings:?} was said; shown is {shown:?}"));
            }
        }
        None
    }
}

fn currency_of<'b>(friend: &'b FriendReport, currency: &Currency) -> Option<&'b CurrencyReport> {
    friend.currencies.iter().find(|report| report.currency == *currency)
}

impl Settings {
    fn are_shown(&self, shown: &CurrencyReport) -> bool {
        self.is_open.is_none_or(|is_open| is_open == shown.is_open)
            && self.max_debt.is_none_or(|max_debt| max_debt == shown.max_debt)
            && self.rate.is_none_or(|rate| rate == shown.rate)
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::app::ChannelReport;
    use offset_protocol::bytes::PublicKey;
    use offset_protocol::codec::List;

    use super::*;

    fn name() -> Name {
        Name::new("friend").unwrap_or_default()
    }

    fn book(max_debt: u128) -> ReportBook {
        let currency = CurrencyReport {
            currency: "CRED".parse().unwrap(),
            balance: 0,
            out_frozen: 0,
            in_frozen: 0,
            max_debt,
            rate: Rate::ZERO,
            is_open: true,
            listed: true,
            friend_listed: true,
        };
        let friend = FriendReport {
            public_key: PublicKey([1; 32]),
            name: name(),
            enabled: true,
            online: true,
            relays: List::new(),
            currencies: List::truncated([currency]),
            channel: ChannelReport::Consistent { epoch: 0 },
        };
        let mut book = ReportBook::default();
        book.friends.insert(friend.public_key, friend);
        book
    }

    #[test]
    fn a_setting_that_was_said_to_be_done_is_shown_or_noticed() {
        let currency: Currency = "CRED".parse().unwrap();
        let mut told = Told::default();
        assert_eq!(told.contradiction(&ReportBook::default()), None);
        told.on_done(&Command::EnableFriend { name: name() });
        told.on_done(&Command::SetMaxDebt { name: name(), currency, max_debt: 9 });
        told.on_done(&Command::SetMaxDebt { name: name(), currency, max_debt: 5 });
        assert_eq!(told.contradiction(&book(5)), None);
        assert!(told.contradiction(&book(9)).is_some());
        assert!(told.contradiction(&ReportBook::default()).is_some());
        told.on_done(&Command::DisableFriend { name: name() });
        assert!(told.contradiction(&book(5)).is_some());
        told.on_done(&Command::RemoveFriend { name: name() });
        assert_eq!(told.contradiction(&ReportBook::default()), None);
    }
}
