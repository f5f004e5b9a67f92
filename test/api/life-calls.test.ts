/** Starting, waiting, stopping, killing and removing as clients call them over HTTP, with what may go wrong. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Creation } from "../support/engine-api.ts";
import { pastEvents } from "../support/past-events.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

const stateOf = async (container: string) => (await api.inspect(container)).State;
const endOf = async (container: string) => {
  const { Status, ExitCode } = await stateOf(container);
  return `${Status} ${ExitCode}`;
};
const gone = (container: string) =>
  until(async () =>
    (await api.call("GET", `/containers/${container}/json`)).status === 404 ? true : undefined,
  );
const volumes = async () =>
  (await api.expect<{ Volumes: readonly { Name: string }[] }>(200, "GET", "/volumes")).Volumes.map(
    ({ Name }) => Name,
  );

/** Runs on through TERM, and has said so when this answers. */
async function stubborn(name: string, creation: Creation = {}): Promise<string> {
  const id = await api.script("trap '' TERM; echo ready; while :; do sleep 0.05; done", creation, name);
  await api.wrote(id, "ready");
  return id;
}

/** Ends with the code 5 at a signal. */
async function ending(signal: string, creation: Creation = {}): Promise<string> {
  const id = await api.script(`trap 'exit 5' ${signal}; echo ready; while :; do sleep 0.05; done`, creation);
  await api.wrote(id, "ready");
  return id;
}

describe("a start", () => {
  test("of what runs is not modified; of what ended is a new run", async () => {
    const id = await api.script("exit 3");
    assert.equal(await api.wait(id), 3);
    const first = await stateOf(id);
    await api.start(id);
    assert.equal(await api.wait(id), 3);
    assert.notEqual((await stateOf(id)).StartedAt, first.StartedAt);
    await api.remove(id);
    const running = await api.run({ Cmd: ["sleep", "1000"] });
    assert.equal((await stateOf(running)).Status, "running");
    assert.equal((await api.call("POST", `/containers/${running}/start`)).status, 304);
    await api.remove(running);
  });

  test("at a checkpoint needs what dockerd calls experimental, like checkpoints themselves", async () => {
    const id = await api.create({ Cmd: ["true"] });
    await api.refuses(
      400,
      /^checkpoint is only supported in experimental mode$/,
      "POST",
      `/containers/${id}/start?checkpoint=one`,
    );
    const directory = `/containers/${id}/start?checkpoint-dir=here`;
    await api.refuses(403, /^custom checkpointdir is not supported$/, "POST", directory);
    const disabled =
      /^This experimental feature is disabled by default\. Start the Docker daemon in experimental mode in order to enable it\.$/;
    await api.refuses(501, disabled, "GET", `/containers/${id}/checkpoints`);
    await api.refuses(501, disabled, "POST", `/containers/${id}/checkpoints`, { CheckpointID: "one" });
    await api.refuses(501, disabled, "DELETE", `/containers/${id}/checkpoints/one`);
    await api.remove(id);
  });

  test("of a command that is missing or cannot be executed is the request's fault, and the container stays created", async () => {
    for (const [command, code, reason] of [
      ["nosuch", 127, /exec: "nosuch": executable file not found in \$PATH/],
      ["/etc/passwd", 126, /permission denied/],
    ] as const) {
      const id = await api.create({ Cmd: [command] });
      await api.refuses(400, reason, "POST", `/containers/${id}/start`);
      const { Status, ExitCode, Error: told } = await stateOf(id);
      assert.deepEqual([Status, ExitCode], ["created", code]);
      assert.match(told, reason);
      await api.remove(id);
    }
  });
});

