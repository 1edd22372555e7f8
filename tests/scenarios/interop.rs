//! Unmodified Envoy and gRPC clients, driven by the control plane, and Envoy as the other end of mutual TLS.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use weft_cli::sandbox::{Child, Pod};
use weft_tests::{
    Mesh, Need, Suite, apps, manifest,
    mesh::NAMESPACE,
    peers::{
        self, certificate,
        envoy::{Envoy, socket_address},
    },
    wait::{self, request_for, until},
};
use weft_xds_proto::names;

const PATIENCE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "envoy_is_driven_by_incremental_ads",
            &[Need::Namespaces, Need::Envoy],
            || envoy_is_driven("DELTA_GRPC"),
        )
        .test(
            "envoy_is_driven_by_state_of_the_world_ads",
            &[Need::Namespaces, Need::Envoy],
            || envoy_is_driven("GRPC"),
        )
        .test(
            "a_proxyless_grpc_client_in_python_follows_an_endpoint_change",
            &[Need::Namespaces, Need::GrpcPython],
            || {
                let program = peers::grpc::python()?;
                grpc_client_follows(|pod, bootstrap, target| {
                    let client = pod
                        .command("python3")
                        .arg(program.join("client.py"))
                        .args([target, "/weft.test.Echo/Call"])
                        .env("PYTHONPATH", &program)
                        .env("GRPC_XDS_BOOTSTRAP", bootstrap);
                    Ok(client.spawn()?)
                })
            },
        )
        .test(
            "a_proxyless_grpc_client_in_node_follows_an_endpoint_change",
            &[Need::Namespaces, Need::GrpcNode],
            || {
                let program = peers::grpc::node()?;
                grpc_client_follows(|pod, bootstrap, target| {
                    let client = pod
                        .command("node")
                        .arg(program.join("client.js"))
                        .args([target, "/weft.test.Echo/Call"])
                        .env("GRPC_XDS_BOOTSTRAP", bootstrap);
                    Ok(client.spawn()?)
                })
            },
        )
        .test(
            "envoy_calls_a_sidecar_over_mutual_tls",
            &[Need::Namespaces, Need::Envoy],
            envoy_calls_a_sidecar,
        )
        .test(
            "a_sidecar_calls_envoy_over_mutual_tls",
            &[Need::Namespaces, Need::Envoy],
            a_sidecar_calls_envoy,
        )
}

/// Envoy with nothing but an ADS bootstrap takes everything from the control plane and follows a change.
fn envoy_is_driven(api_type: &str) -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let (first, second) = (mesh.network().pod("first")?, mesh.network().pod("second")?);
    let _first = apps::http::start(&first, 8080, "first")?;
    let _second = apps::http::start(&second, 8080, "second")?;
    let service = mesh.service("echo").protocol("http");
    let endpoint = |pod: &Pod| SocketAddr::new(pod.ipv4().into(), 8080);
    mesh.apply(
        "echo",
        &service.clone().endpoints([endpoint(&first)]).objects(),
    )?;

    let pod = mesh.network().pod("envoy")?;
    let envoy = Envoy::start(
        &pod,
        mesh.directory(),
        ads_bootstrap(&mesh, api_type, json!({})),
    )?;
    let answerer = || who_answers_envoy(&pod);
    until("Envoy reaches the first endpoint", PATIENCE, || {
        answerer().is_ok_and(|name| name == "first")
    })
    .with_context(|| envoy.log())?;

    mesh.apply("echo", &service.endpoints([endpoint(&second)]).objects())?;
    until("Envoy follows to the second endpoint", PATIENCE, || {
        answerer().is_ok_and(|name| name == "second")
    })?;

    let rejected = envoy.stats("update_rejected")?;
    ensure!(
        rejected.values().all(|&count| count == 0),
        "Envoy rejected an update: {rejected:?}\n{}",
        envoy.log()
    );
    for part in [
        "cds.update_success",
        "lds.update_success",
        "rds.",
        "echo.demo",
    ] {
        let stats = envoy.stats(part)?;
        let updated = stats
            .iter()
            .any(|(name, &count)| name.ends_with("update_success") && count > 0);
        ensure!(updated, "no update of {part}: {stats:?}");
    }
    Ok(())
}

