/** Everything that containers and images go through, for tests that kill something on the way. */
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { type CommandResult, runCommand } from "../support/command.ts";
import type { Daemon } from "../support/daemon.ts";
import {
  bridgesOf,
  containersOnDisk,
  contentOf,
  interfacesOf,
  mountsOf,
  rulesOf,
  tracesOf,
  untilOnly,
} from "../support/traces.ts";
import { until } from "../support/until.ts";

/** Commands of the docker CLI; `IMAGE` stands for the image that is pulled. */
export type Commands = readonly (readonly string[])[];

/** Everything that containers go through. */
export const wholeLife: Commands = [
  ["pull", "IMAGE"],
  [
    ...["create", "--name=life", "--publish=127.0.0.1::7", "--volume=kept:/etc", "--volume=/own", "IMAGE"],
    ...["sh", "-c", "trap 'exit 3' TERM; while :; do usleep 10000; done"],
  ],
  ["start", "life"],
  ["exec", "life", "true"],
  ["stop", "life"],
  ["start", "life"],
  ["restart", "life"],
  ["kill", "life"],
  ["rm", "--volumes", "life"],
  ["run", "--rm", "--name=passing", "IMAGE", "sh", "-c", "exit 5"],
  ["network", "create", "lane"],
  ["run", "--detach", "--name=dweller", "--network=lane", "IMAGE", "sleep", "1000000"],
  ["network", "connect", "bridge", "dweller"],
  ["network", "disconnect", "lane", "dweller"],
  ["rm", "--force", "dweller"],
  ["network", "rm", "lane"],
  ["volume", "rm", "kept"],
  ["volume", "create", "--driver=block", "--opt=size=32M", "disk"],
  ["run", "--name=database", "--volume=disk:/etc", "IMAGE", "sh", "-c", "ls /etc > /etc/seen"],
  ["cp", "database:/etc/seen", "-"],
  ["rm", "--force", "database"],
  ["volume", "rm", "disk"],
  ["rmi", "IMAGE"],
];

/** Everything that a block volume goes through: made, claimed, mounted, used, unmounted, freed, had by another, removed. */
export const blockVolumeLife: Commands = [
  ["pull", "IMAGE"],
  ["volume", "create", "--driver=block", "--opt=size=32M", "disk"],
  [
    ...["create", "--name=database", "--volume=disk:/etc", "IMAGE"],
    ...["sh", "-c", "trap 'exit 3' TERM; echo in > /etc/seen; while :; do usleep 10000; done"],
  ],
  ["start", "database"],
  ["exec", "database", "sh", "-c", "until test -s /etc/seen; do usleep 10000; done"],
  ["stop", "database"],
  ["cp", "database:/etc/seen", "-"],
  ["start", "database"],
  ["kill", "database"],
  ["rm", "database"],
  ["run", "--name=next", "--volume=disk:/data", "IMAGE", "cat", "/data/seen"],
  ["rm", "next"],
  ["volume", "rm", "disk"],
  ["rmi", "IMAGE"],
];

/** Runs every command, whatever the others do, and answers the results. */
export async function live(
  daemon: Daemon,
  image: string,
  commands: Commands,
): Promise<ReadonlyMap<string, CommandResult>> {
  const results = new Map<string, CommandResult>();
  for (const command of commands) {
    const args = command.map((arg) => (arg === "IMAGE" ? image : arg));
    results.set(args.slice(0, 3).join(" "), await daemon.docker(...args));
  }
  return results;
}

/** Fails unless every command did what it does on a healthy day. */
export function assertLived(results: ReadonlyMap<string, CommandResult>): void {
  for (const [command, { code, signal, errorText }] of results) {
    const expected = command.startsWith("run --rm") ? 5 : 0;
    assert.equal(code ?? signal, expected, `docker ${command}: ${errorText}`);
  }
}

/** Asserts what holds of a daemon at rest: what it tells and what is on the machine agree. */
export async function assertSound(daemon: Daemon): Promise<void> {
  await until(async () => (await daemon.docker("ps")).code === 0 || undefined);
  let differ: string[] = [];
  try {
    await until(async () => {
      const told = (await daemon.ok("ps", "--all", "--no-trunc", "--format={{.ID}} {{.Names}} {{.State}}"))
        .split("\n")
        .filter((line) => line !== "");
      const onDisk = containersOnDisk(daemon);
      differ = [
        ...told
          .filter((line) => !onDisk.includes(line.split(" ")[0] ?? ""))
          .map((line) => `told alone: ${line}`),
        ...onDisk
          .filter((id) => !told.some((line) => line.startsWith(id)))
          .map((id) => `on disk alone: ${id}`),
        ...told.filter((line) => line.endsWith(" passing exited")),
      ];
      return differ.length === 0 || undefined;
    });
  } catch {
    throw new Error(`not what holds at rest:\n${differ.join("\n")}`);
  }
  for (const id of containersOnDisk(daemon)) {
    // A start that was under way may be taken up or taken back: what holds is either, once it is at rest.
    await until(async () => {
      const { text: state, code } = await daemon.docker("inspect", "--format={{.State.Status}}", id);
      if (code !== 0) {
        return tracesOf(daemon, id).length === 0 || undefined; // It has ended and removes itself.
      }
      return state === "running"
        ? (await daemon.docker("exec", id, "echo", "alive")).text === "alive" || undefined
        : tracesOf(daemon, id).join() === `${daemon.stateDir}/containers/${id}` || undefined;
    });
  }
}

