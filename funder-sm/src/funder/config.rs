//! Friends and their currencies, as the user configures them.

use offset_protocol::app::{Answer, Name, Outcome, Refusal, ReportChange};
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::friend::{Operation, ResetTerms};
use offset_protocol::limits::{MAX_CURRENCIES, MAX_FRIENDS, MAX_RELAYS};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::relay::RelayAddress;

use super::io::FunderOutput;
use super::records::{self, FriendRecord};
use super::{Friend, Funder};
use crate::friend_channel::{Channel, ConfigError};

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Refusal {
        match error {
            ConfigError::UnknownCurrency => Refusal::UnknownCurrency,
            ConfigError::InUse => Refusal::CurrencyInUse,
            ConfigError::TooMany => Refusal::LimitReached(MAX_CURRENCIES as u32),
            ConfigError::TooLarge => Refusal::BadAmount,
        }
    }
}

/// Nothing, or why not, as a reply.
pub(super) fn outcome(result: Result<(), Refusal>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done(Answer::Done),
        Err(refusal) => Outcome::Refused(refusal),
    }
}

impl Funder {
    fn friend_named(&self, name: &Name) -> Result<PublicKey, Refusal> {
        self.place_of(name).map(|place| self.by_name[place]).map_err(|_| Refusal::UnknownFriend)
    }

    /// Where the friend of this name stands among all names; where it would stand, if there is none.
    pub(super) fn place_of(&self, name: &Name) -> Result<usize, usize> {
        let name_of = |key: &PublicKey| self.friends.get(key).map(|friend| &friend.record.name);
        self.by_name.binary_search_by(|key| name_of(key).cmp(&Some(name)))
    }

    fn friend_mut(&mut self, name: &Name) -> Result<(PublicKey, &mut Friend), Refusal> {
        let key = self.friend_named(name)?;
        let friend = self.friends.get_mut(&key).ok_or(Refusal::UnknownFriend)?;
        Ok((key, friend))
    }

    /// `AddFriend`. The friend is enabled from the start.
    pub(super) fn add_friend(
        &mut self,
        key: PublicKey,
        relays: List<RelayAddress, MAX_RELAYS>,
        name: Name,
    ) -> Result<(), Refusal> {
        if key == self.us {
            return Err(Refusal::OwnKey);
        }
        if let Some(known) = self.friends.get(&key) {
            // The same command again, after a lost reply.
            let same = known.record.name == name && known.record.relays == relays;
            return if same { Ok(()) } else { Err(Refusal::KeyTaken(known.record.name.clone())) };
        }
        let Err(place) = self.place_of(&name) else { return Err(Refusal::NameTaken) };
        if self.friends.len() >= MAX_FRIENDS {
            return Err(Refusal::LimitReached(MAX_FRIENDS as u32));
        }
        let channel = Channel::new(self.us, key, self.our_relays());
        let record = FriendRecord { name, enabled: true, relays };
        self.friends.insert(key, Box::new(Friend::new(record, channel)));
        self.by_name.insert(place, key);
        self.save_friend(&key);
        self.keep_link(&key);
        Ok(())
    }

    /// `RemoveFriend`.
    pub(super) fn remove_friend(&mut self, name: &Name) -> Result<(), Refusal> {
        let place = self.place_of(name).map_err(|_| Refusal::UnknownFriend)?;
        let key = self.by_name.remove(place);
        let Some(friend) = self.friends.remove(&key) else { return Err(Refusal::UnknownFriend) };
        self.alarms.clear(key);
        self.touched.remove(&key);
        let mut erased = Vec::new();
        friend.channel.erase(&records::channel_prefix(&key), &mut erased);
        for change in erased {
            self.changes.add(change);
        }
        self.changes.remove(records::friend_key(&key));
        for currency in friend.published.keys() {
            self.hold(FunderOutput::RemoveEntry { friend: key, currency: *currency });
        }
        self.hold(FunderOutput::StopLink { friend: key });
        self.hold(FunderOutput::Report(ReportChange::FriendRemoved(key)));
        self.stop_awaiting(&key);
        self.lose_requests_of(key, &friend.channel);
        Ok(())
    }

    fn lose_requests_of(&mut self, friend: PublicKey, channel: &Channel) {
        let incoming = channel.all_incoming().map(|(currency, open)| (currency, open.request.request_id)).collect();
        let mut outgoing: Vec<_> =
            channel.all_outgoing().map(|(currency, open)| (currency, open.request.request_id)).collect();
        outgoing.extend(channel.all_queued().filter_map(|(currency, operation)| match operation {
            Operation::Request(request) => Some((currency, request.request_id)),
            Operation::Response(_)
            | Operation::Cancel(_)
            | Operation::Commit(_)
            | Operation::Withdraw(_)
            | Operation::Collect(_) => None,
        }));
        self.on_channel_lost(friend, incoming, outgoing);
    }

