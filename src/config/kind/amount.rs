//! Numbers: counts, sizes in bytes, thresholds.
//!
//! In: a written value. Out: a number within its bounds. What is counted is not known here.

use std::marker::PhantomData;

use super::{Kind, MISFIT, Misfit, Value, quoted};
use crate::config::value::Amount;

/// A whole number between two bounds, both allowed.
pub struct Integer<T> {
    min: u64,
    max: u64,
    used: PhantomData<T>,
}

/// A whole number from `min` to `max`.
pub fn integer<T>(min: u64, max: u64) -> Integer<T> {
    Integer {
        min,
        max,
        used: PhantomData,
    }
}

impl<T: Copy + TryFrom<u64> + ToString> Kind for Integer<T> {
    type Used = T;

    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn parse(&self, value: &Value) -> Result<T, Misfit> {
        let number = value.integer().ok_or(MISFIT)?;
        if !(self.min..=self.max).contains(&number) {
            return Err(MISFIT);
        }
        T::try_from(number).map_err(|_| MISFIT)
    }

    fn render(&self, used: &T) -> String {
        used.to_string()
    }
}

/// The multiples that sizes may be written in, as RabbitMQ reads them: without `iB` or with it a
/// power of 1024, with `B` a power of 1000.
const MULTIPLES: [(&str, u64); 13] = [
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

/// Parses `64MiB`, `50 MB` or `1048576`.
fn size_from_text(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    if unit.is_empty() {
        return Some(number);
    }
    let (_, multiple) = MULTIPLES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*multiple)
}

fn size_from_value(value: &Value) -> Option<u64> {
    value
        .integer()
        .or_else(|| value.text().and_then(size_from_text))
}

/// The shortest exact spelling of a size.
fn size_to_text(bytes: u64) -> String {
    const SPELLINGS: [(&str, u64); 8] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("KB", 1_000),
    ];
    SPELLINGS
        .iter()
        .find(|(_, multiple)| bytes > 0 && bytes.is_multiple_of(*multiple))
        .map_or_else(
            || bytes.to_string(),
            |(unit, multiple)| format!("{}{unit}", bytes / multiple),
        )
}

/// A size in bytes between two bounds, both allowed.
pub struct Size<T> {
    min: u64,
    max: u64,
    used: PhantomData<T>,
}

/// A size from `min` to `max` bytes.
pub fn size<T>(min: u64, max: u64) -> Size<T> {
    Size {
        min,
        max,
        used: PhantomData,
    }
}

impl<T: Copy + TryFrom<u64> + TryInto<u64>> Kind for Size<T> {
    type Used = T;

    fn allowed(&self) -> String {
        format!(
            "a size from {} to {}, as a number of bytes or like \"64MiB\" or \"50MB\"",
            size_to_text(self.min),
            size_to_text(self.max)
        )
    }

    fn parse(&self, value: &Value) -> Result<T, Misfit> {
        let bytes = size_from_value(value).ok_or(MISFIT)?;
        if !(self.min..=self.max).contains(&bytes) {
            return Err(MISFIT);
        }
        T::try_from(bytes).map_err(|_| MISFIT)
    }

    fn render(&self, used: &T) -> String {
        // Every used type is unsigned and at most 64 bits wide.
        quoted(&size_to_text((*used).try_into().unwrap_or(u64::MAX)))
    }
}

/// A threshold: a share of memory, or bytes.
pub struct Threshold {
    share_max: f64,
}

/// A share of memory up to `share_max`, or a size.
pub fn threshold(share_max: f64) -> Threshold {
    Threshold { share_max }
}

impl Kind for Threshold {
    type Used = Amount;

    fn allowed(&self) -> String {
        format!(
            "a share of memory with a point, from 0.0 to {:.1}, or a size like \"50MB\"",
            self.share_max
        )
    }

    fn parse(&self, value: &Value) -> Result<Amount, Misfit> {
        let share = match value {
            Value::Float(number) => Some(*number),
            Value::Bare(text) if text.contains('.') => text.trim().parse().ok(),
            _ => None,
        };
        match share {
            Some(share) if (0.0..=self.share_max).contains(&share) => {
                Ok(Amount::RelativeToMemory(share))
            }
            Some(_) => Err(MISFIT),
            None => size_from_value(value).map(Amount::Bytes).ok_or(MISFIT),
        }
    }

    fn render(&self, used: &Amount) -> String {
        match used {
            Amount::RelativeToMemory(share) => format!("{share:?}"),
            Amount::Bytes(bytes) => quoted(&size_to_text(*bytes)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_rabbitmq_reads_them() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("64M", 64 << 20),
            ("50MB", 50_000_000),
            ("1kB", 1000),
            ("1k", 1024),
            ("0", 0),
            ("7B", 7),
        ] {
            assert_eq!(size_from_text(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GB", "1XB", "99999999TiB", "1é"] {
            assert_eq!(size_from_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_prints_as_what_it_was() {
        for bytes in [
            0,
            1,
            1000,
            1024,
            8192,
            131_072,
            50_000_000,
            16 << 20,
            1 << 40,
            12_345,
        ] {
            assert_eq!(size_from_text(&size_to_text(bytes)), Some(bytes));
        }
        assert_eq!(size_to_text(50_000_000), "50MB");
        assert_eq!(size_to_text(16 << 20), "16MiB");
    }

    #[test]
    fn a_threshold_with_a_point_is_a_share_of_memory() {
        let kind = threshold(1.0);
        let bare = |text: &str| kind.parse(&Value::Bare(text.to_owned()));
        assert_eq!(bare("0.4"), Ok(Amount::RelativeToMemory(0.4)));
        assert_eq!(bare("2GiB"), Ok(Amount::Bytes(2 << 30)));
        assert_eq!(bare("1.5"), Err(MISFIT));
        assert_eq!(bare("nan."), Err(MISFIT));
        assert_eq!(kind.parse(&Value::Float(f64::NAN)), Err(MISFIT));
        assert_eq!(kind.parse(&Value::Integer(4096)), Ok(Amount::Bytes(4096)));
        assert_eq!(Amount::RelativeToMemory(0.5).bytes(1000), 500);
        assert_eq!(Amount::Bytes(7).bytes(1000), 7);
    }
}
