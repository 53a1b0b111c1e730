//! The checks, in their order, and what each part of the proof proves.

macro_rules! checks {
    ($($variant:ident $group:ident $id:literal $title:literal $compared:literal;)*) => {
        /// One check, in the order of [`CheckId::ALL`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CheckId {
            $(#[doc = $title] $variant,)*
        }

        impl CheckId {
            /// Every check, in the order in which they run.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, in snake case.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// The question or statement that it checks, for a person.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What is compared with what.
            #[must_use]
            pub const fn compared(self) -> &'static str {
                match self { $(Self::$variant => $compared,)* }
            }

            /// The part of the proof it belongs to.
            #[must_use]
            pub const fn group(self) -> Group {
                match self { $(Self::$variant => Group::$group,)* }
            }
        }
    };
}

checks! {
    Evidence Evidence "evidence" "the report is well-formed"
        "the answer's bytes with the one layout that is read";
    QuoteFormat Hardware "quote_format" "a TDX quote, version 4 or 5"
        "the quote's layout with Intel's";
    CollateralValid Hardware "collateral_valid" "the collateral is current and genuine"
        "Intel's documents with their signatures, their validity and this time";
    Quote Hardware "quote" "signed by a genuine TDX platform"
        "every signature from the quote up with the trust root";
    CollateralFloor Hardware "collateral_floor" "the collateral is no older than seen before"
        "the documents' dates with the newest that were seen before, and their edition with Intel's list";
    TcbEvaluation Hardware "tcb_evaluation" "judged by recent enough rules"
        "the number of Intel's judgement with the least one of the policy";
    TcbPlatform Hardware "tcb_platform" "the platform's TCB"
        "CPU and PCE versions with Intel's levels, and the level with the policy";
    TcbModule Hardware "tcb_module" "the TDX module's TCB"
        "the TDX module's version with Intel's levels, and the level with the policy";
    TcbQe Hardware "tcb_qe" "the quoting enclave's TCB"
        "the quoting enclave's version with Intel's levels, and the level with the policy";
    TdAttributes Hardware "td_attributes" "the TD cannot be debugged"
        "the TD's attributes with those of the policy";
    Xfam Hardware "xfam" "CPU features as expected"
        "the TD's CPU features (XFAM) with those of the policy";
    TlsKey Connection "tls_key" "the attested TLS key is the live one"
        "the TLS key that the report names with the key of this connection";
    Nonce Connection "nonce" "made for this request"
        "the nonce in report and quote with the one that was sent";
    ReportData Connection "report_data" "the quote binds signing key and TLS key"
        "the quote's report data with a digest of signing key and TLS key, and the nonce";
    EncryptionKey Connection "encryption_key" "the key for end-to-end encryption is the attested signing key"
        "the key that clients may encrypt to with the attested signing key";
    OhttpKey Connection "ohttp_key" "the OHTTP key is signed by the attested signing key"
        "the signature over the OHTTP key with the attested signing key";
    Rtmrs Boot "rtmrs" "the event log replays to RTMR0 to RTMR3"
        "the log's digests, folded, with the quote's registers";
    BootEvents Boot "boot_events" "RTMR3 holds the boot events, in order and once each"
        "the events' digests with their contents, and their order with dstack's";
    Compose Boot "compose" "the application description is the measured one"
        "the SHA-256 of the application description with the measured event and the quote";
    OsImage Software "os_image" "the expected OS image"
        "MRTD, RTMR1, RTMR2 and the image's hash with an image of the policy";
    Firmware Software "firmware" "the expected firmware configuration"
        "nine events of RTMR0 with a firmware of the policy";
    TdHob Software "td_hob" "the memory map that the machine's size explains"
        "the first event of RTMR0 with the one that the stated memory size gives";
    Acpi Software "acpi" "a known machine shape"
        "three events of RTMR0 with the tables that QEMU makes of the stated shape, or with a row of the policy";
    Kms Identity "kms" "the expected KMS vouches for this very machine state"
        "the identity certificate with the policy's KMS, and the registers inside with the quote's";
    AppId Identity "app_id" "the expected application"
        "the application id that the KMS signed with RTMR3's and the policy's";
    KeyProvider Identity "key_provider" "keys come from the same KMS"
        "the key provider in RTMR3 with the KMS that signed";
    Pins Identity "pins" "values that the policy pins"
        "single values with the lists that the policy pins";
    Model Identity "model" "the model asked for"
        "the name in the report with those of the endpoint list";
    Deployment Deployment "deployment" "the deployment log is this machine's own, made for this request"
        "the log's digest and our nonce with a second quote, and that quote's machine with this one";
    DeploymentRules Deployment "deployment_rules" "what was started is what the policy admits"
        "tag and commit of each started file with the policy";
    DeploymentTags Deployment "deployment_tags" "each started file's tag is, in its repository, the commit of the log"
        "each started file's tag and commit with the tags that its repository has now";
    DeploymentFiles Deployment "deployment_files" "the files of what was started keep to the policy's rules"
        "each file with the digest in the log, and what it says with the policy's rules";
    DeploymentContinuity Deployment "deployment_continuity" "the log goes on from the one last seen"
        "the log with the one last seen of this instance";
    Findings Deployment "findings" "no finding that the policy refuses"
        "what was seen with the findings that the policy refuses";
    LastSeen Deployment "last_seen" "nothing went down since this domain was last seen"
        "levels, OS image, key management service and signing key with those that verdicts on this domain rested on";
    Gpus Gpus "gpus" "the GPUs are genuine and answered our nonce"
        "each GPU's signature and certificates with the GPU root, and the nonce inside with ours";
    GpuShape Gpus "gpu_shape" "as many GPUs as expected, in one machine"
        "the number and mode of the GPUs with the policy, and the switches that they name with each other's";
    GpuPlaces Gpus "gpu_places" "each measured place for a GPU or NVSwitch is accounted for"
        "the GPUs that signed and the switches that they name with the places that the measured tables have";
    GpuMeasurements Gpus "gpu_measurements" "driver and VBIOS measured as expected"
        "the GPUs' measurements with the policy's tables";
    Nras Gpus "nras" "NVIDIA's attestation service found nothing wrong"
        "what NVIDIA's service signed about these GPUs with what we found";
    CaChain Beyond "ca_chain" "a certificate authority vouches for the domain"
        "the server's certificate with the system's authorities";
}

