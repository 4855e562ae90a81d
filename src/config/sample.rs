//! A file that says of every key what it means and what holds without it.

use super::keys::{Fallback, For, KEYS, Key};

/// Columns that a comment fills.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Configuration of mesita. Every key is here; those that have a default show it. To set one, take away
# the # before its name. A flag counts more than a variable of the environment, that more than
# ./mesita.toml, that more than $XDG_CONFIG_HOME/mesita/config.toml, that more than
# /etc/mesita/conf.d/*.toml, and that more than /etc/mesita/mesita.toml.
";

/// The file. As it stands it sets nothing; with every `#` before a name taken away it is valid, and what
/// has a default is set to that.
#[must_use]
pub fn sample() -> String {
    let mut text = HEAD.to_owned();
    let mut current = None;
    for key in KEYS.iter().copied() {
        let (table, name) = key.split();
        if table != current {
            current = table;
            text.push_str(&format!("\n[{}]\n", table.unwrap_or_default()));
        }
        text.push('\n');
        for line in wrapped(&comment(key)) {
            text.push_str(&format!("# {line}\n"));
        }
        let example = key.example().map(|value| value.toml()).unwrap_or_default();
        text.push_str(&format!("#{name} = {example}\n"));
    }
    text
}

fn comment(key: &Key) -> String {
    let default = match key.default {
        Fallback::Is(_) => String::new(),
        Fallback::OfNode(_, dev) => format!(" Default of `dev`: {dev}."),
        Fallback::Says(says, _) => format!(" Default: {says}."),
    };
    let allowed = key.kind.allowed();
    let flag = key.flag.map(|flag| format!(", flag --{flag}")).unwrap_or_default();
    let users = if key.is_for(For::Node) && key.is_for(For::Dev) {
        ""
    } else if key.is_for(For::Node) {
        " For `node` only."
    } else {
        " For `dev` only."
    };
    format!("{}.{users}{default} Write {allowed}. Variable {}{flag}.", key.meaning, key.variable)
}

/// A text in lines of words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
