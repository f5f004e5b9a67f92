/**
 * Floods of one kind of request: what is beyond that kind's part of the connections is refused, everybody else is answered
 * meanwhile, no process comes near its limit of descriptors, and afterwards each has as many as before, and has given its
 * memory back. A sample with a low limit; whole sizes and the usual limit with SOCKERLESS_SOAK=1 (`npm run soak`), which
 * also prints times and memory.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Flood } from "../support/flood.ts";
import { type DaemonRole, findProcess, findShim, residentBytes } from "../support/processes.ts";
import { channelText, hijackRequest } from "../support/raw-client.ts";
import { isSoak, sampled } from "../support/soak.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const limit = isSoak ? 20_000 : 1_024;
const { daemon, api } = withDaemon({ within: ["prlimit", `--nofile=${limit}:${limit}`] });

const roles: readonly DaemonRole[] = ["backend", "builder", "frontend", "host", "forwarder"];

/** Descriptors that a process keeps of its first request of a kind: connections to other processes, and pidfds. */
const kept = 16;

/** The container at which a flood is aimed. */
let container = "";

/** Process IDs of the daemon's processes and of the container's shim, by their names. */
function processes(): ReadonlyMap<string, number> {
  const found = [
    ...roles.map((role) => [role, findProcess(daemon, role)] as const),
    ["shim", findShim(daemon, container)] as const,
  ];
  return new Map(found.flatMap(([name, pid]) => (pid === undefined ? [] : [[name, pid]])));
}

/** Mebibytes that all floods may leave to a process. */
const leftMebibytes = 192;

/** Mebibytes of the processes before the first flood. */
let atFirst: Readonly<Record<string, number>> | undefined;

/** Numbers of the descriptors that each process has open. */
function descriptors(): Readonly<Record<string, number>> {
  return Object.fromEntries(
    [...processes()].map(([name, pid]) => [name, readdirSync(`/proc/${pid}/fd`).length]),
  );
}

function mebibytes(): Readonly<Record<string, number>> {
  return Object.fromEntries([...processes()].map(([name, pid]) => [name, residentBytes(pid) >> 20]));
}

/** Runs a command in the container. @returns what it wrote */
async function exec(...Cmd: string[]): Promise<string> {
  const { Id } = await api.expect<{ Id: string }>(201, "POST", `/containers/${container}/exec`, {
    Cmd,
    AttachStdout: true,
  });
  const client = api.connect();
  client.send(hijackRequest(`/v1.51/exec/${Id}/start`, { body: "{}" }));
  await client.end();
  client.close();
  return channelText(client.body, 1);
}

/** Asks for what everybody else may, and is answered. */
async function assertOthersAreAnswered(stopped: string): Promise<void> {
  assert.equal((await api.call("GET", "/_ping")).text, "OK");
  const list = await api.expect<{ Id: string }[]>(200, "GET", "/containers/json?all=1");
  assert.ok(list.some(({ Id }) => Id === stopped));
  assert.equal(await exec("echo", "fine"), "fine\n");
  await api.start(stopped);
  await api.expect(204, "POST", `/containers/${stopped}/stop?t=0`);
}

/** Asks for pings until a promise resolves. @returns the longest in milliseconds */
async function longestPing(during: Promise<unknown>): Promise<number> {
  let isOver: boolean = false;
  let longest = 0;
  const over = during.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    const began = performance.now();
    assert.equal((await api.call("GET", "/_ping")).text, "OK");
    longest = Math.max(longest, performance.now() - began);
  }
  await over;
  return Math.round(longest);
}

interface FloodCase {
  readonly name: string;
  readonly request: (n: number) => string;
  /** Requests, in the sample and whole. */
  readonly counts: readonly [sample: number, whole: number];
  /** Part of the connections that its kind has, for each request. */
  readonly share: number;
  readonly takesAnswers?: boolean;
}

const get = (path: string): string => `GET /v1.51${path} HTTP/1.1\r\nHost: d\r\n\r\n`;
/** A request that announces a body, of which nothing comes. */
const send = (method: string, path: string, type = "application/x-tar"): string =>
  `${method} /v1.51${path} HTTP/1.1\r\nHost: d\r\nContent-Type: ${type}\r\nContent-Length: 100000\r\n\r\n`;

/** A session of its own, whose client says no more. */
const session = (n: number): string =>
  `POST /v1.51/session HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: flood-${n}\r\n\r\n`;

