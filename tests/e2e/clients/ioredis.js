// What an application does with ioredis: prints done, or fails.
const [, , folder, port, password] = process.argv;
const assert = require("node:assert");
const Redis = require(`${folder}/node_modules/ioredis`);

async function main() {
  const redis = new Redis({ port: Number(port), password, lazyConnect: true });
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
  const other = redis.duplicate({ db: 5 });
  assert.equal(await other.get("hits"), null);
  other.disconnect();
  await redis.quit();
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
