use super::*;

#[test]
fn built_in_policies_are_read() {
    assert_eq!(Policy::near().name(), "near");
    assert_eq!(Policy::hardware().name(), "hardware");
    assert!(!Policy::near().hardware_only());
    assert!(Policy::hardware().hardware_only());
    assert_ne!(Policy::near().digest(), Policy::hardware().digest());
}
