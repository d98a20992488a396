//! A capture for Wireshark (`--record FILE.pcapng`): the blocks of the file, each written whole.
//!
//! The format is draft-ietf-opsawg-pcapng, in the byte order of little-endian machines. A block has its
//! length at both ends, so a file is readable up to its last block. `packet` makes IP packets of what
//! passed, `conversation` keeps the sequence numbers of a connection. Two crates could do that
//! (pcap-file, etherparse). They would bring eleven more, for fewer lines than their use would take.

mod conversation;
mod packet;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use super::Direction;
pub use conversation::{Conversation, End};
pub use packet::{Ends, datagram};

/// Block types. That of a section reads the same in both byte orders.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

/// The option that every block may have.
const COMMENT: u16 = 1;

/// Whether `path` names a capture.
pub fn is_capture(path: &Path) -> bool {
    has_suffix(path, "pcapng")
}

/// Whether `path` names a capture of the older format, which netkit does not write.
pub fn is_old_capture(path: &Path) -> bool {
    has_suffix(path, "pcap")
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case(suffix))
}

/// The blocks that begin a section: its header, and the interface of all its packets. They begin with
/// IP, and their times are in nanoseconds.
pub fn section() -> Vec<u8> {
    const BYTE_ORDER: u32 = 0x1a2b_3c4d;
    /// 1.0: two numbers of 16 bits.
    const VERSION: u32 = 1;
    /// A section that is as long as what follows.
    const LENGTH: u64 = u64::MAX;
    const APPLICATION: u16 = 4;
    /// `LINKTYPE_RAW`: the version of IP is that of each packet. The upper half is reserved.
    const RAW: u32 = 101;
    const NO_LIMIT: u32 = 0;
    const NAME: u16 = 2;
    const RESOLUTION: u16 = 9;
    const NANOSECONDS: u8 = 9;
    let mut out = Vec::new();
    block(SECTION, &mut out, |out| {
        put_u32(BYTE_ORDER, out);
        put_u32(VERSION, out);
        out.extend_from_slice(&LENGTH.to_le_bytes());
        let comment = "Bytes as the programs saw them, without TLS. Addresses, ports, times and ends are \
            real; sequence numbers, acknowledgements, windows and hop limits are made up.";
        option(COMMENT, comment.as_bytes(), out);
        option(
            APPLICATION,
            concat!("netkit ", env!("CARGO_PKG_VERSION")).as_bytes(),
            out,
        );
        end_options(out);
    });
    block(INTERFACE, &mut out, |out| {
        put_u32(RAW, out);
        put_u32(NO_LIMIT, out);
        option(NAME, b"netkit", out);
        option(RESOLUTION, &[NANOSECONDS], out);
        end_options(out);
    });
    out
}

/// Adds the block of a packet that begins with IP.
pub fn packet(
    since_epoch: Duration,
    direction: Direction,
    bytes: &[u8],
    comment: &str,
    out: &mut Vec<u8>,
) {
    /// The first interface of the section.
    const FIRST: u32 = 0;
    const FLAGS: u16 = 2;
    /// Far more than a name has.
    const MOST_COMMENT: usize = 1000;
    let time = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
    let flags: u32 = match direction {
        Direction::Received => 1,
        Direction::Sent => 2,
    };
    block(PACKET, out, |out| {
        put_u32(FIRST, out);
        // The upper half comes first, in both byte orders.
        out.extend_from_slice(&time.to_le_bytes()[4..]);
        out.extend_from_slice(&time.to_le_bytes()[..4]);
        // As captured, and as it passed.
        put_u32(length(bytes), out);
        put_u32(length(bytes), out);
        out.extend_from_slice(bytes);
        pad(out);
        option(FLAGS, &flags.to_le_bytes(), out);
        if !comment.is_empty() {
            let comment: String = comment.chars().take(MOST_COMMENT).collect();
            option(COMMENT, comment.as_bytes(), out);
        }
        end_options(out);
    });
}

/// Checks that a section may follow what `file` has: a capture whose last block is whole.
pub fn check_appending(file: &File) -> io::Result<()> {
    const SMALLEST: u64 = 12;
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(());
    }
    let word = |at: u64| -> io::Result<[u8; 4]> {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, at)?;
        Ok(word)
    };
    if size < SMALLEST || word(0)? != SECTION.to_le_bytes() {
        return Err(io::Error::other("it is no pcapng file"));
    }
    let last = word(size - 4)?;
    let is_whole = [u32::from_le_bytes(last), u32::from_be_bytes(last)]
        .into_iter()
        .map(u64::from)
        .filter(|length| (SMALLEST..=size).contains(length))
        .any(|length| word(size - length + 4).is_ok_and(|first| first == last));
    if !is_whole || !size.is_multiple_of(4) {
        return Err(io::Error::other("its last block is cut short"));
    }
    Ok(())
}

/// Adds a block around what `body` adds.
fn block(kind: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_u32(kind, out);
    put_u32(0, out);
    body(out);
    let length = length(&out[start..]) + 4;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    put_u32(length, out);
}

