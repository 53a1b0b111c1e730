//! One string member at the top level of a JSON object, found while the text arrives in pieces
//! of any size.
//!
//! The text is checked against the whole grammar (RFC 8259), so every other parser sees the
//! same structure. Memory does not grow with the text: open containers are bits, and only the
//! member and keys that may be its name are kept. serde_json unescapes them.

use std::borrow::Cow;
use std::mem;

/// Nesting. Python's json and orjson stop near it too.
const MAX_DEPTH: usize = 1_024;
/// UTF-8's byte order mark. A parser may ignore it (RFC 8259 §8.1), Python's json does.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Longest escape of one UTF-8 byte: `\u006d`.
const MAX_ESCAPE: usize = 6;

/// Why parsers would not agree on the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not JSON.
    Syntax,
    NotAnObject,
    /// It begins as UTF-16 or UTF-32 does. Python's json reads them, RFC 8259 §8.1 forbids
    /// them.
    NotUtf8,
    TooDeep,
    Twice,
    NotAString,
    TooLong,
}

/// The search for one member.
pub(crate) struct JsonMember {
    name: &'static str,
    max: usize,
    state: State,
    open: Containers,
    /// Raw text between quotes, of a key or of the member's value.
    kept: Kept,
    /// True if the next value at the top level is the member's.
    next: bool,
    seen: bool,
    value: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes of the mark still missing.
    Mark(&'static [u8]),
    Start,
    Value,
    /// After `[`.
    ValueOrEnd,
    Key,
    /// After `{`.
    KeyOrEnd,
    Colon,
    AfterValue,
    Text(Role),
    Escape(Role),
    /// Hexadecimal digits still missing.
    Hex(Role, u8),
    /// Bytes still missing.
    Literal(&'static [u8]),
    Number(Number),
    End,
}

/// The role of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Key,
    Value,
}

/// The last part of a number that was read (RFC 8259 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl JsonMember {
    /// Searches for `name`, whose value may have `max` bytes.
    pub(crate) fn new(name: &'static str, max: usize) -> Self {
        Self {
            name,
            max,
            state: State::Mark(MARK),
            open: Containers::default(),
            kept: Kept::Nothing,
            next: false,
            seen: false,
            value: None,
        }
    }

    /// The next piece of the text.
    pub(crate) fn feed(&mut self, mut text: &[u8]) -> Result<(), Fault> {
        while let Some((byte, rest)) = text.split_first() {
            text = self.step(*byte, rest, text)?;
        }
        Ok(())
    }

    /// The same, up to the member's value. What follows is not parsed.
    pub(crate) fn find(&mut self, mut text: &[u8]) -> Result<Option<&str>, Fault> {
        while self.value.is_none()
            && let Some((byte, rest)) = text.split_first()
        {
            text = self.step(*byte, rest, text)?;
        }
        Ok(self.value())
    }

    /// Consumes at least `byte` of `text`, or the end of a number. Returns the rest.
    fn step<'a>(&mut self, byte: u8, rest: &'a [u8], text: &'a [u8]) -> Result<&'a [u8], Fault> {
        Ok(match self.state {
            State::Mark(missing) => match missing.split_first() {
                Some((expected, missing)) if *expected == byte => {
                    self.state = match missing {
                        [] => State::Start,
                        missing => State::Mark(missing),
                    };
                    rest
                }
                _ if missing == MARK => {
                    self.state = State::Start;
                    text
                }
                _ => return Err(Fault::NotAnObject),
            },
            State::Text(role) => self.text(role, text)?,
            State::Number(number) => match number.next(byte) {
                Some(number) => {
                    self.state = State::Number(number);
                    rest
                }
                None if number.may_end() => {
                    self.state = State::AfterValue;
                    text
                }
                None => return Err(Fault::Syntax),
            },
            State::Escape(role) => {
                self.kept.push(&[byte]);
                self.state = match byte {
                    b'u' => State::Hex(role, 4),
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text(role),
                    _ => return Err(Fault::Syntax),
                };
                rest
            }
            State::Hex(role, missing) => {
                if !byte.is_ascii_hexdigit() {
                    return Err(Fault::Syntax);
                }
                self.kept.push(&[byte]);
                self.state = match missing {
                    1 => State::Text(role),
                    _ => State::Hex(role, missing - 1),
                };
                rest
            }
            State::Literal(missing) => {
                self.state = match missing.split_first() {
                    Some((expected, [])) if *expected == byte => State::AfterValue,
                    Some((expected, missing)) if *expected == byte => State::Literal(missing),
                    _ => return Err(Fault::Syntax),
                };
                rest
            }
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => rest,
            between => {
                self.state = self.token(between, byte)?;
                rest
            }
        })
    }

