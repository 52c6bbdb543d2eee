//! Any serde source to records: what the browser's objects come through.

use super::{Batch, ReadError, id_of};
use crate::validate::{FaultCode, Schema, Subject, Value};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Reads one record, `{"features": {...}, "id": ...}`, into the batch.
pub(crate) fn read<'de, D: Deserializer<'de>>(source: D, schema: &Schema, batch: &mut Batch) -> Result<(), ReadError> {
    batch.begin(schema);
    let request = RequestVisitor { schema, batch };
    match source.deserialize_any(request) {
        Ok(()) => {
            batch.end(schema);
            Ok(())
        }
        Err(error) => Err(ReadError::Syntax(error.to_string())),
    }
}

struct RequestVisitor<'a> {
    schema: &'a Schema,
    batch: &'a mut Batch,
}

impl<'de> Visitor<'de> for RequestVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object such as {\"features\": {...}}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut features = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match &*key {
                "features" => {
                    features = true;
                    map.next_value_seed(Features {
                        schema: self.schema,
                        batch: self.batch,
                    })?;
                }
                "id" => {
                    let value = map.next_value_seed(AnyValue)?;
                    let number = match value {
                        Value::Number(n) => n,
                        _ => f64::NAN,
                    };
                    match id_of(value, || number.to_string()) {
                        Ok(id) => self.batch.id = id,
                        Err((code, message)) => self.batch.fault(Subject::Name("id".into()), code, message, None),
                    }
                }
                name => {
                    map.next_value::<IgnoredAny>()?;
                    self.batch.fault(
                        Subject::Name(name.to_owned()),
                        FaultCode::Unknown,
                        "a request has the members \"features\" and \"id\"".into(),
                        None,
                    );
                }
            }
        }
        if !features {
            self.batch.fault(
                Subject::Name("features".into()),
                FaultCode::Missing,
                "the member \"features\" is required".into(),
                Some("an object with a value for each feature".into()),
            );
            self.batch.skip_missing();
        }
        Ok(())
    }
}

/// The members of `features`.
struct Features<'a> {
    schema: &'a Schema,
    batch: &'a mut Batch,
}

impl<'de> DeserializeSeed<'de> for Features<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Features<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a value for each feature")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let value = map.next_value_seed(AnyValue)?;
            self.batch.put(self.schema, &name, value);
        }
        Ok(())
    }
}

/// One value of a feature.
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value<'de>, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a boolean, a text or null")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<Value<'de>, D::Error> {
        source.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Nested("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Nested("an object"))
    }
}
