//! The claims of a valid token as a google.protobuf.Struct, as the Workload API returns them.
//!
//! A Struct knows only doubles: integers beyond 2^53 are rounded. Depth and size are bounded by
//! what [`super::parse`] lets in.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::verify::JwtSvid;
use crate::json::{Json, Object};

/// The claims of `svid`; `aud` is always a list.
#[must_use]
pub fn into_struct(svid: JwtSvid) -> Struct {
    object(svid.into_claims())
}

fn object(members: Object) -> Struct {
    Struct { fields: members.into_iter().map(|(name, json)| (name, value(json))).collect() }
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.to_f64()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(elements) => {
            Kind::ListValue(ListValue { values: elements.into_iter().map(value).collect() })
        }
        Json::Object(members) => Kind::StructValue(object(members)),
    };
    Value { kind: Some(kind) }
}
