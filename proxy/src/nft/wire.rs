//! The framing of netlink messages (RFC 3549, `linux/netlink.h`) and the numbers of nf_tables. Pure.

use super::InitError;

/// `struct nlmsghdr`: length, type, flags, sequence number, sender.
const HEADER: usize = 16;

/// `struct nfgenmsg`: family, version, resource.
const GENERIC: usize = 4;

/// Messages and attributes start at multiples of this.
const ALIGNMENT: usize = 4;

/// Bits of an attribute's type that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// Attributes of `linux/netfilter/nf_tables.h`. Numbers are big-endian in all of them.
pub(super) mod attribute {
    pub(in crate::nft) const TABLE_NAME: u16 = 1;

    pub(in crate::nft) const CHAIN_TABLE: u16 = 1;
    pub(in crate::nft) const CHAIN_NAME: u16 = 3;
    pub(in crate::nft) const CHAIN_HOOK: u16 = 4;
    pub(in crate::nft) const CHAIN_POLICY: u16 = 5;
    pub(in crate::nft) const CHAIN_TYPE: u16 = 7;

    pub(in crate::nft) const HOOK_NUMBER: u16 = 1;
    pub(in crate::nft) const HOOK_PRIORITY: u16 = 2;

    pub(in crate::nft) const RULE_TABLE: u16 = 1;
    pub(in crate::nft) const RULE_CHAIN: u16 = 2;
    pub(in crate::nft) const RULE_EXPRESSIONS: u16 = 4;
    pub(in crate::nft) const RULE_USERDATA: u16 = 7;

    pub(in crate::nft) const LIST_ELEMENT: u16 = 1;
    pub(in crate::nft) const EXPRESSION_NAME: u16 = 1;
    pub(in crate::nft) const EXPRESSION_DATA: u16 = 2;

    pub(in crate::nft) const META_DESTINATION: u16 = 1;
    pub(in crate::nft) const META_KEY: u16 = 2;

    pub(in crate::nft) const PAYLOAD_DESTINATION: u16 = 1;
    pub(in crate::nft) const PAYLOAD_BASE: u16 = 2;
    pub(in crate::nft) const PAYLOAD_OFFSET: u16 = 3;
    pub(in crate::nft) const PAYLOAD_LENGTH: u16 = 4;

    pub(in crate::nft) const BITWISE_SOURCE: u16 = 1;
    pub(in crate::nft) const BITWISE_DESTINATION: u16 = 2;
    pub(in crate::nft) const BITWISE_LENGTH: u16 = 3;
    pub(in crate::nft) const BITWISE_MASK: u16 = 4;
    pub(in crate::nft) const BITWISE_XOR: u16 = 5;

    pub(in crate::nft) const COMPARE_SOURCE: u16 = 1;
    pub(in crate::nft) const COMPARE_OPERATOR: u16 = 2;
    pub(in crate::nft) const COMPARE_DATA: u16 = 3;

    pub(in crate::nft) const IMMEDIATE_DESTINATION: u16 = 1;
    pub(in crate::nft) const IMMEDIATE_DATA: u16 = 2;

    pub(in crate::nft) const REDIRECT_PORT: u16 = 1;
    pub(in crate::nft) const REDIRECT_FLAGS: u16 = 3;

    pub(in crate::nft) const DATA_VALUE: u16 = 1;
    pub(in crate::nft) const DATA_VERDICT: u16 = 2;
    pub(in crate::nft) const VERDICT_CODE: u16 = 1;
}

/// The type of a comment in a rule's userdata (libnftnl `udata.h`, `NFTNL_UDATA_RULE_COMMENT`).
pub(super) const USERDATA_COMMENT: u8 = 0;

/// `NF_NAT_RANGE_PROTO_SPECIFIED`: the redirect names a port.
pub(super) const NAT_PORT_SPECIFIED: u32 = 2;

/// Type and flags of a message, and to which request it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
}

/// A list of attributes in the making.
#[derive(Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("our attributes are short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(&mut self.0);
        self
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A text with the NUL that the kernel expects after it.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn nested(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | libc::NLA_F_NESTED as u16, &inner.0)
    }
}

/// Appends a message with the header that all of netfilter's have.
pub(super) fn push_message(
    to: &mut Vec<u8>,
    header: Header,
    family: libc::c_int,
    resource: u16,
    attributes: &Attributes,
) {
    let length = HEADER + GENERIC + attributes.0.len();
    let length = u32::try_from(length).expect("our messages are short");
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&header.kind.to_ne_bytes());
    to.extend_from_slice(&header.flags.to_ne_bytes());
    to.extend_from_slice(&header.sequence.to_ne_bytes());
    to.extend_from_slice(&0_u32.to_ne_bytes());
    to.extend_from_slice(&[family as u8, libc::NFNETLINK_V0 as u8]);
    to.extend_from_slice(&resource.to_be_bytes());
    to.extend_from_slice(&attributes.0);
    pad(to);
}

