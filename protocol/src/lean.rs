//! A map for the many places of a node that mostly hold nothing, or a handful.
//!
//! A node has a dozen maps for each friend, and nearly all of them are empty at any time. A tree keeps room for eleven
//! entries as soon as it has had one, and keeps it when the last one has gone. This one is a sorted list as long as it has few
//! entries, a tree beyond, and holds no memory when it has none. What it costs to find, add and take away stays that of a
//! tree: a list is never longer than [`FEW`].

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;
use std::iter::{Chain, FlatMap};
use std::ops::Bound;
use std::option;

/// Entries of a list; more are a tree. Chosen freely: to move so many costs about what a tree's node costs.
pub const FEW: usize = 16;

/// Entries by key, in order. One of the two forms is empty.
#[allow(clippy::box_collection, reason = "an empty tree beside the list would be three words instead of one")]
#[derive(Clone)]
pub struct LeanMap<K, V> {
    few: Vec<(K, V)>,
    many: Option<Box<BTreeMap<K, V>>>,
}

type Few<'a, K, V> = std::iter::Map<std::slice::Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;
#[allow(clippy::box_collection, reason = "as in the map")]
type Many<'a, K, V> = FlatMap<
    option::Iter<'a, Box<BTreeMap<K, V>>>,
    btree_map::Iter<'a, K, V>,
    fn(&'a Box<BTreeMap<K, V>>) -> btree_map::Iter<'a, K, V>,
>;

/// The entries of a [`LeanMap`], in order.
pub type Iter<'a, K, V> = Chain<Few<'a, K, V>, Many<'a, K, V>>;

impl<K, V> Default for LeanMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> LeanMap<K, V> {
    /// An empty map.
    pub const fn new() -> Self {
        LeanMap { few: Vec::new(), many: None }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.few.len() + self.many.as_ref().map_or(0, |many| many.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let few: Few<'_, K, V> = self.few.iter().map(|(key, value)| (key, value));
        let many: Many<'_, K, V> = self.many.iter().flat_map(|many| many.iter());
        few.chain(many)
    }

    /// The entries, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let few = self.few.iter_mut().map(|(key, value)| (&*key, value));
        few.chain(self.many.iter_mut().flat_map(|many| many.iter_mut()))
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }
}

impl<K: Ord, V> LeanMap<K, V> {
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.few.binary_search_by(|(at, _)| at.cmp(key))
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        match &self.many {
            Some(many) => many.get(key),
            None => self.place(key).ok().map(|place| &self.few[place].1),
        }
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match &mut self.many {
            Some(many) => many.get_mut(key),
            None => match self.few.binary_search_by(|(at, _)| at.cmp(key)) {
                Ok(place) => Some(&mut self.few[place].1),
                Err(_) => None,
            },
        }
    }

    /// Whether a key has a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of a key; gives the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(many) = &mut self.many {
            return many.insert(key, value);
        }
        match self.place(&key) {
            Ok(place) => Some(std::mem::replace(&mut self.few[place].1, value)),
            Err(place) => {
                self.insert_at(place, key, value);
                None
            }
        }
    }

    fn insert_at(&mut self, place: usize, key: K, value: V) {
        if self.few.len() == FEW {
            let mut many: BTreeMap<K, V> = std::mem::take(&mut self.few).into_iter().collect();
            many.insert(key, value);
            self.many = Some(Box::new(many));
            return;
        }
        if self.few.len() == self.few.capacity() {
            // Twice as many, from one on: a friendship has one currency, not four.
            self.few.reserve_exact(self.few.len().max(1));
        }
        self.few.insert(place, (key, value));
    }

    /// Takes a key away; gives its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let value = match &mut self.many {
            Some(many) => many.remove(key)?,
            None => {
                let place = self.place(key).ok()?;
                self.few.remove(place).1
            }
        };
        self.let_go();
        Some(value)
    }

    /// Takes the first entry away.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let entry = match &mut self.many {
            Some(many) => many.pop_first(),
            None if self.few.is_empty() => None,
            None => Some(self.few.remove(0)),
        };
        self.let_go();
        entry
    }

    /// An empty map holds no memory.
    fn let_go(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }

    /// The first entry.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// Entries after a key; all of them without one.
    pub fn after(&self, key: Option<K>) -> impl Iterator<Item = (&K, &V)>
    where
        K: Copy,
    {
        let start = key.map_or(0, |key| self.few.partition_point(|(at, _)| *at <= key));
        let few = self.few[start..].iter().map(|(key, value)| (key, value));
        let bounds = (key.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        few.chain(self.many.iter().flat_map(move |many| many.range(bounds)))
    }

    /// The value of a key, to be changed; the usual one if it has none.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if self.many.is_none() {
            match self.place(&key) {
                Ok(place) => return &mut self.few[place].1,
                Err(place) if self.few.len() < FEW => {
                    self.insert_at(place, key, V::default());
                    return &mut self.few[place].1;
                }
                Err(_) => {}
            }
        }
        let few = std::mem::take(&mut self.few);
        self.many.get_or_insert_with(|| Box::new(few.into_iter().collect())).entry(key).or_default()
    }
}

