//! Stages on the way of a request that need nothing of the worker.

use super::{Answer, Failure};
use crate::{
    error::RequestError,
    exchange::Exchange,
    http::{body::Body, header_changes, intake, redirect, reply, rewrite, route},
    snapshot::{
        Destination, Route,
        route::{Backend, Forward, Redirect, Respond},
    },
};
use http::{Method, Request};
use std::{sync::Arc, time::Duration};

/// The route of a request.
pub(super) fn select(
    destination: &Destination,
    host: &str,
    request: &Request<Body>,
) -> Result<Arc<Route>, Failure> {
    let routes = destination.routes.as_ref();
    let route = routes.and_then(|routes| route::select(routes, host, request));
    route.cloned().ok_or_else(|| Failure {
        error: RequestError::RouteNotFound,
        detail: Some(format!(
            "no route of {} matches {} {host}{}",
            destination.name,
            request.method(),
            intake::path(request),
        )),
    })
}

/// Sends the caller elsewhere.
pub(super) fn redirect(
    redirect: &Redirect,
    route: &Route,
    host: &str,
    request: &Request<Body>,
) -> Result<Answer, Failure> {
    let location = redirect::location(redirect, &route.path, host, request);
    let location = location.map_err(|error| Failure {
        error: RequestError::BadRequest,
        detail: Some(format!(
            "where it is redirected to cannot be written: {error}"
        )),
    })?;
    let mut response = reply::redirect(redirect.status, location);
    header_changes::apply(&redirect.headers, response.headers_mut());
    Ok(Answer::Response(response))
}

/// Answers as the route says.
pub(super) fn respond(answer: &Respond, grpc: bool) -> Answer {
    let mut response = reply::direct(answer.status, &answer.body, grpc);
    header_changes::apply(&answer.headers, response.headers_mut());
    Answer::Response(response)
}

/// There is nobody to send it to.
pub(super) fn not_found(backend: &Backend) -> Failure {
    Failure {
        error: RequestError::BackendNotFound,
        detail: Some(format!("there is no cluster {}", backend.cluster.name)),
    }
}

/// Gives the request the path, the host and the fields that its backend is to see.
pub(super) fn rewrite(
    route: &Route,
    forward: &Forward,
    backend: &Backend,
    request: &mut Request<Body>,
) -> Result<(), Failure> {
    if let Some(path) = &forward.path {
        rewrite::set_path(path, &route.path, request).map_err(|error| Failure {
            error: RequestError::BadRequest,
            detail: Some(format!(
                "after the rewrite of route {}: {error}",
                route.name
            )),
        })?;
    }
    if let Some(host) = &backend.host {
        rewrite::set_host(host, request);
    }
    header_changes::apply(&backend.headers.request, request.headers_mut());
    Ok(())
}

/// How long the response may take, from the end of the request.
///
/// A gRPC call may stream in both directions for as long as its caller likes, which says how long that is
/// by `grpc-timeout`, counted from its beginning and up to the route's maximum; its timeout is for the others. A
/// switch of protocols has no end that could be awaited.
pub(super) fn overall_timeout(
    exchange: &Exchange,
    request: &mut Request<Body>,
    forward: &Forward,
) -> Option<Duration> {
    if request.headers().contains_key(http::header::UPGRADE) || request.method() == Method::CONNECT
    {
        return None;
    }
    if !exchange.is_grpc() {
        return forward.timeout;
    }
    exchange.keep_grpc_timeout(request.headers_mut(), forward.grpc_timeout_max);
    None
}
