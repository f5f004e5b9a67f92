import assert from "node:assert/strict";
import { before, describe, it } from "node:test";

import { messageOf } from "../../../src/common/errors.ts";
import { duringTests } from "../../support/during-tests.ts";
import { EngineBench } from "../engine-bench.ts";

describe("listings of containers", () => {
  const bench = duringTests(() => EngineBench.start());
  let one: string;
  let two: string;
  before(async () => {
    one = await bench.runScript("exit 3", { name: "one", config: { labels: { tier: "x", app: "a" } } });
    await bench.wait(one);
    two = await bench.runScript("exec sleep 1000", {
      name: "two",
      config: { labels: { tier: "x" }, exposedPorts: ["443/tcp"] },
      hostConfig: {
        binds: ["data:/data"],
        portBindings: [{ containerPort: "80/tcp", hostPort: "8080" }],
      },
    });
    await bench.createScript("true", { name: "three", hostConfig: { networkMode: "none" } });
  });

  const names = async (
    filters: Record<string, string[]> = {},
    more: { all?: boolean; limit?: number } = {},
  ) => {
    const { containers } = await bench.containers.listContainers({
      all: true,
      ...more,
      filters: Object.fromEntries(Object.entries(filters).map(([key, values]) => [key, { values }])),
    });
    return containers.map((container) => container.names[0]?.slice(1)).join(" ");
  };

  it("leave out containers of builds unless a filter names their label, and so do prunes", async () => {
    await bench.createScript("true", {
      name: "step",
      config: { labels: { "sockerless.build": "container" } },
    });
    assert.equal(await names(), "three two one");
    assert.equal(await names({ label: ["sockerless.build"] }), "step");
    const { removed } = await bench.containers.pruneContainers({
      filters: { label: { values: ["sockerless.build"] } },
    });
    assert.deepEqual(removed, []);
    await bench.containers.removeContainer({ container: "step" });
  });

  it("show the newest first, running ones only unless asked for all", async () => {
    assert.equal(await names({}, { all: false }), "two");
    assert.equal(await names(), "three two one");
    assert.equal(await names({}, { all: false, limit: 2 }), "three two");
  });

  it("have sizes when they are asked for, which agents are not asked for again at once", async () => {
    const sizes = async (size: boolean) => {
      const { containers } = await bench.containers.listContainers({ all: true, size });
      return containers.map((container) => container.sizeRw);
    };
    assert.deepEqual(await sizes(false), [undefined, undefined, undefined]);
    const { calls } = bench.machine.agentOf(two);
    const asked = () => calls.filter((call) => call === "diskUsage").length;
    assert.equal(asked(), 0);
    const told = await Promise.all([sizes(true), sizes(true)]);
    assert.deepEqual(told, [
      [undefined, 4096n, undefined],
      [undefined, 4096n, undefined],
    ]);
    assert.deepEqual((await sizes(true))[1], 4096n);
    assert.equal(asked(), 1);
  });

  it("are filtered as Docker does", async () => {
    const expected: readonly (readonly [Record<string, string[]>, string])[] = [
      [{ name: ["^/two$"] }, "two"],
      [{ name: ["t"] }, "three two"],
      [{ id: [one.slice(0, 6)] }, "one"],
      [{ id: [one], name: ["two"] }, ""],
      [{ label: ["tier=x"] }, "two one"],
      [{ label: ["tier=x", "app"] }, "one"],
      [{ status: ["exited", "created"] }, "three one"],
      [{ exited: ["3"] }, "one"],
      [{ ancestor: ["shell"] }, "three two one"],
      [{ ancestor: ["nothing"] }, ""],
      [{ network: ["none"] }, "three"],
      [{ network: ["bridge"] }, "two one"],
      [{ isolation: ["hyperv"] }, "three two one"],
      [{ volume: ["data"] }, "two"],
      [{ volume: ["/data"] }, "two"],
      [{ before: ["two"] }, "one"],
      [{ since: ["one"] }, "three two"],
      [{ publish: ["8000-8080"] }, "two"],
      [{ expose: ["443/tcp"] }, "two"],
      [{ health: ["none"] }, "three two one"],
      [{ "is-task": ["true"] }, ""],
    ];
    for (const [filters, wanted] of expected) {
      assert.equal(await names(filters), wanted, JSON.stringify(filters));
    }
  });

  it("refuse filters in Docker's words", async () => {
    const refusals: readonly (readonly [Record<string, string[]>, RegExp])[] = [
      [{ colour: ["red"] }, /^invalid filter 'colour'$/],
      [
        { status: ["tired"] },
        /^invalid filter 'status=tired': invalid value for state \(tired\): must be one of/,
      ],
      [{ exited: ["x"] }, /^invalid filter 'exited=x'/],
      [{ before: [""] }, /^No such container: $/],
      [{ since: [""] }, /^No such container: $/],
      [{ publish: ["1:2"] }, /^filter for 'publish' should not contain ':': 1:2$/],
      [{ "is-task": ["maybe"] }, /^invalid filter 'is-task=\[maybe\]'$/],
    ];
    for (const [filters, message] of refusals) {
      await assert.rejects(names(filters), (error) => message.test(messageOf(error)));
    }
  });

  it("find a container by a prefix, unless several begin so", async () => {
    const ids: string[] = [];
    const inspect = async (container: string) =>
      (await bench.containers.inspectContainer({ container })).container?.id;
    assert.equal(await inspect(one.slice(0, 20)), one);
    // With 17 containers two share their first digit.
    while (new Set(ids.map((id) => id[0])).size === ids.length) {
      ids.push(await bench.createScript("true"));
    }
    const shared =
      ids.find((id, index) => ids.some((other, at) => at !== index && other[0] === id[0]))?.[0] ?? "";
    await assert.rejects(
      inspect(shared),
      (error) => messageOf(error) === `multiple IDs found with provided prefix: ${shared}`,
    );
  });
});
