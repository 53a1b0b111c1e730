//! Every way in which a compose file can fail, each with a stable code; a part
//! of [`Rejected`](crate::Rejected).

use crate::rejected::rejections;

rejections! {
    /// Why a compose file was refused: one variant a check.
    ComposeRejected;

    TooLarge { file: String, len: usize, max: usize }
        "evidence_compose_too_large" "compose file {file} has {len} bytes, at most {max} are read"
        means "The compose file is larger than any honest one (0.1 MB)."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    NotText { file: String, detail: String }
        "evidence_compose_not_text" "compose file {file} is not plain text: {detail}"
        means "The compose file has characters that two readers of YAML could take differently, such as tabs and other line breaks than line feeds."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    Syntax { file: String, line: usize, detail: String }
        "evidence_compose_syntax" "compose file {file}, line {line}: {detail}"
        means "The compose file is not YAML that this proxy reads."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    TooComplex { file: String, detail: String }
        "evidence_compose_too_complex" "compose file {file} exceeds a structural limit: {detail}"
        means "The compose file nests deeper, holds more or expands to more than any honest one; reading on would cost more than it may."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    Documents { file: String }
        "evidence_compose_documents" "compose file {file} holds more than one YAML document"
        means "Docker Compose would merge the documents; this proxy reads one."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    Tag { file: String }
        "evidence_compose_tag" "compose file {file} has a YAML tag"
        means "A tag such as !reset or !override changes what a value means to Docker Compose."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    Key { file: String, got: String }
        "evidence_compose_key" "compose file {file} has {got} as a key"
        means "A key is not a plain string, so two readers could take it differently."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    DuplicateKey { file: String, key: String }
        "evidence_compose_duplicate_key" "compose file {file} names the key {key} twice in one mapping"
        means "Two readers of such a file could see different values."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    Alias { file: String }
        "evidence_compose_alias" "compose file {file} has a value that contains itself"
        means "An alias stands inside of what it names, so the file has no end."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    Merge { file: String, got: String }
        "evidence_compose_merge" "compose file {file} merges {got}, expected a mapping"
        means "A merge key (<<) names something that cannot be merged."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    Shape { file: String, place: String, expected: &'static str, got: String }
        "evidence_compose_shape" "compose file {file}, {place}: expected {expected}, got {got}"
        means "A part of the compose file does not have the form that Docker Compose specifies."
        remedy "The backend may use settings that this proxy does not know: look for a newer proxy.";
    Elsewhere { file: String, place: String, what: &'static str }
        "evidence_compose_elsewhere" "compose file {file}, {place} takes {what} from outside the file"
        means "What runs depends on something that the file's hash does not cover, such as another file."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    Setting { file: String, place: String, setting: String }
        "evidence_compose_setting" "compose file {file}, {place} has the setting {setting}, which this proxy cannot judge"
        means "A setting may give rights that the rules do not know of."
        remedy "The backend may use settings that this proxy does not know: look for a newer proxy.";
    Variable { file: String, place: String, setting: String, got: String }
        "evidence_compose_variable" "compose file {file}, {place}: {setting} is {got}, which a variable decides"
        means "A setting that the rules judge is filled in from outside the file, by whoever runs the machine."
        remedy "Do not use this backend; report it to its operator.";
    Image { file: String, service: String, image: String }
        "evidence_compose_image" "compose file {file}, service {service}: {image} is no image reference"
        means "The name of a container image cannot be read."
        remedy "Nothing on your side helps; report it to the backend's operator.";

    DockerSocket { file: String, service: String, path: String }
        "rejected_compose_docker_socket" "compose file {file}, service {service} mounts {path}, which holds Docker's socket"
        means "A container can start any other container, also with a socket that is mounted read-only."
        remedy "Do not use this backend; report it to its operator.";
    DstackSocket { file: String, service: String, image: String, path: String }
        "rejected_compose_dstack_socket" "compose file {file}, service {service} ({image}) mounts {path}, which gives quotes and keys of this machine"
        means "Another program than the inference proxy can make evidence in the machine's name."
        remedy "Do not use this backend; report it to its operator.";
    Certs { file: String, service: String, image: String, volume: String }
        "rejected_compose_certs" "compose file {file}, service {service} ({image}) mounts {volume}, which holds the TLS key"
        means "Another program than the web server and the inference proxy can read the key that your connection is proved by."
        remedy "Do not use this backend; report it to its operator.";
    HostPath { file: String, service: String, path: String }
        "rejected_compose_host_path" "compose file {file}, service {service} mounts {path} of the machine"
        means "A container sees files of the machine outside of its own volumes."
        remedy "Do not use this backend; report it to its operator.";
    Volume { file: String, volume: String, detail: String }
        "rejected_compose_volume" "compose file {file}, volume {volume}: {detail}"
        means "A volume is another one than its name says: of another application, or a path of the machine."
        remedy "Do not use this backend; report it to its operator.";
    Privileged { file: String, service: String, image: String, setting: String }
        "rejected_compose_privileged" "compose file {file}, service {service} ({image}) has {setting}"
        means "Another container than the inference proxy has rights over the whole machine."
        remedy "Do not use this backend; report it to its operator.";
    Capability { file: String, service: String, image: String, capability: String }
        "rejected_compose_capability" "compose file {file}, service {service} ({image}) has the capability {capability}"
        means "A container has rights over the machine that its task does not need."
        remedy "Do not use this backend; report it to its operator.";
    Namespace { file: String, service: String, setting: String }
        "rejected_compose_namespace" "compose file {file}, service {service} has {setting}"
        means "A container sees processes or traffic of others, your prompts among them."
        remedy "Do not use this backend; report it to its operator.";
    Device { file: String, service: String, device: String }
        "rejected_compose_device" "compose file {file}, service {service} has the device {device}"
        means "A container has direct access to a device that is no GPU."
        remedy "Do not use this backend; report it to its operator.";
    Repository { file: String, service: String, image: String }
        "rejected_compose_repository" "compose file {file}, service {service}: {image} is of no repository that may see prompts, and of no known helper"
        means "A program runs in the machine that the rules do not know; it is taken to see your prompts."
        remedy "Do not use this backend unless its operator announced the new program.";
    SidecarGpu { file: String, service: String, image: String }
        "rejected_compose_sidecar_gpu" "compose file {file}, service {service} ({image}) is a helper with access to the GPUs"
        means "A program that should not see prompts can read the memory of the GPUs that they are computed on."
        remedy "Do not use this backend; report it to its operator.";
    SidecarServes { file: String, service: String, image: String, by: String }
        "rejected_compose_sidecar_serves" "compose file {file}, service {service} ({image}) is a helper, but {by} sends requests to it"
        means "Prompts reach a program that should not see them."
        remedy "Do not use this backend; report it to its operator.";
    NotPinned { file: String, service: String, image: String }
        "rejected_compose_not_pinned" "compose file {file}, service {service}: {image} is not pinned by a digest"
        means "What a program on the way of your prompts really is was decided when its image was downloaded, by its registry."
        remedy "Do not use this backend; report it to its operator.";
    Digest { file: String, service: String, image: String, allowed: usize }
        "rejected_compose_digest" "compose file {file}, service {service}: {image} is not among the {allowed} images that the rules allow"
        means "A program on the way of your prompts is another one than you allowed."
        remedy "Allow its digest if the change is expected.";
}