const floods: readonly FloodCase[] = [
  {
    name: "sessions of builds",
    request: session,
    counts: [150, 10_400],
    share: 1 / 16,
  },
  {
    name: "uploads to a container",
    request: () => send("PUT", `/containers/${container}/archive?path=/`),
    counts: [150, 5_100],
    share: 1 / 16,
  },
  { name: "loads", request: () => send("POST", "/images/load"), counts: [150, 10_400], share: 1 / 16 },
  {
    name: "creations",
    request: () => send("POST", "/containers/create", "application/json"),
    counts: [150, 6_000],
    share: 1 / 16,
  },
  { name: "followers of events", request: () => get("/events"), counts: [300, 6_000], share: 4 / 16 },
  {
    name: "archives that nobody reads",
    request: () => get(`/containers/${container}/archive?path=/`),
    counts: [150, 5_100],
    share: 1 / 16,
    takesAnswers: false,
  },
];

test("loads beside a crowd that follows events are done, and lists are answered meanwhile", async (t) => {
  const [followers, loads] = isSoak ? [1_500, 300] : [100, 20];
  atFirst ??= mebibytes();
  const { bytes: archive } = await api.call("GET", "/images/sockerless/hello/get");
  using crowd = await Flood.of(daemon.socket, followers, () => get("/events"));
  await crowd.begins();
  let left = loads;
  const began = performance.now();
  const loading = Promise.all(
    Array.from({ length: loads }, async () => {
      const answer = await api.call("POST", "/images/load", archive, { "Content-Type": "application/x-tar" });
      assert.deepEqual([answer.status, /"error"/.test(answer.text)], [200, false], answer.text);
      left -= 1;
    }),
  );
  let longest = 0;
  let lists = 0;
  const listing = (async () => {
    for (; left > 0; lists++) {
      const asked = performance.now();
      await api.expect(200, "GET", "/containers/json?all=1");
      longest = Math.max(longest, performance.now() - asked);
    }
  })();
  await Promise.all([loading, listing]);
  const seconds = Math.round((performance.now() - began) / 100) / 10;
  t.diagnostic(
    `${loads} loads in ${seconds} s, ${lists} lists meanwhile, the longest ${Math.round(longest)} ms`,
  );
  for (let told = 0; told < followers * loads; ) {
    told = await until(async () => {
      await sleep(1_000); // Counting takes a while itself.
      const now = crowd.told(`"Action":"load"`);
      return now > told ? now : undefined;
    });
  }
  t.diagnostic(`all events told after ${Math.round((performance.now() - began) / 1_000)} s`);
  assert.ok(lists > 1);
  assert.deepEqual([crowd.refused, crowd.lost], [0, 0]);
});

for (const { name, request, counts, share, takesAnswers = true } of floods) {
  test(`${name} beyond their part are refused, and keep nobody out`, sampled(name === "loads"), async (t) => {
    container = await api.run({ Cmd: ["sleep", "100000"] });
    const stopped = await api.create({ Cmd: ["sleep", "100000"] });
    await assertOthersAreAnswered(stopped);
    const former = descriptors();
    atFirst ??= mebibytes();
    const count = counts[isSoak ? 1 : 0];
    const most = Math.floor(Math.floor(limit * 0.45) * share);
    const opening = Flood.of(daemon.socket, count, request, takesAnswers);
    const ping = await longestPing(opening);
    using flood = await opening;
    t.diagnostic(`${count}: longest ping ${ping} ms, ${flood.refused} refused, ${flood.lost} lost`);
    await flood.refuses(count - most);
    t.diagnostic(`descriptors ${JSON.stringify(descriptors())}, MiB ${JSON.stringify(mebibytes())}`);
    await assertOthersAreAnswered(stopped);
    if (!takesAnswers) {
      const { frontend = 0 } = former;
      await until(() => (descriptors()["frontend"] ?? 0) <= frontend + kept || undefined); // Their agent has the connections.
      using more = await Flood.of(daemon.socket, 10, request);
      await more.refuses(10);
    }
    assert.equal(flood.refused, count - most);
    assert.equal(flood.lost, 0);
    for (const [process, open] of Object.entries(descriptors())) {
      assert.ok(open < limit / 2, `${process} has ${open}`);
    }
    flood[Symbol.dispose]();
    await until(() => {
      const now = descriptors();
      return (
        Object.entries(former).every(([process, open]) => (now[process] ?? 0) <= open + kept) || undefined
      );
    });
    t.diagnostic(`afterwards ${JSON.stringify(descriptors())}, MiB ${JSON.stringify(mebibytes())}`);
    await untilTrue(() => {
      const now = Object.entries(mebibytes());
      return now.every(([process, size]) => size <= (atFirst?.[process] ?? 0) + leftMebibytes);
    }).finally(() => t.diagnostic(`in the end MiB ${JSON.stringify(mebibytes())}`));
    await api.remove(stopped, container);
  });
}
