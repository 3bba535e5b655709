//! Where cards and lines of the drawn family tree lie: years run downwards, each branch has its column.
//!
//! Lines never cross a card. They run sideways in the channels between rows and downwards in the gutters between columns, or through cells of
//! a column that are empty; all lines of one parent share their way as far as they can, and lines of different parents never lie on each other.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;

/// Size of a card.
pub(super) const CARD_WIDTH: f32 = 272.0;
pub(super) const CARD_HEIGHT: f32 = 56.0;
/// Space between a card and the nearest line beside it.
const CLEARANCE: f32 = 14.0;
/// Space between parallel lines.
const TRACK: f32 = 8.0;
/// Space between two places where lines enter a card.
const PORT: f32 = 22.0;

/// A laid-out tree; coordinates in pixels from the top left of the drawing's own area.
pub(super) struct Layout {
    pub(super) width: f32,
    pub(super) height: f32,
    /// Top left corner of each algorithm's card, in the tree's order.
    pub(super) cards: Vec<(f32, f32)>,
    /// Rows from the top.
    pub(super) rows: Vec<Row>,
    pub(super) lines: Vec<Line>,
}

/// A row of cards.
pub(super) struct Row {
    pub(super) top: f32,
    pub(super) first_year: u16,
    pub(super) last_year: u16,
}

/// A line from a parent to a child.
pub(super) struct Line {
    pub(super) parent: usize,
    pub(super) child: usize,
    /// Whether it is the child's first parent.
    pub(super) first: bool,
    /// Corners, all of them right angles, from the parent's lower edge to the child's upper edge.
    pub(super) points: Vec<(f32, f32)>,
}

/// The cell of a card.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cell {
    row: usize,
    column: usize,
}

/// How a line gets from the channel below its parent to its child.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Straight down its own column.
    Straight,
    /// Sideways below the parent, then down the child's column.
    Drop,
    /// Sideways to the gutter left of this column, down, sideways again.
    Gutter(usize),
}

/// Lays out `tree`.
pub(super) fn lay_out(tree: &Tree) -> Layout {
    let (cells, years) = cells(tree);
    let columns = cells.iter().map(|cell| cell.column + 1).max().unwrap_or(1);
    let taken: BTreeSet<(usize, usize)> = cells.iter().map(|cell| (cell.row, cell.column)).collect();
    let clear = |column: usize, above: usize, below: usize| (above + 1..below).all(|row| !taken.contains(&(row, column)));

    // (child, position among its parents, parent, way)
    let mut edges: Vec<(usize, usize, usize, Way)> = Vec::new();
    for (child, algorithm) in tree.algorithms().iter().enumerate() {
        for (position, parent) in algorithm.parents.iter().filter_map(|name| tree.place(name)).enumerate() {
            let (from, to) = (cells[parent], cells[child]);
            let way = if from.column == to.column && clear(to.column, from.row, to.row) {
                Way::Straight
            } else if from.column != to.column && clear(to.column, from.row, to.row) {
                Way::Drop
            } else {
                // The side of the child's column that is nearer to the parent; within one column the side away from the middle.
                let right = from.column > to.column || (from.column == to.column && 2 * to.column + 1 > columns);
                Way::Gutter(to.column + usize::from(right))
            };
            edges.push((child, position, parent, way));
        }
    }

    let mut gutters: Vec<Tracks> = (0..=columns).map(|_| Tracks::default()).collect();
    for (child, _, parent, way) in &edges {
        if let Way::Gutter(gutter) = way {
            #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
            let span = (cells[*parent].row as f32, cells[*child].row as f32 - 1.0);
            gutters[*gutter].add(*parent, span);
        }
    }
    gutters.iter_mut().for_each(Tracks::assign);

    let mut lefts = Vec::new();
    let mut gutter_lefts = Vec::new();
    let mut x = 0.0;
    for gutter in &gutters {
        gutter_lefts.push(x + CLEARANCE);
        x += gutter.breadth();
        lefts.push(x);
        x += CARD_WIDTH;
    }
    let width = x - CARD_WIDTH;
    let middle = |cell: Cell| lefts[cell.column] + CARD_WIDTH / 2.0;
    let ports = ports(&edges, &cells, columns, &middle);
    let gutter_x = |gutter: usize, parent: usize| gutter_lefts[gutter] + gutters[gutter].offset(parent);

    let mut channels: Vec<Tracks> = (0..years.len()).map(|_| Tracks::default()).collect();
    for (child, position, parent, way) in &edges {
        let (from, to) = (cells[*parent], cells[*child]);
        let (start, end) = (middle(from), ports[&(*child, *position)]);
        match way {
            Way::Straight => {}
            Way::Drop => channels[from.row].add(*parent, (start, end)),
            Way::Gutter(gutter) => {
                let across = gutter_x(*gutter, *parent);
                channels[from.row].add(*parent, (start, across));
                channels[to.row - 1].add(*parent, (across, end));
            }
        }
    }
    channels.iter_mut().for_each(Tracks::assign);

    let mut rows = Vec::new();
    let mut y = 0.0;
    for (channel, (first_year, last_year)) in channels.iter().zip(&years) {
        rows.push(Row { top: y, first_year: *first_year, last_year: *last_year });
        y += CARD_HEIGHT + channel.breadth();
    }
    let height = rows.last().map_or(0.0, |row| row.top + CARD_HEIGHT);
    let channel_y = |row: usize, parent: usize| rows[row].top + CARD_HEIGHT + CLEARANCE + channels[row].offset(parent);

    let lines = edges
        .iter()
        .map(|(child, position, parent, way)| {
            let (from, to) = (cells[*parent], cells[*child]);
            let (start, end) = (middle(from), ports[&(*child, *position)]);
            let (bottom, top) = (rows[from.row].top + CARD_HEIGHT, rows[to.row].top);
            let mut points = vec![(start, bottom)];
            match way {
                Way::Straight => {}
                Way::Drop => {
                    let y = channel_y(from.row, *parent);
                    points.extend([(start, y), (end, y)]);
                }
                Way::Gutter(gutter) => {
                    let x = gutter_x(*gutter, *parent);
                    let (high, low) = (channel_y(from.row, *parent), channel_y(to.row - 1, *parent));
                    points.extend([(start, high), (x, high), (x, low), (end, low)]);
                }
            }
            points.push((end, top));
            Line { parent: *parent, child: *child, first: *position == 0, points }
        })
        .collect();
    let cards = cells.iter().map(|cell| (lefts[cell.column], rows[cell.row].top)).collect();
    Layout { width, height, cards, rows, lines }
}

