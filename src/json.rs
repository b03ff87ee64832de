//! JSON as security needs it read: what two parsers could understand differently is refused.
//!
//! serde_json does the reading; on top of it a member that occurs twice is an error at any level
//! (a signature checker and a reader that pick different ones can be played against each other),
//! and size, depth and the number of values are limited before memory is spent.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Object),
}

/// The members of an object by name, each name once.
pub type Object = BTreeMap<String, Json>;

/// A number: exact where it is an integer of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer that fits.
    Integer(i64),
    /// An integer above `i64::MAX`.
    Large(u64),
    /// Anything with a fraction or an exponent, and integers beyond 64 bits. Always finite.
    Float(f64),
}

/// How much one document may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Its size in bytes.
    pub bytes: usize,
    /// How many arrays and objects may be around a value.
    pub depth: usize,
    /// How many values there may be in all, at every level.
    pub values: usize,
}

/// Why a document was refused. Nothing of the document is repeated.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum JsonError {
    /// It is larger than the limit.
    #[error("larger than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// It is not UTF-8 (RFC 8259 8.1).
    #[error("not UTF-8")]
    NotUtf8,
    /// It is no JSON, or something follows it.
    #[error("not JSON (line {line}, column {column})")]
    Syntax {
        /// The line of the first fault, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// An object has two members of one name.
    #[error("an object has two members of the same name (line {line}, column {column})")]
    Duplicate {
        /// The line of the second, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// Arrays and objects are nested deeper than the limit.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// There are more values than the limit.
    #[error("more than {limit} values")]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
}

/// Reads one document, all of `bytes`.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Json, JsonError> {
    if bytes.len() > limits.bytes {
        return Err(JsonError::TooLong { limit: limits.bytes });
    }
    let text = std::str::from_utf8(bytes).map_err(|_invalid| JsonError::NotUtf8)?;
    let reading = Reading { limits, values: Cell::new(0), refusal: Cell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Seed { reading: &reading, depth: 0 }.deserialize(&mut deserializer);
    value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match reading.refusal.get() {
            Some(Refusal::Duplicate) => JsonError::Duplicate { line, column },
            Some(Refusal::Depth) => JsonError::TooDeep { limit: limits.depth },
            Some(Refusal::Values) => JsonError::TooManyValues { limit: limits.values },
            None => JsonError::Syntax { line, column },
        }
    })
}

/// Reads one document that is an object; `None` if it is something else.
pub fn parse_object(bytes: &[u8], limits: &Limits) -> Result<Option<Object>, JsonError> {
    parse(bytes, limits).map(Json::into_object)
}

impl Json {
    /// The members, if this is an object.
    #[must_use]
    pub fn into_object(self) -> Option<Object> {
        match self {
            Self::Object(members) => Some(members),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// The number, if this is one.
    #[must_use]
    pub fn as_number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Null | Self::Bool(_) | Self::String(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// The elements, if this is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(elements) => Some(elements),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Object(_) => {
                None
            }
        }
    }
}

impl Number {
    /// The number as a double, the nearest there is.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Integer(number) => number as f64,
            Self::Large(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    /// The largest integer not above the number; the nearest there is if that has over 64 bits.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a cast from a double saturates")]
    pub fn floor(self) -> i64 {
        match self {
            Self::Integer(number) => number,
            Self::Large(_) => i64::MAX,
            Self::Float(number) => number.floor() as i64,
        }
    }

    /// The number if it is written as an integer from 0 to 2^64-1.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(number).ok(),
            Self::Large(number) => Some(number),
            Self::Float(_) => None,
        }
    }
}

/// What reading one document has seen so far, and why it stopped if that was our decision.
struct Reading<'a> {
    limits: &'a Limits,
    values: Cell<usize>,
    refusal: Cell<Option<Refusal>>,
}

#[derive(Clone, Copy)]
enum Refusal {
    Duplicate,
    Depth,
    Values,
}

impl Reading<'_> {
    fn refuse<E: serde::de::Error>(&self, refusal: Refusal) -> E {
        self.refusal.set(Some(refusal));
        E::custom("refused")
    }
}

/// Reads one value that `depth` arrays and objects are around.
#[derive(Clone, Copy)]
struct Seed<'a> {
    reading: &'a Reading<'a>,
    depth: usize,
}

impl Seed<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= self.reading.limits.depth {
            return Err(self.reading.refuse(Refusal::Depth));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let values = self.reading.values.get().saturating_add(1);
        if values > self.reading.limits.values {
            return Err(self.reading.refuse(Refusal::Values));
        }
        self.reading.values.set(values);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(Number::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(i64::try_from(value).map_or(Number::Large(value), Number::Integer)))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        if !value.is_finite() {
            return Err(E::custom("not finite"));
        }
        Ok(Json::Number(Number::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut object = Object::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(self.reading.refuse(Refusal::Duplicate));
            }
            object.insert(name, members.next_value_seed(inner)?);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests;
