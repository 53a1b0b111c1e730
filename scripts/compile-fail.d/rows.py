"""The ways to get the order wrong, each with the compiler's refusal.

`[-forbidden-]{+allowed+}` is the one change of a row; `//~ CODE word` marks the
line that is refused with CODE, in a message that has the word. SITE is the crate
and the module whose child the injected one becomes: it sees whatever SITE sees. So a
row at `proxy::ingress` stands for every line that could be written in ingress.rs.
"""

from dataclasses import dataclass


@dataclass
class Row:
    name: str
    site: str
    about: str
    text: str


ROWS = [
    # A connection that is not proved takes no request.
    Row("forward_unverified", "upstream::path", "forward a request on an unverified connection", """
use super::{ClientRequest, unverified::Unverified, verified::Verified};
use crate::{answer_ids::AnswerIds, verdicts::VerdictUse};
async fn wrong(connection: [-Unverified-]{+Verified+}, request: ClientRequest, on: VerdictUse, answer_ids: &AnswerIds) {
    let _ = connection.forward(request, on, answer_ids).await; //~ E0599 forward
}
"""),
    Row("forward_link", "upstream::path", "forward a request on a bare link", """
use super::{ClientRequest, request::Link, verified::Verified};
use crate::{answer_ids::AnswerIds, verdicts::VerdictUse};
async fn wrong(connection: [-Link-]{+Verified+}, request: ClientRequest, on: VerdictUse, answer_ids: &AnswerIds) {
    let _ = connection.forward(request, on, answer_ids).await; //~ E0599 forward
}
"""),
    Row("forward_examined", "proxy::ingress", "forward a request on an appraisal", """
use upstream::{ClientRequest, Examined, Upstream, Verified, answer_ids::AnswerIds};
async fn wrong(to: &Upstream, on: [-Examined-]{+Verified+}, request: ClientRequest, asked: attest::LeastLevels, answer_ids: &AnswerIds) {
    let _ = to.forward(on, request, asked, answer_ids).await; //~ E0308 mismatched
}
"""),
    Row("send_on_link", "upstream::path", "send an open request on a link without a proof", """
use super::request::{Link, ProvedLink, RequestBody};
async fn wrong(link: &mut [-Link-]{+ProvedLink+}, request: http::Request<RequestBody>) {
    let _ = link.send(request).await; //~ E0624 send
}
"""),
    Row("sender_of_link", "upstream::path", "reach the sender inside a link", """
use super::request::Link;
fn wrong(link: &mut Link) {
    let _ = link.[-sender-]{+spki()+}; //~ E0616 sender
}
"""),
    Row("link_of_unverified", "upstream::path", "take the link out of an unverified connection", """
use super::unverified::Unverified;
fn wrong(unverified: Unverified) {
    let _ = unverified.[-link-]{+spki()+}; //~ E0616 link
}
"""),
    Row("link_of_proved", "upstream::path::verified", "take the link out of a proved one", """
use super::super::request::ProvedLink;
fn wrong(proved: ProvedLink) {
    let _ = proved.[-link-]{+proof()+}; //~ E0616 link
}
"""),
    Row("link_literal", "upstream::path::dial", "make a link out of another's sender", """
use super::super::request::Link;
fn wrong(link: Link) -> Link {
    [-Link { spki: link.spki(), ..link } //~ E0451 private
    -]{+link+}
}
"""),

    # Only a proof makes a proved link, and it is about this very connection.
    Row("proved_link_literal", "upstream::path", "forge a proved link by literal", """
use attest::Attested;
use super::request::{Link, ProvedLink};
fn wrong(link: Link, proof: Attested) -> Result<ProvedLink, Link> {
    [-Ok(ProvedLink { link, proof }) //~ E0451 private
    -]{+link.prove(proof)+}
}
"""),
    Row("prove_without_proof", "upstream::path", "prove a link without a proof", """
use attest::Attested;
use super::request::Link;
fn wrong(link: Link, proof: Attested) {
    let _ = link.prove([--]{+proof+}); //~ E0061 argument
}
"""),
    Row("prove_by_record", "upstream::path", "prove a link by a record that nobody recalled", """
use attest::{Attested, Record};
use super::request::Link;
fn wrong(link: Link, proof: [-Record-]{+Attested+}) {
    let _ = link.prove(proof); //~ E0308 mismatched
}
"""),
    Row("prove_by_reference", "upstream::path", "keep the proof after applying it", """
use attest::Attested;
use super::request::Link;
fn wrong(link: Link, proof: Attested) {
    let _ = link.prove([-&-]{++}proof); //~ E0308 mismatched
}
"""),
    Row("prove_twice", "upstream::path", "apply one proof to two connections", """
use attest::Attested;
use super::request::Link;
fn wrong(first: Link, second: Link, proof: Attested, other: Attested) {
    let _ = first.prove(proof);
    let _ = second.prove([-proof-]{+other+}); //~ E0382 proof
}
"""),
    Row("link_after_prove", "upstream::path", "probe a connection that is consumed by its proof", """
use attest::Attested;
use super::{link::Probe, request::Link};
async fn wrong(mut link: Link, mut other: Link, proof: Attested, probe: Probe) {
    let _ = link.prove(proof);
    let _ = [-link-]{+other+}.probe(probe).await; //~ E0382 link
}
"""),
    Row("unverified_after_attest", "upstream::path", "use a connection that its check consumed", """
use super::{Judge, unverified::Unverified};
use crate::verdicts::KeyLock;
async fn wrong(unverified: Unverified, other: Unverified, judge: &Judge, key_lock: &KeyLock) {
    let _ = unverified.attest(judge, key_lock).await;
    let _ = [-unverified-]{+other+}.attest(judge, key_lock).await; //~ E0382 unverified
}
"""),
    Row("unverified_after_recall", "upstream::path", "use a connection that recalling consumed", """
use attest::{PolicyDigest, Record, UnixTime};
use super::unverified::Unverified;
fn wrong(unverified: Unverified, other: Unverified, record: &Record, policy: PolicyDigest, now: UnixTime) {
    let _ = unverified.recall(record, policy, now);
    let _ = [-unverified-]{+other+}.spki(); //~ E0382 unverified
}
"""),
    Row("verified_literal", "upstream::path", "forge a verified connection by literal", """
use super::verified::Verified;
fn wrong(verified: Verified) -> Verified {
    [-Verified { ..verified } //~ E0451 private
    -]{+verified+}
}
"""),
    Row("verified_of_link", "upstream::path", "make a verified connection of a bare link", """
use std::sync::Arc;
use super::{UpstreamSettings, pool::PoolPermit, request::{Link, ProvedLink}, verified::Verified};
use sources::backend::Backend;
fn wrong(link: [-Link-]{+ProvedLink+}, backend: Backend, permit: PoolPermit, settings: Arc<UpstreamSettings>) -> Verified {
    Verified::new(link, backend, permit, settings) //~ E0308 mismatched
}
"""),
    Row("verified_elsewhere", "proxy::ingress", "make a verified connection outside upstream", """
use upstream::Verified;
fn wrong(verified: Verified) -> Verified {
    [-Verified::new(todo!(), todo!(), todo!(), todo!()) //~ E0624 private
    -]{+verified+}
}
"""),
    Row("link_elsewhere", "proxy::ingress", "name the link outside upstream", """
use upstream::[-ProvedLink-]{+Verified+}; //~ E0432 ProvedLink
"""),
    Row("proved_link_twice", "upstream::path", "copy a proved link", """
use super::request::ProvedLink;
fn wrong(proved: ProvedLink) -> ProvedLink {
    proved[-.clone()-]{++} //~ E0599 clone
}
"""),
    Row("verified_twice", "upstream::path", "copy a verified connection", """
use super::verified::Verified;
fn wrong(verified: Verified) -> Verified {
    verified[-.clone()-]{++} //~ E0599 clone
}
"""),
    Row("link_twice", "upstream::path", "copy a link, to prove one and use the other", """
use super::request::Link;
fn wrong(link: Link) -> Link {
    link[-.clone()-]{++} //~ E0599 clone
}
"""),

    # A request is opened by who holds a proved link, in upstream.
    Row("open_in_ingress", "proxy::ingress", "open a request in ingress", """
use upstream::ClientRequest;
fn wrong(request: ClientRequest) {
    let _ = request.[-open(todo!())-]{+view()+}; //~ E0624 open
}
"""),
    Row("open_in_route", "proxy::route", "open a request in route", """
use upstream::ClientRequest;
fn wrong(request: ClientRequest) {
    let _ = request.[-open(todo!())-]{+view()+}; //~ E0624 open
}
"""),
    Row("open_in_api", "proxy::api", "open a request in api", """
use upstream::ClientRequest;
fn wrong(request: ClientRequest) {
    let _ = request.[-open(todo!())-]{+view()+}; //~ E0624 open
}
"""),
    Row("open_in_respond", "proxy::respond", "open a request that is answered with an error", """
use upstream::ClientRequest;
fn wrong(request: ClientRequest) {
    let _ = request.[-open(todo!())-]{+view()+}; //~ E0624 open
}
"""),
    Row("open_in_metrics", "upstream::metrics", "open a request where it is counted", """
use crate::ClientRequest;
fn wrong(request: ClientRequest) {
    let _ = request.[-open(todo!())-]{+view()+}; //~ E0624 open
}
"""),
    Row("open_in_guard", "upstream::guard", "open a request where it is admitted", """
use crate::ClientRequest;
fn wrong(request: ClientRequest) {
    let _ = request.[-open(todo!())-]{+view()+}; //~ E0624 open
}
"""),
    Row("open_in_verdicts", "upstream::verdicts", "open a request where verdicts are kept", """
use crate::ClientRequest;
fn wrong(request: ClientRequest) {
    let _ = request.[-open(todo!())-]{+view()+}; //~ E0624 open
}
"""),
    Row("body_in_metrics", "upstream::metrics", "name a body where it is counted", """
use crate::[-path::request::RequestBody-]{+ClientRequest+}; //~ E0603 request
"""),
    Row("open_without_link", "upstream::path::unverified", "open a request without any link", """
use super::super::request::{ClientRequest, ProvedLink};
fn wrong(request: ClientRequest, proved: &ProvedLink) {
    let _ = request.open([--]{+proved+}); //~ E0061 argument
}
"""),
    Row("open_by_link", "upstream::path::unverified", "open a request by a link that is not proved", """
use super::super::request::{ClientRequest, Link, ProvedLink};
fn wrong(request: ClientRequest, link: &[-Link-]{+ProvedLink+}) {
    let _ = request.open(link); //~ E0308 mismatched
}
"""),
    Row("open_by_proof", "upstream::path::verified", "open a request by a proof without its connection", """
use super::super::request::{ClientRequest, ProvedLink};
fn wrong(request: ClientRequest, proof: &[-attest::Attested-]{+ProvedLink+}) {
    let _ = request.open(proof); //~ E0308 mismatched
}
"""),
    Row("open_twice", "upstream::path::verified", "open one request for two connections", """
use super::super::request::{ClientRequest, ProvedLink};
fn wrong(request: ClientRequest, other: ClientRequest, one: &ProvedLink, two: &ProvedLink) {
    let _ = request.open(one);
    let _ = [-request-]{+other+}.open(two); //~ E0382 request
}
"""),
    Row("forward_twice", "proxy::ingress", "send one request on two connections", """
use upstream::{ClientRequest, Verified};
use upstream::Upstream;
use upstream::answer_ids::AnswerIds;
async fn wrong(to: &Upstream, first: Verified, second: Verified, request: ClientRequest, other: ClientRequest, asked: attest::LeastLevels, answer_ids: &AnswerIds) {
    let _ = to.forward(first, request, asked, answer_ids).await;
    let _ = to.forward(second, [-request-]{+other+}, asked, answer_ids).await; //~ E0382 request
}
"""),

    # A sealed request has no other way out.
    Row("head_in_upstream", "upstream::path", "read a sealed request's head beside request.rs", """
use super::ClientRequest;
fn wrong(request: &ClientRequest) {
    let _ = &request.[-head-]{+view()+}; //~ E0616 head
}
"""),
    Row("body_in_upstream", "upstream::path::verified", "read a sealed request's body beside request.rs", """
use super::super::request::ClientRequest;
fn wrong(request: &ClientRequest) {
    let _ = &request.[-body-]{+view()+}; //~ E0616 body
}
"""),
    Row("body_in_ingress", "proxy::ingress", "read a sealed request's body in ingress", """
use upstream::ClientRequest;
fn wrong(request: &ClientRequest) {
    let _ = &request.[-body-]{+view()+}; //~ E0616 body
}
"""),
    Row("take_apart", "proxy::ingress", "take a sealed request apart by pattern", """
use upstream::ClientRequest;
fn wrong(request: ClientRequest) {
    let ClientRequest { [-head, -]{++}.. } = request; //~ E0451 private
}
"""),
    Row("seal_by_literal", "upstream::path", "exchange a sealed request's body", """
use super::ClientRequest;
fn wrong(request: ClientRequest) -> ClientRequest {
    [-ClientRequest { ..request } //~ E0451 private
    -]{+request+}
}
"""),
    Row("headers", "proxy::ingress", "read a sealed request's headers", """
use upstream::ClientRequest;
fn wrong(request: &ClientRequest) {
    let _ = request.[-headers-]{+view+}(); //~ E0599 headers
}
"""),
    Row("into_request", "proxy::ingress", "convert a sealed request into a plain one", """
use upstream::ClientRequest;
fn wrong(request: ClientRequest) -> [-http::Request<hyper::body::Incoming>-]{+ClientRequest+} {
    request.into() //~ E0277 ClientRequest
}
"""),
    Row("view_headers", "proxy::route", "read the headers out of a view", """
use upstream::View;
fn wrong(view: &View<'_>) {
    let _ = view.[-headers-]{+method+}; //~ E0609 headers
}
"""),
    Row("view_body", "proxy::route", "read the body out of a view", """
use upstream::View;
fn wrong(view: &View<'_>) {
    let _ = view.[-body-]{+method+}; //~ E0609 body
}
"""),
    Row("view_query", "proxy::route", "read the query out of a view", """
use upstream::View;
fn wrong(view: &View<'_>) {
    let _ = view.[-uri-]{+path+}; //~ E0609 uri
}
"""),
    Row("clone_request", "proxy::ingress", "keep a copy of a sealed request", """
use upstream::ClientRequest;
fn wrong(request: &ClientRequest) -> [-ClientRequest-]{+&ClientRequest+} {
    request.clone() //~ E0308 mismatched
}
"""),
    Row("display_request", "proxy::ingress", "print a sealed request", """
use upstream::ClientRequest;
fn wrong(request: &ClientRequest) -> String {
    format!("{request[--]{+:?+}}") //~ E0277 Display
}
"""),
    Row("debug_body", "upstream::path", "print a request's body", """
use super::{ClientRequest, request::RequestBody};
fn wrong(body: &[-RequestBody-]{+ClientRequest+}) -> String {
    format!("{body:?}") //~ E0277 Debug
}
"""),
    Row("debug_open_request", "upstream::path", "print an opened request", """
use super::{ClientRequest, request::RequestBody};
fn wrong(request: &[-http::Request<RequestBody>-]{+ClientRequest+}) -> String {
    format!("{request:?}") //~ E0277 Debug
}
"""),
    Row("debug_view", "proxy::route", "print a view, which has the model and the path", """
use upstream::View;
fn wrong(view: &View<'_>) -> String {
    format!("{:?}", view[--]{+.method+}) //~ E0277 Debug
}
"""),
    Row("serialise_request", "proxy::api", "serialise a sealed request", """
use upstream::ClientRequest;
fn wrong(request: &ClientRequest) {
    let _ = serde_json::to_string(&request[--]{+.view().path+}); //~ E0277 Serialize
}
"""),
    Row("trace_request", "proxy::ingress", "log a sealed request's content", """
use upstream::ClientRequest;
fn wrong(request: &ClientRequest) {
    tracing::info!([-%-]{+?+}request); //~ E0277 Display
}
"""),
    Row("reseal_elsewhere", "upstream::path", "make a seal for another request", """
use super::request::Resealer;
fn wrong(resealer: Resealer) -> Resealer {
    [-Resealer { ..resealer } //~ E0451 private
    -]{+resealer+}
}
"""),

    # What is written before the proof is made of public values.
    Row("probe_literal", "upstream::path::unverified", "make a probe of another head", """
use super::super::link::Probe;
use sources::backend::Backend;
fn wrong(head: http::Request<()>, backend: &Backend, nonce: attest::Nonce, algo: attest::SigningAlgo) {
    let _ = [-Probe { head }-]{+Probe::new(backend, nonce, algo)+}; //~ E0451 private
}
"""),
    Row("probe_of_request", "upstream::path::unverified", "send a client's request as the probe", """
use super::super::link::Probe;
use super::super::request::{ClientRequest, Link};
async fn wrong(link: &mut Link, request: [-ClientRequest-]{+Probe+}) {
    let _ = link.probe(request).await; //~ E0308 mismatched
}
"""),
    Row("probe_of_open_request", "upstream::path::unverified", "send an open request as the probe", """
use super::super::link::Probe;
use super::super::request::{Link, RequestBody};
async fn wrong(link: &mut Link, request: [-http::Request<RequestBody>-]{+Probe+}) {
    let _ = link.probe(request).await; //~ E0308 mismatched
}
"""),
    Row("probe_header", "upstream::path::unverified", "add a client's header to a probe", """
use super::super::link::Probe;
fn wrong(probe: &mut Probe, value: http::HeaderValue) {
    [-probe.head.headers_mut().insert("authorization", value); //~ E0616 head
    -]{+drop((probe, value));+}
}
"""),
    Row("probe_target", "upstream::path::unverified", "make a probe whose target a client chose", """
use super::super::link::Probe;
use super::super::request::View;
use sources::backend::Backend;
fn wrong(backend: &Backend, view: &View<'_>, nonce: attest::Nonce, algo: attest::SigningAlgo) {
    let _ = Probe::new(backend, [-view.path-]{+nonce+}, algo); //~ E0308 mismatched
}
"""),
    Row("probe_host", "upstream::path::unverified", "make a probe for a host that is no backend", """
use super::super::link::Probe;
use sources::backend::Backend;
fn wrong(host: &[-str-]{+Backend+}, nonce: attest::Nonce, algo: attest::SigningAlgo) {
    let _ = Probe::new(host, nonce, algo); //~ E0308 mismatched
}
"""),
    Row("backend_literal", "proxy::route", "make a backend without the allow list", """
use attest::{Domain, Expected};
use sources::backend::{AllowList, Backend};
fn wrong(allow: &AllowList, domain: Domain, models: std::sync::Arc<Expected<Vec<String>>>) -> Option<Backend> {
    [-Some(Backend { domain, models }) //~ E0451 private
    -]{+allow.backend(domain.as_str(), Expected::NotChecked("a row")).ok()+}
}
"""),
    Row("backend_parsed", "proxy::route", "make a backend out of text", """
use attest::Expected;
use sources::backend::{AllowList, Backend};
fn wrong(allow: &AllowList, name: &str) -> Option<Backend> {
    [-name.parse::<Backend>().ok() //~ E0277 FromStr
    -]{+allow.backend(name, Expected::NotChecked("a row")).ok()+}
}
"""),
    Row("backend_edited", "proxy::route", "change the domain of a backend", """
use attest::Domain;
use sources::backend::Backend;
fn wrong(backend: &mut Backend, domain: Domain) {
    let _ = [-backend.domain = domain-]{+backend.domain() == &domain+}; //~ E0616 domain
}
"""),
    Row("dial_a_name", "upstream::path", "dial a name that is no backend", """
use super::dial::Dialer;
use sources::backend::Backend;
async fn wrong(dialer: &Dialer, name: &[-str-]{+Backend+}) {
    let _ = dialer.dial(name).await; //~ E0308 mismatched
}
"""),
    Row("dial_verified", "upstream::path", "take what was dialled for verified", """
use super::{DialError, dial::Dialer, request::{Link, ProvedLink}};
use sources::backend::Backend;
async fn wrong(dialer: &Dialer, backend: &Backend) -> Result<[-ProvedLink-]{+Link+}, DialError> {
    dialer.dial(backend).await //~ E0308 mismatched
}
"""),

    Row("pool_proved", "upstream::path", "take what was kept for proved", """
use super::{pool::PoolPermit, request::{Link, ProvedLink}};
fn wrong(permit: &PoolPermit) -> Option<[-ProvedLink-]{+Link+}> {
    permit.take(|_| true) //~ E0308 mismatched
}
"""),
    Row("pool_keeps_proof", "upstream::path", "keep a connection with its proof", """
use super::{pool::PoolPermit, request::ProvedLink};
fn wrong(permit: PoolPermit, link: ProvedLink) {
    permit.release(link[--]{+.forget_proof()+}); //~ E0308 mismatched
}
"""),

    # The proof and what is remembered of it.
    Row("attested_literal", "upstream::path", "forge a proof by literal", """
use attest::Attested;
fn wrong(proof: Attested) -> Attested {
    [-Attested { ..proof } //~ E0451 claims
    -]{+proof+}
}
"""),
    Row("attested_edited", "upstream::path", "point a proof at another key", """
use attest::{Attested, Spki};
fn wrong(mut proof: Attested, spki: Spki) {
    let _ = [-proof.claims.spki = spki-]{+proof.spki() == spki+}; //~ E0616 claims
}
"""),
    Row("attested_clone", "upstream::path", "copy a proof", """
use attest::Attested;
fn wrong(proof: Attested) -> Attested {
    proof[-.clone()-]{++} //~ E0599 clone
}
"""),
    Row("attested_default", "upstream::path", "make a proof of nothing", """
use attest::Attested;
fn wrong(proof: Attested) -> Attested {
    [-Attested::default() //~ E0599 default
    -]{+proof+}
}
"""),
    Row("attested_deserialise", "upstream::path", "read a proof out of text", """
use attest::{Attested, UnixTime};
fn wrong(text: &str) {
    let _ = serde_json::from_str::<[-Attested-]{+UnixTime+}>(text); //~ E0277 Deserialize
}
"""),
    Row("attested_zeroed", "upstream::path", "conjure a proof out of memory", """
use attest::Attested;
fn wrong(proof: Attested) -> Attested {
    [-unsafe { std::mem::zeroed() } //~ unsafe_code unsafe
    -]{+proof+}
}
"""),
    Row("attested_of_rejected", "upstream::path", "take a refusal for a proof", """
use attest::{Appraisal, Attested};
use super::request::Link;
fn wrong(link: Link, appraisal: Appraisal) {
    match appraisal.outcome {
        Ok(proof) => drop(link.prove(proof)),
        Err(rejected) => drop([-link.prove(rejected)-]{+(link, rejected)+}), //~ E0308 mismatched
    }
}
"""),
    Row("outcome_unlooked", "upstream::path", "use an appraisal without looking at its outcome", """
use attest::{Appraisal, Rejected};
use super::request::Link;
fn wrong(link: Link, appraisal: Appraisal) -> Result<(), Rejected> {
    drop(link.prove(appraisal.outcome[--]{+?+})); //~ E0308 mismatched
    Ok(())
}
"""),
    Row("appraisal_literal", "upstream::path", "make an appraisal of one's own", """
use attest::{Appraisal, Attested};
fn wrong(appraisal: Appraisal, proof: Attested) -> Appraisal {
    [-Appraisal { outcome: Ok(proof), ..appraisal } //~ E0639 non-exhaustive
    -]{+appraisal+}
}
"""),
    Row("record_literal", "upstream::verdicts", "forge a record by literal", """
use attest::Record;
fn wrong(record: Record) -> Record {
    [-Record { made: attest::UnixTime(0), ..record } //~ E0451 private
    -]{+record+}
}
"""),
    Row("record_edited", "upstream::verdicts", "prolong a record", """
use attest::{Record, UnixTime};
fn wrong(record: &mut Record, later: UnixTime) {
    let _ = [-record.claims.valid_until = later-]{+record.valid_until() < later+}; //~ E0616 claims
}
"""),
    Row("record_clone", "upstream::verdicts", "copy a record", """
use attest::Record;
fn wrong(record: Record) -> Record {
    record[-.clone()-]{++} //~ E0599 clone
}
"""),
    Row("record_deserialise", "upstream::verdicts", "read a record from a file", """
use attest::{Record, UnixTime};
fn wrong(bytes: &[u8]) {
    let _ = serde_json::from_slice::<[-Record-]{+UnixTime+}>(bytes); //~ E0277 Deserialize
}
"""),
    Row("record_serialise", "upstream::verdicts", "write a record to a file", """
use attest::Record;
fn wrong(record: &Record) {
    let _ = serde_json::to_vec([-record-]{+&record.valid_until()+}); //~ E0277 Serialize
}
"""),
    Row("recall_any_policy", "upstream::path", "recall a record whatever the policy", """
use attest::{Domain, PolicyDigest, Record, Spki, UnixTime};
fn wrong(record: &Record, domain: &Domain, spki: Spki, policy: PolicyDigest, now: UnixTime) {
    let _ = record.recall(domain, spki, [-now-]{+policy, now+}); //~ E0061 argument
}
"""),

    # Nothing but attest judges, by a policy that is never empty.
    Row("own_verifier", "upstream::judge", "give appraise a verifier of one's own", """
fn wrong(inputs: &attest::Appraise<'_>) {
    let _ = attest::appraise(inputs[-, |_: &[u8]| true-]{++}); //~ E0061 argument
}
"""),
    Row("own_judge", "upstream::path::verified", "attest by a judge of one's own", """
use super::super::{Judge, unverified::Unverified};
use crate::verdicts::KeyLock;
struct Own;
async fn wrong(unverified: Unverified, judge: &[-Own-]{+Judge+}, key_lock: &KeyLock) {
    let _ = unverified.attest(judge, key_lock).await; //~ E0308 mismatched
}
"""),
    Row("own_measurements", "upstream::judge", "take measured registers outside attest", """
use attest::VerifiedQuote;
fn wrong(quote: &VerifiedQuote) {
    let _ = [-quote.td()-]{+quote+}; //~ E0624 td
}
"""),
    Row("verified_quote_literal", "upstream::judge", "forge a verified quote by literal", """
use attest::VerifiedQuote;
fn wrong(quote: VerifiedQuote) -> VerifiedQuote {
    [-VerifiedQuote { ..quote } //~ E0451 private
    -]{+quote+}
}
"""),
    Row("policy_default", "proxy::config", "accept by a policy that is empty", """
use attest::Policy;
fn wrong() -> Policy {
    Policy::[-default-]{+near+}() //~ E0599 default
}
"""),
    Row("policy_literal", "proxy::config", "make a policy by literal", """
use attest::Policy;
fn wrong(policy: Policy) -> Policy {
    [-Policy { ..policy } //~ E0451 private
    -]{+policy+}
}
"""),
    Row("evidence_literal", "upstream::judge", "make evidence that was never parsed", """
use attest::Evidence;
fn wrong(evidence: Evidence) -> Evidence {
    [-Evidence { ..evidence } //~ E0451 private
    -]{+evidence+}
}
"""),

    # What fetches public documents has no word for a client's data.
    Row("request_in_sources", "sources::fetch", "name a client's request where documents are fetched", """
use [-upstream::ClientRequest-]{+attest::Evidence+}; //~ E0432 upstream
"""),

    # Nor has what stands on the wall a way around it.
    Row("verified_literal_elsewhere", "proxy::ingress", "forge a verified connection from another crate", """
use upstream::Verified;
fn wrong(verified: Verified) -> Verified {
    [-Verified { ..verified } //~ E0451 private
    -]{+verified+}
}
"""),
    Row("attested_literal_elsewhere", "proxy::ingress", "forge a proof from another crate", """
use attest::Attested;
fn wrong(proof: Attested) -> Attested {
    [-Attested { ..proof } //~ E0451 claims
    -]{+proof+}
}
"""),
    Row("unverified_elsewhere", "proxy::ingress", "name an unverified connection outside upstream", """
use upstream::[-Unverified-]{+Verified+}; //~ E0432 Unverified
"""),
    Row("dialled_elsewhere", "proxy::ingress", "dial a backend beside the way to it", """
use upstream::Dialer;
use sources::backend::Backend;
async fn wrong(dialer: &Dialer, backend: &Backend) {
    let _ = [-dialer.dial(backend).await-]{+(dialer, backend)+}; //~ E0624 dial
}
"""),
    Row("forward_elsewhere", "proxy::ingress", "send on a connection whose verdict nobody looked up", """
use upstream::{ClientRequest, Verified, answer_ids::AnswerIds};
async fn wrong(on: Verified, request: ClientRequest, answer_ids: &AnswerIds) {
    let _ = [-on.forward(request, todo!(), answer_ids).await-]{+(on, request, answer_ids)+}; //~ E0624 forward
}
"""),
    Row("body_elsewhere", "proxy::respond", "name a sealed body outside upstream", """
use upstream::[-RequestBody-]{+ClientRequest+}; //~ E0432 RequestBody
"""),
    Row("verdict_use_elsewhere", "proxy::ingress", "say that a verdict stands, outside upstream", """
use upstream::verdicts::[-VerdictUse-]{+Verdicts+}; //~ E0603 VerdictUse
"""),
]
