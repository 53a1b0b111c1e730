"""Judges every case of a file once more with NVIDIA's verifier, and compares.

Compared: whether the evidence of a GPU is accepted and, where both accept it, what
was read out of it. Where one of them does not look at something by design, the case
says so with the reason, and what counts is that the other one refuses.
"""

import json
import logging
import os
import sys
from collections import Counter

from cryptography.x509 import load_der_x509_certificate
from cryptography.hazmat.primitives.serialization import Encoding
from verifier.attestation import AttestationReport
from verifier.cc_admin_utils import CcAdminUtils
from verifier.config import BaseSettings, HopperSettings, info_log
from verifier.exceptions import Error
from verifier.nvml.gpu_cert_chains import GpuCertificateChains
from verifier.nvml.test_handle import TestHandle
from verifier.utils import format_vbios_version

# What has to have been judged, by the kind of case: without that there is no
# second opinion, whatever was agreed on otherwise.
EXPECTED = {"genuine fake": 1, "changed fake": 20}
if os.environ.get("VERIFIED_PROXY_CAPTURES"):
    EXPECTED |= {"recording": 16, "changed recording": 80}
if os.environ.get("VERIFIED_PROXY_SHARED"):
    EXPECTED |= {"sample": 1, "changed sample": 40}
# More would mean that little is compared.
MOST_BY_ONE_ONLY = 20
NVIDIA_ROOT = BaseSettings.DEVICE_ROOT_CERT


class Refused(Exception):
    """NVIDIA's verifier returns False for this, where its caller raises."""


def theirs(case):
    """What verifier.cc_admin.attest does with a GPU, without OCSP and RIM."""
    # Their verifier replaces the root that was sent by that of this file.
    BaseSettings.DEVICE_ROOT_CERT = NVIDIA_ROOT
    if case["root"] is not None:
        BaseSettings.DEVICE_ROOT_CERT = "root.pem"
        root = load_der_x509_certificate(bytes.fromhex(case["root"]))
        with open("root.pem", "wb") as file:
            file.write(root.public_bytes(Encoding.PEM))
    settings = HopperSettings()
    try:
        report = AttestationReport(bytes.fromhex(case["evidence"]), settings)
        said = report.get_response_message().get_opaque_data()
        chain = GpuCertificateChains(TestHandle(bytes.fromhex(case["certificate"])))
        chain = chain.GpuAttestationCertificateChain
        fwid = said.get_data("OPAQUE_FIELD_ID_FWID").hex()
        outcome = CcAdminUtils.verify_gpu_certificate_chain(chain, settings, fwid)
        # For another FWID it returns a bare False, over which its caller stumbles.
        if outcome is False:
            raise Refused("FWID")
        if not outcome[0]:
            raise Refused("certificate chain")
        if not CcAdminUtils.verify_attestation_report(
            attestation_report_obj=report,
            gpu_leaf_certificate=chain[0],
            nonce=CcAdminUtils.validate_and_extract_nonce(case["nonce"]),
            driver_version=case["driver"],
            vbios_version=case["vbios"].lower(),
            settings=settings,
        ):
            raise Refused("attestation report")
    # Anything else that is raised means that it was not judged, and ends this program.
    except (Error, Refused) as error:
        name = type(error).__name__
        return {"accepted": False, "why": str(error).strip() if name == "Refused" else name}
    switches = said.get_data("OPAQUE_FIELD_ID_SWITCH_PDI") or []
    return {
        "accepted": True,
        "driver": said.get_data("OPAQUE_FIELD_ID_DRIVER_VERSION").decode().rstrip("\0"),
        "vbios": format_vbios_version(said.get_data("OPAQUE_FIELD_ID_VBIOS_VERSION")).upper(),
        "fwid": CcAdminUtils.extract_fwid(chain[0], settings),
        "ueid": str(chain[0].get_serial_number()),
        "measurements": "".join(report.get_measurements()),
        # The bytes are in reverse; links that are not used are zero.
        "switches": sorted({pdi[::-1].hex().upper() for pdi in switches if any(pdi)}),
    }


def words(verdict):
    if verdict["accepted"]:
        return f"accepted {verdict['driver']} {verdict['vbios']} {verdict['ueid'][:8]}"
    return f"refused: {verdict['why']}"


def judge(case, other):
    """A word for the outcome."""
    ours = case["ours"]
    by_one_only = {"ours": case["ours_only"], "theirs": case["theirs_only"]}
    if by_one_only["ours"] is not None:
        agreed = not ours["accepted"] and other["accepted"]
        return "ours only" if agreed else "DISAGREE"
    if by_one_only["theirs"] is not None:
        agreed = ours["accepted"] and not other["accepted"]
        return "theirs only" if agreed else "DISAGREE"
    if ours["accepted"] != other["accepted"]:
        return "DISAGREE"
    return "agree" if not ours["accepted"] or ours == other else "DISAGREE"


def main():
    info_log.setLevel(logging.CRITICAL)
    with open(sys.argv[1]) as file:
        cases = [json.loads(line) for line in file]
    outcomes, judged = Counter(), Counter()
    for case in cases:
        other = theirs(case)
        outcome = judge(case, other)
        outcomes[outcome] += 1
        judged[case["kind"]] += outcome == "agree"
        name = f"{case['kind']}: {case['name']}"
        print(f"{outcome:11}  {name:62}  {words(case['ours']):45}  {words(other)}")
        if outcome == "DISAGREE" and case["ours"]["accepted"] and other["accepted"]:
            print(f"  ours   {case['ours']}\n  theirs {other}")

    one_only = outcomes["ours only"] + outcomes["theirs only"]
    print(
        f"\n{outcomes['agree']} verdicts agree, {outcomes['DISAGREE']} disagree, "
        f"{outcomes['ours only']} are refused by ours only, "
        f"{outcomes['theirs only']} by NVIDIA's only:"
    )
    for who, field in [("NVIDIA's verifier", "ours_only"), ("ours", "theirs_only")]:
        for reason in dict.fromkeys(case[field] for case in cases if case[field]):
            print(f"  {who}: {reason}")
    print("skipped by both: revocation (OCSP) and reference measurements (RIM), which need NVIDIA's services")
    failed = outcomes["DISAGREE"] > 0
    if one_only > MOST_BY_ONE_ONLY:
        failed = True
        print(f"expected at most {MOST_BY_ONE_ONLY} cases that one of them does not look at, got {one_only}")
    for kind, least in EXPECTED.items():
        if judged[kind] < least:
            failed = True
            print(f"expected agreement on at least {least} cases of the kind {kind}, got {judged[kind]}")
    sys.exit(failed)


main()
