//! Which connections are intercepted: from settings to an ordered list of rules. Pure.

use std::{fmt, num::NonZeroU16, str::FromStr};

use ipnet::IpNet;
use weft_xds_proto::names;

use super::InitError;

/// The table that holds everything.
pub(super) const TABLE: &str = "weft";

/// Where both chains stand among others of the same hook: `NF_IP_PRI_NAT_DST`.
pub(super) const PRIORITY: i32 = -100;

/// How many ports and subnets may be listed in all. Each is a rule of its own, and all of them travel to the
/// kernel in one message, whose size is limited.
pub const MAX_ENTRIES: usize = 256;

/// Ports of the proxy itself that must be reachable from outside without passing the proxy.
const OWN_INBOUND: [u16; 3] = [names::ADMIN_PORT, names::METRICS_PORT, names::HEALTH_PORT];

/// What to intercept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interception {
    /// The user whose connections are never intercepted: the proxy's.
    pub proxy_uid: u32,
    /// A group whose connections are never intercepted either.
    pub proxy_gid: Option<u32>,
    /// Where outbound connections go.
    pub outbound_port: NonZeroU16,
    /// Where inbound connections go.
    pub inbound_port: NonZeroU16,
    /// Outbound connections to these ports are left alone.
    pub skip_outbound_ports: Vec<PortRange>,
    /// Outbound connections to these addresses are left alone.
    pub skip_outbound_subnets: Vec<IpNet>,
    /// Inbound connections to these ports are left alone.
    pub skip_inbound_ports: Vec<PortRange>,
    /// Only inbound connections to these ports are intercepted; empty means all.
    pub include_inbound_ports: Vec<PortRange>,
    /// Whether IPv6 is intercepted. IPv4 always is.
    pub ipv6: bool,
}

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

/// A text that is no port and no range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a port nor a range of ports; expected for example 3306 or 8000-8999")]
pub struct InvalidPortRange(String);

/// The whole of table `inet weft`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ruleset {
    pub(super) chains: [Chain; 2],
}

/// The rules of one hook, the first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) hook: Hook,
    pub(super) rules: Vec<Rule>,
}

/// The points of a packet's way at which the first packet of a connection is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// Connections that a process here opens.
    Output,
    /// Connections that come in from the network.
    Prerouting,
}

/// What to do with the connections that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) condition: Match,
    pub(super) verdict: Verdict,
    /// Stands beside the rule in `nft list ruleset`.
    pub(super) comment: &'static str,
}

/// A property of a connection's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Opened by a process of this user.
    SocketUid(u32),
    /// Opened by a process of this group.
    SocketGid(u32),
    /// Leaving through `lo`: to a loopback address, or to an address of this host.
    ToThisHost,
    Ipv6,
    Tcp,
    TcpPort(PortRange),
    Destination(IpNet),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection goes where it wanted to.
    Return,
    /// The connection goes to this port of the host.
    Redirect(NonZeroU16),
}

impl Interception {
    /// The rules, in the order in which the kernel tries them.
    ///
    /// Errors when more ports and subnets are listed than [`MAX_ENTRIES`].
    pub(super) fn ruleset(&self) -> Result<Ruleset, InitError> {
        let entries = self.skip_outbound_ports.len()
            + self.skip_outbound_subnets.len()
            + self.skip_inbound_ports.len()
            + self.include_inbound_ports.len();
        if entries > MAX_ENTRIES {
            return Err(InitError::TooManyEntries { entries });
        }
        Ok(Ruleset {
            chains: [
                Chain {
                    hook: Hook::Output,
                    rules: self.outbound().collect(),
                },
                Chain {
                    hook: Hook::Prerouting,
                    rules: self.inbound().collect(),
                },
            ],
        })
    }

    fn outbound(&self) -> impl Iterator<Item = Rule> {
        let own_uid = Rule::leave(Match::SocketUid(self.proxy_uid), "opened by the proxy");
        let own_gid = self
            .proxy_gid
            .map(|gid| Rule::leave(Match::SocketGid(gid), "opened by the proxy's group"));
        let ports = self
            .skip_outbound_ports
            .iter()
            .map(|range| Rule::leave(Match::TcpPort(*range), "--skip-outbound-ports"));
        let subnets = self
            .skip_outbound_subnets
            .iter()
            .map(|subnet| Rule::leave(Match::Destination(*subnet), "--skip-outbound-subnets"));
        [own_uid]
            .into_iter()
            .chain(own_gid)
            .chain([Rule::leave(Match::ToThisHost, "stays within the pod")])
            .chain(self.leave_ipv6())
            .chain(ports)
            .chain(subnets)
            .chain([Rule {
                condition: Match::Tcp,
                verdict: Verdict::Redirect(self.outbound_port),
                comment: "to the proxy's outbound side",
            }])
    }

