//! Numbers as people write them: percentages and sizes.

use crate::world::quantity::Share;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt};

/// A number of percent, 0 to 100, exact to a ten-thousandth.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(pub f64);

impl Percent {
    /// The share; all for more than 100.
    pub fn share(self) -> Share {
        share(self.0 / 100.0)
    }
}

/// The share that a ratio of 0 to 1 is.
pub(crate) fn share(ratio: f64) -> Share {
    // Saturates, and takes what is no number for nothing.
    Share::from_millionths((ratio * 1e6).round() as u32)
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 100})
    }
}

/// A number of bytes, as Kubernetes writes it: `65536` or `64Ki`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 3] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, size): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*size);
        match UNITS.iter().find(whole) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let NumberOrText(text) = NumberOrText::deserialize(deserializer)?;
        let found = UNITS
            .iter()
            .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
        let (digits, size) = found.unwrap_or((&text, 1));
        digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(size))
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is not a size; write 64Ki")))
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi)?$"},
            ],
            "x-kubernetes-int-or-string": true,
            "x-weft-write": "a number of bytes, such as 64Ki",
        })
    }
}

/// A text that people may take for a number and leave without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NumberOrText(pub(crate) String);

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = NumberOrText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }

            fn visit_u64<E>(self, number: u64) -> Result<NumberOrText, E> {
                Ok(NumberOrText(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<NumberOrText, E> {
                Ok(NumberOrText(number.to_string()))
            }

            fn visit_str<E>(self, text: &str) -> Result<NumberOrText, E> {
                Ok(NumberOrText(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_with_and_without_a_unit_and_written_with_the_largest() {
        for (json, bytes, written) in [
            ("65536", 65_536, "64Ki"),
            ("\"64Ki\"", 65_536, "64Ki"),
            ("\"1000\"", 1_000, "1000"),
            ("\"2Mi\"", 2 << 20, "2Mi"),
            ("0", 0, "0"),
        ] {
            let size: Bytes = serde_json::from_str(json).unwrap();
            assert_eq!((size, size.to_string().as_str()), (Bytes(bytes), written));
        }
        for json in [
            "-1",
            "\"64K\"",
            "\"Ki\"",
            "\"99999999999Gi\"",
            "1.5",
            "true",
        ] {
            assert!(serde_json::from_str::<Bytes>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_percentage_is_exact_to_a_ten_thousandth() {
        assert_eq!(Percent(0.0001).share(), Share::from_millionths(1));
        assert_eq!(Percent(33.3333).share(), Share::from_millionths(333_333));
        assert_eq!(Percent(100.0).share(), Share::ALL);
        assert_eq!(Percent(f64::NAN).share(), Share::NONE);
    }
}