/// Gives each algorithm the highest row that keeps years in order, parents above, and its column free; and each row its years.
fn cells(tree: &Tree) -> (Vec<Cell>, Vec<(u16, u16)>) {
    let mut cells: Vec<Cell> = Vec::new();
    let mut rows: Vec<(BTreeSet<usize>, (u16, u16))> = Vec::new();
    // The lowest row that holds an earlier year, and the year that is being placed.
    let (mut floor, mut year) = (0, 0);
    for algorithm in tree.algorithms() {
        if algorithm.year != year {
            floor = rows.len().saturating_sub(1);
            year = algorithm.year;
        }
        let column = tree.branch_of(algorithm).map_or(0, |(_, branch)| branch.column);
        let below_parents = algorithm
            .parents
            .iter()
            .filter_map(|name| tree.place(name))
            .filter_map(|parent| cells.get(parent))
            .map(|cell| cell.row + 1)
            .max();
        let mut row = floor.max(below_parents.unwrap_or(0));
        while rows.get(row).is_some_and(|(columns, _)| columns.contains(&column)) {
            row += 1;
        }
        while rows.len() <= row {
            rows.push((BTreeSet::new(), (year, year)));
        }
        if let Some((columns, years)) = rows.get_mut(row) {
            columns.insert(column);
            years.1 = years.1.max(year);
        }
        cells.push(Cell { row, column });
    }
    (cells, rows.into_iter().map(|(_, years)| years).collect())
}

/// Where on its upper edge each line enters its card, by child and position of the parent: the straight one in the middle, the others to the
/// side that they come from.
fn ports(
    edges: &[(usize, usize, usize, Way)],
    cells: &[Cell],
    columns: usize,
    middle: &dyn Fn(Cell) -> f32,
) -> BTreeMap<(usize, usize), f32> {
    let mut ports = BTreeMap::new();
    for child in 0..cells.len() {
        let home = cells[child];
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (_, position, parent, way) in edges.iter().filter(|edge| edge.0 == child) {
            let from = cells[*parent];
            let comes_from_right = match way {
                Way::Straight => {
                    ports.insert((child, *position), middle(home));
                    continue;
                }
                Way::Drop => from.column > home.column,
                Way::Gutter(gutter) => *gutter > home.column,
            };
            // The nearer the parent, the nearer to the middle; of one distance the lower parent.
            let key = (from.column.abs_diff(home.column), usize::MAX - from.row, *position);
            if comes_from_right { right.push(key) } else { left.push(key) }
        }
        for (side, sign) in [(&mut left, -1.0), (&mut right, 1.0)] {
            side.sort_unstable();
            for (place, (_, _, position)) in side.iter().enumerate() {
                #[expect(clippy::cast_precision_loss, reason = "a handful of parents")]
                let offset = PORT * (place as f32 + 1.0);
                ports.insert((child, *position), middle(home) + sign * offset.min(CARD_WIDTH / 2.0 - PORT / 2.0));
            }
        }
        debug_assert!(home.column < columns);
    }
    ports
}

/// Parallel lines in a channel or a gutter: each parent's line has a track, lines that would touch have different ones.
#[derive(Default)]
struct Tracks {
    spans: BTreeMap<usize, (f32, f32)>,
    tracks: BTreeMap<usize, usize>,
    count: usize,
}

impl Tracks {
    fn add(&mut self, parent: usize, (one, other): (f32, f32)) {
        let span = self.spans.entry(parent).or_insert((f32::INFINITY, f32::NEG_INFINITY));
        *span = (span.0.min(one).min(other), span.1.max(one).max(other));
    }

