//! Applications that know nothing: intercepted, encrypted on the wire, known by name to who is called.

use crate::pair::{PATIENCE, PORT, Pair};
use anyhow::ensure;
use serde_json::Value;
use std::net::SocketAddr;
use weft_tests::{
    Mesh, Need, Suite, Workload, apps,
    capture::{self, Capture},
    manifest,
    wait::{request, until},
};

const TLS_1_3: u16 = 0x0304;
const X25519MLKEM768: u16 = 0x11ec;

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "a_call_over_either_ip_version_is_tls_1_3_on_the_wire_and_names_its_caller",
            &[Need::Namespaces],
            || a_call_is_private(Some("http")),
        )
        .test(
            "a_call_to_a_port_of_undeclared_protocol_is_private_too",
            &[Need::Namespaces],
            || a_call_is_private(None),
        )
        .test(
            "plaintext_from_outside_is_taken_in_permissive_mode_and_refused_in_strict",
            &[Need::Namespaces],
            plaintext_depends_on_the_mode,
        )
        .test(
            "an_identity_forged_in_a_header_does_not_reach_the_application",
            &[Need::Namespaces],
            a_forged_identity_is_stripped,
        )
}

fn a_call_is_private(protocol: Option<&str>) -> anyhow::Result<()> {
    const SECRET: &[u8] = b"attack-at-dawn";
    let pair = Pair::start(protocol, |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    for address in pair.service.addresses() {
        let capture = Capture::start(pair.mesh.network().node())?;
        let answer = pair.get(address, "/whoami/attack-at-dawn")?;
        let packets = capture.stop();
        ensure!(answer["name"] == "server", "{answer}");
        let caller = answer["headers"]["x-forwarded-client-cert"].to_string();
        ensure!(
            caller.contains(&format!("URI={}", pair.client.identity())),
            "the application does not see its caller: {answer}"
        );
        ensure!(packets.len() > 2, "nothing was captured for {address}");
        ensure!(
            !packets.iter().any(|packet| capture::holds(packet, SECRET)),
            "the secret passed in plaintext over {address}"
        );
    }

    // The calls above may reuse connections; one that is new shows its handshake.
    let capture = Capture::start(pair.mesh.network().node())?;
    let fresh = pair.mesh.workload("fresh")?;
    let address = pair.address();
    let ask = || fresh.pod.enter(|| request(address, "GET", "/whoami", ""));
    until("a fresh workload is answered", PATIENCE, || {
        ask().is_ok_and(|(status, _)| status == 200)
    })?;
    let packets = capture.stop();
    let hellos: Vec<_> = packets
        .iter()
        .filter(|packet| between(packet, &fresh, &pair.server))
        .filter_map(|packet| capture::server_hello(packet))
        .collect();
    ensure!(
        hellos.contains(&(TLS_1_3, Some(X25519MLKEM768))),
        "no handshake of TLS 1.3 with X25519MLKEM768 among {hellos:x?}"
    );
    ensure!(
        hellos.iter().all(|&(version, _)| version == TLS_1_3),
        "an older version among {hellos:x?}"
    );
    Ok(())
}

/// Whether an IPv4 packet passed between the pods of two workloads.
fn between(packet: &[u8], one: &Workload, other: &Workload) -> bool {
    capture::holds(packet, &one.pod.ipv4().octets())
        && capture::holds(packet, &other.pod.ipv4().octets())
}

fn plaintext_depends_on_the_mode() -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let server = mesh.workload("server")?;
    let _app = apps::http::start(&server.pod, PORT, "server")?;
    let service = mesh.service("echo").protocol("http");
    let address = SocketAddr::new(server.pod.ipv4().into(), PORT);
    mesh.apply("echo", &service.endpoints([address]).objects())?;
    let outside = mesh.network().pod("outside")?;
    let ask = || outside.enter(|| request(address, "GET", "/whoami", ""));
    until("plaintext is answered in permissive mode", PATIENCE, || {
        ask().is_ok_and(|(status, _)| status == 200)
    })?;
    let (_, body) = ask()?;
    let answer: Value = serde_json::from_str(&body)?;
    ensure!(
        answer["headers"].get("x-forwarded-client-cert").is_none(),
        "a caller without a certificate has no identity: {answer}"
    );

    let mut strict = manifest::Annotations::new();
    strict.insert("weft.dev/mtls-mode".into(), "Strict".into());
    mesh.apply(
        "pod-server",
        &[manifest::pod("server", &server.addresses(), &strict)],
    )?;
    until("plaintext is refused in strict mode", PATIENCE, || {
        ask().is_err()
    })?;
    let client = mesh.workload("client")?;
    let through_the_mesh = || client.pod.enter(|| request(address, "GET", "/whoami", ""));
    until("the mesh is answered in strict mode", PATIENCE, || {
        through_the_mesh().is_ok_and(|(status, _)| status == 200)
    })?;
    let metrics = server.admin("/metrics")?;
    let refused = metrics
        .lines()
        .find(|line| line.starts_with(r#"weft_plaintext_refused_total{direction="inbound"}"#));
    ensure!(
        refused.is_some_and(|line| !line.ends_with(" 0")),
        "the refusal is not counted: {refused:?}"
    );
    Ok(())
}

fn a_forged_identity_is_stripped() -> anyhow::Result<()> {
    use std::io::{Read, Write};
    let pair = Pair::start(Some("http"), |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    let address = pair.address();
    let answer = pair.client.pod.enter(|| -> anyhow::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(
            b"GET /whoami HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\
              X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/admin/sa/root\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    ensure!(answer.contains(&pair.client.identity()), "{answer}");
    ensure!(
        !answer.contains("sa/root"),
        "the forged identity got through: {answer}"
    );
    Ok(())
}
