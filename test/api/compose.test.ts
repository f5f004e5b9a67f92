/**
 * A project of docker compose v2: two services, an alias and a link, a named volume, a dependency that waits for health.
 * Where compose cannot be built, the test fails, unless SOCKERLESS_WITHOUT_COMPOSE is 1.
 */
import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { backendUnderTest } from "../support/backend-under-test.ts";
import { FollowingClient } from "../support/following-client.ts";
import { until } from "../support/until.ts";
import { pluginLimitMs, findPlugin, installPlugin } from "../support/cli-plugins.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { isSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon, ok } = withDaemon();
let project = "";

/** Runs `docker compose` on the project; throws where it fails. */
const compose = (...args: string[]) =>
  ok("compose", "--ansi", "never", "--project-directory", project, "--project-name", "shop", ...args);

/** A volume that one container alone may have, and one with options. */
const driversOfMachine = `disk: { driver: block, driver_opts: { size: 64M } }
  given: { driver_opts: { type: tmpfs, device: tmpfs, o: size=1m } }`;

/** The project; `greeting` is what the database answers with. */
const services = (greeting: string) => `
services:
  database:
    image: busybox
    command: sh -c 'sleep 0.3; echo serving; exec nc -ll -p 80 -e echo $$GREETING'
    environment:
      GREETING: ${greeting}
    volumes: [ "kept:/data", "disk:/disk", "given:/given" ]
    networks:
      inner: { aliases: [ db ] }
    healthcheck: { test: netstat -ltn | grep -q :80, interval: 100ms, retries: 1000 }
    stop_grace_period: 0s
  web:
    image: busybox
    command: sh -c 'nc -w 60 db 80; echo connected; exec sleep 1000'
    depends_on:
      database: { condition: service_healthy }
    networks: [ inner, outer ]
    links: [ "database:store" ]
    develop: { watch: [ { action: sync, path: ./watched, target: /watched } ] }
    stop_grace_period: 0s
networks:
  inner: { internal: true }
  outer: {}
volumes:
  kept: {}
  ${backendUnderTest() === "local" ? driversOfMachine : "disk: {}\n  given: {}"}
`;

const write = (greeting: string) => writeFile(join(project, "compose.yaml"), services(greeting));

interface ListedService {
  readonly Service: string;
  readonly State: string;
  readonly Health: string;
}

async function listed(): Promise<Record<string, string>> {
  const lines = (await compose("ps", "--format", "json")).split("\n").filter((line) => line !== "");
  const found = lines.map((line) => JSON.parse(line) as ListedService);
  return Object.fromEntries(
    found.map(({ Service, State, Health }) => [Service, `${State} ${Health}`.trim()]),
  );
}

/** The first run builds it, and then there is as much to do as in other tests together. */
const timeout = pluginLimitMs + 10 * 60_000;

