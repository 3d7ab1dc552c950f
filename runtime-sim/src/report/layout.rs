//! Where the nodes of a small graph are drawn: friends pull, everybody pushes, and it cools down (Fruchterman and Reingold).

/// Rounds. Chosen freely: a few hundred nodes have found their places after that.
const ROUNDS: u32 = 160;

/// A place for each node, within the unit square. The same for the same graph.
pub(super) fn layout(nodes: usize, edges: &[(usize, usize, f64)]) -> Vec<(f64, f64)> {
    // On a spiral at first: no two at one place.
    let mut places: Vec<(f64, f64)> = (0..nodes)
        .map(|n| {
            let (angle, radius) = (n as f64 * 2.399_963, ((n as f64 + 0.5) / nodes as f64).sqrt() / 2.0);
            (0.5 + radius * angle.cos(), 0.5 + radius * angle.sin())
        })
        .collect();
    if nodes < 2 {
        return vec![(0.5, 0.5); nodes];
    }
    let ideal = 0.8 / (nodes as f64).sqrt();
    for round in 0..ROUNDS {
        let most = 0.12 * (1.0 - f64::from(round) / f64::from(ROUNDS));
        let mut moves = vec![(0.0, 0.0); nodes];
        for a in 0..nodes {
            for b in a + 1..nodes {
                let (dx, dy, distance) = between(places[a], places[b]);
                let push = ideal * ideal / distance;
                shift(&mut moves, a, b, (dx / distance * push, dy / distance * push));
            }
        }
        for &(a, b, weight) in edges {
            let (dx, dy, distance) = between(places[a], places[b]);
            let pull = -distance * distance / ideal * weight;
            shift(&mut moves, a, b, (dx / distance * pull, dy / distance * pull));
        }
        for (place, (dx, dy)) in places.iter_mut().zip(moves) {
            // A little towards the middle, so that parts do not drift apart.
            let (dx, dy) = (dx + (0.5 - place.0) * 0.05, dy + (0.5 - place.1) * 0.05);
            let length = (dx * dx + dy * dy).sqrt().max(1e-9);
            let step = length.min(most);
            *place = (place.0 + dx / length * step, place.1 + dy / length * step);
        }
    }
    fit(places)
}

fn between(a: (f64, f64), b: (f64, f64)) -> (f64, f64, f64) {
    let (dx, dy) = (a.0 - b.0, a.1 - b.1);
    (dx, dy, (dx * dx + dy * dy).sqrt().max(1e-4))
}

fn shift(moves: &mut [(f64, f64)], a: usize, b: usize, by: (f64, f64)) {
    moves[a] = (moves[a].0 + by.0, moves[a].1 + by.1);
    moves[b] = (moves[b].0 - by.0, moves[b].1 - by.1);
}

/// Into the unit square.
fn fit(mut places: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let all = places.iter().map(of);
        (all.clone().fold(f64::INFINITY, f64::min), all.fold(f64::NEG_INFINITY, f64::max))
    };
    let ((left, right), (top, bottom)) = (bounds(|place| place.0), bounds(|place| place.1));
    let (width, height) = ((right - left).max(1e-9), (bottom - top).max(1e-9));
    for place in &mut places {
        *place = ((place.0 - left) / width, (place.1 - top) / height);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn friends_are_nearer_than_strangers() {
        // Two triangles and a bridge.
        let edges = [(0, 1, 1.0), (1, 2, 1.0), (0, 2, 1.0), (3, 4, 1.0), (4, 5, 1.0), (3, 5, 1.0), (2, 3, 1.0)];
        let places = layout(6, &edges);
        assert_eq!(places, layout(6, &edges));
        let far = |a: usize, b: usize| between(places[a], places[b]).2;
        assert!(far(0, 1) < far(0, 4) && far(4, 5) < far(1, 5));
        assert!(places.iter().all(|(x, y)| (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y)));
        assert_eq!(layout(1, &[]), [(0.5, 0.5)]);
    }
}
