//! Requests through a pair of proxies on one thread, between a client and an application that cost little
//! themselves, and how much is counted too: both send prepared bytes.

use rustls::crypto::aws_lc_rs;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    task::{LocalSet, spawn_local},
};
use weft_proxy::{
    snapshot::{MtlsMode, Protocol},
    testing::world::{self, Pair},
};

/// The version that client and application speak.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2 with prior knowledge.
    Two,
}

/// What lies between client and application.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Between {
    /// The sidecars of both.
    Sidecars,
    /// Nothing: what remains is the cost of the measurement.
    Nothing,
}

const BODY: [u8; 1024] = [b'a'; 1024];

/// Sends so many requests, one after the other, over one connection.
///
/// An answer that is not the application's fails all.
pub(crate) fn run(http: Http, between: Between, requests: u32) -> anyhow::Result<()> {
    // Whoever came first has installed the same one.
    let _ = aws_lc_rs::default_provider().install_default();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let app = TcpListener::bind("127.0.0.1:0").await?;
        let address = app.local_addr()?;
        spawn_local(application(app, http));
        let pair = match between {
            Between::Sidecars => Some(sidecars(address)),
            Between::Nothing => None,
        };
        let server = pair.as_ref().map_or(address, |pair| pair.order.outbound);
        let client = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        match http {
            Http::One => http1::call(client, requests).await?,
            Http::Two => http2::call(client, requests).await?,
        }
        Ok(())
    })
}

/// Two sidecars, the second of them for the application at an address.
fn sidecars(app: SocketAddr) -> Pair {
    let port = world::port(Protocol::Http, MtlsMode::Strict);
    let pair = world::pair(app, "transparent", port);
    let name = pair.order.outbound.to_string();
    let user = world::destination(&name, Protocol::Http, &[pair.user.inbound], true);
    pair.order.feed.publish(user);
    pair
}

async fn application(listener: TcpListener, http: Http) {
    while let Ok((tcp, _)) = listener.accept().await {
        spawn_local(async move {
            tcp.set_nodelay(true)?;
            match http {
                Http::One => http1::answer(tcp).await,
                Http::Two => http2::answer(tcp).await,
            }
        });
    }
}

mod http1 {
    use super::*;

    const REQUEST: &[u8] = b"GET /orders/4711 HTTP/1.1\r\n\
        Host: user.demo.svc.cluster.local\r\n\
        User-Agent: load\r\n\
        Accept: */*\r\n\
        \r\n";
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
        Server: application\r\n\
        Content-Type: text/plain\r\n\
        Content-Length: 1024\r\n\
        \r\n";

    pub(super) async fn call(mut tcp: TcpStream, requests: u32) -> io::Result<()> {
        for _ in 0..requests {
            tcp.write_all(REQUEST).await?;
            read(&mut tcp, b"HTTP/1.1 200 ", &BODY).await?;
        }
        Ok(())
    }

    pub(super) async fn answer(mut tcp: TcpStream) -> io::Result<()> {
        let response = [RESPONSE, &BODY].concat();
        loop {
            read(&mut tcp, b"GET ", b"\r\n\r\n").await?;
            tcp.write_all(&response).await?;
        }
    }

    /// Reads a message that begins and ends so.
    async fn read(tcp: &mut TcpStream, begin: &[u8], end: &[u8]) -> io::Result<()> {
        let (mut buffer, mut filled) = ([0; 4096], 0);
        while !buffer[..filled].ends_with(end) {
            match tcp.read(&mut buffer[filled..]).await? {
                0 => return Err(unexpected(&buffer[..filled])),
                read => filled += read,
            }
        }
        match buffer.starts_with(begin) {
            true => Ok(()),
            false => Err(unexpected(&buffer[..filled])),
        }
    }

    fn unexpected(message: &[u8]) -> io::Error {
        io::Error::other(format!("unexpected: {}", message.escape_ascii()))
    }
}

