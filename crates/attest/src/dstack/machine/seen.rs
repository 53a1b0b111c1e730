//! Tables that were measured on real hardware, by quotes that verified.
//!
//! Computed tables of another shape are accepted too, but the rule was never compared
//! with a machine of that shape: the verdict says so.

/// SHA-384 of `etc/acpi/tables`, and the machine that showed them.
const SEEN: [(&str, &str); 7] = [
    (
        "36ab67305a05ca84327abeb3ac4c3fff28dd40e23c4a2549d8c56914dafc6afac28b4687810e1ad91871a95de224c601",
        "NEAR AI's model machines: 64 CPUs, 12 places, QEMU 9.2",
    ),
    (
        "557cc395901d6f9dbc35609ed51753ca7915cf2e9aece2f9cf9003baee61318672aea1a405c9b4f51b337f5e58403971",
        "NEAR AI's gateway: 4 CPUs, 8 GiB, hot-plug, QEMU 8 or 9",
    ),
    (
        "43393f9c7dad8f8cf823233859adccdb13bd971e8b6b42425308ec18a5591ba512f0abbb6af0b9c110367689a1f29035",
        "Phala's model machines: 24 CPUs, 1 place, QEMU 9.2",
    ),
    (
        "abfb2256644b5786eefdcb92303d2008c36cb9500d98997e215ef5080745d4bf2e5b3629090918e193e7f05b173d48c5",
        "dstack's verifier example: 16 CPUs, 1 place, QEMU 9.2",
    ),
    (
        "3070721e169bc41884724cb0e6b3082e1baf249083d8b389181ba50b9afa951057876c380b8870e8c2facf2eff67a2b6",
        "dstack's lite example: 2 CPUs, 2 GiB, hot-plug, QEMU 8.2",
    ),
    (
        "05705c3ca9d71e908d5ce70d4331b6aadce5331b9a6a546f222f017fb0e1797b951a3dac72f59cb197a0c897a201ca07",
        "dstack's test machine: 1 CPU, 2 GiB, hot-plug, QEMU 8.2",
    ),
    (
        "8583382b5eb22b3b7b8194777aa82ae7060c6b5e8387ee59926a9dc429e1069a9215c24dd299cee42611fd1960711c50",
        "dstack's test machine: 1 CPU, 2 GiB, hot-plug, QEMU 10.2",
    ),
];

/// The machine that showed tables of this digest, if one did.
pub(crate) fn seen(tables: &[u8; 48]) -> Option<&'static str> {
    let digest = hex::encode(tables);
    let row = SEEN.iter().find(|(known, _)| *known == digest)?;
    Some(row.1)
}
