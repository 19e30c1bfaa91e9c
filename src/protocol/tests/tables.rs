//! Field tables: round trips, the dialect octet by octet, and the limit of nesting.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use crate::protocol::{
    Fault, FieldName, FieldTable, ShortStr, TABLE_DEPTH_MAX, Table, Value, ValueRef,
};

pub(super) fn any_name() -> impl Strategy<Value = FieldName> {
    vec(any::<u8>(), 0..=255).prop_map(|octets| FieldName::new(octets).unwrap())
}

fn any_value() -> impl Strategy<Value = Value> {
    let octets = || vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| Value::Decimal { scale, value }),
        octets().prop_map(Value::LongStr),
        octets().prop_map(Value::Binary),
        any::<u64>().prop_map(Value::Timestamp),
        Just(Value::Void),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((any_name(), inner), 0..6)
                .prop_map(|fields| Value::Table(FieldTable::from_iter(fields))),
        ]
    })
}

pub(super) fn any_table() -> impl Strategy<Value = FieldTable> {
    vec((any_name(), any_value()), 0..8).prop_map(FieldTable::from_iter)
}

proptest! {
    #[test]
    fn tables_come_back_equal(table in any_table()) {
        let encoded = table.to_encoded();
        let borrowed = Table::new(encoded.as_table().as_bytes()).unwrap();
        prop_assert_eq!(&borrowed.decode(), &table);
        prop_assert_eq!(borrowed.iter().count(), table.len());
        let mut with_length = Vec::new();
        table.encode(&mut with_length);
        prop_assert_eq!(&with_length[4..], borrowed.as_bytes());
        prop_assert_eq!(&with_length[..4], (borrowed.as_bytes().len() as u32).to_be_bytes());
    }

    #[test]
    fn truncated_tables_are_refused_or_whole_fields(table in any_table()) {
        let encoded = table.to_encoded();
        let octets = encoded.as_table().as_bytes();
        let mut whole = 0;
        for end in 0..=octets.len() {
            whole += usize::from(Table::new(&octets[..end]).is_ok());
        }
        prop_assert_eq!(whole, table.len() + 1);
    }

    #[test]
    fn what_was_never_walked_gives_no_panic(octets in vec(any::<u8>(), 0..200)) {
        let unwalked = Table::from_walked(&octets);
        let decoded = unwalked.decode();
        if let Ok(walked) = Table::new(&octets) {
            prop_assert_eq!(walked.decode(), decoded);
        }
    }
}

#[test]
fn the_dialect() {
    let cases: [(&[u8], Value, &str); 18] = [
        (b"t\x02", Value::Bool(true), "bool"),
        (b"b\xff", Value::I8(-1), "byte"),
        (b"B\xff", Value::U8(255), "unsignedbyte"),
        (b"s\xff\xfe", Value::I16(-2), "short"),
        (b"u\xff\xfe", Value::U16(65534), "unsignedshort"),
        (b"I\xff\xff\xff\xfd", Value::I32(-3), "signedint"),
        (
            b"i\xff\xff\xff\xfd",
            Value::U32(4_294_967_293),
            "unsignedint",
        ),
        (b"l\xff\xff\xff\xff\xff\xff\xff\xfc", Value::I64(-4), "long"),
        (b"L\xff\xff\xff\xff\xff\xff\xff\xfc", Value::I64(-4), "long"),
        (b"f\x3f\x80\0\0", Value::F32(1.0), "float"),
        (b"d\x3f\xf0\0\0\0\0\0\0", Value::F64(1.0), "double"),
        (
            b"D\x02\0\0\x01\x3a",
            Value::Decimal {
                scale: 2,
                value: 314,
            },
            "decimal",
        ),
        (b"S\0\0\0\x02ab", Value::LongStr("ab".into()), "longstr"),
        (
            b"x\0\0\0\x02\0\xff",
            Value::Binary(Bytes::from_static(b"\0\xff")),
            "binary",
        ),
        (
            b"A\0\0\0\x03Vb\x05",
            Value::Array(vec![Value::Void, Value::I8(5)]),
            "array",
        ),
        (b"T\0\0\0\0\0\0\0\x09", Value::Timestamp(9), "timestamp"),
        (
            b"F\0\0\0\x03\x01kV",
            Value::Table(FieldTable::from_iter([("k", Value::Void)])),
            "table",
        ),
        (b"V", Value::Void, "void"),
    ];
    for (octets, value, type_name) in cases {
        let fields = [b"\x03key", octets].concat();
        let table = FieldTable::decode(&fields).unwrap();
        assert_eq!(table.get("key"), Some(&value));
        assert_eq!(value.type_name(), type_name);
        let mut out = Vec::new();
        value.encode(&mut out);
        let reads_only = matches!(octets[0], b'L') || octets == b"t\x02";
        assert!(reads_only || out == octets, "{type_name}");
    }
}

