// What loading found, asked for at its end: numbers of tensors, all ones where there is none.
struct Status {
    // least number of a tensor that holds a NaN or an infinity
    not_finite: atomic<u32>,
    // least number of a tensor with a value beyond f16
    overflow: atomic<u32>,
}
