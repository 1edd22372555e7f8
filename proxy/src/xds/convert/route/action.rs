//! `RouteAction`, `RedirectAction` and `DirectResponseAction`: what becomes of a request.

use super::{
    Around, fault,
    headers::{self, Level},
    matches,
};
use crate::{
    snapshot::{
        Share,
        route::{
            Backend, Backends, Forward, HashCookie, HashPolicy, HashSource, HeaderChanges,
            HostRewrite, IssuedCookie, Mirror, MirrorHost, PathRewrite, Redirect, Respond,
            without_port,
        },
    },
    xds::convert::field::{At, Fault, duration, not_empty, required, share, timeout, unsupported},
};
use bytes::Bytes;
use http::{HeaderName, StatusCode, uri::Scheme};
use std::{num::NonZeroU16, sync::Arc, time::Duration};
use weft_xds_proto::envoy::envoy::config::{
    core::v3::data_source::Specifier,
    route::v3::{
        DirectResponseAction, RedirectAction, RouteAction, WeightedCluster,
        redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
        route_action::{
            ClusterNotFoundResponseCode, ClusterSpecifier, HashPolicy as ProtoHashPolicy,
            HostRewriteSpecifier, RequestMirrorPolicy, UpgradeConfig,
            hash_policy::{Cookie, PolicySpecifier},
        },
        weighted_cluster::{
            ClusterWeight, RandomValueSpecifier,
            cluster_weight::HostRewriteSpecifier as WeightHostRewrite,
        },
    },
};

/// Absent `RouteAction.timeout` (Envoy's default).
const TIMEOUT: Duration = Duration::from_secs(15);

impl Around<'_> {
    fn headers(&self, backend: Option<&Level>) -> HeaderChanges {
        let levels: Vec<_> = self.levels.iter().copied().chain(backend).collect();
        headers::merge(&levels, self.most_specific_wins)
    }
}

/// Not honoured, as it makes no difference to the traffic of a sidecar: `priority`, `early_data_policy`,
/// `flush_timeout`, and `upgrade_configs` that allow what is allowed anyway.
pub(super) fn forward(
    action: &RouteAction,
    around: &Around<'_>,
) -> Result<Forward<Arc<str>>, Fault> {
    unsupported("metadata_match", action.metadata_match.is_some())?;
    unsupported("append_x_forwarded_host", action.append_x_forwarded_host)?;
    unsupported(
        "internal_redirect_policy",
        action.internal_redirect_policy.is_some(),
    )?;
    let absent_is_error =
        match ClusterNotFoundResponseCode::try_from(action.cluster_not_found_response_code) {
            Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => false,
            Ok(ClusterNotFoundResponseCode::InternalServerError) => true,
            Ok(ClusterNotFoundResponseCode::NotFound) | Err(_) => {
                return Err(
                    Fault::new("must be SERVICE_UNAVAILABLE or INTERNAL_SERVER_ERROR")
                        .at("cluster_not_found_response_code"),
                );
            }
        };
    for (position, upgrade) in action.upgrade_configs.iter().enumerate() {
        allowed(upgrade).at(format_args!("upgrade_configs[{position}]"))?;
    }
    Ok(Forward {
        backends: backends(action, around)?,
        absent_is_error,
        timeout: timeout("timeout", action.timeout.as_ref(), Some(TIMEOUT))?,
        grpc_timeout_max: grpc_timeout_max(action)?,
        retry: None,
        hash: each("hash_policy", &action.hash_policy, hash_policy)?.into(),
        path: path_rewrite(action)?,
        mirrors: around.mirrors(&action.request_mirror_policies)?,
    })
}