    fn inbound(&self) -> impl Iterator<Item = Rule> {
        let own = OWN_INBOUND
            .into_iter()
            .filter_map(NonZeroU16::new)
            .map(|port| {
                Rule::leave(
                    Match::TcpPort(PortRange::single(port)),
                    "served by the proxy",
                )
            });
        let skipped = self
            .skip_inbound_ports
            .iter()
            .map(|range| Rule::leave(Match::TcpPort(*range), "--skip-inbound-ports"));
        let redirect = |condition| Rule {
            condition,
            verdict: Verdict::Redirect(self.inbound_port),
            comment: "to the proxy's inbound side",
        };
        let all = self.include_inbound_ports.is_empty().then_some(Match::Tcp);
        let included = self
            .include_inbound_ports
            .iter()
            .map(|range| Match::TcpPort(*range));
        self.leave_ipv6()
            .into_iter()
            .chain(own)
            .chain(skipped)
            .chain(all.into_iter().chain(included).map(redirect))
    }

    fn leave_ipv6(&self) -> Option<Rule> {
        (!self.ipv6).then(|| Rule::leave(Match::Ipv6, "--ipv6"))
    }
}

impl PortRange {
    fn single(port: NonZeroU16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// The lowest port.
    pub fn first(self) -> u16 {
        self.first.get()
    }

    /// The highest port.
    pub fn last(self) -> u16 {
        self.last.get()
    }
}

impl FromStr for PortRange {
    type Err = InvalidPortRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPortRange(text.to_owned());
        let port = |digits: &str| digits.trim().parse::<NonZeroU16>().map_err(|_| invalid());
        let range = match text.split_once('-') {
            Some((first, last)) => Self {
                first: port(first)?,
                last: port(last)?,
            },
            None => Self::single(port(text)?),
        };
        if range.first > range.last {
            return Err(invalid());
        }
        Ok(range)
    }
}

impl Hook {
    /// The name of our chain there.
    pub(super) fn chain(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Prerouting => "prerouting",
        }
    }
}

impl Rule {
    fn leave(condition: Match, comment: &'static str) -> Self {
        Self {
            condition,
            verdict: Verdict::Return,
            comment,
        }
    }
}

