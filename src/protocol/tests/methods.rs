//! Every method against the description in `amqp-spec/amqp-0-9-1.toml`, read here a second time and encoded by this
//! file's own few lines, so that a mistake of the generator is no agreement with itself.

use proptest::prelude::*;
use toml::Value as Toml;

use super::Dice;
use crate::protocol::{Fault, Method, MethodError, ShortStr, Table, basic, queue};

struct Field {
    wire_type: String,
    reserved: bool,
}

struct SpecMethod {
    ids: (u16, u16),
    name: String,
    content: bool,
    synchronous: bool,
    fields: Vec<Field>,
}

fn spec_methods() -> Vec<SpecMethod> {
    let spec: toml::Table = include_str!("../../../amqp-spec/amqp-0-9-1.toml")
        .parse()
        .unwrap();
    let flag = |of: &Toml, name: &str| of.get(name).is_some_and(|flag| flag.as_bool().unwrap());
    let text = |of: &Toml, name: &str| of[name].as_str().unwrap().to_owned();
    let id = |of: &Toml| of["id"].as_integer().unwrap() as u16;
    let mut methods = Vec::new();
    for class in spec["classes"].as_array().unwrap() {
        for method in class["methods"].as_array().unwrap() {
            let no_fields = Vec::new();
            let fields = method
                .get("fields")
                .map_or(&no_fields, |f| f.as_array().unwrap());
            let fields = fields.iter().map(|field| {
                let domain = &spec["domains"][field[1].as_str().unwrap()];
                Field {
                    wire_type: text(domain, "type"),
                    reserved: flag(domain, "reserved"),
                }
            });
            methods.push(SpecMethod {
                ids: (id(class), id(method)),
                name: format!("{}.{}", text(class, "name"), text(method, "name")),
                content: flag(method, "content"),
                synchronous: flag(method, "synchronous"),
                fields: fields.collect(),
            });
        }
    }
    methods
}

/// A payload of that method with fields by chance; reserved ones too if `reserved` says so, otherwise zero or empty.
fn payload(method: &SpecMethod, dice: &mut Dice, reserved: bool) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&method.ids.0.to_be_bytes());
    out.extend_from_slice(&method.ids.1.to_be_bytes());
    let mut bits = 0;
    for field in &method.fields {
        let blank = field.reserved && !reserved;
        let number = if blank { 0 } else { dice.roll() };
        if field.wire_type == "bit" {
            if bits % 8 == 0 {
                out.push(0);
            }
            *out.last_mut().unwrap() |= ((number & 1) as u8) << (bits % 8);
            bits += 1;
            continue;
        }
        bits = 0;
        let text = "é~".repeat(if blank { 0 } else { dice.below(80) });
        match field.wire_type.as_str() {
            "octet" => out.push(number as u8),
            "short" => out.extend_from_slice(&(number as u16).to_be_bytes()),
            "long" => out.extend_from_slice(&(number as u32).to_be_bytes()),
            "longlong" => out.extend_from_slice(&number.to_be_bytes()),
            "shortstr" => {
                out.push(text.len() as u8);
                out.extend_from_slice(text.as_bytes());
            }
            "longstr" => {
                out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            "table" => {
                let table: &[u8] = if number & 1 == 0 {
                    b""
                } else {
                    b"\x01kI\0\0\0\x07\x01vV"
                };
                out.extend_from_slice(&(table.len() as u32).to_be_bytes());
                out.extend_from_slice(table);
            }
            other => panic!("no such wire type: {other}"),
        }
    }
    out
}

fn encoded(method: &Method<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    method.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn every_method_comes_back_as_the_same_octets(seed: u64) {
        let mut dice = Dice::new(seed);
        for spec in spec_methods() {
            let payload = payload(&spec, &mut dice, false);
            let method = Method::parse(&payload).unwrap();
            prop_assert_eq!(encoded(&method), payload, "{}", spec.name);
        }
    }

    #[test]
    fn every_truncation_and_every_excess_is_malformed(seed: u64) {
        let mut dice = Dice::new(seed);
        for spec in spec_methods() {
            let mut payload = payload(&spec, &mut dice, true);
            prop_assert!(Method::parse(&payload).is_ok(), "{}", spec.name);
            for end in 0..payload.len() {
                let (class_id, method_id) = if end < 4 { (0, 0) } else { spec.ids };
                let expected = MethodError::Malformed { class_id, method_id, fault: Fault::Layout };
                prop_assert_eq!(
                    Method::parse(&payload[..end]),
                    Err(expected),
                    "{} at {}",
                    spec.name,
                    end
                );
            }
            payload.push(0);
            let is_malformed = matches!(Method::parse(&payload), Err(MethodError::Malformed { .. }));
            prop_assert!(is_malformed, "{} with an octet more", spec.name);
        }
    }
}

#[test]
fn names_and_flags_are_those_of_the_description() {
    let mut dice = Dice::new(1);
    for spec in spec_methods() {
        let payload = payload(&spec, &mut dice, false);
        let method = Method::parse(&payload).unwrap();
        assert_eq!((method.class_id(), method.method_id()), spec.ids);
        assert_eq!(method.name(), spec.name);
        assert_eq!(method.has_content(), spec.content, "{}", spec.name);
        assert_eq!(method.is_synchronous(), spec.synchronous, "{}", spec.name);
    }
}

#[test]
fn reserved_fields_are_skipped_and_written_blank() {
    for spec in spec_methods() {
        let payload = payload(&spec, &mut Dice::new(7), true);
        let written = encoded(&Method::parse(&payload).unwrap());
        let again = encoded(&Method::parse(&written).unwrap());
        assert_eq!(written, again, "{}", spec.name);
        let has_reserved = spec.fields.iter().any(|field| field.reserved);
        assert!(has_reserved || written == payload, "{}", spec.name);
    }
}

#[test]
fn numbers_of_no_method_are_unknown() {
    let known: Vec<(u16, u16)> = spec_methods().iter().map(|method| method.ids).collect();
    for class_id in (0..=100).chain([u16::MAX]) {
        for method_id in (0..=130).chain([u16::MAX]) {
            let payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
            let is_unknown = Method::parse(&payload)
                == Err(MethodError::UnknownMethod {
                    class_id,
                    method_id,
                });
            assert_eq!(is_unknown, !known.contains(&(class_id, method_id)));
        }
    }
}

/// RabbitMQ checks the short strings of methods without content, and leaves those of the others for speed.
#[test]
fn utf8_is_asked_of_methods_without_content_alone() {
    let name = ShortStr::from_bytes(b"\xff").unwrap();
    let delete = queue::Delete {
        queue: name,
        ..Default::default()
    };
    assert_eq!(
        Method::parse(&encoded(&delete.into())),
        Err(MethodError::Malformed {
            class_id: 50,
            method_id: 40,
            fault: Fault::Utf8
        })
    );
    let publish = Method::from(basic::Publish {
        exchange: name,
        ..Default::default()
    });
    assert_eq!(Method::parse(&encoded(&publish)), Ok(publish));
}

#[test]
fn a_bad_table_makes_the_method_malformed() {
    let arguments = Table::from_walked(b"\x01kZ");
    let declare = queue::Declare {
        arguments,
        ..Default::default()
    };
    assert_eq!(
        Method::parse(&encoded(&declare.into())),
        Err(MethodError::Malformed {
            class_id: 50,
            method_id: 10,
            fault: Fault::Layout
        })
    );
}
