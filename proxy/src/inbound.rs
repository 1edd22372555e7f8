//! The inbound side: who calls the application.
//!
//! ```text
//! accept -> original dst -> TLS detect/terminate -> peer identity -> detect -> HTTP serve ->
//! normalise -> limits -> record -> application
//! ```
//!
//! [`begin`] is the way of a connection, [`Inbound::forward`] that of a request.

use crate::{
    admission::{Admission, Admitted, Asking, Shed, Watch},
    detection::{self, Speaks},
    error::RequestError,
    exchange::{Caller, Exchange, Known},
    http::{
        body::Body,
        detect::Verdict,
        h1::{self, Handler, Refusal},
        h2, headers, intake, reply, trace,
    },
    net::{
        stream::Stream,
        tls::{ClientHello, Inspection, inspect},
    },
    opaque::Opaque,
    outbound::switch,
    snapshot::{Cluster, Endpoint, InboundPort, MtlsMode, Protocol, WorkloadName},
    telemetry::{Direction, EdgeKey, Verdict as Counted},
    tls::{Alpn, peer_identity},
    upstream::{Call, Connected, Failed, Sent},
    worker::{Rest, Worker},
};
use http::{HeaderValue, Request, Response, Version};
use std::{
    cell::RefCell, collections::HashMap, io, net::SocketAddr, num::NonZeroU32, pin::pin, rc::Rc,
    sync::Arc, time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use weft_xds_proto::{names, spiffe::SpiffeId};

/// Connections to the application that rest for so long are closed. Below the keep-alive of the usual
/// servers (Node closes after 5 s, most others after a minute or more).
const APPLICATION_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Nearly every caller speaks at once. One that does not is given so long before the application is dialled
/// to see whether it is the one to speak.
const PATIENCE: Duration = Duration::from_millis(20);

/// Finds out who calls and what the connection carries, to be served or carried until it ends.
pub(crate) async fn begin(
    worker: &Rc<Worker>,
    tcp: TcpStream,
    caller: SocketAddr,
) -> Option<Rest<'_>> {
    let original = worker.original_destination(&tcp)?;
    let inbound = worker.shared.destinations.inbound();
    let connection = Connection {
        worker,
        caller,
        original,
        port: inbound.port(original.port()).clone(),
        application: worker.applications.cluster(
            worker.shared.config.app_address.unwrap_or(original),
            inbound.port(original.port()),
            &inbound.workload,
        ),
        workload: inbound.workload.clone(),
    };
    let secured = connection.secure(Stream::tcp(tcp)).await?;
    connection.identified(secured).await
}

/// A connection from a caller, and what is required of it.
struct Connection<'w> {
    worker: &'w Rc<Worker>,
    caller: SocketAddr,
    /// What the caller dialled.
    original: SocketAddr,
    port: InboundPort,
    application: Arc<Cluster>,
    workload: WorkloadName,
}

/// A connection whose security is settled.
struct Secured {
    stream: Stream,
    /// What it carries, if that is settled too.
    carries: Carries,
}

/// What a connection carries.
enum Carries {
    /// HTTP/1.1, as the caller announced.
    Http1,
    /// HTTP/2, as the caller announced.
    Http2,
    /// Opaque bytes.
    Opaque(Option<Result<Connected, Box<Failed>>>),
    /// What the port is declared to carry.
    AsDeclared,
}

impl<'w> Connection<'w> {
    /// Terminates mutual TLS of the mesh, or lets plaintext pass where that is permitted.
    async fn secure(&self, mut stream: Stream) -> Option<Secured> {
        let within = self.worker.shared.config.handshake_timeout;
        let server_may_speak_first = self.port.mtls == MtlsMode::Permissive
            && matches!(self.port.protocol, Protocol::Tcp | Protocol::Detect);
        if server_may_speak_first {
            // The caller may be waiting for the application's greeting, in plaintext.
            let inspection = tokio::select! {
                biased;
                inspection = inspect(&mut stream) => inspection,
                connected = self.application_speaks() => return Some(Secured {
                    stream,
                    carries: Carries::Opaque(Some(Ok(connected))),
                }),
            };
            return self.admit(stream, inspection).await;
        }
        match timeout(within, inspect(&mut stream)).await {
            Ok(inspection) => self.admit(stream, inspection).await,
            Err(_) => {
                tracing::debug!(caller = %self.caller, "a caller said nothing within the handshake timeout");
                None
            }
        }
    }

    async fn admit(&self, stream: Stream, inspection: io::Result<Inspection>) -> Option<Secured> {
        match inspection {
            Ok(Inspection::Tls(hello)) if self.is_of_the_mesh(&hello) => {
                self.terminate(stream, hello).await
            }
            // The application's own TLS.
            Ok(Inspection::Tls(_)) => self.plaintext(stream, Carries::Opaque(None)),
            Ok(Inspection::Plaintext) => self.plaintext(stream, Carries::AsDeclared),
            Err(error) => {
                tracing::debug!(caller = %self.caller, %error, "a connection broke before it began");
                None
            }
        }
    }

