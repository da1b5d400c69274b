//! What tcpdump(8) wrote, as streams of bytes.

use std::{collections::BTreeMap, net::Ipv4Addr};

/// An end of a connection.
pub type End = (Ipv4Addr, u16);

/// One direction of a TCP connection.
#[derive(Debug, Default, Clone)]
pub struct Stream {
    /// Segments by their place in the stream.
    segments: BTreeMap<i64, Vec<u8>>,
    /// Sequence number of the first byte that counts.
    base: Option<u32>,
    /// Its beginning was seen.
    pub begun: bool,
}

impl Stream {
    fn add(&mut self, sequence: u32, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let base = *self.base.get_or_insert(sequence);
        let place = i64::from(sequence.wrapping_sub(base).cast_signed());
        let kept = self.segments.entry(place).or_default();
        // What was sent again may be longer.
        if bytes.len() > kept.len() {
            *kept = bytes.to_vec();
        }
    }

    /// The bytes in their order, and whether none is missing between them. A beginning that was seen leaves out what came before
    /// it (probes of a sleeping peer).
    #[must_use]
    pub fn bytes(&self) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        let mut whole = true;
        let mut next: Option<i64> = self.begun.then_some(0);
        for (place, bytes) in &self.segments {
            let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            let at = *next.get_or_insert(*place);
            whole &= *place <= at;
            let known = usize::try_from(at - place).unwrap_or(0);
            if known < bytes.len() {
                all.extend_from_slice(&bytes[known..]);
                next = Some(place + length);
            }
        }
        (all, whole)
    }
}

/// A TCP connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Who opened it; of one that was open before, who has the higher port.
    pub client: End,
    /// The other one.
    pub server: End,
    /// From the client.
    pub up: Stream,
    /// From the server.
    pub down: Stream,
}

/// All that was on the wire.
#[derive(Debug, Default)]
pub struct Capture {
    /// Frames in all.
    pub frames: usize,
    /// TCP connections.
    pub connections: Vec<Connection>,
    /// Everything else: what it is, and how often.
    pub others: BTreeMap<String, usize>,
    /// Bytes of datagrams and of everything that is not understood, to be searched all the same.
    pub loose: Vec<Vec<u8>>,
}

fn number(bytes: &[u8], at: usize, length: usize) -> u32 {
    bytes[at..at + length]
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn port(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(number(bytes, at, 4))
}

/// Reads a file in the format of pcap-savefile(5), little-endian, of an Ethernet.
///
/// # Panics
/// Where it is another one.
#[must_use]
pub fn read(file: &[u8]) -> Capture {
    let little = |at: usize| {
        let bytes = file[at..at + 4].try_into().expect("four bytes");
        usize::try_from(u32::from_le_bytes(bytes)).expect("64 bits")
    };
    assert!(
        [0xa1b2_c3d4, 0xa1b2_3c4d].contains(&little(0)) && little(20) == 1,
        "not a capture of an Ethernet"
    );
    let mut capture = Capture::default();
    let mut open: BTreeMap<(End, End), usize> = BTreeMap::new();
    let mut at = 24;
    while at + 16 <= file.len() {
        let length = little(at + 8);
        let whole = little(at + 12);
        assert_eq!(length, whole, "a frame was cut short: tcpdump -s 0");
        at += 16;
        // tcpdump was ended while it wrote.
        let Some(frame) = file.get(at..at + length) else {
            break;
        };
        at += length;
        capture.frames += 1;
        dissect(&mut capture, &mut open, frame);
    }
    capture
}

fn dissect(capture: &mut Capture, open: &mut BTreeMap<(End, End), usize>, frame: &[u8]) {
    let mut other = |what: String, bytes: &[u8]| {
        *capture.others.entry(what).or_default() += 1;
        capture.loose.push(bytes.to_vec());
    };
    match number(frame, 12, 2) {
        0x0800 => {}
        0x0806 => return other("ARP".into(), frame),
        // Neighbour discovery and group membership of the link-local addresses that every interface has.
        0x86dd if frame.get(20) == Some(&58) || frame.get(20) == Some(&0) => {
            return other("ICMPv6".into(), frame);
        }
        kind => return other(format!("frames of type {kind:#06x}"), frame),
    }
    let packet = &frame[14..];
    let header = usize::from(packet[0] & 15) * 4;
    let end = usize::from(port(packet, 2)).min(packet.len());
    let (from, to) = (address(packet, 12), address(packet, 16));
    let payload = &packet[header..end];
    match packet[9] {
        6 => {}
        1 => return other("ICMP".into(), payload),
        2 => return other("IGMP".into(), payload),
        17 => return other(format!("UDP to port {}", port(payload, 2)), payload),
        protocol => return other(format!("IP protocol {protocol}"), payload),
    }
    let (source, target) = ((from, port(payload, 0)), (to, port(payload, 2)));
    let sequence = number(payload, 4, 4);
    let flags = payload[13];
    let bytes = &payload[usize::from(payload[12] >> 4) * 4..];
    let (syn, ack) = (flags & 2 != 0, flags & 16 != 0);
    let key = (source.min(target), source.max(target));
    if syn && !ack {
        let known = open.get(&key).map(|index| &capture.connections[*index]);
        // Asked again, or the same ports a second time.
        if known.is_none_or(|known| known.up.base != Some(sequence.wrapping_add(1))) {
            open.insert(key, capture.connections.len());
            capture.connections.push(Connection {
                client: source,
                server: target,
                up: Stream::default(),
                down: Stream::default(),
            });
        }
    }
    let index = *open.entry(key).or_insert_with(|| {
        let source_asks = source.1 > target.1;
        capture.connections.push(Connection {
            client: if source_asks { source } else { target },
            server: if source_asks { target } else { source },
            up: Stream::default(),
            down: Stream::default(),
        });
        capture.connections.len() - 1
    });
    let connection = &mut capture.connections[index];
    let stream = match source == connection.client {
        true => &mut connection.up,
        false => &mut connection.down,
    };
    if syn {
        (stream.base, stream.begun) = (Some(sequence.wrapping_add(1)), true);
    } else {
        stream.add(sequence, bytes);
    }
}
