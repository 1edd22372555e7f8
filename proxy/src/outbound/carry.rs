//! Connections of the application that carry opaque bytes.

use super::failed;
use crate::{
    error::RequestError,
    net::stream::Stream,
    opaque::{Opaque, Upstream},
    snapshot::Destination,
    telemetry::Direction,
    upstream::{Connected, Failed},
    worker::{Rest, Worker},
};
use std::{net::SocketAddr, rc::Rc, time::Duration};
use tokio::net::TcpStream;
use weft_xds_proto::names;

/// To connect to what the mesh does not know.
const PASSTHROUGH_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a connection for opaque bytes to an endpoint of the destination.
pub(super) async fn dial(
    worker: &Worker,
    destination: &Destination,
) -> Result<Connected, Box<Failed>> {
    match &destination.tcp {
        Some(cluster) => worker.upstreams.cluster(cluster).connect().await,
        None => Err(failed(
            RequestError::RouteNotFound,
            format!(
                "{} is for HTTP only and the caller does not speak it",
                destination.name
            ),
        )),
    }
}

/// Carries a connection to the endpoint that it was dialled for.
pub(super) fn opaque<'w>(
    worker: &'w Rc<Worker>,
    stream: Stream,
    caller: SocketAddr,
    destination: &Destination,
    upstream: Result<Connected, Box<Failed>>,
) -> Option<Rest<'w>> {
    let endpoint = match &upstream {
        Ok(connected) => Some(&connected.endpoint),
        Err(failed) => failed.endpoint.as_ref(),
    };
    let known = match &destination.tcp {
        Some(cluster) => worker.edges.tcp(cluster, endpoint),
        None => worker.edges.unknown("tcp"),
    };
    let opaque = Opaque {
        worker,
        direction: Direction::Outbound,
        caller,
        authority: destination.name.clone(),
    };
    opaque.carry(stream, upstream, known)
}

/// A destination outside of the mesh: carried to where it was going, as it is.
pub(super) async fn pass_through(
    worker: &Rc<Worker>,
    stream: Stream,
    caller: SocketAddr,
    original: SocketAddr,
) -> Option<Rest<'_>> {
    let mut known = worker.edges.unknown("passthrough");
    known.endpoint = Some(original);
    let opaque = Opaque {
        worker,
        direction: Direction::Outbound,
        caller,
        authority: names::address(original).into(),
    };
    let connect = TcpStream::connect(original);
    let upstream = match tokio::time::timeout(PASSTHROUGH_CONNECT_TIMEOUT, connect).await {
        Ok(Ok(tcp)) => Ok(Upstream {
            stream: Stream::tcp(tcp),
            hold: None,
        }),
        Ok(Err(error)) => Err(failed(
            RequestError::UpstreamConnectFailed,
            format!("connecting to {original}: {error}"),
        )),
        Err(_) => Err(failed(
            RequestError::UpstreamConnectTimeout,
            format!("{original} did not answer the TCP handshake"),
        )),
    };
    opaque.carry(stream, upstream, known)
}