test("docker compose brings a project up, runs in it, recreates what changed and takes it down", {
  timeout,
}, async (t) => {
  const found = await findPlugin("compose");
  if ("missing" in found) {
    assert.equal(process.env["SOCKERLESS_WITHOUT_COMPOSE"], "1", found.missing);
    t.skip(found.missing);
    return;
  }
  await installPlugin(daemon, found.path);
  project = scratchDirectory();
  await mkdir(join(project, "watched"));
  await write("hello");
  await t.test("up --wait ends when all services are healthy or run", async () => {
    await compose("up", "--detach", "--wait");
    assert.deepEqual(await listed(), { database: "running healthy", web: "running" });
  });
  await t.test(
    "a service finds another by alias and link, and was started once that was healthy",
    async () => {
      await until(
        async () =>
          /web-1 +\| hello\nweb-1 +\| connected/.test(await compose("logs", "--no-color", "web")) ||
          undefined,
      );
      for (const name of ["database", "store"]) {
        assert.equal(await compose("exec", "-T", "web", "nc", "-w", "60", name, "80"), "hello");
      }
    },
  );
  await t.test("containers carry the project's labels", async () => {
    const filter = ["--filter", "label=com.docker.compose.project=shop"];
    assert.deepEqual(
      (await ok("ps", ...filter, "--format", '{{.Names}} {{.Label "com.docker.compose.service"}}'))
        .split("\n")
        .sort(),
      ["shop-database-1 database", "shop-web-1 web"],
    );
    assert.deepEqual((await ok("network", "ls", ...filter, "--format", "{{.Name}}")).split("\n").sort(), [
      "shop_inner",
      "shop_outer",
    ]);
  });
  await t.test("up again changes nothing", async () => {
    const before = await compose("ps", "--quiet");
    await compose("up", "--detach", "--wait");
    assert.equal(await compose("ps", "--quiet"), before);
  });
  await t.test(
    "up recreates the service that changed, on the same volume and under the same names",
    async () => {
      const before = await compose("ps", "--quiet", "database");
      await compose("exec", "-T", "database", "sh", "-c", "echo kept | tee /data/file > /disk/file");
      await write("good day");
      await compose("up", "--detach", "--wait");
      assert.notEqual(await compose("ps", "--quiet", "database"), before);
      assert.equal(await compose("exec", "-T", "database", "cat", "/data/file"), "kept");
      assert.equal(await compose("exec", "-T", "database", "cat", "/disk/file"), "kept");
      assert.equal(await compose("exec", "-T", "web", "nc", "-w", "60", "db", "80"), "good day");
    },
  );
  await t.test("run starts a service's container of its own, on its networks", async () => {
    assert.equal(
      await compose("run", "--rm", "--no-deps", "-T", "web", "nc", "-w", "60", "db", "80"),
      "good day",
    );
  });
  await t.test("cp carries files into a service and out of it", async () => {
    await writeFile(join(project, "sent"), "by cp");
    await compose("cp", join(project, "sent"), "web:/tmp/sent");
    await compose("cp", "web:/tmp/sent", join(project, "back"));
    assert.equal(await readFile(join(project, "back"), "utf8"), "by cp");
  });
  await t.test("watch brings a file that was written, and takes one away that was deleted", async () => {
    const watched = join(project, "watched");
    const options = ["--ansi", "never", "--project-directory", project, "--project-name", "shop"];
    const watching = new FollowingClient(daemon, "compose", ...options, "watch", "--no-up", "web");
    await until(() => (watching.stdout + watching.stderr).includes("Watch enabled") || undefined);
    const inside = () => daemon.docker("exec", "shop-web-1", "cat", "/watched/file");
    await writeFile(join(watched, "file"), "synced");
    await until(async () => (await inside()).text === "synced" || undefined);
    await rm(join(watched, "file"));
    await until(async () => (await inside()).errorText.includes("No such file") || undefined);
    await watching.leave();
  });
  await t.test("logs --follow tells of all services until they end", async () => {
    const options = ["--ansi", "never", "--project-directory", project, "--project-name", "shop"];
    const following = new FollowingClient(daemon, "compose", ...options, "logs", "--follow", "--no-color");
    await following.receives();
    await compose("stop");
    assert.equal(await following.exitCode(), 0);
    assert.match(following.stdout, /database-1 +\| serving/);
    assert.match(following.stdout, /web-1 +\| connected/);
  });
  await t.test("down -v leaves nothing", async () => {
    await compose("down", "--volumes");
    const filter = ["--filter", "label=com.docker.compose.project=shop", "--quiet"];
    assert.equal(await ok("ps", "--all", ...filter), "");
    assert.equal(await ok("network", "ls", ...filter), "");
    assert.equal(await ok("volume", "ls", ...filter), "");
  });
});

/** Rounds with one change each, 15 with SOCKERLESS_SOAK=1. */
const recreations = isSoak ? 15 : 2;

/** Services that keep their addresses; each is the next one's as soon as its holder was stopped. */
const fixedServices = `
services:
  one: &service
    image: busybox
    command: sleep 1000
    stop_signal: KILL
    networks: { fixed: { ipv4_address: 10.214.91.11 } }
  two:
    <<: *service
    networks: { fixed: { ipv4_address: 10.214.91.12 } }
networks:
  fixed: { ipam: { config: [ { subnet: 10.214.91.0/24 } ] } }
`;

test("docker compose recreates services of fixed addresses, one time after the other", {
  timeout,
}, async (t) => {
  const found = await findPlugin("compose");
  if ("missing" in found) {
    t.skip(found.missing);
    return;
  }
  await installPlugin(daemon, found.path);
  const directory = scratchDirectory();
  await writeFile(join(directory, "compose.yaml"), fixedServices);
  const fixed = (...args: string[]) =>
    ok("compose", "--ansi", "never", "--project-directory", directory, "--project-name", "fixed", ...args);
  await fixed("up", "--detach");
  for (let round = 0; round < recreations; round += 1) {
    await fixed("up", "--detach", "--force-recreate");
  }
  await fixed("down");
});
