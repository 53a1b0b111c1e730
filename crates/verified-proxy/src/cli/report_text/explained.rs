//! The long form: for each part of the proof what was compared, what that proves, and
//! what was seen.

use attest::{CheckId, Group, Severity};
use proxy::report_labels::{self, FACTS};

use super::shown::{Deployment, Finding, Gpu, GpuKind, Shown, counted};
use super::{BOLD, Paint, RED, YELLOW};

/// Findings of one severity that are listed; real machines have 20 to 60.
const MAX_FINDINGS: usize = 12;

/// Services that are listed; real machines have about ten.
const MAX_UP: usize = 60;

impl Shown {
    /// From the hardware up to this connection.
    pub(super) fn explained(&self, paint: Paint) -> String {
        let mut out = String::new();
        for group in Group::ALL {
            self.group(&mut out, group, paint);
        }
        let others: Vec<_> = self
            .facts
            .iter()
            .filter(|(name, _)| {
                !FACTS
                    .iter()
                    .any(|fact| fact.group.is_some() && fact.name == **name)
            })
            .collect();
        if !others.is_empty() {
            line!(out, "\n{}", paint.paint(BOLD, "Seen besides"));
            for (name, value) in others {
                line!(out, "  {}: {value}", report_labels::words(name));
            }
        }
        out
    }

    fn group(&self, out: &mut String, group: Group, paint: Paint) {
        let own = || {
            self.checks
                .iter()
                .filter(move |check| check.group == group.title())
        };
        let has_findings = group == Group::Deployment && !self.findings.is_empty();
        // Checks that never run are among what is not proved.
        if group == Group::Beyond && !own().any(|check| check.ran()) {
            return;
        }
        line!(out, "\n{}", paint.paint(BOLD, group.title()));
        if !own().any(|check| check.was_reached()) && !has_findings {
            line!(out, "  not reached, as the refusal came first");
            return;
        }
        line!(out, "  {}", group.proves());
        for check in own().filter(|check| check.was_reached()) {
            let mark = paint.mark(check);
            line!(out, "  {mark}  {}", check.title);
            if let Some(compared) = check.compared() {
                line!(out, "          compares {compared}");
            }
            let word = if check.ran() { "found" } else { "not proved" };
            line!(out, "          {word}: {}", check.detail);
        }
        if let (Group::Deployment, Some(deployment)) = (group, &self.deployment) {
            self.deployment(out, deployment);
        }
        if group == Group::Deployment {
            self.findings(out, paint);
        }
        if group == Group::Gpus {
            gpus(out, &self.gpus);
        }
        let facts = FACTS
            .iter()
            .filter(|fact| fact.group == Some(group))
            .filter_map(|fact| Some((fact.words, self.facts.get(fact.name)?)));
        for (index, (words, value)) in facts.enumerate() {
            if index == 0 {
                line!(out, "  Seen:");
            }
            line!(out, "    {words}: {value}");
        }
    }

    fn deployment(&self, out: &mut String, deployment: &Deployment) {
        let manager = deployment.manager.as_deref();
        line!(
            out,
            "  Manager: {}",
            manager.unwrap_or("the log does not say")
        );
        let span = match (&deployment.first, &deployment.last) {
            (Some(first), Some(last)) => format!("from {first} to {last}"),
            _ => "without a time".to_owned(),
        };
        line!(
            out,
            "  Log: {} {span}, by the machine's own clock",
            counted(deployment.actions, "action")
        );
        if let Some(booted) = self.facts.get("booted") {
            line!(out, "  Booted: {booted}");
        }
        let continuity = CheckId::DeploymentContinuity.id();
        if let Some(check) = self.checks.iter().find(|check| check.id == continuity) {
            line!(out, "  Continuity: {}", check.detail);
        }
        line!(out, "  Up, by the log:");
        if deployment.up.is_empty() {
            line!(out, "    nothing");
        }
        for up in deployment.up.iter().take(MAX_UP) {
            let image = up.image.as_deref();
            let image = image.unwrap_or("image not known: its file is not available");
            line!(out, "    {}: {image}", up.service);
            line!(
                out,
                "      {}@{} (commit {}), since {}",
                up.file,
                up.tag,
                up.commit,
                up.since
            );
        }
        more(out, deployment.up.len(), MAX_UP);
        if deployment.left_out > 0 {
            line!(
                out,
                "    ... and {} that the report leaves out",
                deployment.left_out
            );
        }
    }

    pub(super) fn of_severity(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        let word = severity.as_str();
        self.findings
            .iter()
            .filter(move |finding| finding.severity == word)
    }

    /// The most severe first.
    fn findings(&self, out: &mut String, paint: Paint) {
        if self.findings.is_empty() {
            return;
        }
        let count = counted(self.findings.len(), "finding");
        line!(
            out,
            "  {count} about the measured description and the deployed files; no finding refuses anything:"
        );
        for severity in Severity::ALL.into_iter().rev() {
            let code = match severity {
                Severity::Danger => RED,
                Severity::Warning => YELLOW,
                _ => BOLD,
            };
            let mark = paint.paint(code, severity.as_str());
            for finding in self.of_severity(severity).take(MAX_FINDINGS) {
                line!(out, "    {mark}  {}: {}", finding.topic, finding.detail);
            }
            more(out, self.of_severity(severity).count(), MAX_FINDINGS);
        }
    }
}

fn more(out: &mut String, count: usize, shown: usize) {
    if let Some(rest) = count.checked_sub(shown).filter(|rest| *rest > 0) {
        line!(out, "    ... and {rest} more: see --json");
    }
}

/// GPUs that are alike share a line.
fn gpus(out: &mut String, gpus: &[Gpu]) {
    let mut kinds: Vec<(&GpuKind, Vec<&str>)> = Vec::new();
    for Gpu { pdi, kind } in gpus {
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, devices)) => devices.push(pdi),
            None => kinds.push((kind, vec![pdi])),
        }
    }
    for (gpu, devices) in kinds {
        line!(
            out,
            "  {} x {}, driver {}, VBIOS {}, Protected PCIe: {}",
            devices.len(),
            gpu.chip,
            gpu.driver,
            gpu.vbios,
            gpu.protected_pcie
        );
        line!(
            out,
            "    measurements (SHA-384): {}",
            gpu.measurements_sha384
        );
        line!(out, "    devices: {}", devices.join(" "));
    }
}
