//! The small JSON files that people and programs hand to each other. Text in, value out, and back; whoever calls does the reading
//! and writing.
//!
//! | `"type"` | value | made by | read by |
//! |---|---|---|---|
//! | `identity` | [`Identity`](crate::identity::Identity) | `stmgr gen-ident` | every program, as `--idfile`; a secret |
//! | `locked-identity` | [`LockedIdentity`] | `stmgr gen-ident` and `lock-ident`, with a passphrase | every program, as `--idfile`; a secret to all who could guess the passphrase |
//! | `relay-ticket` | [`RelayAddress`](crate::relay::RelayAddress) | `stmgr relay-ticket` | `stctrl config add-relay` |
//! | `index-ticket` | [`IndexAddress`](crate::app::IndexAddress) | `stmgr index-ticket` | `stctrl config add-index`; `stindex --trusted` |
//! | `node-ticket` | [`NodeTicket`] | `stmgr node-ticket` | `stctrl --ticket` |
//! | `app-ticket` | [`AppTicket`] | `stmgr app-ticket` | `stnode --trusted` |
//! | `node-entry` | [`NodeEntry`] | `stmgr node-entry` | `stctrl --ticket`, without `--idfile`; a secret |
//! | `friend-ticket` | [`FriendTicket`] | `stctrl info export-ticket` | `stctrl config add-friend`, `set-friend-relays` |
//! | `invoice` | [`Invoice`](crate::payment::Invoice) | `stctrl seller create-invoice` | buyer and seller, `stverify` |
//! | `payment` | [`Payment`] | `stctrl buyer pay-invoice` | `stctrl buyer payment-status` |
//! | `commit` | [`Commit`](crate::payment::Commit) | `stctrl buyer pay-invoice` | `stctrl seller commit-invoice` |
//! | `receipt` | [`Receipt`](crate::payment::Receipt) | `stctrl buyer payment-status` | `stverify verify-receipt` |
//! | `token` | [`Evidence`](crate::friend::Evidence) | `stctrl info friend-last-token` | `stverify verify-token` |
//!
//! 1. Every file is one JSON object with a `"type"`, a `"version"` and the fields of its type: unknown, missing and repeated
//!    fields are errors.
//! 2. Keys, ids, locks and signatures are base64url without padding; amounts are decimal strings, as JSON numbers lose digits.
//! 3. A file longer than [`MAX_FILE_BYTES`] is not looked at.
//! 4. Errors are for a terminal: they hold no control characters, are short, and never quote an identity file.
//!
//! Not checked here: whether signatures are good; see `verify` of commit, receipt and evidence.

mod identity;
mod json;
mod locked;
mod payment;
#[cfg(test)]
mod tests;
mod tickets;
mod token;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use json::Document;
pub use locked::{Hardness, LockedIdentity, SALT_BYTES, SEALED_BYTES};
pub use payment::Payment;
pub use tickets::{AppTicket, FriendTicket, NodeEntry, NodeTicket, address};

/// Bytes of a file. The longest of ours, a token with 32 currencies, has about 8 KiB.
pub const MAX_FILE_BYTES: usize = 64 * 1024;
/// The version of every type of file.
pub const VERSION: u32 = 1;
/// Characters of an error's detail. It may quote the file, and the file may be hostile.
const MAX_DETAIL: usize = 200;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A private key.
    Identity,
    /// A private key that a passphrase opens.
    LockedIdentity,
    /// Where a relay is.
    RelayTicket,
    /// Where an index server is.
    IndexTicket,
    /// Where a node is, for its apps.
    NodeTicket,
    /// Who an app is and what it may do, for a node.
    AppTicket,
    /// Node ticket and app identity in one.
    NodeEntry,
    /// How to reach a node as a friend.
    FriendTicket,
    /// A seller's demand.
    Invoice,
    /// A payment that a buyer began.
    Payment,
    /// A buyer's word to the seller.
    Commit,
    /// Proof of a payment.
    Receipt,
    /// A friend's last signature on a balance.
    Token,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 13] = [
        Kind::Identity,
        Kind::LockedIdentity,
        Kind::RelayTicket,
        Kind::IndexTicket,
        Kind::NodeTicket,
        Kind::AppTicket,
        Kind::NodeEntry,
        Kind::FriendTicket,
        Kind::Invoice,
        Kind::Payment,
        Kind::Commit,
        Kind::Receipt,
        Kind::Token,
    ];

    /// The `"type"` in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Identity => "identity",
            Kind::LockedIdentity => "locked-identity",
            Kind::RelayTicket => "relay-ticket",
            Kind::IndexTicket => "index-ticket",
            Kind::NodeTicket => "node-ticket",
            Kind::AppTicket => "app-ticket",
            Kind::NodeEntry => "node-entry",
            Kind::FriendTicket => "friend-ticket",
            Kind::Invoice => "invoice",
            Kind::Payment => "payment",
            Kind::Commit => "commit",
            Kind::Receipt => "receipt",
            Kind::Token => "token",
        }
    }

    /// Whether the file holds a private key: it belongs to its owner's eyes only, and errors do not quote it.
    pub const fn is_secret(self) -> bool {
        match self {
            Kind::Identity | Kind::LockedIdentity | Kind::NodeEntry => true,
            Kind::RelayTicket
            | Kind::IndexTicket
            | Kind::NodeTicket
            | Kind::AppTicket
            | Kind::FriendTicket
            | Kind::Invoice
            | Kind::Payment
            | Kind::Commit
            | Kind::Receipt
            | Kind::Token => false,
        }
    }
}

