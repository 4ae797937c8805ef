//! Which of the store's things a client means.

use tonic::Status;

use crate::proto::control::UsageRecord;

/// One condition: `type==regular`, `id~=abc`, `inuse`.
#[derive(Debug, PartialEq, Eq)]
struct Condition {
    field: String,
    /// What the field is compared with, and how; without it the field has to be true.
    wanted: Option<(Relation, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Is,
    IsNot,
    Contains,
}

/// Filters in containerd's language: any of them, and each is several conditions that all hold.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<Vec<Condition>>);

impl Filters {
    /// An empty filter says nothing.
    pub(super) fn read(texts: &[String]) -> Result<Self, Status> {
        let texts = texts.iter().filter(|text| !text.is_empty());
        let one = |text: &String| text.split(',').map(condition).collect();
        texts.map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether they say nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a record is among those that they select.
    pub(super) fn take(&self, record: &UsageRecord) -> bool {
        let holds = |condition: &Condition| condition.holds(record);
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(holds))
    }
}

fn condition(text: &str) -> Result<Condition, Status> {
    let relations = [
        ("==", Relation::Is),
        ("!=", Relation::IsNot),
        ("~=", Relation::Contains),
    ];
    let split = relations.iter().find_map(|(sign, relation)| {
        let (field, value) = text.split_once(sign)?;
        Some((field, *relation, value))
    });
    let (field, wanted) = match split {
        Some((field, relation, value)) => {
            let value = value.trim().trim_matches('"');
            (field, Some((relation, value.to_owned())))
        }
        None => (text, None),
    };
    let known = [
        "id",
        "type",
        "description",
        "inuse",
        "mutable",
        "shared",
        "private",
        "immutable",
    ];
    let field = field.trim();
    match known.contains(&field) {
        true => Ok(Condition {
            field: field.to_owned(),
            wanted,
        }),
        false => {
            let text = format!("filter {text:?}: use {}", known.join(", "));
            Err(Status::invalid_argument(text))
        }
    }
}

impl Condition {
    fn holds(&self, record: &UsageRecord) -> bool {
        let truth = |value: bool| {
            if value {
                "true".to_owned()
            } else {
                String::new()
            }
        };
        let value = match self.field.as_str() {
            "id" => record.id.clone(),
            "type" => record.record_type.clone(),
            "description" => record.description.clone(),
            "inuse" => truth(record.in_use),
            "mutable" => truth(record.mutable),
            "immutable" => truth(!record.mutable),
            "shared" => truth(record.shared),
            _ => truth(!record.shared),
        };
        match &self.wanted {
            None => !value.is_empty(),
            Some((Relation::Is, wanted)) => value == *wanted,
            Some((Relation::IsNot, wanted)) => value != *wanted,
            Some((Relation::Contains, wanted)) => value.contains(wanted.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_containerd() {
        let record = UsageRecord {
            id: "abcdef".to_owned(),
            record_type: "regular".to_owned(),
            ..UsageRecord::default()
        };
        let takes = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Filters::read(&texts).unwrap().take(&record)
        };
        for yes in [
            &[][..],
            &[""],
            &["type==regular"],
            &["id~=cde,private"],
            &["inuse", "immutable"],
        ] {
            assert!(takes(yes), "{yes:?}");
        }
        for no in [
            &["type==internal"][..],
            &["inuse"],
            &["mutable"],
            &["id~=cde,shared"],
        ] {
            assert!(!takes(no), "{no:?}");
        }
        assert!(Filters::read(&["colour==red".to_owned()]).is_err());
    }
}
