//! `verified-proxy verify`: attests backends live, or appraises a recorded report
//! without network.

mod live;

pub(super) use self::live::unserved;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use attest::{
    Appraisal, Appraise, Collateral, Context, Domain, Evidence, Expected, FilesAtHand, FilesCheck,
    FloorCheck, HistoryCheck, Nonce, NrasCheck, Policy, Rejected, Report, Spki, Subject, TagsCheck,
    TrustAnchors, UnixTime, UpstreamTags, appraise,
};
use sources::clock::Clock;
use sources::skew::Skew;

use super::options::Shared;
use super::read_files::{self, Failure};
use super::report_text::Length;
use super::{colour, print, report_text};

/// Attest a model's backends live, or judge a recorded report without network
///
/// Live, a backend gets an attestation request and nothing else. Exit codes: 0 all are verified, 1
/// one is refused (also for a malformed report), 2 wrong usage, 3 something could not be read,
/// fetched, reached or written.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// A model of the endpoint list, to attest each of its backends, or one backend's domain
    #[arg(value_name = "MODEL|DOMAIN", required_unless_present = "evidence")]
    pub(super) target: Option<String>,

    /// Connections to each backend, to see the TLS keys of several instances
    #[arg(long, value_name = "NUMBER", default_value_t = 1, conflicts_with = "evidence", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(super) connections: u32,

    /// Write a policy that accepts what this report shows, for review; never replaces a file
    #[arg(long, value_name = "FILE")]
    pub(super) write_policy: Option<PathBuf>,

    /// Print the report as JSON; live, an array with one for each backend and TLS key
    #[arg(long)]
    pub(super) json: bool,

    /// Say what each check compared with what, what runs in the machine, and which parties that trusts
    #[arg(long, conflicts_with = "json")]
    pub(super) explain: bool,

    #[command(flatten)]
    recorded: Recorded,

    #[command(flatten)]
    pub(super) shared: Shared,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "A recorded report")]
pub(super) struct Recorded {
    /// The backend's report: the exact body of GET /v1/attestation/report
    #[arg(long, value_name = "FILE", requires_all = ["nonce", "spki", "collateral"], conflicts_with = "target")]
    pub(super) evidence: Option<PathBuf>,

    /// The nonce of the request
    #[arg(long, value_name = "HEX", requires = "evidence")]
    nonce: Option<Nonce>,

    /// SHA-256 of the SubjectPublicKeyInfo of the live TLS certificate
    #[arg(long, value_name = "HEX", requires = "evidence")]
    spki: Option<Spki>,

    /// Intel's collateral, as dcap-qvl's QuoteCollateralV3 JSON
    #[arg(long, value_name = "FILE", requires = "evidence")]
    collateral: Option<PathBuf>,

    /// A folder with compose files that the deployment log may name, found by their hashes
    #[arg(long, value_name = "DIR", requires = "evidence")]
    compose_files: Option<PathBuf>,

    /// The tags of the compose files' repository: the output of "git ls-remote URL"
    #[arg(long, value_name = "FILE", requires = "evidence")]
    compose_tags: Option<PathBuf>,

    /// The time of the appraisal: seconds since 1970 or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = read_files::parse_time, requires = "evidence")]
    at: Option<UnixTime>,

    /// The domain of the backend
    #[arg(long, requires = "evidence")]
    domain: Option<Domain>,
}

impl Args {
    fn length(&self) -> Length {
        if self.explain {
            Length::Explained
        } else {
            Length::Short
        }
    }
}

fn rendered(report: &Report, skew: Option<Skew>, length: Length) -> Result<String, Failure> {
    report_text::render(report, skew, length, colour())
        .map_err(|error| Failure::Unreadable(format!("the report cannot be shown: {error}")))
}

pub(super) fn main(mut args: Args) -> Result<ExitCode, Failure> {
    args.shared.logs.init();
    if let Some(target) = args.target.take() {
        return live::run(&target, args);
    }
    let (evidence, appraisal) = judge(&args)?;
    if let Some(path) = &args.write_policy {
        let policy = evidence.and_then(|evidence| appraisal.policy_toml(&evidence));
        write_policy(policy, path)?;
    }
    let report = &appraisal.report;
    let text = if args.json {
        let mut json = serde_json::to_value(report).unwrap_or_default();
        json["domain"] = args
            .recorded
            .domain
            .as_ref()
            .map(ToString::to_string)
            .into();
        format!("{json:#}\n")
    } else {
        rendered(report, None, args.length())?
    };
    print(&text)?;
    Ok(match appraisal.outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    })
}