pub(super) fn redirect(redirect: &RedirectAction, around: &Around<'_>) -> Result<Redirect, Fault> {
    let scheme = match &redirect.scheme_rewrite_specifier {
        None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => {
            let known = Scheme::try_from(scheme.as_str()).map_err(|_| {
                Fault::new(format!("{scheme:?} is not a scheme")).at("scheme_redirect")
            })?;
            Some(known.as_str().to_ascii_lowercase().into())
        }
    };
    let host = match redirect.host_redirect.as_str() {
        "" => None,
        host => {
            host_rewrite(host).at("host_redirect")?;
            if without_port(host) != host {
                let reason = format!("must have no port, which port_redirect gives, got {host:?}");
                return Err(Fault::new(reason).at("host_redirect"));
            }
            Some(host.into())
        }
    };
    let port = match redirect.port_redirect {
        0 => None,
        port => Some(
            u16::try_from(port)
                .ok()
                .and_then(NonZeroU16::new)
                .ok_or_else(|| {
                    Fault::new(format!("must be a port, got {port}")).at("port_redirect")
                })?,
        ),
    };
    let path = match &redirect.path_rewrite_specifier {
        None => None,
        Some(PathRewriteSpecifier::PathRedirect(path)) if path.is_empty() => None,
        Some(PathRewriteSpecifier::PathRedirect(path)) => {
            Some(PathRewrite::Full(absolute(path).at("path_redirect")?))
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            Some(PathRewrite::Prefix(prefix.as_str().into()))
        }
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => Some(PathRewrite::Regex(
            matches::substitution(rewrite).at("regex_rewrite")?,
        )),
        Some(PathRewriteSpecifier::PathRewrite(path)) => {
            let path = headers::literal(path).and_then(|path| absolute(&path));
            Some(PathRewrite::Full(path.at("path_rewrite")?))
        }
    };
    Ok(Redirect {
        scheme,
        host,
        port,
        path,
        status: match RedirectResponseCode::try_from(redirect.response_code) {
            Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
            Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
            Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
            Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
            Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
            Err(_) => return Err(Fault::new("is unknown").at("response_code")),
        },
        strip_query: redirect.strip_query,
        headers: around.headers(None).response,
    })
}

pub(super) fn respond(
    answer: &DirectResponseAction,
    around: &Around<'_>,
) -> Result<Respond, Fault> {
    unsupported("body_format", answer.body_format.is_some())?;
    let body = match answer
        .body
        .as_ref()
        .and_then(|body| body.specifier.as_ref())
    {
        None => Bytes::new(),
        Some(Specifier::InlineBytes(body)) => Bytes::copy_from_slice(body),
        Some(Specifier::InlineString(body)) => Bytes::copy_from_slice(body.as_bytes()),
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) => {
            return Err(Fault::new("must be inline").at("body"));
        }
    };
    Ok(Respond {
        status: fault::http_status("status", answer.status)?,
        body,
        headers: around.headers(None).response,
    })
}

fn backends(action: &RouteAction, around: &Around<'_>) -> Result<Backends<Arc<str>>, Fault> {
    let host = match &action.host_rewrite_specifier {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if host.is_empty() => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            Some(host_rewrite(host).at("host_rewrite_literal")?)
        }
        Some(HostRewriteSpecifier::HostRewrite(host)) => {
            let host = headers::literal(host).and_then(|host| host_rewrite(&host));
            Some(host.at("host_rewrite")?)
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(auto)) if !auto.value => None,
        Some(
            HostRewriteSpecifier::AutoHostRewrite(_)
            | HostRewriteSpecifier::HostRewriteHeader(_)
            | HostRewriteSpecifier::HostRewritePathRegex(_),
        ) => return Err(Fault::new("must be a literal").at("host_rewrite_specifier")),
    };
    match required("cluster_specifier", action.cluster_specifier.as_ref())? {
        ClusterSpecifier::Cluster(cluster) => Ok(Backends::only(Backend {
            host,
            headers: around.headers(None),
            ..Backend::new(not_empty("cluster", cluster)?.into())
        })),
        ClusterSpecifier::WeightedClusters(weighted) => {
            weighted_clusters(weighted, host.as_ref(), around).at("weighted_clusters")
        }
        ClusterSpecifier::ClusterHeader(_)
        | ClusterSpecifier::ClusterSpecifierPlugin(_)
        | ClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            Err(Fault::new("must be a cluster or weighted clusters").at("cluster_specifier"))
        }
    }
}

fn weighted_clusters(
    weighted: &WeightedCluster,
    host: Option<&HostRewrite>,
    around: &Around<'_>,
) -> Result<Backends<Arc<str>>, Fault> {
    match &weighted.random_value_specifier {
        None => {}
        Some(RandomValueSpecifier::HeaderName(_)) => unsupported("header_name", true)?,
        Some(RandomValueSpecifier::UseHashPolicy(by_hash)) => {
            unsupported("use_hash_policy", by_hash.value)?;
        }
    }
    let all = each("clusters", &weighted.clusters, |cluster| {
        backend(cluster, host, around)
    })?;
    let sum: u64 = all.iter().map(|backend| u64::from(backend.weight)).sum();
    // WeightedCluster.ClusterWeight.weight: "must be greater than 0, and must not exceed uint32_t maximal value".
    if sum > u64::from(u32::MAX) {
        return Err(Fault::new(format!(
            "the sum of all weights is {sum}, more than {}",
            u32::MAX
        ))
        .at("clusters"));
    }
    Backends::new(all)
        .ok_or_else(|| Fault::new("the sum of all weights must be > 0").at("clusters"))
}

