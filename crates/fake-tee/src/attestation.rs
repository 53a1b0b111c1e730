//! What a KMS since 0.5.9 writes into a leaf in place of the bare quote: dstack's
//! "versioned attestation".

use crate::event_log::{Event, RUNTIME_EVENT_TYPE};

/// How the leaf carries the quote that it was issued for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CertForm {
    /// Arc 1 holds the quote, arc 2 the event log.
    #[default]
    Quote,
    /// Arc 8 holds an attestation of version 0: SCALE.
    AttestationV0,
    /// Arc 8 holds an attestation of version 1: MessagePack.
    AttestationV1,
    /// Arcs 1, 2 and 8 (version 0).
    Both,
}

/// What an attestation holds.
#[derive(Debug, Clone)]
pub struct Attestation<'a> {
    /// The quote.
    pub quote: &'a [u8],
    /// The event log, of which RTMR3 is kept.
    pub events: &'a [Event],
    /// The quote's report data, once more.
    pub report_data: [u8; 64],
    /// `vm_config`.
    pub config: &'a str,
}

impl Attestation<'_> {
    fn runtime_events(&self) -> Vec<&Event> {
        let of_dstack = |event: &&Event| event.imr == 3 && event.event_type == RUNTIME_EVENT_TYPE;
        self.events.iter().filter(of_dstack).collect()
    }

    /// Version 0.
    pub fn scale(&self) -> Vec<u8> {
        let events = self.runtime_events();
        let mut out = vec![0, 0];
        compact(&mut out, self.quote);
        compact_length(&mut out, events.len());
        for event in &events {
            out.extend(event.imr.to_le_bytes());
            out.extend(event.event_type.to_le_bytes());
            compact(&mut out, b""); // the digest follows from the rest
            compact(&mut out, event.event.as_bytes());
            compact(&mut out, &event.event_payload);
        }
        compact_length(&mut out, events.len());
        for event in &events {
            compact(&mut out, event.event.as_bytes());
            compact(&mut out, &event.event_payload);
        }
        out.extend(self.report_data);
        compact(&mut out, self.config.as_bytes());
        out
    }

    /// Version 1.
    pub fn msgpack(&self) -> Vec<u8> {
        let events = self.runtime_events();
        let mut out = vec![0x83];
        text(&mut out, "version");
        out.push(1);
        text(&mut out, "platform");
        out.push(0x82);
        text(&mut out, "kind");
        text(&mut out, "tdx");
        text(&mut out, "data");
        out.push(0x82);
        text(&mut out, "quote");
        numbers(&mut out, self.quote);
        text(&mut out, "event_log");
        array_length(&mut out, events.len());
        for event in &events {
            out.push(0x85);
            text(&mut out, "imr");
            out.push(3);
            text(&mut out, "event_type");
            out.push(0xce);
            out.extend(event.event_type.to_be_bytes());
            text(&mut out, "digest");
            binary(&mut out, b"");
            text(&mut out, "event");
            text(&mut out, &event.event);
            text(&mut out, "event_payload");
            binary(&mut out, &event.event_payload);
        }
        text(&mut out, "stack");
        out.push(0x82);
        text(&mut out, "kind");
        text(&mut out, "dstack");
        text(&mut out, "data");
        out.push(0x83);
        text(&mut out, "report_data");
        numbers(&mut out, &self.report_data);
        text(&mut out, "runtime_events");
        array_length(&mut out, events.len());
        for event in &events {
            out.push(0x82);
            text(&mut out, "event");
            text(&mut out, &event.event);
            text(&mut out, "payload");
            text(&mut out, &crate::encode::base64(&event.event_payload));
        }
        text(&mut out, "config");
        text(&mut out, self.config);
        out
    }
}

/// SCALE's compact integer.
fn compact_length(out: &mut Vec<u8>, length: usize) {
    let shifted = (length as u32) << 2;
    match length {
        0..0x40 => out.push(shifted as u8),
        0x40..0x4000 => out.extend(((shifted | 1) as u16).to_le_bytes()),
        _ => out.extend((shifted | 2).to_le_bytes()),
    }
}

fn compact(out: &mut Vec<u8>, bytes: &[u8]) {
    compact_length(out, bytes.len());
    out.extend(bytes);
}

fn text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        short @ 0..32 => out.push(0xa0 | short as u8),
        long => {
            out.push(0xdb);
            out.extend((long as u32).to_be_bytes());
        }
    }
    out.extend(text.as_bytes());
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(0xc6);
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

fn array_length(out: &mut Vec<u8>, length: usize) {
    match length {
        short @ 0..16 => out.push(0x90 | short as u8),
        long => {
            out.push(0xdd);
            out.extend((long as u32).to_be_bytes());
        }
    }
}

/// Bytes as dstack writes them here: a list of numbers.
fn numbers(out: &mut Vec<u8>, bytes: &[u8]) {
    array_length(out, bytes.len());
    for byte in bytes {
        if *byte > 0x7f {
            out.push(0xcc);
        }
        out.push(*byte);
    }
}
