//! Types of stored tensors.

use std::fmt;

macro_rules! dtypes {
    (
        safetensors { $($(#[$doc:meta])* $variant:ident = $name:literal, $elements:literal, $bytes:literal;)* }
        ggml { $($(#[$gdoc:meta])* $gvariant:ident = $gname:literal, $gelements:literal, $gbytes:literal;)* }
    ) => {
        /// A type as a file stores it. The names are those of the safetensors format, version 0.8, and of ggml's blocks, which stand
        /// in GGUF files alone.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(non_camel_case_types, reason = "the formats' own names")]
        pub enum Dtype { $($(#[$doc])* $variant,)* $($(#[$gdoc])* $gvariant,)* }

        impl Dtype {
            /// Those of safetensors files.
            pub const SAFETENSORS: &[Self] = &[$(Self::$variant,)*];
            /// ggml's blocks.
            pub const GGML: &[Self] = &[$(Self::$gvariant,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* $(Self::$gvariant => $gname,)* }
            }

            /// So many elements take so many bytes: what is not split.
            #[must_use]
            pub const fn block(self) -> (u64, u64) {
                match self { $(Self::$variant => ($elements, $bytes),)* $(Self::$gvariant => ($gelements, $gbytes),)* }
            }
        }
    };
}

dtypes! {
    safetensors {
        /// IEEE 754 single precision.
        F32 = "F32", 1, 4;
        /// IEEE 754 half precision.
        F16 = "F16", 1, 2;
        /// The upper half of an `F32`.
        BF16 = "BF16", 1, 2;
        /// IEEE 754 double precision.
        F64 = "F64", 1, 8;
        /// Complex, two `F32`.
        C64 = "C64", 1, 8;
        /// Signed integer.
        I64 = "I64", 1, 8;
        /// Signed integer.
        I32 = "I32", 1, 4;
        /// Signed integer.
        I16 = "I16", 1, 2;
        /// Signed integer.
        I8 = "I8", 1, 1;
        /// Unsigned integer.
        U64 = "U64", 1, 8;
        /// Unsigned integer.
        U32 = "U32", 1, 4;
        /// Unsigned integer.
        U16 = "U16", 1, 2;
        /// Unsigned integer.
        U8 = "U8", 1, 1;
        /// One byte, 0 or 1.
        BOOL = "BOOL", 1, 1;
        /// 8-bit float, 4 exponent bits, no infinities.
        F8_E4M3 = "F8_E4M3", 1, 1;
        /// 8-bit float, 5 exponent bits.
        F8_E5M2 = "F8_E5M2", 1, 1;
        /// 8-bit power of two, the scale of OCP microscaling blocks.
        F8_E8M0 = "F8_E8M0", 1, 1;
        /// 8-bit float, 4 exponent bits, no negative zero.
        F8_E4M3FNUZ = "F8_E4M3FNUZ", 1, 1;
        /// 8-bit float, 5 exponent bits, no negative zero.
        F8_E5M2FNUZ = "F8_E5M2FNUZ", 1, 1;
        /// 6-bit float, 2 exponent bits.
        F6_E2M3 = "F6_E2M3", 4, 3;
        /// 6-bit float, 3 exponent bits.
        F6_E3M2 = "F6_E3M2", 4, 3;
        /// 4-bit float, 2 exponent bits.
        F4 = "F4", 2, 1;
    }
    ggml {
        /// 4 bits, 32 to an f16 scale, around 8.
        Q4_0 = "Q4_0", 32, 18;
        /// 4 bits, 32 to an f16 scale and an f16 minimum.
        Q4_1 = "Q4_1", 32, 20;
        /// 5 bits, 32 to an f16 scale, around 16.
        Q5_0 = "Q5_0", 32, 22;
        /// 5 bits, 32 to an f16 scale and an f16 minimum.
        Q5_1 = "Q5_1", 32, 24;
        /// 8 bits, 32 to an f16 scale.
        Q8_0 = "Q8_0", 32, 34;
        /// 2 bits; 16 to a scale and a minimum of 4 bits, 256 to an f16 factor of each.
        Q2_K = "Q2_K", 256, 84;
        /// 3 bits; 16 to a scale of 6 bits, 256 to an f16 factor.
        Q3_K = "Q3_K", 256, 110;
        /// 4 bits; 32 to a scale and a minimum of 6 bits, 256 to an f16 factor of each.
        Q4_K = "Q4_K", 256, 144;
        /// 5 bits; 32 to a scale and a minimum of 6 bits, 256 to an f16 factor of each.
        Q5_K = "Q5_K", 256, 176;
        /// 6 bits; 16 to a scale of 8 bits, 256 to an f16 factor.
        Q6_K = "Q6_K", 256, 210;
        /// 4 bits that name one of 16 values, 32 to an f16 scale.
        IQ4_NL = "IQ4_NL", 32, 18;
    }
}

impl Dtype {
    /// The type of that name, exactly as a safetensors file writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::SAFETENSORS.iter().copied().find(|dtype| dtype.name() == name)
    }

    /// Bytes of so many elements; `None` where they are no whole blocks, or more than any file holds.
    #[must_use]
    pub const fn bytes_of(self, elements: u64) -> Option<u64> {
        let (of, bytes) = self.block();
        if elements.is_multiple_of(of) { (elements / of).checked_mul(bytes) } else { None }
    }

    /// Elements in so many bytes.
    #[must_use]
    pub const fn elements_in(self, bytes: u64) -> u64 {
        let (elements, of) = self.block();
        (bytes / of).saturating_mul(elements)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