fn backend(
    cluster: &ClusterWeight,
    host: Option<&HostRewrite>,
    around: &Around<'_>,
) -> Result<Backend<Arc<str>>, Fault> {
    unsupported("cluster_header", !cluster.cluster_header.is_empty())?;
    unsupported("metadata_match", cluster.metadata_match.is_some())?;
    unsupported(
        "typed_per_filter_config",
        !cluster.typed_per_filter_config.is_empty(),
    )?;
    let level = Level::new(
        &cluster.request_headers_to_add,
        &cluster.request_headers_to_remove,
        &cluster.response_headers_to_add,
        &cluster.response_headers_to_remove,
    )?;
    Ok(Backend {
        cluster: not_empty("name", &cluster.name)?.into(),
        weight: required("weight", cluster.weight.as_ref())?.value,
        absent: false,
        host: match &cluster.host_rewrite_specifier {
            None => host.cloned(),
            Some(WeightHostRewrite::HostRewriteLiteral(own)) => {
                Some(host_rewrite(own).at("host_rewrite_literal")?)
            }
        },
        headers: around.headers(Some(&level)),
    })
}

fn path_rewrite(action: &RouteAction) -> Result<Option<PathRewrite>, Fault> {
    unsupported("path_rewrite_policy", action.path_rewrite_policy.is_some())?;
    let prefix = (!action.prefix_rewrite.is_empty())
        .then(|| PathRewrite::Prefix(action.prefix_rewrite.as_str().into()));
    let full = (!action.path_rewrite.is_empty())
        .then(|| headers::literal(&action.path_rewrite).and_then(|path| absolute(&path)))
        .transpose()
        .at("path_rewrite")?
        .map(PathRewrite::Full);
    let regex = action
        .regex_rewrite
        .as_ref()
        .map(matches::substitution)
        .transpose()
        .at("regex_rewrite")?
        .map(PathRewrite::Regex);
    match (prefix, full, regex) {
        (prefix, None, None) => Ok(prefix),
        (None, full, None) => Ok(full),
        (None, None, regex) => Ok(regex),
        _ => Err(Fault::new(
            "only one of prefix_rewrite, path_rewrite and regex_rewrite may be set",
        )),
    }
}

fn hash_policy(policy: &ProtoHashPolicy) -> Result<HashPolicy, Fault> {
    let source = match required("policy_specifier", policy.policy_specifier.as_ref())? {
        PolicySpecifier::Header(header) => {
            let field = matches::field(&header.header_name).at("header.header_name")?;
            let rewrite = header.regex_rewrite.as_ref().map(matches::substitution);
            HashSource::Header(field, rewrite.transpose().at("header.regex_rewrite")?)
        }
        PolicySpecifier::Cookie(cookie) => HashSource::Cookie(hash_cookie(cookie).at("cookie")?),
        PolicySpecifier::ConnectionProperties(properties) if properties.source_ip => {
            HashSource::SourceAddress
        }
        PolicySpecifier::ConnectionProperties(_) => {
            return Err(Fault::new("must be true").at("connection_properties.source_ip"));
        }
        PolicySpecifier::QueryParameter(parameter) => {
            let name = not_empty("query_parameter.name", &parameter.name)?;
            HashSource::QueryParameter(name.into())
        }
        PolicySpecifier::FilterState(_) => {
            return Err(Fault::new("is not supported by this proxy").at("filter_state"));
        }
    };
    Ok(HashPolicy {
        source,
        terminal: policy.terminal,
    })
}

