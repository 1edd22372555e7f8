//! Connections that were used once and rest.

use super::connection::{ask_for_connection, connect, read_answer, secure, send_request};
use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

/// What a connection carries before it rests.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// One request of HTTP/1.1, in plaintext.
    Http,
    /// The same under TLS.
    Https(Arc<ClientConfig>),
    /// Nothing: a connection that was asked for by CONNECT, and so has a counterpart at every hop.
    Tunnel,
    /// Nothing, to an entrance that need not be asked.
    Opaque,
}

/// Open connections. Dropping it closes them.
pub(crate) struct Idle {
    _connections: Vec<Connection>,
}

enum Connection {
    Plain {
        _stream: TcpStream,
    },
    Secured {
        _stream: Box<StreamOwned<ClientConnection, TcpStream>>,
    },
}

impl Idle {
    /// Opens so many connections one after the other, each of which works.
    pub(crate) fn open(
        entrance: SocketAddr,
        authority: &str,
        kind: &Kind,
        connections: usize,
    ) -> anyhow::Result<Self> {
        let connections = (0..connections)
            .map(|number| {
                open(entrance, authority, kind).with_context(|| format!("connection {number}"))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            _connections: connections,
        })
    }
}

/// Lets this process, and those it starts from now on, have so many open files.
pub(crate) fn allow_files(files: u64) -> anyhow::Result<()> {
    let now = getrlimit(Resource::Nofile);
    let at_least = |limit: Option<u64>| limit.map(|limit| limit.max(files));
    let wanted = Rlimit {
        current: at_least(now.current),
        maximum: at_least(now.maximum),
    };
    setrlimit(Resource::Nofile, wanted).with_context(|| {
        format!("cannot have {files} open files: raise the hard limit (ulimit -Hn)")
    })
}

fn open(entrance: SocketAddr, authority: &str, kind: &Kind) -> anyhow::Result<Connection> {
    let mut stream = connect(entrance)?;
    match kind {
        Kind::Http => {
            send_request(&mut stream, authority)?;
            read_answer(&mut stream, false)?;
        }
        Kind::Https(config) => {
            let mut stream = secure(stream, config)?;
            send_request(&mut stream, authority)?;
            read_answer(&mut stream, false)?;
            return Ok(Connection::Secured {
                _stream: Box::new(stream),
            });
        }
        Kind::Tunnel => ask_for_connection(&mut stream, authority)?,
        Kind::Opaque => {}
    }
    Ok(Connection::Plain { _stream: stream })
}
