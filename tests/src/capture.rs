//! What passes over the links of a node, as a wiretap would see it.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{ErrorKind, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use weft_cli::sandbox::Namespace;

/// Larger than any packet of the links, segmentation offload included.
const PACKET: usize = 128 * 1024;

/// A capture of every packet of a namespace, until it is stopped.
pub struct Capture {
    stop: Arc<AtomicBool>,
    packets: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// Starts to capture.
    pub fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let every_protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let mut socket =
            namespace.enter(|| Socket::new(Domain::PACKET, Type::RAW, Some(every_protocol)))?;
        socket.set_recv_buffer_size(8 * 1024 * 1024)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let packets = thread::spawn(move || {
            let mut packets = Vec::new();
            let mut buffer = vec![0; PACKET];
            loop {
                match socket.read(&mut buffer) {
                    Ok(length) => packets.push(buffer[..length].to_vec()),
                    // Only when nothing more is waiting is everything captured that was sent before the stop.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if stopped.load(Ordering::Acquire) {
                            return packets;
                        }
                    }
                    Err(_) => return packets,
                }
            }
        });
        Ok(Self { stop, packets })
    }

    /// Ends the capture and gives its packets, link headers included.
    pub fn stop(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Release);
        self.packets.join().expect("a capture does not panic")
    }
}

/// Whether a packet holds some bytes.
pub fn holds(packet: &[u8], bytes: &[u8]) -> bool {
    packet.windows(bytes.len()).any(|window| window == bytes)
}

/// The version and key exchange group that a packet's ServerHello chose (RFC 8446, 4.1.3), if it holds one.
pub fn server_hello(packet: &[u8]) -> Option<(u16, Option<u16>)> {
    const HANDSHAKE_RECORD: [u8; 3] = [0x16, 0x03, 0x03];
    const SERVER_HELLO: u8 = 2;
    let start = packet
        .windows(6)
        .position(|window| window[..3] == HANDSHAKE_RECORD && window[5] == SERVER_HELLO)?;
    // Record header 5, handshake header 4, legacy version 2, random 32.
    let mut rest = packet.get(start + 5 + 4 + 2 + 32..)?;
    let session = usize::from(*rest.first()?);
    // Session id, cipher suite 2, compression 1.
    rest = rest.get(1 + session + 3..)?;
    let length = usize::from(number(rest, 0)?);
    let mut extensions = rest.get(2..2 + length)?;
    let (mut version, mut group) = (0x0303, None);
    while let (Some(kind), Some(size)) = (number(extensions, 0), number(extensions, 2)) {
        match kind {
            43 => version = number(extensions, 4)?,
            51 => group = number(extensions, 4),
            _ => {}
        }
        extensions = extensions.get(4 + usize::from(size)..)?;
    }
    Some((version, group))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
