//! How values become JSON objects: a private struct per type, made by one macro, and the forms of single fields.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Kind;

/// A value that has a file.
pub trait Document: Sized {
    /// What its file is called.
    const KIND: Kind;
    /// The JSON object.
    #[doc(hidden)]
    type Json: Serialize + DeserializeOwned;
    /// The object of this value.
    #[doc(hidden)]
    fn to_json(&self) -> Self::Json;
    /// The value of an object; the error is what is wrong with it.
    #[doc(hidden)]
    fn from_json(json: Self::Json) -> Result<Self, String>;
}

/// Gives the struct `$value` a file whose fields are those of the struct. `check` is asked before a value is let in.
macro_rules! document {
    ($value:ident as $json:ident, $kind:expr, check $check:expr, { $($(#[$meta:meta])* $field:ident : $fty:ty),* $(,)? }) => {
        #[doc(hidden)]
        #[derive(::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $json {
            #[serde(rename = "type")]
            kind: $crate::files::Kind,
            version: u32,
            $($(#[$meta])* $field: $fty),*
        }

        impl $crate::files::Document for $value {
            const KIND: $crate::files::Kind = $kind;
            type Json = $json;
            fn to_json(&self) -> $json {
                $json { kind: $kind, version: $crate::files::VERSION, $($field: self.$field.clone()),* }
            }
            fn from_json(json: $json) -> Result<Self, String> {
                let value = $value { $($field: json.$field),* };
                let check: fn(&$value) -> Result<(), String> = $check;
                check(&value)?;
                Ok(value)
            }
        }
    };
}
pub(super) use document;

/// Amounts as decimal strings, in the one form that printing gives.
pub(super) mod decimal {
    use std::fmt::Display;
    use std::str::FromStr;

    use super::{Deserialize, Deserializer, Error, Serializer};

    pub(in crate::files) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in crate::files) fn deserialize<'de, T: FromStr + Display, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<T>() {
            Ok(value) if value.to_string() == text => Ok(value),
            Ok(_) | Err(_) => Err(D::Error::custom("an amount is a decimal number in quotes")),
        }
    }
}

/// Byte strings of bounded length as base64url without padding.
pub(super) mod base64url {
    use data_encoding::BASE64URL_NOPAD;

    use super::{Deserialize, Deserializer, Error, Serializer};
    use crate::codec::Blob;

    pub(in crate::files) fn serialize<const MAX: usize, S: Serializer>(
        value: &Blob<MAX>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(value))
    }

    pub(in crate::files) fn deserialize<'de, const MAX: usize, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Blob<MAX>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes =
            BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| D::Error::custom("not base64url without padding"))?;
        Blob::try_from(bytes).map_err(D::Error::custom)
    }
}

/// Byte strings of one length as base64url without padding.
pub(super) mod base64url_fixed {
    use data_encoding::BASE64URL_NOPAD;

    use super::{Deserialize, Deserializer, Error, Serializer};

    pub(in crate::files) fn serialize<const N: usize, S: Serializer>(
        value: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(value))
    }

    pub(in crate::files) fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| D::Error::custom(format_args!("not {N} bytes in base64url without padding")))
    }
}

/// Lists whose elements are written as JSON objects by `J`, though they travel as arrays.
pub(super) mod objects {
    use super::{Deserialize, Deserializer, Error, Serialize, Serializer};
    use crate::codec::List;

    pub(in crate::files) fn serialize<T: Clone, J: From<T> + Serialize, const MAX: usize, S: Serializer>(
        values: &List<T, MAX>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().cloned().map(J::from))
    }

    pub(in crate::files) fn deserialize<
        'de,
        T,
        J: Into<T> + Deserialize<'de>,
        const MAX: usize,
        D: Deserializer<'de>,
    >(
        deserializer: D,
    ) -> Result<List<T, MAX>, D::Error> {
        let objects: Vec<J> = Vec::deserialize(deserializer)?;
        List::try_from(objects.into_iter().map(J::into).collect::<Vec<T>>()).map_err(D::Error::custom)
    }
}