describe("a wait", () => {
  test("answers its header at once and its body at the exit", async () => {
    const id = await api.run({ Cmd: ["sleep", "1000"] });
    const clients = [
      await api.beginWait(id, "not-running"),
      await api.beginWait(id, "next-exit"),
      await api.beginWait(id, ""),
    ];
    assert.ok(clients.every((client) => client.body.length === 0));
    await api.expect(204, "POST", `/containers/${id}/kill`);
    for (const client of clients) {
      assert.equal(await api.endOfWait(client), 137);
    }
    await api.remove(id);
  });

  test("before the start learns the exit of the run that comes", async () => {
    const id = await api.create({ Cmd: ["sh", "-c", "exit 6"] });
    assert.equal(await api.wait(id), 0, "it does not run now");
    const next = await api.beginWait(id, "next-exit");
    await api.start(id);
    assert.equal(await api.endOfWait(next), 6);
    assert.equal(await api.wait(id), 6, "and of what has ended at once");
    await api.remove(id);
  });

  test("for the removal outlasts the exit", async () => {
    const id = await api.script("exit 7");
    const removed = await api.beginWait(id, "removed");
    assert.equal(await api.wait(id), 7);
    assert.equal(removed.ended, false);
    await api.remove(id);
    assert.equal(await api.endOfWait(removed), 7);
    const own = await api.create({ Cmd: ["sh", "-c", "exit 8"], HostConfig: { AutoRemove: true } });
    const both = await api.beginWait(own, "removed");
    await api.start(own);
    assert.equal(await api.endOfWait(both), 8);
    assert.equal((await api.call("GET", `/containers/${own}/json`)).status, 404, "removed before it is told");
  });

  test("for what there is not is refused", async () => {
    await api.refuses(404, "No such container: nobody", "POST", "/containers/nobody/wait");
    const id = await api.create({});
    await api.refuses(400, /invalid condition/, "POST", `/containers/${id}/wait?condition=nonsense`);
    await api.remove(id);
  });
});

describe("a stop", () => {
  test("sends the signal that the container names, or the call", async () => {
    const own = await ending("USR1", { StopSignal: "SIGUSR1" });
    await api.expect(204, "POST", `/containers/${own}/stop`);
    assert.equal(await endOf(own), "exited 5");
    assert.equal((await api.call("POST", `/containers/${own}/stop`)).status, 304);
    const asked = await ending("USR2");
    await api.expect(204, "POST", `/containers/${asked}/stop?signal=SIGUSR2`);
    assert.equal(await endOf(asked), "exited 5");
    await api.remove(own, asked);
  });

  test("kills what does not end in the time of the call, or of the container", async () => {
    const patient = await stubborn("patient", { StopTimeout: 100_000 });
    await api.expect(204, "POST", `/containers/${patient}/stop?t=0`);
    assert.equal(await endOf(patient), "exited 137");
    const timed = await stubborn("timed", { StopTimeout: 1 });
    await api.expect(204, "POST", `/containers/${timed}/stop`);
    assert.equal(await endOf(timed), "exited 137");
    const kills = await pastEvents(daemon, { container: [timed], event: ["kill"] });
    assert.deepEqual(
      kills.map(({ Actor }) => Actor.Attributes["signal"]),
      ["15", "9"],
    );
    const [term = 0, kill = 0] = kills.map(({ timeNano }) => timeNano / 1e6);
    assert.ok(kill - term >= 990, `${kill - term} ms`);
    await api.remove(patient, timed);
  });

  test("waits for ever with -1", async () => {
    const id = await api.script("trap 'sleep 0.3; exit 4' TERM; echo ready; while :; do sleep 0.05; done", {
      StopTimeout: 0,
    });
    await api.wrote(id, "ready");
    await api.expect(204, "POST", `/containers/${id}/stop?t=-1`);
    assert.equal(await endOf(id), "exited 4");
    await api.remove(id);
  });
});

