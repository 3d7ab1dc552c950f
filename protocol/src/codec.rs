//! CBOR, behind one door: what may be encoded, how it looks, and every bound that decoding checks.
//!
//! * A struct is an array of its fields in order; an enum is `[tag, fields…]`; fixed byte strings are CBOR byte strings.
//! * Decoding is bounded: the caller checks the frame's length first, every list, text and byte string has a bound of its
//!   own, and missing, surplus or trailing data and unknown tags are errors. No type contains itself, and what is surplus is
//!   not looked into, so a value nests no deeper than the type that it is read as: 9 levels at most.
//! * What is signed or hashed is the bytes that travelled; nothing is ever encoded again to check it.
//!
//! Types for the wire are made with [`wire_struct!`](crate::wire_struct) and [`wire_enum!`](crate::wire_enum).

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use serde::de::{DeserializeOwned, DeserializeSeed, Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::mutant;

/// Elements reserved before they have been read; more grows as they arrive, so that an announced length costs nothing.
const RESERVED_ELEMENTS: usize = 64;

/// Room for most encoded values: without it, it would be doubled again and again from nothing. Measured: most are 40 to 160.
const USUAL_BYTES: usize = 160;

/// Bytes that are not a valid encoding of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than the message type allows.
    #[error("{length} bytes are more than the limit of {limit}")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not CBOR, or not a value of the expected type.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A whole value, then more.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

/// Encodes `value`. Our types always encode; see [`wire_struct!`](crate::wire_struct).
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL_BYTES);
    encode_into(value, &mut out);
    out
}

/// Appends the encoding of `value` to `out`.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Writing into a Vec cannot fail, and no type of ours refuses to be serialised.
    let result = ciborium::into_writer(value, out);
    debug_assert!(result.is_ok(), "a wire type refused to be encoded");
}

/// Decodes exactly one `T` of at most `limit` bytes.
///
/// # Errors
/// [`DecodeError`] for anything but one whole, bounded, well-formed value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { length: bytes.len(), limit });
    }
    let mut rest = bytes;
    // Room for pieces of strings, which has to be cleared: most messages are short.
    let value = match bytes.len() {
        0..=192 => ciborium::de::from_reader_with_buffer(&mut rest, &mut [0; 192]),
        193..=1_024 => ciborium::de::from_reader_with_buffer(&mut rest, &mut [0; 1_024]),
        _ => ciborium::de::from_reader_with_buffer(&mut rest, &mut [0; 4_096]),
    };
    let value = value.map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() || mutant!(TrailingAccepted) { Ok(value) } else { Err(DecodeError::Trailing(rest.len())) }
}

/// The next field of an array; an error names the type it is missing from.
#[doc(hidden)]
pub fn next_field<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A, of: &'static str) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| A::Error::custom(format_args!("{of} has too few fields")))
}

/// Demands that an array has no more elements.
#[doc(hidden)]
pub fn no_more_fields<'de, A: SeqAccess<'de>>(seq: &mut A, of: &'static str) -> Result<(), A::Error> {
    seq.next_element_seed(Surplus { of }).map(|_| ())
}

/// An element that must not be there; it is not looked into.
struct Surplus {
    of: &'static str,
}

