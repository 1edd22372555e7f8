//! The batches that program and remove the table. Pure.

use std::fmt;

use libc::{NFNL_SUBSYS_NFTABLES, NFPROTO_INET};

use super::{
    expression::{Comparison, Expression, Meta, Payload},
    rules::{Chain, Hook, PRIORITY, Rule, Ruleset, TABLE},
    wire::{
        Attributes, Header, NAT_PORT_SPECIFIED, USERDATA_COMMENT, attribute as nfta, push_message,
    },
};

/// Messages that the kernel carries out together or not at all, to be sent as one datagram.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// What each message does; its sequence number is its place here.
    pub(super) steps: Vec<Step>,
}

/// What one message asks of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To begin a batch.
    Begin,
    /// To make sure that there is a table of ours.
    AddTable,
    /// To remove the table of ours.
    RemoveTable,
    /// To add a chain, by its name.
    AddChain(&'static str),
    /// To append a rule.
    AddRule {
        /// The chain's name.
        chain: &'static str,
        /// The rule in nft's syntax.
        rule: String,
        /// Whether it needs the kernel's redirect.
        redirects: bool,
    },
    /// To carry out the batch.
    Commit,
    /// To list tables, chains or rules.
    List,
}

impl Batch {
    /// Puts the ruleset in the place of whatever the table holds.
    pub(super) fn replace(ruleset: &Ruleset) -> Self {
        let mut changes = remove_table();
        changes.push((Step::AddTable, table()));
        for chain in &ruleset.chains {
            changes.push((Step::AddChain(chain.hook.chain()), chain_attributes(chain)));
        }
        for chain in &ruleset.chains {
            for rule in &chain.rules {
                changes.push((
                    Step::add(chain.hook, rule),
                    rule_attributes(chain.hook, rule),
                ));
            }
        }
        Self::of(changes)
    }

    /// Removes the table, if there is one.
    pub(super) fn remove() -> Self {
        Self::of(remove_table())
    }

    /// The message whose acknowledgement says that all was carried out.
    pub(super) fn last_change(&self) -> usize {
        self.steps.len() - 2
    }

    fn of(changes: Vec<(Step, Attributes)>) -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            steps: Vec::new(),
        };
        let last = changes.len() - 1;
        batch.push_control(Step::Begin, libc::NFNL_MSG_BATCH_BEGIN);
        for (index, (step, attributes)) in changes.into_iter().enumerate() {
            // Errors are reported in any case. Acknowledging every change would overflow the socket's buffer.
            let acknowledge = if index == last { libc::NLM_F_ACK } else { 0 };
            batch.push_change(step, acknowledge, &attributes);
        }
        batch.push_control(Step::Commit, libc::NFNL_MSG_BATCH_END);
        batch
    }

    fn push_change(&mut self, step: Step, acknowledge: libc::c_int, attributes: &Attributes) {
        let (message, flags) = match &step {
            Step::AddTable => (libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE),
            Step::RemoveTable => (libc::NFT_MSG_DELTABLE, 0),
            Step::AddChain(_) => (libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE),
            Step::AddRule { .. } => (
                libc::NFT_MSG_NEWRULE,
                libc::NLM_F_CREATE | libc::NLM_F_APPEND,
            ),
            Step::Begin | Step::Commit | Step::List => {
                unreachable!("these are not changes")
            }
        };
        let flags = libc::NLM_F_REQUEST | flags | acknowledge;
        let header = self.next_header(kind(message), flags);
        push_message(&mut self.bytes, header, NFPROTO_INET, 0, attributes);
        self.steps.push(step);
    }

    fn push_control(&mut self, step: Step, message: libc::c_int) {
        let header = self.next_header(message as u16, libc::NLM_F_REQUEST);
        push_message(
            &mut self.bytes,
            header,
            libc::AF_UNSPEC,
            NFNL_SUBSYS_NFTABLES as u16,
            &Attributes::default(),
        );
        self.steps.push(step);
    }

    fn next_header(&self, kind: u16, flags: libc::c_int) -> Header {
        Header {
            kind,
            flags: flags as u16,
            sequence: u32::try_from(self.steps.len())
                .expect("a batch holds a few hundred messages"),
        }
    }
}

impl Step {
    fn add(hook: Hook, rule: &Rule) -> Self {
        Self::AddRule {
            chain: hook.chain(),
            rule: rule.to_string(),
            redirects: rule.expressions().contains(&Expression::Redirect),
        }
    }
}

