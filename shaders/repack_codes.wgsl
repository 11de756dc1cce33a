// Codes of a quantized tensor, as another tool packed them, to rows of a weight as kernels read them (`src/quant/layer.rs`).
//
// `bytes` holds whole lines of the tensor, the first being `first`: rows (packing 0), words of neighbouring codes of a row for every row
// (1, GPTQ), columns, eight rows to a word (2, AWQ), or bytes of four rows that are a quarter of all apart (3, BitNet). An invocation
// makes one word of the weight; where only some of its codes are in `bytes`, the others stay.
// Source row r goes to weight row base + (r / G) * G' + r % G; element i of a weight's row is column columns[i] where there is an
// ORDER, and column i elsewhere. What is no column is 0.
import package::shared::group::flat_group;
import package::shared::status::Status;

override BITS: u32 = 4u;
override PACKING: u32 = 0u;
override ORDER: bool = false;
// E4M3: NaNs are reported
override FLOATS: bool = false;

struct Params {
    // lines in `bytes`, and the number of the first
    lines: u32,
    first: u32,
    // of the whole tensor
    rows: u32,
    columns: u32,
    // packings 0 and 3: codes, or bytes, from one line to the next
    row_stride: u32,
    // code i of a word stands at place i ^ flip, its bits ^ invert
    flip: u32,
    invert: u32,
    // rows and words of rows that are visited here: `visited` of them from source row `first_row` on (packing 3: four for each line),
    // words from `first_word` on
    visited: u32,
    first_row: u32,
    words: u32,
    first_word: u32,
    // elements of a weight's row, and its words
    len: u32,
    stride: u32,
    // G, G' and the weight row of the first group
    row_group: u32,
    row_padded: u32,
    base: u32,
    // the part of the weight that is bound: rows low .. high
    low: u32,
    high: u32,
    // the tensor's number, for `status`
    tensor: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bytes: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: Status;
@group(0) @binding(3) var<storage, read_write> weight: array<u32>;
@group(0) @binding(4) var<storage, read> columns: array<u32>;

// Whether line `line` is in `bytes`.
fn is_here(line: u32) -> bool {
    return line >= params.first && line - params.first < params.lines;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let per = 32u / BITS;
    let index = flat_group(group, groups) * 64u + lane;
    if index / params.words >= params.visited {
        return;
    }
    // neighbours read neighbouring words
    var r = index / params.words;
    var j = index % params.words;
    if PACKING == 1u || PACKING == 2u {
        r = index % params.visited;
        j = index / params.visited;
    }
    var source = params.first_row + r;
    let quarter = (params.rows + 3u) / 4u;
    if PACKING == 3u {
        source = (r & 3u) * quarter + params.first + r / 4u;
        if source >= params.rows {
            return;
        }
    }
    let word = params.first_word + j;
    let row = params.base + (source / params.row_group) * params.row_padded + source % params.row_group;
    if row < params.low || row >= params.high {
        return;
    }
    let at = (row - params.low) * params.stride + word;
    // codes around 128, in every place of a word
    let inverted = params.invert * 0x01010101u;
    if !ORDER && PACKING == 1u && (word + 1u) * per <= params.columns {
        weight[at] = bytes[(word - params.first) * params.rows + source] ^ inverted;
        return;
    }
    if !ORDER && PACKING == 0u && params.row_stride % per == 0u && (word + 1u) * per <= params.columns && !FLOATS {
        var v = bytes[(source - params.first) * (params.row_stride / per) + word];
        if params.flip == 1u {
            v = ((v & 0x0f0f0f0fu) << 4u) | ((v >> 4u) & 0x0f0f0f0fu);
        }
        weight[at] = v ^ inverted;
        return;
    }
    if !ORDER && PACKING == 3u && params.row_stride % 4u == 0u && (word + 1u) * per <= params.columns {
        let four = (source % quarter - params.first) * (params.row_stride / 4u) + word * 4u;
        let shift = vec4<u32>(source / quarter * 2u);
        // a code from each byte, then codes side by side
        let apart = (vec4<u32>(bytes[four], bytes[four + 1u], bytes[four + 2u], bytes[four + 3u]) >> shift) & vec4<u32>(0x03030303u);
        let pairs = (apart | (apart >> vec4<u32>(6u))) & vec4<u32>(0x000f000fu);
        let v = ((pairs | (pairs >> vec4<u32>(12u))) & vec4<u32>(255u)) << vec4<u32>(0u, 8u, 16u, 24u);
        weight[at] = v.x | v.y | v.z | v.w;
        return;
    }
    var mask = 0u;
    var codes = 0u;
    let one = (1u << BITS) - 1u;
    for (var i = 0u; i < per; i++) {
        let element = word * per + i;
        if element >= params.len {
            break;
        }
        var column = element;
        if ORDER {
            column = columns[element];
        }
        if column >= params.columns {
            continue;
        }
        var line = source;
        var place = 0u; // of the code, from the beginning of `bytes` on
        if PACKING == 0u {
            place = (source - params.first) * params.row_stride + column;
        } else if PACKING == 1u {
            line = column / per;
            place = ((line - params.first) * params.rows + source) * per + column % per;
        } else if PACKING == 3u {
            // four codes to a byte
            line = source % quarter;
            place = ((line - params.first) * params.row_stride + column) * 4u + source / quarter;
        } else {
            line = column;
            let within = source & 7u; // row 0 2 4 6 1 3 5 7 of eight
            place = (line - params.first) * ((params.rows + 7u) / 8u * 8u) + (source - within) + (within >> 1u) + (within & 1u) * 4u;
        }
        if is_here(line) {
            place ^= params.flip;
            let code = (bytes[place / per] >> (place % per * BITS)) & one;
            if FLOATS && (code & 0x7fu) == 0x7fu {
                atomicMin(&status.not_finite, params.tensor);
            }
            codes |= (code ^ params.invert) << (i * BITS);
            mask |= one << (i * BITS);
        }
    }
    weight[at] = (weight[at] & ~mask) | codes;
}