fn who_answers_envoy(pod: &Pod) -> anyhow::Result<String> {
    let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, names::OUTBOUND_PORT));
    let body = pod.enter(|| get(listener, "echo.demo.svc.cluster.local", "/whoami"))?;
    let answer: Value = serde_json::from_str(&body)?;
    Ok(answer["name"]
        .as_str()
        .context("whoami has a name")?
        .to_owned())
}

/// A GET for an authority at an address, from the namespace of the calling thread; the answer must be a 200.
fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<String> {
    let (status, body) = request_for(address, host, "GET", path, "")?;
    ensure!(status == 200, "{status}: {body}");
    Ok(body)
}

pub(crate) fn ads_bootstrap(mesh: &Mesh, api_type: &str, metadata: Value) -> Value {
    let control_plane = mesh.control_plane_address(names::XDS_PLAINTEXT_PORT);
    let ads = json!({ "ads": {}, "resource_api_version": "V3" });
    json!({
        "node": { "id": "envoy", "cluster": "test", "metadata": metadata },
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "control-plane" } }],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": { "clusters": [{
            "name": "control-plane",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            },
            "load_assignment": endpoints("control-plane", control_plane),
        }]},
    })
}

fn endpoints(cluster: &str, address: SocketAddr) -> Value {
    json!({
        "cluster_name": cluster,
        "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": socket_address(address.ip(), address.port()) },
        }]}],
    })
}

/// A gRPC library that speaks xDS calls `xds:///` and follows a change.
fn grpc_client_follows(
    start: impl FnOnce(&Pod, &Path, &str) -> anyhow::Result<Child>,
) -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let (first, second) = (mesh.network().pod("first")?, mesh.network().pod("second")?);
    let _first = apps::grpc::start(&first, 9000, "first")?;
    let _second = apps::grpc::start(&second, 9000, "second")?;
    let service = mesh.service("echo").port(9000).protocol("grpc");
    let endpoint = |pod: &Pod| SocketAddr::new(pod.ipv4().into(), 9000);
    mesh.apply(
        "echo",
        &service.clone().endpoints([endpoint(&first)]).objects(),
    )?;

    let bootstrap = mesh.directory().join("bootstrap.json");
    let control_plane = mesh.control_plane_address(names::XDS_PLAINTEXT_PORT);
    let document = json!({
        "xds_servers": [{
            "server_uri": control_plane.to_string(),
            "channel_creds": [{ "type": "insecure" }],
            "server_features": ["xds_v3"],
        }],
        "node": { "id": "proxyless", "locality": { "zone": "a" } },
    });
    fs::write(&bootstrap, document.to_string())?;
    let pod = mesh.network().pod("client")?;
    let client = start(&pod, &bootstrap, &format!("xds:///{}", service.authority()))?;

    let answered_by = |name: &str| {
        let log = client.log();
        let last = log
            .lines()
            .rfind(|line| line.starts_with("answer "))
            .unwrap_or_default();
        last.starts_with(&format!("answer {name}:"))
    };
    until("the first endpoint answers", PATIENCE, || {
        answered_by("first")
    })
    .with_context(|| client.log_tail(10))?;
    mesh.apply("echo", &service.endpoints([endpoint(&second)]).objects())?;
    until("the second endpoint answers", PATIENCE, || {
        answered_by("second")
    })
    .with_context(|| client.log_tail(10))?;
    ensure!(
        !client.log().lines().any(|line| line.starts_with("error ")),
        "a call failed: {}",
        client.log()
    );
    Ok(())
}

/// Envoy as a client of the mesh: its clusters come from the control plane, its certificate from files.
fn envoy_calls_a_sidecar() -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let mut strict = manifest::Annotations::new();
    strict.insert("weft.dev/mtls-mode".into(), "Strict".into());
    let server = mesh.workload_with("server", &strict, &[])?;
    let _app = apps::http::start(&server.pod, 8080, "server")?;
    let address = SocketAddr::new(server.pod.ipv4().into(), 8080);
    let service = mesh.service("echo").protocol("http").endpoints([address]);
    mesh.apply("echo", &service.objects())?;

    let pod = mesh.network().pod("envoy")?;
    let certificates = certificate::issue(&mesh, "envoy", DAY)?;
    let metadata = json!({ "weft.dev/certificates": certificates });
    let envoy = Envoy::start(
        &pod,
        mesh.directory(),
        ads_bootstrap(&mesh, "DELTA_GRPC", metadata),
    )?;
    let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, names::OUTBOUND_PORT));
    let ask = || pod.enter(|| get(listener, "echo.demo.svc.cluster.local", "/whoami"));
    until("the sidecar answers Envoy", PATIENCE, || ask().is_ok()).with_context(|| {
        format!(
            "{:?}\n{}\n{}",
            ask(),
            envoy.log(),
            server.sidecar.log_tail(20)
        )
    })?;
    let answer: Value = serde_json::from_str(&ask()?)?;
    let caller = answer["headers"]["x-forwarded-client-cert"].to_string();
    ensure!(
        caller.contains("URI=spiffe://cluster.local/ns/demo/sa/envoy"),
        "the application does not see Envoy's identity: {answer}"
    );
    Ok(())
}