    /// On a port that is declared to carry HTTP, TLS is always that of the mesh. On any other the
    /// application may have TLS of its own; a sidecar tells by the protocols it offers.
    fn is_of_the_mesh(&self, hello: &ClientHello) -> bool {
        match self.port.protocol {
            Protocol::Http | Protocol::Http2 => true,
            Protocol::Tcp | Protocol::Detect => {
                [names::ALPN_HTTP1, names::ALPN_HTTP2, names::ALPN_TCP]
                    .iter()
                    .any(|protocol| hello.offers_alpn(protocol))
            }
        }
    }

    async fn terminate(&self, stream: Stream, hello: ClientHello) -> Option<Secured> {
        let connections = self.worker.connections(Direction::Inbound);
        let Some(credentials) = self.worker.shared.identity.current() else {
            connections.failed(RequestError::CertificateUnavailable);
            tracing::warn!(caller = %self.caller, "a caller wants mutual TLS and this proxy has no valid certificate");
            return None;
        };
        let within = self.worker.shared.config.handshake_timeout;
        let accepted = timeout(within, hello.accept(stream, credentials.server.clone())).await;
        let mut stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                connections.tls_failed();
                tracing::info!(caller = %self.caller, port = self.original.port(), %error, "a TLS handshake failed");
                return None;
            }
            Err(_) => {
                connections.tls_failed();
                tracing::info!(caller = %self.caller, port = self.original.port(), "a TLS handshake took too long");
                return None;
            }
        };
        // Resumed sessions present the certificate of the first handshake, so it is looked at every time.
        match peer_identity(stream.peer_certificates()) {
            Ok(identity) => stream.set_peer_identity(identity),
            Err(error) => {
                connections.tls_failed();
                tracing::warn!(caller = %self.caller, %error, "a caller proved no identity of the mesh");
                return None;
            }
        }
        let carries = match Alpn::from_negotiated(stream.alpn()) {
            Some(Alpn::Http1) => Carries::Http1,
            Some(Alpn::Http2) => Carries::Http2,
            Some(Alpn::Tcp) => Carries::Opaque(None),
            None => Carries::AsDeclared,
        };
        Some(Secured { stream, carries })
    }

    fn plaintext(&self, stream: Stream, carries: Carries) -> Option<Secured> {
        match self.port.mtls {
            MtlsMode::Permissive => Some(Secured { stream, carries }),
            MtlsMode::Strict => {
                self.worker
                    .connections(Direction::Inbound)
                    .plaintext_refused();
                tracing::warn!(
                    caller = %self.caller,
                    destination = %self.original,
                    policy = "mTLS mode Strict",
                    "plaintext refused: the caller has no sidecar, or set the mode of this port to Permissive"
                );
                let _ = stream.reset_on_drop();
                None
            }
        }
    }

    /// Finds out what the connection carries, which is then to be served or carried.
    async fn identified(&self, secured: Secured) -> Option<Rest<'w>> {
        let Secured {
            mut stream,
            carries,
        } = secured;
        let connections = self.worker.connections(Direction::Inbound);
        let speaks = match (carries, self.port.protocol) {
            (Carries::Http1, _) => Speaks::Http1,
            (Carries::Http2, _) => Speaks::Http2,
            (Carries::Opaque(Some(connected)), _) => {
                connections.detected(Counted::ServerFirst);
                Speaks::Opaque(connected)
            }
            (Carries::Opaque(None), _) | (Carries::AsDeclared, Protocol::Tcp) => {
                connections.detected(Counted::Declared);
                Speaks::Opaque(Box::pin(self.dial()).await)
            }
            (Carries::AsDeclared, Protocol::Http | Protocol::Http2) => {
                connections.detected(Counted::Declared);
                let limits = &self.worker.shared.config.http;
                match detection::http_version(&mut stream, limits.header_timeout).await {
                    Some(Verdict::Http2) => Speaks::Http2,
                    Some(_) => Speaks::Http1,
                    None => Speaks::Nothing,
                }
            }
            (Carries::AsDeclared, Protocol::Detect) => {
                let name = &self.application.name;
                let spoke_http = self.worker.memory.borrow().speaks_http(name);
                let found = Box::pin(detection::detect(&mut stream, spoke_http, self.dial())).await;
                self.worker.memory.borrow_mut().learn(name, &found);
                if let Some(verdict) = found.counted {
                    connections.detected(verdict);
                }
                found.speaks
            }
        };
        match speaks {
            Speaks::Http1 => Some(self.http(stream, Verdict::Http1)),
            Speaks::Http2 => Some(self.http(stream, Verdict::Http2)),
            Speaks::Opaque(connected) => self.opaque(stream, connected),
            Speaks::Nothing => None,
        }
    }

    async fn dial(&self) -> Result<Connected, Box<Failed>> {
        self.worker
            .upstreams
            .cluster(&self.application)
            .connect()
            .await
    }

    /// Returns when the application greets its caller; never, if it does not.
    async fn application_speaks(&self) -> Connected {
        sleep(PATIENCE).await;
        if let Ok(mut connected) = self.dial().await
            && connected.stream.peek(1).await.is_ok()
        {
            return connected;
        }
        std::future::pending().await
    }

    fn opaque(
        &self,
        mut stream: Stream,
        connected: Result<Connected, Box<Failed>>,
    ) -> Option<Rest<'w>> {
        let known = self.known(&stream, "tcp");
        stream.forget_peer_certificates();
        let opaque = Opaque {
            worker: self.worker,
            direction: Direction::Inbound,
            caller: self.caller,
            authority: self.original.to_string().into(),
        };
        opaque.carry(stream, connected, known)
    }

    /// Serves a connection of HTTP requests.
    fn http(&self, mut stream: Stream, version: Verdict) -> Rest<'w> {
        let known = self.known(&stream, "default");
        let inbound = Rc::new(Inbound {
            worker: self.worker.clone(),
            caller: self
                .worker
                .caller(Direction::Inbound, self.caller, Some(Rc::new(known))),
            client_cert: self.client_cert(&stream),
            forwarded_for: headers::forwarded_for(self.caller.ip()),
            limits: Watch::new(self.original.port()),
            application: self.application.clone(),
            idle_timeout: self.port.idle_timeout,
        });
        stream.forget_peer_certificates();
        let shared = &self.worker.shared;
        let (limits, drain) = (&shared.config.http, &shared.drain);
        let deadlines = &self.worker.deadlines;
        if version == Verdict::Http2 {
            return Box::pin(async move {
                h2::serve(stream, limits, drain, deadlines, inbound).await;
            });
        }
        Box::pin(async move {
            tokio::select! {
                _ = h1::serve(stream, limits, drain, &*inbound) => {}
                () = inbound.caller.watchdog.stalled() => {}
            }
        })
    }

    /// The edge of the connection. Who calls is known by its certificate, which names a service account.
    fn known(&self, stream: &Stream, route: &str) -> Known {
        let peer = stream.peer_identity().cloned();
        let source = peer
            .as_ref()
            .map_or_else(WorkloadName::unknown, |peer| WorkloadName {
                name: peer.service_account().into(),
                namespace: peer.namespace().into(),
            });
        let route: Arc<str> = route.into();
        Known {
            edge: self.worker.telemetry.edge(&EdgeKey {
                direction: Direction::Inbound,
                source,
                destination: self.workload.clone(),
                service: "unknown".into(),
                route: route.clone(),
                mtls: peer.is_some(),
            }),
            route,
            destination: self.workload.clone(),
            endpoint: self
                .application
                .endpoints
                .first()
                .map(|endpoint| endpoint.address),
            peer,
        }
    }

    fn client_cert(&self, stream: &Stream) -> Option<HeaderValue> {
        let certificate = stream.peer_certificates()?.first()?;
        let by = &self.worker.shared.identity.current()?.id;
        Some(headers::client_cert(
            by,
            certificate,
            stream.peer_identity()?,
        ))
    }
}

