/** `/containers/json`: which containers, in which order, with which words; and what `/info` counts. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { quickestNetwork } from "../support/backend-under-test.ts";
import { assertDescribed } from "../support/swagger.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { api } = withDaemon();

interface Summary {
  readonly Id: string;
  readonly Names: readonly string[];
  readonly Image: string;
  readonly Command: string;
  readonly Created: number;
  readonly State: string;
  readonly Status: string;
}

type Filters = Readonly<Record<string, readonly string[] | Readonly<Record<string, boolean>>>>;

const listed = (query: string) => api.expect<Summary[]>(200, "GET", `/containers/json?${query}`);
const filtered = async (filters: Filters, more = "all=1") => {
  const found = await listed(`${more}&filters=${encodeURIComponent(JSON.stringify(filters))}`);
  return found.map(({ Names }) => Names[0]?.slice(1)).join(" ");
};

describe("a list of containers", () => {
  const ids: Record<string, string> = {};

  before(async () => {
    assert.deepEqual(await listed("all=1"), [], "an empty list is none that is null");
    ids["ended"] = await api.script(
      "exit 3",
      { Labels: { tier: "back", app: "a" }, Image: "busybox:latest" },
      "ended",
    );
    await api.wait("ended");
    await api.expect(201, "POST", "/volumes/create", { Name: "shelf" });
    await api.expect(201, "POST", "/networks/create", { Name: "lane" });
    ids["serving"] = await api.run(
      {
        Cmd: ["sleep", "1000"],
        Labels: { tier: "front" },
        ExposedPorts: { "443/tcp": {} },
        Healthcheck: { Test: ["CMD", "true"], Interval: 50_000_000 },
        HostConfig: {
          NetworkMode: "lane",
          Binds: ["shelf:/shelf"],
          PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "" }] },
        },
      },
      "serving",
    );
    ids["resting"] = await api.create({ Labels: { tier: "front", app: "b" } }, "resting");
    ids["held"] = await api.run({ Cmd: ["sleep", "1000"] }, "held");
    await api.expect(204, "POST", "/containers/held/pause");
    await until(async () => ((await filtered({ health: ["healthy"] })) === "serving" ? true : undefined));
  });
  after(async () => {
    await api.remove("ended", "serving", "resting", "held");
    await api.expect(204, "DELETE", "/volumes/shelf");
    await api.expect(204, "DELETE", "/networks/lane");
  });

  test("has what runs, all with all=1, the newest first, as many as limit says", async () => {
    assert.equal(await filtered({}, ""), "held serving");
    assert.equal(await filtered({}), "held resting serving ended");
    assert.equal(await filtered({}, "limit=3"), "held resting serving");
    assert.equal(await filtered({}, "limit=0"), "held serving");
  });

  test("is as described, with the sizes that are asked for", async () => {
    for (const query of ["all=1", "all=1&size=1"]) {
      assertDescribed("get", "/containers/json", 200, await listed(query));
    }
    const [first] = (await listed("size=1")) as (Summary & { readonly SizeRootFs: number })[];
    assert.ok((first?.SizeRootFs ?? 0) > 0);
    const ended = (await listed("all=1")).find(({ Id }) => Id === ids["ended"]);
    assert.ok(Number.isInteger(ended?.Created) && Math.abs((ended?.Created ?? 0) - Date.now() / 1000) < 3600);
    assert.deepEqual([ended?.Image, ended?.Command], ["busybox:latest", "sh -c 'exit 3'"]);
  });

  test("words the states as docker ps shows them", async () => {
    const words = async (name: string) => {
      const [found] = await listed(
        `all=1&filters=${encodeURIComponent(JSON.stringify({ name: [`^/${name}$`] }))}`,
      );
      return `${found?.State}: ${found?.Status}`;
    };
    assert.match(
      await words("ended"),
      /^exited: Exited \(3\) (Less than a second|\d+ seconds?|About a minute|\d+ minutes) ago$/,
    );
    assert.match(
      await words("serving"),
      /^running: Up (Less than a second|\d+ seconds?|About a minute|\d+ minutes) \(healthy\)$/,
    );
    assert.match(
      await words("held"),
      /^paused: Up (Less than a second|\d+ seconds?|About a minute|\d+ minutes) \(Paused\)$/,
    );
    assert.equal(await words("resting"), "created: Created");
  });

  const cases: readonly (readonly [Filters, string])[] = [
    [{ name: ["^/ended$"] }, "ended"],
    [{ name: ["^e.*d$"] }, "ended"],
    [{ name: ["s"] }, "resting serving"],
    [{ name: ["ended", "held"] }, "held ended"],
    [{ label: ["tier"] }, "resting serving ended"],
    [{ label: ["tier=front"] }, "resting serving"],
    [{ label: ["tier=front", "app"] }, "resting"],
    [{ label: { "tier=front": true, app: true } }, "resting"],
    [{ status: ["exited"] }, "ended"],
    [{ status: ["created", "paused"] }, "held resting"],
    [{ status: ["running"] }, "serving"],
    [{ status: ["created"], label: ["app=a"] }, ""],
    [{ ancestor: ["busybox"] }, "held resting serving ended"],
    [{ ancestor: ["sockerless/hello"] }, ""],
    [{ network: ["lane"] }, "serving"],
    [{ network: [quickestNetwork()] }, "held resting ended"],
    [{ network: [""] }, "held resting serving ended"],
    [{ volume: ["shelf"] }, "serving"],
    [{ volume: ["/shelf"] }, "serving"],
    [{ exited: ["3"] }, "ended"],
    [{ exited: ["0"] }, ""],
    [{ health: ["healthy"] }, "serving"],
    [{ health: ["none"] }, "held resting ended"],
    [{ before: ["serving"] }, "ended"],
    [{ since: ["serving"] }, "held resting"],
    [{ expose: ["440-450/tcp"] }, "serving"],
    [{ expose: ["443/udp"] }, ""],
    [{ "is-task": ["false"] }, "held resting serving ended"],
    [{ "is-task": ["true"] }, ""],
  ];
  for (const [filters, expected] of cases) {
    test(`with ${JSON.stringify(filters)} is ${expected || "empty"}`, async () => {
      assert.equal(await filtered(filters), expected);
    });
  }

  test("takes IDs, whole and shortened", async () => {
    const id = ids["ended"] ?? "";
    assert.equal(await filtered({ id: [id] }), "ended");
    assert.equal(await filtered({ id: [id.slice(0, 12)] }), "ended");
    assert.equal(await filtered({ ancestor: [(await api.inspect(id)).Image] }), "held resting serving ended");
  });

  test("takes an image for all that were committed on it", async () => {
    const middle = await api.expect<{ Id: string }>(
      201,
      "POST",
      `/commit?container=${ids["ended"]}&repo=mid`,
    );
    const first = await api.create({ Image: middle.Id }, "of-middle");
    const top = await api.expect<{ Id: string }>(201, "POST", `/commit?container=${first}&repo=top`);
    const last = await api.create({ Image: top.Id }, "of-top");
    assert.equal(await filtered({ ancestor: ["mid"] }), "of-top of-middle");
    assert.equal(await filtered({ ancestor: ["busybox"] }), "of-top of-middle held resting serving ended");
    await api.remove(first, last);
  });

  test("knows ports by their number on this machine where they are published", async () => {
    const [binding] = (await api.inspect("serving")).NetworkSettings.Ports["80/tcp"] ?? [];
    const port = binding?.HostPort ?? "";
    assert.equal(await filtered({ publish: [port] }), "serving");
    assert.equal(await filtered({ publish: [`${port}/udp`] }), "");
    assert.equal(await filtered({ publish: ["80"] }), "");
    assert.equal(await filtered({ expose: ["80"] }), "serving");
  });

  test("refuses what it does not know", async () => {
    const refused = (filters: string, message: string | RegExp) =>
      api.refuses(400, message, "GET", `/containers/json?filters=${encodeURIComponent(filters)}`);
    await refused('{"colour":["red"]}', "invalid filter 'colour'");
    await refused('{"status":["tired"]}', /invalid filter 'status=tired'/);
    await refused('{"exited":["x"]}', /invalid filter 'exited=x'/);
    await refused("nonsense", /invalid filter/);
  });

  test("agrees with what /info counts", async () => {
    const info = await api.expect<Record<string, unknown>>(200, "GET", "/info");
    assert.deepEqual(
      [info["Containers"], info["ContainersRunning"], info["ContainersPaused"], info["ContainersStopped"]],
      [4, 1, 1, 2],
    );
  });
});
