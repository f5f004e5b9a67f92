/** Events of everything that can happen, in dockerd's words and order, as `/events` tells them. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { describe, test } from "node:test";

import { backendUnderTest } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { busyboxImage, busyboxRootfsFile } from "../support/images.ts";
import { type EventFilters, pastEvents, type ToldEvent } from "../support/past-events.ts";
import { TestRegistry } from "../support/registry.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok, api } = withDaemon();
const events = (filters?: EventFilters) => pastEvents(daemon, filters);
/** Without the phases of starts in the cloud, which are no events of dockerd's. */
const actionsOf = async (filters: EventFilters) =>
  (await events(filters)).map(({ Action }) => Action).filter((action) => !action.startsWith("start_"));

/** A container that ends by itself as soon as it is told to stop. */
const obedient = (name: string, ...flags: string[]) =>
  ok("run", "-d", "--init", "--name", name, ...flags, "busybox", "sleep", "1000");

/** Actions of a container's events after those of its start. */
async function actionsAfterStart(id: string): Promise<string[]> {
  const actions = await actionsOf({ container: [id], type: ["container"] });
  return actions.slice(actions.indexOf("start") + 1);
}

describe("events of containers", () => {
  test("a stop is kill, die with the exit code, and stop", async () => {
    const id = await obedient("stopped");
    await ok("stop", "stopped");
    assert.deepEqual(await actionsAfterStart(id), ["kill", "die", "stop"]);
    const [kill] = await events({ container: [id], event: ["kill"] });
    assert.equal(kill?.Actor.Attributes["signal"], "15");
    const [die] = await events({ container: [id], event: ["die"] });
    assert.equal(die?.Actor.Attributes["exitCode"], "143");
    assert.deepEqual(
      [die?.Actor.ID, die?.Actor.Attributes["name"], die?.Actor.Attributes["image"]],
      [id, "stopped", "busybox"],
    );
    await ok("rm", "stopped");
  });

  test("a forced removal of a running one is kill, die and destroy", async () => {
    const id = await obedient("forced");
    await ok("rm", "--force", "forced");
    assert.deepEqual(await actionsAfterStart(id), ["kill", "die", "destroy"]);
  });

  test("a restart is kill, die, stop, start and restart", async () => {
    const id = await obedient("again");
    await ok("restart", "again");
    assert.deepEqual(await actionsAfterStart(id), ["kill", "die", "stop", "start", "restart"]);
    await ok("rm", "--force", "again");
  });

  test("an exec is its creation and start with the command, and its end with the code", async () => {
    const id = await obedient("executing");
    await daemon.docker("exec", "executing", "sh", "-c", "exit 7");
    const told = (await events({ container: [id] })).filter(({ Action }) => Action.startsWith("exec_"));
    assert.deepEqual(
      told.map(({ Action }) => Action),
      ["exec_create: sh -c exit 7", "exec_start: sh -c exit 7", "exec_die"],
    );
    assert.equal(told.at(-1)?.Actor.Attributes["exitCode"], "7");
    const [created, started, died] = told.map(({ Actor }) => Actor.Attributes["execID"]);
    assert.match(created ?? "", /^[0-9a-f]{64}$/);
    assert.deepEqual([started, died], [created, created]);
    await ok("rm", "--force", "executing");
  });

  test("the other verbs have one event each", async () => {
    const id = await obedient("handled", "--tty");
    await api.call("POST", `/containers/${id}/resize?h=30&w=90`);
    await ok("rename", "handled", "renamed");
    await ok("pause", "renamed");
    await ok("unpause", "renamed");
    await ok("update", "--restart", "no", "renamed");
    await ok("top", "renamed");
    assert.deepEqual(await actionsAfterStart(id), ["resize", "rename", "pause", "unpause", "update", "top"]);
    const [resize] = await events({ container: [id], event: ["resize"] });
    assert.deepEqual([resize?.Actor.Attributes["height"], resize?.Actor.Attributes["width"]], ["30", "90"]);
    const [rename] = await events({ container: [id], event: ["rename"] });
    assert.equal(rename?.Actor.Attributes["oldName"], "/handled");
    await ok("rm", "--force", "renamed");
  });

  test("an attachment is one, before the start", async () => {
    const id = await ok("create", "--name", "attached", "busybox", "true");
    await ok("start", "--attach", "attached");
    assert.deepEqual(await actionsOf({ container: [id], type: ["container"] }), [
      "create",
      "attach",
      "start",
      "die",
    ]);
    await ok("rm", "attached");
  });

  test("a health check's change of mind names what it came to", async () => {
    const check = ["--health-cmd", "true", "--health-interval", "50ms"];
    const id = await obedient("healthy", ...check);
    const told = await until(async () => {
      const found = await events({ container: [id], event: ["health_status"] });
      return found.length > 0 ? found : undefined;
    });
    assert.equal(told[0]?.Action, "health_status: healthy");
    await ok("rm", "--force", "healthy");
  });
});

