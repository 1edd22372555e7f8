//! Fields that occur in many messages, and the path to one that is wrong.

use crate::snapshot::Share;
use std::{fmt::Display, time::Duration};
use weft_xds_proto::envoy::{
    envoy::{
        config::core::v3::{ConfigSource, Metadata, config_source::ConfigSourceSpecifier},
        r#type::v3::{FractionalPercent, Percent, fractional_percent::DenominatorType},
    },
    google::protobuf::{Any, Duration as ProtoDuration, UInt32Value},
};

/// What is wrong with a field, and where it is below the message at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::xds) struct Fault {
    pub(super) field: String,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            field: String::new(),
            reason: reason.into(),
        }
    }

    /// The same, seen from the message that holds `field`.
    pub(super) fn at(mut self, field: impl Display) -> Self {
        self.field = if self.field.is_empty() {
            field.to_string()
        } else {
            format!("{field}.{}", self.field)
        };
        self
    }
}

/// Names the field that an error comes from.
pub(super) trait At {
    fn at(self, field: impl Display) -> Self;
}

impl<T> At for Result<T, Fault> {
    fn at(self, field: impl Display) -> Self {
        self.map_err(|fault| fault.at(field))
    }
}

/// A field that is not honoured must not be set: `set` says whether it is.
pub(super) fn unsupported(field: &str, set: bool) -> Result<(), Fault> {
    if set {
        return Err(Fault::new("is not supported by this proxy").at(field));
    }
    Ok(())
}

/// The message in an `Any`, which must be of that type.
pub(super) fn decode<M: prost::Message + Default + prost::Name>(any: &Any) -> Result<M, Fault> {
    if any.type_url != M::type_url() {
        return Err(Fault::new(format!(
            "expected a {}, got {:?}",
            M::type_url(),
            any.type_url
        )));
    }
    M::decode(any.value.as_slice())
        .map_err(|error| Fault::new(format!("malformed {}: {error}", M::NAME)))
}

/// Whether an `Any` is of a type.
pub(super) fn is<M: prost::Name>(any: &Any) -> bool {
    any.type_url == M::type_url()
}

/// A message of ours in `metadata.typed_filter_metadata["weft.dev"]`; `None` when there is none.
pub(super) fn own_metadata<M: prost::Message + Default + prost::Name>(
    metadata: Option<&Metadata>,
) -> Result<Option<M>, Fault> {
    let key = weft_xds_proto::names::METADATA_KEY;
    metadata
        .and_then(|metadata| metadata.typed_filter_metadata.get(key))
        .map(|any| decode(any).at(format_args!("metadata.typed_filter_metadata[{key:?}]")))
        .transpose()
}

/// A duration that is not negative. Absent is the caller's to decide.
pub(super) fn duration(
    field: &str,
    value: Option<&ProtoDuration>,
) -> Result<Option<Duration>, Fault> {
    let Some(value) = value else { return Ok(None) };
    let fail = |reason: &str| {
        Err(Fault::new(format!(
            "{reason}, got {}",
            seconds(value.seconds, value.nanos)
        ))
        .at(field))
    };
    // google.protobuf.Duration: nanos within a second, and of the same sign as seconds.
    let (Ok(secs), Ok(nanos)) = (u64::try_from(value.seconds), u32::try_from(value.nanos)) else {
        return fail("must not be negative");
    };
    if nanos >= 1_000_000_000 || value.seconds > 315_576_000_000 {
        return fail("is out of range");
    }
    Ok(Some(Duration::new(secs, nanos)))
}

/// A duration above zero.
pub(super) fn positive(
    field: &str,
    value: Option<&ProtoDuration>,
) -> Result<Option<Duration>, Fault> {
    let fail = |value: &ProtoDuration| {
        Fault::new(format!(
            "must be > 0, got {}",
            seconds(value.seconds, value.nanos)
        ))
        .at(field)
    };
    match value {
        Some(value) if value.seconds < 0 || value.nanos < 0 => Err(fail(value)),
        Some(value) if value.seconds == 0 && value.nanos == 0 => Err(fail(value)),
        value => duration(field, value),
    }
}

/// A timeout by Envoy's rule: absent is the default, zero is none.
pub(super) fn timeout(
    field: &str,
    value: Option<&ProtoDuration>,
    default: Option<Duration>,
) -> Result<Option<Duration>, Fault> {
    Ok(match duration(field, value)? {
        None => default,
        Some(Duration::ZERO) => None,
        Some(timeout) => Some(timeout),
    })
}

/// A number above zero.
pub(super) fn non_zero(
    field: &str,
    value: Option<&UInt32Value>,
) -> Result<Option<std::num::NonZeroU32>, Fault> {
    value
        .map(|value| {
            std::num::NonZeroU32::new(value.value)
                .ok_or_else(|| Fault::new("must be > 0, got 0").at(field))
        })
        .transpose()
}

/// A share of all, `default` when absent.
pub(super) fn share(
    field: &str,
    value: Option<&FractionalPercent>,
    default: Share,
) -> Result<Share, Fault> {
    let Some(value) = value else {
        return Ok(default);
    };
    let whole = match DenominatorType::try_from(value.denominator) {
        Ok(DenominatorType::Hundred) => 100,
        Ok(DenominatorType::TenThousand) => 10_000,
        Ok(DenominatorType::Million) => 1_000_000,
        Err(_) => {
            return Err(Fault::new("must be HUNDRED, TEN_THOUSAND or MILLION")
                .at("denominator")
                .at(field));
        }
    };
    if value.numerator > whole {
        return Err(
            Fault::new(format!("must be <= {whole}, got {}", value.numerator))
                .at("numerator")
                .at(field),
        );
    }
    Ok(Share::millionths(value.numerator * (1_000_000 / whole)))
}

/// A share in percent. Absent is the caller's to decide.
pub(super) fn percent(field: &str, value: Option<&Percent>) -> Result<Option<Share>, Fault> {
    let Some(&Percent { value }) = value else {
        return Ok(None);
    };
    // Not a number is neither.
    if !(0.0..=100.0).contains(&value) {
        return Err(Fault::new(format!("must be 0 to 100, got {value}")).at(field));
    }
    Ok(Some(Share::millionths((value * 1e4).round() as u32)))
}

/// The only source there is: this very stream.
pub(super) fn ads(field: &str, source: Option<&ConfigSource>) -> Result<(), Fault> {
    match source.and_then(|source| source.config_source_specifier.as_ref()) {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(()),
        Some(_) => Err(Fault::new("only ads is supported").at(field)),
        None => Err(Fault::new("is required").at(field)),
    }
}

/// A field that must be set.
pub(super) fn required<T>(field: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::new("is required").at(field))
}

/// A text that must not be empty.
pub(super) fn not_empty<'a>(field: &str, value: &'a str) -> Result<&'a str, Fault> {
    if value.is_empty() {
        return Err(Fault::new("must not be empty").at(field));
    }
    Ok(value)
}

fn seconds(seconds: i64, nanos: i32) -> String {
    if nanos == 0 {
        format!("{seconds}s")
    } else {
        format!("{}s", seconds as f64 + f64::from(nanos) / 1e9)
    }
}
