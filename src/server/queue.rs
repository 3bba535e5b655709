//! A bounded queue that serves its clients in turn, so that one who asks much delays the others by one job at most.

use std::collections::VecDeque;

/// Why a job finds no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many as may wait.
    All,
    /// This client has as many waiting as it may.
    Client,
}

struct Line<T> {
    client: String,
    /// Places given to what has not come yet.
    promised: usize,
    waiting: VecDeque<T>,
}

/// Items of several clients, taken out round robin.
///
/// The client at the front is served next and then goes to the back, if more of its items wait.
pub struct FairQueue<T> {
    /// The order in which clients are served; each has something waiting or promised.
    lines: VecDeque<Line<T>>,
    most: usize,
    most_per_client: usize,
}

impl<T> FairQueue<T> {
    /// An empty queue that takes `most` items, and of one client `most_per_client`.
    #[must_use]
    pub fn new(most: usize, most_per_client: usize) -> Self {
        Self { lines: VecDeque::new(), most, most_per_client }
    }

    /// Promises `client` a place, which [`FairQueue::push`] fills and [`FairQueue::withdraw`] gives back.
    ///
    /// # Errors
    /// The queue, or the client's part of it, is full.
    pub fn promise(&mut self, client: &str) -> Result<(), Full> {
        let taken = |line: &Line<T>| line.promised + line.waiting.len();
        if self.lines.iter().map(taken).sum::<usize>() >= self.most {
            return Err(Full::All);
        }
        match self.lines.iter_mut().find(|line| line.client == client) {
            Some(line) if taken(line) >= self.most_per_client => Err(Full::Client),
            Some(line) => {
                line.promised += 1;
                Ok(())
            }
            None => {
                self.lines.push_back(Line { client: client.to_owned(), promised: 1, waiting: VecDeque::new() });
                Ok(())
            }
        }
    }

    /// Fills a place that was promised to `client`.
    pub fn push(&mut self, client: &str, item: T) {
        match self.lines.iter_mut().find(|line| line.client == client) {
            Some(line) => {
                line.promised = line.promised.saturating_sub(1);
                line.waiting.push_back(item);
            }
            None => self.lines.push_back(Line { client: client.to_owned(), promised: 0, waiting: VecDeque::from([item]) }),
        }
    }

    /// Gives back a place that was promised to `client`.
    pub fn withdraw(&mut self, client: &str) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.client == client) {
            line.promised = line.promised.saturating_sub(1);
        }
        self.lines.retain(|line| line.promised > 0 || !line.waiting.is_empty());
    }

    /// Takes out the next item.
    pub fn pop(&mut self) -> Option<T> {
        let position = self.lines.iter().position(|line| !line.waiting.is_empty())?;
        let mut line = self.lines.remove(position)?;
        let item = line.waiting.pop_front();
        if line.promised > 0 || !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        item
    }

    /// Takes out the first item that `is_it` recognises.
    pub fn remove(&mut self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let mut found = None;
        for line in &mut self.lines {
            if let Some(position) = line.waiting.iter().position(&is_it) {
                found = line.waiting.remove(position);
                break;
            }
        }
        self.lines.retain(|line| line.promised > 0 || !line.waiting.is_empty());
        found
    }

    /// The waiting items in the order in which they would be taken out if none came.
    #[must_use]
    pub fn in_order(&self) -> Vec<&T> {
        let longest = self.lines.iter().map(|line| line.waiting.len()).max().unwrap_or(0);
        (0..longest).flat_map(|round| self.lines.iter().filter_map(move |line| line.waiting.get(round))).collect()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(items: &[(&str, u32)]) -> FairQueue<u32> {
        let mut queue = FairQueue::new(100, 100);
        for (client, item) in items {
            queue.promise(client).unwrap();
            queue.push(client, *item);
        }
        queue
    }

    #[test]
    fn clients_are_served_in_turn() {
        let mut queue = filled(&[("a", 1), ("a", 2), ("a", 3), ("b", 10), ("b", 11), ("c", 20)]);
        assert_eq!(queue.in_order(), [&1, &10, &20, &2, &11, &3]);
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [1, 10, 20, 2, 11, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn who_was_served_goes_to_the_back() {
        let mut queue = filled(&[("a", 1), ("a", 2), ("b", 10)]);
        assert_eq!(queue.pop(), Some(1));
        queue.promise("c").unwrap();
        queue.push("c", 20);
        assert_eq!(queue.in_order(), [&10, &2, &20]);
    }

    #[test]
    fn places_are_bounded_and_promises_count() {
        let mut queue = FairQueue::new(3, 2);
        queue.promise("a").unwrap();
        queue.promise("a").unwrap();
        assert_eq!(queue.promise("a"), Err(Full::Client));
        queue.promise("b").unwrap();
        assert_eq!(queue.promise("c"), Err(Full::All));
        assert_eq!(queue.pop(), None, "promises are no items");
        queue.withdraw("b");
        queue.promise("c").unwrap();
        queue.push("c", 1);
        assert_eq!((queue.len(), queue.pop()), (1, Some(1)));
        queue.withdraw("a");
        queue.push("a", 2);
        assert_eq!(queue.remove(|item| *item == 2), Some(2));
        assert_eq!(queue.remove(|item| *item == 2), None);
        for _ in 0..2 {
            queue.promise("a").unwrap();
        }
    }
}