    /// The member's value, once it has arrived.
    pub(crate) fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Checks that the text may end here.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        match self.state {
            State::End => Ok(()),
            _ => Err(Fault::Syntax),
        }
    }

    /// A byte outside strings, numbers and literals.
    fn token(&mut self, state: State, byte: u8) -> Result<State, Fault> {
        match (state, byte) {
            (State::Start, b'{') => {
                self.open.push(true)?;
                Ok(State::KeyOrEnd)
            }
            (State::Start, 0 | 0xfe | 0xff) => Err(Fault::NotUtf8),
            (State::Start, _) => Err(Fault::NotAnObject),
            // UTF-16 without a mark: each character of ASCII has a zero beside it.
            (State::KeyOrEnd, 0) if self.open.depth == 1 => Err(Fault::NotUtf8),
            (State::Key | State::KeyOrEnd, b'"') => {
                self.kept = match self.open.depth {
                    1 => Kept::new(self.name.len() * MAX_ESCAPE),
                    _ => Kept::Nothing,
                };
                Ok(State::Text(Role::Key))
            }
            (State::Colon, b':') => Ok(State::Value),
            (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => self.close(byte),
            (State::AfterValue, b']' | b'}') => self.close(byte),
            (State::AfterValue, b',') => Ok(match self.open.in_object() {
                true => State::Key,
                false => State::Value,
            }),
            (State::Value | State::ValueOrEnd, _) => self.value_begins(byte),
            _ => Err(Fault::Syntax),
        }
    }

    fn value_begins(&mut self, byte: u8) -> Result<State, Fault> {
        let is_ours = mem::take(&mut self.next);
        if is_ours && !matches!(byte, b'"' | b'n') {
            return Err(Fault::NotAString);
        }
        match byte {
            b'"' => {
                self.kept = match is_ours {
                    true => Kept::new(self.max * MAX_ESCAPE),
                    false => Kept::Nothing,
                };
                Ok(State::Text(Role::Value))
            }
            b'{' | b'[' => {
                self.open.push(byte == b'{')?;
                Ok(match byte {
                    b'{' => State::KeyOrEnd,
                    _ => State::ValueOrEnd,
                })
            }
            b't' => Ok(State::Literal(b"rue")),
            b'f' => Ok(State::Literal(b"alse")),
            b'n' => Ok(State::Literal(b"ull")),
            b'-' => Ok(State::Number(Number::Minus)),
            b'0' => Ok(State::Number(Number::Zero)),
            b'1'..=b'9' => Ok(State::Number(Number::Integer)),
            _ => Err(Fault::Syntax),
        }
    }

    fn close(&mut self, byte: u8) -> Result<State, Fault> {
        if self.open.in_object() != (byte == b'}') {
            return Err(Fault::Syntax);
        }
        self.open.depth -= 1;
        Ok(match self.open.depth {
            0 => State::End,
            _ => State::AfterValue,
        })
    }

    /// Inside a string, where nearly all bytes of a prompt are.
    fn text<'a>(&mut self, role: Role, text: &'a [u8]) -> Result<&'a [u8], Fault> {
        let end = memchr::memchr2(b'"', b'\\', text);
        let (plain, rest) = text.split_at(end.unwrap_or(text.len()));
        // A fold does not exit early, so the compiler vectorises it.
        if plain
            .iter()
            .fold(false, |found, byte| found | (*byte < 0x20))
        {
            return Err(Fault::Syntax);
        }
        self.kept.push(plain);
        let Some((delimiter, rest)) = rest.split_first() else {
            return Ok(rest);
        };
        if *delimiter == b'\\' {
            self.kept.push(b"\\");
            self.state = State::Escape(role);
            return Ok(rest);
        }
        match (mem::replace(&mut self.kept, Kept::Nothing), role) {
            (Kept::Nothing | Kept::TooMuch, Role::Key) => {}
            (Kept::Nothing, Role::Value) => {}
            (Kept::TooMuch, Role::Value) => return Err(Fault::TooLong),
            (Kept::Text { raw, .. }, Role::Key) => {
                self.next = raw == self.name.as_bytes() || unescaped(&raw)? == self.name;
                if self.next && mem::replace(&mut self.seen, true) {
                    return Err(Fault::Twice);
                }
            }
            (Kept::Text { raw, .. }, Role::Value) => {
                let value = unescaped(&raw)?;
                if value.len() > self.max {
                    return Err(Fault::TooLong);
                }
                self.value = Some(value.into_owned());
            }
        }
        self.state = match role {
            Role::Key => State::Colon,
            Role::Value => State::AfterValue,
        };
        Ok(rest)
    }
}

/// The text between the quotes, as serde_json reads it.
fn unescaped(raw: &[u8]) -> Result<Cow<'_, str>, Fault> {
    if !raw.contains(&b'\\') {
        // Without quotes and control characters, which `text` has excluded.
        let text = std::str::from_utf8(raw);
        return text.map(Cow::Borrowed).map_err(|_| Fault::Syntax);
    }
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    let text: Result<String, _> = serde_json::from_slice(&quoted);
    text.map(Cow::Owned).map_err(|_| Fault::Syntax)
}

impl Number {
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::E,
            (Self::E, b'+' | b'-') => Self::Sign,
            (Self::E | Self::Sign | Self::Exponent, b'0'..=b'9') => Self::Exponent,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Integer | Self::Fraction | Self::Exponent
        )
    }
}

/// Open containers, one bit each: set for objects.
#[derive(Default)]
struct Containers {
    bits: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Containers {
    fn push(&mut self, object: bool) -> Result<(), Fault> {
        let word = self.bits.get_mut(self.depth / 64).ok_or(Fault::TooDeep)?;
        let bit = 1 << (self.depth % 64);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.depth.checked_sub(1).is_some_and(|top| {
            let word = self.bits.get(top / 64);
            word.is_some_and(|word| word >> (top % 64) & 1 == 1)
        })
    }
}

/// The text of a string that may matter, up to a limit.
enum Kept {
    Nothing,
    Text { raw: Vec<u8>, max: usize },
    TooMuch,
}

impl Kept {
    fn new(max: usize) -> Self {
        let raw = Vec::new();
        Self::Text { raw, max }
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Self::Text { raw, max } = self {
            if raw.len() + bytes.len() > *max {
                *self = Self::TooMuch;
            } else {
                raw.extend_from_slice(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests;
