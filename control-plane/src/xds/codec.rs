//! How messages of streams are framed: responses come encoded, requests are decoded as prost does it, but in
//! buffers of the size of what they hold.
//!
//! The codec of generated services keeps 16 KiB of buffers for every stream, which is most of what an idle
//! stream costs. A stream here waits far longer than it works.

use std::marker::PhantomData;

use prost::{
    Message,
    bytes::{BufMut as _, Bytes},
};
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf, EncodeBuf},
};

/// Buffers grow to what a message takes. The first piece is what a request that only acknowledges takes.
const PIECE: usize = 256;
/// Responses that are there at the same time travel in one frame up to this size.
const TOGETHER: usize = 16 << 10;

/// Takes messages as they go on the wire, decodes `D`.
#[derive(Debug)]
pub(super) struct Codec<D>(PhantomData<D>);

/// The encoding half.
#[derive(Debug)]
pub(super) struct Encoder;

/// The decoding half.
#[derive(Debug)]
pub(super) struct Decoder<D>(PhantomData<D>);

impl<D> Codec<D> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<D> codec::Codec for Codec<D>
where
    D: Message + Default + 'static,
{
    type Encode = Bytes;
    type Decode = D;
    type Encoder = Encoder;
    type Decoder = Decoder<D>;

    fn encoder(&mut self) -> Encoder {
        Encoder
    }

    fn decoder(&mut self) -> Decoder<D> {
        Decoder(PhantomData)
    }
}

impl codec::Encoder for Encoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // At once: growing piece by piece would copy it over and over.
        buffer.reserve(message.len());
        buffer.put(message);
        Ok(())
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
