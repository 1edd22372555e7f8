//! Chains and rules as the kernel lists them. Pure.

use libc::NFPROTO_INET;

use super::{
    InitError,
    encode::{meta_key, operator, payload_place},
    expression::{Comparison, Expression, Meta, Payload},
    rules::TABLE,
    wire::{
        USERDATA_COMMENT, attribute as nfta, attributes, attributes_of, family_of, number,
        optional_attribute, required_attribute, text,
    },
};

/// A chain of our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedChain {
    pub(super) name: String,
    pub(super) kind: String,
    /// The number of the hook, and the chain's priority there.
    pub(super) hook: Option<(u32, i32)>,
    pub(super) policy: Option<u32>,
}

/// A rule of our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedRule {
    pub(super) chain: String,
    pub(super) comment: Option<String>,
    pub(super) expressions: Vec<Expression>,
}

/// Whether a listed table is ours.
pub(super) fn is_our_table(body: &[u8]) -> Result<bool, InitError> {
    is_ours(body, nfta::TABLE_NAME)
}

/// A listed chain, if it is in our table.
pub(super) fn chain(body: &[u8]) -> Result<Option<ListedChain>, InitError> {
    if !is_ours(body, nfta::CHAIN_TABLE)? {
        return Ok(None);
    }
    let list = attributes_of(body)?;
    let optional_text = |kind| {
        optional_attribute(list, kind)?
            .map(text)
            .transpose()
            .map(Option::unwrap_or_default)
    };
    let hook = match optional_attribute(list, nfta::CHAIN_HOOK)? {
        Some(hook) => Some((
            number(required_attribute(hook, nfta::HOOK_NUMBER)?)?,
            number(required_attribute(hook, nfta::HOOK_PRIORITY)?)? as i32,
        )),
        None => None,
    };
    Ok(Some(ListedChain {
        name: optional_text(nfta::CHAIN_NAME)?.to_owned(),
        kind: optional_text(nfta::CHAIN_TYPE)?.to_owned(),
        hook,
        policy: optional_attribute(list, nfta::CHAIN_POLICY)?
            .map(number)
            .transpose()?,
    }))
}

/// A listed rule, if it is in our table.
pub(super) fn rule(body: &[u8]) -> Result<Option<ListedRule>, InitError> {
    if !is_ours(body, nfta::RULE_TABLE)? {
        return Ok(None);
    }
    let list = attributes_of(body)?;
    let expressions = optional_attribute(list, nfta::RULE_EXPRESSIONS)?.unwrap_or_default();
    Ok(Some(ListedRule {
        chain: text(required_attribute(list, nfta::RULE_CHAIN)?)?.to_owned(),
        comment: optional_attribute(list, nfta::RULE_USERDATA)?.and_then(comment),
        expressions: attributes(expressions)
            .map(|element| expression(element?.1))
            .collect::<Result<_, _>>()?,
    }))
}

fn is_ours(body: &[u8], table: u16) -> Result<bool, InitError> {
    let list = attributes_of(body)?;
    let name = text(required_attribute(list, table)?)?;
    Ok(family_of(body)? == NFPROTO_INET && name == TABLE)
}

/// Other programs may put anything into userdata: what is no comment of nft's is none.
fn comment(userdata: &[u8]) -> Option<String> {
    let (&[kind, length], value) = userdata.split_first_chunk()?;
    let value = value.get(..length.into())?;
    (kind == USERDATA_COMMENT)
        .then(|| text(value).ok())
        .flatten()
        .map(str::to_owned)
}

/// What differs from everything we write is foreign, whether it makes sense or not.
fn expression(element: &[u8]) -> Result<Expression, InitError> {
    let name = text(required_attribute(element, nfta::EXPRESSION_NAME)?)?;
    let data = optional_attribute(element, nfta::EXPRESSION_DATA)?.unwrap_or_default();
    let known = match name {
        "meta" => meta(data)?,
        "payload" => payload(data)?,
        "bitwise" => mask(data)?,
        "cmp" => comparison(data)?,
        "immediate" => immediate(data)?,
        "redir" => uses_our_register(data, nfta::REDIRECT_PORT)?.then_some(Expression::Redirect),
        _ => None,
    };
    Ok(known.unwrap_or_else(|| Expression::Foreign(name.to_owned())))
}

