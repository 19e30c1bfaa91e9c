//! The shape of the description file: what `amqp-0-9-1.toml` may say.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole description.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Version of the protocol.
    pub protocol: Protocol,
    /// Numbers with a name.
    pub constants: Vec<Constant>,
    /// Codes of basic.return, channel.close and connection.close.
    pub reply_codes: Vec<ReplyCode>,
    /// Named meanings of wire types.
    pub domains: BTreeMap<String, Domain>,
    /// Classes with their methods.
    pub classes: Vec<Class>,
}

/// Version of the protocol, as in the protocol header.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Major version.
    pub major: u8,
    /// Minor version.
    pub minor: u8,
    /// Revision.
    pub revision: u8,
}

/// A number with a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// Name in the specification's spelling.
    pub name: String,
    /// Its type in Rust.
    #[serde(rename = "type")]
    pub rust_type: String,
    /// Its value.
    pub value: u64,
    /// What it means.
    pub doc: String,
}

/// A reply code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyCode {
    /// The number on the wire.
    pub code: u16,
    /// Name in the specification's spelling.
    pub name: String,
    /// Name of the variant, where it is not made from the name.
    pub variant: Option<String>,
    /// `success`, `soft` (closes the channel) or `hard` (closes the connection).
    pub kind: ReplyKind,
    /// What it means.
    pub doc: String,
}

/// What a reply code closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyKind {
    /// Not an error.
    Success,
    /// Closes the channel.
    Soft,
    /// Closes the connection.
    Hard,
}

/// A wire type with a meaning.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its wire type.
    #[serde(rename = "type")]
    pub field_type: FieldType,
    /// Whether fields of this domain are skipped when read and written as zero or empty.
    #[serde(default)]
    pub reserved: bool,
    /// What it means.
    pub doc: String,
}

/// The wire types of method fields (specification 4.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// One bit; neighbours share an octet, lowest first.
    Bit,
    /// 8 bits.
    Octet,
    /// 16 bits.
    Short,
    /// 32 bits.
    Long,
    /// 64 bits.
    LongLong,
    /// Up to 255 octets behind an octet of length.
    ShortStr,
    /// Octets behind 32 bits of length.
    LongStr,
    /// A field table behind 32 bits of length.
    Table,
    /// 64 bits of seconds.
    Timestamp,
}

/// A class.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The number on the wire.
    pub id: u16,
    /// Name in the specification's spelling.
    pub name: String,
    /// What it is for.
    pub doc: String,
    /// Content properties in the order of their flags.
    #[serde(default)]
    pub properties: Vec<Field>,
    /// Its methods.
    pub methods: Vec<Method>,
}

/// A method.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// The number on the wire.
    pub id: u16,
    /// Name in the specification's spelling.
    pub name: String,
    /// Whether the peer must answer it.
    #[serde(default)]
    pub synchronous: bool,
    /// Whether a content header and body follow it.
    #[serde(default)]
    pub content: bool,
    /// What it does.
    pub doc: String,
    /// Its fields in the order of the wire.
    #[serde(default)]
    pub fields: Vec<Field>,
}

/// A field of a method or a content property.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Field {
    /// Name in the specification's spelling.
    pub name: String,
    /// Name of its domain.
    pub domain: String,
    /// What it means, where the domain does not say it.
    pub doc: Option<String>,
}

impl TryFrom<Vec<String>> for Field {
    type Error = String;

    fn try_from(parts: Vec<String>) -> Result<Self, String> {
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(domain), doc, None) => Ok(Self { name, domain, doc }),
            _ => Err("a field is [name, domain] or [name, domain, doc]".to_owned()),
        }
    }
}

impl Spec {
    /// Reads a description and checks that every domain it names exists.
    ///
    /// # Errors
    /// The text is not a description, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let spec: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for class in &spec.classes {
            let fields = class.methods.iter().flat_map(|method| &method.fields);
            for field in fields.chain(&class.properties) {
                if !spec.domains.contains_key(&field.domain) {
                    return Err(format!("{}: no domain {}", field.name, field.domain));
                }
            }
        }
        Ok(spec)
    }

    /// The domain of a field.
    ///
    /// # Panics
    /// The field is of another description: [`Spec::parse`] has checked those of this one.
    pub fn domain(&self, field: &Field) -> &Domain {
        &self.domains[&field.domain]
    }
}
