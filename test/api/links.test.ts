/** `docker run --link` on the default bridge, through the real docker CLI. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { callApi } from "../support/docker-api.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const setting = withDaemon();
const docker = (...args: string[]) => setting.daemon.docker(...args);
const ok = (...args: string[]) => setting.daemon.ok(...args);
const inspect = (container: string, format: string) => ok("inspect", "--format", format, container);
const sleeping = (name: string, ...flags: string[]) =>
  ok("run", "-d", "--init", "--name", name, ...flags, "busybox", "sleep", "1000");

describe("a linked container", () => {
  test("finds the other by its alias, and is told of its ports and environment", async () => {
    await sleeping("db", "--expose", "5432", "--env", "PASSWORD=secret", "--hostname", "database");
    await ok("run", "-d", "--name", "web", "--link", "db:store", "busybox", "sleep", "1000");
    const address = await inspect("db", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    assert.match(
      await ok("exec", "web", "cat", "/etc/hosts"),
      new RegExp(`^${address}\tstore database db$`, "m"),
    );
    assert.match(
      await ok("exec", "web", "ping", "-c", "1", "store"),
      new RegExp(`PING store \\(${address}\\)`),
    );
    for (const process of [
      await ok("exec", "web", "env"),
      await until(async () => {
        // Until the runtime's own process has become the container's.
        const text = await ok("exec", "web", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ");
        return text.includes("STORE_NAME") ? text : undefined;
      }),
    ]) {
      const env = process.split("\n");
      for (const entry of [
        `STORE_PORT=tcp://${address}:5432`,
        `STORE_PORT_5432_TCP_ADDR=${address}`,
        "STORE_NAME=/web/store",
        "STORE_ENV_PASSWORD=secret",
      ]) {
        assert.ok(env.includes(entry), `${entry} is not in\n${process}`);
      }
    }
    assert.equal(await inspect("web", "{{json .HostConfig.Links}}"), '["/db:/web/store"]');
    // By whatever name the other goes, and wherever it is when this one starts again.
    await ok("rename", "db", "renamed");
    assert.equal(await inspect("web", "{{json .HostConfig.Links}}"), '["/renamed:/web/store"]');
    await ok("stop", "--time", "0", "web", "renamed");
    const refused = await callApi(setting.daemon.socket, "POST", "/v1.51/containers/web/start");
    assert.deepEqual(
      [refused.status, refused.json()],
      [500, { message: "Cannot link to a non running container: /renamed AS /web/store" }],
    );
    await sleeping("between");
    await ok("start", "renamed", "web");
    const now = await inspect("renamed", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    assert.match(
      await ok("exec", "web", "cat", "/etc/hosts"),
      new RegExp(`^${now}\tstore database renamed$`, "m"),
    );
    await ok("rm", "--force", "renamed");
    assert.equal(await inspect("web", "{{json .HostConfig.Links}}"), "null");
    await ok("restart", "--time", "0", "web");
    await ok("rm", "--force", "web", "between");
  });

  test("is refused where there is nobody to link to", async () => {
    const create = async (Links: string[], NetworkMode = "bridge") => {
      const body = { Image: "busybox", HostConfig: { Links, NetworkMode } };
      const answer = await callApi(setting.daemon.socket, "POST", "/v1.51/containers/create", { body });
      return [answer.status, (answer.json() as { message: string }).message];
    };
    assert.deepEqual(await create(["nosuch:x"]), [
      400,
      "could not get container for nosuch: No such container: nosuch",
    ]);
    assert.deepEqual(await create(["a:b:c"]), [400, "bad format for links: a:b:c"]);
    await sleeping("on-machine", "--network", "host");
    assert.match(String((await create(["on-machine"]))[1]), /host type networking can't be used with links/);
    await ok("network", "create", "own");
    await sleeping("peer", "--network", "own");
    const elsewhere = await docker("run", "--rm", "--network", "own", "--link", "peer:p", "busybox", "true");
    assert.match(elsewhere.errorText, /does not support --link on a user-defined network/);
    await ok("create", "--name", "apart", "--link", "peer:p", "busybox", "true");
    assert.match((await docker("start", "apart")).errorText, /as it does not belong to the default network/);
    await ok("rm", "--force", "on-machine", "peer", "apart");
    await ok("network", "rm", "own");
  });
});
