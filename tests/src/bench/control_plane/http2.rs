//! The least of an HTTP/2 client that carries one gRPC stream: a thousand of them have to leave the processor to the
//! control plane.
//!
//! What it cannot do a server of one stream does not ask for: it decodes no response headers, and never sends more
//! than the windows allow but fails instead.

/// What a server sends that ends the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The stream is over: trailers, or a response without a body.
    #[error("the server ended the stream")]
    Stream,
    /// RST_STREAM.
    #[error("the server reset the stream with code {0}")]
    Reset(u32),
    /// GOAWAY.
    #[error("the server said goodbye with code {0}")]
    Goodbye(u32),
    /// The server does not open its window.
    #[error("the server takes no more bytes")]
    Blocked,
    /// A compressed message, though none was agreed.
    #[error("a message is compressed")]
    Compressed,
}

/// One stream of one connection.
#[derive(Debug)]
pub struct Client {
    /// Bytes of a frame that is not complete.
    partial: Vec<u8>,
    /// Bytes of a message that is not complete.
    message: Vec<u8>,
    outbound: Vec<u8>,
    /// What may be sent on the connection and on the stream.
    windows: [i64; 2],
    initial_window: i64,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// Compressed or not, and the length (gRPC over HTTP/2, "Length-Prefixed-Message").
const MESSAGE_HEADER: usize = 5;
/// RFC 9113 section 6.9.2.
const DEFAULT_WINDOW: i64 = 65_535;
/// No response of a run comes near it, so that windows need no care.
const RECEIVE_WINDOW: u32 = (1 << 31) - 1;
const STREAM: u32 = 1;

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
const PADDED: u8 = 8;

const INITIAL_WINDOW_SIZE: u16 = 4;

impl Client {
    /// A connection on which a gRPC method is called with a bearer token.
    pub fn call(authority: &str, path: &str, token: &str) -> Self {
        let mut client = Self {
            partial: Vec::new(),
            message: Vec::new(),
            outbound: PREFACE.to_vec(),
            windows: [DEFAULT_WINDOW; 2],
            initial_window: DEFAULT_WINDOW,
        };
        let mut settings = Vec::new();
        // No push, and a window that never closes.
        for (setting, value) in [(2, 0), (INITIAL_WINDOW_SIZE, RECEIVE_WINDOW)] {
            settings.extend(setting.to_be_bytes());
            settings.extend(u32::to_be_bytes(value));
        }
        client.frame(SETTINGS, 0, 0, &settings);
        let more = RECEIVE_WINDOW - 65_535;
        client.frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        let headers = headers(authority, path, token);
        client.frame(HEADERS, END_HEADERS, STREAM, &headers);
        client
    }

    /// Sends a message.
    pub fn send(&mut self, message: &[u8]) -> Result<(), Ended> {
        let length = MESSAGE_HEADER + message.len();
        for window in &mut self.windows {
            *window -= i64::try_from(length).expect("messages are small");
            if *window < 0 {
                return Err(Ended::Blocked);
            }
        }
        self.frame_header(DATA, 0, STREAM, length);
        self.outbound.push(0);
        self.outbound.extend(length32(message.len()));
        self.outbound.extend(message);
        Ok(())
    }

    /// Takes in what the server sent, and hands out the messages that are complete now.
    pub fn receive(&mut self, bytes: &[u8], messages: &mut Vec<Vec<u8>>) -> Result<(), Ended> {
        if self.partial.is_empty() {
            let used = self.frames(bytes, messages)?;
            self.partial.extend(&bytes[used..]);
        } else {
            self.partial.extend(bytes);
            let buffered = std::mem::take(&mut self.partial);
            let used = self.frames(&buffered, messages)?;
            self.partial.extend(&buffered[used..]);
        }
        Ok(())
    }

    /// What is to be written to the connection.
    pub fn take_outbound(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbound)
    }

    fn frames(&mut self, bytes: &[u8], messages: &mut Vec<Vec<u8>>) -> Result<usize, Ended> {
        let mut used = 0;
        while let Some((header, rest)) = bytes[used..].split_first_chunk::<FRAME_HEADER>() {
            let length =
                usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let Some(payload) = rest.get(..length) else {
                break;
            };
            let on_stream = header[5..] != [0; 4];
            if header[3] == WINDOW_UPDATE {
                self.windows[usize::from(on_stream)] += i64::from(number(payload));
            } else {
                self.take_frame(header[3], header[4], payload, messages)?;
            }
            used += FRAME_HEADER + length;
        }
        Ok(used)
    }