fn hash_cookie(cookie: &Cookie) -> Result<HashCookie, Fault> {
    let part = |field: &str, text: &str| match text {
        text if text
            .bytes()
            .all(|c| (b' '..=b'~').contains(&c) && c != b';') =>
        {
            Ok(())
        }
        text => Err(Fault::new(format!("{text:?} is not a part of a cookie")).at(field)),
    };
    let name = not_empty("name", &cookie.name)?;
    // RFC 6265 section 4.1.1: a token, as the name of a field is.
    HeaderName::try_from(name)
        .map_err(|_| Fault::new(format!("{name:?} is not the name of a cookie")).at("name"))?;
    let mut attributes = String::new();
    if !cookie.path.is_empty() {
        part("path", &cookie.path)?;
        attributes.push_str(&format!("; Path={}", cookie.path));
    }
    for (position, attribute) in cookie.attributes.iter().enumerate() {
        let at = format_args!("attributes[{position}]");
        not_empty("name", &attribute.name).at(at)?;
        part("name", &attribute.name).at(at)?;
        part("value", &attribute.value).at(at)?;
        attributes.push_str(&format!("; {}", attribute.name));
        if !attribute.value.is_empty() {
            attributes.push_str(&format!("={}", attribute.value));
        }
    }
    let ttl = duration("ttl", cookie.ttl.as_ref())?;
    Ok(HashCookie {
        name: name.into(),
        issue: ttl.map(|ttl| IssuedCookie {
            ttl,
            attributes: attributes.into(),
        }),
    })
}

/// Who gets copies, by the policies of whatever has them.
pub(super) fn mirrors(policies: &[RequestMirrorPolicy]) -> Result<Arc<[Mirror<Arc<str>>]>, Fault> {
    let mirrors = each("request_mirror_policies", policies, mirror)?;
    Ok(mirrors.into())
}

/// Not honoured: `trace_sampled`, as a mirrored request belongs to the trace of its original.
fn mirror(policy: &RequestMirrorPolicy) -> Result<Mirror<Arc<str>>, Fault> {
    unsupported("cluster_header", !policy.cluster_header.is_empty())?;
    let share_of = match &policy.runtime_fraction {
        None => Share::ALL,
        Some(fraction) => {
            let value = required("default_value", fraction.default_value.as_ref());
            value
                .and_then(|value| share("default_value", Some(value), Share::ALL))
                .at("runtime_fraction")?
        }
    };
    Ok(Mirror {
        cluster: not_empty("cluster", &policy.cluster)?.into(),
        share: share_of,
        host: match policy.host_rewrite_literal.as_str() {
            "" if policy.disable_shadow_host_suffix_append => MirrorHost::Same,
            "" => MirrorHost::Shadow,
            host => MirrorHost::Other(host_rewrite(host).at("host_rewrite_literal")?),
        },
        headers: headers::mutations(&policy.request_headers_mutations)?.into(),
    })
}

/// `grpc-timeout` is kept to as it stands, which zero and absence ask for, or up to this maximum; nothing else ends a call.
#[expect(
    deprecated,
    reason = "control planes still send the fields before max_stream_duration"
)]
fn grpc_timeout_max(action: &RouteAction) -> Result<Option<Duration>, Fault> {
    let zero = |field: &str, value: Option<&_>| {
        let set = duration(field, value)?.is_some_and(|value| !value.is_zero());
        unsupported(field, set)
    };
    zero("max_grpc_timeout", action.max_grpc_timeout.as_ref())?;
    zero("grpc_timeout_offset", action.grpc_timeout_offset.as_ref())?;
    let Some(limits) = &action.max_stream_duration else {
        return Ok(None);
    };
    for (field, value) in [
        ("max_stream_duration", &limits.max_stream_duration),
        (
            "grpc_timeout_header_offset",
            &limits.grpc_timeout_header_offset,
        ),
    ] {
        zero(field, value.as_ref()).at("max_stream_duration")?;
    }
    let max = limits.grpc_timeout_header_max.as_ref();
    timeout("grpc_timeout_header_max", max, None).at("max_stream_duration")
}

/// Every upgrade is allowed, and CONNECT is not terminated.
fn allowed(upgrade: &UpgradeConfig) -> Result<(), Fault> {
    unsupported(
        "enabled",
        upgrade
            .enabled
            .as_ref()
            .is_some_and(|enabled| !enabled.value),
    )?;
    unsupported("connect_config", upgrade.connect_config.is_some())
}

fn host_rewrite(host: &str) -> Result<HostRewrite, Fault> {
    HostRewrite::new(host).ok_or_else(|| Fault::new(format!("{host:?} is not a host")))
}

fn absolute(path: &str) -> Result<Arc<str>, Fault> {
    match path.starts_with('/') {
        true => Ok(path.into()),
        false => Err(Fault::new(format!("must start with a slash, got {path:?}"))),
    }
}

/// Every element of a repeated field.
fn each<T, U>(
    field: &str,
    values: &[T],
    convert: impl Fn(&T) -> Result<U, Fault>,
) -> Result<Vec<U>, Fault> {
    let values = values.iter().enumerate();
    values
        .map(|(position, value)| convert(value).at(format_args!("{field}[{position}]")))
        .collect()
}