/// The parts of the proof, as a person reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// The report itself.
    Evidence,
    /// Genuine, patched TDX hardware.
    Hardware,
    /// This TLS connection ends in that machine.
    Connection,
    /// The measurements of its boot.
    Boot,
    /// The booted software, compared with the expected one.
    Software,
    /// The identity that the KMS certified.
    Identity,
    /// The containers that were started in it.
    Deployment,
    /// The GPUs that it uses.
    Gpus,
    /// Checks that this crate does not make.
    Beyond,
}

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

    /// The heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Evidence => "Evidence",
            Self::Hardware => "Hardware",
            Self::Connection => "Channel",
            Self::Boot => "Boot chain",
            Self::Software => "Software",
            Self::Identity => "Identity",
            Self::Deployment => "Deployment",
            Self::Gpus => "GPUs",
            Self::Beyond => "Beyond this proof",
        }
    }

    /// What it proves if all its checks hold, and who has to be trusted for that.
    #[must_use]
    pub const fn proves(self) -> &'static str {
        match self {
            Self::Evidence => {
                "The report can be read in one way only. That proves nothing yet: a value counts only where a check below proves it."
            }
            Self::Hardware => {
                "A genuine and patched TDX machine, which its host cannot debug, signed this quote. That trusts Intel, which certifies machines and judges their patches. It assumes that no attacker extracted this machine's keys."
            }
            Self::Boot => {
                "The log of the boot is the one that the hardware measured. That trusts nobody else; it says what was started, not that it is good."
            }
            Self::Software => {
                "Firmware, kernel and initrd are ones that the policy names, on a machine of a known shape. That trusts the authors of the policy, and the builders of that image."
            }
            Self::Identity => {
                "The operator's key management service signed for exactly this measured state and this application. That trusts the operator of that service: it can sign for other software too."
            }
            Self::Deployment => {
                "The measured manager states which files it was told to start. That trusts the manager and all software beside it that reaches its sockets: the log shows honest changes, and is no defence against the operator."
            }
            Self::Gpus => {
                "Genuine NVIDIA GPUs signed our nonce. That trusts NVIDIA, and the machine above for having asked its own GPUs: their evidence does not identify the machine, and neither do the switches between them."
            }
            Self::Connection => {
                "This connection ends in the machine of the quote, and the machine answered this request. That trusts the machine to keep its TLS key to itself."
            }
            Self::Beyond => "Statements of others. No check above rests on them.",
        }
    }
}
