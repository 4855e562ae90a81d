//! Colour, where it is wanted.

use std::io::IsTerminal;

use super::super::args::Color;

/// A terminal colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Tint {
    /// Good.
    Green,
    /// Bad.
    Red,
    /// In between.
    Yellow,
    /// Quiet.
    Dim,
    /// One of six colours that tell instances apart.
    Instance(usize),
}

/// Paints text, or leaves it alone.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Paint {
    on: bool,
}

impl Paint {
    /// Paint for a stream that is a terminal or not.
    pub(in crate::cli) fn new(color: Color, is_terminal: bool) -> Self {
        let wanted = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { on: matches!(color, Color::Always) || (matches!(color, Color::Auto) && wanted) }
    }

    /// Paint for stdout.
    pub(in crate::cli) fn stdout(color: Color) -> Self {
        Self::new(color, std::io::stdout().is_terminal())
    }

    /// The text in a colour.
    pub(in crate::cli) fn text(self, tint: Tint, text: &str) -> String {
        if !self.on {
            return text.to_owned();
        }
        let code = match tint {
            Tint::Green => 32,
            Tint::Red => 31,
            Tint::Yellow => 33,
            Tint::Dim => 2,
            Tint::Instance(index) => [36, 33, 35, 32, 34, 91][index % 6],
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// What a task wrote, without control characters that would act on the terminal: tabs stay.
pub(in crate::cli) fn harmless(line: &str) -> String {
    if line.chars().all(|letter| letter == '\t' || !letter.is_control()) {
        return line.to_owned();
    }
    line.chars()
        .flat_map(|letter| {
            if letter == '\t' || !letter.is_control() {
                vec![letter]
            } else {
                letter.escape_default().collect()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\tb"), "a\tb");
        assert_eq!(harmless("\x1b[2Jgone"), "\\u{1b}[2Jgone");
    }

    #[test]
    fn colour_only_when_asked_for() {
        assert_eq!(Paint::new(Color::Never, true).text(Tint::Red, "x"), "x");
        assert_eq!(Paint::new(Color::Auto, false).text(Tint::Red, "x"), "x");
        assert_eq!(Paint::new(Color::Always, false).text(Tint::Red, "x"), "\x1b[31mx\x1b[0m");
    }
}
