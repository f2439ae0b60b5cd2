// What an application does with ioredis: prints done, or fails.
const [, , folder, port, password] = process.argv;
const assert = require("node:assert");
const Redis = require(`${folder}/node_modules/ioredis`);

async function check(protocol) {
  const redis = new Redis({ port: Number(port), password, protocol, lazyConnect: true });
  await redis.connect();
  await redis.flushdb();
  assert.equal(await redis.set("name", "ada", "EX", 100), "OK");
  assert.equal(await redis.get("name"), "ada");
  assert.ok((await redis.ttl("name")) > 98);
  assert.equal(await redis.set("name", "grace", "NX"), null);
  assert.equal(await redis.incrby("hits", 42), 42);
  await redis.mset({ a: "1", b: "2" });
  assert.deepEqual(await redis.mget("a", "absent", "b"), ["1", null, "2"]);
  const pipeline = redis.pipeline();
  for (let n = 0; n < 1000; n += 1) pipeline.set(`key:${n}`, n);
  const replies = await pipeline.exec();
  assert.ok(replies.every(([error, reply]) => error === null && reply === "OK"));
  let keys = 0;
  for await (const page of redis.scanStream({ match: "key:*", count: 100 })) keys += page.length;
  assert.equal(keys, 1000);
  await assert.rejects(redis.call("NOSUCH", "a"), /unknown command 'NOSUCH'/);
  const listener = redis.duplicate();
  const heard = [];
  const silence = new Promise((resolve) => {
    listener.on("message", (channel, text) => heard.push([channel, text]));
    listener.on("pmessage", (pattern, channel, text) => {
      heard.push([pattern, channel, text]);
      if (text === "last") resolve();
    });
  });
  assert.equal(await listener.subscribe("news", "other"), 2);
  assert.equal(await listener.psubscribe("n*"), 3);
  assert.equal(await redis.publish("news", "first"), 2);
  assert.equal(await redis.publish("never", "last"), 1);
  await silence;
  const wanted = [["news", "first"], ["n*", "news", "first"], ["n*", "never", "last"]];
  assert.deepEqual(heard, wanted);
  if (protocol === 2) await assert.rejects(listener.get("name"), /subscriber mode/);
  assert.equal(await listener.unsubscribe("news", "other"), 1);
  assert.equal(await listener.punsubscribe(), 0);
  assert.equal(await listener.get("name"), "ada");
  listener.disconnect();
  const [set, incr] = await redis.multi().set("t", 1).incr("t").exec();
  assert.deepEqual([set, incr], [[null, "OK"], [null, 2]]);
  await redis.watch("t");
  const meanwhile = redis.duplicate();
  await meanwhile.set("t", "theirs");
  meanwhile.disconnect();
  assert.equal(await redis.multi().set("t", "mine").exec(), null);
  assert.equal(await redis.getdel("t"), "theirs");
  assert.equal(await redis.wait(1, 50), 0);
  const other = redis.duplicate({ db: 5 });
  assert.equal(await other.get("hits"), null);
  other.disconnect();
  await redis.quit();
}

async function main() {
  for (const protocol of [2, 3]) await check(protocol);
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
