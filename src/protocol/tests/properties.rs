//! Content headers and properties: round trips, single values against the whole, flags words, truncations.

use proptest::{collection::vec, option, prelude::*};

use super::tables::{any_name, any_table};
use crate::protocol::{
    ContentHeader, ContentHeaderError, Fault, FieldTable, Properties, PropertyFacts, Value,
    basic_flags,
};

fn any_properties() -> impl Strategy<Value = Properties> {
    let text = || option::of(any_name());
    let octet = || option::of(any::<u8>());
    (
        (text(), text(), option::of(any_table()), octet(), octet()),
        (text(), text(), text(), text(), option::of(any::<u64>())),
        (text(), text(), text(), text()),
    )
        .prop_map(|(first, second, third)| Properties {
            content_type: first.0,
            content_encoding: first.1,
            headers: first.2,
            delivery_mode: first.3,
            priority: first.4,
            correlation_id: second.0,
            reply_to: second.1,
            expiration: second.2,
            message_id: second.3,
            timestamp: second.4,
            type_: third.0,
            user_id: third.1,
            app_id: third.2,
            cluster_id: third.3,
        })
}

fn header(class_id: u16, body_bytes: u64, properties: &[u8]) -> Vec<u8> {
    let mut payload = class_id.to_be_bytes().to_vec();
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(&body_bytes.to_be_bytes());
    payload.extend_from_slice(properties);
    payload
}

proptest! {
    #[test]
    fn properties_come_back_equal(properties in any_properties()) {
        let encoded = properties.to_encoded();
        prop_assert_eq!(&Properties::decode(&encoded).unwrap(), &properties);
        prop_assert_eq!(Properties::decode(&encoded).unwrap().to_encoded(), encoded);
    }

    #[test]
    fn facts_agree_with_the_decoded_properties(properties in any_properties(), body_bytes: u64) {
        let payload = header(60, body_bytes, &properties.to_encoded());
        let header = ContentHeader::parse(&payload).unwrap();
        prop_assert_eq!((header.class_id, header.weight, header.body_bytes), (60, 0, body_bytes));
        let facts = header.facts;
        prop_assert_eq!(facts.delivery_mode(), properties.delivery_mode);
        prop_assert_eq!(facts.is_persistent(), properties.delivery_mode == Some(2));
        prop_assert_eq!(facts.priority(), properties.priority);
        prop_assert_eq!(facts.has_expiration(), properties.expiration.is_some());
        prop_assert_eq!(facts.has_headers(), properties.headers.is_some());
        prop_assert_eq!(facts.has_reply_to(), properties.reply_to.is_some());
        prop_assert_eq!(facts.has_user_id(), properties.user_id.is_some());
        prop_assert_eq!(facts.has(basic_flags::CLUSTER_ID), properties.cluster_id.is_some());
        prop_assert_eq!(PropertyFacts::of(header.properties), Ok(facts));
    }

    #[test]
    fn every_truncation_and_every_excess_is_refused(properties in any_properties()) {
        let mut encoded = properties.to_encoded();
        for end in 0..encoded.len() {
            prop_assert!(PropertyFacts::of(&encoded[..end]).is_err());
        }
        encoded.push(0);
        prop_assert_eq!(PropertyFacts::of(&encoded), Err(Fault::Layout));
    }

    #[test]
    fn facts_of_other_octets_give_no_panic(
        properties in any_properties(),
        octets in vec(any::<u8>(), 0..100),
    ) {
        let facts = PropertyFacts::of(&properties.to_encoded()).unwrap();
        let _ = facts.view(&octets).decode();
    }
}

#[test]
fn single_values_are_found() {
    let properties = Properties {
        content_type: Some("a/b".into()),
        headers: Some(FieldTable::from_iter([(
            "CC",
            Value::Array(vec!["q".into()]),
        )])),
        priority: Some(9),
        expiration: Some("60000".into()),
        timestamp: Some(77),
        user_id: Some("guest".into()),
        ..Properties::default()
    };
    let encoded = properties.to_encoded();
    let facts = PropertyFacts::of(&encoded).unwrap();
    assert!(facts.has_cc() && !facts.has_bcc());
    let view = facts.view(&encoded);
    assert_eq!(view.expiration().unwrap(), "60000");
    assert_eq!(view.user_id().unwrap(), "guest");
    assert_eq!(view.timestamp(), Some(77));
    assert!(view.headers().unwrap().get("CC").is_some());
    assert_eq!(view.reply_to(), None);
    assert_eq!(view.delivery_mode(), None);
}

#[test]
fn facts_are_small() {
    assert!(size_of::<PropertyFacts>() <= 8);
}

#[test]
fn only_top_level_headers_named_cc_and_bcc_count() {
    let inner = FieldTable::from_iter([("CC", Value::Void)]);
    let has = |table: FieldTable| {
        let properties = Properties {
            headers: Some(table),
            ..Properties::default()
        };
        let facts = PropertyFacts::of(&properties.to_encoded()).unwrap();
        (facts.has_cc(), facts.has_bcc())
    };
    assert_eq!(has(FieldTable::from_iter([("x", inner)])), (false, false));
    assert_eq!(
        has(FieldTable::from_iter([("cc", Value::Void)])),
        (false, false)
    );
    assert_eq!(
        has(FieldTable::from_iter([
            ("BCC", Value::Void),
            ("CC", Value::Void)
        ])),
        (true, true)
    );
}

#[test]
fn further_flags_words_are_legal_and_must_be_empty() {
    assert!(PropertyFacts::of(b"\0\0").is_ok());
    assert!(
        PropertyFacts::of(b"\0\x02").is_ok(),
        "the unused bit is ignored, as RabbitMQ does"
    );
    assert_eq!(PropertyFacts::of(b"\0\x01"), Err(Fault::Layout));
    let priority_behind_two_words = b"\x08\x01\0\0\x05";
    let facts = PropertyFacts::of(priority_behind_two_words).unwrap();
    assert_eq!(facts.priority(), Some(5));
    assert_eq!(
        Properties::decode(priority_behind_two_words)
            .unwrap()
            .priority,
        Some(5)
    );
    assert_eq!(PropertyFacts::of(b"\0\x01\x80\0\0"), Err(Fault::Layout));
    let endless = [0, 1].repeat(1000);
    assert_eq!(PropertyFacts::of(&endless), Err(Fault::Layout));
}

#[test]
fn headers_of_other_classes_are_left_unread() {
    let payload = header(50, 3, b"\xff\xff whatever");
    let header = ContentHeader::parse(&payload).unwrap();
    assert_eq!(
        (header.class_id, header.facts),
        (50, PropertyFacts::default())
    );
    assert_eq!(
        ContentHeader::parse(&payload[..11]),
        Err(ContentHeaderError::TooShort)
    );
}

#[test]
fn the_weight_is_left_to_the_caller() {
    let mut payload = header(60, 3, b"\0\0");
    payload[3] = 1;
    assert_eq!(ContentHeader::parse(&payload).unwrap().weight, 1);
}
