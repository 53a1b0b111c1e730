//! Lists of references, and what holds for all that are read: both of git's forms say
//! the same.

use attest::{TagsError, UpstreamTags};
use fake_tee::tags::packet;

use crate::{memory, must_be_printable, write_seed_files};

/// Of all that reading allocates: an entry a line of 44 bytes.
const FIXED_BYTES: usize = 64 << 10;
const BYTES_PER_BYTE: usize = 16;

/// The longest content of a packet.
const MAX_PACKET: usize = 65_516;

fn bounded(
    data: &[u8],
    read: fn(&[u8]) -> Result<UpstreamTags, TagsError>,
) -> Option<UpstreamTags> {
    let tags = memory::bounded(data.len(), FIXED_BYTES, BYTES_PER_BYTE, || read(data));
    if let Err(error) = &tags {
        must_be_printable(&error.to_string());
    }
    tags.ok()
}

/// Reads an advertisement; one that can be read says the same as the other form.
pub fn advertisement(data: &[u8]) {
    let Some(tags) = bounded(data, UpstreamTags::from_advertisement) else {
        return;
    };
    let mut rest = data;
    let mut lines = Vec::new();
    let mut ends = 0;
    while let Some((digits, tail)) = rest.split_first_chunk::<4>() {
        let digits = std::str::from_utf8(digits).expect("ASCII");
        let length = usize::from_str_radix(digits, 16).expect("hex");
        ends += usize::from(length == 0);
        let (line, tail) = tail.split_at(length.saturating_sub(4));
        rest = tail;
        if ends == 1 && length > 0 {
            let line = line.split(|byte| *byte == 0).next().expect("a line");
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            lines.push([&line[..40], b"\t", &line[41..], b"\n"].concat());
        }
    }
    assert!(
        rest.is_empty() && ends == 2,
        "it ends behind its second end"
    );
    assert!(tags.len() <= lines.len());
    if !lines.is_empty() {
        assert_eq!(UpstreamTags::from_ls_remote(&lines.concat()), Ok(tags));
    }
}

/// As [`advertisement`], the other way.
pub fn ls_remote(data: &[u8]) {
    let Some(tags) = bounded(data, UpstreamTags::from_ls_remote) else {
        return;
    };
    let data = data.strip_suffix(b"\n").unwrap_or(data);
    let mut packets = packet("# service=git-upload-pack\n").into_bytes();
    packets.extend(b"0000");
    for (index, line) in data.split(|byte| *byte == b'\n').enumerate() {
        let end: &[u8] = if index == 0 { b"\0a b=c\n" } else { b"" };
        let line = [&line[..40], b" ", &line[41..], end].concat();
        if line.len() > MAX_PACKET {
            return;
        }
        packets.extend(format!("{:04x}", line.len() + 4).into_bytes());
        packets.extend(line);
    }
    packets.extend(b"0000");
    if packets.len() <= attest::MAX_TAGS_BYTES {
        assert_eq!(UpstreamTags::from_advertisement(&packets), Ok(tags));
    }
}

/// As [`write_seeds`](crate::write_seeds).
pub fn write_seeds(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    write_seed_files(seeds);
}
