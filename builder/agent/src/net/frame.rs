//! Frames: how messages are told apart on a stream of bytes.
//!
//! A frame is its length (4 bytes, big-endian, itself not counted), its kind (1 byte), a number (8 bytes, big-endian) by
//! which a response is matched with its request, and a body, which is JSON.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of a frame at most, without those that tell its length.
pub const MAX_FRAME: usize = 64 * 1024;
/// Bytes of a body at most.
pub const MAX_BODY: usize = MAX_FRAME - HEADER;

/// Bytes of kind and number.
const HEADER: usize = 9;
/// Bytes of the length.
const LENGTH: usize = 4;
/// Bytes that are read at once.
const CHUNK: usize = 8 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first frame of each side.
    Hello,
    /// The last frame: why the connection is closed.
    Farewell,
    /// A request.
    Request,
    /// The response to the request with the same number.
    Response,
    /// Asks for a [`Kind::Pong`] with the same number.
    Ping,
    /// A sign of life.
    Pong,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Hello,
        Self::Farewell,
        Self::Request,
        Self::Response,
        Self::Ping,
        Self::Pong,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Farewell => 2,
            Self::Request => 3,
            Self::Response => 4,
            Self::Ping => 5,
            Self::Pong => 6,
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Which request it belongs to.
    pub number: u64,
    /// JSON; may be empty where the kind says it all.
    pub body: Vec<u8>,
}

/// What cannot be a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`], or too short to be one.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// An unknown kind.
    #[error("a frame of kind {0}")]
    Kind(u8),
    /// The connection ended inside of a frame, or failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Frame {
    /// A frame without a body.
    #[must_use]
    pub const fn bare(kind: Kind, number: u64) -> Self {
        Self {
            kind,
            number,
            body: Vec::new(),
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`FrameError::Length`] when the body is longer than [`MAX_BODY`].
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let length = HEADER + self.body.len();
        let told = u32::try_from(length)
            .ok()
            .filter(|_| length <= MAX_FRAME)
            .ok_or(FrameError::Length(length))?;
        let mut bytes = Vec::with_capacity(LENGTH + length);
        bytes.extend_from_slice(&told.to_be_bytes());
        bytes.push(self.kind.code());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    /// Takes the first frame off a buffer; nothing while it is not complete. A wrong length or kind is found as soon as
    /// its bytes are there, so that nobody makes us wait for what we would refuse.
    ///
    /// # Errors
    /// [`FrameError::Length`], [`FrameError::Kind`]. The buffer is of no use after that.
    pub fn decode(buffer: &mut Vec<u8>) -> Result<Option<Self>, FrameError> {
        let Some(length) = array::<LENGTH>(buffer, 0).map(u32::from_be_bytes) else {
            return Ok(None);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(HEADER..=MAX_FRAME).contains(&length) {
            return Err(FrameError::Length(length));
        }
        let Some(&code) = buffer.get(LENGTH) else {
            return Ok(None);
        };
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .ok_or(FrameError::Kind(code))?;
        let end = LENGTH + length;
        let (Some(number), true) = (array::<8>(buffer, LENGTH + 1), buffer.len() >= end) else {
            return Ok(None);
        };
        let body = buffer[LENGTH + HEADER..end].to_vec();
        buffer.drain(..end);
        Ok(Some(Self {
            kind,
            number: u64::from_be_bytes(number),
            body,
        }))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Reads frames off a stream. Never holds more than one frame and one chunk.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: Vec<u8>,
    chunk: Box<[u8]>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from the beginning of a stream.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
        }
    }

    /// The next frame; nothing at the end of the stream. Safe to be dropped before it is ready: no byte is lost.
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                if self.buffer.is_empty() {
                    // A long frame is rare; its memory is not kept for each of many connections.
                    self.buffer.shrink_to(CHUNK);
                }
                return Ok(Some(frame));
            }
            let count = self.stream.read(&mut self.chunk).await?;
            if count == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
                };
            }
            self.buffer.extend_from_slice(&self.chunk[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = (
            prop::sample::select(&Kind::ALL[..]),
            any::<u64>(),
            prop::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(kind, number, body)| Frame { kind, number, body });
        prop::collection::vec(frame, 0..8)
    }

    /// A stream that gives its bytes in pieces of these lengths, and then ends.
    struct Pieces(Vec<u8>, usize, usize);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            let end = (self.1 + self.2)
                .min(self.0.len())
                .min(self.1 + buffer.remaining());
            buffer.put_slice(&self.0[self.1..end]);
            self.1 = end;
            std::task::Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_is_cut(frames in frames(), piece in 1..500_usize) {
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().unwrap()).collect();
            let mut reader = FrameReader::new(Pieces(bytes, 0, piece));
            for frame in frames {
                prop_assert_eq!(run(reader.next()).unwrap(), Some(frame));
            }
            prop_assert!(run(reader.next()).unwrap().is_none());
        }

        #[test]
        fn a_stream_that_is_cut_off_is_an_error(frames in frames(), cut in 1..300_usize) {
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().unwrap()).collect();
            let kept = bytes.len().saturating_sub(cut);
            let mut reader = FrameReader::new(Pieces(bytes[..kept].to_vec(), 0, 4096));
            let mut read = 0;
            let whole = loop {
                match run(reader.next()) {
                    Ok(Some(frame)) => read += frame.encode().unwrap().len(),
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            // The end is clean exactly where a frame ended.
            prop_assert_eq!(whole, read == kept);
        }

        #[test]
        fn arbitrary_bytes_neither_panic_nor_fill_the_memory(
            bytes in prop::collection::vec(any::<u8>(), 0..4000),
            small in any::<bool>(),
            piece in 1..5000_usize,
        ) {
            let mut bytes = bytes;
            if small && bytes.len() > 3 {
                // Otherwise nearly every length is refused at once.
                (bytes[0], bytes[1]) = (0, 0);
            }
            let mut reader = FrameReader::new(Pieces(bytes, 0, piece));
            while let Ok(Some(frame)) = run(reader.next()) {
                prop_assert!(frame.body.len() <= MAX_BODY);
            }
            prop_assert!(reader.buffer.capacity() <= 2 * (MAX_FRAME + LENGTH + CHUNK));
        }
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_kept() {
        for length in [0, 8, MAX_FRAME + 1, u32::MAX as usize] {
            let mut bytes = u32::try_from(length).unwrap().to_be_bytes().to_vec();
            assert!(
                matches!(Frame::decode(&mut bytes), Err(FrameError::Length(_))),
                "{length}"
            );
        }
        let mut frame = Frame::bare(Kind::Request, 1);
        frame.body = vec![b' '; MAX_BODY];
        let mut bytes = frame.encode().unwrap();
        assert_eq!(Frame::decode(&mut bytes).unwrap(), Some(frame.clone()));
        frame.body.push(b' ');
        assert!(frame.encode().is_err());
        assert!(matches!(
            Frame::decode(&mut vec![0, 0, 0, 9, 0]),
            Err(FrameError::Kind(0))
        ));
    }
}
