//! What applications speak, through two sidecars.

use crate::pair::{PATIENCE, PORT, Pair};
use anyhow::{Context, ensure};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};
use weft_tests::{
    Need, Suite, apps,
    memory::{self, Peak},
    mesh::APPLICATION_UID,
    peers,
    wait::until,
};

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "http_1_1_keeps_connections_framing_and_expectations",
            &[Need::Namespaces],
            http_1_1,
        )
        .test(
            "informational_responses_and_trailers_pass",
            &[Need::Namespaces],
            informational_and_trailers,
        )
        .test(
            "grpc_calls_of_every_kind_pass_and_a_cancelled_one_is_cancelled_at_the_server",
            &[Need::Namespaces, Need::GrpcPython],
            grpc,
        )
        .test("websockets_pass", &[Need::Namespaces], websocket)
        .test(
            "redis_is_served_on_an_undeclared_port",
            &[
                Need::Namespaces,
                Need::Program("redis-server"),
                Need::Program("redis-cli"),
            ],
            redis,
        )
        .test(
            "mariadb_which_speaks_first_is_served_without_delay",
            &[
                Need::Namespaces,
                Need::Program("mariadbd"),
                Need::Program("mariadb-install-db"),
                Need::Program("mariadb"),
            ],
            mariadb,
        )
        .test(
            "tcp_connections_close_one_half_at_a_time",
            &[Need::Namespaces],
            || half_close(Some("tcp")).and_then(|()| half_close(None)),
        )
        .test(
            "two_gibibytes_pass_each_way_with_memory_flat",
            &[Need::Namespaces],
            large_bodies,
        )
}

/// A connection to an address from inside the client's pod, with a bound on every read.
fn connect(pair: &Pair) -> anyhow::Result<BufReader<TcpStream>> {
    let address = pair.address();
    let stream = pair.client.pod.enter(|| TcpStream::connect(address))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn send(connection: &mut BufReader<TcpStream>, text: &str) -> anyhow::Result<()> {
    Ok(connection.get_mut().write_all(text.as_bytes())?)
}

/// Reads up to and with the empty line that ends a head, or a section of trailers. In lower case.
fn read_head(connection: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && head != "\r\n" {
        ensure!(
            connection.read_line(&mut head)? > 0,
            "the connection ended within {head:?}"
        );
    }
    Ok(head.to_lowercase())
}

fn read_exactly(connection: &mut BufReader<TcpStream>, length: usize) -> anyhow::Result<String> {
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(String::from_utf8(body)?)
}

/// Reads a chunked body with its trailers.
fn read_chunked(connection: &mut BufReader<TcpStream>) -> anyhow::Result<(String, String)> {
    let mut body = String::new();
    loop {
        let mut size = String::new();
        connection.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).with_context(|| size)?;
        if size == 0 {
            return Ok((body, read_head(connection)?));
        }
        body += &read_exactly(connection, size)?;
        ensure!(
            read_exactly(connection, 2)? == "\r\n",
            "a chunk ends with CRLF"
        );
    }
}

