//! Bad input of every kind: a clear error, nothing lost, nothing panics.

use crate::pair::{PATIENCE, PORT, Pair};
use anyhow::{Context, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use weft_cli::sandbox::Pod;
use weft_tests::{
    Mesh, Need, Suite,
    any_server::AnyServer,
    apps, binaries, manifest,
    peers::certificate,
    wait::{request, until},
};
use weft_xds_proto::names;

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "truncated_and_unknown_objects_are_reported_and_the_last_good_ones_stay",
            &[Need::Namespaces],
            bad_objects,
        )
        .test(
            "an_expired_certificate_is_refused_by_name",
            &[Need::Namespaces],
            expired_certificate,
        )
        .test(
            "a_server_of_another_trust_domain_is_refused_by_name",
            &[Need::Namespaces],
            foreign_trust_domain,
        )
        .test(
            "a_port_in_use_is_named_with_its_flag",
            &[Need::Namespaces],
            port_in_use,
        )
        .test(
            "init_without_its_capability_says_which_one",
            &[Need::Namespaces],
            missing_capability,
        )
        .test(
            "random_bytes_on_every_port_harm_nothing",
            &[Need::Namespaces],
            random_bytes,
        )
}

fn bad_objects() -> anyhow::Result<()> {
    let pair = Pair::start(Some("http"), |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    pair.mesh.write(
        "echo",
        "apiVersion: v1\nkind: Service\nmetadata: {name: echo, name",
    )?;
    pair.mesh.write(
        "strange",
        "apiVersion: example.com/v1\nkind: Teapot\nmetadata: {name: brew}\n",
    )?;
    pair.mesh.write(
        "wrong",
        "apiVersion: v1\nkind: Service\nmetadata: {name: wrong, namespace: demo}\n\
         spec: {clusterIP: 10.96.300.1, ports: [{port: 80}]}\n",
    )?;
    let reported = |words: &[&str]| {
        let log = pair.mesh.control_plane_log();
        log.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    for words in [
        &["echo.yaml"] as &[&str],
        &["strange.yaml", "Teapot"],
        &["wrong.yaml", "demo/wrong", "clusterIP", "10.96.300.1"],
    ] {
        until("the control plane reports the object", PATIENCE, || {
            reported(words)
        })
        .with_context(|| format!("{words:?} in\n{}", pair.mesh.control_plane_log()))?;
    }
    // A workload that asks anew is told the last good version.
    let late = pair.mesh.workload("late")?;
    let address = pair.address();
    let (status, body) = late.pod.enter(|| request(address, "GET", "/whoami", ""))?;
    ensure!(status == 200, "{status}: {body}");
    Ok(())
}

fn expired_certificate() -> anyhow::Result<()> {
    const LIFETIME: Duration = Duration::from_secs(10);
    let pair = Pair::start(Some("http"), |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    let files = certificate::issue(&pair.mesh, "outdated", LIFETIME)?;
    let issued = Instant::now();
    let pod = pair.mesh.network().pod("outdated")?;
    let address = SocketAddr::new(pair.server.pod.ipv4().into(), PORT);
    let ask = || tls_request(&pod, address, &files);
    ensure!(ask()?.contains("200 OK"), "a certificate in force is taken");
    until("the certificate has expired", 2 * LIFETIME, || {
        issued.elapsed() > LIFETIME + Duration::from_secs(1)
    })?;
    ensure!(ask().is_err(), "an expired certificate was taken");
    until("the sidecar says why", PATIENCE, || {
        let log = pair.server.sidecar.log();
        log.contains("sa/outdated") && log.contains("expired")
    })
    .with_context(|| format!("{:?}\n{}", ask(), pair.logs()))
}

/// A request over mutual TLS with certificates of a directory, checking nothing of the server but its root.
fn tls_request(pod: &Pod, address: SocketAddr, files: &Path) -> anyhow::Result<String> {
    let chain = CertificateDer::pem_file_iter(files.join("cert-chain.pem"))?
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(files.join("key.pem"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![names::ALPN_HTTP1.to_vec()];
    let stream = pod.enter(|| TcpStream::connect(address))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let connection =
        rustls::ClientConnection::new(Arc::new(config), ServerName::from(address.ip()))?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    stream.write_all(b"GET /whoami HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn foreign_trust_domain() -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let pod = mesh.network().pod("server")?;
    let address = SocketAddr::new(pod.ipv4().into(), PORT);
    let addresses = [address.ip()];
    mesh.apply(
        "server",
        &[manifest::pod(
            "server",
            &addresses,
            &manifest::Annotations::new(),
        )],
    )?;
    let _impostor = impostor(&pod, "spiffe://elsewhere.example/ns/demo/sa/server")?;
    let service = mesh.service("echo").protocol("http").endpoints([address]);
    mesh.apply("echo", &service.objects())?;
    let client = mesh.workload("client")?;
    let [service, _] = service.addresses();
    let ask = || client.pod.enter(|| request(service, "GET", "/", ""));
    until("the impostor is refused", PATIENCE, || {
        ask().is_ok_and(|(status, _)| status == 503)
    })?;
    let metrics = client.admin("/metrics")?;
    let counted = metrics.lines().any(|line| {
        line.starts_with("weft_request_errors_total{")
            && line.contains(r#"reason="upstream-tls-failed""#)
    });
    ensure!(counted, "the reason is not counted: {metrics}");
    Ok(())
}

/// A TLS server with a certificate of a root of its own.
fn impostor(pod: &Pod, identity: &str) -> anyhow::Result<apps::App> {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
    let leaf = leaf.signed_by(&key, &root)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), root.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?,
        )?;
    config.alpn_protocols = vec![names::ALPN_HTTP1.to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    apps::App::start(pod, PORT, move |listener| async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            // The handshake is what the client refuses.
            tokio::spawn(async move { acceptor.accept(stream).await.is_ok() });
        }
    })
}

fn port_in_use() -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let pod = mesh.network().pod("busy")?;
    let _squatter = apps::tcp::echo(&pod, names::OUTBOUND_PORT)?;
    let refused = mesh
        .sidecar("busy", &pod, &[])
        .err()
        .context("a sidecar started on a port in use")?;
    let message = format!("{refused:#}");
    ensure!(
        message.contains("--outbound-listen") && message.contains("15001"),
        "the error does not name flag and port: {message}"
    );
    Ok(())
}

fn missing_capability() -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let pod = mesh.network().pod("plain")?;
    let init = pod
        .command(binaries::path("weft-proxy")?)
        .arg("init")
        .uid(names::PROXY_UID)
        .spawn()?;
    until("init ends", PATIENCE, || {
        !matches!(init.try_wait(), Ok(None))
    })?;
    let status = init.try_wait()?.context("init has ended")?;
    ensure!(
        !status.success() && init.log().contains("NET_ADMIN"),
        "{status}: {}",
        init.log()
    );
    Ok(())
}

fn random_bytes() -> anyhow::Result<()> {
    const CONNECTIONS: usize = 30;
    let pair = Pair::start(None, |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let pod = &pair.server.pod;
    for port in [
        names::OUTBOUND_PORT,
        names::INBOUND_PORT,
        names::ADMIN_PORT,
        names::METRICS_PORT,
        names::HEALTH_PORT,
    ] {
        throw_bytes(pod, loopback(port), CONNECTIONS)?;
    }
    let outside = pair.mesh.network().pod("outside")?;
    throw_bytes(
        &outside,
        SocketAddr::new(pod.ipv4().into(), PORT),
        CONNECTIONS,
    )?;
    throw_bytes(&pair.client.pod, pair.address(), CONNECTIONS)?;
    for port in [
        names::XDS_PLAINTEXT_PORT,
        names::XDS_TLS_PORT,
        names::MONITORING_PORT,
    ] {
        throw_bytes(&outside, pair.mesh.control_plane_address(port), CONNECTIONS)?;
    }
    let answer = pair.get(pair.address(), "/whoami")?;
    ensure!(answer["name"] == "server", "{answer}");
    for log in [
        pair.client.sidecar.log(),
        pair.server.sidecar.log(),
        pair.mesh.control_plane_log(),
    ] {
        ensure!(!log.contains("panicked"), "{log}");
    }
    let fresh = pair.mesh.workload("fresh")?;
    fresh.admin("/livez")?;
    Ok(())
}

/// Opens connections, throws bytes at each and hangs up, sometimes after a look at the answer.
fn throw_bytes(pod: &Pod, address: SocketAddr, connections: usize) -> anyhow::Result<()> {
    const STARTS: [&[u8]; 6] = [
        b"",
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    pod.enter(|| {
        for number in 0..connections {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
            let mut bytes = STARTS[number % STARTS.len()].to_vec();
            bytes.extend((0..fastrand::usize(0..2_000)).map(|_| fastrand::u8(..)));
            // The other side may hang up first.
            let _ = stream.write_all(&bytes);
            if number % 2 == 0 {
                let _ = stream.read(&mut [0; 1024]);
            }
        }
        Ok(())
    })
}
