//! Element types of stored tensors.

use std::fmt;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $bits:literal;)*) => {
        /// An element type as a file stores it. The names are those of the safetensors format, version 0.8.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(non_camel_case_types, reason = "the format's own names")]
        pub enum Dtype { $($(#[$doc])* $variant,)* }

        impl Dtype {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in the file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bits of one element.
            #[must_use]
            pub const fn size_bits(self) -> u64 {
                match self { $(Self::$variant => $bits,)* }
            }
        }
    };
}

dtypes! {
    /// IEEE 754 single precision.
    F32 = "F32", 32;
    /// IEEE 754 half precision.
    F16 = "F16", 16;
    /// The upper half of an `F32`.
    BF16 = "BF16", 16;
    /// IEEE 754 double precision.
    F64 = "F64", 64;
    /// Complex, two `F32`.
    C64 = "C64", 64;
    /// Signed integer.
    I64 = "I64", 64;
    /// Signed integer.
    I32 = "I32", 32;
    /// Signed integer.
    I16 = "I16", 16;
    /// Signed integer.
    I8 = "I8", 8;
    /// Unsigned integer.
    U64 = "U64", 64;
    /// Unsigned integer.
    U32 = "U32", 32;
    /// Unsigned integer.
    U16 = "U16", 16;
    /// Unsigned integer.
    U8 = "U8", 8;
    /// One byte, 0 or 1.
    BOOL = "BOOL", 8;
    /// 8-bit float, 4 exponent bits, no infinities.
    F8_E4M3 = "F8_E4M3", 8;
    /// 8-bit float, 5 exponent bits.
    F8_E5M2 = "F8_E5M2", 8;
    /// 8-bit power of two, the scale of OCP microscaling blocks.
    F8_E8M0 = "F8_E8M0", 8;
    /// 8-bit float, 4 exponent bits, no negative zero.
    F8_E4M3FNUZ = "F8_E4M3FNUZ", 8;
    /// 8-bit float, 5 exponent bits, no negative zero.
    F8_E5M2FNUZ = "F8_E5M2FNUZ", 8;
    /// 6-bit float, 2 exponent bits.
    F6_E2M3 = "F6_E2M3", 6;
    /// 6-bit float, 3 exponent bits.
    F6_E3M2 = "F6_E3M2", 6;
    /// 4-bit float, 2 exponent bits.
    F4 = "F4", 4;
}

impl Dtype {
    /// The type of that name, exactly as a file writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
