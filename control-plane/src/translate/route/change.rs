//! What a rule does to requests and answers: headers, redirects, rewrites.

use super::{super::dialect::Form, fit::escape};
use crate::world::route::{Filter, Match, PathChange, PathMatch, Redirect};
use envoy_types::pb::envoy::{
    config::{
        core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
        route::v3::{
            RedirectAction, RouteAction,
            redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
            route_action::HostRewriteSpecifier,
        },
    },
    r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher},
};

/// Changes of the headers of requests or answers.
#[derive(Default)]
pub(super) struct Headers {
    pub(super) add: Vec<HeaderValueOption>,
    pub(super) remove: Vec<String>,
}

/// The changes to requests, and those to answers.
pub(super) fn headers(filters: &[Filter]) -> (Headers, Headers) {
    let (mut request, mut response) = (Headers::default(), Headers::default());
    for filter in filters {
        let (headers, changes) = match filter {
            Filter::RequestHeaders(changes) => (&mut request, changes),
            Filter::ResponseHeaders(changes) => (&mut response, changes),
            Filter::Redirect(_) | Filter::Rewrite(_) | Filter::Mirror(_) => continue,
        };
        let set = changes
            .set
            .iter()
            .map(|field| (field, HeaderAppendAction::OverwriteIfExistsOrAdd));
        let add = changes
            .add
            .iter()
            .map(|field| (field, HeaderAppendAction::AppendIfExistsOrAdd));
        headers.add.extend(
            set.chain(add)
                .map(|((name, value), action)| option(name, value, action)),
        );
        headers
            .remove
            .extend(changes.remove.iter().map(ToString::to_string));
    }
    (request, response)
}

fn option(name: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            // Between two of them Envoy looks for a variable.
            value: value.replace('%', "%%"),
            ..HeaderValue::default()
        }),
        append_action: action.into(),
        keep_empty_value: true,
        ..HeaderValueOption::default()
    }
}

/// `Route.redirect`.
pub(super) fn redirect(redirect: &Redirect, matched: Option<&Match>, form: Form) -> RedirectAction {
    let code = match redirect.status {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    // An Envoy would keep the port of the request.
    let of_scheme = match redirect.scheme.as_deref() {
        Some("https") if form == Form::Envoy && redirect.hostname.is_none() => Some(443),
        Some("http") if form == Form::Envoy && redirect.hostname.is_none() => Some(80),
        _ => None,
    };
    let path = redirect.path.as_ref().map(|path| match path {
        PathChange::Full(path) => PathRewriteSpecifier::PathRedirect(path.to_string()),
        PathChange::Prefix(to) => match replace_prefix(matched, to) {
            PrefixChange::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
            PrefixChange::Regex(regex) => PathRewriteSpecifier::RegexRewrite(regex),
        },
    });
    RedirectAction {
        scheme_rewrite_specifier: redirect
            .scheme
            .as_deref()
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_owned())),
        host_redirect: redirect.hostname.as_deref().unwrap_or_default().to_owned(),
        port_redirect: redirect.port.or(of_scheme).unwrap_or_default().into(),
        path_rewrite_specifier: path,
        response_code: code.into(),
        ..RedirectAction::default()
    }
}

/// The action with what a rule rewrites of requests.
pub(super) fn rewrite(
    mut action: RouteAction,
    filters: &[Filter],
    matched: Option<&Match>,
) -> RouteAction {
    for filter in filters {
        let Filter::Rewrite(rewrite) = filter else {
            continue;
        };
        if let Some(hostname) = &rewrite.hostname {
            let literal = HostRewriteSpecifier::HostRewriteLiteral(hostname.to_string());
            action.host_rewrite_specifier = Some(literal);
        }
        match &rewrite.path {
            None => {}
            Some(PathChange::Full(path)) => {
                action.regex_rewrite = Some(substitution("^/.*$".to_owned(), path));
            }
            Some(PathChange::Prefix(to)) => match replace_prefix(matched, to) {
                PrefixChange::Prefix(prefix) => action.prefix_rewrite = prefix,
                PrefixChange::Regex(regex) => action.regex_rewrite = Some(regex),
            },
        }
    }
    action
}

/// How the prefix that was matched is replaced.
enum PrefixChange {
    Prefix(String),
    Regex(RegexMatchAndSubstitute),
}

/// Gateway API replaces whole segments: `/old` by `/` makes `/old/a` to `/a`, where to replace the characters alone
/// would make `//a` of it (`HTTPPathModifier.replacePrefixMatch`).
fn replace_prefix(matched: Option<&Match>, to: &str) -> PrefixChange {
    let to = to.trim_end_matches('/');
    match matched.map(|matched| &matched.path) {
        Some(PathMatch::Prefix(prefix)) if &**prefix != "/" => {
            if to.is_empty() {
                PrefixChange::Regex(substitution(format!("^{}/*", escape(prefix)), "/"))
            } else {
                PrefixChange::Prefix(to.to_owned())
            }
        }
        // All of the path is below the prefix `/`, whose slash is what follows the replacement.
        _ => PrefixChange::Prefix(format!("{to}/")),
    }
}

fn substitution(regex: String, by: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(RegexMatcher {
            regex,
            ..RegexMatcher::default()
        }),
        substitution: by.replace('\\', "\\\\"),
    }
}