/// The evidence, if it could be read, and the verdict.
fn judge(args: &Args) -> Result<(Option<Evidence>, Appraisal), Failure> {
    let policy = args.shared.proved.policy()?;
    let anchors = args.shared.proved.trust_anchors()?;
    let case = args.recorded.read()?;
    let appraisal = case.judge(&policy, &anchors);
    Ok((case.evidence.ok(), appraisal))
}

/// A recorded report, and what it is appraised with, except the policy.
pub(super) struct Case {
    pub(super) evidence: Result<Evidence, Rejected>,
    collateral: Result<Collateral, Rejected>,
    files: Option<FilesAtHand>,
    tags: Option<UpstreamTags>,
    subject: Subject,
    spki: Spki,
    nonce: Nonce,
    now: UnixTime,
}

impl Recorded {
    /// Reads the files.
    pub(super) fn read(&self) -> Result<Case, Failure> {
        let Self {
            evidence: Some(evidence),
            nonce: Some(nonce),
            spki: Some(spki),
            collateral: Some(collateral),
            compose_files,
            compose_tags,
            at,
            domain,
        } = self
        else {
            // clap asks for all of them.
            let missing = "--evidence needs --nonce, --spki and --collateral";
            return Err(Failure::Usage(missing.to_owned()));
        };
        let evidence = read_files::read(evidence)?;
        let collateral = read_files::read(collateral)?;
        let files = compose_files.as_deref().map(read_files::compose_files);
        let tags = compose_tags.as_deref().map(read_files::compose_tags);
        Ok(Case {
            evidence: Evidence::parse(&evidence),
            collateral: Collateral::from_json(&collateral),
            files: files.transpose()?,
            tags: tags.transpose()?,
            subject: Subject {
                domain: match domain {
                    Some(domain) => Expected::Known(domain.clone()),
                    None => Expected::NotChecked("no --domain was given"),
                },
                models: Expected::NotChecked(
                    "offline there is no attested channel that vouches for the name",
                ),
            },
            spki: *spki,
            nonce: *nonce,
            now: at.unwrap_or_else(|| Clock::system().now()),
        })
    }
}

impl Case {
    pub(super) fn judge(&self, policy: &Policy, anchors: &TrustAnchors) -> Appraisal {
        let (evidence, collateral) = match (&self.evidence, &self.collateral) {
            (Ok(evidence), Ok(collateral)) => (evidence, collateral),
            (Err(rejected), _) | (_, Err(rejected)) => {
                return Appraisal::unreadable(rejected.clone(), policy, anchors, self.now);
            }
        };
        appraise(&Appraise {
            evidence,
            subject: &self.subject,
            live_spki: self.spki,
            nonce: self.nonce,
            collateral,
            policy,
            trust_anchors: anchors,
            context: Context {
                floor: FloorCheck::NotKept("offline there is no memory of collateral seen before"),
                history: HistoryCheck::NotKept(
                    "offline there is no memory of what was seen before",
                ),
                files: match &self.files {
                    Some(files) => FilesCheck::AtHand(files),
                    None => FilesCheck::NotFetched(
                        "offline none are fetched, and no --compose-files was given",
                    ),
                },
                tags: match &self.tags {
                    Some(tags) => TagsCheck::AtHand(tags),
                    None => TagsCheck::NotFetched(
                        "offline none are fetched, and no --compose-tags was given",
                    ),
                },
                nras: NrasCheck::NotAsked("offline NVIDIA is not asked"),
                issuers: None,
            },
            now: self.now,
        })
    }
}

fn write_policy(policy: Option<String>, path: &PathBuf) -> Result<(), Failure> {
    let Some(text) = policy else {
        let _ = writeln!(
            std::io::stderr(),
            "no policy was written: the report has no measured values"
        );
        return Ok(());
    };
    std::fs::File::create_new(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            Failure::Unreadable(format!("--write-policy {}: {error}", path.display()))
        })?;
    let _ = writeln!(
        std::io::stderr(),
        "wrote {}: review it before you use it",
        path.display()
    );
    Ok(())
}
