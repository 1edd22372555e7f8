//! nginx as the HTTP application: answers of fixed sizes at the least cost, so that it is never the bottleneck.

use crate::ground::{is_listening, until_running};
use anyhow::Context;
use std::{fs, net::SocketAddr, path::Path};
use weft_cli::sandbox::{Child, Command};

/// The answer to a POST.
pub(super) const RECEIVED: &str = "received";

/// Starts nginx for HTTP/1.1 and HTTP/2, each at its address.
pub(super) fn start(
    program: &Path,
    http1: SocketAddr,
    http2: SocketAddr,
    directory: &Path,
) -> anyhow::Result<Child> {
    let directory = directory.join("nginx");
    fs::create_dir_all(directory.join("files"))?;
    fs::write(directory.join("files/64k"), vec![b'x'; 64 << 10])?;
    let file = directory.join("nginx.conf");
    fs::write(&file, config(http1, http2, &directory))?;
    let child = Command::new(program)
        .arg("-e")
        .arg("stderr")
        .arg("-p")
        .arg(&directory)
        .arg("-c")
        .arg(&file)
        .spawn()
        .context("the application")?;
    until_running(&child, "listens", || {
        is_listening(http1) && is_listening(http2)
    })?;
    Ok(child)
}

fn config(http1: SocketAddr, http2: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    let kib = "x".repeat(1 << 10);
    // One process without a master: it dies with the harness, and one is faster than any pair of sidecars.
    format!(
        r#"
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    default_type application/octet-stream;
    server_tokens off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    http2_max_concurrent_streams 1000;
    open_file_cache max=16;
    client_max_body_size 1m;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    server {{
        listen {http1} backlog=4096;
        listen {http2} http2 backlog=4096;
        root {directory}/files;
        location = /1k {{ return 200 "{kib}"; }}
        location = /post {{ return 200 "{RECEIVED}"; }}
    }}
}}
"#
    )
}
