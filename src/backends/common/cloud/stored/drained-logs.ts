/**
 * Logs of containers that have ended, taken from their agents: `<state>/logs/<container ID>.log`, a log file as agents
 * write it. Where a log could not be taken whole, `<container ID>.cloud` says that the cloud's own is shown instead.
 */
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";

import { createAgentClient } from "../../../../agent-client/client.ts";
import type { AgentTarget } from "../../../../agent-client/address.ts";
import { errnoOf, systemError } from "../../../../common/errors.ts";
import type { LogsResponse } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { type LogRecord, type RawRecord, readRecords } from "./log-record.ts";

/** An agent that sends nothing for so long is away; it sends heartbeats. */
const silenceMs = 30_000;

/** Records that are written together: a write takes longer than the bytes of many short lines. */
const batchBytes = 256 * 1024;

/** A log is larger than is kept. */
class TooLarge extends Error {}

/** The drained logs of one backend. */
export class DrainedLogs {
  readonly #directory: string;
  readonly #maxBytes: number;

  /** @param maxBytes of one container's log */
  constructor(directory: string, maxBytes: number) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
  }

  /** Makes the directory. */
  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
  }

  /**
   * Takes the whole log of a container's agent. What an earlier task of the container wrote is kept before it; what was
   * taken from the same agent before is replaced.
   *
   * @throws what the agent's call throws; then, and for a log that is too large, the cloud's log is shown from now on
   */
  async drain(containerId: string, agent: AgentTarget): Promise<void> {
    if (await this.#isInCloud(containerId)) {
      return;
    }
    const file = this.#file(containerId);
    const temporary = `${file}.new`;
    try {
      await this.#write(temporary, await this.#merged(containerId, agentRecords(agent, containerId)));
      await rename(temporary, file);
    } catch (error) {
      await rm(temporary, { force: true });
      await writeFile(this.#marker(containerId), "", { mode: 0o600 });
      await rm(file, { force: true });
      if (!(error instanceof TooLarge)) {
        throw error;
      }
    }
  }

  /** The log of a container as a source that can be read several times; undefined: it was not taken. */
  async find(containerId: string): Promise<(() => AsyncIterable<LogRecord>) | undefined> {
    if (await this.#isInCloud(containerId)) {
      return undefined;
    }
    const file = this.#file(containerId);
    return (await exists(file)) ? () => readRecords(createReadStream(file)) : undefined;
  }

  /** Removes what there is of a container. */
  async remove(containerId: string): Promise<void> {
    await rm(this.#file(containerId), { force: true });
    await rm(this.#marker(containerId), { force: true });
  }

  /** What was there of earlier tasks, then what the agent has: its log begins where theirs ended. */
  async #merged(containerId: string, agent: AsyncGenerator<RawRecord>): Promise<AsyncGenerator<RawRecord>> {
    const known = await this.find(containerId);
    const first = await agent.next();
    async function* all(): AsyncGenerator<RawRecord> {
      for await (const record of known?.() ?? []) {
        if (first.done === true || record.timeNs < first.value.timeNs) {
          yield record as RawRecord;
        }
      }
      if (first.done !== true) {
        yield first.value;
        yield* agent;
      }
    }
    return all();
  }

  async #write(file: string, records: AsyncIterable<RawRecord>): Promise<void> {
    await using handle = await open(file, "w", 0o600);
    let bytes = 0;
    let batch: Uint8Array[] = [];
    let batched = 0;
    for await (const record of records) {
      bytes += record.bytes.length;
      if (bytes > this.#maxBytes) {
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

  #file(containerId: string): string {
    return path.join(this.#directory, `${containerId}.log`);
  }

  #marker(containerId: string): string {
    return path.join(this.#directory, `${containerId}.cloud`);
  }
}

/** The records that an agent has. @throws system: its stream was cut, or is no log */
async function* agentRecords(agent: AgentTarget, containerId: string): AsyncGenerator<RawRecord> {
  const ended = new AbortController();
  const { client, close } = createAgentClient(agent.address, {
    containerId,
    ...(agent.credentials === undefined ? {} : { credentials: agent.credentials }),
  });
  try {
    const answer = client.logs({ records: true }, { signal: ended.signal });
    yield* readRecords(chunksOf(answer, ended));
  } finally {
    close();
  }
}

async function* chunksOf(
  answer: AsyncIterable<LogsResponse>,
  ended: AbortController,
): AsyncGenerator<Uint8Array> {
  const silent = (): void => ended.abort(systemError("the agent says nothing any more"));
  let timer = setTimeout(silent, silenceMs);
  try {
    for await (const { message } of answer) {
      clearTimeout(timer);
      timer = setTimeout(silent, silenceMs);
      if (message.case === "end") {
        return;
      }
      if (message.case === "chunk") {
        yield message.value.data;
      }
    }
  } finally {
    clearTimeout(timer);
  }
  throw systemError("the agent's log ended before its last message");
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
