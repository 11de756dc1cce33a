import assert from "node:assert/strict";
import { test } from "node:test";
import { BufferedStream } from "../../dist/stream.js";

test("values, then the error that ended them", async () => {
  const stream = new BufferedStream<number>(() => assert.fail("it was read to its end"));
  stream.push(1);
  stream.push(2);
  stream.end({ error: new Error("over") });
  stream.push(3);
  assert.deepEqual(await stream.next(), { done: false, value: 1 });
  assert.deepEqual(await stream.next(), { done: false, value: 2 });
  await assert.rejects(stream.next(), /over/);
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test("several who wait are served in order", async () => {
  const stream = new BufferedStream<number>(() => {});
  const waiting = [stream.next(), stream.next(), stream.next()];
  stream.push(1);
  stream.push(2);
  stream.end();
  assert.deepEqual((await Promise.all(waiting)).map(({ value }) => value), [1, 2, undefined]);
});

test("leaving tells the source once, and only while it runs", async () => {
  let left = 0;
  const stream = new BufferedStream<number>(() => (left += 1));
  const waiting = stream.next();
  await stream.return();
  await stream.return();
  assert.deepEqual([(await waiting).done, left], [true, 1]);
  const ended = new BufferedStream<number>(() => assert.fail("it has ended"));
  ended.end();
  await ended.return();
});