/// Takes the next message off a datagram: its header and what follows.
pub(super) fn next_message<'a>(datagram: &mut &'a [u8]) -> Result<(Header, &'a [u8]), InitError> {
    let (length, rest) = split_number(datagram)?;
    let (kind, rest) = split_short(rest)?;
    let (flags, rest) = split_short(rest)?;
    let (sequence, _) = split_number(rest)?;
    let length = usize::try_from(length).map_err(|_| InitError::MalformedReply)?;
    let body = datagram
        .get(HEADER..length)
        .ok_or(InitError::MalformedReply)?;
    *datagram = datagram.get(aligned(length)..).unwrap_or_default();
    let header = Header {
        kind,
        flags,
        sequence,
    };
    Ok((header, body))
}

/// The attributes of a message of netfilter, after the header that all of them have.
pub(super) fn attributes_of(body: &[u8]) -> Result<&[u8], InitError> {
    body.get(GENERIC..).ok_or(InitError::MalformedReply)
}

/// The family that a message of netfilter is about.
pub(super) fn family_of(body: &[u8]) -> Result<libc::c_int, InitError> {
    body.first()
        .map(|family| (*family).into())
        .ok_or(InitError::MalformedReply)
}

/// Goes through a list of attributes: type without flags, and value.
pub(super) fn attributes(mut list: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), InitError>> {
    std::iter::from_fn(move || {
        if list.is_empty() {
            return None;
        }
        let next = next_attribute(&mut list);
        if next.is_err() {
            list = &[];
        }
        Some(next)
    })
}

/// The value of an attribute that must be in the list.
pub(super) fn required_attribute(list: &[u8], wanted: u16) -> Result<&[u8], InitError> {
    optional_attribute(list, wanted)?.ok_or(InitError::MalformedReply)
}

/// The value of an attribute that may be in the list.
pub(super) fn optional_attribute(list: &[u8], wanted: u16) -> Result<Option<&[u8]>, InitError> {
    for attribute in attributes(list) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// A big-endian number.
pub(super) fn number(value: &[u8]) -> Result<u32, InitError> {
    let bytes = value.try_into().map_err(|_| InitError::MalformedReply)?;
    Ok(u32::from_be_bytes(bytes))
}

/// A text, with or without a NUL after it.
pub(super) fn text(value: &[u8]) -> Result<&str, InitError> {
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    std::str::from_utf8(value).map_err(|_| InitError::MalformedReply)
}

/// The error number of an `NLMSG_ERROR`; 0 acknowledges.
pub(super) fn error_number(body: &[u8]) -> Result<i32, InitError> {
    let (number, _) = split_number(body)?;
    Ok(-(number as i32))
}

fn next_attribute<'a>(list: &mut &'a [u8]) -> Result<(u16, &'a [u8]), InitError> {
    let (length, rest) = split_short(list)?;
    let (kind, _) = split_short(rest)?;
    let value = list
        .get(4..length.into())
        .ok_or(InitError::MalformedReply)?;
    *list = list.get(aligned(length.into())..).unwrap_or_default();
    Ok((kind & !ATTRIBUTE_FLAGS, value))
}

fn split_number(bytes: &[u8]) -> Result<(u32, &[u8]), InitError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(InitError::MalformedReply)?;
    Ok((u32::from_ne_bytes(*number), rest))
}

fn split_short(bytes: &[u8]) -> Result<(u16, &[u8]), InitError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(InitError::MalformedReply)?;
    Ok((u16::from_ne_bytes(*number), rest))
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(aligned(bytes.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header {
        kind: 0x0a06,
        flags: 5,
        sequence: 7,
    };

    #[test]
    fn a_message_looks_as_the_kernel_defines_it() {
        let mut bytes = Vec::new();
        let attributes = Attributes::default()
            .text(1, "weft")
            .nested(2, Attributes::default().number(3, 80));
        push_message(&mut bytes, HEADER, libc::NFPROTO_INET, 10, &attributes);
        let expected: [&[u8]; 7] = [
            &44_u32.to_ne_bytes(),
            &[0x06, 0x0a, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 10],
            &[9, 0, 1, 0],
            b"weft\0\0\0\0",
            &[12, 0, 2, 0x80],
            &[8, 0, 3, 0, 0, 0, 0, 80],
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(bytes, expected.concat());
        }
        let mut datagram = &bytes[..];
        let (header, body) = next_message(&mut datagram).unwrap();
        assert_eq!((header, datagram), (HEADER, &[][..]));
        let list = attributes_of(body).unwrap();
        assert_eq!(text(required_attribute(list, 1).unwrap()).unwrap(), "weft");
        let inner = required_attribute(list, 2).unwrap();
        assert_eq!(number(required_attribute(inner, 3).unwrap()).unwrap(), 80);
    }

    proptest! {
        #[test]
        fn no_reply_makes_reading_panic_or_stand_still(bytes: Vec<u8>) {
            let mut datagram = &bytes[..];
            while !datagram.is_empty() {
                let before = datagram.len();
                let Ok((_, body)) = next_message(&mut datagram) else { break };
                prop_assert!(datagram.len() < before);
                prop_assert!(attributes(body).count() <= body.len());
            }
        }
    }
}
