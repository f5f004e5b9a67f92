import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { type TestContext, test } from "node:test";

import { fromBinary, toBinary } from "@bufbuild/protobuf";

import { callApi } from "../../../test/support/call-api.ts";
import { type ApiUnderTest, serveApi } from "../../../test/support/docker-api.ts";
import { RawClient } from "../../../test/support/raw-client.ts";
import { until } from "../../../test/support/until.ts";
import { CreateContainerRequestSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { TooManyRequests } from "../admission.ts";
import { ApiVersion } from "../api-version.ts";
import { conversions } from "./conversions.ts";
import { fieldsFromBytes, requestOf } from "./encoded-fields.ts";
import { convertInThread, LargeBodies } from "./large-bodies.ts";
import { readBody } from "./read-body.ts";
import { Slots } from "../http/slots.ts";
import type { ReplyContext } from "../request-context.ts";

const mebibyte = 1024 ** 2;

/** Bodies that take long to read, each in its own way. */
const made: Readonly<Record<string, string>> = {
  "nested lists": '{"a":'.repeat(700_000),
  "empty lists": `{"Env":[${"[],".repeat(mebibyte)}[]]}`,
  "many keys": `{"Labels":{${Array.from({ length: 250_000 }, (_, n) => `"k${n}":""`).join(",")}}}`,
  "a long number": `{"a":${"9".repeat(3 * mebibyte)},"Env":[1]}`,
  "many long numbers": `{"a":[${"9007199254740993,".repeat(200_000)}1]}`,
  "escapes and a wrong end": `{"a":"${"\\u0041".repeat(650_000)}`,
  "an error at the end": `{"a":[${'"",'.repeat(100_000)}${" ".repeat(3 * mebibyte)}x]}`,
};

/** Sends a body that is refused. @returns the number of pings that were answered since its last byte was sent */
async function pingsBeside(t: TestContext, api: ApiUnderTest, body: string): Promise<number> {
  const client = new RawClient(api.socket);
  t.after(() => client.close());
  const type = "Content-Type: application/json";
  client.send(
    `POST /containers/create HTTP/1.1\r\nHost: d\r\n${type}\r\nContent-Length: ${body.length}\r\n\r\n`,
  );
  client.send(body.slice(0, -1));
  await until(() => client.socket.writableLength === 0 || undefined);
  for (let n = 0; n < 20; n += 1) {
    await api.call("GET", "/_ping"); // Meanwhile the rest is read.
  }
  client.send(body.slice(-1));
  let pings = 0;
  for (; client.bytes.length === 0; pings += 1) {
    await api.call("GET", "/_ping");
  }
  assert.match(client.header, /^HTTP\/1\.1 400 /);
  return pings;
}

for (const [what, body] of Object.entries(made)) {
  test(`others are answered while a body of ${what} is read`, async (t) => {
    const api = await serveApi(t, () => {});
    let most = 0;
    for (let tries = 0; most <= 2 && tries < 5; tries += 1) {
      most = Math.max(most, await pingsBeside(t, api, body)); // A busy machine may not run both threads at once.
    }
    // More than one ping comes in between only if the thread that answers them does not parse the body too.
    assert.ok(most > 2, `${most} pings were answered before`);
  });
}

test("a large body becomes the request that it would be in this thread", async () => {
  const ports = Array.from({ length: 10_000 }, (_, n) => `${n + 1}/tcp`);
  const body = {
    Image: "busybox",
    Env: ["A=b", "C=d"],
    ExposedPorts: Object.fromEntries(ports.map((port) => [port, {}])),
    HostConfig: { PortBindings: Object.fromEntries(ports.map((port) => [port, [{ HostPort: "1" }]])) },
  };
  const bytes = Buffer.from(JSON.stringify(body));
  const task = { name: "createContainer", bytes, version: "1.51", isOptional: false } as const;
  const { fields, warnings } = await convertInThread(task);
  const here = conversions.createContainer.convert(body, new ApiVersion("1.51"));
  assert.deepEqual(warnings, here.warnings);
  const schema = CreateContainerRequestSchema;
  const encoded = requestOf(schema, { name: "x", ...fieldsFromBytes<typeof schema>(fields) });
  const expected = requestOf(schema, { name: "x", ...here.fields });
  assert.deepEqual(fromBinary(schema, toBinary(schema, encoded)), expected);
});

test("lists in lists as deep as Go refuses them are refused in its words", async () => {
  const bytes = Buffer.from(`{"Unknown":${"[".repeat(10_000)}${"]".repeat(10_000)}}`);
  const task = { name: "createContainer", bytes, version: "1.51", isOptional: false } as const;
  await assert.rejects(convertInThread(task), /^SockerlessError: invalid JSON: exceeded max depth$/);
});

test("lists in lists without end are refused before they are parsed", async () => {
  const bytes = Buffer.from(`${"[".repeat(2_000_000)}${"]".repeat(2_000_000)}`);
  const task = { name: "createContainer", bytes, version: "1.51", isOptional: false } as const;
  await assert.rejects(convertInThread(task), /more than 100000 lists and objects/);
});

test("a query or a filter of more parts than anybody has is refused", async (t) => {
  const api = await serveApi(t, () => {});
  const values = Array.from({ length: 5000 }, (_, n) => `k${n}`);
  for (const query of [
    "a&".repeat(300_000),
    `filters=${encodeURIComponent(JSON.stringify({ label: values }))}`,
    `filters=${"[".repeat(200_000)}`,
  ]) {
    const { status, text } = await callApi(api.socket, "GET", `/containers/json?${query}`);
    assert.equal(status, 400);
    assert.match(text, /more than|longer than/);
  }
});

test("slots are given by order, then as they were asked for", async () => {
  const slots = new Slots(1);
  const order: number[] = [];
  const users = [1, 2, 3, 4].map(async (user) => {
    using _slot = await slots.enter({ order: () => (user === 4 ? 0 : 1) });
    order.push(user);
    await new Promise((resolve) => setImmediate(resolve));
    order.push(user);
  });
  await Promise.all(users);
  assert.deepEqual(order, [1, 1, 4, 4, 2, 2, 3, 3]);
});

test("of a line only the first is asked for its rank, and lines take turns", async () => {
  const slots = new Slots(2);
  let asked = 0;
  const begun: string[] = [];
  const taken = { a: 0, b: 0 };
  const users = Array.from({ length: 1_000 }, async (_, n) => {
    const line = n < 990 ? "a" : "b";
    using _slot = await slots.enter({
      line,
      order: () => {
        asked += 1;
        return taken[line];
      },
      taken: () => {
        taken[line] += 1;
      },
      returned: () => {
        taken[line] -= 1;
      },
    });
    begun.push(line);
    await new Promise((resolve) => setImmediate(resolve));
  });
  await Promise.all(users);
  assert.ok(asked < 5 * users.length, `${asked} questions`);
  assert.ok(begun.lastIndexOf("b") < 30, `${begun.lastIndexOf("b")}`);
});

test("a slot that is returned goes to none of those who leave in the same turn", async () => {
  const slots = new Slots(1);
  const slot = await slots.enter();
  const clients = Array.from({ length: 3 }, () => new AbortController());
  const waits = clients.map(({ signal }) => slots.enter({ signal }));
  const last = slots.enter();
  slot[Symbol.dispose]();
  for (const client of clients) {
    await Promise.resolve();
    client.abort(new Error("left"));
  }
  const outcomes = await Promise.allSettled(waits);
  assert.deepEqual(new Set(outcomes.map(({ status }) => status)), new Set(["rejected"]));
  (await last)[Symbol.dispose]();
});

test("where large bodies have no room together they wait, the shortest first, and slow ones are cut", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval", "Date"] });
  const bodies = new LargeBodies(1_000_000, () => Date.now());
  const cut: string[] = [];
  const entered: string[] = [];
  const enter = async (name: string, length: number) => {
    const body = await bodies.enter(length, () => cut.push(name));
    entered.push(name);
    return body;
  };
  const slow = await enter("slow", 400_000);
  const fast = await enter("fast", 400_000);
  const complete = await enter("complete", 200_000);
  complete.complete(200_000);
  const waiting = [enter("long", 300_000), enter("short", 150_000)];
  for (let seconds = 1; seconds <= 3; seconds += 1) {
    slow.received(1);
    fast.received(1_100_000);
    t.mock.timers.tick(1_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual([...new Set(cut)], ["slow"]);
  complete[Symbol.dispose]();
  await waiting[1];
  assert.deepEqual(entered, ["slow", "fast", "complete", "short"]);
  slow[Symbol.dispose]();
  await waiting[0];
  fast[Symbol.dispose]();
  for (const each of await Promise.all(waiting)) {
    each[Symbol.dispose]();
  }
  await bodies.enter(1_000_000, () => {});
});

test("a large body is answered beside any number of those that come slowly", async (t) => {
  const api = await serveApi(t, () => {});
  const post = "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n";
  const slow = Array.from({ length: 100 }, () =>
    new RawClient(api.socket).send(`${post}Content-Length: 70000\r\n\r\n{`),
  );
  for (let n = 0; n < 100; n += 1) {
    await api.call("GET", "/_ping"); // Meanwhile their beginnings are read.
  }
  const { status } = await api.call("POST", "/containers/create", { body: { Image: "x".repeat(100_000) } });
  assert.equal(status, 501); // By the backend, which makes no containers.
  for (const each of slow) {
    each.close();
  }
});

test("others are answered beside the bodies of a crowd", async (t) => {
  const api = await serveApi(t, () => {});
  const body = "[".repeat(64_000);
  const head = `POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
  const crowd = Array.from({ length: 60 }, () => new RawClient(api.socket));
  for (const each of crowd) {
    each.send(head + body.slice(0, -1));
  }
  await until(() => crowd.every(({ socket }) => socket.writableLength === 0) || undefined);
  for (let n = 0; n < 20; n += 1) {
    await api.call("GET", "/_ping"); // Meanwhile the rest is read.
  }
  for (const each of crowd) {
    each.send("[");
  }
  await api.call("GET", "/_ping");
  const answered = crowd.filter(({ bytes }) => bytes.length > 0).length;
  assert.ok(answered < crowd.length / 2, `${answered} bodies were answered before`);
  for (const each of crowd) {
    assert.match(await each.answered(), /^HTTP\/1\.1 400 /);
    each.close();
  }
});

test("large bodies whose calls wait for something hold up neither each other nor those of other calls", async (t) => {
  const logins = 12;
  let waiting = 0;
  const left = new AbortController();
  const api = await serveApi(t, ({ service }) =>
    service(SystemService, {
      authenticate: async (_request, { signal }) => {
        waiting += 1;
        await once(AbortSignal.any([signal, left.signal]), "abort");
        return {};
      },
    }),
  );
  t.after(() => left.abort());
  // More than all the memory for bodies of a kind, but for the few bytes that are left of them.
  const body = `{"serveraddress":"registry.example"${" ".repeat(4 * mebibyte - 100)}}`;
  const head = `POST /auth HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
  const clients = Array.from({ length: logins }, () => new RawClient(api.socket).send(head + body));
  await until(() => waiting === logins || undefined);
  const { status } = await api.call("POST", "/containers/create", { body: { Image: "x".repeat(100_000) } });
  assert.equal(status, 501);
  for (const each of clients) {
    each.close();
  }
});

test("large bodies whose calls go on without their clients hold up no others, and longer ones are refused", async () => {
  const version = new ApiVersion("1.51");
  const read = async (length: number, held: DisposableStack): Promise<void> => {
    const content = Buffer.from(`{"Name":"${"a".repeat(length - 20)}"}`);
    const iterator = async function* (): AsyncGenerator<Buffer> {
      yield content; // Without a length that is announced.
    };
    const request = {
      headers: { "content-type": "application/json", "transfer-encoding": "chunked" },
      iterator,
    };
    const context = { request, response: new PassThrough().destroy(), version, held };
    await readBody(context as unknown as ReplyContext, "createVolume");
  };
  using others = new DisposableStack();
  using returned = new DisposableStack();
  let taken = 0;
  for (let length = 4 * mebibyte; length > 32 * 1024; length /= 2) {
    const refused = async (): Promise<boolean> => {
      try {
        await read(length, returned);
        taken += length;
        return false;
      } catch (error) {
        assert.ok(error instanceof TooManyRequests);
        return true;
      }
    };
    while (!(await refused())) {
      assert.ok(taken < 64 * mebibyte);
    }
  }
  await read(32 * 1024, others);
  await assert.rejects(read(4 * mebibyte, others), TooManyRequests);
  returned.dispose();
  await read(4 * mebibyte, others);
});

test("a body lets shorter ones go before it for a while, the longer it is", async () => {
  const bodies = new LargeBodies(64 * 1024, () => 0);
  const first = await bodies.enter(64 * 1024, () => {});
  const entered: number[] = [];
  const waiting = [64, 16, 32].map(async (kilobytes) => {
    using _body = await bodies.enter(kilobytes * 1024, () => {});
    entered.push(kilobytes);
  });
  first[Symbol.dispose]();
  await Promise.all(waiting);
  assert.deepEqual(entered, [16, 32, 64]);
});
