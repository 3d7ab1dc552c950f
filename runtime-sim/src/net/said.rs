//! Whether what is heard over a link is what was said (I15): each message once, in order, unaltered.
//!
//! Both ends of a link's secure channel are honest in this: even a cheater seals through the channel, and what it puts into
//! the stream past the channel never opens. So whatever a channel gives its owner must be the oldest message that the other
//! end sealed and that was not heard yet. Messages are remembered by a checksum, for as long as the link lasts.
//!
//! Not looked at: channels inside of a relay's tunnel, which belong to the nodes at its ends; that they end as forged only
//! where somebody forges is a mark that honest runs may not reach ([`crate::check::marks`]).

use std::collections::VecDeque;

use super::{LinkId, Network, Side};

/// What one end said and the other has not heard yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Said(VecDeque<u64>);

impl Network {
    /// This side has sealed a message.
    pub(crate) fn on_said(&mut self, id: LinkId, side: Side, message: &[u8]) {
        if !self.looks_on {
            return;
        }
        if let Some(link) = self.link_mut(id) {
            link.said[side.index()].0.push_back(checksum(message));
        }
    }

    /// This side has opened a message.
    pub(crate) fn on_heard(&mut self, id: LinkId, side: Side, message: &[u8]) {
        if !self.looks_on || self.misheard.is_some() {
            return;
        }
        let Some(link) = self.link_mut(id) else { return };
        let said = link.said[side.other().index()].0.pop_front();
        if said != Some(checksum(message)) {
            let [from, to] = [link.ends[side.other().index()].host, link.ends[side.index()].host];
            let length = message.len();
            self.misheard = Some(format!("{to} heard {length} bytes that are not what {from} said next"));
        }
    }
}

/// Tells messages apart that a bug could confuse; nobody attacks it.
fn checksum(message: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(ODD).rotate_left(29);
    let (words, rest) = message.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = words.iter().fold(message.len() as u64, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    mix(sum, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_differ_in_a_bit_a_byte_or_their_order_have_other_checksums() {
        let message = b"a message of more than three words".to_vec();
        let mut sums = vec![checksum(&message), checksum(&message[1..]), checksum(b""), checksum(b"\0")];
        for at in 0..message.len() {
            let mut bent = message.clone();
            bent[at] ^= 1;
            sums.push(checksum(&bent));
        }
        let count = sums.len();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), count);
    }
}