/// A script for `nft -f` that does the same as `weft-proxy init`.
impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Adding an existing table changes nothing, so that the deletion always has something to delete.
        writeln!(f, "table inet {TABLE}")?;
        writeln!(f, "delete table inet {TABLE}")?;
        writeln!(f, "table inet {TABLE} {{")?;
        for (index, chain) in self.chains.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = self.hook.chain();
        writeln!(f, "\tchain {hook} {{")?;
        writeln!(
            f,
            "\t\ttype nat hook {hook} priority {PRIORITY}; policy accept;"
        )?;
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            condition,
            verdict,
            comment,
        } = self;
        write!(f, "{condition} {verdict} comment {comment:?}")
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SocketUid(uid) => write!(f, "meta skuid {uid}"),
            Self::SocketGid(gid) => write!(f, "meta skgid {gid}"),
            Self::ToThisHost => f.write_str("oif \"lo\""),
            Self::Ipv6 => f.write_str("meta nfproto ipv6"),
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::TcpPort(range) => write!(f, "tcp dport {range}"),
            Self::Destination(subnet) => {
                let family = match subnet {
                    IpNet::V4(_) => "ip",
                    IpNet::V6(_) => "ip6",
                };
                write!(f, "{family} daddr {}", subnet.trunc())
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("return"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
        }
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

#[cfg(test)]
impl Default for Interception {
    fn default() -> Self {
        Self {
            proxy_uid: names::PROXY_UID,
            proxy_gid: None,
            outbound_port: NonZeroU16::new(names::OUTBOUND_PORT).unwrap(),
            inbound_port: NonZeroU16::new(names::INBOUND_PORT).unwrap(),
            skip_outbound_ports: Vec::new(),
            skip_outbound_subnets: Vec::new(),
            skip_inbound_ports: Vec::new(),
            include_inbound_ports: Vec::new(),
            ipv6: true,
        }
    }
}

/// Every kind of rule at once.
#[cfg(test)]
pub(super) fn everything() -> Interception {
    let ports = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Interception {
        proxy_uid: 1500,
        proxy_gid: Some(1501),
        outbound_port: NonZeroU16::new(25001).unwrap(),
        inbound_port: NonZeroU16::new(25006).unwrap(),
        skip_outbound_ports: ports(&["3306", "8000-8999"]),
        skip_outbound_subnets: ["10.96.0.1/9", "192.0.2.1/32", "fd00::1/8"]
            .map(|subnet| subnet.parse().unwrap())
            .to_vec(),
        skip_inbound_ports: ports(&["22"]),
        include_inbound_ports: ports(&["80", "9000-9002"]),
        ipv6: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_proxys_own_traffic_is_intercepted_by_default() {
        let ruleset = Interception::default().ruleset().unwrap();
        assert_eq!(
            ruleset.to_string(),
            r#"table inet weft
delete table inet weft
table inet weft {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 1337 return comment "opened by the proxy"
		oif "lo" return comment "stays within the pod"
		meta l4proto tcp redirect to :15001 comment "to the proxy's outbound side"
	}

	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		tcp dport 15000 return comment "served by the proxy"
		tcp dport 15020 return comment "served by the proxy"
		tcp dport 15021 return comment "served by the proxy"
		meta l4proto tcp redirect to :15006 comment "to the proxy's inbound side"
	}
}
"#
        );
    }

    #[test]
    fn every_setting_has_its_rule_before_the_redirect() {
        let ruleset = everything().ruleset().unwrap();
        assert_eq!(
            ruleset.to_string(),
            r#"table inet weft
delete table inet weft
table inet weft {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 1500 return comment "opened by the proxy"
		meta skgid 1501 return comment "opened by the proxy's group"
		oif "lo" return comment "stays within the pod"
		meta nfproto ipv6 return comment "--ipv6"
		tcp dport 3306 return comment "--skip-outbound-ports"
		tcp dport 8000-8999 return comment "--skip-outbound-ports"
		ip daddr 10.0.0.0/9 return comment "--skip-outbound-subnets"
		ip daddr 192.0.2.1/32 return comment "--skip-outbound-subnets"
		ip6 daddr fd00::/8 return comment "--skip-outbound-subnets"
		meta l4proto tcp redirect to :25001 comment "to the proxy's outbound side"
	}

	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		meta nfproto ipv6 return comment "--ipv6"
		tcp dport 15000 return comment "served by the proxy"
		tcp dport 15020 return comment "served by the proxy"
		tcp dport 15021 return comment "served by the proxy"
		tcp dport 22 return comment "--skip-inbound-ports"
		tcp dport 80 redirect to :25006 comment "to the proxy's inbound side"
		tcp dport 9000-9002 redirect to :25006 comment "to the proxy's inbound side"
	}
}
"#
        );
    }

    #[test]
    fn more_entries_than_fit_into_one_message_are_refused() {
        let mut interception = Interception {
            skip_outbound_ports: vec!["1".parse().unwrap(); MAX_ENTRIES],
            ..Interception::default()
        };
        assert!(interception.ruleset().is_ok());
        interception.skip_inbound_ports = vec!["1".parse().unwrap()];
        assert!(matches!(
            interception.ruleset(),
            Err(InitError::TooManyEntries { entries: 257 })
        ));
    }

    #[test]
    fn what_is_no_range_of_ports_is_refused() {
        for text in [
            "", "0", "http", "80-", "-80", "90-80", "1-65536", "80:90", "1-2-3",
        ] {
            assert!(text.parse::<PortRange>().is_err(), "{text:?} was accepted");
        }
        assert_eq!("80".parse::<PortRange>().unwrap().to_string(), "80");
        assert_eq!("80-80".parse::<PortRange>().unwrap().to_string(), "80");
        assert_eq!(
            "1-65535".parse::<PortRange>().unwrap().to_string(),
            "1-65535"
        );
    }
}