/// Envoy as a server of the mesh, for a workload whose pod has a proxy that is not Weft's.
fn a_sidecar_calls_envoy() -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let pod = mesh.network().pod("server")?;
    let addresses: [IpAddr; 2] = [pod.ipv4().into(), pod.ipv6().into()];
    mesh.apply(
        "server",
        &[manifest::pod(
            "server",
            &addresses,
            &manifest::Annotations::new(),
        )],
    )?;
    let certificates = certificate::issue(&mesh, "server", DAY)?;
    let _app = apps::http::start(&pod, 8080, "behind-envoy")?;
    let envoy = Envoy::start(&pod, mesh.directory(), terminating_bootstrap(&certificates))?;
    let service = mesh
        .service("echo")
        .protocol("http")
        .endpoints([SocketAddr::new(pod.ipv4().into(), 8443)]);
    mesh.apply("echo", &service.objects())?;

    let client = mesh.workload("client")?;
    let [address, _] = service.addresses();
    let ask = || client.pod.enter(|| get(address, "echo", "/whoami"));
    until("Envoy answers the sidecar", PATIENCE, || ask().is_ok()).with_context(|| {
        format!(
            "{:?}\n{}\n{}",
            ask(),
            envoy.log(),
            client.sidecar.log_tail(20)
        )
    })?;
    let answer: Value = serde_json::from_str(&ask()?)?;
    let caller = answer["headers"]["x-forwarded-client-cert"].to_string();
    ensure!(
        caller.contains(&format!(
            "URI=spiffe://cluster.local/ns/{NAMESPACE}/sa/client"
        )),
        "Envoy does not see the client's identity: {answer}"
    );
    let handshakes = envoy.stats("ssl.handshake")?;
    ensure!(
        handshakes.values().sum::<u64>() > 0,
        "no TLS: {handshakes:?}"
    );
    let (status, metrics) = wait::http_get(&client.pod, names::METRICS_PORT, "/metrics")?;
    ensure!(
        status == 200 && metrics.contains(r#"mtls="true""#),
        "{metrics}"
    );
    Ok(())
}

fn terminating_bootstrap(certificates: &Path) -> Value {
    let file = |name: &str| json!({ "filename": certificates.join(name) });
    json!({
        "node": { "id": "envoy-server", "cluster": "test" },
        "static_resources": {
            "listeners": [{
                "name": "inbound",
                "address": socket_address(Ipv4Addr::UNSPECIFIED.into(), 8443),
                "filter_chains": [{
                    "transport_socket": {
                        "name": "envoy.transport_sockets.tls",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                            "require_client_certificate": true,
                            "common_tls_context": {
                                "alpn_protocols": ["h2", "http/1.1"],
                                "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
                                "tls_certificates": [{
                                    "certificate_chain": file("cert-chain.pem"),
                                    "private_key": file("key.pem"),
                                }],
                                "validation_context": { "trusted_ca": file("root-cert.pem") },
                            },
                        },
                    },
                    "filters": [{
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                            "stat_prefix": "inbound",
                            "forward_client_cert_details": "SANITIZE_SET",
                            "set_current_client_cert_details": { "uri": true },
                            "route_config": { "virtual_hosts": [{
                                "name": "all",
                                "domains": ["*"],
                                "routes": [{
                                    "match": { "prefix": "/" },
                                    "route": { "cluster": "application" },
                                }],
                            }]},
                            "http_filters": [{
                                "name": "envoy.filters.http.router",
                                "typed_config": {
                                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                                },
                            }],
                        },
                    }],
                }],
            }],
            "clusters": [{
                "name": "application",
                "type": "STATIC",
                "load_assignment": endpoints(
                    "application",
                    SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
                ),
            }],
        },
    })
}