/// A request for everything of one kind: `NFT_MSG_GETTABLE`, `NFT_MSG_GETCHAIN` or `NFT_MSG_GETRULE`.
pub(super) fn dump(message: libc::c_int) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Header {
        kind: kind(message),
        flags: (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16,
        sequence: 0,
    };
    push_message(&mut bytes, header, NFPROTO_INET, 0, &Attributes::default());
    bytes
}

/// A message of nf_tables as a type of netfilter's netlink.
pub(super) fn kind(message: libc::c_int) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8 | message) as u16
}

/// The number of a hook in the kernel (`enum nf_inet_hooks`).
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Output => libc::NF_INET_LOCAL_OUT as u32,
        Hook::Prerouting => libc::NF_INET_PRE_ROUTING as u32,
    }
}

/// Adding an existing table changes nothing, so that the deletion always has something to delete.
fn remove_table() -> Vec<(Step, Attributes)> {
    vec![(Step::AddTable, table()), (Step::RemoveTable, table())]
}

fn table() -> Attributes {
    Attributes::default().text(nfta::TABLE_NAME, TABLE)
}

fn chain_attributes(chain: &Chain) -> Attributes {
    let hook = Attributes::default()
        .number(nfta::HOOK_NUMBER, hook_number(chain.hook))
        .number(nfta::HOOK_PRIORITY, PRIORITY as u32);
    Attributes::default()
        .text(nfta::CHAIN_TABLE, TABLE)
        .text(nfta::CHAIN_NAME, chain.hook.chain())
        .nested(nfta::CHAIN_HOOK, hook)
        .number(nfta::CHAIN_POLICY, libc::NF_ACCEPT as u32)
        .text(nfta::CHAIN_TYPE, "nat")
}

fn rule_attributes(hook: Hook, rule: &Rule) -> Attributes {
    let expressions = rule
        .expressions()
        .iter()
        .fold(Attributes::default(), |list, expression| {
            list.nested(nfta::LIST_ELEMENT, expression_attributes(expression))
        });
    Attributes::default()
        .text(nfta::RULE_TABLE, TABLE)
        .text(nfta::RULE_CHAIN, hook.chain())
        .nested(nfta::RULE_EXPRESSIONS, expressions)
        .bytes(nfta::RULE_USERDATA, &comment(rule))
}

/// The comment as nft stores it: type, length with the NUL, text, NUL.
fn comment(rule: &Rule) -> Vec<u8> {
    let length = u8::try_from(rule.comment.len() + 1).expect("comments are short");
    [&[USERDATA_COMMENT, length], rule.comment.as_bytes(), &[0]].concat()
}

pub(super) fn expression_attributes(expression: &Expression) -> Attributes {
    const REGISTER: u32 = libc::NFT_REG_1 as u32;
    const VERDICT: u32 = libc::NFT_REG_VERDICT as u32;
    let data = Attributes::default();
    let (name, data) = match expression {
        Expression::Meta(key) => (
            "meta",
            data.number(nfta::META_KEY, meta_key(*key))
                .number(nfta::META_DESTINATION, REGISTER),
        ),
        Expression::Payload(payload) => {
            let (base, offset, length) = payload_place(*payload);
            (
                "payload",
                data.number(nfta::PAYLOAD_DESTINATION, REGISTER)
                    .number(nfta::PAYLOAD_BASE, base)
                    .number(nfta::PAYLOAD_OFFSET, offset)
                    .number(nfta::PAYLOAD_LENGTH, length),
            )
        }
        Expression::Mask(mask) => (
            "bitwise",
            data.number(nfta::BITWISE_SOURCE, REGISTER)
                .number(nfta::BITWISE_DESTINATION, REGISTER)
                .number(nfta::BITWISE_LENGTH, mask.len() as u32)
                .nested(nfta::BITWISE_MASK, value(mask))
                .nested(nfta::BITWISE_XOR, value(&vec![0; mask.len()])),
        ),
        Expression::Compare(comparison, with) => (
            "cmp",
            data.number(nfta::COMPARE_SOURCE, REGISTER)
                .number(nfta::COMPARE_OPERATOR, operator(*comparison))
                .nested(nfta::COMPARE_DATA, value(with)),
        ),
        Expression::Load(constant) => (
            "immediate",
            data.number(nfta::IMMEDIATE_DESTINATION, REGISTER)
                .nested(nfta::IMMEDIATE_DATA, value(constant)),
        ),
        Expression::Return => {
            let code = Attributes::default().number(nfta::VERDICT_CODE, libc::NFT_RETURN as u32);
            (
                "immediate",
                data.number(nfta::IMMEDIATE_DESTINATION, VERDICT).nested(
                    nfta::IMMEDIATE_DATA,
                    Attributes::default().nested(nfta::DATA_VERDICT, code),
                ),
            )
        }
        Expression::Redirect => (
            "redir",
            data.number(nfta::REDIRECT_PORT, REGISTER)
                .number(nfta::REDIRECT_FLAGS, NAT_PORT_SPECIFIED),
        ),
        Expression::Foreign(name) => (name.as_str(), data),
    };
    Attributes::default()
        .text(nfta::EXPRESSION_NAME, name)
        .nested(nfta::EXPRESSION_DATA, data)
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::default().bytes(nfta::DATA_VALUE, bytes)
}

