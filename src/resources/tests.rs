//! Laws of the algebra, and the rules of the wire.

use proptest::prelude::*;

use super::{Format, Resources};
use crate::api::v1;
use crate::base::id::Role;

fn parse(text: &str) -> Resources {
    Resources::parse(text).expect("valid resources")
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    }
}

fn ports(pairs: &[(u64, u64)]) -> v1::Resource {
    v1::Resource {
        name: "ports".to_owned(),
        r#type: v1::value::Type::Ranges.into(),
        ranges: Some(v1::value::Ranges {
            range: pairs.iter().map(|&(begin, end)| v1::value::Range { begin, end }).collect(),
        }),
        ..Default::default()
    }
}

#[test]
fn what_is_left_of_less_than_is_in_use() {
    let total = Resources::parse("cpus:2;mem:64;ports:[1-10]").expect("resources");
    let used = Resources::parse("cpus:3;mem:32;ports:[5-20];disk:7").expect("resources");
    assert_eq!(total.without(&used).to_string(), "mem:32;ports:[1-4]");
    assert_eq!(total.without(&Resources::new()), total);
    assert_eq!(total.without(&total), Resources::new());
}

#[test]
fn text_form_reads_and_writes() {
    let all = parse("cpus:4; mem:1024.5 ;ports:[31000-31001,31002-32000];zones:{a,b};disk(eng):10");
    assert_eq!(all.to_string(), "cpus:4;disk(eng):10;mem:1024.5;ports:[31000-32000];zones:{a,b}");
    assert_eq!(parse(&all.to_string()), all);
    assert_eq!(all.milli("mem"), 1_024_500);
    assert_eq!(all.ranges("ports"), [(31_000, 32_000)]);
    assert!(parse("").is_empty() && parse("cpus:0").is_empty());
}

