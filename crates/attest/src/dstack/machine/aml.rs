//! AML, the byte code of ACPI tables (ACPI 6.5, chapter 20), written from terms.
//!
//! A term is named as in ASL, the language in which people read AML. Only what QEMU's
//! tables use is here.

mod resource;

pub(super) use self::resource::{Resource, Trigger};

/// Address spaces of an operation region.
pub(super) const SYSTEM_IO: u8 = 1;
pub(super) const PCI_CONFIG: u8 = 2;

/// How a field is read and written: its unit, and what a write gives to the bits of
/// the unit that are outside the field.
pub(super) const BYTE: u8 = 1;
pub(super) const DWORD: u8 = 3;
pub(super) const PRESERVE: u8 = 0;
pub(super) const ZEROS: u8 = 2 << 5;

/// A term of AML.
#[derive(Clone, Copy)]
pub(super) enum Term<'a> {
    // Data.
    Int(u64),
    Text(&'a str),
    /// The EISA identifier `PNP` and four hexadecimal digits.
    Pnp(u16),
    Uuid(u128),
    Buffer(&'a [u8]),
    Resources(&'a [Resource<'a>]),
    Package(&'a [Term<'a>]),
    /// A package of so many elements; the given ones are written already.
    PackageOf(u8, &'a [u8]),
    /// Terms that are written already.
    Written(&'a [u8]),

    // Places.
    Path(&'a str),
    Local(u8),
    Arg(u8),
    Debug,
    /// No place: only the surrounding term uses the result.
    Nowhere,

    // Objects.
    Scope(&'a str, &'a [Term<'a>]),
    Device(&'a str, &'a [Term<'a>]),
    Processor(&'a str, u8, &'a [Term<'a>]),
    Name(&'a str, &'a Term<'a>),
    Method(&'a str, u8, &'a [Term<'a>]),
    /// A method that one thread at a time may run.
    Serialized(&'a str, u8, &'a [Term<'a>]),
    Mutex(&'a str),
    Region(&'a str, u8, u64, u64),
    /// Names of bits of a region, with their widths; bits without a name are skipped.
    Field(&'a str, u8, &'a [(&'a str, u8)]),
    CreateDWordField(&'a Term<'a>, u64, &'a str),

    // Statements.
    Store(&'a Term<'a>, &'a Term<'a>),
    Increment(&'a Term<'a>),
    Call(&'a str, &'a [Term<'a>]),
    Notify(&'a str, &'a Term<'a>),
    Acquire(&'a str),
    Release(&'a str),
    If(&'a Term<'a>, &'a [Term<'a>]),
    Else(&'a [Term<'a>]),
    While(&'a Term<'a>, &'a [Term<'a>]),
    Break,
    Return(&'a Term<'a>),

    // Expressions; the last of three operands is the place of the result.
    Subtract(&'a Term<'a>, &'a Term<'a>, &'a Term<'a>),
    ShiftLeft(&'a Term<'a>, &'a Term<'a>, &'a Term<'a>),
    And(&'a Term<'a>, &'a Term<'a>, &'a Term<'a>),
    Or(&'a Term<'a>, &'a Term<'a>, &'a Term<'a>),
    ToHexString(&'a Term<'a>, &'a Term<'a>),
    ToBuffer(&'a Term<'a>, &'a Term<'a>),
    SizeOf(&'a Term<'a>),
    DerefOf(&'a Term<'a>),
    Index(&'a Term<'a>, &'a Term<'a>),
    LAnd(&'a Term<'a>, &'a Term<'a>),
    LOr(&'a Term<'a>, &'a Term<'a>),
    LNot(&'a Term<'a>),
    LEqual(&'a Term<'a>, &'a Term<'a>),
    LLess(&'a Term<'a>, &'a Term<'a>),
}

impl Term<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        use Term::*;
        match *self {
            Int(value) => integer(out, value),
            Text(text) => {
                out.push(0x0d);
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Pnp(digits) => {
                out.extend([0x0c, 0x41, 0xd0]);
                out.extend(digits.to_be_bytes());
            }
            Uuid(uuid) => {
                let [a, b, c, d, e, f, g, h, rest @ ..] = uuid.to_be_bytes();
                let mut bytes = vec![d, c, b, a, f, e, h, g];
                bytes.extend(rest);
                Buffer(&bytes).write(out);
            }
            Buffer(bytes) => block(out, &[0x11], |out| {
                integer(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                out.extend_from_slice(bytes);
            }),
            Resources(resources) => {
                let mut bytes = Vec::new();
                for resource in resources {
                    resource.write(&mut bytes);
                }
                bytes.extend([0x79, 0]); // end tag
                Buffer(&bytes).write(out);
            }
            Package(elements) => block(out, &[0x12], |out| {
                out.push(u8::try_from(elements.len()).unwrap_or(u8::MAX));
                all(out, elements);
            }),
            PackageOf(count, elements) => block(out, &[0x12], |out| {
                out.push(count);
                out.extend_from_slice(elements);
            }),
            Written(terms) => out.extend_from_slice(terms),

            Path(name) => path(out, name),
            Local(number) => out.push(0x60 | number),
            Arg(number) => out.push(0x68 | number),
            Debug => out.extend([0x5b, 0x31]),
            Nowhere => out.push(0),

            Scope(name, terms) => named(out, &[0x10], name, &[], terms),
            Device(name, terms) => named(out, &[0x5b, 0x82], name, &[], terms),
            // Without a block of control registers.
            Processor(name, id, terms) => {
                named(out, &[0x5b, 0x83], name, &[id, 0, 0, 0, 0, 0], terms);
            }
            Name(name, value) => op(out, &[0x08], &[&Path(name), value]),
            Method(name, args, terms) => named(out, &[0x14], name, &[args], terms),
            Serialized(name, args, terms) => named(out, &[0x14], name, &[args | 8], terms),
            Mutex(name) => op(out, &[0x5b, 0x01], &[&Path(name), &Int(0)]),
            Region(name, space, start, length) => op(
                out,
                &[0x5b, 0x80],
                &[&Path(name), &Written(&[space]), &Int(start), &Int(length)],
            ),
            Field(region, access, fields) => block(out, &[0x5b, 0x81], |out| {
                path(out, region);
                out.push(access);
                for (name, bits) in fields {
                    if name.is_empty() {
                        out.push(0);
                    } else {
                        path(out, name);
                    }
                    out.push(*bits);
                }
            }),
            CreateDWordField(buffer, offset, name) => {
                op(out, &[0x8a], &[buffer, &Int(offset), &Path(name)]);
            }

            Store(value, place) => op(out, &[0x70], &[value, place]),
            Increment(place) => op(out, &[0x75], &[place]),
            Call(method, args) => {
                path(out, method);
                all(out, args);
            }
            Notify(device, value) => op(out, &[0x86], &[&Path(device), value]),
            // Waits without limit.
            Acquire(mutex) => op(out, &[0x5b, 0x23], &[&Path(mutex), &Written(&[255, 255])]),
            Release(mutex) => op(out, &[0x5b, 0x27], &[&Path(mutex)]),
            If(condition, terms) => block(out, &[0xa0], |out| {
                condition.write(out);
                all(out, terms);
            }),
            Else(terms) => block(out, &[0xa1], |out| all(out, terms)),
            While(condition, terms) => block(out, &[0xa2], |out| {
                condition.write(out);
                all(out, terms);
            }),
            Break => out.push(0xa5),
            Return(value) => op(out, &[0xa4], &[value]),

            Subtract(a, b, place) => op(out, &[0x74], &[a, b, place]),
            ShiftLeft(a, b, place) => op(out, &[0x79], &[a, b, place]),
            And(a, b, place) => op(out, &[0x7b], &[a, b, place]),
            Or(a, b, place) => op(out, &[0x7d], &[a, b, place]),
            ToHexString(value, place) => op(out, &[0x98], &[value, place]),
            ToBuffer(value, place) => op(out, &[0x96], &[value, place]),
            SizeOf(value) => op(out, &[0x87], &[value]),
            DerefOf(reference) => op(out, &[0x83], &[reference]),
            Index(value, index) => op(out, &[0x88], &[value, index, &Nowhere]),
            LAnd(a, b) => op(out, &[0x90], &[a, b]),
            LOr(a, b) => op(out, &[0x91], &[a, b]),
            LNot(value) => op(out, &[0x92], &[value]),
            LEqual(a, b) => op(out, &[0x93], &[a, b]),
            LLess(a, b) => op(out, &[0x95], &[a, b]),
        }
    }
}

/// Writes terms one after the other.
pub(super) fn all(out: &mut Vec<u8>, terms: &[Term<'_>]) {
    for term in terms {
        term.write(out);
    }
}

fn op(out: &mut Vec<u8>, code: &[u8], operands: &[&Term<'_>]) {
    out.extend_from_slice(code);
    for operand in operands {
        operand.write(out);
    }
}

/// The shortest form of an integer.
fn integer(out: &mut Vec<u8>, value: u64) {
    let [a, b, c, d, ..] = value.to_le_bytes();
    match value {
        0 | 1 => out.push(a),
        2..=0xff => out.extend([0x0a, a]),
        0x100..=0xffff => out.extend([0x0b, a, b]),
        0x1_0000..=0xffff_ffff => out.extend([0x0c, a, b, c, d]),
        _ => {
            out.push(0x0e);
            out.extend(value.to_le_bytes());
        }
    }
}

/// A name of segments between dots, each filled up to four letters by `_`.
fn path(out: &mut Vec<u8>, name: &str) {
    let segments = match name.strip_prefix('\\') {
        Some(rest) => {
            out.push(b'\\');
            rest
        }
        None => name,
    };
    if segments.len() <= 4 {
        match segments {
            "" => out.push(0),
            _ => segment(out, segments),
        }
        return;
    }
    match segments.split('.').count() {
        2 => out.push(0x2e),
        count => out.extend([0x2f, u8::try_from(count).unwrap_or(u8::MAX)]),
    }
    for name in segments.split('.') {
        segment(out, name);
    }
}

fn segment(out: &mut Vec<u8>, name: &str) {
    let letters = name.as_bytes();
    out.extend_from_slice(letters.get(..4).unwrap_or(letters));
    out.extend_from_slice(b"____".get(letters.len()..).unwrap_or_default());
}

fn named(out: &mut Vec<u8>, code: &[u8], name: &str, fixed: &[u8], terms: &[Term<'_>]) {
    block(out, code, |out| {
        path(out, name);
        out.extend_from_slice(fixed);
        all(out, terms);
    });
}

/// A term that states its length ("PkgLength"). The length comes first and counts
/// itself, in one byte below 64 and in up to four above.
fn block(out: &mut Vec<u8>, code: &[u8], body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(code);
    let start = out.len();
    out.push(0);
    body(out);
    // Of the body, and of one byte before it.
    let length = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
    let (more, length) = match length {
        0..=0x3f => (0, length),
        0x40..=0xffe => (1, length.saturating_add(1)),
        0xfff..=0xf_fffd => (2, length.saturating_add(2)),
        _ => (3, length.saturating_add(3)),
    };
    // The first byte has the number of bytes that follow, and all bits of the length, or
    // the low four.
    let [low, ..] = length.to_le_bytes();
    let first = if more == 0 {
        low
    } else {
        more << 6 | low & 0xf
    };
    if let Some(byte) = out.get_mut(start) {
        *byte = first;
    }
    if more > 0 {
        let rest = (length >> 4).to_le_bytes().into_iter().take(more.into());
        let after = start.saturating_add(1);
        out.splice(after..after, rest);
    }
}