    /// `RenameFriend`.
    pub(super) fn rename_friend(&mut self, name: &Name, new_name: Name) -> Result<(), Refusal> {
        // The same command again, after a lost reply, cannot be told from a wrong name.
        let key = self.friend_named(name)?;
        if self.place_of(&new_name).is_ok_and(|taken| self.by_name[taken] != key) {
            return Err(Refusal::NameTaken);
        }
        if let Ok(place) = self.place_of(name) {
            self.by_name.remove(place);
        }
        if let Some(friend) = self.friends.get_mut(&key) {
            friend.record.name = new_name.clone();
        }
        // Its own name is not among them now, and nobody else has it.
        let place = self.place_of(&new_name).unwrap_or_else(|place| place);
        self.by_name.insert(place, key);
        self.save_friend(&key);
        Ok(())
    }

    /// `SetFriendRelays`.
    pub(super) fn set_friend_relays(
        &mut self,
        name: &Name,
        relays: List<RelayAddress, MAX_RELAYS>,
    ) -> Result<(), Refusal> {
        let (key, friend) = self.friend_mut(name)?;
        friend.record.relays = relays;
        self.save_friend(&key);
        self.keep_link(&key);
        Ok(())
    }

    /// `EnableFriend`, `DisableFriend`.
    pub(super) fn set_enabled(&mut self, name: &Name, link: LinkWish) -> Result<(), Refusal> {
        let (key, friend) = self.friend_mut(name)?;
        friend.record.enabled = matches!(link, LinkWish::Keep);
        self.save_friend(&key);
        match link {
            LinkWish::Keep => self.keep_link(&key),
            LinkWish::Stop => {
                self.hold(FunderOutput::StopLink { friend: key });
                self.stop_awaiting(&key);
            }
        }
        Ok(())
    }

    /// `OpenCurrency`.
    pub(super) fn open_currency(&mut self, name: &Name, currency: Currency) -> Result<(), Refusal> {
        let (key, friend) = self.friend_mut(name)?;
        friend.channel.open_currency(currency)?;
        self.touch(key);
        Ok(())
    }

    /// `CloseCurrency`.
    pub(super) fn close_currency(&mut self, name: &Name, currency: Currency) -> Result<(), Refusal> {
        let (key, friend) = self.friend_mut(name)?;
        let mut events = Vec::new();
        friend.channel.close_currency(currency, &mut events)?;
        self.on_channel_events(key, events);
        Ok(())
    }

    /// `RemoveCurrency`.
    pub(super) fn remove_currency(&mut self, name: &Name, currency: Currency) -> Result<(), Refusal> {
        let (key, friend) = self.friend_mut(name)?;
        friend.channel.remove_currency(currency)?;
        self.touch(key);
        Ok(())
    }

    /// `SetMaxDebt`.
    pub(super) fn set_max_debt(&mut self, name: &Name, currency: Currency, max_debt: u128) -> Result<(), Refusal> {
        let (key, friend) = self.friend_mut(name)?;
        friend.channel.set_max_debt(currency, max_debt)?;
        self.touch(key);
        Ok(())
    }

    /// `SetRate`.
    pub(super) fn set_rate(&mut self, name: &Name, currency: Currency, rate: Rate) -> Result<(), Refusal> {
        let (key, friend) = self.friend_mut(name)?;
        friend.channel.set_rate(currency, rate)?;
        self.touch(key);
        Ok(())
    }

    /// `ResetFriend`: exactly the terms that the user has read.
    pub(super) fn reset_friend(&mut self, name: &Name, terms: &ResetTerms) -> Result<(), Refusal> {
        let signer = self.signer.clone();
        let (key, friend) = self.friend_mut(name)?;
        let mut events = Vec::new();
        let accepted = friend.channel.accept_terms(terms, &*signer, &mut events);
        accepted.map_err(|_| Refusal::NoSuchTerms)?;
        self.on_channel_events(key, events);
        Ok(())
    }

    /// `LastEvidence`.
    pub(super) fn last_evidence(&self, name: &Name) -> Outcome {
        let evidence = self.friend_named(name).and_then(|key| {
            self.friends.get(&key).and_then(|friend| friend.channel.evidence()).ok_or(Refusal::NoEvidence)
        });
        match evidence {
            Ok(evidence) => Outcome::Done(Answer::Evidence(evidence)),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    pub(super) fn save_friend(&mut self, key: &PublicKey) {
        if let Some(friend) = self.friends.get(key) {
            self.changes.put(records::friend_key(key), &friend.record);
            self.touched.insert(*key);
        }
    }

    /// Asks for a link to an enabled friend, where it listens now.
    pub(super) fn keep_link(&mut self, key: &PublicKey) {
        if let Some(friend) = self.friends.get(key).filter(|friend| friend.record.enabled) {
            let relays = friend.record.relays.clone();
            self.hold(FunderOutput::KeepLink { friend: *key, relays });
        }
    }
}

/// Whether the user wants a link to a friend.
#[derive(Clone, Copy, Debug)]
pub(super) enum LinkWish {
    Keep,
    Stop,
}
