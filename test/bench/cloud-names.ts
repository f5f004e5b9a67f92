/**
 * How soon the containers of a network know who joins and leaves it: up to five others, those that are told last, ask their
 * agents' resolvers again and again, each in one exec, and the figure is that of the last which has the new answer. All
 * clocks are this machine's.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import type { Aws } from "../simulators/aws/aws.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxImage, dockerArchive } from "../support/images.ts";
import { buildProgram } from "../support/programs.ts";
import { tarOf } from "../support/tar.ts";
import { untilTrue } from "../support/until.ts";
import { ApiClient } from "./api-client.ts";
import { median, percentile } from "./figures.ts";

/** The aim: what is later has missed it. */
const mostMs = 100;
const network = "names";
const agentPort = 9111;
/** Pause between looks for an agent, and the longest time that one look may take, in milliseconds. */
const lookMs = 3;
const connectLimitMs = 100;
/**
 * Number of others that watch, at most: questions of many would take the processors from what is measured.
 */
const mostWatchers = 5;
/** Pause between two rounds of one's questions, in milliseconds. */
const pauseMs = 5;
/** Others that start at the same time. */
const startedAtOnce = 4;
/**
 * Time in milliseconds that AWS takes to pull the image of what starts: on Fargate, too, the task has its
 * address before its agent runs.
 */
const pullMs = 1000;
/** Names that come and go. */
const names = { started: "late", renamed: "later", connected: "roaming" } as const;

/** When something was done to a container, in milliseconds of Unix time. */
interface Change {
  readonly askedMs: number;
  readonly answeredMs: number;
  /** When its process began. */
  readonly begunMs?: number;
  /** Time of what the others are told of, if not the request: its agent listens, its process has ended. */
  readonly causedMs?: number;
}

const origins = ["answer", "request", "process", "cause"] as const;

/** One row of the table: milliseconds until the last of the others had the new answer, a figure for each round. */
interface Figures {
  readonly name: string;
  readonly since: Record<(typeof origins)[number], number[]>;
}

/** Prints a table. @param others how many other containers the network has, for each part of it */
export async function measureNames(
  others: readonly number[],
  rounds: number,
  interrupted: AbortSignal,
): Promise<void> {
  console.log(
    "\n| change | others | ms from the answer: median (90th percentile) | from the request | from its process's start | from its agent's first connection, or its process's end | |\n|---|---|---|---|---|---|---|",
  );
  for (const count of others) {
    for (const row of await measureAmong(count, rounds, interrupted)) {
      console.log(row);
    }
  }
}

async function measureAmong(count: number, rounds: number, interrupted: AbortSignal): Promise<string[]> {
  await using resources = new AsyncDisposableStack();
  const { aws, daemon } = resources.use(
    await EcsDaemon.start({
      aws: { quotas: { fargateVcpus: count + 8, networkInterfaces: 2 * count + 16 } },
      ecs: { linger: "0", drain_timeout: "1s" },
    }),
  );
  interrupted.throwIfAborted();
  const directory = await mkdtemp(join(tmpdir(), "skl-bench-"));
  resources.defer(() => rm(directory, { recursive: true }));
  const archive = join(directory, "image.tar");
  await writeFile(archive, await imageWithWatcher());
  await daemon.ok("load", "--input", archive);
  const api = new ApiClient(daemon.socket, count + 8, interrupted);
  resources.defer(() => api.close());
  // Internal: nobody else is asked for a name that no container has.
  await api.call("POST", "/networks/create", { Name: network, Internal: true });
  const scene = { api, aws, figures: new Map<string, Figures>(), interrupted };
  const roamer = await startOn(api, "bridge", "roamer");
  const others: string[] = [];
  while (others.length < count) {
    const numbers = Array.from({ length: Math.min(startedAtOnce, count - others.length) }, (_, n) => n);
    const first = others.length;
    others.push(...(await Promise.all(numbers.map((n) => startOn(api, network, `other-${first + n}`)))));
  }
  const watching = others.slice(-mostWatchers);
  const watchers = await Promise.all(watching.map((container) => Watcher.start(api, container, interrupted)));
  aws.delays.pull = pullMs;
  await run(scene, watchers, roamer); // Connections are made, and programs are in memory.
  scene.figures.clear();
  for (let round = 0; round < rounds; round++) {
    await run(scene, watchers, roamer);
  }
  for (const watcher of watchers) {
    watcher.close();
  }
  return [...scene.figures.values()].map((figures) => rowOf(figures, count));
}

interface Scene {
  readonly api: ApiClient;
  readonly aws: Aws;
  /** Figures by what is measured. */
  readonly figures: Map<string, Figures>;
  readonly interrupted: AbortSignal;
}

