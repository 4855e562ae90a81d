//! Label selectors of `GET /v2/apps?label=…`: `a`, `a==b`, `a!=b`, `a in (x,y)`, `a notin (x)`, joined
//! by commas that mean "and".

use std::collections::BTreeMap;

/// Selectors of one query at the most: each is looked at for each app.
const MAX_SELECTORS: usize = 100;

/// One condition on the labels of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    key: String,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    In(Vec<String>),
    /// The label must exist all the same.
    NotIn(Vec<String>),
}

impl Selector {
    /// Reads the selectors of a query.
    ///
    /// # Errors
    /// The text breaks the grammar; the message says where.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut reader = Reader { text, rest: text };
        let mut selectors = Vec::new();
        loop {
            if selectors.len() == MAX_SELECTORS {
                return Err(format!("more than {MAX_SELECTORS} label selectors; use fewer"));
            }
            selectors.push(reader.selector()?);
            if reader.at_end() {
                return Ok(selectors);
            }
            reader.expect(",")?;
        }
    }

    /// Whether labels satisfy it.
    #[must_use]
    pub fn accepts(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.key).is_some_and(|value| match &self.wanted {
            Wanted::Any => true,
            Wanted::In(values) => values.contains(value),
            Wanted::NotIn(values) => !values.contains(value),
        })
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Reader<'_> {
    fn selector(&mut self) -> Result<Selector, String> {
        let key = self.word()?;
        let wanted = if self.takes("==") {
            Wanted::In(vec![self.word()?])
        } else if self.takes("!=") {
            Wanted::NotIn(vec![self.word()?])
        } else if self.at_end() || self.rest.starts_with(',') {
            Wanted::Any
        } else {
            match self.word()?.as_str() {
                "in" => Wanted::In(self.list()?),
                "notin" => Wanted::NotIn(self.list()?),
                other => return Err(self.wrong(&format!("{other:?} is none of ==, !=, in, notin"))),
            }
        };
        Ok(Selector { key, wanted })
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        self.expect("(")?;
        let mut values = vec![self.word()?];
        while self.takes(",") {
            values.push(self.word()?);
        }
        self.expect(")")?;
        Ok(values)
    }

    /// Plain characters, and others behind a backslash.
    fn word(&mut self) -> Result<String, String> {
        self.skip_blanks();
        let mut word = String::new();
        let mut letters = self.rest.chars();
        loop {
            let before = letters.as_str();
            match letters.next() {
                Some('\\') => match letters.next() {
                    Some(letter) => word.push(letter),
                    None => return Err(self.wrong("a backslash stands before the end")),
                },
                Some(letter) if letter.is_ascii_alphanumeric() || ".-_".contains(letter) => word.push(letter),
                _ => {
                    self.rest = before;
                    break;
                }
            }
        }
        if word.is_empty() { Err(self.wrong("a name or value is expected")) } else { Ok(word) }
    }

    fn takes(&mut self, mark: &str) -> bool {
        self.skip_blanks();
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn expect(&mut self, mark: &str) -> Result<(), String> {
        if self.takes(mark) { Ok(()) } else { Err(self.wrong(&format!("{mark:?} is expected"))) }
    }

    fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest.is_empty()
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn wrong(&self, problem: &str) -> String {
        let position = self.text.chars().count() - self.rest.chars().count() + 1;
        format!("label selector {:?}, at character {position}: {problem}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Selector;
    use std::collections::BTreeMap;

    #[test]
    fn selectors_select() {
        let labels: BTreeMap<String, String> = [("tier", "web"), ("odd key", "a/b"), ("x", "1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, wanted) in [
            ("tier", true),
            ("nothing", false),
            ("tier==web", true),
            ("tier == web , x==1", true),
            ("tier==web,x==2", false),
            ("tier!=db", true),
            ("nothing!=db", false),
            ("tier in (db, web)", true),
            ("tier in(db)", false),
            ("tier notin (db)", true),
            ("nothing notin (db)", false),
            ("odd\\ key==a\\/b", true),
        ] {
            let selectors = Selector::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
            assert_eq!(selectors.iter().all(|one| one.accepts(&labels)), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for bad in
            ["", ",", "a=b", "a==", "a in b", "a in (", "a in ()", "a near (b)", "a,", "a\\", "a b", "(a)"]
        {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
        let problem = Selector::parse("tier=web").expect_err("one equals sign");
        assert!(problem.contains("at character 5"), "{problem}");
        assert!(Selector::parse(&vec!["a"; 101].join(",")).is_err());
    }
}
