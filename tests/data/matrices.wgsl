// What the cooperative matrices of wgpu do, for adapters that have none: every invocation of what is taken for a subgroup has all of a matrix.
// tests/ops/matmul_matrices.rs puts this in their place.

var<private> acc: array<array<f32, SIDE * SIDE>, EACH * MATRICES>;
var<private> of_x: array<array<f16, SIDE * SIDE>, ACROSS>;
var<private> of_w: array<f16, SIDE * SIDE>;

fn load_x(r: u32, at: u32, stride: u32) {
    for (var i = 0u; i < SIDE * SIDE; i++) {
        of_x[r][i] = x_tile[at + i / SIDE * stride + i % SIDE];
    }
}

// column by column: w_tile has rows of w, which are columns here
fn load_w(at: u32, stride: u32) {
    for (var i = 0u; i < SIDE * SIDE; i++) {
        of_w[i] = w_tile[at + i % SIDE * stride + i / SIDE];
    }
}

fn load_y(m: u32, at: u32, stride: u32) {
    for (var i = 0u; i < SIDE * SIDE; i++) {
        acc[m][i] = strips[at + i / SIDE * stride + i % SIDE];
    }
}

fn store_y(m: u32, at: u32, stride: u32) {
    for (var i = 0u; i < SIDE * SIDE; i++) {
        strips[at + i / SIDE * stride + i % SIDE] = acc[m][i];
    }
}

fn multiply_add(r: u32, m: u32) {
    for (var i = 0u; i < SIDE * SIDE; i++) {
        var sum = acc[m][i];
        for (var k = 0u; k < SIDE; k++) {
            sum += f32(of_x[r][i / SIDE * SIDE + k]) * f32(of_w[k * SIDE + i % SIDE]);
        }
        acc[m][i] = sum;
    }
}
