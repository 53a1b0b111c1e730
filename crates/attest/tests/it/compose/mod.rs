//! Compose files: files of the shapes that are deployed, and what is said of
//! them after one change.

mod accepted;
mod judged;
mod limits;
mod measured;
mod properties;
mod read;
mod ways;

use attest::{ComposeDocument, ComposeRejected, FileRules, Finding, judge_compose};

/// A digest by a letter.
pub(crate) fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

/// A file as it is deployed: two engines behind a proxy, a web server, helpers.
/// `D1` and so on stand for digests.
const DEPLOYED: &str = r#"# One model on eight GPUs.
x-logging: &logging
  driver: json-file
  options: {max-size: "100m", max-file: "10"}

x-gpu-common: &gpu-common
  runtime: nvidia
  ipc: host
  ulimits:
    memlock: -1
    nofile: {soft: 65535, hard: 65535}
  restart: unless-stopped
  logging: *logging

x-engine-env: &engine-env
  HF_TOKEN: ${HUGGING_FACE_HUB_TOKEN}
  HF_HUB_OFFLINE: ${HF_HUB_OFFLINE:-0}

x-engine: &engine
  <<: *gpu-common
  image: lmsysorg/sglang:v1-cu129@D1
  init: true
  volumes:
    - huggingface_cache:/root/.cache/huggingface
    - kernel_cache:/root/.cache/deep_gemm
  environment:
    <<: *engine-env
    NCCL_DEBUG: WARN
  command: >
    python3 -m sglang.launch_server --model-path org/model
    --revision 0123456789abcdef0123456789abcdef01234567 --trust-remote-code
    --log-requests-level 0

services:
  model-1:
    <<: *engine
    container_name: model-1
    deploy:
      resources:
        reservations:
          devices:
            - {driver: nvidia, device_ids: ["0", "1"], capabilities: [gpu]}
  model-2:
    <<: *engine
    container_name: model-2
    deploy:
      resources:
        reservations:
          devices:
            - {driver: nvidia, device_ids: ["2", "3"], capabilities: [gpu]}
  proxy:
    image: nearaidev/vllm-proxy-rs@D2
    container_name: proxy
    privileged: true
    user: root
    runtime: nvidia
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
      - certs:/etc/letsencrypt:ro
    environment:
      - MODEL_NAME=org/model
      - TOKEN=${PROXY_TOKEN}
      - VLLM_BACKEND_URLS=http://model-1:8000,http://model-2:8000
      - CLOUD_API_URL=https://cloud-api.near.ai
      - WEB_CONTEXT_SEARCH_URL=${WEB_CONTEXT_SEARCH_URL:-}
      - COMPOSE_MANAGER_URL=http://compose-manager:8080
    extra_hosts:
      - "compose-manager:host-gateway"
    depends_on: [model-1, model-2]
    logging: *logging
  nginx:
    image: docker.io/nginx@D3
    container_name: nginx
    ports: ["8444:443", "8000:80"]
    volumes:
      - certs:/etc/letsencrypt:ro
    configs:
      - source: nginx_conf
        target: /etc/nginx/nginx.conf
    depends_on:
      proxy: {condition: service_started}
  registrar:
    image: curlimages/curl@D4
    entrypoint: ["sh", "-c"]
    command: ["/register.sh"]
    environment:
      - MODEL_PROXY_TOKEN=${MODEL_PROXY_TOKEN}
    configs: [registrar_script]
    depends_on: [nginx]
  dcgm-exporter:
    image: nvcr.io/nvidia/k8s/dcgm-exporter:4.5.2-distroless
    runtime: nvidia
    cap_add: [SYS_ADMIN]
    ports: ["9400:9400"]
  model-downloader:
    image: ghcr.io/astral-sh/uv:python3.11@D5
    entrypoint: ["sh", "-c", "uvx huggingface_hub download org/model"]
    volumes:
      - huggingface_cache:/root/.cache/huggingface
  otelcol:
    image: otel/opentelemetry-collector-contrib@D6
    user: "0:0"
    volumes:
      - /var/lib/docker/containers:/var/lib/docker/containers:ro
    configs: [otel]

volumes:
  certs: {external: true, name: certs}
  huggingface_cache:
  kernel_cache:

networks:
  default: {external: true, name: dstack_default}

configs:
  nginx_conf:
    content: |
      server {
        listen 443 ssl;
        location / { proxy_pass http://proxy:8000; proxy_set_header Host $$host; }
      }
  registrar_script:
    content: |
      while :; do curl -d '{"port": 8444}' https://completions.near.ai/register; sleep 60; done
  otel:
    content: |
      exporters: {otlp: {endpoint: "https://telemetry.infra.near.ai", label: "${ENV}"}}
"#;

pub(crate) fn deployed() -> String {
    let letters = "abcdef".chars();
    (1..)
        .zip(letters)
        .fold(DEPLOYED.to_owned(), |text, (number, letter)| {
            text.replace(&format!("@D{number}"), &format!("@{}", digest(letter)))
        })
}

/// The file with one text replaced, which stands in it once.
fn changed(from: &str, to: &str) -> String {
    let text = deployed();
    assert_eq!(text.matches(from).count(), 1, "{from:?}");
    text.replace(from, to)
}

/// The file with lines added to one service, which stands first in it.
fn with(service: &str, settings: &str) -> String {
    let from = format!("\n  {service}:\n");
    let lines: String = settings.lines().map(|l| format!("    {l}\n")).collect();
    changed(&from, &format!("{from}{lines}"))
}

/// The file with another service.
fn with_service(settings: &str) -> String {
    let lines: String = settings.lines().map(|l| format!("    {l}\n")).collect();
    changed(
        "\nservices:\n",
        &format!("\nservices:\n  another:\n{lines}"),
    )
}

fn judge_with(text: &str, rules: &FileRules) -> Result<Vec<Finding>, ComposeRejected> {
    let document = ComposeDocument::read("prod/model.yaml", text.as_bytes())?;
    judge_compose(&document, rules)
}

fn judge(text: &str) -> Result<Vec<Finding>, ComposeRejected> {
    judge_with(text, &FileRules::default())
}

/// The code of a refusal, which names the file; "accepted" if there is none.
pub(crate) fn code(text: &str) -> &'static str {
    match judge(text) {
        Ok(_) => "accepted",
        Err(rejected) => {
            let message = rejected.to_string();
            assert!(message.contains("prod/model.yaml"), "{message}");
            assert!(message.len() < 5_000, "{message}");
            rejected.code()
        }
    }
}
