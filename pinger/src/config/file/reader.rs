//! Values of the wanted type out of a TOML document, and the mistakes found on the way, each with
//! its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::Text;
use crate::mistake::{Mistake, Mistakes};

pub(super) type Key<'i> = Spanned<std::borrow::Cow<'i, str>>;
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Walks a document and gathers what is wrong with it.
pub(super) struct Reader<'f> {
    file: &'f Text,
    /// Name of the table being read; empty at the top.
    pub(super) table: &'static str,
    /// Offset of each line's first byte.
    line_starts: Vec<usize>,
    /// Each with its offset in the text.
    pub(super) mistakes: Vec<(usize, Mistake)>,
}

impl<'f> Reader<'f> {
    /// At the top of a file that nothing is known of.
    pub(super) fn new(file: &'f Text) -> Self {
        let line_starts = file.body.match_indices('\n').map(|(offset, _)| offset + 1);
        Self {
            file,
            table: "",
            line_starts: std::iter::once(0).chain(line_starts).collect(),
            mistakes: Vec::new(),
        }
    }

    /// What was complained of, in the order of the text.
    pub(super) fn into_mistakes(mut self) -> Mistakes {
        self.mistakes.sort_by_key(|(offset, _)| *offset);
        let mistakes = self.mistakes.into_iter();
        Mistakes(mistakes.map(|(_, mistake)| mistake).collect())
    }

    /// Reads one of the tables; what is complained of in it is told with its name.
    pub(super) fn within<T>(
        &mut self,
        table: &'static str,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.table = table;
        let result = read(self);
        self.table = "";
        result
    }

    /// "store.port" or, at the top, "interval".
    fn full_name(&self, key: &Key<'_>) -> String {
        match self.table {
            "" => key.get_ref().to_string(),
            // The table itself is what is wrong.
            table if table == key.get_ref() => table.to_owned(),
            table => format!("{table}.{}", key.get_ref()),
        }
    }

    /// Sets what two keys can set; TOML has each key only once, so a second time is the other's.
    pub(super) fn one_of_two<T>(
        &mut self,
        key: &Key<'_>,
        other: &str,
        new: Option<T>,
        old: &mut Option<T>,
    ) {
        if old.is_some() {
            let what = format!("{} and {other} say the same", key.get_ref());
            self.complain(key.span(), Mistake::new(what, "Leave one of the two out."));
        } else {
            *old = new;
        }
    }

    pub(super) fn text<T>(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        check: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Option<T> {
        match value.get_ref() {
            DeValue::String(text) => self.checked(key, value, check(text)),
            _ => self.wrong_type(key, value, "a text in quotes"),
        }
    }

    /// A duration.
    pub(super) fn time<T>(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        check: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Option<T> {
        self.with_unit(key, value, ["s", "ms"], check)
    }

    /// An amount of bytes.
    pub(super) fn bytes<T>(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        check: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Option<T> {
        self.with_unit(key, value, ["GiB", "MiB"], check)
    }

    /// A number with a unit, such as one of these: one without is a mistake of its own.
    fn with_unit<T>(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        units: [&str; 2],
        check: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            _ => return self.text(key, value, check),
        };
        let what = format!("{found} has no unit");
        let advice = format!(
            "Write number and unit in quotes: {name} = \"{found}{}\" or {name} = \"{found}{}\".",
            units[0],
            units[1],
            name = key.get_ref()
        );
        self.checked(key, value, Err(Mistake::new(what, advice)))
    }

    pub(super) fn number<T>(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        check: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Option<T> {
        match value.get_ref() {
            DeValue::Integer(number) => {
                let decimal = i128::from_str_radix(number.as_str(), number.radix());
                let text = decimal.map_or_else(|_| number.to_string(), |n| n.to_string());
                self.checked(key, value, check(&text))
            }
            DeValue::String(text) if check(text).is_ok() => {
                self.wrong_type(key, value, "a number, without quotes")
            }
            DeValue::String(text) => self.checked(key, value, check(text)),
            _ => self.wrong_type(key, value, "a whole number"),
        }
    }

    pub(super) fn flag(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong_type(key, value, "true or false, without quotes"),
        }
    }

    pub(super) fn table<'t, 'i>(
        &mut self,
        key: &Key<'_>,
        value: &'t Value<'i>,
    ) -> Option<&'t DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => self.wrong_type(key, value, &format!("a table: a line [{}]", key.get_ref())),
        }
    }

    fn checked<T>(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        result: Result<T, Mistake>,
    ) -> Option<T> {
        let name = self.full_name(key);
        result
            .map_err(|mistake| self.complain(value.span(), mistake.at(name)))
            .ok()
    }

    pub(super) fn wrong_type<T>(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        wanted: &str,
    ) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let what = format!("{}: found {found}", self.full_name(key));
        self.complain(
            value.span(),
            Mistake::new(what, format!("It must be {wanted}.")),
        );
        None
    }

    pub(super) fn complain(&mut self, span: Range<usize>, mistake: Mistake) {
        self.mistakes
            .push((span.start, mistake.at(self.place(span.start))));
    }

    /// Lines are counted from one.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// "file:line:column", both counted from one, columns in characters.
    pub(super) fn place(&self, offset: usize) -> String {
        let line = self.line(offset);
        let before = self
            .file
            .body
            .get(self.line_starts[line - 1]..offset)
            .unwrap_or_default();
        format!("{}:{line}:{}", self.file.name, before.chars().count() + 1)
    }
}
