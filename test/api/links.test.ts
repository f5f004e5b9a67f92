/** Links between containers, on the default bridge and on a network of their own, through the real docker CLI. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { backendUnderTest } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, inspect } = withDaemon();
const sleeping = (name: string, ...flags: string[]) =>
  ok("run", "-d", "--init", "--name", name, ...flags, "busybox", "sleep", "1000");
/** The address by which a container is reached on a network. */
const addressOf = async (container: string, network = "bridge") => {
  const endpoint = `(index .NetworkSettings.Networks "${network}")`;
  const address = await inspect(
    container,
    ["ecs", "kubernetes"].includes(backendUnderTest())
      ? `{{index ${endpoint}.DriverOpts "com.sockerless.address"}}`
      : `{{${endpoint}.IPAddress}}`,
  );
  return backendUnderTest() === "aca" ? address.replace(/^\d+/, "127") : address; // on its peers' loopback
};
const hosts = () => ok("exec", "web", "cat", "/etc/hosts");
/** Starts a container again until it has another address: others take the one that it had. */
async function move(container: string): Promise<void> {
  const before = await addressOf(container);
  const taken: string[] = [];
  do {
    await ok("stop", "--time", "0", container);
    if (["ecs", "kubernetes"].includes(backendUnderTest())) {
      await ok("update", "--cpus", String(0.5 + (taken.length % 2) / 2), container); // In another task, therefore.
    }
    taken.push(await sleeping(`taker-${taken.length}`));
    await ok("start", container);
  } while ((await addressOf(container)) === before);
  await ok("rm", "--force", ...taken);
}

describe("a linked container", () => {
  test("finds the other by its alias, and is told of its ports and environment", async () => {
    await sleeping("db", "--expose", "5432", "--env", "PASSWORD=secret", "--hostname", "database");
    const main = ["busybox", "sh", "-c", "env; exec sleep 1000"];
    await ok("run", "-d", "--name", "web", "--link", "db:store", ...main);
    const address = await addressOf("db");
    assert.match(await hosts(), new RegExp(`^${address}\tstore database db$`, "m"));
    for (const process of [
      await ok("exec", "web", "env"),
      await until(async () => {
        const text = await ok("logs", "web");
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
    // The other's new address is in the file before its start is answered; other lines that were written
    // stay.
    await ok("exec", "web", "sh", "-c", "echo '192.0.2.1\tmine' >> /etc/hosts");
    await move("db");
    assert.match(
      await hosts(),
      new RegExp(`^${await addressOf("db")}\tstore database db\n(.*\n)*192.0.2.1\tmine$`, "m"),
    );
    assert.equal(await inspect("web", "{{json .HostConfig.Links}}"), '["/db:/web/store"]');
    // The link holds when the other is renamed, and when it has moved before this one starts again.
    await ok("rename", "db", "renamed");
    assert.equal(await inspect("web", "{{json .HostConfig.Links}}"), '["/renamed:/web/store"]');
    await ok("stop", "--time", "0", "web", "renamed");
    const refused = await callApi(daemon.socket, "POST", "/v1.51/containers/web/start");
    assert.deepEqual(
      [refused.status, refused.json()],
      [500, { message: "Cannot link to a non running container: /renamed AS /web/store" }],
    );
    await ok("start", "renamed", "web");
    assert.match(await hosts(), new RegExp(`^${await addressOf("renamed")}\tstore database renamed$`, "m"));
    await ok("rm", "--force", "renamed");
    assert.equal(await inspect("web", "{{json .HostConfig.Links}}"), "null");
    await ok("restart", "--time", "0", "web");
    await ok("rm", "--force", "web");
  });

  test("is refused where there is nobody to link to", async () => {
    const create = async (Links: string[], NetworkMode = "bridge") => {
      const body = { Image: "busybox", HostConfig: { Links, NetworkMode } };
      const answer = await callApi(daemon.socket, "POST", "/v1.51/containers/create", { body });
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
    await ok("create", "--name", "apart", "--link", "peer:p", "busybox", "true");
    assert.match((await docker("start", "apart")).errorText, /as it does not belong to the default network/);
    await ok("rm", "--force", "on-machine", "peer", "apart");
    await ok("network", "rm", "own");
  });

  test("on a network of its own knows the other by a name that nobody else knows", async () => {
    await ok("network", "create", "own");
    await sleeping("peer", "--network", "own");
    await sleeping("other", "--network", "own", "--network-alias", "p");
    await sleeping("web", "--network", "own", "--link", "peer:p", "--link", "peer:q");
    const found = (asker: string, name: string) =>
      docker("exec", asker, "nslookup", "-type=a", name, "127.0.0.11");
    for (const name of ["p", "q", "q.own", "peer"]) {
      assert.match(
        (await found("web", name)).text,
        new RegExp(`Address: ${await addressOf("peer", "own")}$`, "m"),
      );
    }
    // Nothing tells a job's own: its name is its interface's address there.
    const own = backendUnderTest() === "aca" ? "(?!127)[\\d.]+" : await addressOf("other", "own");
    assert.match(
      (await found("other", "p")).text.replace(/^.*Name:/s, ""),
      new RegExp(`Address: ${own}$`, "m"),
    );
    assert.notEqual((await found("other", "q")).code, 0);
    assert.equal(
      await inspect("web", "{{json .NetworkSettings.Networks.own.Links}} {{json .HostConfig.Links}}"),
      '["peer:p","peer:q"] null',
    );
    await ok("stop", "--time", "0", "peer");
    assert.notEqual((await found("web", "p")).code, 0);
    await ok("start", "peer");
    assert.match(
      (await found("web", "p")).text,
      new RegExp(`Address: ${await addressOf("peer", "own")}$`, "m"),
    );
    const body = { EndpointsConfig: { own: { Links: ["a:b:c"] } } };
    const made = await callApi(daemon.socket, "POST", "/v1.51/containers/create?name=wrong", {
      body: { Image: "busybox", HostConfig: { NetworkMode: "own" }, NetworkingConfig: body },
    });
    assert.equal(made.status, 201);
    assert.match((await docker("start", "wrong")).errorText, /bad format for links: a:b:c/);
    await ok("rm", "--force", "web", "peer", "other", "wrong");
    await ok("network", "rm", "own");
  });

  test("has one more name, by which it is found and listed while the link is there", async () => {
    await sleeping("mysql");
    await sleeping("app", "--link", "mysql:/data");
    const id = await inspect("mysql", "{{.Id}}");
    const names = async (filter: string) => {
      const query = encodeURIComponent(JSON.stringify({ name: [filter] }));
      const answer = await callApi(daemon.socket, "GET", `/containers/json?filters=${query}`);
      return (answer.json() as { readonly Names: string[] }[]).map(({ Names }) => Names);
    };
    assert.deepEqual(await names("mysql"), [["/app/data", "/mysql"]]);
    assert.deepEqual(await names("app/data"), [["/app/data", "/mysql"]]);
    assert.equal(await inspect("app/data", "{{.Id}}"), id);
    assert.equal(await inspect("app", "{{json .HostConfig.Links}}"), '["/mysql:/app/data"]');
    await ok("rename", "app", "shop");
    assert.equal(await inspect("/shop/data", "{{.Id}}"), id);
    assert.equal((await docker("inspect", "app/data")).code, 1);
    assert.equal((await docker("rm", "--link", "shop")).code, 1);
    await ok("rm", "--link", "shop/data");
    assert.deepEqual(await names("mysql"), [["/mysql"]]);
    assert.equal(await inspect("shop", "{{json .HostConfig.Links}}"), "null");
    await ok("rm", "--force", "shop", "mysql");
  });
});
