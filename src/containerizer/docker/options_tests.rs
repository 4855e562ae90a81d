use super::*;
use crate::agent::core::container::Kind;
use crate::api::v1::container_info::docker_info::PortMapping;

fn owner() -> DataOwner {
    DataOwner { directory: "/data".into(), is_temporary: false }
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn spec(docker: DockerInfo) -> LaunchSpec {
    LaunchSpec {
        container_id: "c".into(),
        agent_id: "agent".into(),
        framework_id: "framework".into(),
        executor_id: "task".into(),
        task_id: "task".into(),
        kind: Kind::Docker,
        command: v1::CommandInfo { value: Some("echo hi".to_owned()), ..Default::default() },
        container: Some(v1::ContainerInfo { docker: Some(docker), ..Default::default() }),
        environment: vec![("A".to_owned(), "1=2".to_owned())],
        user: None,
        sandbox: "/work/box".into(),
        cpus_milli: 500,
        mem_milli: 64_000,
        cpus_limit_milli: None,
        mem_limit_milli: None,
        ports: vec![(31_000, 31_001)],
    }
}

fn image(name: &str) -> DockerInfo {
    DockerInfo { image: name.to_owned(), ..Default::default() }
}

fn host_of(spec: &LaunchSpec) -> HostConfig {
    body(spec, LOOPBACK, &owner(), None).expect("valid").host_config.expect("a host part")
}

#[test]
fn a_plain_task() {
    let body = body(&spec(image("busybox:1")), LOOPBACK, &owner(), Some("run")).expect("valid");
    assert_eq!(body.entrypoint, Some(vec!["/bin/sh".to_owned()]));
    assert_eq!(body.cmd, Some(vec!["-c".to_owned(), "echo hi".to_owned()]));
    assert_eq!(body.env, Some(vec!["A=1=2".to_owned()]));
    let labels = body.labels.expect("labels");
    assert_eq!((labels[labels::AGENT].as_str(), labels["MESITA_RUN_ID"].as_str()), ("agent", "run"));
    let host = body.host_config.expect("a host part");
    assert_eq!((host.cpu_shares, host.memory, host.cpu_quota), (Some(512), Some(64 << 20), None));
    assert_eq!(host.network_mode.as_deref(), Some("host"));
    assert_eq!(host.binds, Some(vec!["/work/box:/mnt/mesos/sandbox:rw".to_owned()]));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert!(host.cap_drop.is_some_and(|dropped| dropped.contains(&"NET_RAW".to_owned())));
}

#[test]
fn without_a_shell_the_entry_point_stays() {
    let mut plain = spec(image("i"));
    plain.command =
        v1::CommandInfo { shell: Some(false), arguments: vec!["a".to_owned()], ..Default::default() };
    let words = |spec: &LaunchSpec| {
        let body = body(spec, LOOPBACK, &owner(), None).expect("valid");
        (body.entrypoint, body.cmd)
    };
    assert_eq!(words(&plain), (None, Some(vec!["a".to_owned()])));
    plain.command.value = Some("v".to_owned());
    assert_eq!(words(&plain), (None, Some(vec!["v".to_owned(), "a".to_owned()])));
    plain.command = v1::CommandInfo { shell: Some(false), ..Default::default() };
    assert_eq!(words(&plain), (None, None));
    plain.command = v1::CommandInfo::default();
    assert!(body(&plain, LOOPBACK, &owner(), None).is_err_and(|problem| problem.contains("'shell'")));
}

#[test]
fn limits_become_quota_and_memory() {
    let mut limited = spec(image("i"));
    (limited.cpus_limit_milli, limited.mem_limit_milli) = (Some(1_500), Some(128_000));
    let host = host_of(&limited);
    assert_eq!((host.cpu_period, host.cpu_quota), (Some(100_000), Some(150_000)));
    assert_eq!((host.memory, host.memory_reservation), (Some(128 << 20), Some(64 << 20)));
    (limited.cpus_limit_milli, limited.mem_limit_milli) = (Some(UNLIMITED), Some(UNLIMITED));
    let host = host_of(&limited);
    assert_eq!((host.cpu_quota, host.memory), (None, None));
    (limited.cpus_milli, limited.mem_milli, limited.mem_limit_milli) = (1, 1, None);
    let host = host_of(&limited);
    assert_eq!((host.cpu_shares, host.memory), (Some(2), Some(32 << 20)), "Docker's least");
    (limited.cpus_milli, limited.mem_milli) = (i64::MAX, i64::MAX);
    assert!(host_of(&limited).memory.is_some_and(|bytes| bytes > 0), "absurd amounts do not wrap");
}

#[test]
fn ports_must_be_the_task_s_own() {
    let mapping = |host, inside, protocol: &str| DockerInfo {
        network: Some(Network::Bridge.into()),
        port_mappings: vec![PortMapping {
            host_port: host,
            container_port: inside,
            protocol: Some(protocol.to_owned()),
        }],
        ..image("i")
    };
    let host = host_of(&spec(mapping(31_001, 80, "UDP")));
    let bound = host.port_bindings.and_then(|mut ports| ports.remove("80/udp")).flatten().expect("a port");
    assert_eq!(bound[0].host_ip.as_deref(), Some("127.0.0.1"), "nothing is published to the world");
    assert_eq!(bound[0].host_port.as_deref(), Some("31001"));
    for bad in [
        mapping(31_002, 80, "tcp"),
        mapping(31_000, 0, "tcp"),
        mapping(31_000, 65_536, "tcp"),
        mapping(31_000, 80, "icmp"),
        DockerInfo { network: None, ..mapping(31_000, 80, "tcp") },
    ] {
        assert!(body(&spec(bad.clone()), LOOPBACK, &owner(), None).is_err(), "{bad:?}");
    }
}

fn with_volume(inside: &str, host_path: &str) -> LaunchSpec {
    let mut spec = spec(image("i"));
    let volume = v1::Volume {
        mode: v1::volume::Mode::Ro.into(),
        container_path: inside.to_owned(),
        host_path: Some(host_path.to_owned()),
        ..Default::default()
    };
    spec.container.as_mut().expect("a container").volumes.push(volume);
    spec
}

#[test]
fn volumes_relative_and_absolute() {
    let bind = |inside, host_path| host_of(&with_volume(inside, host_path)).binds.expect("binds")[1].clone();
    assert_eq!(bind("/data", "/srv/data"), "/srv/data:/data:ro");
    assert_eq!(bind("/data", "data"), "/work/box/data:/data:ro");
    assert_eq!(bind("data", "/srv"), "/srv:/mnt/mesos/sandbox/data:ro");
    for (inside, host_path) in [
        ("data", "data"),
        ("/host", "/"),
        ("/host", "//"),
        ("/s", "/var/run/docker.sock"),
        ("/s", "/run/./docker.sock"),
        ("/s", "../../x"),
        ("/a:b", "/srv"),
    ] {
        let problem = body(&with_volume(inside, host_path), LOOPBACK, &owner(), None);
        assert!(problem.is_err(), "{host_path} at {inside}");
    }
}

#[test]
fn images_that_would_change_the_path_of_a_request() {
    for good in ["busybox", "a/b:1", "host:5000/a/b@sha256:abc", "a.b_c-d"] {
        assert_eq!(check_image(good), Ok(()), "{good}");
    }
    for bad in ["", "x/../../images", "--help", "a b", "a?b", "a#b", "a%2fb", "/a", "a//b", "a\n", "é"] {
        assert!(check_image(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn networks() {
    let mut user = spec(DockerInfo { network: Some(Network::User.into()), ..image("i") });
    assert!(body(&user, LOOPBACK, &owner(), None).is_err_and(|problem| problem.contains("network_infos")));
    let named = |name: &str| v1::NetworkInfo { name: Some(name.to_owned()), ..Default::default() };
    user.container.as_mut().expect("a container").network_infos.push(named("back"));
    assert_eq!(host_of(&user).network_mode.as_deref(), Some("back"));
    user.container.as_mut().expect("a container").network_infos[0] = named("host:x");
    assert!(body(&user, LOOPBACK, &owner(), None).is_err());
    let mut host = spec(image("i"));
    host.container.as_mut().expect("a container").hostname = Some("h".to_owned());
    assert!(body(&host, LOOPBACK, &owner(), None).is_err_and(|problem| problem.contains("hostname")));
    assert!(body(&spec(DockerInfo { network: Some(9), ..image("i") }), LOOPBACK, &owner(), None).is_err());
}