describe("events of other objects", () => {
  test("a network is created, connected, disconnected and destroyed", async () => {
    const id = await ok("network", "create", "told");
    const container = await obedient("member", "--network", "told");
    await ok("rm", "--force", "member");
    await ok("network", "rm", "told");
    const told = await events({ network: [id] });
    assert.deepEqual(
      told.map(({ Action }) => Action),
      ["create", "connect", "disconnect", "destroy"],
    );
    assert.ok(told.every(({ Type, Actor }) => Type === "network" && Actor.Attributes["name"] === "told"));
    assert.deepEqual(
      told.map(({ Actor }) => Actor.Attributes["container"]),
      [undefined, container, container, undefined],
    );
  });

  test("a volume is created, mounted, unmounted and destroyed", async () => {
    const container = await obedient("user", "--volume", "kept:/data:ro");
    await ok("rm", "--force", "user");
    await ok("volume", "rm", "kept");
    const told = await events({ volume: ["kept"] });
    assert.deepEqual(
      told.map(({ Action }) => Action),
      ["create", "mount", "unmount", "destroy"],
    );
    assert.deepEqual(told[1]?.Actor, {
      ID: "kept",
      Attributes: {
        container,
        destination: "/data",
        driver: backendUnderTest() === "aca" ? "azure-files" : "local",
        propagation: "",
        "read/write": "false",
      },
    });
  });

  test("an image is pulled, tagged, untagged, deleted, imported, saved and loaded", async () => {
    await using registry = await TestRegistry.start();
    const pulled = `${registry.host}/told:1`;
    await registry.push("told", "1", await busyboxImage({ Cmd: ["echo", "told"] }));
    const before = (await events({ type: ["image"] })).length;
    await ok("pull", pulled);
    const id = await ok("inspect", "-f", "{{.Id}}", pulled);
    await ok("tag", pulled, "told:2");
    const saved = await daemon.docker("save", "told:2");
    await ok("rmi", pulled, "told:2");
    await daemon.dockerWith({ input: saved.stdout }, "load");
    const imported = await ok("import", await busyboxRootfsFile(), "told:3");
    await ok("rmi", "told:2", "told:3");
    const told = (await events({ type: ["image"] }))
      .slice(before)
      .map(({ Action, Actor }) => [Action, Actor.ID]);
    // The digest by which an image was pulled is a name too, and is untagged with the last tag of its repository.
    assert.deepEqual(told, [
      ["pull", pulled],
      ["tag", id],
      ["save", id],
      ["untag", id],
      ["untag", id],
      ["untag", id],
      ["delete", id],
      ["load", id],
      ["tag", imported],
      ["import", imported],
      ["untag", id],
      ["delete", id],
      ["untag", imported],
      ["delete", imported],
    ]);
  });

  test("a prune is one, with the space it took", async () => {
    for (const [object, path] of Object.entries({
      container: "/containers/prune",
      volume: "/volumes/prune",
      network: "/networks/prune",
      image: "/images/prune",
    })) {
      await api.call("POST", path);
      const told = (await events({ type: [object], event: ["prune"] })).at(-1);
      assert.match(told?.Actor.Attributes["reclaimed"] ?? "", /^\d+$/, object);
    }
  });
});

