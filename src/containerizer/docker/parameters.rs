//! `docker.parameters`: flags of `docker run`. What is listed here works; anything else is refused by
//! name, because a flag that is silently dropped, or one that gives away the host, is worse than an
//! error.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, ResourcesUlimits};

/// Capabilities that Docker gives by default and may therefore be asked for.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// What works, for the error.
const KNOWN: &str = "add-host, cap-add, cap-drop, cpuset-cpus, dns, dns-option, dns-search, entrypoint, \
     env, group-add, hostname, init, label, log-opt, network, read-only, shm-size, stop-signal, sysctl, tmpfs, \
     ulimit, user, workdir";

/// Applies one parameter.
///
/// # Errors
/// It is not among those that work, or its value has another form.
pub(super) fn apply(
    key: &str,
    value: &str,
    body: &mut ContainerCreateBody,
    host: &mut HostConfig,
) -> Result<(), String> {
    let bad = |form: &str| format!("the parameter {key}={value:?} must be {form}");
    let pair = || {
        let (name, value) = value.split_once('=').unwrap_or((value, ""));
        (name.to_owned(), value.to_owned())
    };
    let text = value.to_owned();
    match key {
        "label" | "l" => {
            let (name, value) = pair();
            body.labels.get_or_insert_default().insert(name, value);
        }
        "env" | "e" => body.env.get_or_insert_default().push(text),
        "hostname" | "h" => body.hostname = Some(text),
        "user" | "u" => body.user = Some(text),
        "workdir" | "w" => body.working_dir = Some(text),
        "entrypoint" => body.entrypoint = Some(vec![text]),
        "stop-signal" => body.stop_signal = Some(text),
        "add-host" => host.extra_hosts.get_or_insert_default().push(text),
        "dns" => host.dns.get_or_insert_default().push(text),
        "dns-search" => host.dns_search.get_or_insert_default().push(text),
        "dns-option" | "dns-opt" => host.dns_options.get_or_insert_default().push(text),
        "group-add" => host.group_add.get_or_insert_default().push(text),
        "cpuset-cpus" => host.cpuset_cpus = Some(text),
        "network" | "net" => network(&text, host)?,
        "cap-drop" => host.cap_drop.get_or_insert_default().push(text),
        "cap-add" => add_capability(value, host)?,
        "init" => host.init = Some(flag(value).ok_or_else(|| bad("true or false"))?),
        "read-only" => host.readonly_rootfs = Some(flag(value).ok_or_else(|| bad("true or false"))?),
        "shm-size" => host.shm_size = Some(size(value).ok_or_else(|| bad("a size, as 64m or 1g"))?),
        "ulimit" => {
            host.ulimits.get_or_insert_default().push(ulimit(value).ok_or_else(|| bad("NAME=SOFT[:HARD]"))?)
        }
        "tmpfs" => {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            host.tmpfs.get_or_insert_default().insert(path.to_owned(), options.to_owned());
        }
        "sysctl" => {
            let (name, value) = pair();
            host.sysctls.get_or_insert_default().insert(name, value);
        }
        "log-opt" => {
            let (name, value) = pair();
            let config = host.log_config.get_or_insert_default();
            config.typ = Some("json-file".to_owned());
            config.config.get_or_insert_with(HashMap::new).insert(name, value);
        }
        "name" => return Err("the parameter name is not allowed: the agent names the container".to_owned()),
        "privileged" => return Err("use docker.privileged in place of the parameter".to_owned()),
        other => return Err(format!("the parameter {other:?} is not supported; these are: {KNOWN}")),
    }
    Ok(())
}

/// `host` and `container:…` would share what the description did not ask for.
fn network(name: &str, host: &mut HostConfig) -> Result<(), String> {
    if name == "host" || name.contains(':') {
        return Err(format!("the parameter network={name:?} is not allowed; use docker.network"));
    }
    host.network_mode = Some(name.to_owned());
    Ok(())
}

fn add_capability(name: &str, host: &mut HostConfig) -> Result<(), String> {
    let plain = name.to_ascii_uppercase();
    let plain = plain.strip_prefix("CAP_").unwrap_or(&plain);
    if !CAPABILITIES.contains(&plain) {
        return Err(format!(
            "the capability {name:?} is not allowed; these are: {}. Else use docker.privileged",
            CAPABILITIES.join(", ")
        ));
    }
    if let Some(dropped) = &mut host.cap_drop {
        dropped.retain(|other| other != plain);
    }
    host.cap_add.get_or_insert_default().push(plain.to_owned());
    Ok(())
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// `64m` in bytes.
fn size(text: &str) -> Option<i64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('b').filter(|rest| rest.ends_with(['k', 'm', 'g'])).unwrap_or(&text);
    let (digits, factor) = match text.char_indices().last()? {
        (at, 'k') => (&text[..at], 1_i64 << 10),
        (at, 'm') => (&text[..at], 1 << 20),
        (at, 'g') => (&text[..at], 1 << 30),
        (at, 'b') => (&text[..at], 1),
        _ => (text, 1),
    };
    digits.parse::<i64>().ok().filter(|number| *number >= 0)?.checked_mul(factor)
}

fn ulimit(text: &str) -> Option<ResourcesUlimits> {
    let (name, values) = text.split_once('=')?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    Some(ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(soft.parse().ok()?),
        hard: Some(hard.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(pairs: &[(&str, &str)]) -> Result<(ContainerCreateBody, HostConfig), String> {
        let (mut body, mut host) = (ContainerCreateBody::default(), HostConfig::default());
        host.cap_drop = Some(vec!["NET_RAW".to_owned()]);
        pairs.iter().try_for_each(|(key, value)| apply(key, value, &mut body, &mut host))?;
        Ok((body, host))
    }

    #[test]
    fn what_people_use_works() {
        let (body, host) = applied(&[
            ("label", "a=b=c"),
            ("user", "1000"),
            ("cap-add", "cap_net_raw"),
            ("ulimit", "nofile=10:20"),
            ("shm-size", "64MB"),
            ("tmpfs", "/run:size=1m"),
            ("network", "back"),
        ])
        .expect("allowed");
        assert_eq!(body.labels.map(|labels| labels["a"].clone()), Some("b=c".to_owned()));
        assert_eq!(body.user.as_deref(), Some("1000"));
        assert_eq!((host.cap_drop, host.cap_add), (Some(Vec::new()), Some(vec!["NET_RAW".to_owned()])));
        assert_eq!((host.shm_size, host.network_mode.as_deref()), (Some(64 << 20), Some("back")));
        assert_eq!(host.ulimits.and_then(|list| list[0].hard), Some(20));
    }

    #[test]
    fn what_gives_the_host_away_does_not() {
        for (key, value) in [
            ("privileged", "true"),
            ("pid", "host"),
            ("ipc", "host"),
            ("security-opt", "seccomp=unconfined"),
            ("cap-add", "SYS_ADMIN"),
            ("cap-add", "ALL"),
            ("network", "host"),
            ("network", "container:x"),
            ("device", "/dev/sda"),
            ("volume", "/:/host"),
            ("name", "x"),
            ("", ""),
            ("shm-size", "-1"),
            ("shm-size", "9223372036854775807g"),
            ("ulimit", "nofile"),
        ] {
            let problem = applied(&[(key, value)]).expect_err(key);
            assert!(!problem.is_empty(), "{key}={value}");
        }
    }
}