impl<'de> DeserializeSeed<'de> for Surplus {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<(), D::Error> {
        Err(D::Error::custom(format_args!("{} has too many fields", self.of)))
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __wire_one {
    ($($any:tt)*) => {
        1usize
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __wire_any {
    ($any:ty) => {
        _
    };
}

/// Defines a struct that travels as an array of its fields in order.
#[macro_export]
macro_rules! wire_struct {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $fvis:vis $field:ident : $fty:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        $vis struct $name { $($(#[$fmeta])* $fvis $field: $fty),* }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> ::std::result::Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeTuple as _;
                let mut tuple = serializer.serialize_tuple(0 $(+ $crate::__wire_one!($field))*)?;
                $(tuple.serialize_element(&self.$field)?;)*
                tuple.end()
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<Self, D::Error> {
                struct Fields;
                impl<'de> ::serde::de::Visitor<'de> for Fields {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str(concat!("the fields of ", stringify!($name)))
                    }
                    fn visit_seq<A: ::serde::de::SeqAccess<'de>>(self, mut seq: A) -> ::std::result::Result<$name, A::Error> {
                        let value = $name { $($field: $crate::codec::next_field(&mut seq, stringify!($name))?),* };
                        $crate::codec::no_more_fields(&mut seq, stringify!($name))?;
                        Ok(value)
                    }
                }
                deserializer.deserialize_tuple(0 $(+ $crate::__wire_one!($field))*, Fields)
            }
        }
    )*};
}

/// Defines an enum that travels as `[tag, fields…]`. Variants: `1 = Unit`, `2 = Newtype(T)`, `3 = Struct { a: A }`.
#[macro_export]
macro_rules! wire_enum {
    ($($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $tag:literal = $variant:ident
        $(($inner:ty))? $({ $($(#[$fmeta:meta])* $field:ident : $fty:ty),* $(,)? })?),* $(,)? })*) => {$(
        $(#[$meta])*
        $vis enum $name { $($(#[$vmeta])* $variant $(($inner))? $({ $($(#[$fmeta])* $field: $fty),* })?),* }

        impl ::serde::Serialize for $name {
            // `value @ _` ties the binding to the variant's type, which a repetition of the macro has to mention.
            #[allow(clippy::redundant_pattern)]
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> ::std::result::Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeTuple as _;
                match self {
                    $(Self::$variant $((value @ $crate::__wire_any!($inner)))? $({ $($field),* })? => {
                        let length = 1usize $(+ $crate::__wire_one!($inner))? $($(+ $crate::__wire_one!($field))*)?;
                        let mut tuple = serializer.serialize_tuple(length)?;
                        tuple.serialize_element(&($tag as u16))?;
                        $(tuple.serialize_element::<$inner>(value)?;)?
                        $($(tuple.serialize_element($field)?;)*)?
                        tuple.end()
                    })*
                }
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<Self, D::Error> {
                struct Fields;
                impl<'de> ::serde::de::Visitor<'de> for Fields {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str(concat!("a tagged ", stringify!($name)))
                    }
                    fn visit_seq<A: ::serde::de::SeqAccess<'de>>(self, mut seq: A) -> ::std::result::Result<$name, A::Error> {
                        let tag: u16 = $crate::codec::next_field(&mut seq, stringify!($name))?;
                        let value = match tag {
                            $($tag => $name::$variant
                                $(($crate::codec::next_field::<$inner, A>(&mut seq, stringify!($name))?))?
                                $({ $($field: $crate::codec::next_field(&mut seq, stringify!($name))?),* })?,)*
                            _ => return Err(::serde::de::Error::custom(format_args!("unknown tag {tag} of {}", stringify!($name)))),
                        };
                        $crate::codec::no_more_fields(&mut seq, stringify!($name))?;
                        Ok(value)
                    }
                }
                deserializer.deserialize_seq(Fields)
            }
        }
    )*};
}

/// More elements, characters or bytes than the type allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} is more than the limit of {limit}")]
pub struct TooMany {
    /// How many there were.
    pub length: usize,
    /// How many are allowed.
    pub limit: usize,
}

/// A list of at most `MAX` elements.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// The bound.
    pub const MAX: usize = MAX;

    /// The list with no elements.
    pub const fn new() -> Self {
        List(Vec::new())
    }

    /// The elements, without the bound.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }

    /// Appends `element`.
    ///
    /// # Errors
    /// [`TooMany`] at the bound; the list is unchanged.
    pub fn push(&mut self, element: T) -> Result<(), TooMany> {
        if self.0.len() >= MAX {
            return Err(TooMany { length: self.0.len() + 1, limit: MAX });
        }
        self.0.push(element);
        Ok(())
    }

    /// Keeps the elements for which `keep` holds.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }

    /// The first `MAX` elements of `elements`.
    pub fn truncated(elements: impl IntoIterator<Item = T>) -> Self {
        List(elements.into_iter().take(MAX).collect())
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug, const MAX: usize> fmt::Debug for List<T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MAX: usize> DerefMut for List<T, MAX> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for List<T, MAX> {
    type Error = TooMany;
    fn try_from(elements: Vec<T>) -> Result<Self, TooMany> {
        if elements.len() > MAX {
            return Err(TooMany { length: elements.len(), limit: MAX });
        }
        Ok(List(elements))
    }
}

impl<T, const MAX: usize> IntoIterator for List<T, MAX> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a List<T, MAX> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Serialize, const MAX: usize> Serialize for List<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for element in &self.0 {
            seq.serialize_element(element)?;
        }
        seq.end()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
            type Value = List<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} elements")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T, MAX>, A::Error> {
                let announced = seq.size_hint().unwrap_or(0);
                let mut elements = Vec::with_capacity(announced.min(MAX).min(RESERVED_ELEMENTS));
                while let Some(element) = seq.next_element()? {
                    if elements.len() >= MAX && !mutant!(LongListAccepted) {
                        return Err(A::Error::custom(format_args!("more than {MAX} elements")));
                    }
                    elements.push(element);
                }
                Ok(List(elements))
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

/// A byte string of at most `MAX` bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Blob<MAX> {
    /// The bytes, without the bound.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MAX: usize> fmt::Debug for Blob<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const MAX: usize> Deref for Blob<MAX> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<Vec<u8>> for Blob<MAX> {
    type Error = TooMany;
    fn try_from(bytes: Vec<u8>) -> Result<Self, TooMany> {
        if bytes.len() > MAX {
            return Err(TooMany { length: bytes.len(), limit: MAX });
        }
        Ok(Blob(bytes))
    }
}

impl<const MAX: usize> Serialize for Blob<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Blob<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const MAX: usize>;
        impl<const MAX: usize> Visitor<'_> for Bytes<MAX> {
            type Value = Blob<MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob<MAX>, E> {
                self.visit_byte_buf(bytes.to_vec())
            }
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob<MAX>, E> {
                Blob::try_from(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Text of at most `MAX` bytes of UTF-8 without control characters: it may end in a terminal or a log.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize>(String);

/// Text that is too long or has control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTextValue {
    /// More bytes than allowed.
    #[error("{length} bytes of text are more than the limit of {limit}")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A character that could upset a terminal.
    #[error("text has a control character")]
    Control,
}

impl<const MAX: usize> Text<MAX> {
    /// Checks the bound and the characters.
    ///
    /// # Errors
    /// [`BadTextValue`] says which rule was broken.
    pub fn new(text: &str) -> Result<Self, BadTextValue> {
        if text.len() > MAX {
            return Err(BadTextValue::TooLong { length: text.len(), limit: MAX });
        }
        if text.chars().any(char::is_control) {
            return Err(BadTextValue::Control);
        }
        Ok(Text(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> std::str::FromStr for Text<MAX> {
    type Err = BadTextValue;
    fn from_str(text: &str) -> Result<Self, BadTextValue> {
        Text::new(text)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Chars<const MAX: usize>;
        impl<const MAX: usize> Visitor<'_> for Chars<MAX> {
            type Value = Text<MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} bytes of text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<MAX>, E> {
                Text::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_string(Chars)
    }
}