fn meta(data: &[u8]) -> Result<Option<Expression>, InitError> {
    const KEYS: [Meta; 5] = [
        Meta::NetworkProtocol,
        Meta::TransportProtocol,
        Meta::OutputInterface,
        Meta::SocketUid,
        Meta::SocketGid,
    ];
    let listed = number(required_attribute(data, nfta::META_KEY)?)?;
    let key = KEYS.into_iter().find(|key| meta_key(*key) == listed);
    let ours = uses_our_register(data, nfta::META_DESTINATION)?;
    Ok(key.filter(|_| ours).map(Expression::Meta))
}

fn payload(data: &[u8]) -> Result<Option<Expression>, InitError> {
    const FIELDS: [Payload; 3] = [
        Payload::Ipv4Destination,
        Payload::Ipv6Destination,
        Payload::TransportDestinationPort,
    ];
    let listed = (
        number(required_attribute(data, nfta::PAYLOAD_BASE)?)?,
        number(required_attribute(data, nfta::PAYLOAD_OFFSET)?)?,
        number(required_attribute(data, nfta::PAYLOAD_LENGTH)?)?,
    );
    let field = FIELDS
        .into_iter()
        .find(|field| payload_place(*field) == listed);
    let ours = uses_our_register(data, nfta::PAYLOAD_DESTINATION)?;
    Ok(field.filter(|_| ours).map(Expression::Payload))
}

fn mask(data: &[u8]) -> Result<Option<Expression>, InitError> {
    let mask = value(required_attribute(data, nfta::BITWISE_MASK)?)?;
    let xor = value(required_attribute(data, nfta::BITWISE_XOR)?)?;
    let ours = uses_our_register(data, nfta::BITWISE_SOURCE)?
        && uses_our_register(data, nfta::BITWISE_DESTINATION)?
        && xor.iter().all(|byte| *byte == 0);
    Ok(ours.then(|| Expression::Mask(mask.to_vec())))
}

fn comparison(data: &[u8]) -> Result<Option<Expression>, InitError> {
    const COMPARISONS: [Comparison; 3] =
        [Comparison::Equal, Comparison::AtLeast, Comparison::AtMost];
    let listed = number(required_attribute(data, nfta::COMPARE_OPERATOR)?)?;
    let with = value(required_attribute(data, nfta::COMPARE_DATA)?)?;
    let ours = uses_our_register(data, nfta::COMPARE_SOURCE)?;
    let comparison = COMPARISONS
        .into_iter()
        .find(|comparison| operator(*comparison) == listed);
    Ok(comparison
        .filter(|_| ours)
        .map(|comparison| Expression::Compare(comparison, with.to_vec())))
}

fn immediate(data: &[u8]) -> Result<Option<Expression>, InitError> {
    let loaded = required_attribute(data, nfta::IMMEDIATE_DATA)?;
    if let Some(verdict) = optional_attribute(loaded, nfta::DATA_VERDICT)? {
        let code = number(required_attribute(verdict, nfta::VERDICT_CODE)?)? as i32;
        return Ok((code == libc::NFT_RETURN).then_some(Expression::Return));
    }
    let ours = uses_our_register(data, nfta::IMMEDIATE_DESTINATION)?;
    let constant = value(loaded)?;
    Ok(ours.then(|| Expression::Load(constant.to_vec())))
}

fn value(data: &[u8]) -> Result<&[u8], InitError> {
    required_attribute(data, nfta::DATA_VALUE)
}

fn uses_our_register(data: &[u8], register: u16) -> Result<bool, InitError> {
    let register = optional_attribute(data, register)?
        .map(number)
        .transpose()?;
    Ok(register == Some(libc::NFT_REG_1 as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{
        encode::Batch,
        rules::{Interception, everything},
        wire,
    };

    #[test]
    fn what_is_written_is_read_back_the_same() {
        for interception in [Interception::default(), everything()] {
            let ruleset = interception.ruleset().unwrap();
            let expected: Vec<_> = ruleset
                .chains
                .iter()
                .flat_map(|chain| {
                    chain.rules.iter().map(|rule| ListedRule {
                        chain: chain.hook.chain().to_owned(),
                        comment: Some(rule.comment.to_owned()),
                        expressions: rule.expressions(),
                    })
                })
                .collect();
            let batch = Batch::replace(&ruleset);
            let mut datagram = &batch.bytes[..];
            let mut listed = Vec::new();
            while !datagram.is_empty() {
                let (header, body) = wire::next_message(&mut datagram).unwrap();
                if header.kind == crate::nft::encode::kind(libc::NFT_MSG_NEWRULE) {
                    listed.extend(rule(body).unwrap());
                }
            }
            assert_eq!(listed, expected);
        }
    }
}