#[test]
fn bad_texts_name_the_resource() {
    for (text, named) in [
        ("cpus", "cpus"),
        ("cpus:-1", "cpus"),
        ("cpus:NaN", "cpus"),
        ("mem:1e400", "mem"),
        ("ports:[5-1]", "ports"),
        ("ports:[1-5,3-9]", "ports"),
        ("ports:[1-5];ports:[5-9]", "ports"),
        ("cpus:1;cpus:{a}", "cpus"),
        ("cpus(-x):1", "-x"),
        ("zones:{a,a}", "zones"),
        ("[{\"name\":\"cpus\"}]", "cpus"),
    ] {
        let error = Resources::parse(text).expect_err(text).to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn json_form() {
    let text = r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":4}},
        {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":9}]},"role":"eng"}]"#;
    assert_eq!(parse(text), parse("cpus:4;ports(eng):[1-9]"));
}

#[test]
fn wire_rules() {
    let valid = |message: v1::Resource| Resources::from_wire(&[message]);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e308, 0.0004, 1e-9] {
        assert!(valid(scalar("cpus", bad)).is_err(), "{bad}");
    }
    assert!(valid(scalar("cpus", 0.0)).expect("zero vanishes").is_empty());
    assert!(valid(scalar("", 1.0)).is_err());
    assert!(valid(ports(&[(2, 1)])).is_err() && valid(ports(&[(1, 2), (2, 3)])).is_err());
    assert!(valid(v1::Resource { r#type: v1::value::Type::Text.into(), ..scalar("cpus", 1.0) }).is_err());
    assert!(valid(v1::Resource { r#type: 77, ..scalar("cpus", 1.0) }).is_err());
    assert!(valid(v1::Resource { ranges: ports(&[]).ranges, ..scalar("cpus", 1.0) }).is_err());
    let role = |role: &str| v1::Resource { role: Some(role.to_owned()), ..scalar("cpus", 1.0) };
    for bad in ["", "..", "-x", "a b"] {
        assert!(valid(role(bad)).is_err(), "{bad:?}");
    }
    let star = v1::Resource { reservation: Some(v1::resource::ReservationInfo::default()), ..role("*") };
    assert!(valid(star).is_err());
    let shared = v1::Resource { shared: Some(v1::resource::SharedInfo::default()), ..scalar("disk", 1.0) };
    assert!(valid(shared).is_err());
    let empty_disk = v1::Resource { disk: Some(v1::resource::DiskInfo::default()), ..scalar("disk", 1.0) };
    assert!(valid(empty_disk).is_err());
}

#[test]
fn both_reservation_formats_mean_the_same() {
    let old = v1::Resource {
        role: Some("eng".into()),
        reservation: Some(v1::resource::ReservationInfo {
            principal: Some("p".into()),
            ..Default::default()
        }),
        ..scalar("cpus", 1.0)
    };
    let both = Resources::from_wire(&[old]).expect("valid");
    for format in [Format::PostRefinement, Format::PreRefinement, Format::Endpoint] {
        assert_eq!(Resources::from_wire(&both.to_wire(format)), Ok(both.clone()), "{format:?}");
    }
    let written = both.to_wire(Format::PreRefinement);
    assert_eq!(written[0].role.as_deref(), Some("eng"));
    assert!(written[0].reservations.is_empty());
    let unreserved = parse("cpus:1").to_wire(Format::PostRefinement);
    assert_eq!((unreserved[0].role.clone(), unreserved[0].reservations.len()), (None, 0));
}

#[test]
fn reservations_and_allocations_keep_resources_apart() {
    let mixed = parse("cpus:1;cpus(eng):2;cpus(eng/web):3;cpus(ops):4");
    assert_eq!(mixed.milli("cpus"), 10_000);
    assert!(!mixed.contains(&parse("cpus:2")));
    let web = mixed.allocatable_to(&Role::new("eng/web"));
    assert_eq!(web, parse("cpus:1;cpus(eng):2;cpus(eng/web):3"));
    assert_eq!(mixed.allocatable_to(&Role::new("*")), parse("cpus:1"));
    let allocated = web.allocated_to(&Role::new("eng/web"));
    assert!(!allocated.contains(&parse("cpus:1")) && allocated.unallocated() == web);
    assert_eq!(
        allocated.by_allocation_role().into_iter().collect::<Vec<_>>(),
        [(Role::new("eng/web"), allocated)]
    );
}

#[test]
fn volumes_never_merge_and_shared_ones_count_copies() {
    let volume = v1::Resource {
        role: Some("eng".into()),
        disk: Some(v1::resource::DiskInfo {
            persistence: Some(v1::resource::disk_info::Persistence { id: "v1".into(), principal: None }),
            volume: Some(v1::Volume {
                container_path: "data".into(),
                mode: v1::volume::Mode::Rw.into(),
                ..Default::default()
            }),
            source: None,
        }),
        ..scalar("disk", 64.0)
    };
    let one = Resources::from_wire(std::slice::from_ref(&volume)).expect("valid");
    let mut two = one.clone();
    two.add(&one);
    assert_eq!(two.to_wire(Format::PostRefinement).len(), 2);
    two.subtract(&one).expect("contained");
    assert_eq!(two, one);
    let shared = v1::Resource { shared: Some(v1::resource::SharedInfo::default()), ..volume };
    let copies = Resources::from_wire(&[shared.clone(), shared]).expect("valid");
    assert_eq!(copies.to_wire(Format::PostRefinement).len(), 2);
    assert_eq!(copies.milli("disk"), 64_000, "copies count once");
}

#[test]
fn subtract_takes_all_or_nothing() {
    let mut all = parse("cpus:2;mem:10");
    let error = all.subtract(&parse("cpus:1;mem:11")).expect_err("too much");
    assert!(error.to_string().contains("mem:11"), "{error}");
    assert_eq!(all, parse("cpus:2;mem:10"));
}

fn any_resources() -> impl Strategy<Value = Resources> {
    let entry = prop_oneof![
        (0..3usize, 1..5_000i64).prop_map(|(role, milli)| {
            format!("cpus{}:{}.{:03}", ["", "(eng)", "(eng/web)"][role], milli / 1_000, milli % 1_000)
        }),
        (1..5_000i64).prop_map(|mem| format!("mem:{mem}")),
        (0..20u64, 0..20u64).prop_map(|(begin, more)| format!("ports:[{begin}-{}]", begin + more)),
        prop::collection::btree_set("[a-c]", 1..3)
            .prop_map(|set| format!("zones:{{{}}}", set.into_iter().collect::<Vec<_>>().join(","))),
    ];
    prop::collection::vec(entry, 0..5).prop_map(|entries| {
        entries.iter().fold(Resources::new(), |mut all, text| {
            let one = parse(text);
            if !all.overlaps(&one) {
                all.add(&one);
            }
            all
        })
    })
}

proptest! {
    #[test]
    fn what_was_added_can_be_taken_away(a in any_resources(), b in any_resources()) {
        prop_assume!(!a.overlaps(&b));
        let mut sum = a.clone();
        sum.add(&b);
        prop_assert!(sum.contains(&a) && sum.contains(&b));
        let mut other_way = b.clone();
        other_way.add(&a);
        prop_assert_eq!(&sum, &other_way);
        sum.subtract(&b).expect("contained");
        prop_assert_eq!(sum, a);
    }

    #[test]
    fn contains_agrees_with_subtract(a in any_resources(), b in any_resources()) {
        prop_assert_eq!(a.contains(&b), { let mut left = a; left.subtract(&b).is_ok() });
    }

    #[test]
    fn text_and_wire_round_trips(a in any_resources()) {
        prop_assert_eq!(&parse(&a.to_string()), &a);
        prop_assert_eq!(&Resources::from_wire(&a.to_wire(Format::PostRefinement)).expect("valid"), &a);
        prop_assert_eq!(&Resources::from_wire(&a.to_wire(Format::Endpoint)).expect("valid"), &a);
    }
}
