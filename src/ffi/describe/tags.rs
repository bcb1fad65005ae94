//! Parses the tags of a doc comment. tests/abi/README.md documents them.

use std::collections::BTreeMap;

/// A doc comment: prose for people, then tags.
#[derive(Clone, Default)]
pub struct Doc {
    pub prose: String,
    /// The lines of the whole comment.
    pub lines: Vec<String>,
    tags: Vec<(String, String)>,
}

/// The content of a tag: words with their arguments, then prose.
#[derive(Clone, Debug, Default)]
pub struct Words {
    words: BTreeMap<&'static str, String>,
    pub prose: String,
}

impl Doc {
    /// Parses the lines of a comment.
    pub fn new(lines: &[String]) -> Doc {
        let mut doc = Doc::default();
        let mut in_tag = false;
        for line in lines {
            let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
            doc.lines.push(line.to_owned());
            if let Some(tag) = line.strip_prefix('@') {
                let (name, text) = tag.split_once(' ').unwrap_or((tag, ""));
                doc.tags.push((name.to_owned(), text.to_owned()));
                in_tag = true;
            } else if let Some((_, text)) = doc.tags.last_mut().filter(|_| in_tag && !line.is_empty()) {
                *text += " ";
                *text += line.trim_start();
            } else {
                in_tag = false;
                doc.prose += line;
                doc.prose.push('\n');
            }
        }
        doc.prose.truncate(doc.prose.trim_end().len());
        doc
    }

    /// Replaces the lines for which `others` returns replacements.
    pub fn replace(&mut self, others: impl Fn(&str) -> Option<Vec<String>>) {
        let replaced = |line: &str| others(line).unwrap_or_else(|| vec![line.to_owned()]);
        self.lines = self.lines.iter().flat_map(|line| replaced(line)).collect();
        self.prose = self
            .prose
            .lines()
            .flat_map(replaced)
            .collect::<Vec<_>>()
            .join("\n");
    }

    /// Returns the first sentence.
    pub fn summary(&self) -> String {
        let paragraph = self
            .prose
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .replace('\n', " ");
        match paragraph.split_once(". ") {
            Some((sentence, _)) => format!("{sentence}."),
            None => paragraph,
        }
    }

    /// Returns the texts of all tags with a name.
    pub fn tags(&self, name: &str) -> Vec<&str> {
        let of_name = self.tags.iter().filter(|(tag, _)| tag == name);
        of_name.map(|(_, text)| text.as_str()).collect()
    }

    /// Returns the text of the only tag with a name.
    pub fn tag(&self, name: &str) -> Result<Option<&str>, String> {
        match self.tags(name)[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(format!("has two @{name}")),
        }
    }

    /// Returns the words of the only tag with a name.
    pub fn words(&self, name: &str, known: &[&'static str]) -> Result<Option<Words>, String> {
        let text = self.tag(name)?;
        text.map(|text| Words::new(text, known).map_err(|e| format!("@{name}: {e}")))
            .transpose()
    }

    /// Checks that all tags have one of these names.
    pub fn only(&self, names: &[&str]) -> Result<(), String> {
        match self.tags.iter().find(|(tag, _)| !names.contains(&tag.as_str())) {
            Some((tag, _)) => Err(format!("has an unknown tag: @{tag}")),
            None => Ok(()),
        }
    }
}

impl Words {
    /// Parses the text of a tag. A word in `known` that ends with " *" has an argument.
    pub fn new(text: &str, known: &[&'static str]) -> Result<Words, String> {
        let (head, prose) = match text.split_once(". ") {
            Some((head, prose)) => (head, prose.trim()),
            None => (
                text.strip_suffix('.')
                    .ok_or("its words do not end with a full stop")?,
                "",
            ),
        };
        let mut words = BTreeMap::new();
        for word in head.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (key, argument) = known
                .iter()
                .find_map(|known| match known.strip_suffix('*') {
                    None => (word == *known).then_some((*known, "")),
                    Some(key) => word.strip_prefix(key).map(|rest| (key.trim_end(), rest)),
                })
                .ok_or_else(|| format!("`{word}` is not one of its words"))?;
            if words.insert(key, argument.trim().to_owned()).is_some() {
                return Err(format!("has `{key}` twice"));
            }
        }
        let prose = prose.to_owned();
        Ok(Words { words, prose })
    }

    /// Returns the argument of a word. None if the word is missing.
    pub fn get(&self, word: &str) -> Option<&str> {
        self.words.get(word).map(String::as_str)
    }

    pub fn has(&self, word: &str) -> bool {
        self.words.contains_key(word)
    }
}
