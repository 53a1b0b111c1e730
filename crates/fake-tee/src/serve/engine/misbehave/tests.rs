//! The table in the documentation, and what is no order.

use super::*;

/// The first column of the table in the documentation of [`super`](super::super).
fn documented() -> Vec<&'static str> {
    let rows = include_str!("../../mod.rs").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("//! | `"));
    let name = |row: &'static str| row.split(['`', '=']).next();
    rows.filter_map(name).collect()
}

#[test]
fn the_table_is_the_list_and_each_name_is_an_order() {
    assert_eq!(documented(), MISBEHAVIOURS);
    for name in MISBEHAVIOURS {
        let order = match *name {
            "header" => "header=x-fake-header: 1",
            name => name,
        };
        assert!(order.parse::<Order>().is_ok(), "{name}");
    }
}

#[test]
fn what_is_no_order_is_refused() {
    for wrong in [
        "",
        "unknown",
        "status=x",
        "header",
        "hang;open",
        "gzip;open",
    ] {
        assert!(wrong.parse::<Order>().is_err(), "{wrong}");
    }
    assert!("te=gzip;open".parse::<Order>().unwrap().stays_open);
}
