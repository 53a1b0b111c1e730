//! The refusals of GPU evidence, each with a stable code; a part of
//! [`Rejected`](crate::Rejected).

use crate::refusals::table::rejections;

rejections! {
    /// Why GPU evidence was refused: one variant a check. GPUs are counted from 0,
    /// in the order of the list.
    GpuRejected;

    TooLarge { what: String, len: usize, max: usize }
        "evidence_gpu_too_large" check Gpus blame Machine
        "{what} has {len} bytes, at most {max} are read"
        means "The GPU evidence is larger than any honest one (98 KB for eight GPUs).";
    Payload { detail: String }
        "evidence_gpu_payload" check Gpus blame Machine
        "the GPU payload cannot be read: {detail}"
        means "The GPU part of the report is not the JSON that NVIDIA's tools write.";
    TooMany { got: usize, max: usize }
        "evidence_gpu_too_many" check Gpus blame Machine
        "evidence of {got} GPUs, at most {max} are read"
        means "The report lists more GPUs than a machine has.";
    Missing { what: &'static str }
        "rejected_gpu_missing" check Gpus blame Machine
        "{what}"
        means "The machine gave evidence of no GPU at all."
        remedy "Ask the backend's operator, or try another instance. To accept a backend without GPUs, set gpu.mode = \"off\" in a policy of your own.";
    PayloadNonce { field: String, got: String, expected: String }
        "rejected_gpu_payload_nonce" check Gpus blame Machine
        "{field} is {got}, our nonce is {expected}"
        means "The GPU evidence states that it answers another request."
        remedy "Try again. If the refusal persists, do not use this backend.";
    Structure { gpu: usize, detail: String }
        "evidence_gpu_structure" check Gpus blame Unknown
        "the evidence of GPU {gpu} does not have the layout of SPDM measurements: {detail}"
        means "The evidence is cut short, has bytes after its end, or has a length that leads outside of it.";
    Header { gpu: usize, field: &'static str, got: String, expected: String }
        "evidence_gpu_header" check Gpus blame Unknown
        "{field} of GPU {gpu} is {got}, expected {expected}"
        means "The evidence is not an SPDM 1.1 answer to a request for all measurements, signed with the key of slot 0.";
    Blocks { gpu: usize, detail: String }
        "evidence_gpu_blocks" check Gpus blame Unknown
        "the measurements of GPU {gpu}: {detail}"
        means "The measurement record does not hold every index once, in order, as a SHA-384 digest.";
    Opaque { gpu: usize, detail: String }
        "evidence_gpu_opaque" check Gpus blame Unknown
        "the statements of GPU {gpu} beside its measurements: {detail}"
        means "The fields beside the measurements (versions, switches) are malformed or could be read in two ways.";
    Certificates { gpu: usize, detail: String }
        "evidence_gpu_certificates" check Gpus blame Machine
        "the certificates of GPU {gpu} cannot be read: {detail}"
        means "The chain is not made of PEM certificates only.";
    ChainLength { gpu: usize, got: usize, expected: usize }
        "rejected_gpu_chain_length" check Gpus blame Unknown
        "GPU {gpu} has {got} certificates, expected {expected}"
        means "A chain has exactly five certificates: firmware, device, provisioner, family and root.";
    Root { gpu: usize, got: String, expected: String }
        "rejected_gpu_root" check Gpus blame Unknown
        "the chain of GPU {gpu} ends at the certificate {got}, trusted is {expected}"
        means "The GPU's identity was not certified under the trusted root, which is NVIDIA's.";
    Chain { gpu: usize, certificate: &'static str, detail: String }
        "rejected_gpu_chain" check Gpus blame Machine
        "{certificate} of GPU {gpu}: {detail}"
        means "A certificate between the GPU and NVIDIA's root is forged, expired, or may not issue the next.";
    Dice { gpu: usize }
        "rejected_gpu_dice" check Gpus blame Machine
        "the firmware's certificate of GPU {gpu} was derived for another device key than the one that signed it"
        means "The certificate of the firmware names another device's key (DICE).";
    Architecture { gpu: usize, field: &'static str, got: String, expected: &'static str }
        "rejected_gpu_architecture" check Gpus blame Machine
        "{field} of GPU {gpu} is {got}, expected {expected}"
        means "The certificates of a GPU contradict each other about its architecture, or are those of a switch.";
    NotUnderstood { gpu: usize, chip: String }
        "evidence_gpu_not_understood" check Gpus blame Age
        "the certificates of GPU {gpu} name the architecture {chip}, which this version does not understand"
        means "NVIDIA certified a GPU of an architecture that is newer than this program, and the policy demands evidence of GPUs."
        remedy "Update verified-proxy: this version does not understand GPUs of this architecture.";
    Signature { gpu: usize }
        "rejected_gpu_signature" check Gpus blame Machine
        "the evidence of GPU {gpu} was not signed by its certificate's key"
        means "The measurements were changed, or are those of another GPU.";
    Nonce { gpu: usize, got: String, expected: String }
        "rejected_gpu_nonce" check Gpus blame Machine
        "GPU {gpu} signed the nonce {got}, ours is {expected}"
        means "The GPU evidence is genuine but answers another request: it may be a recording.";
    Fwid { gpu: usize, got: String, expected: String }
        "rejected_gpu_fwid" check Gpus blame Machine
        "GPU {gpu} reports the firmware {got}, its certificate was derived from {expected}"
        means "The firmware that answered is not the one that its key was derived from.";
    Duplicate { gpu: usize, first: usize }
        "rejected_gpu_duplicate" check Gpus blame Machine
        "GPU {gpu} is GPU {first} again"
        means "The list has one GPU several times, so there are fewer GPUs than it names.";
    Topology { gpu: usize, what: &'static str, got: String, first: usize, expected: String }
        "rejected_gpu_topology" check Gpus blame Machine
        "{what} of GPU {gpu}: {got}; of GPU {first}: {expected}"
        means "The GPUs are not connected by the same switches: they are not in one machine.";
    Count { got: usize, expected: u32, accept: String }
        "rejected_gpu_count" check GpuShape blame Unknown
        "the machine has evidence of {got} GPUs, the policy expects {expected}"
        means "GPUs are missing from the evidence, or the machine has another shape than expected."
        remedy "If you know that machines of this shape serve the model, accept it in a policy of your own.";
    Mode { gpu: usize, what: &'static str, got: String, expected: &'static str }
        "rejected_gpu_mode" check GpuShape blame Machine
        "{what} of GPU {gpu}: {got}; the policy demands {expected}"
        means "A GPU is in another mode than the policy demands (gpu.protected_pcie = \"required\"), or does not state its mode."
        remedy "Do not use this backend unless its operator can explain the mode. To accept machines without Protected PCIe, set gpu.protected_pcie = \"report\" in a policy of your own.";
    Device { gpu: usize, got: String, allowed: usize, accept: String }
        "rejected_gpu_device" check GpuShape blame Unknown
        "GPU {gpu} is the device {got}, which is not among the {allowed} that the policy names"
        means "A GPU is genuine, but your policy does not name it."
        remedy "If you know why the machine was replaced, add the GPU to your policy.";
    Places { places: u32, gpus: usize, switches: usize }
        "rejected_gpu_places" check GpuPlaces blame Unknown
        "the machine was measured with {places} places for GPUs and NVSwitches; {gpus} GPUs signed our nonce and name {switches} NVSwitches"
        means "The machine has a device that no signature accounts for, or a device that should be there did not answer."
        remedy "Ask the backend's operator what is in the other places. To accept machines whose switches are not named, set gpu.places = \"report\" in a policy of your own.";
    PlacesUnknown {}
        "rejected_gpu_places_unknown" check GpuPlaces blame Unknown
        "a row of the policy accepts the machine's tables, and its stated shape does not explain them: the number of places for GPUs is not known"
        means "The policy demands that each place for a GPU or NVSwitch is accounted for, and the number of places is not known."
        remedy "State the number in that row of your policy (places = 12 for eight GPUs and four NVSwitches), or set gpu.places = \"report\".";
    Measurement { gpu: usize, id: String, index: String, got: String }
        "rejected_gpu_measurement" check GpuMeasurements blame Unknown
        "measurement {index} of GPU {gpu} is {got}, which no table of the policy for {id} allows"
        means "The firmware or driver of a GPU does not have the policy's reference values."
        remedy "Ask the backend's operator: an update of the driver looks like this too. Without an explanation, do not use this backend.";
    NoTable { gpu: usize, id: String }
        "rejected_gpu_no_table" check GpuMeasurements blame Unknown
        "GPU {gpu} has {id}, for which the policy has no table"
        means "The policy has reference values for drivers or for VBIOSes, and none for the version of this GPU."
        remedy "Ask the backend's operator whether and when the GPU was updated. Then add the reference values of the new version to your policy.";
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