/// As much of HTTP/2 (RFC 9113) as prepared frames need.
mod http2 {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const HEAD: usize = 9;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const WINDOW_UPDATE: u8 = 8;
    const ACK: u8 = 1;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    /// `:method: GET`, with which a request begins.
    const GET: u8 = 0x82;
    /// `:status: 200`, with which a response begins.
    const OK: u8 = 0x88;
    /// What brings the window of the connection to the largest there is, so that it need not be tended.
    const WINDOW: u32 = (1 << 31) - 1 - 65_535;

    pub(super) async fn call(tcp: TcpStream, requests: u32) -> io::Result<()> {
        let mut frames = Frames::new(tcp);
        frames.tcp.write_all(PREFACE).await?;
        frames.begin().await?;
        let fields = [
            &[GET, 0x86][..], // :scheme: http
            &field(4, b"/orders/4711"),
            &field(1, b"user.demo.svc.cluster.local"),
            &field(58, b"load"),
            &field(19, b"*/*"),
        ]
        .concat();
        for stream in (1..).step_by(2).take(requests as usize) {
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
            frames.tcp.write_all(&request).await?;
            while frames.ended_stream(OK).await? != stream {}
        }
        Ok(())
    }

    pub(super) async fn answer(mut tcp: TcpStream) -> io::Result<()> {
        tcp.read_exact(&mut [0; PREFACE.len()]).await?;
        let mut frames = Frames::new(tcp);
        frames.begin().await?;
        let fields = [
            &[OK][..],
            &field(54, b"application"),
            &field(31, b"text/plain"),
            &field(28, b"1024"),
        ]
        .concat();
        loop {
            let stream = frames.ended_stream(GET).await?;
            let mut response = frame(HEADERS, END_HEADERS, stream, &fields);
            response.extend(frame(DATA, END_STREAM, stream, &BODY));
            frames.tcp.write_all(&response).await?;
        }
    }

    struct Frames {
        tcp: TcpStream,
        buffer: [u8; 4096],
        filled: usize,
    }

    impl Frames {
        fn new(tcp: TcpStream) -> Self {
            Self {
                tcp,
                buffer: [0; 4096],
                filled: 0,
            }
        }

        async fn begin(&mut self) -> io::Result<()> {
            self.tcp.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
            let window = frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
            self.tcp.write_all(&window).await
        }

        /// The next stream that the peer ends. Its fields must begin so. Answers what must be answered meanwhile.
        async fn ended_stream(&mut self, first_field: u8) -> io::Result<u32> {
            loop {
                let head = self.fill(HEAD).await?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags) = (head[3], head[4]);
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                let size = HEAD + length;
                let payload = &self.fill(size).await?[HEAD..size];
                let answer = match kind {
                    SETTINGS if flags & ACK == 0 => Some(frame(SETTINGS, ACK, 0, &[])),
                    PING if flags & ACK == 0 => Some(frame(PING, ACK, 0, payload)),
                    HEADERS if payload.first() != Some(&first_field) => {
                        return Err(unexpected("fields", payload));
                    }
                    RST_STREAM | GOAWAY => return Err(unexpected("end", payload)),
                    _ => None,
                };
                self.buffer.copy_within(size..self.filled, 0);
                self.filled -= size;
                if let Some(answer) = answer {
                    self.tcp.write_all(&answer).await?;
                }
                if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                    return Ok(stream);
                }
            }
        }

        /// At least so many bytes.
        async fn fill(&mut self, bytes: usize) -> io::Result<&[u8]> {
            while self.filled < bytes {
                match self.tcp.read(&mut self.buffer[self.filled..]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => self.filled += read,
                }
            }
            Ok(&self.buffer[..self.filled])
        }
    }

    fn unexpected(what: &str, payload: &[u8]) -> io::Error {
        io::Error::other(format!("unexpected {what}: {}", payload.escape_ascii()))
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let stream = stream.to_be_bytes();
        [&length[1..], &[kind, flags], &stream, payload].concat()
    }

    /// A field without indexing, its name from the static table, nothing Huffman-coded (RFC 7541 section
    /// 6.2.2): the same bytes in every request.
    fn field(name: u8, value: &[u8]) -> Vec<u8> {
        let name = match name.checked_sub(15) {
            Some(rest) => vec![15, rest],
            None => vec![name],
        };
        [&name[..], &[value.len() as u8], value].concat()
    }
}
