//! Tickets: who somebody is and where, so that others can connect or let them in.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::identity::PrivateKey;
use super::json::{Document, document, objects};
use super::{Kind, VERSION};
use crate::app::{IndexAddress, Permission, Permissions};
use crate::bytes::PublicKey;
use crate::codec::List;
use crate::identity::{Identity, Signer};
use crate::limits::MAX_RELAYS;
use crate::net::Address;
use crate::relay::RelayAddress;

/// Where a node listens for its apps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTicket {
    /// The node.
    pub public_key: PublicKey,
    /// Where it listens.
    pub address: Address,
}

/// An app that a node lets in: the file lies in the node's `--trusted` folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppTicket {
    /// The app.
    pub public_key: PublicKey,
    /// What it may do.
    pub permissions: Permissions,
}

/// All that an app needs to connect to a node, in one file: the node's ticket and the app's own identity.
#[derive(Debug)]
pub struct NodeEntry {
    /// The node.
    pub node: NodeTicket,
    /// Who the app is.
    pub app: Identity,
}

/// How to reach a node as a friend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FriendTicket {
    /// The node.
    pub public_key: PublicKey,
    /// Where it listens for friends.
    pub relays: List<RelayAddress, MAX_RELAYS>,
}

/// A relay inside a friend ticket.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RelayJson {
    public_key: PublicKey,
    address: Address,
}

impl From<RelayAddress> for RelayJson {
    fn from(relay: RelayAddress) -> Self {
        RelayJson { public_key: relay.public_key, address: relay.address }
    }
}

impl From<RelayJson> for RelayAddress {
    fn from(relay: RelayJson) -> Self {
        RelayAddress { public_key: relay.public_key, address: relay.address }
    }
}

/// Relays as a list of objects.
mod relays {
    use super::{List, MAX_RELAYS, RelayAddress, RelayJson, objects};

    pub(super) fn serialize<S: serde::Serializer>(
        relays: &List<RelayAddress, MAX_RELAYS>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        objects::serialize::<RelayAddress, RelayJson, MAX_RELAYS, S>(relays, serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<List<RelayAddress, MAX_RELAYS>, D::Error> {
        objects::deserialize::<RelayAddress, RelayJson, MAX_RELAYS, D>(deserializer)
    }
}

/// Permissions as a list of their names.
mod permissions {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Permission, Permissions};

    const ALL: [Permission; 4] = [Permission::Routes, Permission::Buyer, Permission::Seller, Permission::Config];

    pub(super) fn serialize<S: Serializer>(permissions: &Permissions, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ALL.iter().filter(|permission| permissions.allow(**permission)).map(|p| p.name()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Permissions, D::Error> {
        let names: List4 = List4::deserialize(deserializer)?;
        let mut permissions = Permissions::default();
        for name in names {
            let permission = ALL.into_iter().find(|permission| permission.name() == name.as_str());
            let given = match permission {
                Some(Permission::Routes) => &mut permissions.routes,
                Some(Permission::Buyer) => &mut permissions.buyer,
                Some(Permission::Seller) => &mut permissions.seller,
                Some(Permission::Config) => &mut permissions.config,
                None => return Err(D::Error::custom(format_args!("there is no permission '{name}'"))),
            };
            if std::mem::replace(given, true) {
                return Err(D::Error::custom(format_args!("the permission '{name}' stands there twice")));
            }
        }
        Ok(permissions)
    }

    type List4 = crate::codec::List<crate::codec::Text<16>, 4>;
}

/// `HOST:PORT`, as a user would write it. Whether the host exists is found out by connecting.
fn check_address(address: &Address) -> Result<(), String> {
    let text = address.as_str();
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_is_one = !host.is_empty() && !host.contains(char::is_whitespace);
        host_is_one && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good { Ok(()) } else { Err(format!("'{text}' is not an address HOST:PORT")) }
}

/// Parses `HOST:PORT` from a command line.
///
/// # Errors
/// One sentence.
pub fn address(text: &str) -> Result<Address, String> {
    let address = text.parse::<Address>().map_err(|error| error.to_string())?;
    check_address(&address)?;
    Ok(address)
}

document! { RelayAddress as RelayTicketJson, Kind::RelayTicket, check |ticket| check_address(&ticket.address), {
    public_key: PublicKey,
    address: Address,
}}

document! { IndexAddress as IndexTicketJson, Kind::IndexTicket, check |ticket| check_address(&ticket.address), {
    public_key: PublicKey,
    address: Address,
}}

document! { NodeTicket as NodeTicketJson, Kind::NodeTicket, check |ticket| check_address(&ticket.address), {
    public_key: PublicKey,
    address: Address,
}}

document! { AppTicket as AppTicketJson, Kind::AppTicket, check |_| Ok(()), {
    public_key: PublicKey,
    #[serde(with = "permissions")]
    permissions: Permissions,
}}

document! { FriendTicket as FriendTicketJson, Kind::FriendTicket,
    check |ticket| ticket.relays.iter().try_for_each(|relay| check_address(&relay.address)), {
    public_key: PublicKey,
    #[serde(with = "relays")]
    relays: List<RelayAddress, MAX_RELAYS>,
}}

#[doc(hidden)]
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntryJson {
    #[serde(rename = "type")]
    kind: Kind,
    version: u32,
    node_public_key: PublicKey,
    address: Address,
    app_public_key: PublicKey,
    app_private_key: PrivateKey,
}

impl Document for NodeEntry {
    const KIND: Kind = Kind::NodeEntry;
    type Json = NodeEntryJson;

    fn to_json(&self) -> NodeEntryJson {
        NodeEntryJson {
            kind: Kind::NodeEntry,
            version: VERSION,
            node_public_key: self.node.public_key,
            address: self.node.address.clone(),
            app_public_key: self.app.public_key(),
            app_private_key: PrivateKey(Zeroizing::clone(&self.app.private_key())),
        }
    }

    fn from_json(json: NodeEntryJson) -> Result<Self, String> {
        check_address(&json.address)?;
        let app = Identity::from_private_key(&json.app_private_key.0);
        if app.public_key() != json.app_public_key {
            return Err("the app's public key does not belong to its private key".to_owned());
        }
        Ok(NodeEntry { node: NodeTicket { public_key: json.node_public_key, address: json.address }, app })
    }
}
