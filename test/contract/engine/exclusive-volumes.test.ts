import assert from "node:assert/strict";
import { describe, it } from "node:test";

import fc from "fast-check";

import { isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { EngineBench } from "../engine-bench.ts";

const exclusive = (name: string) => ({
  type: "volume",
  source: name,
  target: `/${name}`,
  volumeOptions: { driverConfig: { name: "single" } },
});

describe("a volume that one container alone may have", () => {
  const bench = EngineBench.ofEach();

  const make = (name: string, mounts: readonly object[], labels: Readonly<Record<string, string>> = {}) =>
    bench.createScript("exec sleep 1000", {
      name,
      config: { labels: { ...labels } },
      hostConfig: { mounts: [...mounts] },
    });
  const remove = (container: string) => bench.containers.removeContainer({ container, force: true });
  const refused = (pattern: RegExp) => (error: unknown) => {
    assert.ok(isErrorKind(error, "conflict"));
    assert.match(messageOf(error), pattern);
    return true;
  };
  const statusOf = async (name: string) => (await bench.volumes.inspectVolume({ name })).volume?.status;

  it("is the first one's from its creation to its removal, whether it runs or not", async () => {
    const owner = await make("db", [exclusive("data"), { ...exclusive("data"), target: "/twice" }]);
    assert.equal((await statusOf("data"))?.["owner"], owner);
    const inUse = new RegExp(
      `^volume data is in use by container db \\(${owner.slice(0, 12)}\\): .*--driver local$`,
    );
    await assert.rejects(make("other", [exclusive("data")]), refused(inUse));
    await bench.containers.startContainer({ container: owner });
    await bench.containers.stopContainer({ container: owner, timeoutSeconds: 0 });
    await assert.rejects(make("other", [exclusive("data")]), refused(inUse));
    await assert.rejects(bench.volumes.removeVolume({ name: "data", force: true }), refused(/in use/));
    await remove(owner);
    assert.equal((await statusOf("data"))?.["owner"], undefined);
    const next = await make("other", [exclusive("data")]);
    await bench.containers.startContainer({ container: next });
  });

  it("is not to be had with the mounts of its owner, but by copies", async () => {
    await make("db", [exclusive("data")]);
    await assert.rejects(
      bench.createScript("true", { hostConfig: { volumesFrom: ["db"] } }),
      refused(/use docker cp with db: /),
    );
  });

  it("leaves nothing of a container that is refused", async () => {
    await make("db", [exclusive("data")]);
    await assert.rejects(
      bench.createScript("true", { hostConfig: { binds: ["/own"], mounts: [exclusive("data")] } }),
    );
    assert.deepEqual([...bench.machine.volumes], ["data"]);
    assert.equal((await bench.containers.listContainers({ all: true })).containers.length, 1);
  });

  const project = {
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "db",
    "com.docker.compose.container-number": "1",
  };
  for (const [how, labelOf] of [
    ["ID", (id: string) => id],
    ["name", () => "shop-db-1"],
    ["service and number", () => "db-1"],
  ] as const) {
    it(`passes to a container that compose makes to replace its owner, by ${how}`, async () => {
      const owner = await make("shop-db-1", [exclusive("data")], project);
      await bench.containers.startContainer({ container: owner });
      const replace = { ...project, "com.docker.compose.replace": labelOf(owner) };
      const next = await make("0123_shop-db-1", [exclusive("data")], replace);
      await assert.rejects(bench.containers.startContainer({ container: next }), refused(/which this one/));
      assert.equal((await statusOf("data"))?.["owner"], owner);
      await assert.rejects(make("third", [exclusive("data")], replace), refused(/shop-db-1/));
      await bench.crashBackend();
      await bench.startBackend();
      await remove(owner);
      assert.equal((await statusOf("data"))?.["owner"], next);
      await bench.containers.startContainer({ container: next });
      await assert.rejects(make("third", [exclusive("data")]), refused(/0123_shop-db-1/));
    });
  }

  it("does not pass by the label of another project or of another container", async () => {
    await make("shop-db-1", [exclusive("data")], project);
    for (const labels of [
      { ...project, "com.docker.compose.project": "other", "com.docker.compose.replace": "db-1" },
      { "com.docker.compose.replace": "db-1" },
      { ...project, "com.docker.compose.replace": "web-1" },
    ]) {
      await assert.rejects(make("next", [exclusive("data")], labels), refused(/in use/));
    }
  });

  it("has one owner that exists, whatever several containers do and whatever is cut off", async () => {
    const names = ["a", "b", "c"] as const;
    const name = fc.constantFrom(...names);
    const volume = fc.constantFrom("one", "two");
    const action = fc.oneof(
      fc.record({ kind: fc.constant("create" as const), name, volume, replaces: fc.option(name) }),
      fc.record({ kind: fc.constant("create-both" as const), name, volume, replaces: fc.option(name) }),
      fc.record({ kind: fc.constantFrom("start", "stop", "kill", "rm" as const), name }),
      fc.record({ kind: fc.constant("volume-rm" as const), volume }),
      fc.record({ kind: fc.constantFrom("prune", "crash" as const) }),
    );
    type Action = typeof action extends fc.Arbitrary<infer A> ? A : never;
    const perform = async (step: Action): Promise<void> => {
      switch (step.kind) {
        case "create":
        case "create-both": {
          const both = step.kind === "create-both";
          const labels = step.replaces === null ? {} : { "com.docker.compose.replace": step.replaces };
          const mounts = both ? [exclusive("one"), exclusive("two")] : [exclusive(step.volume)];
          await make(step.name, mounts, labels as Readonly<Record<string, string>>);
          return;
        }
        case "start":
          await bench.containers.startContainer({ container: step.name });
          return;
        case "stop":
          await bench.containers.stopContainer({ container: step.name, timeoutSeconds: 0 });
          return;
        case "kill":
          await bench.containers.killContainer({ container: step.name, signal: "KILL" });
          return;
        case "rm":
          await remove(step.name);
          return;
        case "volume-rm":
          await bench.volumes.removeVolume({ name: step.volume });
          return;
        case "prune":
          await bench.volumes.pruneVolumes({ filters: { all: { values: ["true"] } } });
          return;
        case "crash":
          await bench.crashBackend();
          await bench.startBackend();
      }
    };
    const check = async (): Promise<void> => {
      const { containers } = await bench.containers.listContainers({ all: true });
      const having = (wanted: string) =>
        containers.filter(({ mounts }) => mounts.some(({ name: mounted }) => mounted === wanted));
      for (const wanted of ["one", "two"]) {
        const users = having(wanted);
        const isKnown = bench.state.volumes.has(wanted);
        assert.equal(isKnown, bench.machine.volumes.has(wanted), "no volume without its file");
        if (!isKnown) {
          assert.deepEqual(users, []);
          continue;
        }
        const owner = (await statusOf(wanted))?.["owner"];
        assert.equal(owner !== undefined, users.length > 0, "a volume that is mounted has an owner");
        assert.ok(owner === undefined || users.some(({ id }) => id === owner), "the owner exists");
        const waiting = users.filter(({ id }) => id !== owner);
        assert.ok(waiting.length <= 1, "one at most waits");
        for (const { state } of waiting) {
          assert.equal(state?.status, ContainerStatus.CREATED, "what waits has not run");
        }
      }
    };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(action, { minLength: 1, maxLength: 3 }), { maxLength: 12 }),
        async (rounds) => {
          for (const round of rounds) {
            const crashes = round.filter(({ kind }) => kind === "crash");
            const others = round.filter(({ kind }) => kind !== "crash");
            await Promise.allSettled(others.map(perform)); // At once: most are refused, one way or another.
            for (const crash of crashes) {
              await perform(crash);
            }
            await check();
          }
          for (const each of names) {
            await remove(each).catch(() => undefined);
          }
          await bench.volumes.pruneVolumes({ filters: { all: { values: ["true"] } } });
          assert.deepEqual([...bench.state.volumes.keys()], []);
        },
      ),
      { numRuns: 25 },
    );
  });
});
