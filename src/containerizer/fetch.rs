//! Fetching of `command.uris` into the sandbox (Mesos fetcher): local files for now.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use crate::agent::core::container::LaunchFailure;
use crate::api::v1::command_info::Uri;
use crate::os::users::{self, Account};

/// Suffixes that Mesos would unpack.
const ARCHIVES: &[&str] = &[".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip", ".gz"];

/// Brings every uri into the sandbox.
///
/// # Errors
/// One cannot be had; the text names it and says why.
pub(super) fn fetch(uris: &[Uri], sandbox: &Path, account: Option<Account>) -> Result<(), LaunchFailure> {
    uris.iter().try_for_each(|uri| {
        one(uri, sandbox, account)
            .map_err(|problem| LaunchFailure::Prepare(format!("Failed to fetch {:?}: {problem}", uri.value)))
    })
}

fn one(uri: &Uri, sandbox: &Path, account: Option<Account>) -> Result<(), String> {
    let source = match uri.value.split_once("://") {
        None if uri.value.starts_with('/') => PathBuf::from(&uri.value),
        Some(("file", path)) => PathBuf::from(path),
        Some((scheme, _)) => {
            return Err(format!("{scheme} is not built yet; use a path on the agent (file:///…)"));
        }
        None => return Err("it is neither an absolute path nor a URI".to_owned()),
    };
    if let Some(account) = account.filter(|account| *account != users::own() && account.uid != 0) {
        readable_by(&source, account).map_err(|error| format!("{}: {error}", source.display()))?;
    }
    let name = match &uri.output_file {
        Some(name) => PathBuf::from(name),
        None => source.file_name().map(PathBuf::from).ok_or("it names no file")?,
    };
    let inside =
        !name.as_os_str().is_empty() && name.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        return Err(format!("the output {} would lie outside of the sandbox", name.display()));
    }
    let executable = uri.executable.unwrap_or(false);
    let text = name.to_string_lossy();
    if !executable && uri.extract.unwrap_or(true) && ARCHIVES.iter().any(|suffix| text.ends_with(suffix)) {
        return Err("unpacking archives is not built yet; set `extract` to false".to_owned());
    }
    let target = sandbox.join(&name);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    }
    copy(&source, &target).map_err(|error| format!("{}: {error}", source.display()))?;
    if executable {
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The agent reads for the task, and must not read what the task's user may not.
fn readable_by(source: &Path, account: Account) -> io::Result<()> {
    let real = source.canonicalize()?;
    let allows = |path: &Path, bit: u32| {
        let metadata = fs::metadata(path)?;
        let shift = match () {
            () if metadata.uid() == account.uid => 6,
            () if metadata.gid() == account.gid => 3,
            () => 0,
        };
        let allowed = metadata.mode() >> shift & bit != 0;
        let denied = || io::Error::new(io::ErrorKind::PermissionDenied, "the task's user may not read it");
        allowed.then_some(()).ok_or_else(denied)
    };
    // Search permission on the way, then read permission.
    real.ancestors().skip(1).try_for_each(|folder| allows(folder, 0o1))?;
    allows(&real, 0o4)
}

/// Copies a plain file. Anything else (a FIFO, a device) might never end.
fn copy(source: &Path, target: &Path) -> io::Result<u64> {
    let mut from = OpenOptions::new()
        .read(true)
        // Without it, opening a FIFO would wait for its writer.
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(source)?;
    if !from.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    io::copy(&mut from, &mut fs::File::create(target)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(value: &str, output: Option<&str>) -> Uri {
        Uri { value: value.to_owned(), output_file: output.map(str::to_owned), ..Uri::default() }
    }

    #[test]
    fn local_files_come_and_nothing_leaves_the_sandbox() {
        let folder = tempfile::tempdir().expect("a directory");
        let sandbox = folder.path().join("sandbox");
        fs::create_dir(&sandbox).expect("made");
        let source = folder.path().join("tool.sh");
        fs::write(&source, "echo").expect("written");
        let source = source.display().to_string();
        let run = Uri { executable: Some(true), ..uri(&source, Some("bin/tool")) };
        fetch(&[uri(&format!("file://{source}"), None), run], &sandbox, None).expect("fetched");
        assert!(sandbox.join("tool.sh").exists());
        let mode = fs::metadata(sandbox.join("bin/tool")).expect("there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        for (value, output) in [
            (source.as_str(), Some("../x")),
            (source.as_str(), Some("/x")),
            (source.as_str(), Some("")),
            (source.as_str(), Some(".")),
            ("/no/such/file", None),
            ("/dev/zero", None),
            ("/dev", None),
            ("http://169.254.169.254/", None),
            ("relative", None),
            ("", None),
        ] {
            let error = fetch(&[uri(value, output)], &sandbox, None).expect_err(value);
            assert!(
                matches!(&error, LaunchFailure::Prepare(text) if text.contains("Failed to fetch")),
                "{error}"
            );
        }
        assert!(!folder.path().join("x").exists());
        // What its user may not read does not come either.
        let secret = folder.path().join("secret");
        fs::write(&secret, "hidden").expect("written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("changed");
        let nobody = Account { uid: 65_534, gid: 65_534 };
        assert!(readable_by(&secret, nobody).is_err());
        assert!(readable_by(Path::new("/etc/passwd"), nobody).is_ok());
    }
}
