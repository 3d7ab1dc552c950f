//! Graphs without chance.

pub(super) fn line(nodes: u32) -> Vec<(u32, u32)> {
    (1..nodes).map(|node| (node - 1, node)).collect()
}

pub(super) fn ring(nodes: u32) -> Vec<(u32, u32)> {
    (0..nodes).map(|node| (node, (node + 1) % nodes)).collect()
}

pub(super) fn star(nodes: u32) -> Vec<(u32, u32)> {
    (1..nodes).map(|node| (0, node)).collect()
}

pub(super) fn tree(nodes: u32, branching: u32) -> Vec<(u32, u32)> {
    (1..nodes).map(|node| ((node - 1) / branching.max(1), node)).collect()
}

pub(super) fn grid(nodes: u32) -> Vec<(u32, u32)> {
    let width = nodes.isqrt().max(1);
    let beside = (1..nodes).filter(|node| node % width != 0).map(|node| (node - 1, node));
    beside.chain((width..nodes).map(|node| (node - width, node))).collect()
}

pub(super) fn clique(nodes: u32) -> Vec<(u32, u32)> {
    (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_what_they_are_called() {
        assert_eq!(line(3), [(0, 1), (1, 2)]);
        assert_eq!(ring(3), [(0, 1), (1, 2), (2, 0)]);
        assert_eq!(star(4), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(tree(6, 2), [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)]);
        assert_eq!(grid(6), [(0, 1), (2, 3), (4, 5), (0, 2), (1, 3), (2, 4), (3, 5)]);
        assert_eq!(clique(4).len(), 6);
    }
}
