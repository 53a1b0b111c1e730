//! What each check compares with what, and what each part of the proof is worth.

use super::{CheckId, Group};

impl Group {
    /// Every part, in the order in which an explanation goes through them: from
    /// the hardware up to this connection.
    pub const ALL: [Self; 9] = [
        Self::Evidence,
        Self::Hardware,
        Self::Boot,
        Self::Software,
        Self::Identity,
        Self::Deployment,
        Self::Gpus,
        Self::Connection,
        Self::Beyond,
    ];

    /// What it proves if all of it holds, and whom that trusts.
    #[must_use]
    pub const fn proves(self) -> &'static str {
        match self {
            Self::Evidence => {
                "The report can be understood in one way only. That proves nothing yet: its values count where something below vouches for them."
            }
            Self::Hardware => {
                "A genuine and patched TDX machine, which its host cannot debug, signed this quote. That trusts Intel, who certifies machines and judges their patches, and that nobody extracted this machine's keys."
            }
            Self::Boot => {
                "The log of the boot is the one that the hardware measured. That trusts nobody else; it says what was started, not that it is good."
            }
            Self::Software => {
                "Firmware, kernel and initrd are ones that the policy names, on a machine of a known shape. That trusts who wrote the policy, and who built that image."
            }
            Self::Identity => {
                "The operator's key management service signed for exactly this measured state and this application. That trusts who runs that service: it can sign for other software too."
            }
            Self::Deployment => {
                "The measured manager says which files it was told to start. That trusts the manager and all software beside it that reaches its sockets: the log shows honest changes, and is no defence against the operator."
            }
            Self::Gpus => {
                "Genuine NVIDIA GPUs signed our nonce. That trusts NVIDIA, and the machine above for having asked its own GPUs: their evidence names no machine, and switches between them show none."
            }
            Self::Connection => {
                "This very connection ends in the machine of the quote, and its answer was made for us. That trusts the machine to keep its TLS key to itself."
            }
            Self::Beyond => "What others vouch for. Nothing above rests on it.",
        }
    }
}

impl CheckId {
    /// What is compared with what.
    #[must_use]
    pub const fn compared(self) -> &'static str {
        match self {
            Self::Evidence => "the answer's bytes with the one layout that is read",
            Self::QuoteFormat => "the quote's layout with Intel's",
            Self::CollateralValid => {
                "Intel's documents with their signatures, their validity and this time"
            }
            Self::Quote => "every signature from the quote up with the trust root",
            Self::CollateralFloor => {
                "the documents' dates with the newest that were seen before, and their edition with Intel's list"
            }
            Self::TcbEvaluation => {
                "the number of Intel's judgement with the least one of the policy"
            }
            Self::TcbPlatform => {
                "CPU and PCE versions with Intel's levels, and the level with the policy"
            }
            Self::TcbModule => {
                "the TDX module's version with Intel's levels, and the level with the policy"
            }
            Self::TcbQe => {
                "the quoting enclave's version with Intel's levels, and the level with the policy"
            }
            Self::TdAttributes => "the TD's attributes with those of the policy",
            Self::Xfam => "the TD's CPU features (XFAM) with those of the policy",
            Self::TlsKey => "the TLS key that the report names with the key of this connection",
            Self::Nonce => "the nonce in report and quote with the one that was sent",
            Self::ReportData => {
                "the quote's report data with a digest of signing key and TLS key, and the nonce"
            }
            Self::EncryptionKey => {
                "the key that clients may encrypt to with the attested signing key"
            }
            Self::OhttpKey => "the signature over the OHTTP key with the attested signing key",
            Self::Rtmrs => "the log's digests, folded, with the quote's registers",
            Self::BootEvents => {
                "the events' digests with their contents, and their order with dstack's"
            }
            Self::Compose => {
                "the SHA-256 of the application description with the measured event and the quote"
            }
            Self::OsImage => "MRTD, RTMR1, RTMR2 and the image's hash with an image of the policy",
            Self::Firmware => "nine events of RTMR0 with a firmware of the policy",
            Self::TdHob => {
                "the first event of RTMR0 with the one that the stated memory size gives"
            }
            Self::Acpi => {
                "three events of RTMR0 with the tables that QEMU makes of the stated shape, or with a row of the policy"
            }
            Self::Kms => {
                "the identity certificate with the policy's KMS, and the registers inside with the quote's"
            }
            Self::AppId => "the application id that the KMS signed with RTMR3's and the policy's",
            Self::KeyProvider => "the key provider in RTMR3 with the KMS that signed",
            Self::Pins => "single values with the lists that the policy pins",
            Self::Model => "the name in the report with those of the endpoint list",
            Self::Deployment => {
                "the log's digest and our nonce with a second quote, and that quote's machine with this one"
            }
            Self::DeploymentRules => "tag and commit of each started file with the policy",
            Self::DeploymentTags => {
                "each started file's tag and commit with the tags that its repository has now"
            }
            Self::DeploymentFiles => {
                "each file with the digest in the log, and what it says with the policy's rules"
            }
            Self::DeploymentContinuity => "the log with the one last seen of this instance",
            Self::LastSeen => {
                "levels, OS image, key management service and signing key with those that verdicts on this domain rested on"
            }
            Self::Findings => "what was seen with the findings that the policy refuses",
            Self::Gpus => {
                "each GPU's signature and certificates with the GPU root, and the nonce inside with ours"
            }
            Self::GpuShape => {
                "the number and mode of the GPUs with the policy, and the switches that they name with each other's"
            }
            Self::GpuPlaces => {
                "the GPUs that signed and the switches that they name with the places that the measured tables have"
            }
            Self::GpuMeasurements => "the GPUs' measurements with the policy's tables",
            Self::Nras => "what NVIDIA's service signed about these GPUs with what we found",
            Self::CaChain => "the server's certificate with the system's authorities",
        }
    }
}
