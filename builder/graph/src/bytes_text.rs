//! Serde: bytes that are mostly text, kept readable in JSON (`%XX` for the rest).

use serde::{Deserialize, Deserializer, Serializer};

use crate::image_path::{escape, unescape};

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&escape(bytes))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    read(&String::deserialize(from)?)
}

fn read<E: serde::de::Error>(text: &str) -> Result<Vec<u8>, E> {
    unescape(text).ok_or_else(|| E::custom(format!("'{text}' has a broken %XX")))
}

/// The same for maps from bytes to bytes.
pub(crate) mod map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{escape, read};

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    pub(crate) fn serialize<S: Serializer>(map: &Map, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            map.iter()
                .map(|(name, value)| (escape(name), escape(value))),
        )
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Map, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(from)?;
        texts
            .iter()
            .map(|(name, value)| Ok((read(name)?, read(value)?)))
            .collect()
    }
}