/// Keys, in order: what a [`LeanMap`] is among maps, among sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeanSet<K>(LeanMap<K, ()>);

impl<K> Default for LeanSet<K> {
    fn default() -> Self {
        LeanSet(LeanMap::new())
    }
}

impl<K> LeanSet<K> {
    /// An empty set.
    pub const fn new() -> Self {
        LeanSet(LeanMap::new())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}

impl<K: Ord> LeanSet<K> {
    /// Adds one; gives whether it is new.
    pub fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    /// Takes one away; gives whether it was there.
    pub fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    /// The first.
    pub fn first(&self) -> Option<&K> {
        self.0.first_key_value().map(|(key, ())| key)
    }

    /// Takes the first away.
    pub fn pop_first(&mut self) -> Option<K> {
        self.0.pop_first().map(|(key, ())| key)
    }
}

impl<K, V> IntoIterator for LeanMap<K, V> {
    type Item = (K, V);
    type IntoIter = Chain<std::vec::IntoIter<(K, V)>, btree_map::IntoIter<K, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.few.into_iter().chain(self.many.map(|many| *many).unwrap_or_default())
    }
}

impl<'a, K, V> IntoIterator for &'a LeanMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord, V> Extend<(K, V)> for LeanMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> std::ops::Index<&K> for LeanMap<K, V> {
    type Output = V;

    /// The value of a key.
    ///
    /// # Panics
    /// If it has none, as any map does that is asked in this way.
    fn index(&self, key: &K) -> &V {
        self.get(key).expect("whoever asks by index knows that the key is there")
    }
}

/// Two maps are equal if their entries are, whatever their form.
impl<K: PartialEq, V: PartialEq> PartialEq for LeanMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for LeanMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for LeanMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Everything that can be done, compared with a tree, at sizes around the border of the two forms.
        #[test]
        fn it_does_what_a_tree_does(steps in proptest::collection::vec((0u8..6, 0u8..40, any::<u8>()), 0..200)) {
            let (mut lean, mut tree) = (LeanMap::new(), BTreeMap::new());
            for (step, key, value) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(lean.insert(key, value), tree.insert(key, value)),
                    2 => prop_assert_eq!(lean.remove(&key), tree.remove(&key)),
                    3 => prop_assert_eq!(lean.pop_first(), tree.pop_first()),
                    4 => {
                        *lean.get_or_default(key) ^= value;
                        *tree.entry(key).or_default() ^= value;
                    }
                    _ => {
                        lean.values_mut().for_each(|any| *any = any.wrapping_add(value));
                        tree.values_mut().for_each(|any| *any = any.wrapping_add(value));
                    }
                }
                prop_assert_eq!((lean.len(), lean.is_empty()), (tree.len(), tree.is_empty()));
                prop_assert!(lean.iter().eq(tree.iter()));
                prop_assert_eq!(lean.get(&key), tree.get(&key));
                prop_assert_eq!(lean.get_mut(&key), tree.get_mut(&key));
                prop_assert_eq!(lean.first_key_value(), tree.first_key_value());
                let bounds = (Bound::Excluded(key), Bound::Unbounded);
                prop_assert!(lean.after(Some(key)).eq(tree.range(bounds)));
                prop_assert!(lean.clone().into_iter().eq(tree.clone()));
            }
        }
    }

    #[test]
    fn an_empty_one_holds_no_memory_whatever_was_in_it() {
        let mut lean: LeanMap<u32, u32> = (0..100).fold(LeanMap::new(), |mut lean, n| {
            lean.insert(n, n);
            lean
        });
        while lean.pop_first().is_some() {}
        assert_eq!((lean.few.capacity(), lean.many.is_none()), (0, true));
        lean.insert(1, 1);
        assert_eq!(lean.few.capacity(), 1);
        lean.remove(&1);
        assert_eq!(lean.few.capacity(), 0);
    }

    #[test]
    fn the_form_makes_no_difference() {
        let full = |many: u32| {
            (0..many).map(|n| (n, n)).fold(LeanMap::new(), |mut lean, (key, value)| {
                lean.insert(key, value);
                lean
            })
        };
        let (list, mut tree) = (full(3), full(20));
        (3..20).for_each(|n| assert_eq!(tree.remove(&n), Some(n)));
        assert_eq!(list, tree);
        assert_eq!(format!("{list:?}"), "{0: 0, 1: 1, 2: 2}");
    }
}
