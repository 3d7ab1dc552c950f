//! A node with a cheater inside: what passes between its funder and its links goes through a [`Meddler`].

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::decode;
use offset_protocol::friend::FriendMessage;
use offset_protocol::limits::MAX_FRAME;

use super::Node;
use crate::links;
use crate::meddle::{Deed, Heard, LinkNews, Meddler};

impl Node {
    /// Lets somebody meddle with what this node says to its friends and hears from them.
    pub fn set_meddler(&mut self, meddler: Box<dyn Meddler>) {
        self.meddler = Some(meddler);
    }

    pub(super) fn tick_meddler(&mut self) {
        if let Some(meddler) = &mut self.meddler {
            meddler.tick(self.now);
        }
        self.drain_meddler();
    }

    pub(super) fn tell_meddler(&mut self, friend: PublicKey, news: LinkNews) {
        if let Some(meddler) = &mut self.meddler {
            meddler.on_link(self.now, friend, news);
        }
        self.drain_meddler();
    }

    /// Gives the message back if nobody meddles.
    pub(super) fn meddle(&mut self, friend: PublicKey, message: FriendMessage) -> Option<FriendMessage> {
        let Some(meddler) = &mut self.meddler else { return Some(message) };
        meddler.on_outgoing(self.now, friend, message);
        self.drain_meddler();
        None
    }

    /// Whether the funder does not hear what a friend said.
    pub(super) fn is_kept_back(&mut self, friend: PublicKey, bytes: &[u8]) -> bool {
        let (Some(meddler), Ok(message)) = (&mut self.meddler, decode(bytes, MAX_FRAME)) else { return false };
        let heard = meddler.on_incoming(self.now, friend, &message);
        self.drain_meddler();
        heard == Heard::No
    }

    fn drain_meddler(&mut self) {
        while let Some(deed) = self.meddler.as_mut().and_then(|meddler| meddler.poll_deed()) {
            match deed {
                Deed::Say { friend, message } => self.links(links::Input::Send { friend, message }),
                Deed::SayBytes { friend, bytes } => {
                    self.links.say_bytes(self.now, friend, bytes);
                    self.drain_links();
                }
                Deed::Garble { friend, bytes } => {
                    self.links.garble(self.now, friend, bytes);
                    self.drain_links();
                }
                Deed::HangUp { friend } => self.links(links::Input::DropLink { friend }),
            }
        }
    }
}
