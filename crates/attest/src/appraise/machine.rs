//! Step 7, the machine: firmware configuration, memory map and ACPI tables (RTMR0).

use super::Run;
use crate::base::finding::{Finding, Severity};
use crate::base::levels::BootLevel;
use crate::base::text::shown;
use crate::dstack::event_log;
use crate::dstack::machine::{self, AcpiDigests, NotRecomputable, Shape};
use crate::dstack::rtmr0::{Rtmr0, td_hob_digest};
use crate::intel::quote::MeasuredTd;
use crate::policy::{AcpiMode, Forms, best};
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;

const ROWS_ONLY: &str = "the policy compares tables with its own rows only (acpi = \"require\")";

impl Run<'_> {
    /// Each event of RTMR0; of a log that leaves them out, the register as a whole.
    pub(super) fn machine(
        &mut self,
        td: &MeasuredTd,
        rtmr0: Option<&Rtmr0>,
        forms: Forms,
    ) -> Result<(), Rejected> {
        let [quoted, ..] = td.rtmr;
        let Some(rtmr0) = rtmr0 else {
            return self.computed_as_a_whole(&quoted, forms);
        };
        let rules = self.rules();
        self.begin(CheckId::Firmware);
        match rules.firmware(&rtmr0.firmware) {
            Ok(name) => self.pass(shown(name)),
            Err((event, got)) => {
                return Err(Rejected::Firmware {
                    event,
                    got: hex::encode(got),
                });
            }
        }
        self.begin(CheckId::TdHob);
        let memory_size = self.memory_size()?;
        let expected = td_hob_digest(memory_size);
        if expected != Some(rtmr0.td_hob) {
            return Err(Rejected::TdHob {
                got: hex::encode(rtmr0.td_hob),
                expected: expected.map_or("no machine".to_owned(), hex::encode),
                memory_size,
            });
        }
        self.pass(format!("{memory_size} bytes of memory"));
        self.begin(CheckId::Acpi);
        self.tables(&rtmr0.acpi, forms)
    }

    fn tables(&mut self, measured: &AcpiDigests, forms: Forms) -> Result<(), Rejected> {
        let rules = self.rules();
        let now = self.request.now;
        let computed = self.computed();
        let explained = match &computed {
            Ok((shape, digests)) if digests == measured => Ok(*shape),
            Ok((shape, digests)) => Err(format!(
                "QEMU makes other tables ({}) of the machine that info.vm_config states ({shape})",
                hex::encode(digests.tables)
            )),
            Err(reason) => Err(reason.to_string()),
        };
        self.workload.root_ports = explained.as_ref().ok().map(|shape| shape.root_ports);
        let why = match (rules.acpi, explained) {
            (AcpiMode::Require, _) => ROWS_ONLY.to_owned(),
            (AcpiMode::Recompute | AcpiMode::Report, Err(why)) => why,
            (AcpiMode::Recompute | AcpiMode::Report, Ok(shape)) => {
                if let Some(why) = forms.contradict(&shape) {
                    return Err(Rejected::QemuVersion { why });
                }
                self.recomputed(&shape, measured);
                return Ok(());
            }
        };
        match (rules.machine(measured, now), rules.acpi) {
            (Some(own), _) => {
                self.workload.root_ports = self.workload.root_ports.or(own.places);
                self.row(own.row);
            }
            (None, AcpiMode::Report) => {
                self.reached.boot = BootLevel::AcceptedByYou;
                self.report.not_proved(
                    CheckId::Acpi,
                    format!("{why}; the policy does not require tables that it knows (acpi = \"report\")"),
                );
            }
            (None, AcpiMode::Require | AcpiMode::Recompute) => {
                return Err(Rejected::Acpi {
                    loader: hex::encode(measured.loader),
                    rsdp: hex::encode(measured.rsdp),
                    tables: hex::encode(measured.tables),
                    allowed: rules.machines.len(),
                    why,
                });
            }
        }
        Ok(())
    }

    /// RTMR0 of a log without its events: some firmware of the policy, the stated
    /// memory, and tables that are computed or in a row of the policy.
    fn computed_as_a_whole(&mut self, quoted: &[u8; 48], forms: Forms) -> Result<(), Rejected> {
        let rules = self.rules();
        let now = self.request.now;
        self.begin(CheckId::TdHob);
        let memory_size = self.memory_size()?;
        let refused = |why: String| Rejected::Rtmr0 {
            got: hex::encode(quoted),
            why,
        };
        let Some(td_hob) = td_hob_digest(memory_size) else {
            return Err(refused(format!(
                "no machine has {memory_size} bytes of memory"
            )));
        };
        let computed = self.computed();
        let gives = |acpi: AcpiDigests| {
            rules.firmwares().find(|(_, firmware)| {
                let whole = Rtmr0 {
                    td_hob,
                    firmware: *firmware,
                    acpi,
                };
                whole.register() == *quoted
            })
        };
        let mut why = ROWS_ONLY.to_owned();
        if rules.acpi != AcpiMode::Require {
            match &computed {
                Err(reason) => why = reason.to_string(),
                Ok((shape, digests)) => match (gives(*digests), forms.contradict(shape)) {
                    (Some(_), Some(contradiction)) => why = contradiction,
                    (None, _) => {
                        why = format!(
                            "the machine that info.vm_config states ({shape}) gives another value"
                        )
                    }
                    (Some((name, _)), None) => {
                        self.workload.root_ports = Some(shape.root_ports);
                        self.as_a_whole(name, memory_size, digests);
                        self.recomputed(shape, digests);
                        return Ok(());
                    }
                },
            }
        }
        let rows = rules.machines_at(now);
        let rows = rows.filter_map(|own| Some((own, gives(own.tables)?.0)));
        if let Some((own, firmware)) = best(rows, |(own, _)| own.row, now) {
            let explained = computed.as_ref().ok();
            let explained = explained.filter(|(_, digests)| *digests == own.tables);
            let places = explained.map(|(shape, _)| shape.root_ports);
            self.workload.root_ports = places.or(own.places);
            self.as_a_whole(firmware, memory_size, &own.tables);
            self.row(own.row);
            return Ok(());
        }
        Err(refused(why))
    }

    /// The shape that the host states, and the digests of its tables.
    fn computed(&self) -> Result<(Shape, AcpiDigests), NotRecomputable> {
        let text = self.request.evidence.vm_config.as_deref();
        let shape = Shape::read(text.unwrap_or("{}"))?;
        Ok((shape, machine::digests(&shape)))
    }

    fn memory_size(&self) -> Result<u64, Rejected> {
        let stated = self.request.evidence.memory_size()?;
        let field = "info.vm_config.memory_size".to_owned();
        stated.ok_or(Rejected::EvidenceMissingField { field })
    }

    /// The tables are those that QEMU makes of the stated shape.
    fn recomputed(&mut self, shape: &Shape, tables: &AcpiDigests) {
        self.begin(CheckId::Acpi);
        match machine::seen(&tables.tables) {
            Some(machine) => self.pass(format!("computed of {shape}; also seen: {machine}")),
            None => {
                self.pass(format!("computed of {shape}"));
                self.report.findings.push(Finding::new(
                    Severity::Notice,
                    "machine_never_seen",
                    format!("the machine's tables are those that QEMU makes of {shape}; nobody has shown them on hardware before"),
                ));
            }
        }
    }

    /// Of a stripped log: its other registers are the image's, and RTMR0 is computed.
    fn as_a_whole(&mut self, firmware: &str, memory_size: u64, tables: &AcpiDigests) {
        let used = [&tables.loader, &tables.rsdp, &tables.tables];
        let events = self.request.evidence.events.as_deref().unwrap_or_default();
        let kept = events.iter().filter(|event| event.register == 0);
        let differs = kept
            .filter(|event| !event_log::is_kept(event, used))
            .count();
        let report = &mut self.report;
        if differs > 0 {
            report.findings.push(Finding::new(
                Severity::Warning,
                "copy_differs",
                format!("event_log has {differs} events of RTMR0 that are not those of the tables which give the register"),
            ));
        }
        report.pass(
            CheckId::Rtmrs,
            "RTMR3 replays; RTMR0 is computed, RTMR1 and RTMR2 are the image's",
        );
        report.pass(
            CheckId::Firmware,
            format!("{}, as part of RTMR0", shown(firmware)),
        );
        report.pass(
            CheckId::TdHob,
            format!("{memory_size} bytes of memory, as part of RTMR0"),
        );
        self.begin(CheckId::Acpi);
    }
}
