//! AMQP properties as JSON and back, every type and byte kept.
//!
//! A header is `{"<type>": value}`; text that is no UTF-8 stands as base64 under `<type>-base64`, a float as the hexadecimal
//! of its bits beside its value, because JSON knows neither.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lapin::{
    BasicProperties,
    types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString},
};
use serde_json::{Map, Value, json};

/// Properties of a message as a JSON object with the names of the AMQP specification; absent ones are left out.
pub(crate) fn properties_to_json(properties: &BasicProperties) -> Value {
    let mut out = Map::new();
    let texts = [
        ("content-type", properties.content_type()),
        ("content-encoding", properties.content_encoding()),
        ("correlation-id", properties.correlation_id()),
        ("reply-to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message-id", properties.message_id()),
        ("type", properties.kind()),
        ("user-id", properties.user_id()),
        ("app-id", properties.app_id()),
        ("cluster-id", properties.cluster_id()),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            out.insert(name.to_owned(), Value::from(value.as_str()));
        }
    }
    for (name, value) in [("delivery-mode", properties.delivery_mode()), ("priority", properties.priority())]
    {
        if let Some(value) = value {
            out.insert(name.to_owned(), Value::from(*value));
        }
    }
    if let Some(timestamp) = properties.timestamp() {
        out.insert("timestamp".to_owned(), Value::from(*timestamp));
    }
    if let Some(headers) = properties.headers() {
        out.insert("headers".to_owned(), table_to_json(headers));
    }
    Value::Object(out)
}

/// The properties that [`properties_to_json`] wrote; an error names the member that can't be read.
pub(crate) fn properties_from_json(value: &Value) -> Result<BasicProperties, String> {
    let members = value.as_object().ok_or("the properties are no object")?;
    let mut out = BasicProperties::default();
    for (name, value) in members {
        let wrong = || format!("the property `{name}` has an unexpected value");
        let text = || {
            let text = value.as_str().ok_or_else(wrong)?;
            ShortString::try_new(text).map_err(|e| format!("the property `{name}`: {e}"))
        };
        let small = || value.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or_else(wrong);
        out = match name.as_str() {
            "content-type" => out.with_content_type(text()?),
            "content-encoding" => out.with_content_encoding(text()?),
            "correlation-id" => out.with_correlation_id(text()?),
            "reply-to" => out.with_reply_to(text()?),
            "expiration" => out.with_expiration(text()?),
            "message-id" => out.with_message_id(text()?),
            "type" => out.with_type(text()?),
            "user-id" => out.with_user_id(text()?),
            "app-id" => out.with_app_id(text()?),
            "cluster-id" => out.with_cluster_id(text()?),
            "delivery-mode" => out.with_delivery_mode(small()?),
            "priority" => out.with_priority(small()?),
            "timestamp" => out.with_timestamp(value.as_u64().ok_or_else(wrong)?),
            "headers" => out.with_headers(table_from_json(value)?),
            _ => return Err(format!("`{name}` is no property of a message")),
        };
    }
    Ok(out)
}

fn table_to_json(table: &FieldTable) -> Value {
    let members = table.into_iter().map(|(name, value)| (name.as_str().to_owned(), value_to_json(value)));
    Value::Object(members.collect())
}

fn table_from_json(value: &Value) -> Result<FieldTable, String> {
    let members = value.as_object().ok_or("the headers are no object")?;
    let mut table = FieldTable::default();
    for (name, value) in members {
        let name = ShortString::try_new(name.as_str()).map_err(|e| format!("a header's name: {e}"))?;
        let value = value_from_json(value).ok_or_else(|| format!("the header `{name}` can't be read"))?;
        table.insert(name, value);
    }
    Ok(table)
}

fn value_to_json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(v) => json!({"bool": v}),
        AMQPValue::ShortShortInt(v) => json!({"i8": v}),
        AMQPValue::ShortShortUInt(v) => json!({"u8": v}),
        AMQPValue::ShortInt(v) => json!({"i16": v}),
        AMQPValue::ShortUInt(v) => json!({"u16": v}),
        AMQPValue::LongInt(v) => json!({"i32": v}),
        AMQPValue::LongUInt(v) => json!({"u32": v}),
        AMQPValue::LongLongInt(v) => json!({"i64": v}),
        AMQPValue::Float(v) => json!({"f32-bits": format!("{:08x}", v.to_bits())}),
        AMQPValue::Double(v) => json!({"f64-bits": format!("{:016x}", v.to_bits())}),
        AMQPValue::DecimalValue(v) => json!({"decimal": [v.scale, v.value]}),
        AMQPValue::ShortString(v) => json!({"short": v.as_str()}),
        AMQPValue::LongString(v) => match std::str::from_utf8(v.as_bytes()) {
            Ok(text) => json!({"text": text}),
            Err(_) => json!({"text-base64": STANDARD.encode(v.as_bytes())}),
        },
        AMQPValue::FieldArray(v) => {
            json!({"array": v.as_slice().iter().map(value_to_json).collect::<Vec<_>>()})
        }
        AMQPValue::Timestamp(v) => json!({"time": v}),
        AMQPValue::FieldTable(v) => json!({"table": table_to_json(v)}),
        AMQPValue::ByteArray(v) => json!({"bytes-base64": STANDARD.encode(v.as_slice())}),
        AMQPValue::Void => json!({"void": null}),
    }
}

