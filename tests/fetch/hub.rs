//! Models of a Hub, read by a browser. Which refusal is which is tested natively (`tests/hub/refusals.rs`); here it is that it can be
//! told where a browser hides the Hub's own word, and that no folder is needed.

use super::{Fetch, data, nothing_kept, sha256, stream};
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::SourceError;
use webweft::source::browser::{Spec, open};
use webweft::source::{Source, Token};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Hub with `org/model` (open), `org/gated` and `org/bin`; `words`: whether the page may see why it is refused. Without the token
/// `wrong`, which no Hub takes.
fn hub(words: bool, digest: &str) -> Fetch {
    Fetch::answering(&format!(
        "const refuse = (status, code) => new Response(null, {{ status, headers: {words} ? {{ 'X-Error-Code': code }} : {{}} }});
        const path = new URL(url).pathname;
        if (new Headers(init.headers).get('Authorization') === 'Bearer wrong') return refuse(401, '');
        const repo = ['org/model', 'org/gated', 'org/bin'].find(name => path.includes(name + '/') || path.endsWith(name));
        if (!repo) return refuse(401, 'RepoNotFound');
        if (path.startsWith('/api/')) {{
            if (path.endsWith('/' + repo)) return new Response('{{}}');
            if (!path.endsWith('/revision/main') && !path.endsWith('/revision/refs%2Fpr%2F1')) return refuse(404, 'RevisionNotFound');
            const weights = repo === 'org/bin' ? {{ rfilename: 'pytorch_model.bin' }}
                : {{ rfilename: 'model.safetensors', size: data.length, blobId: 'x', lfs: {{ sha256: '{digest}', size: data.length }} }};
            const siblings = [{{ rfilename: 'config.json', size: 2, blobId: 'a' }}, weights];
            return Response.json({{ sha: '{COMMIT}', siblings, gated: repo === 'org/gated' ? 'auto' : false }});
        }}
        if (repo === 'org/gated') return refuse(401, 'GatedRepo');
        if (path.endsWith('config.json')) return new Response('{{}}');
        return part(head);"
    ))
}

async fn get(repo: &str, revision: Option<&str>, token: Option<&str>) -> Result<Source, SourceError> {
    let spec = Spec::Hub {
        repo: repo.to_owned(),
        revision: revision.map(str::to_owned),
        endpoint: Some("https://hub/".to_owned()),
        token: token.and_then(Token::new),
    };
    open(spec, &nothing_kept(), |notice| panic!("{notice:?}")).await
}

#[wasm_bindgen_test]
async fn a_repository_is_read_and_checked() {
    let fetch = hub(true, &sha256(&data()).await);
    let source = get("org/model", Some("refs/pr/1"), Some("secret")).await.unwrap();
    assert_eq!(*source.read_all("config.json", 100).await.unwrap().unwrap(), *b"{}");
    // the listing says so: nobody is asked
    assert_eq!(source.size("tokenizer.json").await.unwrap(), None);
    assert!(stream(&source, "model.safetensors", 1 << 20).await.unwrap() == data());
    source.stream("model.safetensors", 0..data().len() as u64).finish().await.unwrap();
    assert_eq!(source.verified(), data().len() as u64);
    let asked = fetch.asked();
    assert_eq!(asked[0], "GET https://hub/api/models/org/model/revision/refs%2Fpr%2F1?blobs=true null Bearer secret");
    assert!(asked[1..].iter().all(|line| line.contains(&format!("/org/model/resolve/{COMMIT}/"))), "{asked:?}");
    assert!(asked.iter().all(|line| !line.contains("tokenizer.json")));
    drop(fetch);

    let _fetch = hub(true, &"0".repeat(64));
    let source = get("org/model", None, None).await.unwrap();
    let error = source.stream("model.safetensors", 5..10).finish().await.unwrap_err();
    assert!(matches!(error, SourceError::Corrupt { .. }), "{error}");
}

#[wasm_bindgen_test]
async fn refusals_are_told_apart_by_a_browser() {
    for words in [true, false] {
        let fetch = hub(words, "");
        let error = async |repo, revision, token| get(repo, revision, token).await.unwrap_err();
        let gone = error("org/other", None, None).await;
        assert!(matches!(gone, SourceError::RepoNotFound { .. }), "{gone}");
        let revision = error("org/model", Some("v9"), None).await;
        assert!(matches!(revision, SourceError::RevisionNotFound { .. }), "{revision}");
        let gated = error("org/gated", None, None).await;
        assert!(matches!(gated, SourceError::Gated { .. }), "{gated}");
        let weights = error("org/bin", None, None).await;
        assert!(matches!(weights, SourceError::NoSafetensors { found: Some(_), .. }), "{weights}");
        assert!(matches!(error("org/a/b", None, None).await, SourceError::BadRepo { .. }));
        assert!(matches!(error("org/model", Some("../x"), None).await, SourceError::BadRevision { .. }));
        if !words {
            let token = error("org/model", None, Some("wrong")).await;
            assert!(matches!(token, SourceError::TokenRefused { .. }), "{token}");
        }
        drop(fetch);
    }
}