/** Every change once. */
async function run(
  { api, aws, figures, interrupted }: Scene,
  watchers: readonly Watcher[],
  roamer: string,
): Promise<void> {
  const note = async (what: string, name: string, known: boolean, change: Change): Promise<void> => {
    const seenMs = Math.max(...(await Promise.all(watchers.map((each) => each.seenMs(name, known)))));
    const row = figures.get(what) ?? {
      name: what,
      since: { answer: [], request: [], process: [], cause: [] },
    };
    figures.set(what, row);
    row.since.answer.push(seenMs - change.answeredMs);
    row.since.request.push(seenMs - change.askedMs);
    if (change.begunMs !== undefined) {
      row.since.process.push(seenMs - change.begunMs);
    }
    if (change.causedMs !== undefined) {
      row.since.cause.push(seenMs - change.causedMs);
    }
  };
  const id = await created(api, network, names.started);
  const [listenedMs, started] = await Promise.all([
    untilAgentListens(aws, interrupted),
    changed(() => api.call("POST", `/containers/${id}/start`)),
  ]);
  const begunMs = Date.parse((await stateOf(api, id)).StartedAt);
  await note("start", names.started, true, { ...started, begunMs, causedMs: listenedMs });
  const renamed = await changed(() => api.call("POST", `/containers/${id}/rename?name=${names.renamed}`));
  await note("rename, the new name", names.renamed, true, renamed);
  await note("rename, the old name", names.started, false, renamed);
  const stopped = await changed(() => api.call("POST", `/containers/${id}/stop`));
  const causedMs = Date.parse((await stateOf(api, id)).FinishedAt);
  await note("stop", names.renamed, false, { ...stopped, causedMs });
  await api.call("DELETE", `/containers/${id}`);
  const EndpointConfig = { Aliases: [names.connected] };
  const connected = await changed(() =>
    api.call("POST", `/networks/${network}/connect`, { Container: roamer, EndpointConfig }),
  );
  await note("connect", names.connected, true, connected);
  const left = await changed(() =>
    api.call("POST", `/networks/${network}/disconnect`, { Container: roamer }),
  );
  await note("disconnect", names.connected, false, left);
}

async function stateOf(
  api: ApiClient,
  id: string,
): Promise<{ readonly StartedAt: string; readonly FinishedAt: string }> {
  const { State } = await api.json<{ State: { StartedAt: string; FinishedAt: string } }>(
    "GET",
    `/containers/${id}/json`,
  );
  return State;
}

async function changed(work: () => Promise<unknown>): Promise<Change> {
  const askedMs = nowMs();
  await work();
  return { askedMs, answeredMs: nowMs() };
}

/** When somebody can first connect to the agent of the next task: as soon as the backend could. */
async function untilAgentListens({ ecs }: Aws, signal: AbortSignal): Promise<number> {
  const before = new Set(ecs.tasks.map(({ state }) => state.id));
  for (;;) {
    const task = ecs.tasks.find(({ state, address }) => address !== undefined && !before.has(state.id));
    if (task?.address !== undefined && (await isConnected(task.address))) {
      return nowMs();
    }
    await delay(lookMs, undefined, { signal });
  }
}

function isConnected(address: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host: address, port: agentPort, timeout: connectLimitMs });
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  socket.once("timeout", () => resolve(false));
  return promise.finally(() => socket.destroy());
}

async function created(api: ApiClient, on: string, name: string): Promise<string> {
  const { Id } = await api.json<{ Id: string }>("POST", `/containers/create?name=${name}`, {
    Image: "namewatch",
    Cmd: ["sleep", "3600"],
    HostConfig: { NetworkMode: on },
  });
  return Id;
}

async function startOn(api: ApiClient, on: string, name: string): Promise<string> {
  const id = await created(api, on, name);
  await api.call("POST", `/containers/${id}/start`);
  return id;
}

async function imageWithWatcher(): Promise<Buffer> {
  const content = await readFile(await buildProgram("namewatch"));
  const image = await busyboxImage();
  const layers = [...image.layers, await tarOf([{ name: "bin/namewatch", mode: 0o755, content }])];
  return await dockerArchive([{ image: { ...image, layers }, tags: ["namewatch:latest"] }]);
}

/** `test/programs/namewatch` in one container. */
class Watcher {
  readonly #close: () => void;
  readonly #interrupted: AbortSignal;
  /** Each name's last change. */
  readonly #seen = new Map<string, { readonly known: boolean; readonly atMs: number }>();

  private constructor(close: () => void, interrupted: AbortSignal) {
    this.#close = close;
    this.#interrupted = interrupted;
  }

  static async start(api: ApiClient, container: string, interrupted: AbortSignal): Promise<Watcher> {
    const { Id } = await api.json<{ Id: string }>("POST", `/containers/${container}/exec`, {
      Cmd: ["namewatch", `${pauseMs}ms`, ...Object.values(names)],
      AttachStdout: true,
      AttachStderr: true,
      Tty: true,
    });
    const { socket, first } = await api.hijack(`/exec/${Id}/start`, { Tty: true });
    const watcher = new Watcher(() => socket.destroy(), interrupted);
    let text = "";
    const read = (chunk: Buffer): void => {
      const lines = (text + chunk.toString()).split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        watcher.#note(line.trim());
      }
    };
    read(first);
    socket.on("data", read);
    socket.resume();
    await untilTrue(() => watcher.#seen.size === Object.keys(names).length, interrupted);
    return watcher;
  }

  /** When the name began, or ceased, to resolve: in milliseconds of Unix time. */
  async seenMs(name: string, known: boolean): Promise<number> {
    await untilTrue(() => this.#seen.get(name)?.known === known, this.#interrupted);
    return this.#seen.get(name)?.atMs ?? Number.NaN;
  }

  close(): void {
    this.#close();
  }

  #note(line: string): void {
    const [at = "", name = "", address = ""] = line.split(" ");
    if (Number.isNaN(Number(at)) || address === "") {
      throw new Error(`a watcher of names says: ${line}`);
    }
    this.#seen.set(name, { known: address !== "-", atMs: Number(at) });
  }
}

function rowOf({ name, since }: Figures, others: number): string {
  const cells = origins.map((from) => {
    const each = since[from];
    return each.length === 0 ? "" : `${median(each).toFixed(0)} (${percentile(each, 0.9).toFixed(0)})`;
  });
  const late = percentile(since.cause.length > 0 ? since.cause : since.request, 0.9);
  return `| ${[name, others, ...cells, late > mostMs ? "missed" : ""].join(" | ")} |`;
}

function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