/// Answers the requests of one caller's connection.
struct Inbound {
    worker: Rc<Worker>,
    caller: Rc<Caller>,
    /// Who calls, for `x-forwarded-client-cert`.
    client_cert: Option<HeaderValue>,
    /// From where, for `x-forwarded-for`.
    forwarded_for: HeaderValue,
    limits: Watch,
    application: Arc<Cluster>,
    idle_timeout: Option<Duration>,
}

impl Handler for Inbound {
    async fn handle(&self, request: &mut Request<Body>) -> Result<Response<Body>, RequestError> {
        let exchange = Exchange::begin(&self.caller, request);
        Ok(match self.forward(&exchange, request).await {
            Ok(sent) if matches!(sent.response.body(), Body::Upgrade(_)) => {
                switch(exchange, sent, self.idle_timeout)
            }
            Ok(sent) => exchange.respond(sent.response),
            Err(Stopped::Shed(shed)) => exchange.shed(&shed),
            Err(Stopped::Failed(error, detail)) => exchange.fail(error, detail),
        })
    }

    fn refused(&self, refusal: &Refusal) -> Response<Body> {
        self.worker
            .connections(Direction::Inbound)
            .failed(refusal.error);
        reply::refusal(refusal.status, refusal.error, refusal.reason)
    }
}