    fn assign(&mut self) {
        let mut spans: Vec<(usize, (f32, f32))> = self.spans.iter().map(|(parent, span)| (*parent, *span)).collect();
        // Short lines first: they stay near their cards.
        spans.sort_by(|(left, a), (right, b)| (a.1 - a.0).total_cmp(&(b.1 - b.0)).then(left.cmp(right)));
        let mut tracks: Vec<Vec<(f32, f32)>> = Vec::new();
        for (parent, (begin, end)) in spans {
            let free = |track: &Vec<(f32, f32)>| track.iter().all(|other| end + TRACK < other.0 || other.1 + TRACK < begin);
            let track = tracks.iter().position(free).unwrap_or(tracks.len());
            if track == tracks.len() {
                tracks.push(Vec::new());
            }
            if let Some(spans) = tracks.get_mut(track) {
                spans.push((begin, end));
            }
            self.tracks.insert(parent, track);
        }
        self.count = tracks.len();
    }

    /// Distance of a parent's track from the first.
    #[expect(clippy::cast_precision_loss, reason = "a handful of tracks")]
    fn offset(&self, parent: usize) -> f32 {
        self.tracks.get(&parent).copied().unwrap_or(0) as f32 * TRACK
    }

    /// Space for all tracks and what keeps them from the cards.
    #[expect(clippy::cast_precision_loss, reason = "a handful of tracks")]
    fn breadth(&self) -> f32 {
        2.0 * CLEARANCE + self.count.saturating_sub(1) as f32 * TRACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(line: &Line) -> impl Iterator<Item = ((f32, f32), (f32, f32))> {
        line.points.windows(2).map(|pair| (pair[0], pair[1]))
    }

    #[test]
    fn lines_go_from_parent_to_child_at_right_angles_and_cross_no_card() {
        let tree = Tree::carried().unwrap();
        let layout = lay_out(&tree);
        let edges: usize = tree.algorithms().iter().map(|algorithm| algorithm.parents.len()).sum();
        assert_eq!(layout.lines.len(), edges);
        assert!(edges > 60, "{edges}");
        for line in &layout.lines {
            let (parent, child) = (layout.cards[line.parent], layout.cards[line.child]);
            let (start, end) = (line.points[0], line.points[line.points.len() - 1]);
            assert_eq!((start.0, start.1), (parent.0 + CARD_WIDTH / 2.0, parent.1 + CARD_HEIGHT));
            assert!(end.1 == child.1 && end.0 > child.0 && end.0 < child.0 + CARD_WIDTH);
            for (from, to) in segments(line) {
                assert!(from.0 == to.0 || from.1 == to.1, "{from:?} {to:?}");
                assert!(to.1 >= from.1, "lines run downwards");
                for (left, top) in &layout.cards {
                    let beside = from.0.max(to.0) < left - 4.0 || from.0.min(to.0) > left + CARD_WIDTH + 4.0;
                    let apart = from.1.max(to.1) <= *top || from.1.min(to.1) >= top + CARD_HEIGHT;
                    let name = &tree.algorithms()[line.child].name;
                    assert!(beside || apart, "the line to {name} crosses a card: {from:?} {to:?}");
                }
            }
        }
    }

    #[test]
    fn lines_of_different_parents_never_lie_on_each_other() {
        let layout = lay_out(&Tree::carried().unwrap());
        let mut compared = 0;
        for (number, line) in layout.lines.iter().enumerate() {
            for other in layout.lines.iter().skip(number + 1).filter(|other| other.parent != line.parent) {
                for (a, b) in segments(line) {
                    for (c, d) in segments(other) {
                        let overlap = |one: (f32, f32), two: (f32, f32)| {
                            one.0.max(one.1).min(two.0.max(two.1)) - one.0.min(one.1).max(two.0.min(two.1))
                        };
                        let upright =
                            a.0 == b.0 && c.0 == d.0 && (a.0 - c.0).abs() < 3.0 && overlap((a.1, b.1), (c.1, d.1)) > 0.0;
                        let level = a.1 == b.1 && c.1 == d.1 && (a.1 - c.1).abs() < 3.0 && overlap((a.0, b.0), (c.0, d.0)) > 0.0;
                        assert!(!upright && !level, "{a:?} {b:?} lies on {c:?} {d:?}");
                        compared += 1;
                    }
                }
            }
        }
        assert!(compared > 10_000, "{compared}");
    }

    #[test]
    fn years_run_downwards_and_cards_lie_apart() {
        let tree = Tree::carried().unwrap();
        let layout = lay_out(&tree);
        assert!(
            layout.rows.windows(2).all(|pair| pair[0].last_year <= pair[1].first_year && pair[0].top + CARD_HEIGHT < pair[1].top)
        );
        for (place, card) in layout.cards.iter().enumerate() {
            let row = layout.rows.iter().find(|row| row.top == card.1).unwrap();
            assert!((row.first_year..=row.last_year).contains(&tree.algorithms()[place].year));
            assert!(layout.cards.iter().skip(place + 1).all(|other| other != card));
            assert!(card.0 >= 0.0 && card.0 + CARD_WIDTH <= layout.width && card.1 + CARD_HEIGHT <= layout.height);
        }
    }
}
