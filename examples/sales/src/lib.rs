//! A JSON API over the store, with an aggregate that is kept for some seconds.
//!
//! `PUT /sales/ID` with `{"product":"apples","amount":3}` keeps a sale, `GET /sales/ID` reads it, and
//! `GET /sales/` sums up all of them by product. The sum reads every sale, so it is kept as the key
//! `sums` for ten seconds, and made by one request at a time: the others answer with the last one.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_guest::kv::{self, Bucket, SetOptions};
use atoll_guest::{Request, Response, clock, handler};
use serde::{Deserialize, Serialize};

/// How long a sum counts as fresh.
const FRESH_MS: u64 = 10_000;
/// How long one may be shown while another is made.
const KEPT: Duration = Duration::from_secs(300);
/// How long one request may take to make one, before another tries.
const TURN: Duration = Duration::from_secs(5);
/// Keys of one call to the store.
const BATCH: usize = 500;

#[derive(Serialize, Deserialize)]
struct Sale {
    product: String,
    amount: i64,
}

#[derive(Serialize, Deserialize)]
struct Sums {
    made_ms: u64,
    sales: u64,
    by_product: BTreeMap<String, i64>,
}

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let bucket = kv::open("default")?;
    let id = request.path_segments().last().unwrap_or_default().into_owned();
    match request.method() {
        "GET" if id.is_empty() => sums(&bucket),
        "GET" => Ok(match bucket.json::<Sale>().get(&format!("sale:{id}"))? {
            Some(sale) => Response::json_of(&sale),
            None => Response::not_found(),
        }),
        "PUT" if !id.is_empty() => match request.json::<Sale>() {
            Ok(sale) => {
                bucket.json().set(&format!("sale:{id}"), &sale)?;
                Ok(Response::new(204))
            }
            Err(error) => Ok(Response::text(format!("{error}\n")).status(400)),
        },
        _ => Ok(Response::text("GET or PUT /sales/ID, GET /sales/\n").status(405)),
    }
}

fn sums(bucket: &Bucket) -> Result<Response, kv::Error> {
    let kept = bucket.json::<Sums>().get("sums")?;
    let age_ms = |sums: &Sums| clock::now_ms().saturating_sub(sums.made_ms);
    let sums = match kept {
        Some(sums) if age_ms(&sums) < FRESH_MS => sums,
        // Another request is at it.
        Some(sums) if !takes_turn(bucket)? => sums,
        _ => {
            let sums = add_up(bucket)?;
            bucket.json().set_with("sums", &sums, SetOptions::new().ttl(KEPT))?;
            bucket.delete("sums:turn")?;
            sums
        }
    };
    let age_s = age_ms(&sums) / 1_000;
    Ok(Response::json_of(&sums).header("age", age_s.to_string()))
}

/// Whether it is this request's turn to add up.
fn takes_turn(bucket: &Bucket) -> Result<bool, kv::Error> {
    match bucket.set_with("sums:turn", "", SetOptions::new().ttl(TURN).if_absent()) {
        Ok(_) => Ok(true),
        Err(kv::Error::ConditionFailed) => Ok(false),
        Err(error) => Err(error),
    }
}

fn add_up(bucket: &Bucket) -> Result<Sums, kv::Error> {
    let keys = bucket.keys("sale:").collect::<Result<Vec<String>, _>>()?;
    let mut sums = Sums { made_ms: clock::now_ms(), sales: 0, by_product: BTreeMap::new() };
    let sales = bucket.json::<Sale>();
    for keys in keys.chunks(BATCH) {
        // One that is gone since the keys were listed is none.
        for sale in sales.get_many(keys)?.into_iter().flatten() {
            sums.sales += 1;
            *sums.by_product.entry(sale.product).or_default() += sale.amount;
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    fn put(node: &Node, id: &str, sale: &str) -> u16 {
        let request = Request::new("PUT", &format!("/sales/{id}")).with_body(sale);
        node.run(handle, request).status_code()
    }

    fn sums(node: &Node) -> String {
        let response = node.run(handle, Request::new("GET", "/sales/"));
        let (_, by_product) = response.body_text().split_once("\"sales\":").expect("sums");
        by_product.to_owned()
    }

    #[test]
    fn a_sum_is_made_once_in_ten_seconds() {
        let node = Node::start();
        assert_eq!(put(&node, "1", r#"{"product":"apples","amount":3}"#), 204);
        assert_eq!(put(&node, "2", r#"{"product":"pears","amount":1}"#), 204);
        assert_eq!(sums(&node), r#"2,"by_product":{"apples":3,"pears":1}}"#);
        put(&node, "3", r#"{"product":"apples","amount":4}"#);
        node.advance(Duration::from_millis(FRESH_MS - 1));
        assert_eq!(sums(&node), r#"2,"by_product":{"apples":3,"pears":1}}"#);
        node.advance(Duration::from_millis(1));
        assert_eq!(sums(&node), r#"3,"by_product":{"apples":7,"pears":1}}"#);
    }

    #[test]
    fn while_one_adds_up_the_others_show_the_last_sum() {
        let node = Node::start();
        put(&node, "1", r#"{"product":"apples","amount":3}"#);
        let before = sums(&node);
        put(&node, "1", r#"{"product":"apples","amount":5}"#);
        node.advance(Duration::from_millis(FRESH_MS));
        node.bucket("default").set("sums:turn", "").expect("as if another had begun");
        assert_eq!(sums(&node), before);
        node.bucket("default").delete("sums:turn").expect("it has ended");
        assert_ne!(sums(&node), before);
    }

    #[test]
    fn more_sales_than_one_call_reads_are_all_summed() {
        let node = Node::start();
        for id in 0..2 * BATCH + 1 {
            put(&node, &id.to_string(), r#"{"product":"apples","amount":1}"#);
        }
        assert_eq!(sums(&node), r#"1001,"by_product":{"apples":1001}}"#);
    }

    #[test]
    fn what_is_no_sale_is_refused_with_its_place() {
        let node = Node::start();
        let request = Request::new("PUT", "/sales/1").with_body(r#"{"product":1}"#);
        let response = node.run(handle, request);
        assert_eq!(response.status_code(), 400);
        assert!(response.body_text().contains("line 1"), "{}", response.body_text());
        assert_eq!(node.run(handle, Request::new("GET", "/sales/1")).status_code(), 404);
    }
}