#[test]
fn octets_of_no_type_are_refused() {
    let known = b"tbBsuIilLfdDSxATFV";
    for tag in 0..=u8::MAX {
        let fields = [b"\x01k".as_slice(), &[tag], &[0; 8]].concat();
        let lengths = (3..=fields.len()).filter(|&end| Table::new(&fields[..end]).is_ok());
        assert_eq!(lengths.count() > 0, known.contains(&tag), "{tag}");
    }
}

/// A table that holds that many further tables or arrays, one in the other.
fn nested(levels: u32, tag: u8) -> Vec<u8> {
    let mut fields = Vec::new();
    for level in 0..levels {
        let is_named = tag == b'F' || level == levels - 1;
        let mut outer = if is_named {
            vec![1, b'k', tag]
        } else {
            vec![tag]
        };
        outer.extend_from_slice(&(fields.len() as u32).to_be_bytes());
        outer.extend_from_slice(&fields);
        fields = outer;
    }
    fields
}

#[test]
fn nesting_has_a_limit() {
    for tag in [b'F', b'A'] {
        assert!(Table::new(&nested(TABLE_DEPTH_MAX - 1, tag)).is_ok());
        assert_eq!(Table::new(&nested(TABLE_DEPTH_MAX, tag)), Err(Fault::Depth));
        let deep = nested(20_000, tag);
        assert_eq!(Table::new(&deep), Err(Fault::Depth));
        let cut = Table::from_walked(&deep).decode();
        assert!(Table::new(cut.to_encoded().as_table().as_bytes()).is_ok());
    }
}

#[test]
fn duplicates_are_kept_until_they_are_replaced() {
    let mut table = FieldTable::decode(b"\x01ab\x01\x01bb\x02\x01ab\x03").unwrap();
    assert_eq!(table.len(), 3);
    assert_eq!(table.get("a"), Some(&Value::I8(1)));
    assert_eq!(table.insert("a", 9), Some(Value::I8(1)));
    let names: Vec<_> = table.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    table.push("b", true);
    assert_eq!(table.remove("b"), Some(Value::I8(2)));
    assert_eq!(table, FieldTable::from_iter([("a", 9)]));
    assert_eq!(table.insert("c", "text"), None);
    assert_eq!(table.get("c").and_then(Value::as_str), Some("text"));
}

#[test]
fn names_that_are_not_text_survive() {
    let fields = b"\x02\xff\xfeV";
    let table = FieldTable::decode(fields).unwrap();
    assert_eq!(table.to_encoded().as_table().as_bytes(), fields);
    let (name, _) = table.iter().next().unwrap();
    assert_eq!(name.as_str_lossy(), "\u{fffd}\u{fffd}");
}

#[test]
fn borrowed_values_are_found_by_name() {
    let table = Table::new(b"\x01ai\0\0\0\x07\x01bS\0\0\0\x01x").unwrap();
    assert_eq!(table.get("a").and_then(ValueRef::as_i64), Some(7));
    assert_eq!(table.get("b").and_then(ValueRef::as_str), Some("x"));
    assert!(table.get("c").is_none());
    assert_eq!(table.iter().next().unwrap().0, ShortStr::new("a").unwrap());
    assert_eq!(
        format!("{table:?}"),
        r#"{"a": U32(7), "b": LongStr([120])}"#
    );
}
