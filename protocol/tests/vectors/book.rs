//! Pages of vectors: ordered fields, printed as JSON with a line for each field, and the checks that read them back.

use std::fmt;

use data_encoding::HEXLOWER;
use offset_protocol::bytes::{Hash, PublicKey, Signature};
use offset_protocol::codec::{decode, encode};
use offset_protocol::context::Context;
use offset_protocol::identity;
use offset_protocol::limits::MAX_FRAME;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::diagnostic::diagnostic;

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// One file.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) vectors: Vec<Vector>,
}

/// What must hold of a vector as its file has it.
type Check = Box<dyn Fn(&Value) -> Result<(), String>>;

/// One vector: fields in the order in which they are printed.
pub(crate) struct Vector {
    pub(crate) name: String,
    fields: Vec<(&'static str, Value)>,
    checks: Vec<Check>,
}

impl Page {
    pub(crate) fn print(&self) -> String {
        serde_json::to_string_pretty(self).unwrap() + "\n"
    }
}

impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("about", self.about)?;
        map.serialize_entry("vectors", &self.vectors)?;
        map.end()
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = Value::from(self.name.clone());
        let first = ("name", &name);
        serializer.collect_map(std::iter::once(first).chain(self.fields.iter().map(|(key, value)| (*key, value))))
    }
}

impl Vector {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Vector { name: name.into(), fields: Vec::new(), checks: Vec::new() }
    }

    /// Adds a field. It is compared with the file as text, like everything.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((key, value.into()));
        self
    }

    pub(crate) fn hex(self, key: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        self.with(key, hex(bytes))
    }

    pub(crate) fn checked(mut self, check: impl Fn(&Value) -> Result<(), String> + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// Runs the checks against what the file holds.
    pub(crate) fn check(&self, found: &Value) -> Result<(), String> {
        self.checks.iter().try_for_each(|check| check(found))
    }

    /// A value of the wire: its type's name in the specification, its bytes, and the same in diagnostic notation.
    pub(crate) fn wire<T>(name: impl Into<String>, of: &'static str, value: T) -> Self
    where
        T: Serialize + DeserializeOwned + PartialEq + fmt::Debug + 'static,
    {
        let bytes = encode(&value);
        Vector::new(name).with("type", of).with("diagnostic", diagnostic(&bytes)).hex("cbor", bytes).checked(
            move |found| {
                let bytes = unhex(text(found, "cbor"));
                match decode::<T>(&bytes, MAX_FRAME) {
                    Ok(decoded) if decoded == value => Ok(()),
                    Ok(decoded) => Err(format!("decodes to {decoded:?}")),
                    Err(error) => Err(error.to_string()),
                }
            },
        )
    }

    /// Bytes that are no `T`.
    pub(crate) fn refused<T: DeserializeOwned + 'static>(name: &str, of: &'static str, bytes: &[u8]) -> Self {
        Vector::new(name).with("type", of).hex("refused", bytes).checked(|found| {
            let bytes = unhex(text(found, "refused"));
            decode::<T>(&bytes, MAX_FRAME).map_or(Ok(()), |_| Err("it is decoded".to_owned()))
        })
    }

    /// A hash with everything that goes into it, and a check that hashes that independently.
    pub(crate) fn hash(name: impl Into<String>, context: Context, parts: &[Part<'_>], hash: &[u8; 32]) -> Self {
        let input: Vec<u8> = parts.iter().flat_map(Part::input).collect();
        let parts: Vec<Value> = parts.iter().map(|part| Value::from(part.to_string())).collect();
        Vector::new(name)
            .with("context", context.text())
            .with("parts", parts)
            .hex("input", input)
            .hex("hash", hash)
            .checked(|found| {
                let input = unhex(text(found, "input"));
                let hash = blake3::derive_key(text(found, "context"), &input);
                if hex(hash) == text(found, "hash") { Ok(()) } else { Err("the input has another hash".to_owned()) }
            })
    }

    /// A signature over a hash, and a check that it holds.
    pub(crate) fn signed(self, by: PublicKey, hash: Hash, signature: Signature) -> Self {
        self.hex("signer", by).hex("signed_hash", hash).hex("signature", signature).checked(|found| {
            let key = PublicKey(unhex(text(found, "signer")).try_into().unwrap());
            let hash = Hash(unhex(text(found, "signed_hash")).try_into().unwrap());
            let signature = Signature(unhex(text(found, "signature")).try_into().unwrap());
            identity::verify(&key, &hash, &signature).map_err(|error| error.to_string())
        })
    }
}

/// A field that must be text.
pub(crate) fn text<'a>(found: &'a Value, key: &str) -> &'a str {
    found[key].as_str().unwrap_or_else(|| panic!("no text under '{key}'"))
}

/// One part of what is hashed.
pub(crate) enum Part<'a> {
    Fixed(&'static str, &'a [u8]),
    Bytes(&'static str, &'a [u8]),
    U8(&'static str, u8),
    U32(&'static str, u32),
    U64(&'static str, u64),
    U128(&'static str, u128),
    I128(&'static str, i128),
}

impl Part<'_> {
    /// The bytes as they enter the hash, by the specification's rules and without the crate's own hasher.
    fn input(&self) -> Vec<u8> {
        match self {
            Part::Fixed(_, bytes) => bytes.to_vec(),
            Part::Bytes(_, bytes) => [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat(),
            Part::U8(_, number) => vec![*number],
            Part::U32(_, number) => number.to_le_bytes().to_vec(),
            Part::U64(_, number) => number.to_le_bytes().to_vec(),
            Part::U128(_, number) => number.to_le_bytes().to_vec(),
            Part::I128(_, number) => number.to_le_bytes().to_vec(),
        }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Fixed(name, bytes) => write!(f, "{name}: {}", hex(bytes)),
            Part::Bytes(name, bytes) => write!(f, "{name}: u32 length, then {}", hex(bytes)),
            Part::U8(name, number) => write!(f, "{name}: u8 {number}"),
            Part::U32(name, number) => write!(f, "{name}: u32 {number}"),
            Part::U64(name, number) => write!(f, "{name}: u64 {number}"),
            Part::U128(name, number) => write!(f, "{name}: u128 {number}"),
            Part::I128(name, number) => write!(f, "{name}: i128 {number}"),
        }
    }
}
