//! Records: what travels after the handshake, sealed in place.
//!
//! ```text
//! length u16 BE | ChaCha20-Poly1305( type u8 | content length u16 BE | content | zeros ) | tag 16
//! ```
//!
//! Guards, in each direction by itself:
//! 1. A record opens only as the next one in order, under the key of that direction: nonce = number of records before it.
//! 2. After every [`REKEY_RECORDS`] records the key is replaced by Noise's `REKEY(key)`; the count goes on.
//! 3. The length of a record tells the length of its content only in steps of 64 bytes (up to 1 KiB) or 256 bytes.
//! 4. There is one encoding of a record: a surplus or missing step, or padding that is not zero, is refused.
//!
//! Does *not* know which record may come when; that is the channel's business.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use zeroize::{Zeroize, Zeroizing};

use super::resolver::{TAG, nonce};
use super::{CloseReason, Misbehaviour};
use crate::limits::REKEY_RECORDS;

/// Bytes of the length in front of a record or a handshake frame.
pub(super) const LENGTH: usize = 2;
/// Bytes inside a record before the content: type and content length.
const INNER_HEADER: usize = 3;
/// Sealed bytes are a multiple of this up to [`SMALL`]. Hides a keepalive, a rekey and a small message from each other.
const SMALL_STEP: usize = 64;
/// Up to here steps are small.
const SMALL: usize = 1_024;
/// Sealed bytes are a multiple of this beyond [`SMALL`]. Costs at most a quarter of a message, and soon far less.
const LARGE_STEP: usize = 256;
/// Noise allows 65,535 bytes with the tag; this is the last whole step below 65,519.
pub(super) const MAX_PLAIN: usize = (u16::MAX as usize - TAG) / LARGE_STEP * LARGE_STEP;
/// Content of one record; a longer message is split.
pub(super) const MAX_CONTENT: usize = MAX_PLAIN - INNER_HEADER;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The last or only part of a message.
    Data,
    /// A part of a message; more follows.
    More,
    /// Nothing but a sign of life.
    Keepalive,
    /// A step of the exchange of new keys.
    Rekey,
    /// The end.
    Close,
    /// The responder hears the initiator from now on.
    Admitted,
}

impl Kind {
    pub(super) const fn tag(self) -> u8 {
        match self {
            Kind::Data => 1,
            Kind::More => 2,
            Kind::Keepalive => 3,
            Kind::Rekey => 4,
            Kind::Close => 5,
            Kind::Admitted => 6,
        }
    }

    fn from_tag(tag: u8) -> Result<Self, Misbehaviour> {
        match tag {
            1 => Ok(Kind::Data),
            2 => Ok(Kind::More),
            3 => Ok(Kind::Keepalive),
            4 => Ok(Kind::Rekey),
            5 => Ok(Kind::Close),
            6 => Ok(Kind::Admitted),
            unknown => Err(Misbehaviour::UnknownRecord(unknown)),
        }
    }
}

/// Plain bytes of a record with `content` bytes of content.
pub(super) const fn padded(content: usize) -> usize {
    let length = INNER_HEADER + content;
    if length <= SMALL { length.next_multiple_of(SMALL_STEP) } else { length.next_multiple_of(LARGE_STEP) }
}

/// Whether a record can be announced with `length`: judged before any of it is kept.
pub(super) fn check_length(length: usize) -> Result<(), Misbehaviour> {
    let plain = length.checked_sub(TAG).ok_or(Misbehaviour::RecordLength(length))?;
    let step = if plain <= SMALL { SMALL_STEP } else { LARGE_STEP };
    let whole = plain != 0 && plain <= MAX_PLAIN && plain.is_multiple_of(step);
    if whole { Ok(()) } else { Err(Misbehaviour::RecordLength(length)) }
}

/// A secret key of one direction.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// One opened record; its content still lies in the buffer that was opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) content: &'a [u8],
}

/// The key of one direction and how many records it has seen.
pub(super) struct Direction {
    key: Key,
    count: u64,
    /// [`REKEY_RECORDS`], except in tests.
    rekey_records: u64,
}

impl Direction {
    pub(super) fn new(key: Key) -> Self {
        Direction { key, count: 0, rekey_records: REKEY_RECORDS }
    }

    /// Appends one sealed record to `wire`, sealed where it lies. At most [`MAX_CONTENT`] bytes of content.
    pub(super) fn seal(&mut self, kind: Kind, content: &[u8], wire: &mut Vec<u8>) {
        debug_assert!(content.len() <= MAX_CONTENT);
        let (content_length, plain) = (content.len() as u16, padded(content.len()));
        wire.reserve(LENGTH + plain + TAG);
        wire.extend_from_slice(&((plain + TAG) as u16).to_be_bytes());
        let start = wire.len();
        wire.push(kind.tag());
        wire.extend_from_slice(&content_length.to_be_bytes());
        wire.extend_from_slice(content);
        wire.resize(start + plain, 0);
        let tag = self
            .cipher()
            .encrypt_inout_detached((&nonce(self.count)).into(), &[], (&mut wire[start..]).into())
            .expect("a record is far below the cipher's limit of 256 GiB");
        wire.extend_from_slice(&tag);
        self.advance();
    }

    /// Opens one record, without the length in front of it, where it lies.
    ///
    /// # Errors
    /// [`CloseReason::Forged`] if the key does not open it, [`CloseReason::Misbehaved`] if what it opens to is no record.
    pub(super) fn open<'a>(&mut self, sealed: &'a mut [u8]) -> Result<Record<'a>, CloseReason> {
        let (plain, tag) = sealed.split_last_chunk_mut::<TAG>().ok_or(CloseReason::Forged)?;
        self.cipher()
            .decrypt_inout_detached((&nonce(self.count)).into(), &[], (&mut *plain).into(), (&*tag).into())
            .map_err(|_| CloseReason::Forged)?;
        self.advance();
        parse(plain).map_err(CloseReason::Misbehaved)
    }

    /// The key of the next record, from which a fresh one is derived.
    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Uses `key` from the next record on; the count goes on.
    pub(super) fn switch(&mut self, key: Key) {
        self.key = key;
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.key).into())
    }

    fn advance(&mut self) {
        // At ten million records a second the count lasts for 58,000 years.
        self.count = self.count.wrapping_add(1);
        if self.count.is_multiple_of(self.rekey_records) {
            self.rekey();
        }
    }

    /// `REKEY` of the Noise specification, 4.2: the first 32 bytes of zeros sealed under the greatest nonce.
    fn rekey(&mut self) {
        let mut next = Zeroizing::new([0; 32]);
        let tag = self
            .cipher()
            .encrypt_inout_detached((&nonce(u64::MAX)).into(), &[], (&mut next[..]).into())
            .expect("32 bytes are far below the cipher's limit of 256 GiB");
        let mut tag: [u8; TAG] = tag.into();
        tag.zeroize();
        self.key = next;
    }

    #[cfg(test)]
    pub(super) fn set_rekey_records(&mut self, records: u64) {
        self.rekey_records = records;
    }
}

fn parse(plain: &[u8]) -> Result<Record<'_>, Misbehaviour> {
    let (header, rest) = plain.split_first_chunk::<INNER_HEADER>().ok_or(Misbehaviour::ContentLength)?;
    let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
    if padded(length) != plain.len() {
        return Err(Misbehaviour::ContentLength);
    }
    let (content, padding) = rest.split_at_checked(length).ok_or(Misbehaviour::ContentLength)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Misbehaviour::Padding);
    }
    Ok(Record { kind: Kind::from_tag(header[0])?, content })
}