describe("the stream of events", () => {
  test("has one object a line, with both times and the scope", async () => {
    const [first] = await events();
    assert.ok(first !== undefined);
    assert.equal(first.scope, "local");
    assert.equal(first.time, Math.floor(first.timeNano / 1e9));
  });

  test("is bounded by since and until, inclusive and to the nanosecond", async () => {
    await ok("volume", "create", "one");
    await ok("volume", "create", "two");
    await ok("volume", "create", "three");
    const all = (await callApi(daemon.socket, "GET", `/events?since=0&until=${(Date.now() + 2) / 1000}`))
      .text;
    const nanos = (name: string): string => {
      const line = all.split("\n").find((each) => each.includes(`"ID":"${name}"`)) ?? "";
      return /"timeNano":(\d+)/.exec(line)?.[1] ?? "";
    };
    const seconds = (ns: string): string => `${ns.slice(0, -9)}.${ns.slice(-9)}`;
    const between = async (since: string, till: string) => {
      const query = new URLSearchParams({ since, until: till, filters: '{"type":["volume"]}' });
      const { text } = await api.call("GET", `/events?${query}`);
      const lines = text.split("\n").filter((line) => line !== "");
      return lines.map((line) => (JSON.parse(line) as ToldEvent).Actor.ID);
    };
    assert.deepEqual(await between(seconds(nanos("two")), seconds(nanos("three"))), ["two", "three"]);
    await ok("volume", "rm", "one", "two", "three");
  });

  test("ends at until, and tells what was before it, without since too", async () => {
    await ok("volume", "create", "early");
    await ok("volume", "rm", "early");
    const filters = '{"volume":["early"]}';
    for (const aheadMs of [2, 1000]) {
      const till = String((Date.now() + aheadMs) / 1000);
      const { status, text } = await api.call(
        "GET",
        `/events?${new URLSearchParams({ until: till, filters })}`,
      );
      assert.equal(status, 200);
      const actions = text.split("\n").filter((line) => line !== "");
      assert.deepEqual(
        actions.map((line) => (JSON.parse(line) as ToldEvent).Action),
        ["create", "destroy"],
      );
    }
  });

  test("goes on with what happens until its client leaves", async () => {
    const leave = new AbortController();
    const query = new URLSearchParams({ filters: '{"volume":["followed"]}' });
    const seen: string[] = [];
    const connected = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    const following = request({
      socketPath: daemon.socket,
      path: `/v1.51/events?${query}`,
      signal: leave.signal,
    });
    following.on("error", () => ended.resolve());
    following.on("response", (response) => {
      connected.resolve();
      response.on("error", () => ended.resolve());
      let text = "";
      response.on("data", (chunk: Buffer) => {
        const lines = (text + chunk.toString()).split("\n");
        text = lines.pop() ?? "";
        seen.push(...lines.map((line) => (JSON.parse(line) as ToldEvent).Action));
      });
    });
    following.end();
    await connected.promise;
    await ok("volume", "create", "followed");
    await ok("volume", "rm", "followed");
    await until(() => seen.length >= 2 || undefined);
    assert.deepEqual(seen, ["create", "destroy"]);
    leave.abort();
    await ended.promise;
  });

  test("is filtered: values of one key are alternatives, keys are all to hold", async () => {
    const one = await ok("create", "--name", "blue", "--label", "colour=blue", "busybox", "true");
    const two = await ok("create", "--name", "red", "--label", "colour=red", "busybox", "true");
    await ok("rm", "blue", "red");
    const told = async (filters: EventFilters) =>
      (await events(filters)).map(({ Action, Actor }) => `${Action} ${Actor.Attributes["name"]}`);
    assert.deepEqual(await told({ container: [one, "red"], event: ["create"] }), [
      "create blue",
      "create red",
    ]);
    assert.deepEqual(await told({ label: ["colour=red"] }), ["create red", "destroy red"]);
    assert.deepEqual(await told({ label: ["colour=red"], container: [one] }), []);
    assert.deepEqual(await told({ image: ["busybox"], container: [two], event: ["destroy"] }), [
      "destroy red",
    ]);
    assert.deepEqual(await told({ type: ["container"], container: [two], scope: ["local"] }), [
      "create red",
      "destroy red",
    ]);
  });
});
