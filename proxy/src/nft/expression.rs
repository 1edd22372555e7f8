//! Rules in the kernel's terms: a small program over registers. Pure.
//!
//! The expressions are those that nft writes for the same rules, so that `nft list ruleset` can read them.
//! One register is enough: 1, of 16 bytes.

use ipnet::IpNet;
use libc::{IPPROTO_TCP, NFPROTO_IPV4, NFPROTO_IPV6};

use super::rules::{Match, Rule, Verdict};

/// `LOOPBACK_IFINDEX`: `lo` has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// One step of a rule. A comparison that fails ends the rule without a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// Loads a property of the packet that is not in its bytes.
    Meta(Meta),
    /// Loads bytes of the packet.
    Payload(Payload),
    /// Clears the bits that are not in the mask.
    Mask(Vec<u8>),
    /// Goes on if the loaded bytes compare so, as unsigned big-endian numbers.
    Compare(Comparison, Vec<u8>),
    /// Loads constant bytes.
    Load(Vec<u8>),
    /// Ends the chain: the packet goes on.
    Return,
    /// Sends the connection to the loaded port of this host.
    Redirect,
    /// Something that we never write.
    Foreign(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    NetworkProtocol,
    TransportProtocol,
    OutputInterface,
    SocketUid,
    SocketGid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    Ipv4Destination,
    Ipv6Destination,
    TransportDestinationPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    AtLeast,
    AtMost,
}

impl Rule {
    /// The rule as the kernel executes it.
    pub(super) fn expressions(&self) -> Vec<Expression> {
        let mut expressions = self.condition.expressions();
        match self.verdict {
            Verdict::Return => expressions.push(Expression::Return),
            Verdict::Redirect(port) => expressions.extend([
                Expression::Load(port.get().to_be_bytes().to_vec()),
                Expression::Redirect,
            ]),
        }
        expressions
    }
}

impl Match {
    fn expressions(&self) -> Vec<Expression> {
        use Expression::{Mask, Payload as Load};
        match self {
            Self::SocketUid(uid) => meta_is(Meta::SocketUid, uid.to_ne_bytes()),
            Self::SocketGid(gid) => meta_is(Meta::SocketGid, gid.to_ne_bytes()),
            Self::ToThisHost => meta_is(Meta::OutputInterface, LOOPBACK.to_ne_bytes()),
            Self::Ipv6 => network_is(NFPROTO_IPV6),
            Self::Tcp => tcp(),
            Self::TcpPort(range) => {
                let (first, last) = (range.first().to_be_bytes(), range.last().to_be_bytes());
                let mut expressions = tcp();
                expressions.push(Load(Payload::TransportDestinationPort));
                if first == last {
                    expressions.push(equal(first));
                } else {
                    expressions.extend([
                        Expression::Compare(Comparison::AtLeast, first.to_vec()),
                        Expression::Compare(Comparison::AtMost, last.to_vec()),
                    ]);
                }
                expressions
            }
            Self::Destination(subnet) => {
                let (mut expressions, load, network, mask) = match subnet {
                    IpNet::V4(subnet) => (
                        network_is(NFPROTO_IPV4),
                        Load(Payload::Ipv4Destination),
                        subnet.network().octets().to_vec(),
                        subnet.netmask().octets().to_vec(),
                    ),
                    IpNet::V6(subnet) => (
                        network_is(NFPROTO_IPV6),
                        Load(Payload::Ipv6Destination),
                        subnet.network().octets().to_vec(),
                        subnet.netmask().octets().to_vec(),
                    ),
                };
                if subnet.prefix_len() > 0 {
                    expressions.push(load);
                    if subnet.prefix_len() < subnet.max_prefix_len() {
                        expressions.push(Mask(mask));
                    }
                    expressions.push(equal(network));
                }
                expressions
            }
        }
    }
}

fn meta_is(key: Meta, value: impl Into<Vec<u8>>) -> Vec<Expression> {
    vec![Expression::Meta(key), equal(value)]
}

fn network_is(protocol: libc::c_int) -> Vec<Expression> {
    meta_is(Meta::NetworkProtocol, [protocol as u8])
}

fn tcp() -> Vec<Expression> {
    meta_is(Meta::TransportProtocol, [IPPROTO_TCP as u8])
}

fn equal(value: impl Into<Vec<u8>>) -> Expression {
    Expression::Compare(Comparison::Equal, value.into())
}
