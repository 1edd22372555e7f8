//! Amounts of CPU and memory, as Kubernetes writes them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{cmp::Ordering, fmt, str::FromStr};

/// An amount of a resource: `100m`, `0.5`, `64Mi`. It is passed on as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    text: String,
    amount: f64,
}

/// A text that is no amount of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an amount; write for example 100m or 1 for CPU, 64Mi for memory")]
pub struct InvalidQuantity(String);

/// The suffixes of Kubernetes' `resource.Quantity`, of which the longer come first.
const SUFFIXES: [(&str, f64); 14] = [
    ("Ki", 1024.0),
    ("Mi", 1024.0 * 1024.0),
    ("Gi", 1024.0 * 1024.0 * 1024.0),
    ("Ti", 1024.0 * 1024.0 * 1024.0 * 1024.0),
    ("Pi", 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("", 1.0),
];

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let text = text.trim();
        let amount = SUFFIXES.iter().find_map(|(suffix, unit)| {
            let number = text.strip_suffix(suffix)?;
            let digits = number.bytes().all(|c| c.is_ascii_digit() || c == b'.');
            digits.then(|| number.parse::<f64>().ok().map(|n| n * unit))?
        });
        match amount {
            Some(amount) => Ok(Self {
                text: text.to_owned(),
                amount,
            }),
            None => Err(InvalidQuantity(text.to_owned())),
        }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.amount.partial_cmp(&other.amount)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NumberOrText::deserialize(deserializer)?
            .to_string()
            .parse()
            .map_err(de::Error::custom)
    }
}

/// YAML reads `1` as a number where `1m` is a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum NumberOrText {
    Whole(u64),
    Broken(f64),
    Text(String),
}

impl fmt::Display for NumberOrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Broken(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_are_compared_across_units_and_kept_as_written() {
        assert!(quantity("100m") < quantity("1"));
        assert!(quantity("64Mi") < quantity("0.5Gi"));
        assert!(quantity("64M") < quantity("64Mi"));
        assert_eq!(quantity(" 64Mi ").to_string(), "64Mi");
        assert_eq!(
            serde_json::from_str::<Quantity>("2").unwrap(),
            quantity("2")
        );
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "Mi", "-1", "1e", "64MB", "1 Gi", "inf", "1..2"] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?} was accepted");
        }
    }
}
