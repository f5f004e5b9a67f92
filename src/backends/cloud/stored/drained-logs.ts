/**
 * Logs of containers that have ended, taken from their agents. `<state>/logs` has for each of a container's
 * tasks a log file as agents write it, `<container ID>.<number>.<agent>.<generation>.log`, numbered in the tasks' order,
 * with the generation of the last run that it has. It gets this name once it is whole. A file `<container ID>.cloud` says
 * that a log could not be taken whole, so that the cloud's own is shown.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";

import type { AgentTarget } from "../../../agent-client/address.ts";
import { errnoOf } from "../../../common/errors.ts";
import type { CloudLog } from "../contract/cloud-log.ts";
import { agentRecords } from "./agent-records.ts";
import { type LogRecord, type RawRecord, readRecords } from "./log-record.ts";

/** Records that are written together: a write takes longer than the bytes of many short lines. */
const batchBytes = 256 * 1024;

/** The name of a {@link Part}'s file. */
const partName = /^[^.]+\.(\d+)\.([0-9a-f]+)(?:\.(\d+))?\.log$/;

/** A run of a container, whose end its agent has told. */
export interface EndedRun {
  readonly agent: AgentTarget;
  readonly generation: bigint;
}

/** The log that one agent had. */
interface Part {
  readonly number: number;
  /** The agent, by a hash of its pin: 16 hexadecimal digits. */
  readonly source: string;
  /** The last run that it has; 0: taken by a version that did not say. */
  readonly generation: bigint;
  readonly file: string;
}

/** Settings of {@link DrainedLogs}. */
export interface DrainedLogsOptions {
  /** Most bytes of one container's log that are kept. */
  readonly logDrainMax: number;
  readonly cloud: Pick<CloudLog, "isKept">;
}

/** A log is larger than is kept. */
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

  constructor(directory: string, { logDrainMax, cloud }: DrainedLogsOptions) {
    this.#directory = directory;
    this.#maxBytes = logDrainMax;
    this.#cloud = cloud;
  }

  /** Makes the directory. */
  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
  }

  /**
   * Takes the whole log of a container's agent, once for each run. What an earlier task of the container wrote is kept
   * before it; what was taken from the same agent before is replaced. No clock has a part in that: those of tasks may
   * differ.
   *
   * @throws what the agent's call throws; then, and for a log that is too large, it is left to the cloud. Error: it is too
   *   large, and the cloud keeps none
   */
  async drain(containerId: string, { agent, generation }: EndedRun): Promise<void> {
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
    const file = this.#file(`${ofAgent}${generation}.log`);
    const temporary = `${file}.new`;
    try {
      let room = this.#maxBytes;
      for (const part of parts.filter((each) => each !== before)) {
        room -= (await stat(part.file)).size;
      }
      await this.#write(temporary, agentRecords(agent, containerId), room);
      await rename(temporary, file);
      await this.#removeFiles(ofAgent, file); // Those of earlier runs, and what crashes have left of them.
    } catch (error) {
      await rm(temporary, { force: true });
      await this.leaveToCloud(containerId);
      if (!(error instanceof TooLarge && this.#cloud.isKept)) {
        throw error;
      }
    }
  }

  /**
   * The log of a run can be taken no more, and what was taken of others would be shown as if it were all: the cloud's log is
   * shown from now on, where there is one, unless the run's lies here whole.
   *
   * @param run undefined: it never had an agent, or its log could not be taken
   */
  async leaveToCloud(containerId: string, run?: EndedRun): Promise<void> {
    if (!this.#cloud.isKept || (run !== undefined && (await this.#has(containerId, run)))) {
      return;
    }
    try {
      await writeFile(this.#marker(containerId), "", { mode: 0o600 });
    } finally {
      await this.#removeFiles(`${containerId}.`); // The disk may be full of them.
    }
  }

  /**
   * The log of a container as a source that can be read several times.
   *
   * @param except an agent whose part is left out
   * @returns undefined: nothing was taken, or not all
   */
  async find(
    containerId: string,
    except?: AgentTarget,
  ): Promise<(() => AsyncIterable<LogRecord>) | undefined> {
    const left = except === undefined ? "" : sourceOf(except);
    const parts = (await this.#isInCloud(containerId)) ? [] : await this.#parts(containerId);
    const wanted = parts.filter(({ source }) => source !== left);
    return wanted.length === 0 ? undefined : () => recordsOf(wanted);
  }

  /** Removes what there is of a container. */
  async remove(containerId: string): Promise<void> {
    await this.#removeFiles(`${containerId}.`);
    await rm(this.#marker(containerId), { force: true });
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

  #isInCloud(containerId: string): Promise<boolean> {
    return exists(this.#marker(containerId));
  }

  async #has(containerId: string, { agent, generation }: EndedRun): Promise<boolean> {
    const source = sourceOf(agent);
    const parts = await this.#parts(containerId);
    return parts.some((part) => part.source === source && part.generation === generation);
  }

  /** The logs taken from each agent, oldest first; the last one of an agent, where a crash has left two. */
  async #parts(containerId: string): Promise<readonly Part[]> {
    const names = (await readdir(this.#directory))
      .filter((name) => name.startsWith(`${containerId}.`))
      .sort();
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

  /** Removes parts, and what a crash has left of one that was being taken. */
  async #removeFiles(beginning: string, except?: string): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      const file = this.#file(name);
      if (name.startsWith(beginning) && /\.log(\.new)?$/.test(name) && file !== except) {
        await rm(file, { force: true });
      }
    }
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

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") {
      return false;
    }
    throw error;
  }
}