fn http_1_1() -> anyhow::Result<()> {
    let pair = Pair::start(Some("http"), |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    let connection = &mut connect(&pair)?;

    send(connection, "GET /bytes/3 HTTP/1.1\r\nHost: echo\r\n\r\n")?;
    let head = read_head(connection)?;
    ensure!(head.starts_with("http/1.1 200 "), "{head}");
    let body = if head.contains("content-length: 3") {
        read_exactly(connection, 3)?
    } else {
        read_chunked(connection)?.0
    };
    ensure!(body == "\0\0\0", "{body:?}");

    send(connection, "HEAD /whoami HTTP/1.1\r\nHost: echo\r\n\r\n")?;
    let head = read_head(connection)?;
    ensure!(head.starts_with("http/1.1 200 "), "{head}");

    // Two at once on the connection that the HEAD without a body left in step.
    send(
        connection,
        "POST /count HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nweft\r\n5\r\n mesh\r\n0\r\n\r\n\
         POST /count HTTP/1.1\r\nHost: echo\r\nContent-Length: 2\r\n\r\nok",
    )?;
    for count in ["9", "2"] {
        let head = read_head(connection)?;
        ensure!(head.contains("content-length: 1\r\n"), "{head}");
        ensure!(read_exactly(connection, 1)? == count);
    }

    send(
        connection,
        "POST /count HTTP/1.1\r\nHost: echo\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    )?;
    let head = read_head(connection)?;
    ensure!(head.starts_with("http/1.1 100 "), "{head}");
    send(connection, "12345")?;
    let head = read_head(connection)?;
    ensure!(head.starts_with("http/1.1 200 "), "{head}");
    ensure!(read_exactly(connection, 1)? == "5");

    send(connection, "GET /status/204 HTTP/1.1\r\nHost: echo\r\n\r\n")?;
    let head = read_head(connection)?;
    ensure!(head.starts_with("http/1.1 204 "), "{head}");

    send(
        connection,
        "GET /status/418 HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n",
    )?;
    let head = read_head(connection)?;
    ensure!(
        head.starts_with("http/1.1 418 ") && head.contains("connection: close"),
        "{head}"
    );
    let mut rest = String::new();
    connection.read_to_string(&mut rest)?;
    ensure!(rest == "status", "{rest:?}");
    Ok(())
}

fn informational_and_trailers() -> anyhow::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
        5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n";
    let pair = Pair::start(Some("http"), |pod| apps::tcp::scripted(pod, PORT, ANSWER))?;
    let ask = || -> anyhow::Result<(String, String, (String, String))> {
        let connection = &mut connect(&pair)?;
        send(
            connection,
            "GET / HTTP/1.1\r\nHost: echo\r\nTE: trailers\r\n\r\n",
        )?;
        Ok((
            read_head(connection)?,
            read_head(connection)?,
            read_chunked(connection)?,
        ))
    };
    until("the service answers", PATIENCE, || ask().is_ok())
        .with_context(|| format!("{:?}\n{}", ask(), pair.logs()))?;
    let (hints, head, (body, trailers)) = ask()?;
    ensure!(
        hints.starts_with("http/1.1 103 ") && hints.contains("link: </style.css>"),
        "{hints}"
    );
    ensure!(head.starts_with("http/1.1 200 "), "{head}");
    ensure!(
        body == "hello" && trailers.contains("x-sum: 42"),
        "{body:?} {trailers:?}"
    );
    Ok(())
}

fn grpc() -> anyhow::Result<()> {
    let program = peers::grpc::python()?;
    let pair = Pair::start(Some("grpc"), |pod| apps::grpc::start(pod, PORT, "server"))?;
    let client = pair
        .client
        .pod
        .command("python3")
        .arg(program.join("streams.py"))
        .arg(pair.address().to_string())
        .env("PYTHONPATH", &program)
        .spawn()?;
    until("the client ends", PATIENCE, || {
        !matches!(client.try_wait(), Ok(None))
    })?;
    ensure!(
        client.log().trim() == "done",
        "{}\n{}",
        client.log(),
        pair.logs()
    );
    until(
        "the server's sidecar sees the cancellation",
        PATIENCE,
        || {
            pair.server.admin("/metrics").is_ok_and(|page| {
                page.lines().any(|line| {
                    line.starts_with("weft_request_errors_total{direction=\"inbound\"")
                        && line.contains(r#"reason="downstream-reset""#)
                })
            })
        },
    )
}

fn websocket() -> anyhow::Result<()> {
    use tungstenite::Message;
    let pair = Pair::start(Some("http"), |pod| {
        apps::websocket::start(pod, PORT)?;
        apps::tcp::echo(pod, PORT + 1)
    })?;
    let open = || -> anyhow::Result<_> {
        let stream = connect(&pair)?.into_inner();
        let (socket, response) = tungstenite::client("ws://echo/chat", stream)?;
        Ok((socket, response))
    };
    until("the upgrade is accepted", PATIENCE, || open().is_ok())
        .with_context(|| format!("{:?}\n{}", open().err(), pair.logs()))?;
    let (mut socket, response) = open()?;
    ensure!(response.status() == 101, "{response:?}");
    let long = "weft ".repeat(50_000);
    for text in ["hello", long.as_str()] {
        socket.send(Message::text(text))?;
        ensure!(
            socket.read()? == Message::text(text),
            "a message came back changed"
        );
    }
    socket.close(None)?;
    while socket.read().is_ok() {}
    Ok(())
}

fn redis() -> anyhow::Result<()> {
    let pair = Pair::start(None, |pod| apps::tcp::echo(pod, PORT + 1))?;
    let redis = pair
        .server
        .pod
        .command("redis-server")
        .args(["--port", &PORT.to_string(), "--bind", "* -::*"])
        .args(["--protected-mode", "no", "--save", ""])
        .uid(APPLICATION_UID)
        .current_dir("/tmp")
        .spawn()?;
    let address = pair.address();
    let ask = |command: &[&str]| -> anyhow::Result<String> {
        let client = pair
            .client
            .pod
            .command("redis-cli")
            .args([
                "-h",
                &address.ip().to_string(),
                "-p",
                &address.port().to_string(),
            ])
            .args(command)
            .spawn()?;
        until("redis-cli ends", PATIENCE, || {
            !matches!(client.try_wait(), Ok(None))
        })?;
        Ok(client.log().trim().to_owned())
    };
    until("redis answers", PATIENCE, || {
        ask(&["PING"]).is_ok_and(|answer| answer == "PONG")
    })
    .with_context(|| {
        format!(
            "{:?}\n{}\n{}",
            ask(&["PING"]),
            redis.log_tail(10),
            pair.logs()
        )
    })?;
    let stored = ask(&["SET", "mesh", "weft"])?;
    ensure!(stored == "OK", "{stored}");
    let found = ask(&["GET", "mesh"])?;
    ensure!(found == "weft", "{found}");
    Ok(())
}

fn mariadb() -> anyhow::Result<()> {
    /// More than any query takes, less than any detection timeout that a mesh is known for.
    const NO_STALL: Duration = Duration::from_secs(1);
    let pair = Pair::start(None, |pod| apps::tcp::echo(pod, PORT + 1))?;
    let data = tempfile::tempdir()?;
    let path = data.path().display();
    let install = pair
        .server
        .pod
        .command("mariadb-install-db")
        .args([
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=normal",
        ])
        .arg(format!("--datadir={path}"))
        .spawn()?;
    until("the database is made", 3 * PATIENCE, || {
        !matches!(install.try_wait(), Ok(None))
    })?;
    let database = pair
        .server
        .pod
        .command("mariadbd")
        .args([
            "--no-defaults",
            "--user=root",
            "--skip-grant-tables",
            "--skip-name-resolve",
        ])
        .args(["--bind-address=*", &format!("--port={PORT}")])
        .arg(format!("--datadir={path}"))
        .arg(format!("--socket={path}/socket"))
        .spawn()?;
    let address = pair.address();
    let query = || -> anyhow::Result<(String, Duration)> {
        let start = Instant::now();
        let client = pair
            .client
            .pod
            .command("mariadb")
            .args(["--no-defaults", "--protocol=tcp", "--skip-ssl", "--batch"])
            .args(["--skip-column-names", "--execute=select 40 + 2"])
            .arg(format!("--host={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .spawn()?;
        until("the query ends", PATIENCE, || {
            !matches!(client.try_wait(), Ok(None))
        })?;
        Ok((client.log().trim().to_owned(), start.elapsed()))
    };
    until("the database answers", 3 * PATIENCE, || {
        query().is_ok_and(|(answer, _)| answer == "42")
    })
    .with_context(|| format!("{:?}\n{}\n{}", query(), database.log_tail(10), pair.logs()))?;
    let (_, took) = query()?;
    ensure!(took < NO_STALL, "a query took {took:?}");
    let metrics = pair.client.admin("/metrics")?;
    ensure!(
        metrics.contains(
            r#"weft_protocol_detections_total{direction="outbound",verdict="server-first"}"#
        ),
        "{metrics}"
    );
    Ok(())
}

fn half_close(protocol: Option<&str>) -> anyhow::Result<()> {
    let pair = Pair::start(protocol, |pod| apps::tcp::echo(pod, PORT))?;
    let talk = || -> anyhow::Result<String> {
        let mut stream = connect(&pair)?.into_inner();
        stream.write_all(b"\x00not http")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let expected = "\0not httpend:9";
    until("the echo ends as it should", PATIENCE, || {
        talk().is_ok_and(|answer| answer == expected)
    })
    .with_context(|| format!("{:?}\n{}", talk(), pair.logs()))
}

fn large_bodies() -> anyhow::Result<()> {
    const SIZE: u64 = 2 << 30;
    const FLAT: u64 = 16 << 20;
    let pair = Pair::start(Some("http"), |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    let sidecars = [pair.client.sidecar.id(), pair.server.sidecar.id()];
    let before = [
        memory::resident(sidecars[0])?,
        memory::resident(sidecars[1])?,
    ];
    let peaks = sidecars.map(Peak::of);

    let connection = &mut connect(&pair)?;
    send(
        connection,
        &format!("POST /count HTTP/1.1\r\nHost: echo\r\nContent-Length: {SIZE}\r\n\r\n"),
    )?;
    let chunk = vec![7; 1 << 20];
    for _ in 0..SIZE / chunk.len() as u64 {
        connection.get_mut().write_all(&chunk)?;
    }
    let head = read_head(connection)?;
    ensure!(head.starts_with("http/1.1 200 "), "{head}");
    let expected = SIZE.to_string();
    ensure!(read_exactly(connection, expected.len())? == expected);

    send(
        connection,
        &format!("GET /bytes/{SIZE} HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n"),
    )?;
    let head = read_head(connection)?;
    ensure!(head.starts_with("http/1.1 200 "), "{head}");
    let received = std::io::copy(connection, &mut std::io::sink())?;
    ensure!(received >= SIZE, "{received} of {SIZE} bytes");

    for (peak, before) in peaks.into_iter().map(Peak::stop).zip(before) {
        ensure!(
            peak < before + FLAT,
            "a sidecar grew from {before} to {peak} bytes"
        );
    }
    Ok(())
}
