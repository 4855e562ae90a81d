//! Users of the operating system.

use nix::unistd::{Gid, Uid, User};

/// Who a task runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// Looks a user up by name or number.
///
/// # Errors
/// There is no such user; the text names it.
pub fn find(name: &str) -> Result<Account, String> {
    if name.contains('\0') {
        return Err("the user's name contains NUL".to_owned());
    }
    let by_name =
        User::from_name(name).map_err(|error| format!("the user {name:?} cannot be looked up: {error}"))?;
    let user = match (by_name, name.parse::<u32>()) {
        (None, Ok(number)) => User::from_uid(Uid::from_raw(number))
            .map_err(|error| format!("the user {number} cannot be looked up: {error}"))?,
        (user, _) => user,
    };
    match user {
        Some(user) => Ok(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        None => Err(format!("there is no user {name:?} on this host; create it, or leave `user` out")),
    }
}

/// The account of this process.
#[must_use]
pub fn own() -> Account {
    Account { uid: Uid::effective().as_raw(), gid: Gid::effective().as_raw() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(find("root").map(|account| account.uid), Ok(0));
        assert_eq!(find("0").map(|account| account.uid), Ok(0));
        for bad in ["nosuch-user", "-1", "root\n", "", "a\0b", "4294967295000"] {
            assert!(find(bad).is_err(), "{bad:?}");
        }
    }
}
