/** Requests whose lists cost with one another: what is joined with all of another list is bounded. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { EngineBench } from "../engine-bench.ts";

const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

const refused = (pattern: RegExp) => (error: unknown) => {
  assert.ok(isErrorKind(error, "invalid"), messageOf(error));
  assert.match(messageOf(error), pattern);
  return true;
};

describe("a container", () => {
  const bench = EngineBench.ofEach();

  const running = async (name: string, env: string[] = []) => {
    const id = await bench.createScript("exec sleep 1000", { name, config: { env } });
    await bench.containers.startContainer({ container: id });
    return id;
  };

  it("has a bounded number of links, with a bounded environment", async () => {
    await running(
      "db",
      times(10_000, (index) => `VARIABLE_${index}=${"x".repeat(100)}`),
    );
    const linked = (count: number) =>
      bench.createScript("true", { hostConfig: { links: times(count, (index) => `db:alias-${index}`) } });
    await assert.rejects(linked(257), refused(/^too many links: 257, at most 256$/));
    const container = await linked(256);
    await assert.rejects(
      bench.containers.startContainer({ container }),
      refused(/environment of the links is too long: more than 2097152 characters/),
    );
    await bench.containers.removeContainer({ container });
  });

  it("shows of the commands of its execs no more than 65,536 characters, and not their variables", async () => {
    const container = await running("runs");
    const config = { cmd: ["echo", "", "x".repeat(100_000), "y"], env: ["A=b"] };
    const { id: execId } = await bench.execs.createExec({ container, config });
    const { config: shown } = await bench.execs.inspectExec({ execId });
    assert.deepEqual(shown?.cmd, ["echo", "", "x".repeat(64 * 1024 - "echo".length - 2)]);
    assert.deepEqual(shown?.env, []);
  });

  it("cannot link to containers whose network modes form a cycle", async () => {
    await bench.createScript("true", { name: "first", hostConfig: { networkMode: "container:second" } });
    await bench.createScript("true", { name: "second", hostConfig: { networkMode: "container:first" } });
    await assert.rejects(
      bench.createScript("true", { hostConfig: { links: ["first:alias"] } }),
      refused(/^cannot link to \/first: the network modes of containers form a cycle$/),
    );
  });

  it("has a bounded number of mounts, those of other containers included", async () => {
    const tooMany = refused(/a container has at most 4096 mounts$/);
    const bound = (count: number, volumesFrom: string[] = []) =>
      bench.createScript("true", {
        name: `with-${count}`,
        hostConfig: { binds: times(count, (index) => `/tmp:/mnt/${index}`), volumesFrom },
      });
    await assert.rejects(bound(4_097), tooMany);
    await bound(4_096);
    await assert.rejects(bound(1, ["with-4096"]), tooMany);
    await bound(500);
    await assert.rejects(
      bound(
        0,
        times(40, () => "with-500"),
      ),
      tooMany,
    );
  });

  it("has a bounded number of anonymous volumes, its image's included, and makes none beyond", async () => {
    const tooMany = refused(
      /a container has at most 256 anonymous volumes of its own, its image's included$/,
    );
    const paths = times(256, (index) => `/v/${index}`);
    const mounts = [{ type: "volume", target: "/own" }];
    await assert.rejects(
      bench.createScript("true", { config: { volumes: paths }, hostConfig: { mounts } }),
      tooMany,
    );
    assert.equal((await bench.volumes.listVolumes({})).volumes.length, 0);
    const donor = await bench.createScript("true", { config: { volumes: paths } });
    const hostConfig = { volumesFrom: [donor], mounts };
    await bench.createScript("true", { config: { volumes: paths }, hostConfig });
    assert.equal((await bench.volumes.listVolumes({})).volumes.length, 257);
  });

  it("mounts images with a bounded number of layers, which its record names", async () => {
    const mounted = (count: number) =>
      bench.createScript("true", {
        hostConfig: {
          mounts: times(count, (index) => ({ type: "image", source: "shell", target: `/mnt/${index}` })),
        },
      });
    await assert.rejects(mounted(1_001), refused(/the mounted images have at most 1000 layers together$/));
    await mounted(500);
  });

  it("has a bounded number of networks, and of aliases on each", async () => {
    const endpoints = (count: number) =>
      Object.fromEntries(times(count, (index) => [`network-${index}`, {}] as const));
    await assert.rejects(
      bench.createScript("true", { networking: { endpoints: endpoints(257) } }),
      refused(/^too many networks: 257, at most 256$/),
    );
    await bench.createScript("true", { networking: { endpoints: endpoints(256) } });
    for (const aliases of [times(129, (index) => `alias-${index}`), times(20, () => "a".repeat(253))]) {
      await assert.rejects(
        bench.createScript("true", { networking: { endpoints: { own: { aliases } } } }),
        refused(/^too many aliases: at most 128, of 4096 characters together$/),
      );
    }
  });

  it("has a name of at most 255 characters, as a network has", async () => {
    const long = refused(/has more than 255 characters$/);
    const name = "n".repeat(255);
    await bench.createScript("true", { name });
    await assert.rejects(bench.createScript("true", { name: `${name}n` }), long);
    await assert.rejects(bench.containers.renameContainer({ container: name, name: `${name}n` }), long);
    await assert.rejects(bench.networks.createNetwork({ name: `${name}n` }), long);
  });
});
