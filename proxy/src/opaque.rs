//! Opaque connections: carried, counted and logged, in both directions of the mesh.

use crate::{
    error::RequestError,
    exchange::{Known, tunnel_error},
    net::{stream::Stream, tunnel::tunnel},
    telemetry::{Direction, Entry},
    upstream::{Connected, Failed, Hold},
    worker::{Rest, Worker},
};
use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

/// No byte in either direction for so long ends an opaque connection (Envoy's `TcpProxy.idle_timeout`):
/// pools of databases keep connections for much longer than an HTTP stream may rest.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// One opaque connection of a caller.
pub(crate) struct Opaque<'w> {
    pub(crate) worker: &'w Rc<Worker>,
    pub(crate) direction: Direction,
    pub(crate) caller: SocketAddr,
    /// What was dialled.
    pub(crate) authority: Arc<str>,
}

/// The other end of an opaque connection.
pub(crate) struct Upstream {
    pub(crate) stream: Stream,
    /// There for an endpoint of a cluster.
    pub(crate) hold: Option<Hold>,
}

impl From<Connected> for Upstream {
    fn from(connected: Connected) -> Self {
        Self {
            stream: connected.stream,
            hold: Some(connected.hold),
        }
    }
}

impl<'w> Opaque<'w> {
    /// Carries bytes between the caller and the endpoint until both have finished. Without an endpoint, the
    /// caller's connection is reset: it must not take a failure for an end of data.
    pub(crate) fn carry(
        self,
        downstream: Stream,
        upstream: Result<impl Into<Upstream>, Box<Failed>>,
        known: Known,
    ) -> Option<Rest<'w>> {
        let started = self.worker.now();
        let Upstream { stream, hold } = match upstream {
            Ok(upstream) => upstream.into(),
            Err(failed) => {
                self.failed(&downstream, &failed, &known);
                return None;
            }
        };
        known.edge.tcp_opened();
        // In a box of its own, or the future below would have room for it twice.
        let tunnel = Box::new(tunnel(downstream, stream, Some(IDLE_TIMEOUT)));
        Some(Box::pin(async move {
            let end = tunnel.await;
            drop(hold);
            let error = end.error.as_ref().map(tunnel_error);
            known.edge.tcp_closed(end.a_to_b, end.b_to_a, error);
            let detail = end.error.as_ref().map(ToString::to_string);
            self.log(
                &known,
                started.elapsed(),
                (end.a_to_b, end.b_to_a),
                error.zip(detail.as_deref()),
            );
        }))
    }

    fn failed(&self, downstream: &Stream, failed: &Failed, known: &Known) {
        self.worker.connections(self.direction).failed(failed.error);
        let error = Some((failed.error, failed.detail.as_str()));
        self.log(known, Duration::ZERO, (0, 0), error);
        tracing::debug!(
            authority = &*self.authority,
            reason = failed.error.reason(),
            detail = failed.detail,
            "an opaque connection has no endpoint"
        );
        // Fails only on a socket that is dead already.
        let _ = downstream.reset_on_drop();
    }

    fn log(
        &self,
        known: &Known,
        duration: Duration,
        (received_bytes, sent_bytes): (u64, u64),
        error: Option<(RequestError, &str)>,
    ) {
        let access_log = &self.worker.shared.access_log;
        if !access_log.is_on() || !access_log.wants(None, None, error.is_some()) {
            return;
        }
        access_log.log(&Entry {
            direction: self.direction,
            protocol: "TCP",
            method: "",
            authority: &self.authority,
            path: "",
            status: None,
            grpc_status: None,
            error: error.map(|(error, _)| error),
            detail: error.map(|(_, detail)| detail),
            duration,
            received_bytes,
            sent_bytes,
            source: self.caller,
            peer: known.peer.as_ref(),
            destination: &known.destination,
            endpoint: known.endpoint,
            route: &known.route,
            attempts: None,
            request_id: None,
            trace_id: None,
            user_agent: None,
        });
    }
}
