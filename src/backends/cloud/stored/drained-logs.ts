/**
 * Logs of ended containers, copied from their agents. `<state>/logs` has a log file in the agents' format for each of a
 * container's tasks: `<container ID>.<number>.<agent>.<generation>.log`, numbered in the tasks' order, with the
 * generation of the last run in it. It gets this name once it is complete. A file `<container ID>.cloud` marks that a
 * log could not be copied completely, so that the cloud's own is shown; if there is none, a file
 * `<container ID>.<agent>.<generation>.lost` marks each run whose log is lost.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";

import type { AgentTarget } from "../../../agent-client/address.ts";
import { unlessMissing } from "../../../common/errors.ts";
import type { CloudLog } from "../contract/cloud-log.ts";
import { agentRecords } from "./agent-records.ts";
import { Pace } from "./pace.ts";
import { type LogRecord, type RawRecord, readRecords } from "./log-record.ts";

/** Bytes of records that are written together, as many small writes are slow. */
const batchBytes = 256 * 1024;

/** Time for a copy, in milliseconds: the agent may be the container's own. */
const drainLimitMs = 600_000;

/** The name of a {@link Part}'s file. */
const partName = /^[^.]+\.(\d+)\.([0-9a-f]+)(?:\.(\d+))?\.log$/;

/** The name of a lost run's mark. */
const lostName = /^[^.]+\.([0-9a-f]+)\.(\d+)\.lost$/;

/** A run of a container whose end its agent has reported. */
export interface EndedRun {
  readonly agent: AgentTarget;
  readonly generation: bigint;
}

/** The log of one agent. */
interface Part {
  readonly number: number;
  /** The agent, by a hash of its pin: 16 hexadecimal digits. */
  readonly source: string;
  /** The last run in it; 0 if copied by a version that did not record it. */
  readonly generation: bigint;
  readonly file: string;
}

/** The copied part of a container's log. */
export interface DrainedLog {
  /** Reads it; may be called again. */
  readonly records: () => AsyncIterable<LogRecord>;
  /** A time for each run of which nothing was copied, in Unix milliseconds: by then the run was over, and its log lost. */
  readonly lossesMs: readonly number[];
}

/** Settings of {@link DrainedLogs}. */
export interface DrainedLogsOptions {
  /** Maximum bytes to keep of one container's log. */
  readonly logDrainMax: number;
  readonly cloud: Pick<CloudLog, "isKept">;
}

/** Error for a log that is too large to keep. */
class TooLarge extends Error {
  constructor() {
    super("it is larger than log_drain_max");
  }
}

/** The drained logs of one backend. */
export class DrainedLogs {
  readonly #directory: string;
  readonly #maxBytes: number;
  readonly #cloud: Pick<CloudLog, "isKept">;
  /** Names of files by container, as listing the directory takes the longer the more containers there are. */
  readonly #names = new Map<string, Set<string>>();

  constructor(directory: string, { logDrainMax, cloud }: DrainedLogsOptions) {
    this.#directory = directory;
    this.#maxBytes = logDrainMax;
    this.#cloud = cloud;
  }

