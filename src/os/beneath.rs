//! Opening a file below a directory and nowhere else.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// Opens `relative` below `root` for reading. Links that lead out of `root` are refused by the kernel
/// at every step; only regular files and directories are opened.
///
/// # Errors
/// There is no such file, it lies elsewhere, or it is a device, FIFO or socket.
pub fn open(root: &Path, relative: &Path) -> io::Result<File> {
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the path leads out of the sandbox"));
    }
    let folder = File::open(root)?;
    let how = OpenHow::new()
        // Without NONBLOCK opening a FIFO would wait for its writer.
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .mode(Mode::empty())
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let file = File::from(openat2(&folder, path, how)?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is neither a file nor a directory"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_lies_below() {
        let folder = tempfile::tempdir().expect("a directory");
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("a")).expect("made");
        std::fs::write(root.join("a/file"), "inside").expect("written");
        std::fs::write(folder.path().join("secret"), "outside").expect("written");
        symlink("../../secret", root.join("a/out")).expect("linked");
        symlink("file", root.join("a/in")).expect("linked");
        nix::unistd::mkfifo(&root.join("fifo"), Mode::S_IRWXU).expect("made");
        let mut text = String::new();
        open(&root, Path::new("a/in")).expect("a link inside").read_to_string(&mut text).expect("readable");
        assert_eq!(text, "inside");
        assert!(open(&root, Path::new("")).is_ok(), "the directory itself");
        for bad in ["a/out", "../secret", "/etc/passwd", "fifo", "a/../../secret", "nothing"] {
            assert!(open(&root, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
