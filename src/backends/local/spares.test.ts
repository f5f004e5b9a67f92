import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { newId, shortId } from "../../common/ids.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { bench, bridged, withMemory } from "./testing/spares-bench.ts";

describe("a spare container", () => {
  it("is prepared when a second one like it has started, and is the third", async () => {
    const { asked, run } = bench();
    assert.equal(await run(bridged), undefined);
    assert.equal(asked.length, 0);
    assert.equal(await run(bridged), undefined);
    assert.equal(asked.length, 1);
    assert.equal(await run(bridged), asked[0]?.record.id);
    assert.equal(asked.length, 2, "the next one");
    assert.notEqual(asked[1]?.record.id, asked[0]?.record.id);
  });

  it("has an ID, a host name and a first start of its own, and no place on a network and no command", async () => {
    const { asked, twice } = bench();
    await twice(bridged);
    const [spare] = asked;
    assert.ok(spare);
    const { record, args, env } = spare;
    assert.equal(record.config?.hostname, shortId(record.id));
    assert.deepEqual([record.generation, record.endpoints, args, env], [1n, {}, [], []]);
  });

  it("keeps a host name that was asked for", async () => {
    const { asked, twice } = bench();
    await twice({ ...bridged, config: { hostname: "box" } });
    assert.equal(asked[0]?.record.config?.hostname, "box");
  });

  it("is told to one container alone, and the next is prepared while that one is made", async () => {
    const { asked, clock, launching, made, twice } = bench();
    await twice(bridged);
    const { taken } = launching(bridged);
    await clock.advance(0);
    assert.deepEqual([taken, asked.length], [asked[0]?.record.id, 2]);
    assert.equal(made(bridged).taken, asked[1]?.record.id);
    assert.equal(made(bridged).taken, undefined, "the one before it is starting");
  });

  it("is prepared of no more than two that are only created", async () => {
    const { asked, clock, made, run, spares, twice } = bench();
    await twice(bridged);
    const created: (string | undefined)[] = [];
    for (let n = 0; n < 4; n++) {
      created.push(made(bridged).taken);
      await clock.advance(0);
    }
    const asTold = asked.map(({ record }) => record.id);
    assert.deepEqual(created, [...asTold, undefined, undefined]);
    assert.equal(asked.length, 2);
    for (const id of created) {
      spares.over(id ?? ""); // They are removed.
    }
    await run(bridged);
    assert.equal(asked.length, 3);
    await run(bridged);
    assert.equal(asked.length, 4, "while it was made");
  });

  it("is prepared while the one before it is made, whatever became of one that was not launched", async () => {
    const { asked, clock, made, run, spares, twice } = bench();
    await twice(bridged);
    made(bridged); // It is left so.
    await clock.advance(0);
    assert.equal(asked.length, 2);
    // As of a container whose record could not be kept.
    assert.equal(spares.take(create(ContainerRecordSchema, bridged)), asked[1]?.record.id);
    await clock.advance(30_000);
    await run(bridged);
    assert.equal(asked.length, 3);
    assert.equal(made(bridged).taken, asked[2]?.record.id);
    assert.equal(asked.length, 4);
  });

  it("is one of two where containers come faster than spares are prepared, and of one again later", async () => {
    const { asked, clock, host, launching, run, spares } = bench();
    const preparing = Promise.withResolvers<void>();
    host.answer = () => preparing.promise;
    await run(bridged);
    await run(bridged);
    const { id, taken } = launching(bridged);
    assert.deepEqual([taken, asked.length], [asked[0]?.record.id, 2], "two are being prepared");
    spares.started(id);
    assert.equal(asked.length, 2, "two at most");
    preparing.resolve();
    await clock.advance(0);
    assert.equal(await run(bridged), asked[1]?.record.id);
    assert.equal(asked.length, 4);
    await clock.advance(30_000);
    assert.equal(await run(bridged), undefined, "all have gone");
    await run(bridged);
    assert.equal(asked.length, 6, "one when it started, and one when that was taken");
  });

  it("is prepared by none that ends, which waits for what it was preparing", async () => {
    const { asked, host, run, spares } = bench();
    const preparing = Promise.withResolvers<void>();
    host.answer = () => preparing.promise;
    await run(bridged);
    await run(bridged);
    let isClosed = false;
    const closed = spares.close().then(() => (isClosed = true));
    await run(withMemory(1));
    await run(withMemory(1));
    assert.deepEqual([isClosed, asked.length], [false, 1]);
    preparing.resolve();
    await closed;
    await run(bridged);
    assert.equal(asked.length, 1);
  });

  it("is told to none that differs in more than command, environment, name, labels and life", async () => {
    const { asked, made, twice } = bench();
    const like = { ...bridged, config: { user: "app" }, hostConfig: { logConfig: { type: "local" } } };
    await twice(like);
    for (const other of [
      { ...like, imageId: "sha256:2" },
      { ...like, endpoints: { lane: {} } },
      ...[{ user: "root" }, { tty: true }, { openStdin: true }, { stdinOnce: true }, { hostname: "box" }].map(
        (config) => ({ ...like, config: { ...like.config, ...config } }),
      ),
      ...[{ workingDir: "/tmp" }, { domainname: "lan" }, { networkDisabled: true }].map((config) => ({
        ...like,
        config: { ...like.config, ...config },
      })),
      { ...like, hostConfig: { ...like.hostConfig, readonlyRootfs: true } },
      { ...like, hostConfig: { logConfig: { type: "none" } } },
      { ...like, hostConfig: { ...like.hostConfig, resources: { memory: 1n } } },
    ]) {
      assert.equal(
        made(other).taken,
        undefined,
        JSON.stringify(other, (_, value) => String(value)),
      );
    }
    const { taken } = made({
      ...like,
      path: "other",
      config: { ...like.config, env: ["B=1"], labels: { a: "b" }, stopSignal: "INT", cmd: { values: ["x"] } },
      hostConfig: { ...like.hostConfig, autoRemove: true, restartPolicy: { name: "always" } },
    });
    assert.equal(taken, asked[0]?.record.id);
  });

  it("is not prepared of what starts further apart than it would wait", async () => {
    const { asked, clock, run } = bench();
    for (const pause of [30_001, 59_000, 30_000]) {
      assert.equal(asked.length, 0);
      await run(bridged);
      await clock.advance(pause);
    }
    await run(bridged);
    assert.equal(asked.length, 1);
  });

  it("is not prepared of a container of a build, with mounts, ports, secrets, another's processes, or that starts again", async () => {
    const { asked, run, twice } = bench();
    await twice({ ...bridged, config: { labels: { "sockerless.build": "container" } } });
    await twice({ ...bridged, config: { volumes: ["/data"] } });
    await twice({ ...bridged, hostConfig: { binds: ["/a:/b"] } });
    await twice({ ...bridged, hostConfig: { volumesFrom: ["other"] } });
    await twice({ ...bridged, hostConfig: { mounts: [{ type: "volume", target: "/data" }] } });
    await twice({ ...bridged, hostConfig: { portBindings: [{ containerPort: "80/tcp" }] } });
    await twice({ ...bridged, config: { exposedPorts: ["80/tcp"] }, hostConfig: { publishAllPorts: true } });
    const later = { record: { ...create(ContainerRecordSchema, bridged), id: newId(), generation: 2n } };
    const secrets = { files: [], env: ["TOKEN=x"] };
    for (const more of [later, { secrets }, { joined: { pid: "c" } }, { joined: { ipc: "c" } }]) {
      await run(bridged, more);
      await run(bridged, more);
    }
    assert.equal(asked.length, 0);
    await twice({
      ...bridged,
      hostConfig: { mounts: [{ type: "tmpfs", target: "/tmp" }], tmpfs: { "/a": "" } },
    });
    assert.equal(asked.length, 1);
  });

  it("waits for half a minute, and the next start prepares another", async () => {
    const { asked, clock, run, twice } = bench();
    await twice(bridged);
    await clock.advance(29_999);
    await clock.advance(1);
    assert.equal(await run(bridged), undefined);
    assert.equal(asked.length, 2);
    await clock.advance(29_999);
    assert.equal(await run(bridged), asked[1]?.record.id);
  });

  it("is prepared in the place of each that was taken, and of those that have gone", async () => {
    const { asked, clock, ended, full, launching, run, spares } = bench();
    await full();
    const started = [launching(withMemory(1)), launching(withMemory(1)), launching(withMemory(1))];
    for (const { id } of started) {
      spares.started(id);
    }
    assert.equal(asked.length, 6, "one when it was taken, and one when that was");
    await run(withMemory(5));
    await clock.advance(30_000);
    await run(withMemory(5));
    assert.deepEqual([asked.length, ended], [7, []]);
  });

  it("is prepared once no other start is under way", async () => {
    const { asked, launching, run, spares, twice } = bench();
    const [first, second, failed, released] = [1, 1, 2, 3].map((memory) => launching(withMemory(memory)));
    assert.ok(first && second && failed && released);
    spares.started(first.id);
    spares.started(second.id);
    await twice(bridged);
    assert.equal(asked.length, 0);
    spares.over(failed.id);
    spares.over(released.id);
    spares.started(released.id);
    await run(bridged);
    assert.equal(asked.length, 1);
  });

  it("that is being prepared is told already, and its container waits for what comes of it", async () => {
    for (const end of ["resolve", "reject"] as const) {
      const { host, made, run, spares } = bench();
      const preparing = Promise.withResolvers<void>();
      host.answer = () => preparing.promise;
      await run(bridged);
      const second = run(bridged);
      const { taken } = made(bridged);
      assert.ok(taken !== undefined);
      let isOver = false;
      const waited = spares.prepared(taken).then(() => (isOver = true));
      await new Promise(setImmediate);
      assert.equal(isOver, false);
      preparing[end]();
      await waited;
      await second;
      await spares.prepared(taken);
    }
  });

  it("that cannot be is not tried again, one that has failed after a minute, and neither is told", async () => {
    for (const [code, retries] of [
      [Code.FailedPrecondition, false],
      [Code.Unimplemented, false],
      [Code.ResourceExhausted, true],
      [Code.Unavailable, true],
    ] as const) {
      const { asked, clock, host, run, twice } = bench();
      host.answer = () => Promise.reject(new ConnectError("it cannot", code));
      await twice(bridged);
      assert.equal(await run(bridged), undefined);
      assert.equal(asked.length, 1);
      await clock.advance(59_999);
      await run(bridged);
      assert.equal(asked.length, 1);
      await clock.advance(1);
      await run(bridged);
      assert.equal(asked.length, retries ? 2 : 1, Code[code]);
    }
  });

  it("of which two in a row were of no use is not prepared again for ten minutes", async () => {
    const { asked, clock, launching, run, spares, twice } = bench();
    const start = async (claimed: boolean) => {
      const { id, taken, tellUse } = launching(bridged);
      assert.notEqual(taken, undefined);
      tellUse(claimed);
      spares.started(id);
      await clock.advance(0);
    };
    await twice(bridged);
    for (const claimed of [false, true, false, false]) {
      await start(claimed);
    }
    await start(true); // with the one that was prepared before the last start
    const prepared = asked.length;
    await twice(bridged);
    assert.equal(asked.length, prepared);
    await clock.advance(600_000);
    await twice(bridged);
    assert.equal(asked.length, prepared + 1);
    assert.notEqual(await run(bridged), undefined);
  });

  it("that cannot be is not tried again either where two that waited for it had no use of it", async () => {
    const { asked, clock, host, launching, spares, twice } = bench();
    const preparing = Promise.withResolvers<void>();
    host.answer = () => preparing.promise;
    await twice(bridged);
    const waiting = [launching(bridged), launching(bridged)];
    assert.ok(waiting.every(({ taken }) => taken !== undefined));
    preparing.reject(new ConnectError("it cannot", Code.FailedPrecondition));
    await clock.advance(0);
    for (const { id, tellUse } of waiting) {
      tellUse(false);
      spares.started(id);
    }
    await clock.advance(600_000);
    await twice(bridged);
    assert.equal(asked.length, 2);
  });

  it("is forgotten with its shape once many others were started", async () => {
    const { asked, made, run, twice } = bench();
    await twice(bridged);
    for (let memory = 1; memory <= 64; memory++) {
      await run(withMemory(memory));
    }
    assert.equal(asked.length, 1);
    assert.equal(made(bridged).taken, undefined);
  });
});
