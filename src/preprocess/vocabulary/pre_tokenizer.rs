//! How byte-level tokenizers cut text into words before they merge, by the names that llama.cpp gives to the ways of the families
//! (`tokenizer.ggml.pre`). The patterns are those of the families' `tokenizer.json`.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior::{Contiguous, Isolated};

use super::refused;
use crate::error::TokenizerError;
use crate::source::shorten;

/// One of the cuts; each is made in the pieces of those before.
#[derive(Clone, Copy)]
enum Cut {
    /// Around every match of a pattern.
    Around(&'static str),
    /// Around every digit.
    Digits,
    /// Around every run of digits.
    Numbers,
    /// Around every run of punctuation.
    Punctuation,
    /// As GPT-2 does. What follows sees bytes, not characters.
    Words,
    /// None: bytes for characters.
    Bytes,
}

use Cut::{Around, Bytes, Numbers, Words};

/// What the name of a way stands for.
pub(super) struct Rules {
    cuts: &'static [Cut],
    /// Whether characters are composed before (normalization form C).
    pub nfc: bool,
    /// Whether a word that is a token stays whole, whatever merges there are.
    pub ignore_merges: bool,
    /// Whether a text starts with `bos` if the file does not say.
    pub add_bos: bool,
}

/// Words with what stands before them; numbers by three digits (Llama 3, from OpenAI's cl100k).
const BY_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same, digit by digit (Qwen 2).
const BY_1: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same, with numbers whole.
const WHOLE_NUMBERS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As Qwen 2, with marks as part of words (Qwen 3.5).
const WITH_MARKS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words by case, digit by digit (Mistral's Tekken).
const CASED_BY_1: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words by case, numbers by three digits (OpenAI's o200k).
const CASED_BY_3: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words up to a space or a mark of punctuation (BLOOM).
const UP_TO_MARKS: &str = r" ?[^(\s|[.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C}])]+";
/// Letters of the alphabets with case (DeepSeek LLM).
const LETTERS: &str = r"\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+";
const FULLWIDTH_MARKS: &str = r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+";
const IDEOGRAPHS: &str = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
/// Chinese and Japanese (DeepSeek V3).
const CHINESE_KANA: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
const V3_WORDS: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const GPT2: &[Cut] = &[Words];
const LLAMA3: &[Cut] = &[Around(BY_3), Bytes];
const QWEN2: &[Cut] = &[Around(BY_1), Bytes];
const DIGITS: &[Cut] = &[Cut::Digits, Words];
const BLOOM: &[Cut] = &[Around(UP_TO_MARKS), Bytes];
const O200K: &[Cut] = &[Around(CASED_BY_3), Bytes];
const DEEPSEEK_V3: &[Cut] = &[Around(r"\p{N}{1,3}"), Around(CHINESE_KANA), Around(V3_WORDS), Bytes];
const DEFAULT: &[Cut] =
    &[Around(r"[\p{P}\$\+<=>\^~\|]+"), Around(GPT2_WORDS), Around(r"\p{N}+"), Around("[0-9][0-9][0-9]"), Bytes];

/// The rules of that name.
pub(super) fn of(name: Option<&str>) -> Result<Rules, TokenizerError> {
    let name = name.unwrap_or_else(|| {
        tracing::warn!(
            "the model file does not say how its tokenizer cuts text (`tokenizer.ggml.pre`); taking `default`"
        );
        "default"
    });
    let rules = |cuts| Rules { cuts, nfc: false, ignore_merges: false, add_bos: false };
    Ok(match name {
        "default" => rules(DEFAULT),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => Rules { ignore_merges: true, add_bos: true, ..rules(LLAMA3) },
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => rules(LLAMA3),
        "glm4" | "glm5" => Rules { ignore_merges: true, ..rules(LLAMA3) },
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan" => {
            Rules { nfc: true, ..rules(QWEN2) }
        }
        "grok-2" | "solar-open" => rules(QWEN2),
        "qwen35" => Rules { nfc: true, ..rules(&[Around(WITH_MARKS), Bytes]) },
        "minicpm5" => Rules { ignore_merges: true, ..rules(&[Around(r"\p{N}{1,3}"), Around(WHOLE_NUMBERS), Bytes]) },
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de" | "jina-v1-en"
        | "jina-v2-code" | "roberta-bpe" | "a.x-4.0" | "mellum" | "exaone4" | "jais" | "trillion"
        | "granite-docling" => rules(GPT2),
        "mpt" | "olmo" | "modern-bert" => Rules { nfc: true, ..rules(GPT2) },
        "starcoder" | "refact" | "smollm" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => rules(DIGITS),
        "command-r" => Rules { nfc: true, ..rules(DIGITS) },
        "falcon" => rules(&[Cut::Punctuation, Words, Numbers, Around("[0-9][0-9][0-9]")]),
        "bloom" | "poro-chat" | "gpt3-finnish" => rules(BLOOM),
        "viking" => rules(&[Around(UP_TO_MARKS), Cut::Digits, Bytes]),
        "deepseek-llm" => rules(&[
            Around(r"[\r\n]"),
            Around(LETTERS),
            Around(FULLWIDTH_MARKS),
            Around(r"\s+$"),
            Around(IDEOGRAPHS),
            Cut::Digits,
            Bytes,
        ]),
        "deepseek-coder" => rules(&[
            Around(r"[\r\n]"),
            Around(r"\s?\p{L}+"),
            Around(r"\s?\p{P}+"),
            Around(IDEOGRAPHS),
            Cut::Digits,
            Bytes,
        ]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => rules(DEEPSEEK_V3),
        "tekken" => Rules { ignore_merges: true, add_bos: true, ..rules(&[Around(CASED_BY_1), Bytes]) },
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => rules(O200K),
        "tiny_aya" | "cohere2moe" => rules(&[Around(r"\d{1,3}(?=(?:\d{3})*\b)"), Around(CASED_BY_3), Bytes]),
        "superbpe" => rules(&[Around(r"\p{N}+"), Around(r"(?=(\d{3})+(?!\d))"), Bytes]),
        unknown => return Err(TokenizerError::UnknownPreTokenizer { name: shorten(unknown) }),
    })
}

impl Rules {
    pub(super) fn pre_tokenizer(&self) -> Result<Sequence, TokenizerError> {
        let cut = |cut: &Cut| {
            Ok(match *cut {
                Around(pattern) => {
                    let split = Split::new(SplitPattern::Regex(pattern.to_owned()), Isolated, false);
                    PreTokenizerWrapper::Split(split.map_err(refused("pre"))?)
                }
                Cut::Digits => Digits::new(true).into(),
                Numbers => Digits::new(false).into(),
                Cut::Punctuation => Punctuation::new(Contiguous).into(),
                Words => ByteLevel::new(false, true, true).into(),
                Bytes => ByteLevel::new(false, true, false).into(),
            })
        };
        self.cuts.iter().map(cut).collect::<Result<_, _>>().map(Sequence::new)
    }
}
