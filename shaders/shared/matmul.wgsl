// The parameters of a matrix product, shared by its kernels.
//   y[t, first + n] (+)= sum_k x[t, k] * w[n, k] (+ bias[first + n])
struct MatmulParams {
    // vec4s of a row of w that are multiplied, and of a row of x: K, unless w has an order of its own
    k4: u32,
    x_stride4: u32,
    // rows of w in this part, a multiple of 4, and the column of y that its row 0 makes
    n: u32,
    first: u32,
    // vec4s in a stored row of w, and its scale words (blocks)
    w_stride4: u32,
    scale_stride: u32,
    // vec4s in a row of y
    y_stride4: u32,
    // see shared/finite
    site: u32,
    // where x is normalized: elements that a mean is of, and what is added to it, and to every gain
    count: u32,
    eps: f32,
    offset: f32,
}