  /** Creates the directory, and finds what it has. */
  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#directory)) {
      this.#note(name.slice(0, name.indexOf(".")), name);
    }
  }

  /**
   * Copies the whole log of a container's agent, once for each run. Logs of earlier tasks are kept before it; an
   * earlier copy from the same agent is replaced. The order does not depend on clocks, as those of tasks may differ.
   *
   * @param ending ends the copy, as if it had not begun
   * @throws its reason; the errors of the agent's call; then, as for a log that is too large, the cloud's log is used.
   *   Error: too large, and the cloud keeps none
   */
  async drain(containerId: string, { agent, generation }: EndedRun, ending: AbortSignal): Promise<void> {
    if (await this.#isInCloud(containerId)) {
      return;
    }
    const parts = await this.#parts(containerId);
    const source = sourceOf(agent);
    const before = parts.find((part) => part.source === source);
    if (before?.generation === generation) {
      return;
    }
    const number = String(before?.number ?? (parts.at(-1)?.number ?? 0) + 1).padStart(6, "0");
    const ofAgent = `${containerId}.${number}.${source}.`;
    const name = `${ofAgent}${generation}.log`;
    const file = this.#file(name);
    const temporary = `${file}.new`;
    this.#note(containerId, `${name}.new`);
    try {
      let room = this.#maxBytes;
      for (const part of parts.filter((each) => each !== before)) {
        room -= (await stat(part.file)).size;
      }
      const limit = AbortSignal.any([AbortSignal.timeout(drainLimitMs), ending]);
      const records = new Pace(limit).each(agentRecords(agent, containerId, limit));
      await this.#write(temporary, records, room);
      await rename(temporary, file);
      this.#note(containerId, name);
      await this.#removeFiles(containerId, ofAgent, name); // Copies of earlier runs, and remains of crashes.
    } catch (error) {
      await rm(temporary, { force: true });
      ending.throwIfAborted();
      await this.leaveToCloud(containerId, { agent, generation });
      if (!(error instanceof TooLarge && this.#cloud.isKept)) {
        throw error;
      }
    }
  }

  /**
   * Records that a run's log can no longer be copied, unless it is already here. As the other copies would look complete
   * without it, the cloud's log is shown from now on; if there is none, the run counts as lost.
   *
   * @param run undefined if it never had an agent
   */
  async leaveToCloud(containerId: string, run: EndedRun | undefined): Promise<void> {
    if (run !== undefined && (await this.#has(containerId, run))) {
      return;
    }
    if (!this.#cloud.isKept) {
      if (run !== undefined) {
        const name = `${containerId}.${sourceOf(run.agent)}.${run.generation}.lost`;
        await writeFile(this.#file(name), "", { mode: 0o600 });
        this.#note(containerId, name);
      }
      return;
    }
    try {
      await writeFile(this.#marker(containerId), "", { mode: 0o600 });
    } finally {
      await this.#removeFiles(containerId); // The disk may be full of copies.
    }
  }

  /** Removes the marks of a run that turns out to have begun nothing, so that it has no log. */
  async forgetLoss(containerId: string, generation: bigint): Promise<void> {
    const names = this.#names.get(containerId);
    for (const name of names ?? []) {
      if (lostName.exec(name)?.[2] === `${generation}`) {
        await rm(this.#file(name), { force: true });
        names?.delete(name);
      }
    }
  }

  /**
   * The log of a container.
   *
   * @param except an agent whose part is excluded
   * @returns undefined if nothing was copied or lost, or the cloud's is to be shown
   */
  async find(containerId: string, except?: AgentTarget): Promise<DrainedLog | undefined> {
    if (await this.#isInCloud(containerId)) {
      return undefined;
    }
    const left = except === undefined ? "" : sourceOf(except);
    const all = await this.#parts(containerId);
    const parts = all.filter(({ source }) => source !== left);
    const lossesMs = await this.#losses(containerId, all, left);
    return parts.length + lossesMs.length === 0 ? undefined : { records: () => recordsOf(parts), lossesMs };
  }

  /** Removes everything of a container. */
  async remove(containerId: string): Promise<void> {
    await this.#removeFiles(containerId);
    await rm(this.#marker(containerId), { force: true });
    this.#names.delete(containerId);
  }

  async #write(file: string, records: AsyncIterable<RawRecord>, room: number): Promise<void> {
    await using handle = await open(file, "w", 0o600);
    let bytes = 0;
    let batch: Uint8Array[] = [];
    let batched = 0;
    for await (const record of records) {
      bytes += record.bytes.length;
      if (bytes > room) {
        throw new TooLarge();
      }
      batched += record.bytes.length;
      batch.push(record.bytes);
      if (batched >= batchBytes) {
        await handle.appendFile(Buffer.concat(batch));
        [batch, batched] = [[], 0];
      }
    }
    await handle.appendFile(Buffer.concat(batch));
    await handle.sync();
  }

  async #isInCloud(containerId: string): Promise<boolean> {
    return (await stat(this.#marker(containerId)).catch(unlessMissing)) !== undefined;
  }

  async #has(containerId: string, { agent, generation }: EndedRun): Promise<boolean> {
    const source = sourceOf(agent);
    const parts = await this.#parts(containerId);
    return parts.some((part) => part.source === source && part.generation === generation);
  }

  /** The logs copied from each agent, oldest first; an agent's last one, if a crash has left two. */
  async #parts(containerId: string): Promise<readonly Part[]> {
    const names = [...(this.#names.get(containerId) ?? [])].sort();
    const parts = new Map<string, Part>();
    for (const name of names) {
      const [, number = "", source = "", generation = "0"] = partName.exec(name) ?? [];
      const part = { number: Number(number), source, generation: BigInt(generation), file: this.#file(name) };
      if (number !== "" && part.generation >= (parts.get(source)?.generation ?? 0n)) {
        parts.set(source, part);
      }
    }
    return [...parts.values()];
  }

  /** The losses of runs of agents other than one: what is copied later from an agent includes its earlier runs. */
  async #losses(containerId: string, parts: readonly Part[], except: string): Promise<readonly number[]> {
    const isLost = (name: string): boolean => {
      const [, source = "", generation = "0"] = lostName.exec(name) ?? [];
      const isCopied = parts.some((part) => part.source === source && part.generation >= BigInt(generation));
      return source !== "" && source !== except && !isCopied;
    };
    const lost = [...(this.#names.get(containerId) ?? [])].filter(isLost);
    const marks = await Promise.all(lost.map((name) => stat(this.#file(name)).catch(unlessMissing)));
    return marks.flatMap((mark) => mark?.mtimeMs ?? []);
  }

  /** Removes parts, including incomplete ones left by a crash, and marks of lost runs. */
  async #removeFiles(containerId: string, beginning = "", except?: string): Promise<void> {
    const names = this.#names.get(containerId);
    for (const name of names ?? []) {
      if (name.startsWith(beginning) && /\.(log(\.new)?|lost)$/.test(name) && name !== except) {
        await rm(this.#file(name), { force: true });
        names?.delete(name);
      }
    }
  }

  #note(containerId: string, name: string): void {
    const names = this.#names.get(containerId) ?? new Set();
    this.#names.set(containerId, names.add(name));
  }

  #file(name: string): string {
    return path.join(this.#directory, name);
  }

  #marker(containerId: string): string {
    return this.#file(`${containerId}.cloud`);
  }
}

async function* recordsOf(parts: readonly Part[]): AsyncGenerator<LogRecord> {
  for (const { file } of parts) {
    yield* readRecords(createReadStream(file));
  }
}

/** Every agent has a key of its own. */
function sourceOf({ address }: AgentTarget): string {
  const identity =
    address.kind === "unix" || address.kind === "relay" ? JSON.stringify(address) : address.pin;
  return createHash("sha256").update(identity).digest("hex").slice(0, 16);
}
