//! The repository of compose files that a manager starts from: texts by commit and
//! path, for anybody to fetch.

use crate::hash::{label, label256};

/// The path of the fake's own file.
pub const FILE: &str = "fake.yaml";

/// A file as it is at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// The commit, 40 hex digits.
    pub commit: String,
    /// Its path.
    pub file: String,
    /// What it says.
    pub text: String,
}

/// The commit that a tag points to.
pub fn commit(tag: &str) -> String {
    hex::encode(label::<20>(tag))
}

/// `fake.yaml` at a tag: an engine, the proxy in front of it, the web server, and a
/// helper, all with images of that tag.
pub fn compose_text(tag: &str) -> String {
    let digest = |name: &str| format!("sha256:{}", hex::encode(label256(&format!("{name} {tag}"))));
    format!(
        r#"# fake/llama on eight GPUs, {tag}
x-logging: &logging
  driver: json-file
  options: {{max-size: "100m", max-file: "10"}}

services:
  engine:
    image: lmsysorg/sglang:v0.5@{engine}
    container_name: engine
    runtime: nvidia
    ipc: host
    restart: unless-stopped
    volumes:
      - huggingface_cache:/root/.cache/huggingface
    environment:
      HF_TOKEN: ${{HF_TOKEN}}
    command: >
      python3 -m sglang.launch_server --model-path fake/llama
      --revision 0123456789abcdef0123456789abcdef01234567
      --log-requests-level 0
    deploy:
      resources:
        reservations:
          devices:
            - {{driver: nvidia, count: all, capabilities: [gpu]}}
    logging: *logging
  proxy:
    image: nearaidev/vllm-proxy-rs@{proxy}
    container_name: proxy
    privileged: true
    user: root
    runtime: nvidia
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
      - certs:/etc/letsencrypt:ro
    environment:
      - MODEL_NAME=fake/llama
      - TOKEN=${{PROXY_TOKEN}}
      - VLLM_BACKEND_URLS=http://engine:8000
    depends_on: [engine]
    logging: *logging
  nginx:
    image: nginx@{nginx}
    container_name: proxy-nginx
    ports: ["8444:443"]
    volumes:
      - certs:/etc/letsencrypt:ro
    configs:
      - source: nginx_conf
        target: /etc/nginx/nginx.conf
    depends_on: [proxy]
    logging: *logging
  registrar:
    image: curlimages/curl@{registrar}
    entrypoint: ["sh", "-c"]
    command: ["while :; do curl https://completions.near.ai/register; sleep 60; done"]
    depends_on: [nginx]
    logging: *logging

volumes:
  certs: {{external: true, name: certs}}
  huggingface_cache:

configs:
  nginx_conf:
    content: |
      server {{
        listen 443 ssl;
        location / {{ proxy_pass http://proxy:8000; }}
      }}
"#,
        engine = digest("engine"),
        proxy = digest("proxy"),
        nginx = digest("nginx"),
        registrar = digest("registrar"),
    )
}