fn option(code: u16, value: &[u8], out: &mut Vec<u8>) {
    put_u16(code, out);
    put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX), out);
    out.extend_from_slice(value);
    pad(out);
}

fn end_options(out: &mut Vec<u8>) {
    put_u32(0, out);
}

/// Up to a multiple of four: all that begins a block or follows in it has such a length.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn put_u16(number: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u32(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "../../../tests/harness/pcapng.rs"]
mod reader;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use proptest::prelude::*;

    use super::reader::{packets, sections, streams};
    use super::*;
    use Direction::{Received, Sent};

    #[derive(Clone, Debug)]
    enum Event {
        Passed(Direction, Vec<u8>),
        Ended(Direction, End),
        Broke,
    }

    fn direction() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Sent), Just(Received)]
    }

    fn event() -> impl Strategy<Value = Event> {
        let size = prop_oneof![9 => 1..2_000_usize, 1 => 60_000..200_000_usize];
        prop_oneof![
            8 => (direction(), size).prop_map(|(way, size)| {
                Event::Passed(way, (0..=250).cycle().take(size).collect())
            }),
            1 => direction().prop_map(|way| Event::Ended(way, End::Fin)),
            1 => direction().prop_map(|way| Event::Ended(way, End::Reset)),
            1 => Just(Event::Broke),
        ]
    }

    fn ends() -> impl Strategy<Value = Ends> {
        let one = any::<(IpAddr, u16)>().prop_map(SocketAddr::from);
        (one.clone(), one).prop_filter_map("one address twice", |(local, remote)| {
            let ends = Ends::new(local, remote);
            let (from, to) = ends.towards(Sent);
            (from != to).then_some(ends)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn a_connection_is_read_back_as_it_happened(
            ends in ends(),
            opener in direction(),
            events in prop::collection::vec(event(), 0..30),
            micros in any::<u32>(),
            comment in ".{0,40}",
        ) {
            let time = Duration::from_micros(micros.into());
            let mut out = section();
            let mut conversation = Conversation::open(ends, opener, time, &comment, &mut out);
            let mut bytes = [Vec::new(), Vec::new()];
            let mut finished = [false; 2];
            for event in events {
                match event {
                    // As connections do: nothing follows the end of a side, or a reset.
                    Event::Passed(way, piece) if !finished[way as usize] => {
                        conversation.passed(way, &piece, time, &mut out);
                        bytes[way as usize].extend_from_slice(&piece);
                    }
                    Event::Ended(way, end) => {
                        conversation.ended(way, end, time, &mut out);
                        finished[way as usize] = true;
                        if end == End::Reset {
                            break;
                        }
                    }
                    // From then on nothing can be sent.
                    Event::Broke => {
                        conversation.broke(time, &mut out);
                        finished[Sent as usize] = true;
                    }
                    Event::Passed(..) => {}
                }
            }
            let packets = packets(&out);
            let streams = streams(&packets);
            prop_assert_eq!(streams.len(), 1);
            let (client, server) = ends.towards(opener);
            prop_assert_eq!((streams[0].client, streams[0].server), (client, server));
            prop_assert_eq!(streams[0].is_ours, opener == Sent);
            prop_assert!(streams[0].to_server == bytes[opener as usize]);
            prop_assert!(streams[0].to_client == bytes[opener.opposite() as usize]);
            prop_assert_eq!(&streams[0].comment, &comment);
            prop_assert!(packets.iter().all(|packet| packet.nanos == u64::from(micros) * 1000));
        }

        #[test]
        fn a_datagram_is_read_back(
            ends in ends(),
            way in direction(),
            size in prop_oneof![0..100_usize, 65_000..=65_507_usize],
            seed: u8,
        ) {
            let payload: Vec<u8> = (seed..=250).cycle().take(size).collect();
            let mut out = section();
            packet(Duration::from_nanos(7), way, &datagram(ends, way, &payload), "", &mut out);
            let packets = packets(&out);
            prop_assert_eq!(packets.len(), 1);
            prop_assert_eq!((packets[0].from, packets[0].to), ends.towards(way));
            prop_assert_eq!((packets[0].is_sent, packets[0].tcp), (way == Sent, None));
            prop_assert!(packets[0].payload == payload);
        }
    }

    fn conversation(out: &mut Vec<u8>) -> Conversation {
        let ends = Ends::new(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        Conversation::open(ends, Sent, Duration::ZERO, "", out)
    }

    fn ends_of(events: &[Event]) -> String {
        let mut out = section();
        let mut conversation = conversation(&mut out);
        for event in events {
            match event {
                Event::Passed(way, bytes) => {
                    conversation.passed(*way, bytes, Duration::ZERO, &mut out);
                }
                Event::Ended(way, end) => {
                    conversation.ended(*way, *end, Duration::ZERO, &mut out);
                }
                Event::Broke => conversation.broke(Duration::ZERO, &mut out),
            }
        }
        streams(&packets(&out)).remove(0).ends
    }

    #[test]
    fn each_side_ends_as_it_did_and_once() {
        use Event::{Broke, Ended, Passed};
        let fin = |way| Ended(way, End::Fin);
        let reset = |way| Ended(way, End::Reset);
        for (events, ends) in [
            (vec![], ""),
            (vec![fin(Sent), fin(Sent)], "client FIN"),
            (
                vec![fin(Received), fin(Sent), reset(Sent)],
                "server FIN, client FIN",
            ),
            (
                vec![fin(Received), reset(Sent), fin(Sent)],
                "server FIN, client RST",
            ),
            (vec![reset(Received), reset(Sent)], "server RST"),
            // What was received before the reset is read after a write has met it.
            (
                vec![Broke, Passed(Received, vec![1]), reset(Received)],
                "server RST",
            ),
            (vec![Broke, fin(Received), reset(Sent)], "server RST"),
            (
                vec![Broke, fin(Sent), reset(Sent)],
                "client FIN, server RST",
            ),
            (vec![fin(Received), Broke], "server FIN, server RST"),
        ] {
            assert_eq!(ends_of(&events), ends, "{events:?}");
        }
    }

    #[test]
    fn a_later_connection_of_the_same_ports_has_other_numbers() {
        let ends = Ends::new(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let first = |micros| {
            let mut out = section();
            Conversation::open(ends, Sent, Duration::from_micros(micros), "", &mut out);
            packets(&out)[0].tcp
        };
        assert_ne!(first(1_000_000), first(1_000_004));
    }

    #[test]
    fn one_direction_alone_is_acknowledged_too() {
        let mut out = section();
        let mut conversation = conversation(&mut out);
        let piece = vec![0; 256 << 10];
        for _ in 0..100 {
            conversation.passed(Sent, &piece, Duration::ZERO, &mut out);
        }
        let streams = streams(&packets(&out));
        assert_eq!(streams[0].to_server.len(), 100 * piece.len());
    }

    /// They have 32 bits: those of a transfer over 4 GiB begin again at 0.
    #[test]
    fn sequence_numbers_go_on_behind_the_last() {
        let ends = Ends::new(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let just_before = Duration::from_micros(4 * u64::from(u32::MAX - 70_000));
        let mut out = section();
        let mut conversation = Conversation::open(ends, Sent, just_before, "", &mut out);
        let piece: Vec<u8> = (0..=250).cycle().take(150_000).collect();
        for way in [Sent, Received] {
            conversation.passed(way, &piece, just_before, &mut out);
            conversation.ended(way, End::Fin, just_before, &mut out);
        }
        let streams = streams(&packets(&out));
        assert!(streams[0].to_server == piece && streams[0].to_client == piece);
        assert_eq!(streams[0].ends, "client FIN, server FIN");
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        let ends = |local: &str, remote: &str| {
            let ends = Ends::new(local.parse().unwrap(), remote.parse().unwrap());
            let (from, to) = ends.towards(Received);
            format!("{from} {to}")
        };
        assert_eq!(
            ends("[::ffff:127.0.0.1]:1", "[::ffff:10.0.0.1]:2"),
            "10.0.0.1:2 127.0.0.1:1"
        );
        assert_eq!(
            ends("127.0.0.1:1", "[::1]:2"),
            "[::1]:2 [::ffff:127.0.0.1]:1"
        );
    }

    #[test]
    fn a_section_follows_whole_blocks_only() {
        let check = |name: &str, bytes: &[u8]| {
            let path = std::env::temp_dir().join(format!("netkit-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            let checked = check_appending(&File::open(&path).unwrap());
            std::fs::remove_file(path).unwrap();
            checked.map_err(|error| error.to_string())
        };
        let mut whole = section();
        conversation(&mut whole);
        assert_eq!(check("empty", b""), Ok(()));
        assert_eq!(check("whole", &whole), Ok(()));
        for cut in 1..28 {
            let cut = check("cut", &whole[..whole.len() - cut]);
            assert_eq!(cut, Err("its last block is cut short".to_owned()));
        }
        for other in [&b"a"[..], b"\n\n\n\n", b"GET / HTTP/1.1\r\n\r\n"] {
            assert_eq!(
                check("other", other),
                Err("it is no pcapng file".to_owned())
            );
        }
        assert_eq!(sections(&[section(), whole].concat()).len(), 2);
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(
            has_section: bool,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..64),
            last: u32,
        ) {
            if has_section {
                bytes.splice(0..0, SECTION.to_le_bytes());
            }
            bytes.extend((last % 80).to_le_bytes());
            let path = std::env::temp_dir().join(format!("netkit-{}-any", std::process::id()));
            std::fs::write(&path, &bytes).unwrap();
            let checked = check_appending(&File::open(&path).unwrap());
            std::fs::remove_file(path).unwrap();
            if checked.is_ok() {
                prop_assert!(bytes.starts_with(&SECTION.to_le_bytes()) && bytes.len() % 4 == 0);
            }
        }
    }
}
