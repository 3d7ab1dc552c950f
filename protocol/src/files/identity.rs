//! Identity files: the private key, and the public key so that a human can tell them apart.

use data_encoding::BASE64URL_NOPAD;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::json::Document;
use super::{Kind, VERSION};
use crate::bytes::PublicKey;
use crate::identity::{Identity, Signer};

/// Characters of a private key.
const TEXT_LENGTH: usize = 43;

/// A private key on its way into or out of a file; zeroised on drop.
#[derive(Clone)]
pub(super) struct PrivateKey(pub(super) Zeroizing<[u8; 32]>);

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new([0; TEXT_LENGTH]);
        BASE64URL_NOPAD.encode_mut(self.0.as_slice(), text.as_mut_slice());
        serializer.serialize_str(std::str::from_utf8(text.as_slice()).unwrap_or(""))
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = PrivateKey;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a private key in base64url without padding")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<PrivateKey, E> {
                if text.len() != TEXT_LENGTH {
                    return Err(E::custom("a private key has 43 characters"));
                }
                let mut key = Zeroizing::new([0; 32]);
                match BASE64URL_NOPAD.decode_mut(text.as_bytes(), key.as_mut_slice()) {
                    Ok(_) => Ok(PrivateKey(key)),
                    Err(_) => Err(E::custom("a private key is base64url without padding")),
                }
            }
        }
        deserializer.deserialize_str(Key)
    }
}

#[doc(hidden)]
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityJson {
    #[serde(rename = "type")]
    kind: Kind,
    version: u32,
    public_key: PublicKey,
    private_key: PrivateKey,
}

impl Document for Identity {
    const KIND: Kind = Kind::Identity;
    type Json = IdentityJson;

    fn to_json(&self) -> IdentityJson {
        let private_key = PrivateKey(self.private_key());
        IdentityJson { kind: Kind::Identity, version: VERSION, public_key: self.public_key(), private_key }
    }

    fn from_json(json: IdentityJson) -> Result<Self, String> {
        let identity = Identity::from_private_key(&json.private_key.0);
        if identity.public_key() != json.public_key {
            return Err("the public key does not belong to the private key".to_owned());
        }
        Ok(identity)
    }
}
