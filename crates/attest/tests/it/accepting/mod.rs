//! `policy accept`: which change can be accepted, that it was the only one, that the
//! written line accepts exactly that, and when it ends.

mod kinds;
mod lines;
mod refusals;
mod roots;

use attest::{
    AcceptableImage, Acceptance, AcceptedChange, Base, Evidence, Explanation, FilesCheck, Known,
    NotAcceptable, Policy, TagsCheck, Terms, UnixTime, accept,
};
use fake_tee::event_log::{DigestForm, Event, replay};
use fake_tee::{ComposeManager, Kms, Spec};

use crate::support::{
    Beside, DAY, NOW, challenge, code, files_of, judge_beside, manager, policy_text, spec_with,
    upstream,
};

pub(crate) fn terms() -> Terms {
    Terms {
        until: None,
        reason: "announced by the operator".to_owned(),
        by: "a tester".to_owned(),
        expect_root: None,
        expect_app_id: None,
    }
}

/// The image of a machine, as a table of images would have it.
fn image_of(spec: &Spec) -> AcceptableImage {
    let registers = replay(&spec.events());
    AcceptableImage {
        name: "dstack-nvidia-0.5.13".to_owned(),
        source: "recomputed from the files of its release".to_owned(),
        mrtd: spec.td.mr_td,
        rtmr1: registers[1],
        rtmr2: registers[2],
        os_image_hash: spec.app.os_image_hash,
        weaknesses: vec!["a known weakness".to_owned()],
    }
}

/// A policy that compares tables with the default machine's row only.
fn rows_only() -> String {
    let own = fake_tee::acpi::digests(&crate::support::spec().vm_config);
    let [loader, rsdp, tables] = [own.loader, own.rsdp, own.tables].map(hex::encode);
    policy_text(&format!(
        "acpi = \"require\"\nmachine = [{{ name = \"mine\", acpi_loader = \"{loader}\", acpi_rsdp = \"{rsdp}\", acpi_tables = \"{tables}\" }}]\n"
    ))
}

/// With one bit of a file changed.
fn flipped(digest: [u8; 48]) -> Option<[u8; 48]> {
    let mut digest = digest;
    digest[0] ^= 1;
    Some(digest)
}

fn known(spec: &Spec) -> Known {
    Known::danger_with(vec![image_of(spec)])
}

type Change = (&'static str, fn(&mut Spec));

type Outcome = Result<AcceptedChange, NotAcceptable>;

fn accept_with(spec: &Spec, policy: &str, terms: &Terms, known: &Known) -> Outcome {
    let built = spec.forge(&challenge()).unwrap();
    let evidence = Evidence::parse(&built.report_bytes).unwrap();
    accept(Base::File(policy), terms, known, &evidence, |policy| {
        judged(spec, policy, NOW)
    })
}

fn judged(spec: &Spec, policy: &Policy, now: u64) -> attest::Appraisal {
    let built = spec.forge(&challenge()).unwrap();
    let (tags, files) = (upstream(spec), files_of(spec));
    let beside = Beside {
        tags: TagsCheck::AtHand(&tags),
        files: FilesCheck::AtHand(&files),
        now: UnixTime(now),
        ..Beside::default()
    };
    judge_beside(&built, policy, beside)
}

fn accepted(spec: &Spec, policy: &str) -> AcceptedChange {
    let outcome = accept_with(spec, policy, &terms(), &known(spec));
    outcome.unwrap_or_else(|why| panic!("{why}\n{policy}"))
}

fn refused(spec: &Spec, policy: &str) -> NotAcceptable {
    match accept_with(spec, policy, &terms(), &known(spec)) {
        Ok(accepted) => panic!("{accepted}"),
        Err(why) => why,
    }
}

fn verdict(spec: &Spec, policy: &str, now: u64) -> &'static str {
    code(&judged(spec, &Policy::from_toml(policy).unwrap(), now))
}

fn pinned(line: &str) -> String {
    policy_text(&format!("{line}\n"))
}

fn tables() -> String {
    "gpu.measurements = [{ id = \"NV_GPU_DRIVER_GH100_1.2.3\", source = \"a test\", allowed = { \"1\" = [\"".to_owned()
        + &"00".repeat(48)
        + "\"] } }]"
}

trait ParseDay {
    fn parse_day(&self) -> attest::Day;
}

impl ParseDay for str {
    fn parse_day(&self) -> attest::Day {
        attest::Day::parse(self).unwrap()
    }
}
