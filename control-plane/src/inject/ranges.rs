//! What interception leaves alone: ports and subnets, as `weft-proxy init` takes them.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, net::IpAddr, num::NonZeroU16, str::FromStr};

use super::quantity::NumberOrText;

/// Ports from the first to the last, both included: `3306` or `8000-8999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

/// Addresses: `10.0.0.0/8`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet(IpNet);

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// No port, and no range of ports.
    #[error("{0:?} is neither a port nor a range of ports; write for example 3306 or 8000-8999")]
    Ports(String),
    /// No subnet, and no address.
    #[error("{0:?} is neither a subnet nor an address; write for example 10.0.0.0/8")]
    Subnet(String),
}

impl FromStr for PortRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = first.trim().parse().ok().zip(last.trim().parse().ok());
        range
            .map(|(first, last)| Self { first, last })
            .filter(|range| range.first <= range.last)
            .ok_or_else(|| InvalidRange::Ports(text.to_owned()))
    }
}

impl FromStr for Subnet {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let trimmed = text.trim();
        let address = || trimmed.parse::<IpAddr>().map(IpNet::from);
        let subnet = trimmed.parse::<IpNet>().or_else(|_| address());
        subnet
            .map(Self)
            .map_err(|_| InvalidRange::Subnet(text.to_owned()))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = NumberOrText::deserialize(deserializer)?.to_string();
        text.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_read_and_written_alike() {
        for text in ["3306", "8000-8999"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for text in ["", "0", "x", "9-8", "1-", "65536", "-1"] {
            assert!(text.parse::<PortRange>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn an_address_is_a_subnet_of_one() {
        let shown = |text: &str| text.parse::<Subnet>().map(|subnet| subnet.to_string());
        assert_eq!(shown("192.0.2.1").unwrap(), "192.0.2.1/32");
        assert_eq!(shown(" fd00::/8 ").unwrap(), "fd00::/8");
        assert!(shown("10.0.0.0/33").is_err());
    }
}
