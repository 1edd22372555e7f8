//! Names and numbers that the control plane and the proxy agree on.

use std::net::SocketAddr;

/// The `user_agent_name` by which the control plane knows a Weft proxy.
pub const PROXY_USER_AGENT: &str = "weft-proxy";

/// The key of Weft's messages in `typed_filter_metadata` of listeners, clusters and endpoints.
pub const METADATA_KEY: &str = "weft.dev";

/// The SDS secret that holds the roots of the trust domain.
pub const ROOT_SECRET: &str = "ROOTCA";

/// The SDS secret that stands for the workload's own certificate. It never travels: the proxy makes its key.
pub const WORKLOAD_SECRET: &str = "default";

/// ALPN offered by a sidecar for a connection of HTTP/1.1 requests, before plain `http/1.1`.
pub const ALPN_HTTP1: &[u8] = b"weft-http/1.1";
/// ALPN offered by a sidecar for a connection of HTTP/2 requests, before plain `h2`.
pub const ALPN_HTTP2: &[u8] = b"weft-h2";
/// ALPN offered by a sidecar for opaque bytes: nothing to detect on the other side.
pub const ALPN_TCP: &[u8] = b"weft-tcp";

/// Where intercepted outbound connections arrive.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where intercepted inbound connections arrive.
pub const INBOUND_PORT: u16 = 15006;
/// The admin endpoints, on loopback only.
pub const ADMIN_PORT: u16 = 15000;
/// Prometheus metrics.
pub const METRICS_PORT: u16 = 15020;
/// Liveness and readiness.
pub const HEALTH_PORT: u16 = 15021;
/// xDS and certificates over TLS, on the control plane.
pub const XDS_TLS_PORT: u16 = 15012;
/// xDS in plaintext, on the control plane, for proxyless clients on a trusted network. Off by default.
pub const XDS_PLAINTEXT_PORT: u16 = 15010;
/// Health, readiness and metrics of the control plane.
pub const MONITORING_PORT: u16 = 15014;
/// Where the Kubernetes API server shows pods to the injector, on the control plane.
pub const WEBHOOK_PORT: u16 = 15017;
/// What one compiled regular expression of a route may take up, in bytes. The control plane refuses what proxies would.
pub const EXPRESSION_BYTES: usize = 256 * 1024;
/// The user id of the proxy, whose own traffic is not intercepted.
pub const PROXY_UID: u32 = 1337;

/// The name of the outbound listener of a destination called by authority: `user.demo.svc.cluster.local:80`.
///
/// The route configuration, cluster and endpoints of a service port bear the same name.
pub fn authority(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

/// The name of the outbound listener of a destination called by address: `10.96.3.4:80`, `[fd00::1]:80`.
pub fn address(destination: SocketAddr) -> String {
    SocketAddr::new(destination.ip().to_canonical(), destination.port()).to_string()
}

/// The fully qualified name of a service: `user.demo.svc.cluster.local`.
pub fn service_host(service: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{service}.{namespace}.svc.{cluster_domain}")
}

/// The name of the listener that configures a workload's inbound side: `inbound/demo/user-0`.
pub fn inbound(namespace: &str, pod: &str) -> String {
    format!("inbound/{namespace}/{pod}")
}

/// The `node.id` of a Weft proxy: `user-0.demo`. Pod names may hold dots, namespaces may not.
pub fn node_id(namespace: &str, pod: &str) -> String {
    format!("{pod}.{namespace}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_has_the_name_of_the_ipv4_address() {
        assert_eq!(
            address("[::ffff:10.96.3.4]:80".parse().unwrap()),
            "10.96.3.4:80"
        );
        assert_eq!(address("[fd00::1]:80".parse().unwrap()), "[fd00::1]:80");
    }
}
