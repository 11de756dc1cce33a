// The parameters of a matrix product, shared by its kernels.
//   y[t, first + n] (+)= sum_k x[t, k] * w[n, k] (+ bias[first + n])
struct MatmulParams {
    // K of a row of x, in vec4s
    k4: u32,
    // rows of w in this part, a multiple of 4, and the column of y that its row 0 makes
    n: u32,
    first: u32,
    // vec4s in a stored row of w, and its scale words (q4)
    w_stride4: u32,
    scale_stride: u32,
    // vec4s in a row of y
    y_stride4: u32,
}
