//! Merkle trees of transparency logs, with SHA-256 (RFC 9162, section 2.1).

use ring::digest::{Context, SHA256};

/// The hash of a node.
pub(crate) type Hash = [u8; 32];

/// The hash of a leaf.
pub(crate) fn leaf(entry: &[u8]) -> Hash {
    hash(&[&[0], entry])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The hash of the root that a proof leads to from the leaf at `index` of a tree with `size` leaves (section
/// 2.1.3.2); `None` when the proof is of another length than such a one has.
pub(crate) fn root(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    let mut last = size.checked_sub(1).filter(|last| index <= *last)?;
    let (mut at, mut hash) = (index, leaf);
    for other in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(other, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The root of a tree (section 2.1.1), and the proof for one of its leaves (section 2.1.3.1).
    pub(crate) fn tree(leaves: &[Hash], index: usize) -> (Hash, Vec<Hash>) {
        let [only] = leaves else {
            let half = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(half);
            return match index < half {
                true => {
                    let ((own, mut proof), (other, _)) = (tree(left, index), tree(right, 0));
                    proof.push(other);
                    (node(&own, &other), proof)
                }
                false => {
                    let ((own, mut proof), (other, _)) = (tree(right, index - half), tree(left, 0));
                    proof.push(other);
                    (node(&other, &own), proof)
                }
            };
        };
        (*only, Vec::new())
    }

    #[test]
    fn proofs_lead_to_the_root_from_one_leaf_only() {
        let leaves: Vec<Hash> = (0..20_u8).map(|number| leaf(&[number])).collect();
        for size in 1..=leaves.len() {
            for index in 0..size {
                let (want, proof) = tree(&leaves[..size], index);
                let found = |leaf: Hash, index: usize, size: usize, proof: &[Hash]| {
                    root(leaf, index as u64, size as u64, proof)
                };
                assert_eq!(found(leaves[index], index, size, &proof), Some(want));
                assert_ne!(found(leaf(b"x"), index, size, &proof), Some(want));
                assert_ne!(found(leaves[index], index + 1, size, &proof), Some(want));
                assert_eq!(found(leaves[index], size, size, &proof), None);
                let longer = [&proof[..], &[[0; 32]]].concat();
                assert_ne!(found(leaves[index], index, size, &longer), Some(want));
                if let [shorter @ .., _] = &proof[..] {
                    assert_ne!(found(leaves[index], index, size, shorter), Some(want));
                }
            }
        }
        assert_eq!(root([0; 32], 0, 0, &[]), None);
    }

    #[test]
    fn the_empty_leaf_of_the_specification() {
        let want = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(hex::encode(leaf(b"")), want);
    }
}
