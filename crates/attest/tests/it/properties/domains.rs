//! What is a domain and what is none.

use std::net::IpAddr;

use attest::Domain;
use proptest::prelude::*;

use crate::support::cases;

proptest! {
    #![proptest_config(cases(2048))]

    #[test]
    fn what_parses_as_a_domain_is_a_plain_dns_name(
        text in prop_oneof![
            any::<String>(),
            "[a-zA-Z0-9.:@/\\[\\]%_-]{0,40}",
            "([0-9]{1,3}\\.){1,4}[0-9]{0,3}",
            "(0x)?[0-9a-f]{1,8}(\\.(0x)?[0-9a-f]{1,8}){0,4}\\.?",
            "([a-z0-9-]{1,70}\\.){1,8}[a-z0-9-]{1,70}",
        ],
    ) {
        let Ok(domain) = text.parse::<Domain>() else {
            return Ok(());
        };
        let name = domain.as_str();
        prop_assert!((3..=253).contains(&name.len()));
        prop_assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')));
        prop_assert!(name.split('.').count() >= 2);
        prop_assert!(name.split('.').all(|label| (1..=63).contains(&label.len())));
        prop_assert!(name.parse::<IpAddr>().is_err());
        let last = name.rsplit('.').next().unwrap();
        prop_assert!(!last.bytes().next().unwrap().is_ascii_digit(), "an IPv4 literal in disguise: {name}");
        prop_assert_eq!(name, text.to_ascii_lowercase());
        prop_assert_eq!(&name.parse::<Domain>().unwrap(), &domain);
    }

    #[test]
    fn nothing_but_a_name_is_a_domain(
        name in "[a-z][a-z0-9]{0,10}\\.[a-z]{2,6}",
        port in any::<u16>(),
        v4 in any::<[u8; 4]>(),
        v6 in any::<[u8; 16]>(),
    ) {
        prop_assert!(name.parse::<Domain>().is_ok());
        let (v4, v6) = (IpAddr::from(v4), IpAddr::from(v6));
        for text in [
            format!("{name}:{port}"),
            format!("user@{name}"),
            format!("https://{name}"),
            format!("{name}/"),
            format!("{name}."),
            format!(".{name}"),
            format!(" {name}"),
            format!("{name}\n"),
            format!("{name}\0"),
            format!("*.{name}"),
            v4.to_string(),
            format!("{v4}:{port}"),
            v6.to_string(),
            format!("[{v6}]"),
            format!("[{v6}]:{port}"),
            format!("{}.{name}", "a".repeat(64)),
            format!("{}{name}", "a.".repeat(127)),
        ] {
            prop_assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }
}