/// With its article, for sentences: `an app ticket`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Identity => "an identity",
            Kind::LockedIdentity => "a locked identity",
            Kind::RelayTicket => "a relay ticket",
            Kind::IndexTicket => "an index ticket",
            Kind::NodeTicket => "a node ticket",
            Kind::AppTicket => "an app ticket",
            Kind::NodeEntry => "a node entry",
            Kind::FriendTicket => "a friend ticket",
            Kind::Invoice => "an invoice",
            Kind::Payment => "a payment",
            Kind::Commit => "a commit",
            Kind::Receipt => "a receipt",
            Kind::Token => "a token",
        })
    }
}

/// Why a file is not what was wanted. Each reads on from "FILE: …" as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// More than [`MAX_FILE_BYTES`].
    #[error("it has more than {MAX_FILE_BYTES} bytes, which no Offset file has")]
    TooLong,
    /// Not a JSON object, or one without a type and a version.
    #[error("it is not an Offset file: {0}")]
    NotOurs(String),
    /// A type that this version does not know: its name in quotes and a space, or nothing if it is no name.
    #[error("its type {0}is unknown to this version")]
    UnknownKind(String),
    /// A type that is known, in a newer form.
    #[error("it is {kind} of version {version}; this program reads version {VERSION}")]
    UnknownVersion {
        /// What it is.
        kind: Kind,
        /// The version it claims.
        version: u32,
    },
    /// A good file of another type.
    #[error("it is {found}, but {expected} is needed")]
    WrongKind {
        /// What it is.
        found: Kind,
        /// What was wanted.
        expected: Kind,
    },
    /// The right type, but its fields are wrong.
    #[error("it is not a valid {}: {why}", .kind.name())]
    Malformed {
        /// What it should be.
        kind: Kind,
        /// What is wrong.
        why: String,
    },
}

/// What kind of file this is. Only type and version are looked at.
///
/// # Errors
/// [`FileError`] if it is none of ours.
pub fn kind_of(bytes: &[u8]) -> Result<Kind, FileError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(FileError::TooLong);
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|error| FileError::NotOurs(position(&error)))?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == head.kind);
    let kind = kind.ok_or_else(|| FileError::UnknownKind(quoted_name(&head.kind)))?;
    if head.version != VERSION {
        return Err(FileError::UnknownVersion { kind, version: head.version });
    }
    Ok(kind)
}

/// The two fields that every file has.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    version: u32,
}

/// Reads a file of type `T`.
///
/// # Errors
/// [`FileError`] for anything but a whole, valid file of that type.
pub fn parse<T: Document>(bytes: &[u8]) -> Result<T, FileError> {
    let found = kind_of(bytes)?;
    let expected = T::KIND;
    if found != expected {
        return Err(FileError::WrongKind { found, expected });
    }
    let malformed = |why| FileError::Malformed { kind: expected, why };
    let json: T::Json = serde_json::from_slice(bytes).map_err(|error| {
        // Of a secret only the place is told: a message may quote a value.
        malformed(if expected.is_secret() { position(&error) } else { printable(&error.to_string()) })
    })?;
    T::from_json(json).map_err(malformed)
}

/// The file of `value`: JSON with a line for each field. Zeroised on drop, as it may hold a private key.
pub fn print<T: Document>(value: &T) -> Zeroizing<String> {
    // Room enough that a secret is not left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    let result = serde_json::to_writer_pretty(&mut *text, &value.to_json());
    // Writing into a Vec cannot fail, and none of our types refuses.
    debug_assert!(result.is_ok(), "a file type refused to be written");
    text.push(b'\n');
    Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).unwrap_or_default())
}

/// A type's name and a space, if it may be one: anything else may be a key that was pasted to the wrong place.
fn quoted_name(kind: &str) -> String {
    /// Longer than all of ours.
    const LONGEST: usize = 24;
    let is_name = kind.len() <= LONGEST && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if is_name { format!("'{kind}' ") } else { String::new() }
}

/// Where an error is, without what it quotes.
fn position(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Eof => "JSON that breaks off",
        serde_json::error::Category::Data => "a missing, repeated or wrong field",
    };
    format!("{what} at line {}, column {}", error.line(), error.column())
}

/// `text` without what could upset a terminal, and not long.
fn printable(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() || is_invisible(c) { '?' } else { c }).collect();
    match clean.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// Characters that change the direction of text or have no width: they can make a terminal show something else than what is there.
pub const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