pub(super) fn meta_key(key: Meta) -> u32 {
    let key = match key {
        Meta::NetworkProtocol => libc::NFT_META_NFPROTO,
        Meta::TransportProtocol => libc::NFT_META_L4PROTO,
        Meta::OutputInterface => libc::NFT_META_OIF,
        Meta::SocketUid => libc::NFT_META_SKUID,
        Meta::SocketGid => libc::NFT_META_SKGID,
    };
    key as u32
}

/// Base, offset and length of a field: RFC 791 section 3.1, RFC 8200 section 3, RFC 9293 section 3.1.
pub(super) fn payload_place(payload: Payload) -> (u32, u32, u32) {
    let (base, offset, length) = match payload {
        Payload::Ipv4Destination => (libc::NFT_PAYLOAD_NETWORK_HEADER, 16, 4),
        Payload::Ipv6Destination => (libc::NFT_PAYLOAD_NETWORK_HEADER, 24, 16),
        Payload::TransportDestinationPort => (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2),
    };
    (base as u32, offset, length)
}

pub(super) fn operator(comparison: Comparison) -> u32 {
    let operator = match comparison {
        Comparison::Equal => libc::NFT_CMP_EQ,
        Comparison::AtLeast => libc::NFT_CMP_GTE,
        Comparison::AtMost => libc::NFT_CMP_LTE,
    };
    operator as u32
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("to begin a batch"),
            Self::AddTable => write!(f, "to add table inet {TABLE}"),
            Self::RemoveTable => write!(f, "to remove table inet {TABLE}"),
            Self::AddChain(chain) => write!(f, "to add chain {chain}"),
            Self::AddRule { chain, rule, .. } => {
                write!(f, "to add rule `{rule}` in chain {chain}")
            }
            Self::Commit => f.write_str("to carry out the batch"),
            Self::List => f.write_str("to list nftables"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{rules::everything, wire};

    #[test]
    fn a_batch_replaces_the_table_in_one_go() {
        let ruleset = everything().ruleset().unwrap();
        let batch = Batch::replace(&ruleset);
        let rules: usize = ruleset.chains.iter().map(|chain| chain.rules.len()).sum();
        assert_eq!(
            batch.steps[..6],
            [
                Step::Begin,
                Step::AddTable,
                Step::RemoveTable,
                Step::AddTable,
                Step::AddChain("output"),
                Step::AddChain("prerouting"),
            ]
        );
        assert_eq!(batch.steps.last(), Some(&Step::Commit));
        assert_eq!(batch.steps.len(), 6 + rules + 1);

        let mut datagram = &batch.bytes[..];
        for sequence in 0..batch.steps.len() {
            let (header, _) = wire::next_message(&mut datagram).unwrap();
            assert_eq!(header.sequence as usize, sequence);
        }
        assert!(datagram.is_empty());
    }

    #[test]
    fn the_largest_ruleset_fits_into_one_datagram() {
        /// What `net.core.wmem_default` lets a socket send at once, everywhere.
        const SEND_BUFFER: usize = 160 * 1024;
        let mut interception = everything();
        interception.skip_outbound_ports.clear();
        interception.skip_inbound_ports.clear();
        interception.include_inbound_ports.clear();
        interception.skip_outbound_subnets =
            vec!["fd00::/64".parse().unwrap(); crate::nft::rules::MAX_ENTRIES];
        let batch = Batch::replace(&interception.ruleset().unwrap());
        assert!(batch.bytes.len() < SEND_BUFFER, "{}", batch.bytes.len());
    }

    #[test]
    fn comments_are_as_short_as_nft_demands() {
        /// `NFTNL_UDATA_COMMENT_MAXLEN`, with the NUL.
        const MAX_COMMENT: usize = 128;
        for chain in everything().ruleset().unwrap().chains {
            for rule in chain.rules {
                assert!(rule.comment.len() < MAX_COMMENT, "{:?}", rule.comment);
            }
        }
    }
}
