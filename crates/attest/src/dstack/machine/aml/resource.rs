//! The resources that a device occupies (ACPI 6.5, section 6.4).

/// A resource descriptor.
#[derive(Clone, Copy)]
pub(in crate::dstack::machine) enum Resource<'a> {
    /// Ports, by first, alignment and count.
    Ports(u16, u8, u8),
    /// An ISA interrupt: edge, active high, not shared.
    Irq(u8),
    /// An ISA interrupt: level, active low, shared.
    SharedIrq(u8),
    /// Interrupts: active high, shared; one of these at a time.
    Interrupts(Trigger, &'a [u32]),
    /// Numbers of PCI buses: first and count.
    Buses(u16, u16),
    /// Ports that a bridge forwards: first and count.
    PortWindow(u16, u16),
    /// Memory that a bridge forwards: first and length.
    Memory(u32, u32),
    CacheableMemory(u32, u32),
    CacheableMemory64(u64, u64),
}

/// How an interrupt is signalled.
#[derive(Clone, Copy)]
pub(in crate::dstack::machine) enum Trigger {
    Level,
    Edge,
}

impl Resource<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        use Resource::*;
        match *self {
            Ports(first, alignment, count) => {
                out.extend([0x47, 1]); // decodes 16 bits
                out.extend(first.to_le_bytes());
                out.extend(first.to_le_bytes());
                out.extend([alignment, count]);
            }
            Irq(number) => {
                out.push(0x22);
                out.extend(mask(number).to_le_bytes());
            }
            SharedIrq(number) => {
                out.push(0x23);
                out.extend(mask(number).to_le_bytes());
                out.push(0x18);
            }
            Interrupts(trigger, numbers) => {
                let length = numbers.len().saturating_mul(4).saturating_add(2);
                out.push(0x89);
                out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
                out.push(match trigger {
                    Trigger::Level => 0x09,
                    Trigger::Edge => 0x0b,
                });
                out.push(u8::try_from(numbers.len()).unwrap_or(u8::MAX));
                for number in numbers {
                    out.extend(number.to_le_bytes());
                }
            }
            Buses(first, count) => window(out, 0x88, 2, [2, 0], first.into(), count.into()),
            PortWindow(first, count) => window(out, 0x88, 2, [1, 3], first.into(), count.into()),
            Memory(first, length) => window(out, 0x87, 4, [0, 1], first.into(), length.into()),
            CacheableMemory(first, length) => {
                window(out, 0x87, 4, [0, 3], first.into(), length.into());
            }
            CacheableMemory64(first, length) => window(out, 0x8a, 8, [0, 3], first, length),
        }
    }
}

fn mask(irq: u8) -> u16 {
    1_u16.checked_shl(irq.into()).unwrap_or(0)
}

/// A range of which no part may be moved, in numbers of `width` bytes.
fn window(out: &mut Vec<u8>, tag: u8, width: u8, [kind, flags]: [u8; 2], first: u64, length: u64) {
    let last = first.saturating_add(length.saturating_sub(1));
    out.extend([tag, width.saturating_mul(5).saturating_add(3), 0]);
    out.extend([kind, 0x0c, flags]);
    // Granularity, first, last, translation, length.
    for number in [0, first, last, 0, length] {
        out.extend(number.to_le_bytes().into_iter().take(width.into()));
    }
}
