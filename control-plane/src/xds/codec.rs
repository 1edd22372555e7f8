//! How messages of streams are encoded: as prost does it, but in buffers of the size of what they hold.
//!
//! The codec of generated services keeps 16 KiB of buffers for every stream, which is most of what an idle
//! stream costs. A stream here waits far longer than it works.

use std::marker::PhantomData;

use prost::{Message, bytes::BufMut as _};
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf, EncodeBuf},
};

/// Buffers grow to what a message takes. The first piece is what a request that only acknowledges takes.
const PIECE: usize = 256;
/// Responses that are there at the same time travel in one frame up to this size.
const TOGETHER: usize = 16 << 10;

/// Encodes `E`, decodes `D`.
#[derive(Debug)]
pub(super) struct Codec<E, D>(PhantomData<(E, D)>);

/// The encoding half.
#[derive(Debug)]
pub(super) struct Encoder<E>(PhantomData<E>);

/// The decoding half.
#[derive(Debug)]
pub(super) struct Decoder<D>(PhantomData<D>);

impl<E, D> Codec<E, D> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> codec::Codec for Codec<E, D>
where
    E: Message + 'static,
    D: Message + Default + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = Encoder<E>;
    type Decoder = Decoder<D>;

    fn encoder(&mut self) -> Encoder<E> {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> Decoder<D> {
        Decoder(PhantomData)
    }
}

impl<E: Message> codec::Encoder for Encoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, message: E, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // At once: growing piece by piece would copy it over and over.
        buffer.reserve(message.encoded_len());
        let room = buffer.remaining_mut();
        message
            .encode(buffer)
            .map_err(|_| Status::internal(format!("a message does not fit {room} bytes")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(0, TOGETHER)
    }
}

impl<D: Message + Default> codec::Decoder for Decoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        D::decode(buffer)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(PIECE, TOGETHER)
    }
}
