//! Small graphs whose work is counted by hand.

use super::*;

fn constant(dimensions: &[u64]) -> Constant {
    Constant { dimensions: dimensions.to_vec(), ..Constant::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str, numbers: &[(&str, f64)]) -> Node {
    Node {
        operator: operator.into(),
        inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
        outputs: vec![output.into()],
        numbers: numbers.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect(),
        constant: None,
    }
}

/// Multiplications at 100 points, of a picture of 4 channels that goes through `nodes`.
fn multiplications(weights: &[(&str, &[u64])], nodes: Vec<Node>) -> f64 {
    let mut follower = Follower::default();
    nodes.into_iter().for_each(|node| follower.node(node));
    weights.iter().for_each(|(name, dimensions)| follower.weight((*name).to_owned(), constant(dimensions)));
    follower.input("x", &[None, Some(4), None, None]);
    follower.work().unwrap().multiplications(100.0)
}

#[test]
fn convolutions_count_every_weight_at_every_point() {
    let weights: [(&str, &[u64]); 2] = [("w", &[8, 4, 3, 3]), ("v", &[16, 8, 1, 1])];
    let first = 100.0 * 8.0 * 4.0 * 9.0;
    assert_eq!(multiplications(&weights, vec![node("Conv", &["x", "w"], "y", &[])]), first);
    assert_eq!(multiplications(&weights, vec![node("Conv", &["x", "w"], "y", &[("strides", 4.0)])]), first / 4.0);
    let then = vec![
        node("Conv", &["x", "w"], "a", &[("strides", 4.0)]),
        node("Sigmoid", &["a"], "b", &[]),
        node("Mul", &["a", "b"], "c", &[]),
        node("Resize", &["c"], "d", &[]),
        node("Conv", &["d", "v"], "e", &[]),
    ];
    assert_eq!(multiplications(&weights, then), first / 4.0 + 100.0 * 8.0 * 16.0);
    assert_eq!(multiplications(&[("w", &[4, 1, 3, 3])], vec![node("Conv", &["x", "w"], "y", &[("group", 4.0)])]), 3600.0);
}

#[test]
fn weights_that_are_unpacked_have_the_shape_that_they_are_given() {
    let mut follower = Follower::default();
    follower.weight("bytes".into(), constant(&[144, 1]));
    follower.weight("shape".into(), Constant { wholes: vec![8, 4, 3, 3], ..constant(&[4]) });
    follower.input("x", &[None, Some(4), None, None]);
    follower.node(node("Reshape", &["bytes", "shape"], "w", &[]));
    follower.node(node("Conv", &["x", "w"], "y", &[]));
    assert_eq!(follower.work().unwrap().multiplications(100.0), 100.0 * 8.0 * 4.0 * 9.0);
    // A shape that is not known counts nothing, rather than anything.
    assert_eq!(multiplications(&[("bytes", &[144, 1])], vec![node("Conv", &["x", "bytes"], "y", &[])]), 0.0);
}

#[test]
fn attention_grows_with_the_square_of_the_points() {
    let weights: [(&str, &[u64]); 1] = [("w", &[4, 6])];
    let attention = vec![
        node("MatMul", &["x", "w"], "q", &[]),
        node("MatMul", &["x", "w"], "k", &[]),
        node("Transpose", &["k"], "t", &[]),
        node("MatMul", &["q", "t"], "s", &[]),
        node("Softmax", &["s"], "p", &[]),
        node("MatMul", &["p", "k"], "o", &[]),
    ];
    assert_eq!(multiplications(&weights, attention), 2.0 * 100.0 * 4.0 * 6.0 + 2.0 * 100.0 * 100.0 * 6.0);
}

#[test]
fn what_is_cut_in_pieces_is_not_counted_whole_for_each() {
    let weights: [(&str, &[u64]); 1] = [("w", &[2, 3])];
    let pieces = vec![
        node("Slice", &["x"], "a", &[]),
        node("Slice", &["x"], "b", &[]),
        node("Mul", &["a", "b"], "c", &[]),
        node("MatMul", &["c", "w"], "d", &[]),
    ];
    assert_eq!(multiplications(&weights, pieces), 100.0 * 2.0 * 3.0);
}

#[test]
fn graphs_that_make_no_sense_are_followed_to_their_end() {
    for operator in ["Conv", "MatMul", "Gemm", "Gather", "Resize", "Concat", "Split", "Transpose", "ConvTranspose", "Abacus", ""]
    {
        for inputs in [&[][..], &["x"], &["x", "x"], &["w", "x"], &["w", "w"], &["none", "x"]] {
            for dimensions in [&[][..], &[0], &[0, 0], &[u64::MAX, u64::MAX], &[1, 2, 3, 4, 5]] {
                let work = multiplications(&[("w", dimensions)], vec![node(operator, inputs, "y", &[("strides", -1.0)])]);
                assert!(work >= 0.0, "{operator} {inputs:?} {dimensions:?}: {work}");
            }
        }
    }
}
