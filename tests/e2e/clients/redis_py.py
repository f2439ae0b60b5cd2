"""What an application does with redis-py, in both protocols: prints done, or fails."""

import sys
import time

import redis

port, password = int(sys.argv[1]), sys.argv[2]


def check(protocol):
    client = redis.Redis(port=port, password=password, protocol=protocol, decode_responses=True)
    client.flushdb()
    assert client.ping()
    assert client.set("name", "ada", ex=100)
    assert client.get("name") == "ada"
    assert 98 <= client.ttl("name") <= 100
    assert client.set("name", "grace", nx=True) is None
    assert client.set("name", "grace", get=True) == "ada"
    assert client.ttl("name") == -1
    assert client.incr("hits") == 1 and client.incrby("hits", 41) == 42
    assert client.incrbyfloat("ratio", 0.5) == 0.5
    assert client.mset({"a": "1", "b": "2"})
    assert client.mget("a", "absent", "b") == ["1", None, "2"]
    assert client.delete("a", "b", "absent") == 2
    assert client.append("text", "foo") == 3 and client.append("text", "bar") == 6
    assert client.getrange("text", 1, 3) == "oob"
    assert client.getdel("text") == "foobar" and client.get("text") is None
    assert client.expire("name", 1, gt=True) is False
    assert client.pexpire("name", 1)
    time.sleep(0.01)
    assert client.get("name") is None and client.exists("name") == 0
    pipeline = client.pipeline(transaction=False)
    for n in range(1000):
        pipeline.set(f"key:{n}", n)
    assert all(pipeline.execute())
    with client.pipeline() as transaction:
        transaction.set("t", 1).incr("t").expire("t", 100).get("t")
        assert transaction.execute() == [True, 2, True, "2"]
        transaction.watch("t")
        client.set("t", "other")
        transaction.multi()
        transaction.set("t", "mine")
        try:
            transaction.execute()
            raise AssertionError("a watched key had changed")
        except redis.WatchError:
            pass
    client.delete("t")
    assert len(list(client.scan_iter("key:*", count=100))) == 1000
    assert sorted(client.keys("key:99?")) == [f"key:{n}" for n in range(990, 1000)]
    assert client.dbsize() in (1002, 1003)  # an expired key counts until it is collected
    assert client.info("server")["redis_version"].startswith("7.4")
    assert client.config_get("maxmemory-policy")
    assert client.type("hits") == "string"
    try:
        client.incr("key:text") if client.set("key:text", "x") else None
        raise AssertionError("text was incremented")
    except redis.ResponseError as error:
        assert "not an integer" in str(error)
    raw = redis.Redis(port=port, password=password, protocol=protocol)
    blob = bytes(range(256)) * 4096
    assert raw.set(b"\x00\xff", blob) and raw.get(b"\x00\xff") == blob
    other = redis.Redis(port=port, password=password, protocol=protocol, db=5)
    assert other.get("hits") is None


def check_messages(protocol):
    client = redis.Redis(port=port, password=password, protocol=protocol, decode_responses=True)
    listener = client.pubsub()
    listener.subscribe("news", "other")
    listener.psubscribe("n*")
    for kind in ("subscribe", "subscribe", "psubscribe"):
        assert listener.get_message(timeout=10)["type"] == kind
    assert client.publish("news", "hello") == 2
    message = listener.get_message(timeout=10)
    assert (message["type"], message["channel"], message["data"]) == ("message", "news", "hello")
    message = listener.get_message(timeout=10)
    assert (message["type"], message["pattern"], message["data"]) == ("pmessage", "n*", "hello")
    assert client.pubsub_numsub("news", "none") == [("news", 1), ("none", 0)]
    assert "news" in client.pubsub_channels("ne*") and client.pubsub_numpat() == 1
    if protocol == 2:  # in RESP3 redis-py takes the answer apart by its letters
        listener.ping()
        assert listener.get_message(timeout=10)["type"] == "pong"
    listener.unsubscribe()
    listener.punsubscribe()
    for left in (2, 1, 0):
        message = listener.get_message(timeout=10)
        assert message["type"] in ("unsubscribe", "punsubscribe") and message["data"] == left
    assert client.publish("news", "nobody") == 0
    listener.close()


def check_replication(protocol):
    client = redis.Redis(port=port, password=password, protocol=protocol, decode_responses=True)
    client.set("waited", "for")
    started = time.monotonic()
    assert client.wait(1, 100) == 0
    assert 0.1 <= time.monotonic() - started < 10
    assert client.wait(0, 0) == 0
    assert client.role()[0] == "master"
    assert client.info("replication")["role"] == "master"
    assert client.replicaof("127.0.0.1", 1)
    replication = client.info("replication")
    assert replication["role"] == "active-replica"
    assert replication["master_host"] == "127.0.0.1" and replication["master_port"] == 1
    assert replication["master_link_status"] == "down"
    assert client.replicaof("NO", "ONE")
    assert client.info("replication")["role"] == "master"


for protocol in (2, 3):
    check(protocol)
    check_messages(protocol)
    check_replication(protocol)
try:
    redis.Redis(port=port, password="wrong").ping()
    raise AssertionError("a wrong password was let in")
except redis.AuthenticationError:
    pass
print("done")