fn value_from_json(value: &Value) -> Option<AMQPValue> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    let (kind, value) = members.iter().next()?;
    let signed = || value.as_i64();
    let unsigned = || value.as_u64();
    let bytes = || STANDARD.decode(value.as_str()?).ok();
    Some(match kind.as_str() {
        "bool" => AMQPValue::Boolean(value.as_bool()?),
        "i8" => AMQPValue::ShortShortInt(signed()?.try_into().ok()?),
        "u8" => AMQPValue::ShortShortUInt(unsigned()?.try_into().ok()?),
        "i16" => AMQPValue::ShortInt(signed()?.try_into().ok()?),
        "u16" => AMQPValue::ShortUInt(unsigned()?.try_into().ok()?),
        "i32" => AMQPValue::LongInt(signed()?.try_into().ok()?),
        "u32" => AMQPValue::LongUInt(unsigned()?.try_into().ok()?),
        "i64" => AMQPValue::LongLongInt(signed()?),
        "f32-bits" => AMQPValue::Float(f32::from_bits(u32::from_str_radix(value.as_str()?, 16).ok()?)),
        "f64-bits" => AMQPValue::Double(f64::from_bits(u64::from_str_radix(value.as_str()?, 16).ok()?)),
        "decimal" => match value.as_array()?.as_slice() {
            [scale, value] => AMQPValue::DecimalValue(DecimalValue {
                scale: scale.as_u64()?.try_into().ok()?,
                value: value.as_u64()?.try_into().ok()?,
            }),
            _ => return None,
        },
        "short" => AMQPValue::ShortString(ShortString::try_new(value.as_str()?).ok()?),
        "text" => AMQPValue::LongString(LongString::from(value.as_str()?)),
        "text-base64" => AMQPValue::LongString(LongString::from(bytes()?)),
        "array" => {
            let values = value.as_array()?.iter().map(value_from_json).collect::<Option<Vec<_>>>()?;
            AMQPValue::FieldArray(FieldArray::from(values))
        }
        "time" => AMQPValue::Timestamp(unsigned()?),
        "table" => AMQPValue::FieldTable(table_from_json(value).ok()?),
        "bytes-base64" => AMQPValue::ByteArray(ByteArray::from(bytes()?)),
        "void" => AMQPValue::Void,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = AMQPValue> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i8>().prop_map(AMQPValue::ShortShortInt),
            any::<u8>().prop_map(AMQPValue::ShortShortUInt),
            any::<i16>().prop_map(AMQPValue::ShortInt),
            any::<u16>().prop_map(AMQPValue::ShortUInt),
            any::<i32>().prop_map(AMQPValue::LongInt),
            any::<u32>().prop_map(AMQPValue::LongUInt),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            (-1e30_f32..1e30).prop_map(AMQPValue::Float),
            (-1e300_f64..1e300).prop_map(AMQPValue::Double),
            (any::<u8>(), any::<u32>())
                .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
            "\\PC{0,20}".prop_map(|text| AMQPValue::LongString(LongString::from(text))),
            prop::collection::vec(any::<u8>(), 0..20)
                .prop_map(|bytes| AMQPValue::LongString(LongString::from(bytes))),
            prop::collection::vec(any::<u8>(), 0..20)
                .prop_map(|bytes| AMQPValue::ByteArray(ByteArray::from(bytes))),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            Just(AMQPValue::Void),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|values| AMQPValue::FieldArray(FieldArray::from(values))),
                prop::collection::btree_map("[a-z-]{1,12}", inner, 0..4)
                    .prop_map(|members| AMQPValue::FieldTable(table(members))),
            ]
        })
    }

    fn table(members: std::collections::BTreeMap<String, AMQPValue>) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in members {
            table.insert(ShortString::try_new(name).unwrap(), value);
        }
        table
    }

    proptest! {
        #[test]
        fn headers_of_every_type_survive(
            members in prop::collection::btree_map("[a-z采-]{1,12}", value(), 0..6),
            id in "\\PC{0,40}", timestamp in any::<u64>(), priority in any::<u8>()
        ) {
            let properties = BasicProperties::default()
                .with_message_id(ShortString::try_new(id).unwrap())
                .with_timestamp(timestamp)
                .with_priority(priority)
                .with_delivery_mode(2)
                .with_content_type("application/json".into())
                .with_headers(table(members));
            let text = properties_to_json(&properties).to_string();
            let back = properties_from_json(&serde_json::from_str(&text).unwrap()).unwrap();
            prop_assert_eq!(back, properties);
        }
    }

    #[test]
    fn what_is_no_property_or_header_is_refused_by_name() {
        for (json, name) in [
            (json!({"colour": "red"}), "colour"),
            (json!({"priority": 256}), "priority"),
            (json!({"headers": {"a": {"i8": 200}}}), "`a`"),
            (json!({"headers": {"a": {"text": "x", "i8": 1}}}), "`a`"),
            (json!({"message-id": "x".repeat(300)}), "message-id"),
        ] {
            let error = properties_from_json(&json).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
