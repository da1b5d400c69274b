//! Compression with fixed settings: the same input gives the same bytes on every machine.
//!
//! Each setting was chosen so that packing is never slower than `dpkg-deb` with the same algorithm and the result not
//! much larger. All encoders run on one thread, because the number of threads would show in the output.

use std::io::{self, BufReader, Read, Write};

/// How the members of a package, or an index, are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    /// gzip (RFC 1952), with time 0 and no name. Every tool reads it.
    Gzip,
    /// xz with CRC64 (CRC32 is what some embedded decoders need, dpkg reads both). Smallest and slowest.
    Xz,
    /// Zstandard (RFC 8878) with a checksum. Needs dpkg 1.21.18, which Debian 12 has.
    #[default]
    Zstd,
}

/// gzip's own default; 9 takes twice the time for 2 %.
const GZIP_LEVEL: u32 = 6;
/// On one thread this takes as long as dpkg-deb's preset 6 on two; the result is 11 % larger.
const XZ_PRESET: u32 = 4;
/// Dictionary of the preset. A smaller input gets a smaller one, which saves most of the set-up time.
const XZ_DICTIONARY: u32 = 4 << 20;
/// The level of dpkg-deb, in the same time, for what is large.
const ZSTD_LEVEL: i32 = 3;
/// Small inputs take no noticeable time at this level.
const ZSTD_LEVEL_SMALL: i32 = 9;
/// Largest input, in bytes, that is compressed with [`ZSTD_LEVEL_SMALL`]: a tenth of a second.
const ZSTD_SMALL: u64 = 2 << 20;

impl Compression {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Xz, Self::Zstd];

    /// The suffix of file and member names, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// What compresses a file of this name, by its suffix; None when it is not compressed.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|compression| name.ends_with(compression.suffix()))
    }

    /// An encoder that appends to `out`. `size` is the number of bytes that will be written, which must be exact.
    ///
    /// # Errors
    /// When the encoder cannot be set up, for want of memory.
    pub fn encoder<W: Write>(self, out: W, size: u64) -> io::Result<Encoder<W>> {
        Ok(Encoder(match self {
            Self::Gzip => Inner::Gzip(flate2::write::GzEncoder::new(
                out,
                flate2::Compression::new(GZIP_LEVEL),
            )),
            Self::Xz => Inner::Xz(liblzma::write::XzEncoder::new_stream(out, xz_stream(size)?)),
            Self::Zstd => {
                let level = if size <= ZSTD_SMALL {
                    ZSTD_LEVEL_SMALL
                } else {
                    ZSTD_LEVEL
                };
                let mut encoder = zstd::Encoder::new(out, level)?;
                encoder.set_pledged_src_size(Some(size))?;
                encoder.include_checksum(true)?;
                Inner::Zstd(Box::new(encoder))
            }
        }))
    }

    /// Compresses bytes in memory.
    ///
    /// # Errors
    /// When the encoder cannot be set up, for want of memory.
    pub fn compress(self, data: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder =
            self.encoder(Vec::with_capacity(data.len() / 4 + 64), data.len() as u64)?;
        encoder.write_all(data)?;
        encoder.finish()
    }

    /// A decoder. Several compressed streams one after the other are read as one.
    ///
    /// # Errors
    /// When the decoder cannot be set up, for want of memory.
    pub fn decoder<'a>(self, input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(input)),
            Self::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(input)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(BufReader::new(input))?),
        })
    }

    /// Decompresses bytes in memory.
    ///
    /// # Errors
    /// When the bytes are not what the name says, or cut off.
    pub fn decompress(self, data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.decoder(data)?.read_to_end(&mut out)?;
        Ok(out)
    }
}

/// A compressing writer; [`Encoder::finish`] gives the inner one back.
#[derive(Debug)]
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Gzip(flate2::write::GzEncoder<W>),
    Xz(liblzma::write::XzEncoder<W>),
    Zstd(Box<zstd::Encoder<'static, W>>),
}

impl<W: Write> std::fmt::Debug for Inner<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Xz(_) => "Xz",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl<W: Write> Encoder<W> {
    /// Writes the end of the compressed stream.
    ///
    /// # Errors
    /// What the inner writer returns; an error when the number of bytes is not the one that was announced.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Inner::Gzip(encoder) => encoder.finish(),
            Inner::Xz(encoder) => encoder.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Gzip(encoder) => encoder.write(buf),
            Inner::Xz(encoder) => encoder.write(buf),
            Inner::Zstd(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Gzip(encoder) => encoder.flush(),
            Inner::Xz(encoder) => encoder.flush(),
            Inner::Zstd(encoder) => encoder.flush(),
        }
    }
}

fn xz_stream(size: u64) -> io::Result<liblzma::stream::Stream> {
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    let mut options = LzmaOptions::new_preset(XZ_PRESET)?;
    let wanted = u32::try_from(size)
        .unwrap_or(XZ_DICTIONARY)
        .min(XZ_DICTIONARY)
        .next_power_of_two();
    options.dict_size(wanted.max(4096));
    let mut filters = Filters::new();
    filters.lzma2(&options);
    Ok(Stream::new_stream_encoder(&filters, Check::Crc64)?)
}

#[cfg(test)]
mod tests;
