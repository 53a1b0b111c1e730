//! The refusals of compose files, each with a stable code; a part of
//! [`Rejected`](crate::Rejected).

use crate::refusals::table::rejections;

rejections! {
    /// Why a compose file was refused: one variant a check.
    ComposeRejected;

    TooLarge { file: String, len: usize, max: usize }
        "evidence_compose_too_large" check DeploymentFiles blame Machine
        "compose file {file} has {len} bytes, at most {max} are read"
        means "The compose file is larger than any honest one (0.1 MB).";
    NotText { file: String, detail: String }
        "evidence_compose_not_text" check DeploymentFiles blame Unknown
        "compose file {file} is not plain text: {detail}"
        means "The compose file has characters that two readers of YAML could take differently, such as tabs and other line breaks than line feeds.";
    Syntax { file: String, line: usize, detail: String }
        "evidence_compose_syntax" check DeploymentFiles blame Unknown
        "compose file {file}, line {line}: {detail}"
        means "The compose file is not YAML that this proxy reads.";
    TooComplex { file: String, detail: String }
        "evidence_compose_too_complex" check DeploymentFiles blame Unknown
        "compose file {file} exceeds a structural limit: {detail}"
        means "The compose file nests deeper, holds more or expands to more than any honest one; the limit bounds the cost of reading.";
    Documents { file: String }
        "evidence_compose_documents" check DeploymentFiles blame Unknown
        "compose file {file} holds more than one YAML document"
        means "Docker Compose would merge the documents; this proxy reads one.";
    Tag { file: String }
        "evidence_compose_tag" check DeploymentFiles blame Unknown
        "compose file {file} has a YAML tag"
        means "A tag such as !reset or !override changes what a value means to Docker Compose.";
    Key { file: String, got: String }
        "evidence_compose_key" check DeploymentFiles blame Unknown
        "compose file {file} has {got} as a key"
        means "A key is not a plain string, so two readers could take it differently.";
    DuplicateKey { file: String, key: String }
        "evidence_compose_duplicate_key" check DeploymentFiles blame Machine
        "compose file {file} names the key {key} twice in one mapping"
        means "Two readers of such a file could see different values.";
    Alias { file: String }
        "evidence_compose_alias" check DeploymentFiles blame Machine
        "compose file {file} has a value that contains itself"
        means "An alias is inside of the value that it names, so the file has no end.";
    Merge { file: String, got: String }
        "evidence_compose_merge" check DeploymentFiles blame Unknown
        "compose file {file} merges {got}, expected a mapping"
        means "A merge key (<<) names something that cannot be merged.";
    Shape { file: String, place: String, expected: &'static str, got: String }
        "evidence_compose_shape" check DeploymentFiles blame Unknown
        "compose file {file}, {place}: expected {expected}, got {got}"
        means "A part of the compose file does not have the form that Docker Compose specifies."
        remedy "The backend may use settings that this proxy does not know: look for a newer proxy.";
    Elsewhere { file: String, place: String, what: &'static str }
        "evidence_compose_elsewhere" check DeploymentFiles blame Machine
        "compose file {file}, {place} takes {what} from outside the file"
        means "What runs depends on something that the file's hash does not cover, such as another file.";
    Setting { file: String, place: String, setting: String }
        "evidence_compose_setting" check DeploymentFiles blame Unknown
        "compose file {file}, {place} has the setting {setting}, which this proxy cannot judge"
        means "A setting may give rights that the rules do not know of."
        remedy "The backend may use settings that this proxy does not know: look for a newer proxy.";
    Variable { file: String, place: String, setting: String, got: String }
        "evidence_compose_variable" check DeploymentFiles blame Machine
        "compose file {file}, {place}: {setting} is {got}, which a variable decides"
        means "The machine's operator sets a value that the rules judge: a variable fills it in from outside the file.";
    Image { file: String, service: String, image: String }
        "evidence_compose_image" check DeploymentFiles blame Unknown
        "compose file {file}, service {service}: {image} is not an image reference"
        means "The name of a container image cannot be read.";

    DockerSocket { file: String, service: String, path: String }
        "rejected_compose_docker_socket" check DeploymentFiles blame Machine
        "compose file {file}, service {service} mounts {path}, which holds Docker's socket"
        means "A container can start any other container, also with a socket that is mounted read-only.";
    DstackSocket { file: String, service: String, image: String, path: String }
        "rejected_compose_dstack_socket" check DeploymentFiles blame Machine
        "compose file {file}, service {service} ({image}) mounts {path}, which gives quotes and keys of this machine"
        means "A program other than the inference proxy can make evidence in the machine's name.";
    Certs { file: String, service: String, image: String, volume: String }
        "rejected_compose_certs" check DeploymentFiles blame Machine
        "compose file {file}, service {service} ({image}) mounts {volume}, which holds the TLS key"
        means "A program other than the web server and the inference proxy can read the TLS key of your connection.";
    HostPath { file: String, service: String, path: String }
        "rejected_compose_host_path" check DeploymentFiles blame Machine
        "compose file {file}, service {service} mounts {path} of the machine"
        means "A container sees files of the machine outside of its own volumes.";
    Volume { file: String, volume: String, detail: String }
        "rejected_compose_volume" check DeploymentFiles blame Machine
        "compose file {file}, volume {volume}: {detail}"
        means "A volume is not the file's own: it is another application's, or a path of the machine.";
    Privileged { file: String, service: String, image: String, setting: String }
        "rejected_compose_privileged" check DeploymentFiles blame Machine
        "compose file {file}, service {service} ({image}) has {setting}"
        means "A container other than the inference proxy has rights over the whole machine.";
    Capability { file: String, service: String, image: String, capability: String }
        "rejected_compose_capability" check DeploymentFiles blame Machine
        "compose file {file}, service {service} ({image}) has the capability {capability}"
        means "A container has rights over the machine that its task does not need.";
    Namespace { file: String, service: String, setting: String }
        "rejected_compose_namespace" check DeploymentFiles blame Machine
        "compose file {file}, service {service} has {setting}"
        means "A container can see processes or traffic of others, which include your prompts.";
    Device { file: String, service: String, device: String }
        "rejected_compose_device" check DeploymentFiles blame Machine
        "compose file {file}, service {service} has the device {device}"
        means "A container has direct access to a device that is not a GPU.";
    Repository { file: String, service: String, image: String }
        "rejected_compose_repository" check DeploymentFiles blame Unknown
        "compose file {file}, service {service}: the repository of {image} is neither one that may see prompts nor one of a known helper"
        means "The rules do not know a program that runs in the machine; it is treated as one that sees your prompts."
        remedy "Do not use this backend unless its operator announced the new program.";
    SidecarGpu { file: String, service: String, image: String }
        "rejected_compose_sidecar_gpu" check DeploymentFiles blame Machine
        "compose file {file}, service {service} ({image}) is a helper with access to the GPUs"
        means "A program that should not see prompts can read the memory of the GPUs that they are computed on.";
    SidecarServes { file: String, service: String, image: String, by: String, place: String }
        "rejected_compose_sidecar_serves" check DeploymentFiles blame Machine
        "compose file {file}, service {service} ({image}) is a helper, but service {by} names it in {place}"
        means "Prompts can reach a program that should not see them.";
    SharedVolume { file: String, service: String, volume: String, helper: String, image: String }
        "rejected_compose_shared_volume" check DeploymentFiles blame Machine
        "compose file {file}, service {service} mounts the volume {volume}, which the helper {helper} ({image}) may write"
        means "A program that should not see prompts can change what a web server or an inference proxy reads, such as its configuration.";
    Outside { file: String, service: String, place: String, address: String }
        "rejected_compose_outside" check DeploymentFiles blame Machine
        "compose file {file}, service {service}: {place} sends to {address}, which is not a service of the machine"
        means "The service can send prompts out of the attested machine, to an address that no evidence covers.";
    NotPinned { file: String, service: String, image: String }
        "rejected_compose_not_pinned" check DeploymentFiles blame Machine
        "compose file {file}, service {service}: {image} is not pinned by a digest, or a variable may replace it"
        means "The file does not fix which program runs: the registry decided that when the image was downloaded, or the machine's operator chooses it by a variable.";
    Digest { file: String, service: String, image: String, allowed: usize }
        "rejected_compose_digest" check DeploymentFiles blame Unknown
        "compose file {file}, service {service}: {image} is not among the {allowed} images that the rules allow"
        means "A program on the way of your prompts is not one that you allowed."
        remedy "If you expected the change, allow its digest.";
}
