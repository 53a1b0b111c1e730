"""Tampered backends: each is refused by its own code, and sees attestation requests
and nothing else."""

import json

import openai

from common import CANARY, KEY, MESSAGES, case, holds, raises, same

# Tampering of the fake -> code that the client gets.
REFUSALS = {
    "quote-signature": "rejected_quote_untrusted",
    "report-data": "rejected_report_data",
    "other-nonce": "rejected_nonce",
    "no-tls-fingerprint": "evidence_no_tls_fingerprint",
    "other-spki": "rejected_spki_mismatch",
    "debug-td": "rejected_td_debug",
    "other-os-image": "rejected_os_image",
    "other-app-id": "rejected_app_id",
    "other-kms-root": "rejected_kms_root",
    "rtmr3-event-payload": "rejected_event_digest",
    "compose-text": "rejected_compose_hash",
    "tcb-out-of-date": "rejected_tcb_platform",
    "wrong-model": "rejected_model",
    "acpi": "rejected_acpi",
}


def register(tampering, code):
    @case(f"{tampering} is {code}, and the backend saw attestation requests only")
    def refused(world):
        with world.tampered(tampering), world.proxy() as url:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60)
            error = raises(
                openai.InternalServerError,
                lambda: client.chat.completions.create(model=world.model, messages=MESSAGES),
            )
            same((error.status_code, error.code), (502, code), "status and code")
            lines, seen = world.lines(), json.dumps(world.received())
        holds(lines and all(l.startswith("GET /v1/attestation/report?") for l in lines), lines)
        holds(CANARY not in seen and KEY not in seen and "authorization" not in seen.lower(), seen)


for pair in REFUSALS.items():
    register(*pair)