    fn take_frame(
        &mut self,
        kind: u8,
        flags: u8,
        payload: &[u8],
        messages: &mut Vec<Vec<u8>>,
    ) -> Result<(), Ended> {
        match kind {
            DATA => {
                let data = match payload.split_first() {
                    Some((padding, rest)) if flags & PADDED != 0 => {
                        &rest[..rest.len().saturating_sub(usize::from(*padding))]
                    }
                    _ => payload,
                };
                self.message.extend(data);
                self.take_messages(messages)?;
            }
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
                        let window = i64::from(number(&setting[2..]));
                        self.windows[1] += window - self.initial_window;
                        self.initial_window = window;
                    }
                }
                self.frame(SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, payload),
            RST_STREAM => return Err(Ended::Reset(number(payload))),
            GOAWAY => return Err(Ended::Goodbye(number(payload.get(4..).unwrap_or_default()))),
            _ => {}
        }
        let ends_stream = flags & END_STREAM != 0;
        if matches!(kind, DATA | HEADERS) && ends_stream {
            return Err(Ended::Stream);
        }
        Ok(())
    }

    fn take_messages(&mut self, messages: &mut Vec<Vec<u8>>) -> Result<(), Ended> {
        let mut used = 0;
        while let Some((header, rest)) = self.message[used..].split_first_chunk::<MESSAGE_HEADER>()
        {
            if header[0] != 0 {
                return Err(Ended::Compressed);
            }
            let Some(message) = rest.get(..number(&header[1..]) as usize) else {
                break;
            };
            messages.push(message.to_vec());
            used += MESSAGE_HEADER + message.len();
        }
        self.message.drain(..used);
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.frame_header(kind, flags, stream, payload.len());
        self.outbound.extend(payload);
    }

    fn frame_header(&mut self, kind: u8, flags: u8, stream: u32, length: usize) {
        self.outbound.extend(&length32(length)[1..]);
        self.outbound.extend([kind, flags]);
        self.outbound.extend(stream.to_be_bytes());
    }
}

/// HPACK without a dynamic table and without Huffman codes (RFC 7541 sections 6.1 and 6.2.2).
fn headers(authority: &str, path: &str, token: &str) -> Vec<u8> {
    // `:method: POST` and `:scheme: https` of the static table.
    let mut block = vec![0x83, 0x87];
    for (name, value) in [
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &format!("Bearer {token}")),
    ] {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

fn string(block: &mut Vec<u8>, text: &str) {
    // An integer with a prefix of seven bits (RFC 7541 section 5.1).
    match u8::try_from(text.len()) {
        Ok(length) if length < 127 => block.push(length),
        _ => {
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push(128 | (rest % 128) as u8);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend(text.as_bytes());
}

/// A big-endian number of four bytes; 0 where they are missing.
fn number(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

fn length32(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("messages are small")
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let mut client = Client::call("localhost", "/a.B/C", "token");
        client.take_outbound();
        client
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = length32(payload.len())[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let first = frame(DATA, 0, &[0, 0, 0, 0, 3, b'a', b'b']);
        let second = frame(DATA, PADDED, &[1, b'c', 0, 0, 0, 0, 1, b'd', 0]);
        let bytes = [first, second].concat();
        for cut in 0..bytes.len() {
            let (mut client, mut messages) = (client(), Vec::new());
            client.receive(&bytes[..cut], &mut messages).unwrap();
            client.receive(&bytes[cut..], &mut messages).unwrap();
            assert_eq!(messages, [b"abc".to_vec(), b"d".to_vec()], "cut at {cut}");
        }
    }

    #[test]
    fn a_message_is_sent_in_one_frame() {
        let mut client = client();
        client.send(b"xy").unwrap();
        assert_eq!(
            client.take_outbound(),
            frame(DATA, 0, &[0, 0, 0, 0, 2, b'x', b'y'])
        );
    }

    #[test]
    fn settings_and_pings_are_answered() {
        let (mut client, mut messages) = (client(), Vec::new());
        client
            .receive(&frame(SETTINGS, 0, &[]), &mut messages)
            .unwrap();
        client
            .receive(&frame(PING, 0, b"12345678"), &mut messages)
            .unwrap();
        let mut answers = Client::call("", "", "");
        answers.take_outbound();
        answers.frame(SETTINGS, ACK, 0, &[]);
        answers.frame(PING, ACK, 0, b"12345678");
        assert_eq!(client.take_outbound(), answers.take_outbound());
    }

    #[test]
    fn the_server_can_end_it() {
        let mut messages = Vec::new();
        let mut end = |frame: &[u8]| client().receive(frame, &mut messages);
        assert_eq!(
            end(&frame(HEADERS, END_HEADERS | END_STREAM, &[])),
            Err(Ended::Stream)
        );
        assert_eq!(
            end(&frame(RST_STREAM, 0, &[0, 0, 0, 8])),
            Err(Ended::Reset(8))
        );
        assert_eq!(
            end(&frame(GOAWAY, 0, &[0, 0, 0, 1, 0, 0, 0, 2])),
            Err(Ended::Goodbye(2))
        );
    }

    #[test]
    fn nothing_is_sent_beyond_the_window() {
        let mut client = client();
        let message = vec![0; 60_000];
        client.send(&message).unwrap();
        let mut update = frame(WINDOW_UPDATE, 0, &60_000_u32.to_be_bytes());
        client.receive(&update, &mut Vec::new()).unwrap();
        // Of the connection.
        update[8] = 0;
        client.receive(&update, &mut Vec::new()).unwrap();
        client.send(&message).unwrap();
        assert_eq!(client.send(&message), Err(Ended::Blocked));
    }
}