describe("a kill", () => {
  test("sends any signal, by name or number, with SIG or without", async () => {
    for (const signal of ["SIGUSR1", "USR1", "usr1", "10"]) {
      const id = await ending("USR1");
      await api.expect(204, "POST", `/containers/${id}/kill?signal=${signal}`);
      assert.equal(await api.wait(id), 5, signal);
      await api.remove(id);
    }
    const untrapped = await api.run({ Cmd: ["sleep", "1000"], HostConfig: { Init: true } });
    await api.expect(204, "POST", `/containers/${untrapped}/kill?signal=HUP`);
    assert.equal(await api.wait(untrapped), 129);
    await api.remove(untrapped);
  });

  test("of what does not run is a conflict, and a signal that is none is refused", async () => {
    const id = await api.create({}, "idle");
    await api.refuses(
      409,
      `cannot kill container: idle: container ${id} is not running`,
      "POST",
      "/containers/idle/kill",
    );
    await api.refuses(400, /invalid signal: NONE/i, "POST", "/containers/idle/kill?signal=NONE");
    await api.remove(id);
  });
});

test("an end for want of memory is told as such, and no other is", async () => {
  const HostConfig = { Memory: 8 << 20, MemorySwap: 8 << 20 };
  const id = await api.run({ Cmd: ["tail", "/dev/zero"], HostConfig });
  assert.equal(await api.wait(id), 137);
  assert.equal((await stateOf(id)).OOMKilled, true);
  const killed = await api.run({ Cmd: ["sleep", "1000"], HostConfig });
  await api.expect(204, "POST", `/containers/${killed}/kill`);
  assert.equal(await api.wait(killed), 137);
  assert.equal((await stateOf(killed)).OOMKilled, false);
  await api.remove(id, killed);
});

describe("a removal", () => {
  test("of a running container is a conflict unless it is forced", async () => {
    const id = await api.run({ Cmd: ["sleep", "1000"] }, "busy");
    await api.refuses(
      409,
      'cannot remove container "busy": container is running: stop the container before removing or force remove',
      "DELETE",
      "/containers/busy",
    );
    await api.expect(204, "DELETE", "/containers/busy?force=true");
    await api.refuses(404, `No such container: ${id}`, "DELETE", `/containers/${id}`);
  });

  test("takes anonymous volumes with it where v=1 says so, and named ones never", async () => {
    const Volumes = { "/anonymous": {} };
    const HostConfig = { Binds: ["named:/named"] };
    const [kept, taken] = [
      await api.create({ Volumes, HostConfig }),
      await api.create({ Volumes, HostConfig }),
    ];
    assert.equal((await volumes()).length, 3);
    await api.expect(204, "DELETE", `/containers/${kept}`);
    assert.equal((await volumes()).length, 3);
    await api.expect(204, "DELETE", `/containers/${taken}?v=1`);
    const left = await volumes();
    assert.equal(left.length, 2);
    assert.ok(left.includes("named"));
    for (const name of left) {
      await api.expect(204, "DELETE", `/volumes/${name}`);
    }
  });

  test("by the container itself takes its anonymous volumes too", async () => {
    const id = await api.run({
      Cmd: ["true"],
      Volumes: { "/anonymous": {} },
      HostConfig: { AutoRemove: true },
    });
    await gone(id);
    await until(async () => ((await volumes()).length === 0 ? true : undefined));
  });
});

test("a container is found by its ID, any prefix that is its own, and its name with a slash or without", async () => {
  const id = await api.create({}, "findable");
  for (const reference of [id, id.slice(0, 12), id.slice(0, 30), "findable", "%2Ffindable", "/findable"]) {
    assert.equal((await api.inspect(reference)).Id, id, reference);
  }
  // A name goes before a prefix of an ID.
  const other = await api.create({}, id.slice(0, 4));
  assert.equal((await api.inspect(id.slice(0, 4))).Id, other);
  const nameless = id.startsWith("0") ? "1" : "0";
  await api.refuses(
    404,
    `No such container: ${nameless.repeat(64)}`,
    "GET",
    `/containers/${nameless.repeat(64)}/json`,
  );
  await api.remove(id, other);
});
