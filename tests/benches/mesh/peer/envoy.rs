//! Envoy.

use super::{ADMIN_PORT, OUTBOUND_PORT, Pair, Sidecar, Sidecars};
use crate::{
    application::Service,
    certificates::{Certificates, Leaf},
    ground::{Ground, Loopback},
    programs::Program,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};
use weft_cli::sandbox::Command;
use weft_tests::peers::envoy::socket_address;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

pub(super) fn start(service: Service, ground: &Ground) -> anyhow::Result<Pair> {
    let Ground {
        loopback,
        certificates,
        ..
    } = ground;
    let client = client(service, *loopback, certificates);
    let server = server(service, *loopback, certificates);
    let start = |name: &str, address: IpAddr, bootstrap: Value| {
        /// Envoy wants a number of its own for each process on a machine.
        static BASE_ID: AtomicU32 = AtomicU32::new(0);
        let number = BASE_ID.fetch_add(1, Ordering::Relaxed) % 1000;
        let base_id = (std::process::id() % 30_000) * 1000 + number;
        let file = ground.directory.path().join(format!("envoy-{name}.json"));
        fs::write(&file, bootstrap.to_string())?;
        let command = Command::new(ground.programs.path(Program::Envoy)?)
            .name(format!("Envoy of the {name}"))
            .arg("-c")
            .arg(file)
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .args(["--log-level", "warn"])
            .args(["--base-id", &base_id.to_string()]);
        Sidecar::start(command, SocketAddr::new(address, ADMIN_PORT), "/ready")
    };
    let server = start("server", loopback.server(), server)?;
    let client = start("client", loopback.client(), client)?;
    Ok(Pair {
        entry: SocketAddr::new(loopback.client(), OUTBOUND_PORT),
        sidecars: Some(Sidecars { client, server }),
    })
}

fn client(service: Service, loopback: Loopback, certificates: &Certificates) -> Value {
    let own = loopback.client();
    let route = json!({
        "cluster": "service",
        "timeout": "15s",
        "retry_policy": { "retry_on": "connect-failure,refused-stream,unavailable", "num_retries": 2 },
    });
    let filter = if service.is_opaque() {
        tcp_proxy("outbound", "service")
    } else {
        connection_manager("outbound", &service.host(), &route, json!({}))
    };
    let listener = listener("outbound", own, OUTBOUND_PORT, &filter, None);
    let tls = json!({
        "common_tls_context": tls_context(certificates, &certificates.client, &certificates.server, service),
        "sni": certificates.server.dns_name,
    });
    let mut cluster = cluster("service", service.endpoint(loopback), service);
    if service.has_sidecar() {
        cluster["transport_socket"] = transport_socket("UpstreamTlsContext", &tls);
    }
    bootstrap(own, &listener, &cluster)
}

fn server(service: Service, loopback: Loopback, certificates: &Certificates) -> Value {
    let own = loopback.server();
    let route = json!({ "cluster": "application", "timeout": "15s" });
    let client_certificate = json!({
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": { "uri": true },
    });
    let filter = if service.is_opaque() {
        tcp_proxy("inbound", "application")
    } else {
        connection_manager("inbound", "*", &route, client_certificate)
    };
    let tls = json!({
        "common_tls_context": tls_context(certificates, &certificates.server, &certificates.client, service),
        "require_client_certificate": true,
    });
    let tls = transport_socket("DownstreamTlsContext", &tls);
    let listener = listener("inbound", own, service.port(), &filter, Some(tls));
    let application = SocketAddr::new(loopback.application(), service.port());
    bootstrap(
        own,
        &listener,
        &cluster("application", application, service),
    )
}

fn bootstrap(own: IpAddr, listener: &Value, cluster: &Value) -> Value {
    json!({
        "admin": { "address": socket_address(own, ADMIN_PORT) },
        "static_resources": { "listeners": [listener], "clusters": [cluster] },
    })
}

/// `envoy.config.listener.v3.Listener`.
fn listener(name: &str, own: IpAddr, port: u16, filter: &Value, tls: Option<Value>) -> Value {
    let mut chain = json!({
        "filters": [{ "name": name, "typed_config": filter }],
    });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({ "name": name, "address": socket_address(own, port), "filter_chains": [chain] })
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`, with its default idle timeout of an hour.
fn tcp_proxy(name: &str, cluster: &str) -> Value {
    json!({
        "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": name,
        "cluster": cluster,
    })
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager` with further fields.
/// A request id is made by default.
fn connection_manager(name: &str, host: &str, route: &Value, further: Value) -> Value {
    let mut manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "codec_type": "AUTO",
        "stream_idle_timeout": "300s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": { "idle_timeout": "600s" },
        "route_config": {
            "name": name,
            "virtual_hosts": [{
                "name": name,
                "domains": [host],
                "routes": [{ "match": { "prefix": "/" }, "route": route }],
            }],
        },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
        }],
    });
    if let (Value::Object(manager), Value::Object(further)) = (&mut manager, further) {
        manager.extend(further);
    }
    manager
}

/// `envoy.config.cluster.v3.Cluster` of one endpoint, called in the protocol of the service.
fn cluster(name: &str, endpoint: SocketAddr, service: Service) -> Value {
    let protocol = if service.is_http2() {
        "http2_protocol_options"
    } else {
        "http_protocol_options"
    };
    let options = format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions");
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000,
        }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": {
                "address": socket_address(endpoint.ip(), endpoint.port()),
            } }] }],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": { protocol: {} },
            },
        },
    })
}

/// `envoy.extensions.transport_sockets.tls.v3.CommonTlsContext` that shows one leaf and insists on the identity of
/// another.
fn tls_context(certificates: &Certificates, own: &Leaf, peer: &Leaf, service: Service) -> Value {
    let alpn = if service.is_http2() { "h2" } else { "http/1.1" };
    json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": { "filename": own.chain },
            "private_key": { "filename": own.key },
        }],
        "validation_context": {
            "trusted_ca": { "filename": certificates.root },
            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": peer.identity } }],
        },
        "alpn_protocols": [alpn],
    })
}

fn transport_socket(kind: &str, tls: &Value) -> Value {
    let mut config = tls.clone();
    config["@type"] = json!(format!("{TYPES}.transport_sockets.tls.v3.{kind}"));
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": config })
}
