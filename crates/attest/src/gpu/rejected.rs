//! Every way in which GPU evidence can fail, each with a stable code; a part of
//! [`Rejected`](crate::Rejected).

use crate::rejected::rejections;

rejections! {
    /// Why GPU evidence was refused: one variant a check. GPUs are counted from 0,
    /// in the order of the list.
    GpuRejected;

    TooLarge { what: String, len: usize, max: usize }
        "evidence_gpu_too_large" "{what} has {len} bytes, at most {max} are read"
        means "The GPU evidence is larger than any honest one (98 KB for eight GPUs)."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    Payload { detail: String }
        "evidence_gpu_payload" "the GPU payload cannot be read: {detail}"
        means "The GPU part of the report is not the JSON that NVIDIA's tools write."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    TooMany { got: usize, max: usize }
        "evidence_gpu_too_many" "evidence of {got} GPUs, at most {max} are read"
        means "The report lists more GPUs than a machine has."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    Missing { what: &'static str }
        "rejected_gpu_missing" "{what}"
        means "The machine gave evidence of no GPU at all."
        remedy "Ask the backend's operator; another instance may have it. For a backend that needs no GPU, a policy of your own says gpu.mode = \"if-present\".";
    PayloadNonce { field: String, got: String, expected: String }
        "rejected_gpu_payload_nonce" "{field} is {got}, our nonce is {expected}"
        means "The GPU evidence says of itself that it answers another request."
        remedy "Try again; if it stays, do not use this backend.";
    Structure { gpu: usize, detail: String }
        "evidence_gpu_structure" "the evidence of GPU {gpu} does not have the layout of SPDM measurements: {detail}"
        means "The bytes are cut short, have more at their end, or a length inside leads outside."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    Header { gpu: usize, field: &'static str, got: String, expected: String }
        "evidence_gpu_header" "{field} of GPU {gpu} is {got}, expected {expected}"
        means "It is not an answer of SPDM 1.1 to a request for all measurements, signed, of slot 0."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    Blocks { gpu: usize, detail: String }
        "evidence_gpu_blocks" "the measurements of GPU {gpu}: {detail}"
        means "The measurement record does not hold every index once, in order, as a SHA-384 digest."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    Opaque { gpu: usize, detail: String }
        "evidence_gpu_opaque" "what GPU {gpu} says beside its measurements: {detail}"
        means "The fields beside the measurements (versions, switches) are malformed or could be read in two ways."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    Certificates { gpu: usize, detail: String }
        "evidence_gpu_certificates" "the certificates of GPU {gpu} cannot be read: {detail}"
        means "The chain is not PEM certificates and nothing else."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    ChainLength { gpu: usize, got: usize, expected: usize }
        "rejected_gpu_chain_length" "GPU {gpu} has {got} certificates, expected {expected}"
        means "A chain goes from the firmware's key over device, provisioner and family to the root: no more, no less."
        remedy "Do not use this backend; report it to its operator.";
    Root { gpu: usize, got: String, expected: String }
        "rejected_gpu_root" "the chain of GPU {gpu} ends at the certificate {got}, trusted is {expected}"
        means "The GPU's identity was not certified by NVIDIA but by somebody else."
        remedy "Do not use this backend; report it to its operator.";
    Chain { gpu: usize, certificate: &'static str, detail: String }
        "rejected_gpu_chain" "{certificate} of GPU {gpu}: {detail}"
        means "A certificate between the GPU and NVIDIA's root is forged, expired, or may not issue the next."
        remedy "Do not use this backend; report it to its operator.";
    Dice { gpu: usize }
        "rejected_gpu_dice" "the firmware's certificate of GPU {gpu} was derived for another device key than the one that signed it"
        means "The certificate of the firmware names another device's key (DICE)."
        remedy "Do not use this backend; report it to its operator.";
    Architecture { gpu: usize, field: &'static str, got: String, expected: &'static str }
        "rejected_gpu_architecture" "{field} of GPU {gpu} is {got}, expected {expected}"
        means "It is no GPU of an architecture that is understood, or another one than the report says."
        remedy "Do not use this backend if its operator cannot explain it; a newer release may know the architecture.";
    Signature { gpu: usize }
        "rejected_gpu_signature" "the evidence of GPU {gpu} was not signed by its certificate's key"
        means "The measurements were changed, or are those of another GPU."
        remedy "Do not use this backend; report it to its operator.";
    Nonce { gpu: usize, got: String, expected: String }
        "rejected_gpu_nonce" "GPU {gpu} signed the nonce {got}, ours is {expected}"
        means "The GPU evidence is genuine but answers another request: it may be a recording."
        remedy "Do not use this backend; report it to its operator.";
    Fwid { gpu: usize, got: String, expected: String }
        "rejected_gpu_fwid" "GPU {gpu} reports the firmware {got}, its certificate was derived from {expected}"
        means "The firmware that answered is not the one that its key belongs to."
        remedy "Do not use this backend; report it to its operator.";
    Duplicate { gpu: usize, first: usize }
        "rejected_gpu_duplicate" "GPU {gpu} is GPU {first} again"
        means "One GPU stands in the list several times, so there are fewer than it seems."
        remedy "Do not use this backend; report it to its operator.";
    Versions { gpu: usize, what: &'static str, got: String, expected: String }
        "rejected_gpu_versions" "{what} of GPU {gpu} is {got}, that of GPU 0 is {expected}"
        means "One machine has one driver and its GPUs the same firmware; these come from several machines."
        remedy "Do not use this backend if its operator cannot explain it.";
    Topology { gpu: usize, what: &'static str, got: String, expected: String }
        "rejected_gpu_topology" "{what} of GPU {gpu}: {got}; of GPU 0: {expected}"
        means "The GPUs are not connected by the same switches: they are not in one machine."
        remedy "Do not use this backend; report it to its operator.";
    Stated { listed: usize, stated: u64 }
        "evidence_gpu_inconsistent" "the report has evidence of {listed} GPUs, info.vm_config.num_gpus is {stated}"
        means "The machine is said to have another number of GPUs than it gave evidence of."
        remedy "Try again; if it stays, report it to the backend's operator.";
    Count { got: usize, expected: u32, accept: String }
        "rejected_gpu_count" "the machine has evidence of {got} GPUs, the policy expects {expected}"
        means "GPUs are missing from the evidence, or the machine has another shape than expected."
        remedy "If you know that machines of this shape serve the model, accept it in a policy of your own.";
    Device { gpu: usize, got: String, allowed: usize, accept: String }
        "rejected_gpu_device" "GPU {gpu} is the device {got}, which is not among the {allowed} that the policy names"
        means "A GPU is genuine, but none of those that your policy names."
        remedy "Add it to your policy if the machine was exchanged and you know why.";
    Measurement { gpu: usize, id: String, index: String, got: String }
        "rejected_gpu_measurement" "measurement {index} of GPU {gpu} is {got}, which no table of the policy for {id} allows"
        means "The firmware or driver of a GPU is not as the policy's reference values say."
        remedy "Do not use this backend if its operator cannot explain it; an update of the driver looks like this too.";
}

impl GpuRejected {
    /// The policy line that would accept what was seen, if there is one.
    pub(crate) fn accept(&self) -> Option<String> {
        match self {
            Self::Count { accept, .. } | Self::Device { accept, .. } => Some(accept.clone()),
            _ => None,
        }
    }
}