/** Asserts that a block volume, where it was not removed, has one owner that exists or none, and is whole. */
export async function assertDiskSound(daemon: Daemon): Promise<void> {
  const told = await daemon.docker("volume", "inspect", "--format={{.Status.owner}}", "disk");
  if (told.code !== 0) {
    assert.match(told.errorText, /no such volume/);
    return;
  }
  const owner = told.text === "<no value>" ? [] : [told.text];
  const having = await daemon.ok("ps", "--all", "--quiet", "--no-trunc", "--filter=volume=disk");
  assert.deepEqual(
    having.split("\n").filter((id) => id !== ""),
    owner,
  );
  if (owner[0] !== undefined) {
    await daemon.docker("kill", owner[0]);
  }
  await until(async () => (await mountsOf(daemon)).length === 0 || undefined);
  const { code, text, errorText } = await runCommand("e2fsck", [
    "-fn",
    `${daemon.stateDir}/volumes/disk/volume.img`,
  ]);
  assert.equal(code, 0, text + errorText);
}

/** Removes all that the life may have left, as a user does, and checks that nothing of it is left on the machine. */
export async function clearAway(daemon: Daemon, image: string): Promise<void> {
  const ids = containersOnDisk(daemon);
  if (ids.length > 0) {
    await daemon.ok("rm", "--force", "--volumes", ...ids);
  }
  for (const command of [
    ["network", "rm", "lane"],
    ["volume", "rm", "kept", "disk"],
    ["rmi", image],
  ]) {
    const { code, errorText } = await daemon.docker(...command);
    assert.ok(
      code === 0 || /no such|not found/i.test(errorText),
      `docker ${command.join(" ")}: ${errorText}`,
    );
  }
  for (const id of ids) {
    await untilOnly(daemon, id, []);
    assert.deepEqual(tracesOf(daemon, id), []);
  }
  assert.deepEqual(containersOnDisk(daemon), []);
  assert.equal(await daemon.ok("volume", "ls", "--quiet"), "");
  await until(() => interfacesOf(daemon).length === 0 || undefined);
}

/** Belongings of an instance on the machine and on the disk while it has nothing of a user's. */
export interface Belongings {
  readonly rules: readonly string[];
  readonly bridges: readonly string[];
  readonly content: readonly string[];
  readonly mounts: readonly string[];
}

/** Takes stock of an instance's belongings now. */
export async function belongingsOf(daemon: Daemon): Promise<Belongings> {
  return {
    rules: await rulesOf(daemon),
    bridges: await bridgesOf(daemon),
    content: contentOf(daemon),
    mounts: await mountsOf(daemon),
  };
}

/** Waits until the instance has this again: nothing is left of containers, networks, ports, images and volumes. */
export async function assertBelongings(daemon: Daemon, expected: Belongings): Promise<void> {
  try {
    await until(async () => isDeepStrictEqual(await belongingsOf(daemon), expected) || undefined);
  } catch {
    assert.deepEqual(await belongingsOf(daemon), expected);
  }
}

/** A life as its events tell it: what begins ends, each once and in this order. */
const wholeLives: Readonly<Record<string, RegExp>> = {
  container: /^create( start die)* destroy$/,
  network: /^create destroy$/,
  volume: /^(create destroy ?)+$/,
};

/** No event is lost, doubled or out of order: of everything that was there and is gone. */
export async function assertEventsOfWholeLives(daemon: Daemon, since: Date): Promise<void> {
  const told = await daemon.ok(
    ...["events", "--format={{json .}}"],
    ...[`--since=${since.toISOString()}`, `--until=${new Date().toISOString()}`],
    ...["create", "start", "die", "destroy"].map((event) => `--filter=event=${event}`),
  );
  const lives = new Map<string, string[]>();
  for (const line of told.split("\n").filter((each) => each !== "")) {
    const { Type, Action, Actor } = JSON.parse(line) as {
      Type: string;
      Action: string;
      Actor: { ID: string };
    };
    const key = `${Type} ${Actor.ID}`;
    lives.set(key, [...(lives.get(key) ?? []), Action]);
  }
  assert.ok(lives.size > 0);
  for (const [key, actions] of lives) {
    assert.match(actions.join(" "), wholeLives[key.split(" ")[0] ?? ""] ?? /^$/, `events of ${key}`);
  }
}
