import assert from "node:assert/strict";
import { once } from "node:events";
import { type Duplex, duplexPair } from "node:stream";
import { describe, it } from "node:test";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";

import { AgentGoneError, Link } from "./link.ts";

describe("a connection that was cut", () => {
  /** A link whose first carrier is there and whose next ones are not. */
  const openLink = async (
    refusal: Error,
    limitMs?: number,
  ): Promise<{ readonly link: Link; readonly agent: Duplex }> => {
    const [carrier, agent] = duplexPair();
    const carriers = [carrier];
    const connect = async (): Promise<Duplex> => {
      const next = carriers.shift();
      if (next === undefined) {
        throw refusal;
      }
      return next;
    };
    return { link: await Link.open(connect, limitMs === undefined ? {} : { limitMs }), agent };
  };

  it("notifies the agent on the next carrier that its client has left meanwhile", async (t) => {
    const awake = setInterval(() => {}, 1_000); // Nothing else would wait for the next one.
    t.after(() => clearInterval(awake));
    const [[first, agent], [second, next]] = [duplexPair(), duplexPair()];
    const connections = [() => first, () => assert.fail("the relay is not back"), () => second];
    const link = await Link.open(async () => connections.shift()?.() ?? assert.fail());
    link.once("cut", () => link.destroy());
    agent.destroy();
    const told = await bytesOf(next, 37);
    assert.equal(told[0], 2);
    assert.deepEqual(told.subarray(25), endFrame(0));
    next.end();
    await once(second, "close");
  });

  it("ends with an error after its limit", async () => {
    const { link, agent } = await openLink(new Error("nobody is there"), 1);
    const failed = once(link, "error");
    agent.destroy();
    assert.match(String((await failed)[0]), /the connection to the agent was cut: nobody is there/);
  });

  it("ends at once if the agent is gone for good", async () => {
    const { link, agent } = await openLink(new AgentGoneError("its task has ended"));
    const failed = once(link, "error");
    agent.destroy();
    assert.match(String((await failed)[0]), /its task has ended/);
  });

  it("ends with an error if the agent acknowledges bytes that it was not sent", async () => {
    const { link, agent } = await openLink(new Error("nobody is there"));
    const failed = once(link, "error");
    const frame = Buffer.alloc(12);
    frame.writeBigUInt64BE(1n);
    agent.write(frame);
    assert.match(String((await failed)[0]), /bytes that it was not sent/);
  });

  /** The next bytes that come. */
  const bytesOf = async (from: Duplex, count: number): Promise<Buffer> => {
    for (;;) {
      const bytes = from.read(count) as Buffer | null;
      if (bytes !== null) {
        return bytes;
      }
      await once(from, "readable");
    }
  };

  const frame = (data: string): Buffer => {
    const head = Buffer.alloc(12);
    head.writeUInt32BE(data.length, 8);
    return Buffer.concat([head, Buffer.from(data)]);
  };

  const endFrame = (arrived: number): Buffer => {
    const head = Buffer.alloc(12);
    head.writeBigUInt64BE(BigInt(arrived));
    head.writeUInt32BE(0xffff_ffff, 8);
    return head;
  };

  it("ends if the agent repeats what was lost: that it has everything and sends no more", async () => {
    const [[first, agent], [second, next]] = [duplexPair(), duplexPair()];
    const carriers = [first, second];
    const link = await Link.open(async () => carriers.shift() ?? assert.fail());
    link.write("abc");
    agent.destroy();
    await once(next, "readable");
    next.write(endFrame(3));
    await once(link.resume(), "end");
  });

  it("ends with an error if the agent has given it up", async () => {
    const [[first, agent], [second, next]] = [duplexPair(), duplexPair()];
    const carriers = [first, second];
    const link = await Link.open(async () => carriers.shift() ?? assert.fail());
    const failed = once(link, "error");
    link.write("abc");
    agent.destroy();
    await once(next, "readable");
    next.write(endFrame(0));
    assert.match(String((await failed)[0]), /the agent has given it up/);
  });

  it("leaves the carrier to the agent after its last frame, which a platform drops at a close", async () => {
    const [carrier, agent] = duplexPair();
    const link = await Link.open(async () => carrier);
    link.resume().end("abc");
    const told = await bytesOf(agent, 25 + 15 + 12);
    assert.deepEqual(told.subarray(25), Buffer.concat([frame("abc"), endFrame(0)]));
    await setImmediate();
    assert.ok(carrier.writable);
    agent.end();
    await Promise.all([once(link, "close"), once(carrier, "close")]);
  });

  it("answers an agent that sends no more by a last frame of its own, and tells what it has", async () => {
    const [carrier, agent] = duplexPair();
    const link = await Link.open(async () => carrier);
    agent.write(frame("abc"));
    agent.write(endFrame(0));
    await once(link.resume(), "end");
    const told = await bytesOf(agent, 25 + 12);
    assert.deepEqual(told.subarray(25), endFrame(3));
    assert.ok(carrier.writable);
    agent.end();
    await once(carrier, "close");
  });

  it("delivers each byte once if the old carrier continues while a new one is sought", async () => {
    const [[first, agent], [second, next]] = [duplexPair(), duplexPair()];
    const carriers = [first, second];
    const link = await Link.open(async () => carriers.shift() ?? assert.fail());
    let received = "";
    link.on("data", (chunk: Buffer) => {
      received += String(chunk);
    });
    link.renew();
    await once(next, "readable"); // The opening: nothing has come.
    agent.write(frame("abc"));
    await setImmediate();
    assert.ok(!first.destroyed, "the agent would take the client for gone");
    next.write(frame("abcdef"));
    while (received.length < 6) {
      await setImmediate();
    }
    assert.equal(received, "abcdef");
    assert.ok(first.destroyed);
    link.destroy();
  });

  it("tells the agent on the new carrier when its client leaves during a search", async () => {
    const [[first], [second, next]] = [duplexPair(), duplexPair()];
    const carriers = [first, second];
    const link = await Link.open(async () => carriers.shift() ?? assert.fail());
    link.renew();
    await bytesOf(next, 25); // The agent has dropped the first one for it.
    link.destroy();
    next.write(frame(""));
    assert.deepEqual(await bytesOf(next, 12), endFrame(0));
    const closed = new Promise((resolve) => second.once("close", resolve));
    second.destroy(new Error("reset")); // Nobody waits for it any more.
    await closed;
  });

  it("tells the agent on the next carrier if that search's carrier fails, too", async () => {
    const [[first], [second, next], [third, last]] = [duplexPair(), duplexPair(), duplexPair()];
    const carriers = [first, second, third];
    const link = await Link.open(async () => carriers.shift() ?? assert.fail());
    link.renew();
    await bytesOf(next, 25);
    link.destroy();
    second.destroy();
    const told = await bytesOf(last, 37);
    assert.equal(told[0], 2);
    assert.deepEqual(told.subarray(25), endFrame(0));
    last.end();
    await once(third, "close");
  });

  it("tells each agent of links that were left while cut, one after another", async () => {
    const dials: ((error: Error) => void)[] = [];
    let isLeft: boolean = false;
    const openCut = async (agent: string): Promise<Link> => {
      const [carrier] = duplexPair();
      const carriers = [carrier];
      const link = await Link.open(
        async () => {
          if (isLeft) {
            await new Promise((_resolve, reject) => dials.push(reject));
          }
          return carriers.shift() ?? Promise.reject(new Error("no carrier"));
        },
        { agent },
      );
      carrier.destroy();
      await once(link, "cut");
      return link;
    };
    const links = await Promise.all(
      [...Array<string>(16).fill("away"), "one", "another", "another"].map(openCut),
    );
    isLeft = true;
    for (const link of links) {
      link.destroy();
    }
    const atOnce: number[] = [];
    while (dials.length > 0) {
      atOnce.push(dials.length);
      for (const reject of dials.splice(0)) {
        reject(new AgentGoneError("gone"));
      }
      await setImmediate();
    }
    assert.deepEqual(atOnce, [3, 2, ...Array<number>(14).fill(1)]);
  });

  it("tells an agent of a bounded number of links that were left while cut", async () => {
    let dials = 0;
    const away = Promise.withResolvers<never>();
    const openCut = async (): Promise<Link> => {
      const [carrier] = duplexPair();
      const carriers = [carrier];
      const connect = async (): Promise<Duplex> => {
        dials += 1;
        return carriers.shift() ?? (await away.promise);
      };
      const link = await Link.open(connect, { agent: "hostile" });
      carrier.destroy();
      await once(link, "cut");
      return link;
    };
    const links = await Promise.all(Array.from({ length: 300 }, openCut));
    dials = 0; // Those of the links themselves.
    for (const link of links) {
      link.destroy();
    }
    away.reject(new AgentGoneError("gone"));
    await setImmediate();
    assert.equal(dials, 257);
  });

  it("ends with an error if the agent's handshake is too long, and passes none of the excess on", async () => {
    const [carrier, agent] = duplexPair();
    const link = await Link.open(async () => carrier);
    const failed = once(link, "error");
    link.on("data", () => assert.fail("it is passed on"));
    link.write(Buffer.from([22, 3, 1, 0, 1, 1])); // A record of TLS in the clear.
    agent.write(frame("x".repeat(8 * 1024 + 1)));
    assert.match(String((await failed)[0]), /handshake is too long/);
  });

  it("acknowledges nothing after its last frame", async () => {
    const [carrier, agent] = duplexPair();
    const link = await Link.open(async () => carrier);
    link.resume().end("x"); // No TLS, whose handshake would be limited.
    assert.deepEqual((await bytesOf(agent, 25 + 13 + 12)).subarray(25 + 13), endFrame(0));
    agent.end(frame("x".repeat(300_000)));
    await once(link, "close");
    assert.equal(agent.read(), null);
  });

  /** Opens a link whose agent resumes it and closes each carrier after some data and milliseconds. */
  const openCutAlways = async (
    limitMs: number,
    data: string,
    afterMs: number,
  ): Promise<{ readonly link: Link; readonly connects: () => number }> => {
    let connects = 0;
    const connect = async (): Promise<Duplex> => {
      const [carrier, agent] = duplexPair();
      if (connects++ === 0) {
        agent.end();
      } else {
        void once(agent, "readable").then(async () => {
          agent.write(frame(data));
          await sleep(afterMs);
          agent.end();
        });
      }
      return carrier;
    };
    const link = await Link.open(connect, { limitMs });
    return { link: link.resume(), connects: () => connects };
  };

  it("ends with an error after its limit if the agent closes each carrier that resumes it", async () => {
    const { link, connects } = await openCutAlways(500, "", 100);
    const [error] = await once(link, "error");
    assert.match(String(error), /the connection to the agent was cut: it is cut whenever it resumes/);
    assert.ok(connects() < 8, `${connects()} connects`);
  });

  it("resumes with pauses if the agent sends a byte over each carrier and closes it", async (t) => {
    const awake = setInterval(() => {}, 1_000);
    t.after(() => clearInterval(awake));
    const { link, connects } = await openCutAlways(60_000, "x", 0);
    while (connects() < 8) {
      await setImmediate();
    }
    await sleep(500);
    assert.ok(connects() < 15, `${connects()} connects`);
    assert.ok(!link.destroyed);
    link.destroy();
  });

  it("has its whole limit at each cut of a carrier that was quiet and worked", async () => {
    const agents: Duplex[] = [];
    const connect = async (): Promise<Duplex> => {
      const [carrier, agent] = duplexPair();
      agents.push(agent);
      agent.write(agents.length === 1 ? "" : frame(""));
      return carrier;
    };
    const link = await Link.open(connect, { limitMs: 40, steadyAfterMs: 20 });
    link.resume();
    for (let cuts = 1; cuts <= 4; cuts++) {
      await sleep(30);
      agents.at(-1)?.destroy();
      while (agents.length <= cuts || link.isCut) {
        assert.ok(!link.destroyed);
        await setImmediate();
      }
    }
    link.destroy();
  });

  it("continues after a needless search for a carrier that failed", async () => {
    const { link, agent } = await openLink(new AgentGoneError("nobody calls"));
    link.renew();
    await setImmediate();
    agent.write(frame("abc"));
    const [chunk] = (await once(link, "data")) as [Buffer];
    assert.equal(String(chunk), "abc");
    link.destroy();
  });

  it("sends each byte once over a cut, in order, also after its end, and holds back what a carrier has no room for", async () => {
    const [[first], [second, next]] = [duplexPair(), duplexPair()];
    const carriers = [first, second];
    const link = await Link.open(async () => carriers.shift() ?? assert.fail());
    const all = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 251));
    for (let at = 0; at < all.length; at += 40) {
      link.write(all.subarray(at, at + 40));
    }
    link.end();
    await setImmediate();
    assert.ok(first.writableLength < 20 * 1024, `${first.writableLength} bytes wait`);
    first.destroy();
    await once(next, "readable");
    next.read();
    const resumed = frame("");
    resumed.writeBigUInt64BE(100n);
    next.write(resumed);
    assert.equal((await bytesOf(next, 12)).readUInt32BE(8), 0);
    let arrived = 100;
    while (arrived < all.length) {
      const data = await bytesOf(next, (await bytesOf(next, 12)).readUInt32BE(8));
      assert.ok(data.equals(all.subarray(arrived, arrived + data.length)));
      arrived += data.length;
    }
    assert.deepEqual(await bytesOf(next, 12), endFrame(0));
    link.destroy();
  });

  it("delivers what was written before it is left, in order", async () => {
    const [carrier, agent] = duplexPair();
    const link = await Link.open(async () => carrier);
    const all = Buffer.alloc(200_000, "x");
    for (let at = 0; at < all.length; at += 1000) {
      link.write(all.subarray(at, at + 1000));
    }
    link.destroy();
    await bytesOf(agent, 25);
    for (let arrived = 0; arrived < all.length; ) {
      arrived += (await bytesOf(agent, (await bytesOf(agent, 12)).readUInt32BE(8))).length;
    }
    assert.deepEqual(await bytesOf(agent, 12), endFrame(0));
    agent.end();
    await once(carrier, "close");
  });

  it("ends after its limit if its agent does not read all that was written before its end", async (t) => {
    const awake = setInterval(() => {}, 1_000);
    t.after(() => clearInterval(awake));
    const [carrier] = duplexPair();
    const link = await Link.open(async () => carrier, { limitMs: 1 });
    link.end(Buffer.alloc(200_000));
    await once(link, "close");
    carrier.destroy();
  });

  it("gives way if its agent acknowledges nothing on many links, and those of others go on", async () => {
    const chunk = Buffer.alloc(64 * 1024);
    const open = async (agent: string): Promise<Link> => {
      const [carrier] = duplexPair();
      const link = await Link.open(async () => carrier, { agent });
      return link.on("error", () => {});
    };
    const honest = await open("honest");
    for (let bytes = 0; bytes < 1024 * 1024; bytes += chunk.length) {
      honest.write(chunk);
    }
    const hostile = await Promise.all(Array.from({ length: 1_000 }, async () => await open("hostile")));
    const taken = hostile.map((link) => {
      for (let writes = 0; writes < 40; writes++) {
        link.write(chunk);
      }
      return 40 * chunk.length - link.writableLength;
    });
    const kept = hostile.reduce((sum, link, index) => sum + (link.destroyed ? 0 : (taken[index] ?? 0)), 0);
    assert.ok(kept < 160 * 1024 * 1024, `${kept} bytes kept`);
    assert.ok(kept > 64 * 1024 * 1024, `${kept} bytes kept`);
    assert.ok(!honest.destroyed);
    for (const link of [honest, ...hostile]) {
      link.destroy(new Error("the test is over"));
    }
    const later = await open("later");
    for (let writes = 0; writes < 40; writes++) {
      later.write(chunk);
    }
    assert.ok(40 * chunk.length - later.writableLength >= 2 * 1024 * 1024);
    later.destroy(new Error("the test is over"));
  });
});
