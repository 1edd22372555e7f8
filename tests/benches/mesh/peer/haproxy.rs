//! HAProxy.

use super::{ADMIN_PORT, OUTBOUND_PORT, Pair, Sidecar, Sidecars};
use crate::{
    application::Service,
    certificates::Certificates,
    ground::{Ground, Loopback},
    programs::Program,
};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
};
use weft_cli::sandbox::Command;

/// Starts a pair that speaks HTTP/2 or HTTP/1.1 between its halves.
pub(super) fn start(
    service: Service,
    is_http2_between: bool,
    ground: &Ground,
) -> anyhow::Result<Pair> {
    let Ground {
        loopback,
        certificates,
        ..
    } = ground;
    let client = client(service, is_http2_between, *loopback, certificates);
    let server = server(service, is_http2_between, *loopback, certificates);
    let start = |name: &str, address: IpAddr, config: String| {
        let file = ground.directory.path().join(format!("haproxy-{name}.cfg"));
        fs::write(&file, config)?;
        let command = Command::new(ground.programs.path(Program::Haproxy)?)
            .name(format!("HAProxy of the {name}"))
            .arg("-db")
            .arg("-f")
            .arg(file);
        Sidecar::start(command, SocketAddr::new(address, ADMIN_PORT), "/readyz")
    };
    // The server's first, as in a mesh where nobody calls what is not there yet.
    let server = start("server", loopback.server(), server)?;
    let client = start("client", loopback.client(), client)?;
    Ok(Pair {
        entry: SocketAddr::new(loopback.client(), OUTBOUND_PORT),
        sidecars: Some(Sidecars { client, server }),
    })
}

fn client(
    service: Service,
    is_http2_between: bool,
    loopback: Loopback,
    certificates: &Certificates,
) -> String {
    let (own, leaf) = (loopback.client(), &certificates.client);
    let alpn = alpn(is_http2_between);
    let common = common(own);
    let host = service.host();
    let endpoint = service.endpoint(loopback);
    let (root, bundle) = (certificates.root.display(), leaf.bundle.display());
    let peer = &certificates.server.dns_name;
    let tls = format!("ssl crt {bundle} ca-file {root} verify required verifyhost {peer}");
    if service.is_opaque() {
        // Splicing is for plaintext on both sides; HAProxy does what it can without it.
        let tls = if service.has_sidecar() { &tls } else { "" };
        return format!(
            "{common}
frontend outbound
    mode tcp
    option splice-auto
    bind {own}:{OUTBOUND_PORT}
    default_backend service

backend service
    mode tcp
    option splice-auto
    balance leastconn
    server endpoint {endpoint} {tls}
"
        );
    }
    format!(
        "{common}
frontend outbound
    bind {own}:{OUTBOUND_PORT}
    http-request set-header x-request-id %[uuid()]
    acl to_service hdr(host) -i {host}
    http-request deny deny_status 404 unless to_service
    use_backend service if to_service

backend service
    balance leastconn
    server endpoint {endpoint} {tls} alpn {alpn}
"
    )
}

fn server(
    service: Service,
    is_http2_between: bool,
    loopback: Loopback,
    certificates: &Certificates,
) -> String {
    let (own, leaf) = (loopback.server(), &certificates.server);
    let alpn = alpn(is_http2_between);
    let common = common(own);
    let inbound = SocketAddr::new(own, service.port());
    let application = SocketAddr::new(loopback.application(), service.port());
    let (root, bundle) = (certificates.root.display(), leaf.bundle.display());
    let caller = &certificates.client.common_name;
    let protocol = if service.is_http2() { " proto h2" } else { "" };
    let tls = format!("ssl crt {bundle} ca-file {root} verify required");
    if service.is_opaque() {
        return format!(
            "{common}
frontend inbound
    mode tcp
    bind {inbound} {tls}
    tcp-request session reject unless {{ ssl_c_s_dn(cn) -m str {caller} }}
    default_backend application

backend application
    mode tcp
    server application {application}
"
        );
    }
    format!(
        "{common}
frontend inbound
    bind {inbound} {tls} alpn {alpn}
    tcp-request session reject unless {{ ssl_c_s_dn(cn) -m str {caller} }}
    option http-ignore-probes
    http-request set-header x-forwarded-client-cert Subject=\\\"%[ssl_c_s_dn]\\\"
    default_backend application

backend application
    server application {application}{protocol}
"
    )
}

fn alpn(is_http2: bool) -> &'static str {
    if is_http2 { "h2" } else { "http/1.1" }
}

/// What both sides have. The timeouts are those of Weft.
fn common(own: IpAddr) -> String {
    format!(
        "global
    nbthread 1
    maxconn 8000
    maxpipes 64
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-options ssl-min-ver TLSv1.3

defaults
    mode http
    retries 2
    retry-on conn-failure
    option redispatch
    http-reuse always
    timeout connect 5s
    timeout client 5m
    timeout server 15s
    timeout http-request 10s
    timeout http-keep-alive 10m
    timeout tunnel 1h

frontend admin
    bind {own}:{ADMIN_PORT}
    monitor-uri /readyz
    http-request use-service prometheus-exporter if {{ path /metrics }}
"
    )
}
