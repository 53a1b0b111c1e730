//! The language of `templates.txt`, which explains it.

const TEMPLATES: &str = include_str!("templates.txt");

/// What fills the holes of a template.
pub(super) type Holes<'a> = &'a [(&'a str, &'a [u8])];

/// The bytes of one template.
///
/// # Panics
/// If `templates.txt` or a caller is wrong.
pub(super) fn render(name: &str, flags: &[&str], holes: Holes<'_>) -> Vec<u8> {
    let heading = format!("[{name}]");
    let lines = TEMPLATES
        .lines()
        .map(|line| line.split_once('#').map_or(line, |(line, _)| line).trim())
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    // The innermost package last.
    let mut open = vec![Vec::new()];
    for line in lines {
        if let Some(line) = counted(line, flags) {
            fill(line, holes, &mut open);
        }
    }
    match <[Vec<u8>; 1]>::try_from(open) {
        Ok([bytes]) if !bytes.is_empty() => bytes,
        _ => panic!("no template {name}, or a package in it stays open"),
    }
}

/// The line without its conditions, if they hold.
fn counted<'a>(mut line: &'a str, flags: &[&str]) -> Option<&'a str> {
    while let Some(rest) = line.strip_prefix(['?', '!']) {
        let (flag, after) = rest.split_once(' ')?;
        if flags.contains(&flag) != line.starts_with('?') {
            return None;
        }
        line = after;
    }
    Some(line)
}

fn fill(line: &str, holes: Holes<'_>, open: &mut Vec<Vec<u8>>) {
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut length = 1;
        match rest.as_bytes()[0] {
            b'(' => open.push(Vec::new()),
            b')' => {
                let body = open.pop().unwrap_or_default();
                append(open, &package(&body));
            }
            b'<' => {
                length = rest.find('>').map_or(rest.len(), |end| end + 1);
                let hole = rest[..length].trim_matches(['<', '>']);
                let found = holes.iter().find(|(name, _)| *name == hole);
                append(open, found.unwrap_or_else(|| panic!("no {hole}")).1);
            }
            _ => {
                length = 2;
                let byte = rest.get(..2).and_then(|digits| hex::decode(digits).ok());
                append(open, &byte.unwrap_or_else(|| panic!("no byte: {rest}")));
            }
        }
        rest = rest[length..].trim_start();
    }
}

fn append(open: &mut [Vec<u8>], bytes: &[u8]) {
    match open.last_mut() {
        Some(innermost) => innermost.extend(bytes),
        None => panic!("a package ends that did not begin"),
    }
}

/// `PkgLength` before what it counts, itself included (ACPI 6.5, 20.2.4).
fn package(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 4);
    if body.len() + 1 < 1 << 6 {
        out.push((body.len() + 1) as u8);
    } else {
        // The number of bytes after the first, each of 8 bits beside its 4.
        let more = (1..=3).find(|more| body.len() + 1 + more < 1 << (4 + 8 * more));
        let more = more.unwrap_or_else(|| panic!("a package of {} bytes", body.len()));
        let length = body.len() + 1 + more;
        out.push((more << 6 | length & 0xf) as u8);
        out.extend(&(length >> 4).to_le_bytes()[..more]);
    }
    out.extend(body);
    out
}

#[cfg(test)]
mod tests {
    use super::package;

    #[test]
    fn package_lengths_count_themselves() {
        for (body, start) in [
            (0, &[0x01][..]),
            (62, &[0x3f]),
            (63, &[0x41, 0x04]),
            (4093, &[0x4f, 0xff]),
            (4094, &[0x81, 0x00, 0x01]),
            (0xf_fffc, &[0x8f, 0xff, 0xff]),
            (0xf_fffd, &[0xc1, 0x00, 0x00, 0x01]),
        ] {
            assert!(package(&vec![0; body]).starts_with(start), "{body}");
        }
    }
}
