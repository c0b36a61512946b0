//! Protobuf messages with small first buffers.
//!
//! tonic sets aside 8 KiB for each message it encodes and again for each it decodes. Most requests and
//! answers here are a few hundred bytes, and on a loaded node the difference shows; a larger message
//! makes its buffer grow.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec as TonicCodec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// First size of a buffer.
const BUFFER_BYTES: usize = 1 << 10;
/// Bytes of a stream that are gathered before they are sent. tonic's own number.
const YIELD_BYTES: usize = 32 << 10;

/// The codec of all services here.
#[derive(Debug, Clone)]
pub struct Codec<Out, In>(PhantomData<(Out, In)>);

impl<Out, In> Default for Codec<Out, In> {
    fn default() -> Self {
        Codec(PhantomData)
    }
}

impl<Out, In> TonicCodec for Codec<Out, In>
where
    Out: Message + Send + 'static,
    In: Message + Default + Send + 'static,
{
    type Encode = Out;
    type Decode = In;
    type Encoder = ProstEncoder<Out>;
    type Decoder = ProstDecoder<In>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