/// Why a request did not get an answer of the application.
enum Stopped {
    /// A limit did not let it through.
    Shed(Shed),
    /// It failed.
    Failed(RequestError, Option<String>),
}

impl Inbound {
    /// The way of a request.
    async fn forward(
        &self,
        exchange: &Exchange,
        request: &mut Request<Body>,
    ) -> Result<Sent, Stopped> {
        let intake = intake::request(request)
            .map_err(|error| Stopped::Failed(RequestError::BadRequest, Some(error.to_string())))?;
        self.describe_caller(request.headers_mut());
        self.trace(exchange, request.headers_mut());
        let admitted = self
            .admit(exchange, &intake.host, request)
            .map_err(Stopped::Shed)?;
        let version = match intake.upgrade {
            Some(protocol) => {
                headers::set_upgrade(request.headers_mut(), protocol);
                Version::HTTP_11
            }
            None => request.version(),
        };
        // How long the response may take is the caller's to decide.
        exchange.set_idle_timeout(self.idle_timeout);
        exchange.keep_grpc_timeout(request.headers_mut(), None);
        exchange.watch_request(request, None);

        let cluster = self.worker.upstreams.cluster(&self.application);
        let call = Call {
            tries: Some(exchange.tries()),
            ..Call::default()
        };
        let sent = exchange
            .within(pin!(cluster.call(version, request, &call)))
            .await;
        let mut sent = sent
            .map_err(|error| Stopped::Failed(error, None))?
            .map_err(|failed| Stopped::Failed(failed.error, Some(failed.detail)))?;
        self.admission().answered(&admitted);
        exchange.hold(admitted);
        intake::response(&mut sent.response);
        Ok(sent)
    }

    /// Passes the limits of the port, or says which one is reached.
    fn admit(
        &self,
        exchange: &Exchange,
        host: &str,
        request: &Request<Body>,
    ) -> Result<Admitted, Shed> {
        let asking = Asking {
            identity: self
                .caller
                .known
                .as_ref()
                .and_then(|known| known.peer.as_ref()),
            address: self.caller.address.ip(),
            host,
            request,
        };
        let arrived = exchange.started().into_std();
        self.admission().admit(&self.limits, &asking, arrived)
    }

    fn admission(&self) -> &Admission {
        self.worker.shared.destinations.admission()
    }

    fn describe_caller(&self, headers: &mut http::HeaderMap) {
        headers::set_forwarded(headers, &self.forwarded_for);
        if let Some(client_cert) = &self.client_cert {
            headers.insert(headers::FORWARDED_CLIENT_CERT, client_cert.clone());
        }
    }

    fn trace(&self, exchange: &Exchange, headers: &mut http::HeaderMap) {
        let rng = &mut self.worker.rng.borrow_mut();
        let context = trace::enter(headers, self.worker.shared.config.trace_sampling, rng);
        trace::set_request_id(headers, rng);
        exchange.note_trace(headers, &context);
    }
}

/// The application as a cluster of one endpoint per port that was called.
#[derive(Debug, Default)]
pub(crate) struct Applications {
    clusters: RefCell<HashMap<SocketAddr, (InboundPort, Arc<Cluster>)>>,
}

impl Applications {
    /// The cluster of an address of the application, called `inbound|10.0.0.1:8080`.
    fn cluster(
        &self,
        address: SocketAddr,
        port: &InboundPort,
        workload: &WorkloadName,
    ) -> Arc<Cluster> {
        let mut clusters = self.clusters.borrow_mut();
        if let Some((configured, cluster)) = clusters.get(&address)
            && configured == port
        {
            return cluster.clone();
        }
        let cluster = Arc::new(application(address, port, workload));
        clusters.insert(address, (port.clone(), cluster.clone()));
        cluster
    }

    /// Forgets the clusters that no connection holds. What is live of them lives on by name.
    pub(crate) fn release(&self) {
        self.clusters
            .borrow_mut()
            .retain(|_, (_, cluster)| Arc::strong_count(cluster) > 1);
    }
}

fn application(address: SocketAddr, port: &InboundPort, workload: &WorkloadName) -> Cluster {
    Cluster {
        namespace: workload.namespace.clone(),
        connect_timeout: port.connect_timeout,
        idle_timeout: APPLICATION_IDLE_TIMEOUT,
        endpoints: Arc::new([Arc::new(Endpoint {
            address,
            // Inside of the pod: nobody else is on this connection.
            identity: None::<SpiffeId>,
            workload: workload.clone(),
            weight: NonZeroU32::MIN,
            zone: "".into(),
        })]),
        ..Cluster::new(format!("inbound|{address}").into())
    }
}
